package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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
)

// TestFailedSyncSendsTheGroupToANewSegment lets one sync fail, as Linux does
// it: the bytes can be read, and are gone after a power cut.
func TestFailedSyncSendsTheGroupToANewSegment(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			disk := memfs.New()
			fsys := faultfs.New(disk, nil)
			b := open(t, fsys, "/b")
			add(t, b, Outage, batch("web", 1, 10))
			switch op {
			case "write":
				fsys.Set(faultfs.Nth(1, faultfs.On(faultfs.Write, "*.seg", &faultfs.Short{Bytes: 33, Err: syscall.EIO})))
			case "sync":
				var once atomic.Bool
				disk.FailSync(func(string) error {
					if once.Swap(true) {
						return nil
					}
					return syscall.EIO
				})
			}
			add(t, b, Outage, batch("web", 11, 10))
			add(t, b, Outage, batch("web", 21, 10))
			if s := b.Stats(); s.Poisoned != 1 || s.Segments != 2 || s.Failed != 0 {
				t.Fatalf("%+v", s)
			}
			list := b.Segments()
			if !list[0].Sealed || list[0].Problem == "" || list[0].Messages != 10 || list[1].Messages != 20 {
				t.Fatalf("%+v", list)
			}
			image := disk.Crash(nil)
			later := open(t, image, "/b", next)
			all, _ := sequences(t, image, "/b", "web")
			slices.Sort(all)
			if want := upTo(30); !slices.Equal(slices.Compact(all), want) {
				t.Fatalf("after a power cut: %v", all)
			}
			for _, s := range later.Segments() {
				if !s.Sealed {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

func upTo(n uint64) (all []uint64) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

func TestDiskThatAlwaysFailsRefusesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := memfs.New()
		b := open(t, disk, "/b")
		add(t, b, Outage, batch("web", 1, 1))
		disk.FailSync(func(string) error { return syscall.EIO })
		for range 50 {
			err := b.Append(t.Context(), Outage, batch("web", 2, 1))
			if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrFull) {
				t.Fatalf("append: %v", err)
			}
		}
		if files := disk.Files(); len(files) > 3 { // the lock, the first segment, its poisoned successor at most
			t.Fatalf("left by failures: %q", files)
		}
		disk.FailSync(nil)
		time.Sleep(badPause)
		add(t, b, Outage, batch("web", 2, 1))
		all, _ := sequences(t, disk.Crash(nil), "/b", "web")
		if slices.Sort(all); !slices.Equal(all, upTo(2)) {
			t.Fatalf("after a power cut: %v", all)
		}
	})
}

// TestGroupIsWhatCameWhileTheSyncBeforeRan holds the first sync and counts how
// many the ten records that came meanwhile need.
func TestGroupIsWhatCameWhileTheSyncBeforeRan(t *testing.T) {
	for _, test := range []struct {
		sync  Sync
		group int64
		want  int64
	}{
		{SyncGroup, 1 << 20, 2},
		{SyncGroup, 1, 11}, // no group is larger than its first record
		{SyncEach, 1 << 20, 11},
		{SyncNone, 1 << 20, 0},
	} {
		t.Run(fmt.Sprintf("sync=%s/group=%d", test.sync, test.group), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := memfs.New()
				fsys := faultfs.New(disk, nil)
				b := open(t, fsys, "/b", func(o *Options) { o.Sync, o.GroupBytes = test.sync, test.group })
				release := make(chan struct{})
				fsys.Set(faultfs.Stall(faultfs.Write, "*.seg", nil, release))
				var wait sync.WaitGroup
				for i := range 11 {
					wait.Go(func() { add(t, b, Outage, batch("web", uint64(i+1), 1)) })
					synctest.Wait() // the first one is in its segment's header by now
				}
				close(release)
				wait.Wait()
				if s := b.Stats(); s.Syncs > test.want || s.Syncs < min(test.want, 1) || s.Records != 11 {
					t.Fatalf("%+v, want %d syncs", s, test.want)
				}
				all, _ := sequences(t, disk, "/b", "web")
				if !slices.Equal(all, upTo(11)) {
					t.Fatalf("%v", all)
				}
			})
		})
	}
}

