package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

// kinds are the file systems that must behave alike.
func kinds(t *testing.T, test func(t *testing.T, fsys vfs.FS, root string)) {
	t.Run("kind=os", func(t *testing.T) { test(t, vfs.OS(), t.TempDir()) })
	t.Run("kind=memfs", func(t *testing.T) { test(t, memfs.New(), "/") })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	_, err = f.Write([]byte(content))
	must(t, err)
	must(t, f.Close())
}

func holds(t *testing.T, fsys vfs.FS, name, want string) {
	t.Helper()
	got, err := vfs.ReadFile(fsys, name)
	must(t, err)
	if string(got) != want {
		t.Fatalf("%s holds %.60q (%d bytes), want %.60q (%d bytes)", name, got, len(got), want, len(want))
	}
}

func TestWritevWritesMoreBuffersThanOneCallTakes(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		name := filepath.Join(root, "many")
		f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		must(t, err)
		defer f.Close()
		var p [][]byte
		var want []byte
		for i := range 5000 {
			b := bytes.Repeat([]byte{byte('a' + i%26)}, i%7)
			p = append(p, b)
			want = append(want, b...)
		}
		before := fmt.Sprint(p)
		for range 2 {
			n, err := f.Writev(p)
			must(t, err)
			if n != int64(len(want)) {
				t.Fatalf("Writev = %d, want %d", n, len(want))
			}
		}
		if fmt.Sprint(p) != before {
			t.Fatal("Writev changed the caller's buffers")
		}
		for _, small := range [][][]byte{nil, {}, {nil}, {nil, {}}, {[]byte("x")}, {nil, []byte("y"), nil}} {
			_, err := f.Writev(small)
			must(t, err)
		}
		must(t, f.Datasync())
		holds(t, fsys, name, string(want)+string(want)+"xy")
	})
}

func TestWritevOfAFileOpenedForReadingFails(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		name := filepath.Join(root, "read-only")
		create(t, fsys, name, "content")
		f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
		must(t, err)
		defer f.Close()
		for _, p := range [][][]byte{{[]byte("a")}, {[]byte("a"), []byte("b")}} {
			if n, err := f.Writev(p); err == nil || n != 0 {
				t.Fatalf("Writev = %d, %v", n, err)
			}
		}
	})
}

func TestCallsOnAClosedFileFail(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		f, err := fsys.OpenFile(filepath.Join(root, "closed"), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, f.Close())
		_, e1 := f.Writev([][]byte{[]byte("a"), []byte("b")})
		_, e2 := f.Write([]byte("a"))
		for i, err := range []error{e1, e2, f.Datasync(), f.Sync(), f.TryLock(), f.Truncate(0), f.Close()} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("call %d on a closed file: %v", i, err)
			}
		}
	})
}

func TestRenameNoReplaceKeepsBothFiles(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		a, b, c := filepath.Join(root, "a"), filepath.Join(root, "b"), filepath.Join(root, "c")
		create(t, fsys, a, "one")
		create(t, fsys, b, "two")
		if err := fsys.RenameNoReplace(a, b); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("onto a file: %v", err)
		}
		holds(t, fsys, a, "one")
		holds(t, fsys, b, "two")
		must(t, fsys.RenameNoReplace(a, c))
		holds(t, fsys, c, "one")
		if err := fsys.RenameNoReplace(a, filepath.Join(root, "d")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("of a missing file: %v", err)
		}
		must(t, fsys.Rename(c, b))
		holds(t, fsys, b, "one")
	})
}

func TestOneOpenFileHasTheLock(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		name := filepath.Join(root, "lock")
		open := func() vfs.File {
			f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
			must(t, err)
			return f
		}
		a, b := open(), open()
		must(t, a.TryLock())
		must(t, a.TryLock())
		if err := b.TryLock(); !errors.Is(err, vfs.ErrLocked) {
			t.Fatalf("second lock: %v", err)
		}
		must(t, a.Close())
		must(t, b.TryLock())
		must(t, b.Close())
	})
}

