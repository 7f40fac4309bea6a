package files

import (
	"context"
	"sync"
	"time"
)

// A queue hands work from chains, which never wait, to the goroutines of a
// Root. Its length is bounded by the number of files there are.
type queue[T any] struct {
	mu    sync.Mutex // memory only
	first []T        // what somebody waits for
	ready []T
	later []timed[T]
	wake  chan struct{}
}

type timed[T any] struct {
	what T
	at   time.Time
}

func (q *queue[T]) init() { q.wake = make(chan struct{}, 1) }

func (q *queue[T]) put(x T) {
	q.mu.Lock()
	q.ready = append(q.ready, x)
	q.mu.Unlock()
	q.signal()
}

// hurry puts x before all that is there by put.
func (q *queue[T]) hurry(x T) {
	q.mu.Lock()
	q.first = append(q.first, x)
	q.mu.Unlock()
	q.signal()
}

// putLater makes x ready after a while.
func (q *queue[T]) putLater(x T, after time.Duration) {
	q.mu.Lock()
	q.later = append(q.later, timed[T]{x, time.Now().Add(after)})
	q.mu.Unlock()
	q.signal()
}

func (q *queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// drain takes everything.
func (q *queue[T]) drain() (all []T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all = append(append(all, q.first...), q.ready...)
	for _, l := range q.later {
		all = append(all, l.what)
	}
	q.first, q.ready, q.later = nil, nil, nil
	return all
}

// work calls do for one after another until ctx ends. Several may work.
func (q *queue[T]) work(ctx context.Context, do func(context.Context, T)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		x, ok, wait := q.take()
		if ok {
			do(ctx, x)
			continue
		}
		timer.Reset(wait)
		select {
		case <-q.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	q.signal() // this goroutine may have swallowed the word for another one
}

// take gives the next one, or how long there will be none.
func (q *queue[T]) take() (x T, ok bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait = time.Hour
	now := time.Now()
	kept := q.later[:0]
	for _, l := range q.later {
		if d := l.at.Sub(now); d > 0 {
			kept = append(kept, l)
			wait = min(wait, d)
		} else {
			q.ready = append(q.ready, l.what)
		}
	}
	clear(q.later[len(kept):])
	q.later = kept
	switch {
	case len(q.first) > 0:
		x, q.first = pop(q.first)
	case len(q.ready) > 0:
		x, q.ready = pop(q.ready)
	default:
		return x, false, wait
	}
	if len(q.first)+len(q.ready) > 0 {
		q.signal()
	}
	return x, true, 0
}

func pop[T any](s []T) (T, []T) {
	x := s[0]
	var zero T
	s[0] = zero
	return x, s[1:]
}
