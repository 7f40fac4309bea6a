package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/cluster"
)

func TestFailedWriteOrSyncIsTheEndOfTheFile(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync, faultfs.Stat} {
		t.Run(string(kind), func(t *testing.T) {
			disk := memfs.New()
			fsys := faultfs.New(disk, nil)
			c, watch := newCluster(t, fsys, "/root")
			f := create(t, c, "file")
			must(t, f.Append(t.Context(), [][]byte{[]byte("one\n")}))
			fsys.Set(faultfs.Nth(1, faultfs.On(kind, "file", syscall.EIO)))
			err := f.Append(t.Context(), [][]byte{[]byte("two\n")})
			if !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrNotTried) {
				t.Fatalf("append: %v", err)
			}
			if err := f.Append(t.Context(), [][]byte{[]byte("two\n")}); err == nil {
				t.Fatal("the file takes more")
			}
			if f.Acked() != 4 {
				t.Fatalf("Acked() = %d", f.Acked())
			}
			if acks, failures := watch.heard(); acks != 1 || failures == 0 {
				t.Fatalf("the observer heard %d acknowledgements and %d failures", acks, failures)
			}
			closed, err := c.Recover(t.Context(), "file")
			must(t, err)
			got := content(t, c, "file")
			if !closed || !bytes.HasPrefix(got, []byte("one\n")) {
				t.Fatalf("recovered: %v, %q", closed, got)
			}
			after, err := vfs.ReadFile(disk.Crash(nil), "/root/file")
			must(t, err)
			if !bytes.Equal(after, got) { // its length is final
				t.Fatalf("recovered: %q, after a power cut: %q", got, after)
			}
		})
	}
}

func TestFullDiskIsTheClustersFault(t *testing.T) {
	disk := memfs.New()
	c, watch := newCluster(t, disk, "/root", func(o *Options) { o.MinFree = -1 })
	f := create(t, c, "file")
	must(t, f.Append(t.Context(), [][]byte{[]byte("one\n")}))
	disk.SetCapacity(200)
	err := f.Append(t.Context(), [][]byte{make([]byte, 4096)})
	if !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("append: %v", err)
	}
	if err := c.ProbeBlock(t.Context()); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("probe: %v", err)
	}
	if _, failures := watch.heard(); failures != 1 {
		t.Fatalf("the observer heard %d failures", failures)
	}
}

func TestKeptSpaceLeavesFilesIntact(t *testing.T) {
	disk := memfs.New()
	c, watch := newCluster(t, disk, "/root", func(o *Options) { o.MinFree = 10_000 })
	f := create(t, c, "file")
	must(t, f.Append(t.Context(), [][]byte{[]byte("one\n")}))
	disk.SetCapacity(9_000)
	err := f.Append(t.Context(), [][]byte{[]byte("two\n")})
	if !errors.Is(err, cluster.ErrNotTried) || !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("append: %v", err)
	}
	if _, failures := watch.heard(); failures != 1 {
		t.Fatalf("the observer heard %d failures", failures)
	}
	if _, err := c.Create(t.Context(), "new", cluster.FileOptions{}); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("create: %v", err)
	}
	if err := c.ProbeBlock(t.Context()); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("probe: %v", err)
	}
	must(t, c.Replace(t.Context(), "manifest", []byte("{}"))) // the space is kept for it
	must(t, f.Seal(t.Context()))
	must(t, c.Rename(t.Context(), "file", "final"))
	if got := content(t, c, "final"); string(got) != "one\n" {
		t.Fatalf("sealed: %q", got)
	}
}

func TestSealMayBeAskedAgainAfterAFailedSync(t *testing.T) {
	fsys := faultfs.New(memfs.New(), nil)
	c, _ := newCluster(t, fsys, "/root")
	f := create(t, c, "file")
	must(t, f.Append(t.Context(), [][]byte{[]byte("all\n")}))
	fsys.Set(faultfs.Nth(1, faultfs.On(faultfs.Sync, "file", syscall.EIO)))
	if err := f.Seal(t.Context()); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("seal: %v", err)
	}
	must(t, f.Seal(t.Context()))
	if got := content(t, c, "file"); string(got) != "all\n" {
		t.Fatalf("sealed: %q", got)
	}
}

func TestHangingDiskHoldsNoCallerBeyondItsContext(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} {
		t.Run(string(kind), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { hangingDisk(t, kind) }) })
	}
}

func hangingDisk(t *testing.T, kind faultfs.Kind) {
	fsys := faultfs.New(memfs.New(), nil)
	c, watch := newCluster(t, fsys, "/root")
	f := create(t, c, "file")
	must(t, f.Append(t.Context(), [][]byte{[]byte("one\n")}))
	release := make(chan struct{})
	fsys.Set(faultfs.Stall(kind, "file", nil, release))

	arena := []byte("two\n")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	err := f.Append(ctx, [][]byte{arena})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("append: %v", err)
	}
	if took := time.Since(began); took != 2*time.Second {
		t.Fatalf("append took %v", took)
	}
	copy(arena, "XXXX") // it is ours again
	if _, failures := watch.heard(); failures != 1 {
		t.Fatalf("the observer heard %d failures", failures)
	}
	short, cancel2 := context.WithTimeout(t.Context(), time.Second)
	defer cancel2()
	if closed, err := c.Recover(short, "file"); closed || err != nil {
		t.Fatalf("recover over a write under way = %v, %v", closed, err)
	}
	close(release)
	closed, err := c.Recover(t.Context(), "file")
	must(t, err)
	if got := content(t, c, "file"); !closed || string(got) != "one\ntwo\n" {
		t.Fatalf("recovered: %v, %q: want what Append was given", closed, got)
	}
	if f.Acked() != 4 {
		t.Fatalf("Acked() = %d: nobody was told of the rest", f.Acked())
	}
}

