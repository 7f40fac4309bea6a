package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
)

// start runs the probes of a new Health until the test ends.
func start(t *testing.T, o cluster.HealthOptions, c cluster.Cluster) *cluster.Health {
	t.Helper()
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	h := cluster.NewHealth("n1", o)
	run(t, h, c)
	return h
}

func run(t *testing.T, h *cluster.Health, c cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { h.Run(ctx, c) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

var errLate = errors.New("append: deadline exceeded")

func TestHealthIsUsableBeforeItsFirstProbe(t *testing.T) {
	h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
	if !h.Usable() || !h.MayBegin() || h.Doubtful() {
		t.Errorf("usable %v, may begin %v, doubtful %v; want a new cluster to be healthy", h.Usable(), h.MayBegin(), h.Doubtful())
	}
}

func TestFailedMakesTheClusterUnusableBeforeItReturns(t *testing.T) {
	h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
	h.Failed(errLate)
	if h.Usable() || h.MayBegin() || !h.Doubtful() || h.Acknowledging() {
		t.Errorf("usable %v, may begin %v, doubtful %v, acknowledging %v; want no, no, yes, no",
			h.Usable(), h.MayBegin(), h.Doubtful(), h.Acknowledging())
	}
	h.Acknowledged()
	if h.Usable() {
		t.Error("an acknowledgement refutes a suspicion; only a block probe may")
	}
	if !h.Acknowledging() {
		t.Error("not acknowledging after an acknowledgement")
	}
}

func TestReturningLetsRepairWriteAndChainsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, cluster.HealthOptions{}, storetest.NewCluster("n1"))
		h.Failed(errLate)
		time.Sleep(time.Second)
		if h.State() != cluster.Returning {
			t.Fatalf("state %s, want returning", h.State())
		}
		if h.Usable() || !h.Reachable() || !h.MayBegin() || h.Doubtful() {
			t.Errorf("usable %v, reachable %v, may begin %v, doubtful %v; want no, yes, yes, no",
				h.Usable(), h.Reachable(), h.MayBegin(), h.Doubtful())
		}
	})
}

// slowBlock takes its time for a block probe and is always good.
type slowBlock struct {
	*storetest.Cluster
	takes time.Duration
}

func (c slowBlock) ProbeBlock(ctx context.Context) error {
	timer := time.NewTimer(c.takes)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func TestAGoodProbeRefutesOnlyWhatWasKnownWhenItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, cluster.HealthOptions{}, slowBlock{storetest.NewCluster("n1"), time.Second})
		time.Sleep(500 * time.Millisecond) // the first block probe is half way
		h.Failed(errLate)
		time.Sleep(time.Second) // it is good, but older than the failure
		if s := h.State(); s != cluster.Suspect {
			t.Fatalf("state %s after a probe that began before the failure, want suspect", s)
		}
		time.Sleep(2 * time.Second)
		if s := h.State(); s != cluster.Returning {
			t.Errorf("state %s after a probe that began later, want returning", s)
		}
	})
}

func TestProbesRunOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storetest.NewCluster("n1")
		start(t, cluster.HealthOptions{}, c)
		defer c.Release()
		for _, how := range []storetest.Condition{storetest.Hung, storetest.Stuck} {
			c.Set(how, how)
			time.Sleep(time.Minute)
		}
		if n := c.AtOnce(); n != 1 {
			t.Errorf("%d probes ran at once, want 1", n)
		}
	})
}

func TestRunReturnsAlthoughAProbeNeverDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storetest.NewCluster("n1")
		c.Set(storetest.Stuck, storetest.Stuck)
		h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			h.Run(ctx, c)
			close(done)
		}()
		time.Sleep(500 * time.Millisecond)
		cancel()
		select {
		case <-done:
		case <-time.After(3 * time.Second):
			t.Error("run has not returned 3 s after the end of its context")
		}
		c.Release()
	})
}

func TestStoppingIsNoBadSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storetest.NewCluster("n1")
		c.Set(storetest.Hung, storetest.Hung)
		h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			h.Run(ctx, c)
			close(done)
		}()
		time.Sleep(500 * time.Millisecond)
		cancel()
		<-done
		if s := h.Status(); s.State != cluster.Healthy || s.Blocks != 0 {
			t.Errorf("state %s after %d block probes; a probe that the stop ended must not count", s.State, s.Blocks)
		}
	})
}

func TestHealthSurvivesAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
		for _, how := range []storetest.Condition{storetest.Dead, storetest.Up} {
			c := storetest.NewCluster("n1")
			c.Set(how, how)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			h.Run(ctx, c)
			cancel()
		}
		if s := h.Status(); s.State != cluster.Returning || s.Falls != 1 {
			t.Errorf("%s with %d falls after a reload, want returning with 1", s.State, s.Falls)
		}
	})
}

func TestChangedIsClosedAtEachChange(t *testing.T) {
	h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
	for _, c := range []struct {
		what    string
		do      func()
		changes bool
	}{
		{"an acknowledgement", h.Acknowledged, false},
		{"a drain", func() { h.SetDrained(true) }, true},
		{"the same drain again", func() { h.SetDrained(true) }, false},
		{"its end", func() { h.SetDrained(false) }, true},
		{"a failure", func() { h.Failed(errLate) }, true},
		{"another failure", func() { h.Failed(errLate) }, false},
	} {
		changed := h.Changed()
		c.do()
		select {
		case <-changed:
			if !c.changes {
				t.Errorf("%s closed Changed", c.what)
			}
		default:
			if c.changes {
				t.Errorf("%s did not close Changed", c.what)
			}
		}
	}
}

func TestTimesInStatesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storetest.NewCluster("n1")
		h := start(t, cluster.HealthOptions{}, c)
		begun := time.Now()
		time.Sleep(20 * time.Second)
		c.Set(storetest.Dead, storetest.Dead)
		time.Sleep(20 * time.Second)
		c.Set(storetest.Up, storetest.Up)
		time.Sleep(5 * time.Second)
		s := h.Status()
		var sum time.Duration
		for state, d := range s.In {
			if d <= 0 {
				t.Errorf("no time in state %s", cluster.State(state))
			}
			sum += d
		}
		if sum != time.Since(begun) {
			t.Errorf("%v in all states together, want %v", sum, time.Since(begun))
		}
		if s.Switches() != 1 {
			t.Errorf("%d switches, want 1: it is not back yet", s.Switches())
		}
	})
}

// TestInStepWithTheProbesIsNotGood has a cluster be up in one half of each second
// only, the one in which probes that came each second would all fall. What is
// written there fails in the other half.
func TestInStepWithTheProbesIsNotGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storetest.NewCluster("n1")
		h := start(t, cluster.HealthOptions{}, c)
		time.Sleep(100 * time.Millisecond)
		h.Failed(errLate)
		for range 300 {
			time.Sleep(200 * time.Millisecond)
			c.Set(storetest.Dead, storetest.Dead)
			time.Sleep(250 * time.Millisecond)
			if h.Usable() {
				h.Failed(errLate)
			}
			time.Sleep(250 * time.Millisecond)
			c.Set(storetest.Up, storetest.Up)
			time.Sleep(300 * time.Millisecond)
		}
		if s := h.Status(); s.Returns > 1 { // the first run is 3 s, which may pass by chance
			t.Errorf("back %d times in 5 minutes, although it was away half of each second", s.Returns)
		}
	})
}

// TestTheOnlyClusterComesBackOnceAMinute has the only cluster fall each time just after it came back, when its hold-off
// has long grown beyond what is asked for while there is no other; then it stays up.
func TestTheOnlyClusterComesBackOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := storetest.NewCluster("n1")
		h := start(t, cluster.HealthOptions{}, c)
		flap := func(d time.Duration) {
			for begun := time.Now(); time.Since(begun) < d; {
				c.Set(storetest.Dead, storetest.Dead)
				time.Sleep(time.Second)
				c.Set(storetest.Up, storetest.Up)
				time.Sleep(33 * time.Second)
			}
		}
		flap(10 * time.Minute)
		before := h.Status().Switches()
		flap(2 * time.Hour)
		if n := h.Status().Switches() - before; n > 2*120+1 || n < 120 {
			t.Errorf("%d switches in two hours, want one to two a minute", n)
		}
		h.Failed(errLate)
		begun := time.Now()
		for !h.Usable() && time.Since(begun) < 2*time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(begun); d > time.Minute+2*time.Second {
			t.Errorf("back %v after the last fall, want a minute at most", d)
		}
	})
}

func TestAFlappingClusterDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		c := storetest.NewCluster("n1")
		h := start(t, cluster.HealthOptions{Log: zap.New(core)}, c)
		for range 300 {
			time.Sleep(time.Second)
			h.Failed(errLate)
		}
		if n := logs.Len(); n < 3 || n > 15 {
			t.Errorf("%d log lines in 300 s of one failure a second, want a few", n)
		}
	})
}

// TestFlappingClustersSwitchSeldom has two clusters go up and down in turn, so
// that never both are there: every phase is a chance to come back and fall again.
func TestFlappingClustersSwitchSeldom(t *testing.T) {
	for _, phase := range []int{1, 3, 5, 10, 15, 20, 25, 30, 33, 35, 40, 50, 60, 90, 120} {
		t.Run(fmt.Sprintf("phase=%ds", phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { flap(t, time.Duration(phase)*time.Second) })
		})
	}
}

func flap(t *testing.T, phase time.Duration) {
	var servers [2]*storetest.Cluster
	var health [2]*cluster.Health
	for i := range health {
		servers[i] = storetest.NewCluster(fmt.Sprint("n", i+1))
		health[i] = cluster.NewHealth(servers[i].Name(), cluster.HealthOptions{
			OtherUsable: func() bool { return health[1-i].Usable() },
			Log:         zap.NewNop(),
		})
	}
	for i := range health {
		run(t, health[i], servers[i])
	}
	var falls []time.Duration
	begun := time.Now()
	was := int64(0)
	for time.Since(begun) < 10*time.Minute {
		up := int(time.Since(begun) / phase % 2)
		servers[up].Set(storetest.Up, storetest.Up)
		servers[1-up].Set(storetest.Dead, storetest.Dead)
		time.Sleep(100 * time.Millisecond)
		if n := health[0].Status().Falls + health[1].Status().Falls; n > was {
			falls = append(falls, time.Since(begun))
			was = n
		}
	}
	for i, at := range falls {
		if at > 2*time.Minute && i >= 2 && falls[i-2] > 2*time.Minute && at-falls[i-2] < time.Minute {
			t.Errorf("three switches within a minute: %v, %v, %v", falls[i-2], falls[i-1], at)
		}
	}
	if phase >= 50*time.Second && len(falls) < 4 {
		t.Errorf("only %d switches in 10 minutes with phases of %v: the hold-off keeps a good cluster away while no other is usable", len(falls), phase)
	}
}

func TestHealthMayBeUsedByManyGoroutines(t *testing.T) {
	var health [2]*cluster.Health
	for i := range health {
		health[i] = cluster.NewHealth("n", cluster.HealthOptions{
			Every: time.Millisecond, SickEvery: time.Millisecond, HoldOff: 5 * time.Millisecond, HoldMax: 20 * time.Millisecond,
			OtherUsable: func() bool { return health[1-i].Usable() },
			Log:         zap.NewNop(),
		})
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for i, h := range health {
		wg.Go(func() { h.Run(ctx, storetest.NewCluster("n")) })
		for n := range 4 {
			wg.Go(func() {
				for k := 0; ctx.Err() == nil; k++ {
					h.Acknowledged()
					if k%1000 == 0 {
						h.Failed(errLate)
						h.SetDrained(n == 0 && k%3000 == 0)
						health[1-i].Status()
						h.Changed()
					}
					_ = h.Usable() && h.MayBegin() && h.Doubtful()
				}
			})
		}
	}
	wg.Wait()
	for _, h := range health {
		if s := h.Status(); s.Falls == 0 || s.Falls < s.Returns {
			t.Errorf("%d falls, %d returns", s.Falls, s.Returns)
		}
	}
}

func BenchmarkHealth(b *testing.B) {
	h := cluster.NewHealth("n1", cluster.HealthOptions{Log: zap.NewNop()})
	b.Run("call=acknowledged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.Acknowledged()
		}
	})
	b.Run("call=usable", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = h.Usable()
		}
	})
}
