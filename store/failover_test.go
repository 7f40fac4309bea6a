package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/store"
	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
)

// TestABatchIsSettledInTimeWithAHundredChains hangs both clusters under a
// hundred busy chains, each batch having waited a little already.
func TestABatchIsSettledInTimeWithAHundredChains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chains, batches = 100, 20
		all, stop := sites(t, 2, 300*time.Millisecond)
		defer stop()
		var mu sync.Mutex
		var slowest, slowestKnown time.Duration // since it arrived; of those begun while both were known to be ill
		known := 0
		var wg sync.WaitGroup
		hang := time.Now().Add(time.Second)
		for i := range chains {
			wg.Go(func() {
				n1, n2 := all[0].newPlace(300*time.Millisecond), all[1].newPlace(300*time.Millisecond)
				_, last := newBuffer()
				f := store.NewFailover([]store.FailoverPlace{
					{Name: "n1", Place: n1, Health: all[0].health}, {Name: "n2", Place: n2, Health: all[1].health}, last,
				}, store.FailoverOptions{Log: zap.NewNop()})
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				for k := range batches {
					if time.Now().After(hang) {
						n1.Always(storetest.Step{Hang: true})
						n2.Always(storetest.Step{Hang: true})
					}
					waited := time.Duration(i%5) * 100 * time.Millisecond
					b := storetest.Batch(uint64(k+1), "m")
					begun := time.Now()
					b.Since = begun.Add(-waited)
					ill := !all[0].health.Usable() && !all[1].health.Usable()
					if _, err := f.Append(t.Context(), b); err != nil {
						t.Error(err)
					}
					took := time.Since(begun)
					mu.Lock()
					if ill {
						known++
						slowestKnown = max(slowestKnown, took)
					}
					slowest = max(slowest, took+waited)
					mu.Unlock()
					time.Sleep(max(0, 200*time.Millisecond-took))
				}
			})
		}
		time.Sleep(time.Second)
		for _, s := range all {
			s.hung()
		}
		wg.Wait()
		if slowest > 3*time.Second {
			t.Errorf("slowest batch: %v since it arrived, want at most write_timeout + 1 s", slowest)
		}
		if known < chains*batches/4 {
			t.Errorf("only %d batches began while both clusters were known to be ill", known)
		}
		if slowestKnown > 0 {
			t.Errorf("a batch that began after the first failures took %v, want it to ask no hung cluster", slowestKnown)
		}
	})
}

func TestTheCallersEndBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, stop := sites(t, 2, 0)
		defer stop()
		b, last := newBuffer()
		f := store.NewFailover([]store.FailoverPlace{all[0].at(), all[1].at(), last}, store.FailoverOptions{Log: zap.NewNop()})
		all[0].place.Then(storetest.Step{Hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		batch := storetest.Batch(1, "m")
		rest, err := f.Append(ctx, batch)
		if !errors.Is(err, context.Canceled) || rest != batch {
			t.Fatalf("rest %v, error %v; want the batch and the context's error", rest, err)
		}
		if f.Active() != "n1" || f.Status().Places[0].Failures != 0 {
			t.Errorf("at %s after the caller's end, %d failures; want n1 and none", f.Active(), f.Status().Places[0].Failures)
		}
		if n := len(b.Kept()) + len(all[1].place.Kept()); n > 0 {
			t.Errorf("%d batches went on after the caller's end", n)
		}
		if _, err := f.Append(t.Context(), batch); err != nil || batch.Taken[0].Place != "n1" {
			t.Errorf("the next append: %v, taken by %v; want n1", err, batch.Taken)
		}
	})
}

func TestTheCallersDeadlineIsSharedLikeTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, stop := sites(t, 1, 0)
		defer stop()
		_, last := newBuffer()
		f := store.NewFailover([]store.FailoverPlace{all[0].at(), last}, store.FailoverOptions{Log: zap.NewNop()})
		all[0].hung()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		b := storetest.Batch(1, "m")
		if _, err := f.Append(ctx, b); err != nil || b.Taken[0].Place != "buffer" || time.Since(begun) != 600*time.Millisecond {
			t.Errorf("error %v, taken by %v after %v; want the buffer to get the last 400 ms of the caller's second", err, b.Taken, time.Since(begun))
		}
	})
}

func TestOnlyTheRestOfAPartGoesOn(t *testing.T) {
	part, last := storetest.NewMem("part", storetest.MemOptions{}), storetest.NewMem("last", storetest.MemOptions{})
	f := store.NewFailover([]store.FailoverPlace{{Name: "part", Place: part}, {Name: "last", Place: last}}, store.FailoverOptions{Log: zap.NewNop()})
	part.Then(storetest.Step{Err: errors.New("told to"), Take: 2})
	b := storetest.Batch(1, "a", "b", "c")
	if _, err := f.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(part.Messages(), []string{"a", "b"}) || !slices.Equal(last.Messages(), []string{"c"}) {
		t.Errorf("part has %q, last has %q; want a, b and c", part.Messages(), last.Messages())
	}
	if fmt.Sprint(b.Taken) != "[{part 2} {last 1}]" {
		t.Errorf("taken: %v", b.Taken)
	}

	last.Then(storetest.Step{Err: errors.New("told to")})
	part.Then(storetest.Step{Err: errors.New("told to"), Take: 1})
	b = storetest.Batch(4, "d", "e")
	rest, err := f.Append(t.Context(), b)
	if err == nil || rest.First != 5 || fmt.Sprint(b.Taken) != "[{part 1}]" {
		t.Errorf("rest from %d, error %v, taken %v; want the second message back and the first with part", rest.First, err, b.Taken)
	}
}

