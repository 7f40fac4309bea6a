package statedir

import (
	"path/filepath"
	"slices"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
)

// FuzzState starts on any bytes as the state file: a start is refused and the
// file is as it was, or it has an identity that names of files can hold, the
// next epoch, and knows every earlier start. The next start can follow.
func FuzzState(f *testing.F) {
	for _, s := range []string{
		"", "null", "{}", `{"version":2}`, `{"version":1,"epoch":4294967295}`,
		`{"version":1,"id":"web-7-0a1b","epoch":3,"starts":[{"aggregator":"web-7-0a1b","epoch":3,"start":"7f3c91d2","since":1}],"drained":["n1"]}`,
		`{"version":1,"id":"../x","epoch":1,"starts":[]}`,
		`{"version":1,"epoch":1,"starts":[{"aggregator":"a","epoch":1,"start":"7F3C91D2","since":1}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		const dir = "/s"
		file := filepath.Join(dir, StateFile)
		disk := memfs.New()
		if err := disk.MkdirAll(dir, dirPerm); err != nil {
			t.Fatal(err)
		}
		if err := vfs.ReplaceFile(disk, file, content, filePerm); err != nil {
			t.Fatal(err)
		}
		before, lookErr := Peek(disk, dir)
		d, err := Open(disk, dir, options())
		if err != nil {
			if got, err := vfs.ReadFile(disk, file); err != nil || string(got) != string(content) {
				t.Fatalf("refused and changed to %q, %v", got, err)
			}
			return
		}
		if lookErr != nil {
			t.Fatalf("taken, and whoever looks is told %v", lookErr)
		}
		for _, drained := range before.Drained {
			if !d.Drained(drained) {
				t.Fatalf("%q is drained no more", drained)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		id := d.Identity()
		if back, err := catalog.ParseIdentity(id.String()); err != nil || back != id || id.Epoch != before.Epoch+1 {
			t.Fatalf("identity %v after epoch %d: %v, %v", id, before.Epoch, back, err)
		}
		after, err := Peek(disk, dir)
		if err != nil {
			t.Fatal(err)
		}
		kept := after.Starts[:len(after.Starts)-1]
		if n := len(before.Starts) - DefaultMaxStarts; n > 0 {
			before.Starts = before.Starts[n:]
		}
		if !slices.Equal(kept, before.Starts) || after.Starts[len(kept)].Identity != id || after.Epoch != id.Epoch {
			t.Fatalf("%+v became %+v", before, after)
		}
		if after.Epoch == 1<<32-1 {
			return
		}
		again, err := Open(disk, dir, options())
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if again.Identity().Epoch != id.Epoch+1 || again.Identity().Aggregator != id.Aggregator {
			t.Fatalf("start %v, then %v", id, again.Identity())
		}
	})
}
