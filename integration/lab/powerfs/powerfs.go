// Package powerfs is a file system in memory, mounted by FUSE, for the folder
// that a server keeps its state in. It knows what a disk would still have after
// a power cut: bytes of a file only if they were synced, entries of a folder
// only if the folder was. Cut takes the power away and Restore mounts what is
// left. It also makes syncs fail and the whole disk stall.
//
// It takes the part of buffer/vfs/memfs for programs that run as a process of
// their own, and follows the same rules.
package powerfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// kind names the mounts in /proc/mounts: fuse.powerfs.
const kind = "powerfs"

// FS is a mounted file system. One goroutine at a time calls its methods.
type FS struct {
	dir    string
	disk   *disk
	server *fuse.Server
}

// Possible says what is missing on this machine for a mount; nil: nothing.
func Possible() error {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no FUSE for this account, kernel or container: %w", err)
	}
	device.Close()
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return errors.New("a mount needs root, or fusermount3 (package fuse3)")
	}
	return nil
}

// Mount mounts an empty file system on a folder. A sync takes syncTime.
func Mount(dir string, syncTime time.Duration) (*FS, error) {
	if err := forgetDead(); err != nil {
		return nil, err
	}
	f := &FS{dir: dir, disk: newDisk()}
	f.disk.syncTime = syncTime
	return f, f.mount()
}

func (f *FS) mount() error {
	long := time.Minute // nobody but this kernel changes anything
	root := &mounted{d: f.disk, n: f.disk.root}
	server, err := fs.Mount(f.dir, root, &fs.Options{
		EntryTimeout: &long, AttrTimeout: &long,
		RootStableAttr: &fs.StableAttr{Ino: root.n.number},
		UID:            uint32(os.Getuid()), GID: uint32(os.Getgid()),
		MountOptions: fuse.MountOptions{
			FsName: fmt.Sprintf("%s-%d", kind, os.Getpid()), Name: kind, DisableXAttrs: true,
			DirectMountStrict: os.Geteuid() == 0,
		},
	})
	if err != nil {
		return fmt.Errorf("mounting on %s: %w", f.dir, err)
	}
	f.server = server
	return nil
}

// Cut takes the power away: from this moment on nothing is changed any more, and every call hangs,
// so that a process that is ended next has learned nothing of it.
func (f *FS) Cut() { f.disk.set(func() { f.disk.cut = true }) }

// Restore mounts what the cut has left, for the next start; see disk.afterCut for r. The processes
// that used the file system must have been ended or be about to: the calls that hang fail.
func (f *FS) Restore(r *rand.Rand) error {
	f.disk.mu.Lock()
	image := f.disk.afterCut(r)
	f.disk.mu.Unlock()
	if err := f.Close(); err != nil {
		return err
	}
	f.disk = image
	return f.mount()
}

// Unsynced is how much a cut at this moment takes away at most: blocks of files, and changes of folders.
func (f *FS) Unsynced() (blocks, changes int) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	seen := map[*node]bool{}
	var count func(n *node)
	count = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		blocks += len(n.dirty)
		for _, e := range n.entries {
			count(e)
		}
	}
	count(f.disk.root)
	return blocks, len(f.disk.pending)
}

// Stall makes all calls that write hang until Release.
func (f *FS) Stall() { f.disk.set(func() { f.disk.stalled = true }) }

// Release ends Stall.
func (f *FS) Release() { f.disk.set(func() { f.disk.stalled = false }) }

// Fail makes all calls that hang, and all later ones, fail with EIO.
func (f *FS) Fail() { f.disk.set(func() { f.disk.over = true }) }

// FailSync has fails asked at the end of each sync, with the name under which the file or folder was
// made; true: the sync fails with EIO, and what was written is lost at a power cut whatever is
// synced later. fails must not use the file system.
func (f *FS) FailSync(fails func(name string) bool) {
	f.disk.set(func() { f.disk.failSync = fails })
}

// Syncs is how many syncs there were.
func (f *FS) Syncs() int {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.syncs
}

// Close unmounts the file system; calls that hang fail.
func (f *FS) Close() error {
	if f.server == nil {
		return nil
	}
	f.Fail()
	if err := detach(f.dir); err != nil {
		return err
	}
	server, done := f.server, make(chan struct{})
	f.server = nil
	go func() { server.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("%s was unmounted, but a process still has it open", f.dir)
	}
}

func detach(dir string) error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", dir, err)
		}
		return nil
	}
	if out, err := exec.Command("fusermount3", "-uz", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmounting %s: %w: %s", dir, err, out)
	}
	return nil
}

// forgetDead unmounts what processes have left that were killed. One whose own calls hang in its own
// file system has not ended: it is a zombie until its connection is aborted.
func forgetDead() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		field := strings.Fields(line)
		if len(field) < 3 || field[2] != "fuse."+kind {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", strings.TrimPrefix(field[0], kind+"-"), "stat"))
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			continue
		}
		if os.Geteuid() == 0 {
			_ = unix.Unmount(field[1], unix.MNT_FORCE) // aborts; whether it also unmounts is the next call's business
		}
		_ = detach(field[1]) // it may be another account's
	}
	return nil
}