func TestBrokenDecidesOnlyIfNothingElseIsWrong(t *testing.T) {
	soft := errors.New("input/output error")
	for _, c := range []struct {
		places []error
		broken bool
		is     error
	}{
		{[]error{store.ErrBroken, store.ErrBroken}, true, store.ErrBroken},
		{[]error{soft, store.ErrBroken}, false, soft},
		{[]error{store.ErrBroken, soft}, false, soft},
		{[]error{soft, store.ErrFull}, false, store.ErrFull},
	} {
		var places []store.FailoverPlace
		for i, err := range c.places {
			m := storetest.NewMem(fmt.Sprint("p", i), storetest.MemOptions{})
			m.Always(storetest.Step{Err: err})
			places = append(places, store.FailoverPlace{Name: fmt.Sprint("p", i), Place: m})
		}
		f := store.NewFailover(places, store.FailoverOptions{Log: zap.NewNop()})
		_, err := f.Append(t.Context(), storetest.Batch(1, "m"))
		if !errors.Is(err, c.is) || errors.Is(err, store.ErrBroken) != c.broken {
			t.Errorf("%v: %v; want it to be %v, broken %v", c.places, err, c.is, c.broken)
		}
		for i := range c.places {
			if !strings.Contains(err.Error(), fmt.Sprintf("p%d: ", i)) {
				t.Errorf("%v does not name p%d", err, i)
			}
		}
	}
}

func TestABrokenBufferIsNoReasonNotToWaitForAClusterThatIsHeldOff(t *testing.T) {
	h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
	h.Failed(errors.New("append: deadline exceeded"))
	m := storetest.NewMem("buffer", storetest.MemOptions{})
	m.Always(storetest.Step{Err: store.ErrBroken})
	f := store.NewFailover([]store.FailoverPlace{
		{Name: "n1", Place: storetest.NewMem("n1", storetest.MemOptions{Observer: h}), Health: h}, {Name: "buffer", Place: m},
	}, store.FailoverOptions{Log: zap.NewNop()})
	if _, err := f.Append(t.Context(), storetest.Batch(1, "m")); errors.Is(err, store.ErrBroken) || !errors.Is(err, cluster.ErrHeld) {
		t.Errorf("%v; want it to be cluster.ErrHeld, and not broken", err)
	}
}

// waits blocks its Close until ctx ends, and fails its Tick.
type waits struct{ *storetest.Mem }