func TestHangingCallsLeaveAtTheirContextsEnd(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Stat, faultfs.SyncDir, faultfs.Create} {
		synctest.Test(t, func(t *testing.T) {
			fsys := faultfs.New(memfs.New(), nil)
			c, _ := newCluster(t, fsys, "/root", func(o *Options) { o.Calls = 2 })
			must(t, c.Replace(t.Context(), "file", []byte("old")))
			release := make(chan struct{})
			fsys.Set(faultfs.Stall(kind, "", nil, release))
			began := time.Now()
			for i := range 4 { // two hang, two find no slot
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err := c.Create(ctx, fmt.Sprintf("new-%d", i), cluster.FileOptions{})
				cancel()
				if !errors.Is(err, cluster.ErrUnavailable) {
					t.Errorf("%s: create: %v", kind, err)
				}
			}
			if took := time.Since(began); took != 4*time.Second {
				t.Errorf("%s: four calls took %v", kind, took)
			}
			fsys.Set(nil)
			close(release)
			synctest.Wait()
			list, err := c.List(t.Context(), ".")
			must(t, err)
			for _, i := range list {
				if strings.HasPrefix(i.Name, "new") {
					t.Errorf("%s: %s was made, and nobody knows", kind, i.Name)
				}
			}
		})
	}
}

func TestDoubtEndsAppendsWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New(memfs.New(), nil)
		c, watch := newCluster(t, fsys, "/root", func(o *Options) { o.Appends = 1 })
		f, waiting := create(t, c, "file"), create(t, c, "waiting")
		release := make(chan struct{})
		fsys.Set(faultfs.Stall(faultfs.Sync, "file", nil, release))
		began := time.Now()
		ended, left := make(chan error, 1), make(chan error, 1)
		go func() { ended <- f.Append(t.Context(), [][]byte{[]byte("x")}) }()
		synctest.Wait()
		go func() { left <- waiting.Append(t.Context(), [][]byte{[]byte("y")}) }()
		time.Sleep(5 * time.Second)
		select {
		case err := <-ended:
			t.Fatalf("without doubt it ended: %v", err)
		default:
		}
		watch.doubt(true, true)
		if err := <-ended; !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrNotTried) {
			t.Fatalf("append: %v", err)
		}
		if err := <-left; !errors.Is(err, cluster.ErrNotTried) {
			t.Fatalf("append without a slot: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second+2*doubtTick {
			t.Fatalf("they ended after %v", took)
		}
		close(release)
		synctest.Wait()
		must(t, waiting.Append(t.Context(), [][]byte{[]byte("y")}))
		must(t, waiting.Seal(t.Context()))
	})
}

