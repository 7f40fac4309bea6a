package store

import (
	"math/rand/v2"
	"time"
)

// A Retry says how long something that failed is left alone. The zero value
// waits 2 s, doubling up to a minute while it fails again soon after.
//
// The other two are those of Scribe's buffer store. Every duration may be 0,
// whatever the others are; negative ones count as 0.
type Retry struct {
	// Fixed: Interval - Range/2 and up to Range more, drawn each time
	// (retry_interval, retry_interval_range). A Range above Interval counts as
	// Interval.
	Fixed           bool
	Interval, Range time.Duration

	// Adaptive: 1.414 times as long at each failure, and up to Offset more, drawn,
	// Max at most; 2 s shorter at each success, Min at least
	// (min_retry_interval, max_retry_interval, max_random_offset). It wins over
	// Fixed.
	Adaptive         bool
	Min, Max, Offset time.Duration
}

const (
	coolFirst = 2 * time.Second
	coolMost  = time.Minute

	adaptiveStep = 2 * time.Second // of Scribe, for one success
)

// A Wait is a Retry at work: for one thing that may fail. The zero Wait has the
// zero Retry and nothing to wait for. It belongs to one goroutine.
type Wait struct {
	retry  Retry
	failed time.Time // zero: it works
	wait   time.Duration
}

// Wait makes the state for one thing.
func (r Retry) Wait() Wait { return Wait{retry: r} }

// Active says whether it is still to be left alone.
func (w *Wait) Active(now time.Time) bool {
	if w.failed.IsZero() {
		return false
	}
	if w.retry.Fixed || w.retry.Adaptive {
		return now.Sub(w.failed) <= w.wait // Scribe waits until more than that has passed
	}
	return now.Sub(w.failed) < w.wait
}

// Failed begins the next wait.
func (w *Wait) Failed(now time.Time) {
	r := &w.retry
	switch {
	case r.Adaptive:
		longer := 1.414 * float64(max(w.wait, r.Min))
		w.wait = max(min(time.Duration(longer)+upTo(r.Offset), r.Max), 0)
	case r.Fixed:
		interval := max(r.Interval, 0)
		spread := min(max(r.Range, 0), interval)
		w.wait = interval - spread/2 + upTo(spread)
	case w.failed.IsZero() || now.Sub(w.failed) > 2*w.wait+coolMost:
		w.wait = coolFirst
	default:
		w.wait = min(2*w.wait, coolMost)
	}
	w.failed = now
}

// Succeeded notes that it works. What the zero Retry has grown to is forgotten
// with time only: something that fails now and then must not be asked each time.
func (w *Wait) Succeeded() {
	if w.retry.Adaptive {
		w.wait = max(w.wait-adaptiveStep, w.retry.Min, 0)
	}
}

// upTo draws from [0, d).
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
