package aggregator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store"
	"twinscribe/store/catalog"
)

const (
	// tickEvery is how often a chain hears of the time, also without traffic.
	tickEvery = time.Second

	// beyondWrite is what a batch may take beyond the write timeout, over all
	// places of its chain.
	beyondWrite = time.Second
)

// A driver is the goroutine of one queue: it cuts batches, hands them to the
// chain, settles those who wait, and tells the chain the time.
type driver struct {
	q *queue
	a *Aggregator

	chain     Chain
	next      uint64 // sequence of the next message
	partition catalog.Partition
	moves     time.Time // when the chain moves to the next partition
	senders   []string  // of the last batch, shared with later ones that have the same

	held     *batch // ack received: the one that the chain did not take
	stuck    bool   // its next attempt has no time: the chain is broken
	retry    *time.Timer
	retryDue time.Time
	failures int
	tick     *time.Timer
	ticked   atomic.Bool // the chain is to hear of the time

	budget budget // ack received: of the appends
}

func newDriver(q *queue) *driver {
	d := &driver{q: q, a: q.a, chain: q.opened, next: 1}
	d.retry = time.AfterFunc(time.Hour, q.signal)
	d.retry.Stop()
	d.tick = time.AfterFunc(rand.N(tickEvery), func() { // a thousand chains do not tick at once
		d.ticked.Store(true)
		q.signal()
	})
	return d
}

// run drives the queue to its end: a stop, its retirement, or a reload that
// gave the category another chain. life ends when everything is to be given
// up, appends a little earlier, when a stop turns to rescue.
func (d *driver) run(life, appends context.Context) {
	defer d.end(life)
	for {
		b := d.due()
		if b != nil {
			d.put(appends, b)
		}
		if d.ticked.Swap(false) {
			d.tell(life)
		}
		if b != nil {
			continue
		}
		if d.held == nil && d.q.ended() {
			return
		}
		select {
		case <-d.a.stopping:
			d.drain(life, appends)
			return
		default:
		}
		// Whatever else there is to do comes with a signal, so that a wait costs
		// one channel: a select over channels and timers costs more than a small
		// batch.
		<-d.q.wake
	}
}

// due returns the batch to hand to the chain now: the one that it did not take
// before, once its time has come, else the next of the queue.
func (d *driver) due() *batch {
	if d.held == nil {
		return d.cut(false)
	}
	if d.q.again.Swap(false) {
		d.stuck, d.retryDue = false, time.Time{}
	}
	if d.stuck || time.Now().Before(d.retryDue) {
		return nil
	}
	b := d.held
	d.held = nil
	return b
}

// cut takes the next batch of the queue and gives it what is only now known:
// its sequence, its partition, when its budget began.
func (d *driver) cut(drain bool) *batch {
	b := d.q.take(drain)
	if b == nil {
		return nil
	}
	o := &b.out
	o.Category, o.Chain, o.Partition = d.q.c.name, d.q.number, d.at(d.a.now())
	o.First = d.next
	d.next += uint64(o.Len())
	for i := range o.IDs {
		o.IDs[i].First += o.First
	}
	if !slices.Equal(d.senders, b.senders) {
		d.senders, b.senders = b.senders, nil // nobody adds to them any more: stores keep them
	}
	o.Senders = d.senders
	if d.q.stored {
		o.Since = b.began
	}
	d.a.batches.observe(b.size())
	return b
}

// at is the partition of a batch cut now. It moves on a while after the
// boundary, by a delay that is the chain's own, and never back, whatever the
// clock does.
func (d *driver) at(now time.Time) catalog.Partition {
	delay, period := catalog.EdgeDelay(d.q.number), d.q.route.period()
	switch {
	case d.partition == "":
		d.partition = period.At(now)
	case now.Before(d.moves):
		return d.partition
	default:
		d.partition = period.At(now.Add(-delay)) // at least the next one
	}
	end, err := d.partition.End()
	if err != nil {
		panic(fmt.Sprintf("aggregator: a partition of our own making: %v", err))
	}
	d.moves = end.Add(delay)
	return d.partition
}

// put hands b to the chain and settles it, or keeps it for another attempt.
func (d *driver) put(ctx context.Context, b *batch) {
	err := d.attempt(ctx, b)
	if err == nil {
		d.recovered()
		failpoint.Here("append.booked")
		d.q.settle(b)
		failpoint.Here("append.answered")
		return
	}
	drop := d.drops(ctx)
	d.failed(err, drop)
	switch {
	case drop:
		d.q.drop(b)
	case d.q.stored:
		d.q.withdraw(b)
	default:
		d.held = b
	}
}

// drops says whether what the chain has refused is given up at once: by a lossy
// route, and not because ctx, the time of a stop, was over.
func (d *driver) drops(ctx context.Context) bool { return d.q.lossy && ctx.Err() == nil }

// attempt hands b to the chain once and books what it took. After an error b
// is what is left of it.
func (d *driver) attempt(ctx context.Context, b *batch) error {
	before := b.size()
	unsent, err := d.append(ctx, &b.out)
	taken := b.out.Taken
	switch {
	case err == nil && unsent != nil && unsent.Len() > 0:
		err = errors.New("the chain gave messages back without an error")
	case err != nil && unsent == nil:
		unsent = &b.out // it did not say what it took: all of it goes out again
	}
	sent := before
	if err != nil {
		if unsent != &b.out {
			b.out = *unsent
		}
		b.out.Taken = nil
		sent.sub(b.size())
	}
	d.q.took(b, sent, taken, err != nil)
	return err
}