func TestHangingDiskHoldsNoCallerBeyondItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := memfs.New()
		fsys := faultfs.New(disk, nil)
		b := open(t, fsys, "/b")
		add(t, b, Outage, batch("web", 1, 1))
		release := make(chan struct{})
		fsys.Set(faultfs.Stall(faultfs.Sync, "*.seg", nil, release))
		before := b.Stats().Bytes
		began := time.Now()
		var errs [3]error
		var wait sync.WaitGroup
		arena := batch("web", 2, 1)
		for i := range errs {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				r := arena
				if i > 0 {
					r = batch("late", uint64(i), 1)
				}
				errs[i] = b.Append(ctx, Outage, r)
			})
			synctest.Wait() // the first is being synced, the others wait behind it
		}
		if s := b.Stats(); s.Stalled != 0 {
			t.Errorf("stalled for %v at its begin", s.Stalled)
		}
		wait.Wait()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the callers left after %v", took)
		}
		for i, err := range errs {
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLeft) != (i == 0) {
				t.Errorf("caller %d: %v", i, err)
			}
		}
		for i := range arena.Data {
			arena.Data[i] = 'X' // it is ours again
		}
		if s := b.Stats(); s.Stalled != 2*time.Second || s.Failed != 3 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Second)
		began = time.Now()
		if err := b.Append(t.Context(), Outage, batch("late", 9, 1)); err == nil || time.Since(began) > 0 {
			t.Errorf("a disk that hangs for 3 s is waited for: %v, %v", time.Since(began), err)
		}
		add2 := make(chan error, 1)
		go func() { add2 <- b.Append(t.Context(), Spill, batch("web", 9, 1)) }()
		synctest.Wait()
		fsys.Set(nil)
		close(release)
		must(t, <-add2) // another lane; its own segment waited for the same disk
		add(t, b, Outage, batch("web", 3, 1))
		all, _ := sequences(t, disk, "/b", "web")
		slices.Sort(all)
		if !slices.Equal(all, []uint64{1, 2, 3, 9}) {
			t.Errorf("on the disk: %v", all)
		}
		if late, _ := sequences(t, disk, "/b", "late"); len(late) != 0 {
			t.Errorf("withdrawn records were written: %v", late)
		}
		s := b.Stats()
		if s.Bytes <= before || s.Stalled != 0 {
			t.Errorf("%+v", s)
		}
		must(t, b.Close(t.Context()))
		var onDisk int64
		for _, seg := range b.Segments() {
			onDisk += seg.Bytes
		}
		if s := b.Stats(); s.Bytes != onDisk {
			t.Errorf("%d bytes are counted, the segments have %d", s.Bytes, onDisk)
		}
	})
}

func TestCloseSaysThatAWriteHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New(memfs.New(), nil)
		b := open(t, fsys, "/b")
		release := make(chan struct{})
		fsys.Set(faultfs.Stall(faultfs.Sync, "*.seg", nil, release))
		ended := make(chan error, 1)
		go func() { ended <- b.Append(t.Context(), Outage, batch("web", 1, 1)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("close: %v", err)
		}
		close(release)
		must(t, <-ended) // what was queued is written
		must(t, b.Close(t.Context()))
	})
}

func TestEndedContextWritesNothing(t *testing.T) {
	b := open(t, memfs.New(), "/b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Append(ctx, Spill, batch("web", 1, 1)); !errors.Is(err, context.Canceled) {
		t.Fatalf("append: %v", err)
	}
	if s := b.Stats(); s.Segments != 0 {
		t.Fatalf("%+v", s)
	}
}

