package powerfs

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func mounts(t *testing.T) (*FS, string) {
	t.Helper()
	if err := Possible(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	f, err := Mount(dir, 0)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, content string, sync bool) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString(content)
	must(t, err)
	if sync {
		must(t, unix.Fdatasync(int(f.Fd())))
	}
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
}

// tree is every file with its content, every folder with "/".
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		must(t, err)
		name, _ := filepath.Rel(dir, path)
		if e.IsDir() {
			if name != "." {
				all = append(all, name+"/")
			}
			return nil
		}
		b, err := os.ReadFile(path)
		must(t, err)
		all = append(all, name+"="+string(b))
		return nil
	}))
	return strings.Join(all, " ")
}

func TestACutLeavesWhatWasSynced(t *testing.T) {
	f, dir := mounts(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("a"), "synced", true)
	write(t, in("content"), "not synced", false)
	must(t, os.Mkdir(in("d"), 0o700))
	write(t, in("d/lost"), "synced, but not its folder", true)
	syncDir(t, dir)
	write(t, in("a"), ", more", false)
	write(t, in("name"), "synced", true)
	write(t, in("old"), "x", true)
	syncDir(t, dir)
	must(t, os.Rename(in("old"), in("new")))
	must(t, os.Remove(in("name")))
	if got, want := tree(t, dir), "a=synced, more content=not synced d/ d/lost=synced, but not its folder new=x"; got != want {
		t.Fatalf("before the cut: %s", got)
	}
	f.Cut()
	must(t, f.Restore(nil))
	if got, want := tree(t, dir), "a=synced content= d/ name=synced old=x"; got != want {
		t.Fatalf("after the cut: %s, want %s", got, want)
	}
	must(t, os.Rename(in("old"), in("new")))
	syncDir(t, dir)
	must(t, os.Truncate(in("a"), 3))
	write(t, in("a"), "!", true)
	f.Cut()
	must(t, f.Restore(nil))
	if got, want := tree(t, dir), "a=syn! content= d/ name=synced new=x"; got != want {
		t.Fatalf("after the second cut: %s, want %s", got, want)
	}
}

func TestASeedLeavesAPartOfWhatWasNotSynced(t *testing.T) {
	f, dir := mounts(t)
	name := filepath.Join(dir, "a")
	write(t, name, strings.Repeat("a", 10*block), true)
	syncDir(t, dir)
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = file.WriteAt([]byte(strings.Repeat("b", 100*block)), 0)
	must(t, err)
	must(t, file.Close())
	f.Cut()
	must(t, f.Restore(rand.New(rand.NewPCG(1, 1))))
	b, err := os.ReadFile(name)
	must(t, err)
	count := map[byte]int{}
	for _, c := range b {
		count[c]++
	}
	if count['b'] == 0 || count[0] == 0 || count['a']%block != 0 || len(b) < 10*block {
		t.Fatalf("%d bytes: %v", len(b), count)
	}
}

func TestASyncThatFailedLosesItsBlocks(t *testing.T) {
	f, dir := mounts(t)
	name := filepath.Join(dir, "a")
	write(t, name, "one", true)
	syncDir(t, dir)
	f.FailSync(func(name string) bool { return name == "a" })
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	_, err = file.WriteString("two")
	must(t, err)
	if err := file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	f.FailSync(nil)
	must(t, file.Sync())
	if got := tree(t, dir); got != "a=two" {
		t.Fatal(got)
	}
	must(t, file.Close())
	f.Cut()
	must(t, f.Restore(nil))
	if got := tree(t, dir); got != "a=one" {
		t.Fatalf("%s is left", got)
	}
}

func TestAStallEndsWithRelease(t *testing.T) {
	f, dir := mounts(t)
	name := filepath.Join(dir, "a")
	write(t, name, "one", true)
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	f.Stall()
	t.Cleanup(f.Release)
	done := make(chan error, 1)
	go func() { done <- file.Sync() }()
	if got := tree(t, dir); got != "a=one" { // reading goes on
		t.Fatal(got)
	}
	select {
	case err := <-done:
		t.Fatalf("synced while the disk stalls: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	f.Release()
	must(t, <-done)
}

func TestOneProcessHasTheLockAndRenameCanKeepTheTarget(t *testing.T) {
	_, dir := mounts(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "a", true)
	write(t, b, "b", true)
	var files [2]*os.File
	for i := range files {
		var err error
		files[i], err = os.Open(a)
		must(t, err)
		defer files[i].Close()
	}
	must(t, unix.Flock(int(files[0].Fd()), unix.LOCK_EX|unix.LOCK_NB))
	if err := unix.Flock(int(files[1].Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("the second lock: %v", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
		t.Fatalf("rename onto a file: %v", err)
	}
	must(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, filepath.Join(dir, "c"), unix.RENAME_NOREPLACE))
}
