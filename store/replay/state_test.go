package replay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
	"twinscribe/store/storetest"
)

func TestIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		c := open(t, setup{})
		return storetest.Subject{Store: c.Store, Stored: c.primary.messages}
	})
}

// fixed is Scribe's default: 300 s, give or take 30.
var fixed = store.Retry{Fixed: true, Interval: 300 * time.Second, Range: 60 * time.Second}

func TestAnOutageGoesToTheSpoolAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{options: Options{Retry: fixed}})
		c.put("a")
		c.wantState(Streaming)
		c.primary.refuse = away
		b := c.put("b", "c")
		if len(b.Taken) != 1 || b.Taken[0] != (store.Taken{Place: "spool", Messages: 2}) {
			t.Errorf("taken: %+v", b.Taken)
		}
		c.wantState(Disconnected)
		c.put("d")
		if s := c.Status(); s.Waiting != 3 || s.Retries != 1 || !strings.Contains(s.Text, errAway.Error()) {
			t.Errorf("status: %+v", s)
		}
		begun := time.Now()
		c.primary.set(func() { c.primary.refuse = nil })
		for c.Status().State == Disconnected {
			time.Sleep(time.Second)
			c.tick()
		}
		if took := time.Since(begun); took < 270*time.Second || took > 332*time.Second {
			t.Errorf("tried again after %v", took)
		}
		synctest.Wait()
		c.wantState(Streaming)
		c.put("e")
		c.primary.want(t, "a", "b", "c", "d", "e")
		if s := c.Status(); s.Waiting != 0 || s.Text != "" || s.Replayed != 3 || s.Retries != 1 {
			t.Errorf("status: %+v", s)
		}
		c.end()
	})
}

func TestAFailedProbeBeginsANewWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{options: Options{Retry: store.Retry{Fixed: true, Interval: 10 * time.Second}}})
		c.primary.refuse = away
		c.put("a")
		for range 33 {
			time.Sleep(time.Second)
			c.tick()
			synctest.Wait()
		}
		// Strictly longer than 10 s: at 11, 22 and 33 s.
		if s := c.Status(); s.State != Disconnected || s.Retries != 4 {
			t.Errorf("status: %+v", s)
		}
		c.end()
	})
}

func TestARefusalThatAsksForAPauseWaitsSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{options: Options{Retry: fixed}})
		c.primary.refuse = func(*store.Batch) (int, error) { return 0, store.ErrLater }
		c.put("a")
		var at []int
		for n, last := 1, int64(1); n <= 100; n++ {
			time.Sleep(time.Second)
			c.tick()
			synctest.Wait()
			if r := c.Status().Retries; r > last {
				last = r
				at = append(at, n)
			}
		}
		// 1 s, 2 s, 4 s, ... 30 s at most; each is over at the first tick behind it.
		if want := []int{2, 5, 10, 19, 36, 67, 98}; !slices.Equal(at, want) {
			t.Errorf("tried at %v s, want %v", at, want)
		}
		c.primary.set(func() { c.primary.refuse = nil })
		for range 31 {
			time.Sleep(time.Second)
			c.tick()
		}
		synctest.Wait()
		c.primary.want(t, "a")
		c.end()
	})
}

func TestZeroWaitsAreLegal(t *testing.T) {
	for _, r := range []store.Retry{{Fixed: true}, {Adaptive: true}, {Fixed: true, Interval: time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, setup{options: Options{Retry: r}})
			c.primary.refuse = away
			c.put("a")
			for range 5 {
				time.Sleep(time.Second)
				c.tick()
				synctest.Wait()
			}
			c.primary.set(func() { c.primary.refuse = nil })
			time.Sleep(2 * time.Second)
			c.tick()
			synctest.Wait()
			c.primary.want(t, "a")
			c.end()
		})
	}
}

func TestTheRestOfAPartGoesToTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{})
		c.primary.refuse = func(*store.Batch) (int, error) { return 1, errAway }
		b := c.put("a", "b", "c")
		want := []store.Taken{{Place: "primary", Messages: 1}, {Place: "spool", Messages: 2}}
		if !slices.Equal(b.Taken, want) {
			t.Errorf("taken %+v, want %+v", b.Taken, want)
		}
		for range 3 { // the record goes out one message at a time
			time.Sleep(3 * time.Second)
			c.tick()
			synctest.Wait()
		}
		c.primary.set(func() { c.primary.refuse = nil })
		for range 20 {
			time.Sleep(time.Second)
			c.tick()
			synctest.Wait()
		}
		c.put("d")
		c.primary.want(t, "a", "b", "c", "d")
		c.end()
	})
}

func TestWithLiveFirstNewMessagesDoNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pause := true
		c := open(t, setup{options: Options{LiveFirst: true, Pause: func() bool { return pause }}})
		c.primary.refuse = away
		c.put("old1")
		c.put("old2")
		c.primary.set(func() { c.primary.refuse = nil })
		time.Sleep(5 * time.Second)
		c.tick()
		synctest.Wait()
		c.wantState(SendingBuffer)
		c.put("new1")
		c.primary.want(t, "new1") // the queue is above its ratio
		pause = false
		c.primary.set(func() { c.primary.delay = 100 * time.Millisecond })
		c.tick()
		synctest.Wait()
		c.put("new2") // waits for its turn only
		synctest.Wait()
		c.wantState(SendingBuffer)
		time.Sleep(time.Second)
		c.wantState(Streaming)
		c.primary.want(t, "new1", "old1", "new2", "old2")
		c.end()
	})
}

func TestAHangingPrimaryLeavesTimeForTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{})
		c.primary.hang = true
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		rest, err := c.Append(ctx, c.batch("a"))
		if rest != nil || err != nil {
			t.Fatalf("%v, %v", rest, err)
		}
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("the primary had %v of 5 s", took)
		}
		c.wantState(Disconnected)
		c.end()
	})
}

func TestACallerThatLeavesIsNotThePrimarysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{})
		c.primary.hang = true
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		b := c.batch("a")
		rest, err := c.Append(ctx, b)
		if rest != b || !errors.Is(err, context.Canceled) || len(b.Taken) != 0 {
			t.Errorf("%v, %v, %v", rest, err, b.Taken)
		}
		c.wantState(Streaming)
		c.end()
	})
}

// The receiver takes a piece in 100 ms, messages come as fast as they are
// taken: the spool gets empty all the same, and all of it is in order.
func TestTheSpoolEmptiesWhileMessagesKeepComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{})
		c.primary.refuse = away
		var want []string
		n := 0
		put := func() {
			m := numbered(n, n+10)
			c.put(m...)
			want = append(want, m...)
			n += 10
		}
		for range 50 {
			put()
		}
		c.primary.set(func() { c.primary.refuse, c.primary.delay = nil, 100*time.Millisecond })
		time.Sleep(5 * time.Second)
		c.tick()
		synctest.Wait()
		puts := 0
		for c.Status().State == SendingBuffer {
			put()
			puts++
			if puts > 60 {
				t.Fatalf("%d batches came meanwhile, and %d messages wait", puts, c.Status().Waiting)
			}
		}
		put()
		c.primary.want(t, want...)
		if puts < 40 {
			t.Errorf("only %d batches were taken while 50 were sent", puts)
		}
		c.end()
	})
}