// workload appends, rotates, ships and forgets, and says which messages were
// acknowledged and are still due. Errors are what the faults make of it.
func workload(t *testing.T, b *Buffer, acked *sync.Map) {
	ctx := context.Background()
	for i := range 12 {
		r := batch("web", uint64(10*i+1), 10)
		if b.Append(ctx, Reason(1+i%2), r) == nil {
			acked.Store(r.First, true)
		}
	}
	_ = b.Seal(ctx, Spill)
	for i, s := range b.Segments() {
		if !s.Sealed || i > 1 {
			continue
		}
		for _, p := range s.Parts { // whatever comes of it, these are no longer due
			for _, r := range p.Ranges {
				for n := r.First; n <= r.Last; n++ {
					acked.Delete(n)
				}
			}
		}
		if i == 0 {
			_ = b.Shipped(s.Name)
		} else {
			_, _ = b.Forget(s.Name)
		}
	}
	r := batch("web", 1001, 10)
	if b.Append(ctx, Outage, r) == nil {
		acked.Store(r.First, true)
	}
}

// due checks that all acknowledged records of a workload are in a directory.
func due(t *testing.T, fsys vfs.FS, acked map[uint64]bool, what string) {
	t.Helper()
	if len(acked) == 0 {
		return
	}
	all, _ := sequences(t, fsys, "/b", "web")
	have := map[uint64]bool{}
	for _, n := range all {
		have[n] = true
	}
	for first := range acked {
		for n := first; n < first+10; n++ {
			if !have[n] {
				t.Fatalf("%s: acknowledged message %d is lost", what, n)
			}
		}
	}
}

func snapshot(acked *sync.Map) map[uint64]bool {
	m := map[uint64]bool{}
	acked.Range(func(k, _ any) bool {
		m[k.(uint64)] = true
		return true
	})
	return m
}

// TestEveryFailingCallLosesNothingAcknowledged lets each call to the file
// system fail in turn, through a life of a buffer and its next start.
func TestEveryFailingCallLosesNothingAcknowledged(t *testing.T) {
	calls := 0
	for n := 1; ; n++ {
		if n > 300 {
			t.Fatal("no end of calls")
		}
		disk := memfs.New()
		var total atomic.Int64
		boom := fmt.Errorf("boom: %w", syscall.EIO)
		fault := func(op faultfs.Op) error {
			if op.Kind == faultfs.Remove && strings.HasSuffix(op.Path, ".shipped") {
				return nil
			}
			total.Add(1)
			return boom
		}
		fsys := faultfs.New(disk, faultfs.Nth(n, fault))
		var acked sync.Map
		o := options()
		o.SegmentBytes = 900
		if b, err := Open(fsys, "/b", o); err == nil {
			workload(t, b, &acked)
			_ = b.Close(context.Background())
		}
		hit := total.Load() >= int64(n)
		due(t, disk.Crash(nil), snapshot(&acked), fmt.Sprintf("call %d failed, power cut", n))

		second := faultfs.New(disk, nil)
		next(&o)
		if !hit { // the first life has no such call: the next start, after a kill
			image := disk.Crash(nil)
			calls++
			second = faultfs.New(image, faultfs.Nth(calls, fault))
			total.Store(0)
		}
		b, err := Open(second, "/b", o)
		if err == nil {
			if err := b.Close(context.Background()); err != nil && !errors.Is(err, boom) {
				t.Fatal(err)
			}
		}
		second.Set(nil)
		due(t, second, snapshot(&acked), fmt.Sprintf("call %d failed, next start", n))
		if !hit && total.Load() < int64(calls) {
			break
		}
		if hit && err != nil {
			t.Fatalf("call %d failed: the next start: %v", n, err)
		}
	}
	if calls < 10 {
		t.Fatalf("a start with segments is %d calls only", calls)
	}
}

