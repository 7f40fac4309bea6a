package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/catalog"
)

// A FailoverPlace is one of the places of a Failover.
type FailoverPlace struct {
	Name   string // as the books and the status call it
	Place  Place
	Health Health // of what it writes to; nil: a fallback, always usable (the buffer)

	// Retry says how long a chain keeps away from a place with Health that failed
	// for this chain alone. A refusal that is ErrLater never begins such a wait.
	Retry Retry

	Quiet bool // what it refuses is no Problem of the chain's
}

// FailoverOptions of NewFailover.
type FailoverOptions struct {
	// Prefer says when a chain leaves a place that works for a cluster before it
	// in order: PreferNone (never) or PreferFirst (as soon as that one is usable).
	Prefer string

	// WriteTimeout is what one cluster gets for one batch at most; 2 s if 0. A
	// batch is stored or refused within WriteTimeout + 1 s after its Since.
	WriteTimeout time.Duration

	// Switched, if there is one, is called at each switch, by the goroutine that
	// drives the chain; it returns at once. why is one of the Why constants.
	Switched func(from, to, why string)

	Log *zap.Logger
}

// The values of FailoverOptions.Prefer.
const (
	PreferNone  = "none"
	PreferFirst = "first"
)

// Why a chain switches.
const (
	WhyFailed   = "failed"   // the active place failed or refused a batch
	WhyUnusable = "unusable" // the active cluster is not healthy and no working file is open there
	WhyDrained  = "drained"  // an operator drains the active cluster
	WhyDown     = "down"     // probes call the active cluster down while its open file still works
	WhyBack     = "back"     // a cluster is usable again, the chain leaves the fallback
	WhyPrefer   = "prefer"   // the preferred cluster is usable again
)

const (
	grace     = time.Second            // a batch's budget beyond WriteTimeout
	reserve   = 400 * time.Millisecond // of the budget, kept for the fallback
	leastTry  = 100 * time.Millisecond // a cluster is not asked for less
	idleAfter = 10 * time.Second       // a chain without a batch for so long moves without warming
)

// Failover writes to the first of its places that can take a batch: the active
// one, then the usable clusters after it in order, then the fallbacks. It
// stays where it is until that place fails, is drained or is called down by its
// probes, or a preferred one is usable again.
//
// A move that is planned (all but the first kind) has the new place warmed
// first, while batches go on to the old one, and happens at a batch's edge. On
// the way back from a fallback the batches of that moment go to the fallback.
// A chain's first batch, and the first one after an idle time, go straight to
// the place that is due, which opens its file within the batch's budget.
//
// One goroutine drives it, as every Store; Active and Status may be called by any.
type Failover struct {
	o         FailoverOptions
	places    []FailoverPlace
	clusters  []int  // indices of places with Health, in order
	fallbacks []int  // of the others
	cool      []Wait // a place that is usable for others failed for this chain

	active    int
	warming   int // the place that a planned move has warmed or is warming; -1: none
	warmSince time.Time
	partition catalog.Partition
	last      time.Time // of the last Append; zero: none yet
	closed    bool
	limit     logLimit

	mu    sync.Mutex // guards what follows, for Status
	stats FailoverStatus
}

// NewFailover makes a failover of one place or more. It begins at the first
// usable cluster.
func NewFailover(places []FailoverPlace, o FailoverOptions) *Failover {
	if len(places) == 0 {
		panic("store: a failover without places")
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 2 * time.Second
	}
	f := &Failover{o: o, places: places, cool: make([]Wait, len(places)), warming: -1}
	for i, p := range places {
		f.cool[i] = p.Retry.Wait()
		if p.Health != nil {
			f.clusters = append(f.clusters, i)
		} else {
			f.fallbacks = append(f.fallbacks, i)
		}
		f.stats.Places = append(f.stats.Places, PlaceStatus{Name: p.Name})
	}
	f.active, _ = f.goal(time.Now())
	f.stats.Active, f.stats.Since = places[f.active].Name, time.Now()
	return f
}

// Append implements Store. The error of a batch that nobody took wraps the
// cause that decides whether waiting helps: that of the last place asked which
// is not broken; ErrBroken only if that is all there is. When ctx ends it is
// ctx's error, and no place is blamed.
func (f *Failover) Append(ctx context.Context, b *Batch) (*Batch, error) {
	if f.closed {
		return b, fmt.Errorf("failover: closed: %w", ErrBroken)
	}
	if b.Len() == 0 {
		return nil, nil
	}
	now := time.Now()
	direct := now.Sub(f.last) >= idleAfter
	f.partition = b.Partition
	f.plan(now, direct)
	f.last = now

	a := newAttempt(ctx, f, b, now)
	a.run(ctx)
	switch {
	case a.rest == nil:
		f.settle(a)
		return nil, nil
	case ctx.Err() != nil:
		return a.rest, fmt.Errorf("failover: %w", ctx.Err())
	default:
		return a.rest, a.refusal()
	}
}

// Tick implements Store: it lets every place do what is due, and does the
// planned moves of a chain without traffic.
func (f *Failover) Tick(ctx context.Context, now time.Time) error {
	if f.closed {
		return nil
	}
	var errs []error
	for _, p := range f.places {
		if err := p.Place.Tick(ctx, now); err != nil {
			errs = append(errs, named(p.Name, err))
		}
	}
	if !f.last.IsZero() {
		at := time.Now()
		f.plan(at, at.Sub(f.last) >= idleAfter)
	}
	return errors.Join(errs...)
}

// named is an error with the name of its place in front, which the place may
// have put there already.
func named(name string, err error) error {
	if strings.HasPrefix(err.Error(), name+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Close implements Store. The places close side by side: one that waits for its
// cluster does not take the time of the others.
func (f *Failover) Close(ctx context.Context) error {
	if f.closed {
		return nil
	}
	f.closed = true
	errs := make([]error, len(f.places))
	var wg sync.WaitGroup
	for i, p := range f.places {
		wg.Go(func() {
			if err := p.Place.Close(ctx); err != nil {
				errs[i] = named(p.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
