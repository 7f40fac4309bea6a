package aggregator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
)

// stopPlan divides the budget of a stop.
type stopPlan struct {
	appends time.Time // until when chains are tried
	all     time.Time // until when batches are rescued and chains closed
}

// lastGrace is how long Stop waits, beyond its context, for chains that were
// told to give up.
const lastGrace = 250 * time.Millisecond

// Stop refuses calls from now on, hands what the queues hold to their chains,
// then to Options.Rescue, and closes the chains, all within ctx (without a
// deadline: the stop timeout). The batch that is in flight, or waits for
// another attempt, goes first. Three quarters of the time are for the chains.
//
// left is how many messages were acknowledged as received and are not durable:
// they are lost when the process ends. err says why, and what chains could not
// finish when they were closed.
func (a *Aggregator) Stop(ctx context.Context) (left int64, err error) {
	budget := a.set.Load().Timeouts.Stop
	if deadline, ok := ctx.Deadline(); ok {
		budget = time.Until(deadline)
	}
	a.halt(budget)
	over := time.NewTimer(budget)
	defer over.Stop()
	select {
	case <-a.done:
		return a.result()
	case <-ctx.Done():
	case <-over.C:
	}
	a.giveUpOnce.Do(func() { close(a.giveUp) })
	grace := time.NewTimer(lastGrace)
	defer grace.Stop()
	select {
	case <-a.done:
	case <-grace.C:
	}
	return a.result()
}

// halt refuses calls from now on and, when the last admitted one is in its
// queues, starts the drivers' last round.
func (a *Aggregator) halt(budget time.Duration) {
	a.gate.Lock() // waits for calls that are being copied
	a.mu.Lock()
	a.halted = true
	a.mu.Unlock()
	a.gate.Unlock()
	a.stopOnce.Do(func() {
		now := time.Now()
		a.plan = stopPlan{appends: now.Add(budget * 3 / 4), all: now.Add(budget * 19 / 20)}
		close(a.stopping)
	})
}

func (a *Aggregator) result() (left int64, err error) {
	a.mu.RLock()
	var errs []error
	for q := range a.queues {
		q.c.mu.Lock()
		if !q.stored && q.unsettled.Messages > 0 {
			left += q.unsettled.Messages
			errs = append(errs, fmt.Errorf("%v: %d received messages are not stored: %s", q.c, q.unsettled.Messages, q.fault))
		}
		q.c.mu.Unlock()
	}
	a.mu.RUnlock()
	a.closeMu.Lock()
	errs = append(errs, a.closeErrs...)
	a.closeMu.Unlock()
	const most = 20
	if more := len(errs) - most; more > 0 {
		errs = append(errs[:most:most], fmt.Errorf("and %d more", more))
	}
	return left, errors.Join(errs...)
}

// drain is the last round of a driver: what it holds, then what is queued, one
// attempt for each. What a client was told OK for goes to the rescue where the
// chain fails, and after the first failure without trying the chain again.
func (d *driver) drain(life, appends context.Context) {
	rescue := false
	for {
		b := d.held
		d.held = nil
		if b == nil {
			b = d.cut(true)
		}
		if b == nil {
			return
		}
		if d.q.stored {
			d.put(appends, b)
			continue
		}
		rescue = d.last(life, appends, b, rescue)
	}
}

// last stores b somewhere, or leaves it when the time is over. It reports
// whether the next batch goes to the rescue at once.
func (d *driver) last(life, appends context.Context, b *batch, rescue bool) bool {
	for try := 1; ; try++ {
		if !rescue && appends.Err() == nil {
			err := d.attempt(appends, b)
			if err == nil {
				d.recovered()
				d.q.settle(b)
				return false
			}
			drop := d.drops(appends)
			d.failed(err, drop)
			if drop {
				d.q.drop(b)
				return false
			}
		}
		if (d.a.rescue != nil || d.q.route.Rescue != nil) && life.Err() == nil {
			err := d.rescued(life, b)
			if err == nil {
				d.q.settle(b)
				return true
			}
			d.failed(err, false)
		}
		rescue = false
		if !pause(appends, backoff(try, firstRetry, lastRefuse)) {
			d.a.log.Error("received messages are left behind", zap.String("category", d.q.c.name),
				zap.Uint32("chain", d.q.number), zap.Int("messages", b.out.Len()))
			return true
		}
	}
}

func (d *driver) rescued(ctx context.Context, b *batch) error {
	b.out.Taken = nil
	rescue := d.a.rescue
	if own := d.q.route.Rescue; own != nil {
		rescue = func(ctx context.Context, b *store.Batch) error { return own(ctx, d.q.c.lane.Part, b) }
	}
	if err := rescue(ctx, &b.out); err != nil {
		return fmt.Errorf("keep a batch for the next start: %w", err)
	}
	d.q.took(b, b.size(), b.out.Taken, false)
	return nil
}

// pause waits, and reports whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (a *Aggregator) closeFailed(q *queue, err error) {
	a.log.Error("a chain did not finish when it was closed", zap.String("category", q.c.name),
		zap.Uint32("chain", q.number), zap.Error(err))
	a.closeMu.Lock()
	defer a.closeMu.Unlock()
	if len(a.closeErrs) < 100 {
		a.closeErrs = append(a.closeErrs, fmt.Errorf("%v: close the chain: %w", q.c, err))
	}
}

// release forgets a queue whose driver has ended, unless it left messages.
func (a *Aggregator) release(q *queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	if q.unsettled.Messages == 0 {
		delete(a.queues, q)
	}
}