func TestAMessageStoredAtAStopIsSentByTheNextStart(t *testing.T) {
	fsys := memfs.New()
	for start := uint32(1); start <= 4; start++ {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, setup{fs: fsys, start: start})
			if start > 1 {
				c.wantState(SendingBuffer)
			}
			if start < 4 {
				c.primary.refuse = away
				c.put(numbered(int(start)*10, int(start)*10+3)...)
				c.end()
				if !c.primary.closed {
					t.Error("the primary is not closed")
				}
				return
			}
			c.tick()
			synctest.Wait()
			c.wantState(Streaming)
			c.primary.want(t, "m10", "m11", "m12", "m20", "m21", "m22", "m30", "m31", "m32")
			for i, b := range c.primary.batches {
				if b.Origin == nil || b.Origin.Start != uint32(i+1) || b.First != 1 || b.Chain != 7 || b.Category != "web" {
					t.Errorf("batch %d: %+v, origin %+v", i, b, b.Origin)
				}
			}
			c.end()
		})
	}
}

// The disk hangs in an Append until its caller has left: the record lands behind
// the replay, and is sent all the same.
func TestARecordThatNobodyWaitedForIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := faultfs.New(memfs.New(), nil)
		c := open(t, setup{fs: faults, spool: SpoolOptions{Sync: true}})
		c.primary.refuse = away
		c.put("a")
		hang := make(chan struct{})
		faults.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Sync {
				<-hang
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Append(ctx, c.batch("b")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("an append that the disk does not answer: %v", err)
		}
		c.primary.set(func() { c.primary.refuse = nil })
		time.Sleep(3 * time.Second)
		c.tick()
		synctest.Wait()
		c.put("c")
		close(hang)
		synctest.Wait()
		c.wantState(Streaming)
		c.primary.want(t, "a", "c", "b")
		if used, _ := c.spools.Bytes(); used != 0 {
			t.Errorf("%d bytes are left", used)
		}
		c.end()
	})
}

// The replay runs dry while an Append is on its way to the spool: it waits for
// it, so that the next message does not overtake that one.
func TestTheReplayWaitsForAnAppendOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := faultfs.New(memfs.New(), nil)
		c := open(t, setup{fs: faults, spool: SpoolOptions{Sync: true}})
		c.primary.refuse = away
		c.put("a")
		c.primary.set(func() { c.primary.refuse, c.primary.delay = nil, 5*time.Second })
		time.Sleep(3 * time.Second)
		c.tick()
		synctest.Wait()
		hang := make(chan struct{})
		time.AfterFunc(10*time.Second, func() { close(hang) })
		meanwhile := make(chan State, 1)
		time.AfterFunc(8*time.Second, func() { meanwhile <- c.Status().State })
		faults.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Sync {
				<-hang
			}
			return nil
		})
		c.put("b")
		if got := <-meanwhile; got != SendingBuffer {
			t.Errorf("the state was %v while an append was on its way to the spool", got)
		}
		c.put("c")
		time.Sleep(20 * time.Second)
		c.primary.want(t, "a", "b", "c")
		c.end()
	})
}

func TestADiskThatHangsAtTheOpeningDoesNotHoldAnAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		faults := faultfs.New(memfs.New(), nil)
		c := open(t, setup{fs: faults})
		faults.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Mkdir {
				<-hang
			}
			return nil
		})
		c.primary.refuse = away
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			b, begun := c.batch("a"), time.Now()
			rest, err := c.Append(ctx, b)
			if rest != b || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
				t.Errorf("%v, rest %v, after %v", err, rest, time.Since(begun))
			}
			cancel()
		}
		close(hang)
		c.put("b")
		c.end()
	})
}

func TestTickDoesNotWaitForTheReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{})
		c.primary.refuse = away
		c.put("a")
		c.put("b")
		c.primary.set(func() { c.primary.refuse, c.primary.delay = nil, 5*time.Second })
		time.Sleep(3 * time.Second)
		c.tick()
		synctest.Wait()
		before, begun := c.primary.ticked(), time.Now()
		c.tick()
		if c.primary.ticked() != before || time.Since(begun) != 0 {
			t.Error("the tick went to a primary that is busy, or waited for it")
		}
		time.Sleep(20 * time.Second)
		if n := c.primary.ticked() - before; n != 1 {
			t.Errorf("the primary heard of %d ticks meanwhile, want one", n)
		}
		c.end()
	})
}
