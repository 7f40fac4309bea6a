package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

// foreign is a file system on which some folders are another user's.
type foreign struct {
	vfs.FS
	folder string
}

func (f foreign) SyncDir(name string) error {
	if name == f.folder {
		return syscall.EACCES
	}
	return f.FS.SyncDir(name)
}

func (f foreign) MayMake(folder string) bool { return folder != f.folder }

// TestFoldersOfACallThatFailedAreDurableAfterTheNext lets each sync of a folder
// fail in turn, and in the middle of a making: what a call returns without an
// error is there after a power cut.
func TestFoldersOfACallThatFailedAreDurableAfterTheNext(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.EACCES} {
		for fails := 1; ; fails++ {
			disk := memfs.New()
			fsys := faultfs.New(disk, faultfs.Nth(fails, faultfs.On(faultfs.SyncDir, "", cause)))
			err := vfs.MkdirAllSync(fsys, "/a/b/c", 0o700)
			if err == nil {
				if fails <= 3 {
					t.Fatalf("only %d syncs", fails-1)
				}
				break
			}
			if !errors.Is(err, cause) {
				t.Fatalf("sync %d: %v", fails, err)
			}
			fsys.Set(nil)
			must(t, vfs.MkdirAllSync(fsys, "/a/b/c", 0o700))
			if _, err := disk.Crash(nil).Stat("/a/b/c"); err != nil {
				t.Errorf("sync %d failed with %v, then a power cut: %v", fails, cause, err)
			}
		}
	}
}

// TestAFolderIsNotDurableWhereItsSyncNeverSucceeds has a parent that may be
// written to but not read: no call says that what it made stays.
func TestAFolderIsNotDurableWhereItsSyncNeverSucceeds(t *testing.T) {
	disk := memfs.New()
	must(t, disk.Mkdir("/drop", 0o700))
	fsys := faultfs.New(disk, faultfs.On(faultfs.SyncDir, "drop", syscall.EACCES))
	for call := range 3 {
		if err := vfs.MkdirAllSync(fsys, "/drop/ours", 0o700); !errors.Is(err, syscall.EACCES) {
			t.Fatalf("call %d: %v", call, err)
		}
	}
}

func TestAFolderThatSomebodyElseMadeNeedsNoSync(t *testing.T) {
	disk := memfs.New()
	must(t, disk.MkdirAll("/home/scribe", 0o700))
	must(t, vfs.MkdirAllSync(foreign{disk, "/home"}, "/home/scribe", 0o700))
	must(t, vfs.MkdirAllSync(foreign{disk, "/home"}, "/home/scribe/web", 0o700))
	if err := vfs.MkdirAllSync(foreign{disk, "/home/scribe"}, "/home/scribe/api", 0o700); !errors.Is(err, syscall.EACCES) {
		t.Errorf("made without a sync: %v", err)
	}
	noSync := faultfs.New(disk, faultfs.On(faultfs.SyncDir, "home", syscall.EINVAL))
	must(t, vfs.MkdirAllSync(noSync, "/home/scribe", 0o700))
	if err := vfs.MkdirAllSync(noSync, "/home/other", 0o700); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("made without a sync: %v", err)
	}
}

func TestWhetherEntriesMayBeMade(t *testing.T) {
	kinds(t, func(t *testing.T, fsys vfs.FS, root string) {
		if !fsys.MayMake(root) {
			t.Error("not in a folder of one's own")
		}
	})
	if os.Geteuid() == 0 {
		return // who may make entries anywhere
	}
	closed := filepath.Join(t.TempDir(), "closed")
	must(t, os.Mkdir(closed, 0o500))
	if vfs.OS().MayMake(closed) {
		t.Error("in a folder without the permission")
	}
	// Whoever may make an entry but not read the folder gets the error.
	must(t, os.Chmod(closed, 0o300))
	if err := vfs.MkdirAllSync(vfs.OS(), filepath.Join(closed, "d"), 0o700); !errors.Is(err, syscall.EACCES) || !vfs.OS().MayMake(closed) {
		t.Errorf("made without a sync: %v", err)
	}
	must(t, os.Chmod(closed, 0o700))
}
