package memfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, m *FS, name string) vfs.File {
	t.Helper()
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	return f
}

func content(t *testing.T, m *FS, name string) string {
	t.Helper()
	b, err := vfs.ReadFile(m, name)
	if errors.Is(err, os.ErrNotExist) {
		return "missing"
	}
	must(t, err)
	return string(b)
}

func TestCrashForgetsWhatWasNotSynced(t *testing.T) {
	m := New()
	must(t, m.Mkdir("/d", 0o700))
	f := open(t, m, "/d/f")
	_, err := f.Write([]byte("synced"))
	must(t, err)
	if got := content(t, m.Crash(nil), "/d/f"); got != "missing" {
		t.Fatalf("after nothing: %q", got)
	}
	must(t, f.Sync())
	if got := m.Crash(nil).Files(); len(got) != 0 {
		t.Fatalf("after the file's sync alone: %q", got)
	}
	must(t, m.SyncDir("/d"))
	must(t, m.SyncDir("/"))
	_, err = f.Write([]byte(" and not"))
	must(t, err)
	if got := content(t, m.Crash(nil), "/d/f"); got != "synced" {
		t.Fatalf("after all syncs: %q", got)
	}
	if got := content(t, m, "/d/f"); got != "synced and not" {
		t.Fatalf("the file system that crashed holds %q", got)
	}
}

func TestCrashUndoesARenameWhoseFolderWasNotSynced(t *testing.T) {
	m := New()
	must(t, vfs.ReplaceFile(m, "/state", []byte("old"), 0o600))
	f := open(t, m, "/new")
	_, err := f.Write([]byte("new"))
	must(t, err)
	must(t, f.Sync())
	must(t, m.Rename("/new", "/state"))
	if got := content(t, m.Crash(nil), "/state"); got != "old" {
		t.Fatalf("without the folder's sync: %q", got)
	}
	must(t, m.SyncDir("/"))
	if got := content(t, m.Crash(nil), "/state"); got != "new" {
		t.Fatalf("with it: %q", got)
	}
	must(t, m.Remove("/state"))
	if got := content(t, m.Crash(nil), "/state"); got != "new" {
		t.Fatalf("after a removal that was not synced: %q", got)
	}
}

func TestCrashTearsUnsyncedWritesAtBlocks(t *testing.T) {
	m := New()
	f := open(t, m, "/f")
	must(t, m.SyncDir("/"))
	_, err := f.Write(bytes.Repeat([]byte{'a'}, 4*block))
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt(bytes.Repeat([]byte{'b'}, 6*block), 0)
	must(t, err)
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := content(t, m.Crash(rand.New(rand.NewPCG(seed, 1))), "/f")
		if len(got) < 4*block || len(got) > 6*block {
			t.Fatalf("%d bytes are left", len(got))
		}
		for at := 0; at+block <= len(got); at += block {
			b := got[at : at+block]
			if strings.Count(b, b[:1]) != block {
				t.Fatalf("the block at %d is torn", at)
			}
			seen[b[:1]] = true
		}
	}
	if !seen["a"] || !seen["b"] || !seen["\x00"] {
		t.Fatalf("blocks seen: %v, want old, new and zero ones", seen)
	}
}

func TestFailedSyncLosesWhatWasWritten(t *testing.T) {
	m := New()
	f := open(t, m, "/f")
	must(t, m.SyncDir("/"))
	_, err := f.Write([]byte("lost"))
	must(t, err)
	m.FailSync(func(string) error { return syscall.EIO })
	if err := f.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	m.FailSync(nil)
	must(t, f.Datasync())
	if got := content(t, m, "/f"); got != "lost" {
		t.Fatalf("before the crash it reads %q", got)
	}
	if got := content(t, m.Crash(nil), "/f"); got != "" {
		t.Fatalf("a later sync saved %q", got)
	}
}

func TestTruncatedBytesDoNotComeBack(t *testing.T) {
	m := New()
	f := open(t, m, "/f")
	must(t, m.SyncDir("/"))
	_, err := f.Write([]byte("0123456789"))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Truncate(2))
	must(t, f.Truncate(6))
	must(t, f.Sync())
	if got := content(t, m.Crash(nil), "/f"); got != "01\x00\x00\x00\x00" {
		t.Fatalf("left: %q", got)
	}
}

func TestCapacityMakesWritesShort(t *testing.T) {
	m := New()
	m.SetCapacity(10)
	f := open(t, m, "/f")
	n, err := f.Writev([][]byte{[]byte("01234"), []byte("56789ab")})
	if n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Writev = %d, %v", n, err)
	}
	free, total, err := m.Free("/")
	must(t, err)
	if free != 0 || total != 10 {
		t.Fatalf("free %d of %d", free, total)
	}
	must(t, f.Truncate(4))
	if free, _, _ := m.Free("/"); free != 6 {
		t.Fatalf("free %d after a cut", free)
	}
	must(t, m.Remove("/f"))
	if free, _, _ := m.Free("/"); free != 10 {
		t.Fatalf("free %d after a removal", free)
	}
}

func TestOnSyncHearsOfEverySyncPoint(t *testing.T) {
	m := New()
	points := 0
	m.OnSync(func() { points++; m.Crash(nil) })
	must(t, vfs.ReplaceFile(m, "/state", []byte("x"), 0o600))
	if points != 2 {
		t.Fatalf("%d sync points, want the file and its folder", points)
	}
}