func TestReadAtAndTruncate(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		f, err := fsys.OpenFile(filepath.Join(root, "f"), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		defer f.Close()
		_, err = f.Write([]byte("0123456789"))
		must(t, err)
		p := make([]byte, 4)
		if n, err := f.ReadAt(p, 8); n != 2 || !errors.Is(err, io.EOF) {
			t.Fatalf("ReadAt at the end = %d, %v", n, err)
		}
		must(t, f.Truncate(3))
		must(t, f.Truncate(6))
		_, err = f.WriteAt([]byte("x"), 7)
		must(t, err)
		holds(t, fsys, f.Name(), "012\x00\x00\x00\x00x")
	})
}

func TestReplaceFileLeavesOnlyTheFile(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		dir := filepath.Join(root, "a", "b")
		must(t, vfs.MkdirAllSync(fsys, dir, 0o700))
		must(t, vfs.MkdirAllSync(fsys, dir, 0o700))
		name := filepath.Join(dir, "state")
		must(t, vfs.ReplaceFile(fsys, name, []byte("one"), 0o600))
		must(t, vfs.ReplaceFile(fsys, name, []byte("two"), 0o600))
		holds(t, fsys, name, "two")
		list, err := fsys.ReadDir(dir)
		must(t, err)
		if len(list) != 1 {
			t.Fatalf("%v is in the folder", list)
		}
		if err := vfs.MkdirAllSync(fsys, name, 0o700); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("a folder onto a file: %v", err)
		}
	})
}

func TestSameFileTellsAReplacedFile(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
		create(t, fsys, a, "one")
		f, err := fsys.OpenFile(a, os.O_RDONLY, 0)
		must(t, err)
		defer f.Close()
		open, err := f.Stat()
		must(t, err)
		named, err := fsys.Stat(a)
		must(t, err)
		if !fsys.SameFile(open, named) {
			t.Fatal("one file is two")
		}
		create(t, fsys, b, "one")
		must(t, fsys.Rename(b, a))
		named, err = fsys.Stat(a)
		must(t, err)
		if fsys.SameFile(open, named) {
			t.Fatal("two files are one")
		}
	})
}

func TestFreeKnowsTheFileSystem(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		free, total, err := fsys.Free(root)
		must(t, err)
		if free == 0 || total < free {
			t.Fatalf("free %d of %d", free, total)
		}
		if _, _, err := fsys.Free(filepath.Join(root, "missing")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("of a missing folder: %v", err)
		}
	})
}

func TestSymbolicLinksAreFollowedAndReplacedAsLinks(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		at := func(name string) string { return filepath.Join(root, name) }
		must(t, fsys.Mkdir(at("d"), 0o700))
		create(t, fsys, at("d/one"), "first")
		create(t, fsys, at("d/two"), "second")
		must(t, fsys.Symlink("one", at("d/current")))
		holds(t, fsys, at("d/current"), "first")
		if err := fsys.Symlink("two", at("d/current")); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("onto a link: %v", err)
		}
		must(t, fsys.Symlink("two", at("d/new")))
		must(t, fsys.Rename(at("d/new"), at("d/current")))
		holds(t, fsys, at("d/current"), "second")
		if to, err := fsys.Readlink(at("d/current")); err != nil || to != "two" {
			t.Fatalf("the link leads to %q, %v", to, err)
		}
		if _, err := fsys.Readlink(at("d/two")); !errors.Is(err, syscall.EINVAL) {
			t.Fatalf("a file as a link: %v", err)
		}
		if _, err := fsys.Readlink(at("d/none")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("a missing link: %v", err)
		}
		if _, err := fsys.OpenFile(at("d/current"), os.O_RDONLY|syscall.O_NOFOLLOW, 0); !errors.Is(err, syscall.ELOOP) {
			t.Fatalf("opened without following: %v", err)
		}
		list, err := fsys.ReadDir(at("d"))
		must(t, err)
		if len(list) != 3 || list[0].Name() != "current" || list[0].Type() != fs.ModeSymlink || list[1].Type() != 0 {
			t.Fatalf("listed: %v", list)
		}
		must(t, fsys.Symlink("d", at("folder")))
		holds(t, fsys, at("folder/current"), "second")
		must(t, fsys.Remove(at("d/current")))
		holds(t, fsys, at("d/two"), "second")
		must(t, fsys.Symlink("b", at("a")))
		must(t, fsys.Symlink("a", at("b")))
		if _, err := fsys.Stat(at("a")); !errors.Is(err, syscall.ELOOP) {
			t.Fatalf("links in a circle: %v", err)
		}
	})
}
