package journal

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
)

// versions are those of the journal files, in order.
func versions(t *testing.T, fsys *memfs.FS) (list []uint32) {
	t.Helper()
	entries, err := fsys.ReadDir("journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		f, err := fsys.OpenFile(filepath.Join("journal", e.Name()), os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, record.FileHeaderSize)
		if _, err = io.ReadFull(f, b); err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := record.ParseFileHeader(b, fileMagic)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h.Flags)
	}
	return list
}

func TestOnlyAJournalWithATargetNeedsTheNewerVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		j, _ := open(t, fsys, options())
		w := begin(t, j, 1)
		w.append(100, 1)
		if got := versions(t, fsys); !reflect.DeepEqual(got, []uint32{bodyVersion}) {
			t.Errorf("versions %v before", got)
		}
		b := beginOf(2)
		b.Target = &catalog.Target{Folder: "logs/web", Stem: "web-2026-11-22", First: 10, Link: "web_current"}
		held := newBuilder()
		e, err := j.Begin(t.Context(), b, held)
		if err != nil {
			t.Fatal(err)
		}
		second := &writer{t: t, e: e, held: held, next: 1}
		second.append(50, 1)
		w.append(10, 1)
		synctest.Wait()
		if got := versions(t, fsys); !reflect.DeepEqual(got, []uint32{targetVersion}) {
			t.Errorf("versions %v", got)
		}
		check := func(got []FileState) {
			t.Helper()
			if len(got) != 2 || got[0].Begin != beginOf(1) || !reflect.DeepEqual(got[1].Begin, b) || spans(got[1].Lines) != "[0,50)#1-1" {
				t.Errorf("the journal has %+v", got)
			}
		}
		check(again(t, fsys))
		if err := j.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The next start has them in a file of its own.
		next, states := open(t, fsys, options())
		check(states)
		synctest.Wait()
		check(again(t, fsys))
		if got := versions(t, fsys); got[len(got)-1] != targetVersion {
			t.Errorf("versions %v at the next start", got)
		}
		_ = next
		// A Begin behind the end neither waits nor spins.
		if _, err := j.Begin(context.Background(), b, held); err == nil {
			t.Error("a closed journal takes a file")
		}
	})
}