func TestFailingCallsOfManagementLeaveTheSegment(t *testing.T) {
	fsys := faultfs.New(memfs.New(), nil)
	b := open(t, fsys, "/b")
	add(t, b, Outage, batch("web", 1, 10))
	name := b.Segments()[0].Name
	if err := b.Shipped(name); !errors.Is(err, ErrWriting) {
		t.Fatalf("ship an open one: %v", err)
	}
	if _, err := b.Forget(name); !errors.Is(err, ErrWriting) {
		t.Fatalf("forget an open one: %v", err)
	}
	must(t, b.Seal(t.Context(), Outage))
	fsys.Set(faultfs.On(faultfs.Rename, "", syscall.EIO))
	if err := b.Shipped(name); err == nil {
		t.Fatal("shipped over a failing rename")
	}
	fsys.Set(faultfs.On(faultfs.Remove, "", syscall.EIO))
	if _, err := b.Forget(name); err == nil {
		t.Fatal("forgotten over a failing remove")
	}
	fsys.Set(nil)
	if list := b.Segments(); len(list) != 1 || list[0].Shipped {
		t.Fatalf("%+v", list)
	}
	fsys.Set(faultfs.Nth(1, faultfs.On(faultfs.SyncDir, "", syscall.EIO)))
	if err := b.Shipped(name); err == nil {
		t.Fatal("shipped over a failing sync of the folder")
	}
	must(t, b.Shipped(name)) // asked again
	must(t, b.Shipped(filepath.Base(b.Segments()[0].Path)))
	if _, err := b.Forget(name); err == nil {
		t.Fatal("a shipped segment was forgotten")
	}
	for _, missing := range []string{"", "none", "../" + name + "x"} {
		if err := b.Shipped(missing); !errors.Is(err, ErrMissing) {
			t.Fatalf("ship %q: %v", missing, err)
		}
		if _, err := b.Forget(missing); !errors.Is(err, ErrMissing) {
			t.Fatalf("forget %q: %v", missing, err)
		}
	}
}

func TestShippedSegmentsGoWhenTheirTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := memfs.New()
		b := open(t, disk, "/b")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stopped := make(chan struct{})
		go func() { b.Run(ctx); close(stopped) }()
		add(t, b, Spill, batch("web", 1, 10))
		must(t, b.Seal(t.Context(), Spill))
		add(t, b, Spill, batch("web", 11, 10))
		must(t, b.Shipped(b.Segments()[0].Name))
		if s := b.Stats(); s.Shipped != 1 || s.Segments != 1 {
			t.Fatalf("%+v", s)
		}
		time.Sleep(defaultKeep - time.Second)
		if list := b.Segments(); len(list) != 2 || !list[0].Shipped || filepath.Ext(list[0].Path) != extShipped {
			t.Fatalf("before its time is over: %+v", list)
		}
		time.Sleep(sweepEvery + 2*time.Second)
		if list := b.Segments(); len(list) != 1 || list[0].Messages != 10 {
			t.Fatalf("after it: %+v", list)
		}
		if files := disk.Crash(nil).Files(); len(files) != 2 {
			t.Fatalf("after a power cut: %q", files)
		}
		cancel()
		<-stopped
	})
}

func TestRecordsOfAHangingDiskAreNotMadeWithoutBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := memfs.New()
		fsys := faultfs.New(disk, nil)
		b := open(t, fsys, "/b", func(o *Options) { o.MaxBytes = 1 << 30 })
		add(t, b, Outage, batch("web", 1, 1))
		release := make(chan struct{})
		fsys.Set(faultfs.Stall(faultfs.Sync, "*.seg", nil, release))
		var wait sync.WaitGroup
		const records, size = 40, 2 << 20
		failed := 0
		var mu sync.Mutex
		for i := range records {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				r := batch("web", uint64(i+2), 1)
				r.Data = append(bytes.Repeat([]byte("x"), size-1), '\n')
				r.Ends = []uint32{size}
				if err := b.Append(ctx, Outage, r); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed++
				}
			})
		}
		synctest.Wait()
		if n := b.Stats().Bytes; n > copying+1<<20 || n < copying/2 {
			t.Errorf("%d MiB are made and not written, want %d at most", n>>20, copying>>20)
		}
		wait.Wait()
		if failed != records {
			t.Errorf("%d of %d callers heard of the hanging disk", failed, records)
		}
		fsys.Set(nil)
		close(release)
		time.Sleep(time.Minute)
		if !b.copies.TryAcquire(copying) {
			t.Fatal("not all that was taken of the bound was given back")
		}
		b.copies.Release(copying)
		add(t, b, Outage, batch("web", 100, 1))
	})
}
