package faultfs

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

func create(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEachKindOfCallCanFail(t *testing.T) {
	boom := errors.New("boom")
	inner := memfs.New()
	if err := inner.Mkdir("/d", 0o700); err != nil {
		t.Fatal(err)
	}
	fsys := New(inner, nil)
	f := create(t, fsys, "/d/f")
	calls := map[Kind]func() error{
		Open:     func() error { _, err := fsys.OpenFile("/d/f", os.O_RDONLY, 0); return err },
		Create:   func() error { _, err := fsys.OpenFile("/d/g", os.O_CREATE|os.O_RDWR, 0o600); return err },
		Read:     func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		Write:    func() error { _, err := f.Writev([][]byte{{1}}); return err },
		Sync:     f.Datasync,
		Truncate: func() error { return f.Truncate(0) },
		Lock:     f.TryLock,
		Rename:   func() error { return fsys.RenameNoReplace("/d/f", "/d/h") },
		Remove:   func() error { return fsys.Remove("/d/f") },
		Symlink:  func() error { return fsys.Symlink("f", "/d/l") },
		Readlink: func() error { _, err := fsys.Readlink("/d/l"); return err },
		Mkdir:    func() error { return fsys.Mkdir("/e", 0o700) },
		ReadDir:  func() error { _, err := fsys.ReadDir("/d"); return err },
		Stat:     func() error { _, err := fsys.Stat("/d/f"); return err },
		SyncDir:  func() error { return fsys.SyncDir("/d") },
		Free:     func() error { _, _, err := fsys.Free("/"); return err },
	}
	for kind, call := range calls {
		fsys.Set(On(kind, "", boom))
		if err := call(); !errors.Is(err, boom) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	fsys.Set(On(Close, "", boom))
	if err := f.Close(); !errors.Is(err, boom) {
		t.Errorf("close: %v", err)
	}
	if got := inner.Files(); len(got) != 1 || got[0] != "/d/f" {
		t.Errorf("calls that failed left %q", got)
	}
}

func TestNthFailureIsTheOnlyOne(t *testing.T) {
	boom := errors.New("boom")
	fsys := New(memfs.New(), Nth(2, On(Sync, "a*", boom)))
	a, b := create(t, fsys, "/a"), create(t, fsys, "/b")
	var got []bool
	for range 4 {
		if err := b.Sync(); err != nil {
			t.Fatal(err)
		}
		got = append(got, a.Sync() != nil)
	}
	if got[0] || !got[1] || got[2] || got[3] {
		t.Fatalf("failed: %v, want the second", got)
	}
}

func TestNoSpaceCutsTheWriteThatCrossesTheLimit(t *testing.T) {
	fsys := New(memfs.New(), NoSpace(5))
	f := create(t, fsys, "/f")
	if n, err := f.Write([]byte("012")); n != 3 || err != nil {
		t.Fatalf("below the limit: %d, %v", n, err)
	}
	n, err := f.Writev([][]byte{[]byte("3"), []byte("456")})
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("across it: %d, %v", n, err)
	}
	if n, err := f.Write([]byte("7")); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("behind it: %d, %v", n, err)
	}
	if got, _ := vfs.ReadFile(fsys, "/f"); string(got) != "01234" {
		t.Fatalf("written: %q", got)
	}
}

func TestStalledCallGoesOnWhenItIsReleased(t *testing.T) {
	entered, release, done := make(chan Op), make(chan struct{}), make(chan error)
	fsys := New(memfs.New(), Stall(Sync, "", entered, release))
	f := create(t, fsys, "/f")
	go func() { done <- f.Datasync() }()
	if op := <-entered; op.Kind != Sync || op.Path != "/f" {
		t.Fatalf("stalled: %+v", op)
	}
	select {
	case err := <-done:
		t.Fatalf("the call ended with %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