func TestNoMoreAppendsThanSlotsAreInFlight(t *testing.T) {
	var now, most atomic.Int64
	fsys := faultfs.New(memfs.New(), nil)
	c, _ := newCluster(t, fsys, "/root", func(o *Options) { o.Appends = 3 })
	files := make([]cluster.File, 12)
	for i := range files {
		files[i] = create(t, c, fmt.Sprintf("file-%d", i))
	}
	fsys.Set(func(op faultfs.Op) error {
		switch op.Kind {
		case faultfs.Write:
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		case faultfs.Sync:
			now.Add(-1)
		}
		return nil
	})
	var wait sync.WaitGroup
	for _, f := range files {
		wait.Go(func() {
			for range 20 {
				if err := f.Append(t.Context(), [][]byte{[]byte("x")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if most.Load() > 3 {
		t.Fatalf("%d appends were in flight", most.Load())
	}
}

func TestCloseSaysWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New(memfs.New(), nil)
		watch := &observer{}
		c, err := New(Options{Name: "n1", Path: "/root", Create: true, FS: fsys, Observer: watch, Log: nop})
		must(t, err)
		f := create(t, c, "file")
		release := make(chan struct{})
		fsys.Set(faultfs.Stall(faultfs.Sync, "file", nil, release))
		ended := make(chan error, 1)
		go func() { ended <- f.Append(t.Context(), [][]byte{[]byte("x")}) }()
		synctest.Wait()
		if err := c.Close(); err == nil || !strings.Contains(err.Error(), "1 calls") {
			t.Fatalf("close: %v", err)
		}
		if err := <-ended; err == nil {
			t.Fatal("the append was acknowledged after Close")
		}
		if _, err := c.Stat(t.Context(), "file"); err == nil {
			t.Fatal("a closed cluster answers")
		}
		close(release)
		must(t, c.Close())
	})
}

// TestAcknowledgedBytesSurviveAPowerCut takes an image of the disk after every
// sync point of a file's life and looks for what was acknowledged by then.
func TestAcknowledgedBytesSurviveAPowerCut(t *testing.T) {
	disk := memfs.New()
	root := "/mnt/root"
	c, _ := newCluster(t, disk, root)
	var acked, replaced atomic.Int64
	type cut struct {
		disk        *memfs.FS
		at, version int64
	}
	var cuts []cut
	take := func() {
		at, version := acked.Load(), replaced.Load() // before the image is taken
		cuts = append(cuts, cut{disk.Crash(nil), at, version})
		cuts = append(cuts, cut{disk.Crash(rand.New(rand.NewPCG(uint64(len(cuts)), 7))), at, version})
	}
	acked.Store(-1)
	disk.OnSync(take)
	disk.FailSync(func(string) error { take(); return nil })
	f := create(t, c, "a/b/_file.open")
	acked.Store(0)
	for at := int64(0); at < 5000; at += 700 {
		must(t, f.Append(t.Context(), [][]byte{text(at + 700)[at:]}))
		acked.Store(at + 700)
		must(t, c.Replace(t.Context(), "state", []byte{byte(at/700) + 1}))
		replaced.Store(at/700 + 1)
	}
	must(t, f.Seal(t.Context()))
	must(t, c.Rename(t.Context(), "a/b/_file.open", "a/b/file"))
	disk.OnSync(nil)
	disk.FailSync(nil)

	checked := 0
	for _, cut := range cuts {
		later, _ := newCluster(t, cut.disk, root, func(o *Options) { o.Create = false })
		must(t, later.Ping(t.Context()))
		if cut.at >= 0 {
			name := "a/b/_file.open"
			if _, err := later.Stat(t.Context(), name); err != nil {
				name = "a/b/file" // renamed by then
			}
			closed, err := later.Recover(t.Context(), name)
			must(t, err)
			if got := content(t, later, name); !closed || int64(len(got)) < cut.at || !bytes.Equal(got[:cut.at], text(cut.at)) {
				t.Fatalf("%d bytes are left of %d acknowledged", len(got), cut.at)
			}
			checked++
		}
		if cut.version > 0 {
			if got := content(t, later, "state"); len(got) == 0 || int64(got[0]) < cut.version {
				t.Fatalf("state %v is older than version %d", got, cut.version)
			}
		}
	}
	if len(cuts) < 100 || checked < 80 {
		t.Fatalf("%d images, %d files checked: the hooks do not work", len(cuts), checked)
	}

	// What has an answer is durable, without another sync.
	durable := func(want int64) {
		t.Helper()
		info, err := disk.Crash(nil).Stat("/mnt/root/a/b/file")
		must(t, err)
		if info.Size() != want {
			t.Fatalf("%d bytes are durable, want %d", info.Size(), want)
		}
	}
	durable(acked.Load())
	done, err := c.Truncate(t.Context(), "a/b/file", 1234)
	must(t, err)
	if !done {
		t.Fatal("the truncation is not done")
	}
	durable(1234)
	must(t, c.Remove(t.Context(), "a/b/file"))
	if _, err := disk.Crash(nil).Stat("/mnt/root/a/b/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after a removal: %v", err)
	}
}

// text is n bytes that tell their place.
func text(n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// TestFencingCanBeCutOffAnywhere lets each call of a Recover that fences the
// writer of another process fail in turn and asks again.
func TestFencingCanBeCutOffAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		disk := memfs.New()
		fsys := faultfs.New(disk, nil)
		zombie, _ := newCluster(t, disk, "/root")
		c, _ := newCluster(t, fsys, "/root")
		f := create(t, zombie, "a/file")
		must(t, f.Append(t.Context(), [][]byte{[]byte("acknowledged\n")}))
		failures := atomic.Int64{}
		boom := errors.New("boom")
		fsys.Set(faultfs.Nth(n, func(faultfs.Op) error { failures.Add(1); return boom }))
		_, first := c.Recover(t.Context(), "a/file")
		fsys.Set(nil)
		closed, err := c.Recover(t.Context(), "a/file")
		if err != nil || !closed {
			t.Fatalf("call %d failed (%v); then Recover = %v, %v", n, first, closed, err)
		}
		if err := f.Append(t.Context(), [][]byte{[]byte("late\n")}); err == nil {
			t.Fatalf("call %d failed: the writer was not fenced", n)
		}
		if got := content(t, c, "a/file"); string(got) != "acknowledged\n" {
			t.Fatalf("call %d failed: the file holds %q", n, got)
		}
		if got, err := vfs.ReadFile(disk.Crash(nil), "/root/a/file"); err != nil || string(got) != "acknowledged\n" {
			t.Fatalf("call %d failed: after a power cut the file holds %q, %v", n, got, err)
		}
		if failures.Load() < int64(n) {
			if n < 10 {
				t.Fatalf("a Recover that fences is %d calls", n)
			}
			return
		}
	}
}
