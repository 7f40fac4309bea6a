package aggregator

import (
	"context"
	"sync"
	"time"
)

// A clock wakes the drivers of queues with ack received once what has gathered
// there has waited long enough. One timer serves all queues: with a thousand
// small categories a timer for each costs more than their batches.
type clock struct {
	base time.Time

	mu    sync.Mutex
	timer *time.Timer // set for the first of due; nobody resets it without the mutex
	due   []appointment
	woken []*queue // run's own
}

// An appointment is when a queue is looked at.
type appointment struct {
	q  *queue
	at time.Duration // since base
}

func newClock(base time.Time) *clock {
	c := &clock{base: base, timer: time.NewTimer(time.Hour)}
	c.timer.Stop()
	return c
}

// early is how much before its time a queue may be written, so that those that
// are due at nearly the same time are woken together.
func early(wait time.Duration) time.Duration { return wait / 8 }

// add notes when the queues are to be looked at of which the nudges say so.
func (c *clock) add(nudges []nudged, at time.Time) {
	when := at.Sub(c.base)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range nudges {
		if n.how == nudgeTimer {
			c.insert(appointment{n.q, when})
		}
	}
}

// insert keeps due sorted: nearly always the new one is the last. Needs mu.
func (c *clock) insert(n appointment) {
	c.due = append(c.due, n)
	i := len(c.due) - 1
	for ; i > 0 && c.due[i-1].at > n.at; i-- {
		c.due[i] = c.due[i-1]
	}
	c.due[i] = n
	if i == 0 {
		c.timer.Reset(n.at - time.Since(c.base))
	}
}

// run wakes queues until ctx ends or stop is closed.
func (c *clock) run(ctx context.Context, stop <-chan struct{}, ahead func() time.Duration) {
	for {
		select {
		case <-c.timer.C:
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		for _, q := range c.ring(ahead()) {
			q.listed.Store(false) // before the driver looks: it may list the queue again
			q.signal()
		}
		clear(c.woken)
	}
}

// ring takes the queues that are due, and those that are within a moment.
func (c *clock) ring(ahead time.Duration) []*queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = c.woken[:0]
	now := time.Since(c.base)
	n := 0
	for n < len(c.due) && c.due[n].at <= now+ahead {
		c.woken = append(c.woken, c.due[n].q)
		n++
	}
	left := copy(c.due, c.due[n:])
	clear(c.due[left:])
	if c.due = c.due[:left]; left > 0 {
		c.timer.Reset(c.due[0].at - now)
	}
	return c.woken
}