func (waits) Close(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (waits) Tick(context.Context, time.Time) error { return errors.New("seal: no space left") }

func TestClosingOnePlaceDoesNotTakeTheTimeOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var places []store.FailoverPlace
		for _, name := range []string{"n1", "n2"} {
			places = append(places, store.FailoverPlace{Name: name, Place: waits{storetest.NewMem(name, storetest.MemOptions{})}})
		}
		m, last := newBuffer()
		f := store.NewFailover(append(places, last), store.FailoverOptions{Log: zap.NewNop()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		err := f.Close(ctx)
		if time.Since(begun) != time.Second || !strings.Contains(fmt.Sprint(err), "n1: ") || !strings.Contains(fmt.Sprint(err), "n2: ") {
			t.Errorf("closed after %v with %v; want both places named after one second", time.Since(begun), err)
		}
		if _, err := m.Append(t.Context(), storetest.Batch(1, "m")); !errors.Is(err, store.ErrBroken) {
			t.Errorf("the buffer's place is not closed: %v", err)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestTickNamesThePlaceThatCouldNotDoItsWork(t *testing.T) {
	m, last := newBuffer()
	f := store.NewFailover([]store.FailoverPlace{{Name: "n1", Place: waits{storetest.NewMem("n1", storetest.MemOptions{})}}, last}, store.FailoverOptions{Log: zap.NewNop()})
	if err := f.Tick(t.Context(), time.Now()); err == nil || err.Error() != "n1: seal: no space left" {
		t.Errorf("tick: %v", err)
	}
	if _, _, _, ticks := m.Calls(); ticks != 1 {
		t.Errorf("the place after the one that failed ticked %d times, want 1", ticks)
	}
}

func TestFailuresAreLoggedAtARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		broken := storetest.NewMem("n1", storetest.MemOptions{})
		broken.Always(storetest.Step{Err: errors.New("told to")})
		h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
		_, last := newBuffer()
		f := store.NewFailover([]store.FailoverPlace{{Name: "n1", Place: broken, Health: h}, last}, store.FailoverOptions{Log: zap.New(core)})
		for i := range 60 * 5 {
			if _, err := f.Append(t.Context(), storetest.Batch(uint64(i+1), "m")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		if n := logs.Len(); n < 1 || n > 6 {
			t.Errorf("%d lines in a minute of failures, want a few", n)
		}
	})
}

func TestStatusMayBeReadWhileTheChainRuns(t *testing.T) {
	h := [2]*cluster.Health{}
	var places []store.FailoverPlace
	for i := range h {
		name := fmt.Sprint("n", i+1)
		h[i] = cluster.NewHealth(name, cluster.HealthOptions{Log: zap.NewNop()})
		places = append(places, store.FailoverPlace{Name: name, Health: h[i], Place: storetest.NewMem(name, storetest.MemOptions{Observer: h[i]})})
	}
	_, last := newBuffer()
	f := store.NewFailover(append(places, last), store.FailoverOptions{Prefer: store.PreferFirst, Log: zap.NewNop()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			h[i%2].SetDrained(i%3 == 0)
			if _, err := f.Append(t.Context(), storetest.Batch(uint64(i+1), "m")); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		select {
		case <-done:
			s := f.Status()
			var batches int64
			for _, p := range s.Places {
				batches += p.Batches
			}
			if batches != 2000 || s.Switches == 0 {
				t.Errorf("%d batches and %d switches, want 2000 and some", batches, s.Switches)
			}
			return
		default:
			if s := f.Status(); s.Active != "n1" && s.Active != "n2" && s.Active != "buffer" {
				t.Errorf("active: %q", s.Active)
			}
		}
	}
}

func BenchmarkFailoverAppend(b *testing.B) {
	h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
	f := store.NewFailover([]store.FailoverPlace{
		{Name: "n1", Place: store.NewNull(), Health: h}, {Name: "buffer", Place: store.NewNull()},
	}, store.FailoverOptions{Log: zap.NewNop()})
	messages := make([]string, 1000)
	for i := range messages {
		messages[i] = strings.Repeat("m", 200)
	}
	batch := storetest.Batch(1, messages...)
	b.Run("messages=1000/msg=200B", func(b *testing.B) {
		b.SetBytes(int64(len(batch.Data)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestFlappingClustersMoveAChainSeldom has two clusters go up and down in turn
// under a chain that writes all the time: at most two clusters are left in a
// minute, and every batch is stored in time.
func TestFlappingClustersMoveAChainSeldom(t *testing.T) {
	for _, phase := range []int{3, 10, 20, 35, 60, 90} {
		t.Run(fmt.Sprintf("phase=%ds", phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { flapUnderLoad(t, time.Duration(phase)*time.Second) })
		})
	}
}

func flapUnderLoad(t *testing.T, phase time.Duration) {
	all, stop := sites(t, 2, 200*time.Millisecond)
	defer stop()
	_, last := newBuffer()
	begun := time.Now()
	var left []time.Duration
	f := store.NewFailover([]store.FailoverPlace{all[0].at(), all[1].at(), last}, store.FailoverOptions{
		Log: zap.NewNop(),
		Switched: func(from, _, _ string) {
			if from != "buffer" {
				left = append(left, time.Since(begun))
			}
		},
	})
	for i := uint64(1); time.Since(begun) < 10*time.Minute; i++ {
		up := int(time.Since(begun) / phase % 2)
		all[up].heal()
		all[1-up].dead()
		at := time.Now()
		if _, err := f.Append(t.Context(), storetest.Batch(i, "m")); err != nil || time.Since(at) > 3*time.Second {
			t.Fatalf("batch %d: error %v after %v", i, err, time.Since(at))
		}
		time.Sleep(100 * time.Millisecond)
	}
	for i, at := range left {
		if i >= 2 && left[i-2] > 2*time.Minute && at-left[i-2] < time.Minute {
			t.Errorf("three clusters left within a minute: at %v, %v and %v", left[i-2], left[i-1], at)
		}
	}
}

func TestTheWayBackFromTheBufferTriesTheNextClusterWhereTheFirstOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, stop := sites(t, 2, 0)
		defer stop()
		all[0].place = all[0].newPlace(time.Hour) // it has files enough
		buffer, place := newBuffer()
		f := store.NewFailover([]store.FailoverPlace{all[0].at(), all[1].at(), place}, store.FailoverOptions{WriteTimeout: 2 * time.Second, Log: zap.NewNop()})
		defer f.Close(t.Context())
		all[1].dead()
		next := uint64(1)
		send := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				b := storetest.Batch(next, "message")
				next++
				if _, err := f.Append(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if err := f.Tick(t.Context(), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(time.Minute)
		if f.Active() != "buffer" || len(buffer.Kept()) == 0 {
			t.Fatalf("with a cluster that opens nothing and one that is dead the chain is at %s", f.Active())
		}
		all[1].heal()
		send(2 * time.Minute)
		if f.Active() != "n2" {
			t.Errorf("two minutes after n2 was back the chain is still at %s", f.Active())
		}
	})
}
