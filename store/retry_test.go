package store_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store"
)

// waitsFor is how long w keeps away after a failure at now, to the millisecond.
func waitsFor(t testing.TB, w *store.Wait, now time.Time) time.Duration {
	t.Helper()
	if !w.Active(now) {
		return 0
	}
	for d := time.Duration(0); d < time.Hour; d += 10 * time.Millisecond {
		if !w.Active(now.Add(d)) {
			return d
		}
	}
	t.Fatal("it waits for more than an hour")
	return 0
}

func TestWaitOfTheZeroRetryDoubles(t *testing.T) {
	w := store.Retry{}.Wait()
	now := time.Now()
	if w.Active(now) {
		t.Error("active before it ever failed")
	}
	for _, seconds := range []int{2, 4, 8, 16, 32, 60, 60} {
		want := time.Duration(seconds) * time.Second
		w.Failed(now)
		if got := waitsFor(t, &w, now); got != want {
			t.Errorf("%v, want %v", got, want)
		}
		now = now.Add(want)
		w.Succeeded() // does not shorten it
	}
	now = now.Add(3*time.Minute + time.Millisecond)
	w.Failed(now)
	if got := waitsFor(t, &w, now); got != 2*time.Second {
		t.Errorf("%v long after the last failure, want 2s", got)
	}
}

// TestScribesWaitsStayWithinTheirBounds holds for every setting, zeros and
// negative ones included.
func TestScribesWaitsStayWithinTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(-1, 20).Draw(t, "seconds")) * time.Second
		})
		now := time.Now()
		within := func(w *store.Wait, least, most time.Duration) {
			t.Helper()
			w.Failed(now)
			if !w.Active(now.Add(least)) {
				t.Fatalf("over after %v already", least)
			}
			if w.Active(now.Add(most + 1)) {
				t.Fatalf("still waiting after %v", most)
			}
		}
		fixed := store.Retry{Fixed: true, Interval: d.Draw(t, "interval"), Range: d.Draw(t, "range")}
		w := fixed.Wait()
		interval := max(fixed.Interval, 0)
		spread := min(max(fixed.Range, 0), interval)
		for range 3 {
			within(&w, interval-spread/2, interval-spread/2+spread)
		}
		r := store.Retry{Adaptive: true, Fixed: true, Min: max(d.Draw(t, "min"), 0), Max: d.Draw(t, "max"), Offset: d.Draw(t, "offset")}
		r.Max = max(r.Max, r.Min)
		w = r.Wait()
		for range 5 {
			within(&w, r.Min, r.Max)
		}
		for range 20 {
			w.Succeeded()
		}
		r.Offset = max(r.Offset, 0)
		within(&w, min(r.Min*1414/1000, r.Max), min(r.Min*1415/1000+r.Offset, r.Max))
	})
}

func TestAdaptiveWaitGrowsAndShrinksAsScribes(t *testing.T) {
	w := store.Retry{Adaptive: true, Min: 5 * time.Second, Max: 10 * time.Second}.Wait()
	now := time.Now()
	for _, millis := range []int{7070, 9996, 10000, 10000} {
		want := time.Duration(millis) * time.Millisecond
		w.Failed(now)
		if w.Active(now.Add(want+2*time.Millisecond)) || !w.Active(now.Add(want-2*time.Millisecond)) {
			t.Errorf("not %v", want)
		}
	}
	w.Succeeded() // 8 s
	w.Failed(now)
	if !w.Active(now.Add(10*time.Second)) || w.Active(now.Add(10*time.Second+1)) {
		t.Error("8 s x 1.414 is not cut to 10 s")
	}
}