func (d *driver) append(ctx context.Context, o *store.Batch) (*store.Batch, error) {
	if err := d.open(); err != nil {
		return o, err
	}
	o.Taken = o.Taken[:0]
	now := time.Now()
	// The last place of a chain gets a write timeout of its own, however long
	// the oldest waiter has waited: what it has begun is in doubt.
	write := cmp.Or(d.q.route.Write, d.a.set.Load().Timeouts.Write)
	if o.Since.IsZero() {
		return d.chain.Store.Append(d.budget.until(ctx, now, now.Add(write+beyondWrite+write)), o)
	}
	until := o.Since.Add(write + beyondWrite + write)
	if least := now.Add(write); until.Before(least) {
		until = least
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return d.chain.Store.Append(ctx, o)
}

// open makes the chain, unless there is one.
func (d *driver) open() error {
	if d.chain.Store != nil {
		return nil
	}
	chain, err := d.q.route.Open(d.q.c.name, d.q.c.lane.Part, d.q.number)
	if err != nil {
		return fmt.Errorf("open the chain: %w", err)
	}
	d.chain = chain
	d.q.opens(chain)
	return nil
}

// budgetSlack is how much longer than meant a batch may take that nobody waits for.
const budgetSlack = 250 * time.Millisecond

// A budget is a context with a deadline that one append after another uses: to
// make one for each costs as much as all else of a small batch.
type budget struct {
	ctx    context.Context //nolint:containedctx // it serves the appends of budgetSlack
	parent context.Context //nolint:containedctx // what ctx was made from
	end    time.Time
	cancel context.CancelFunc
}

// until returns a context that ends at t or within budgetSlack of it, or with
// parent. It is valid until the next call.
func (b *budget) until(parent context.Context, now, t time.Time) context.Context {
	if b.ctx != nil && b.parent == parent && !t.After(b.end) && b.end.Sub(t) <= budgetSlack && now.Before(b.end) {
		return b.ctx
	}
	b.close()
	b.parent, b.end = parent, t.Add(budgetSlack)
	b.ctx, b.cancel = context.WithDeadline(parent, b.end)
	return b.ctx
}

func (b *budget) close() {
	if b.cancel != nil {
		b.cancel()
	}
	b.ctx = nil
}

// Backoff after a failed Append, doubling from the first to the last.
const (
	firstRetry, lastRetry    = 100 * time.Millisecond, 5 * time.Second
	firstRefusal, lastRefuse = 50 * time.Millisecond, 500 * time.Millisecond
)

// backoff is how long to wait after so many failures in a row: doubling, with
// up to a quarter on top, drawn, within the bounds.
func backoff(failures int, first, last time.Duration) time.Duration {
	d := first << min(failures-1, 16)
	if d <= 0 || d > last {
		d = last
	}
	return min(d+rand.N(d/4), last)
}

// failed notes that the chain did not take a batch. With ack stored, admission
// refuses for a moment: clients that come back at once do not drive the chain
// in a hot loop. With ack received the batch waits for its next attempt. Where it
// was dropped the queue goes on: those clients do not come back.
func (d *driver) failed(err error, dropped bool) {
	d.failures++
	hopeless := errors.Is(err, store.ErrBroken)
	switch {
	case dropped:
	case hopeless:
		d.stuck = true
		d.q.until.Store(broken)
	case d.q.stored:
		d.q.until.Store(int64(time.Since(d.a.base) + backoff(d.failures, firstRefusal, lastRefuse)))
	default:
		wait := backoff(d.failures, firstRetry, lastRetry)
		d.retryDue = time.Now().Add(wait)
		d.retry.Reset(wait)
	}
	d.q.fails(err)
	if ok, left := d.a.lines.allow(time.Now()); ok {
		d.a.log.Warn("a chain does not take a batch", zap.String("category", d.q.c.name),
			zap.Uint32("chain", d.q.number), zap.Int("failures", d.failures),
			zap.Bool("kept", !d.q.stored && !dropped), zap.Bool("broken", hopeless),
			zap.Int("lines_left_out", left), zap.Error(err))
	}
}

// recovered notes that the chain took a batch.
func (d *driver) recovered() {
	if d.failures == 0 {
		return
	}
	d.stuck = false
	d.q.until.Store(0)
	d.q.fails(nil)
	if ok, left := d.a.lines.allow(time.Now()); ok {
		d.a.log.Info("a chain takes batches again", zap.String("category", d.q.c.name),
			zap.Uint32("chain", d.q.number), zap.Int("failures", d.failures), zap.Int("lines_left_out", left))
	}
	d.failures = 0
}

// tell lets the chain do what is due.
func (d *driver) tell(ctx context.Context) {
	d.tick.Reset(tickEvery)
	var err error
	if d.q.eager.Load() {
		err = d.open()
		d.q.fails(err)
	}
	if d.chain.Store != nil {
		err = d.chain.Store.Tick(ctx, d.a.now())
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	if ok, left := d.a.lines.allow(time.Now()); ok {
		d.a.log.Warn("what was due at a chain failed", zap.String("category", d.q.c.name),
			zap.Uint32("chain", d.q.number), zap.Int("lines_left_out", left), zap.Error(err))
	}
}

// end closes the chain. What it says then is kept for Stop.
func (d *driver) end(life context.Context) {
	d.tick.Stop()
	d.retry.Stop()
	d.budget.close()
	if d.chain.Store != nil {
		ctx, cancel := context.WithTimeout(life, d.a.set.Load().Timeouts.Stop)
		err := d.chain.Store.Close(ctx)
		cancel()
		if err != nil {
			d.a.closeFailed(d.q, err)
		}
	}
	d.a.release(d.q)
}
