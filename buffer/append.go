package buffer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"twinscribe/buffer/record"
)

// lane writes the records of one reason, one open segment after another. Its
// goroutine begins with the first record and ends at Close.
type lane struct {
	b      *Buffer
	reason Reason
	wake   chan struct{} // one slot

	// Under the buffer's mutex:
	started bool
	queue   []*request
	pending int64     // bytes of the queue and of the group being written
	since   time.Time // when the write under way began; zero: none is
	bad     time.Time // until then no write is tried
	badErr  error

	// Of the goroutine alone:
	cur   *segment
	w     *writer
	group []*request
	parts [][]byte
}

// request is one Append, or one Seal (frame is empty) on its way.
type request struct {
	frame    []byte // header, body, padding
	body     int    // length of the body
	key      partKey
	first    uint64
	messages int
	bytes    int64
	copied   int64         // of the bytes that may be copied at once, held until it is recycled
	done     chan struct{} // one slot: it is answered

	// Under the buffer's mutex:
	taken    bool // the lane writes it
	left     bool // nobody waits
	answered bool
	err      error // the answer
}

// maxPooled is the largest frame that is kept for the next Append: a batch of
// the usual size with its end offsets.
const maxPooled = 8 << 20

func (b *Buffer) newRequest() *request {
	q, ok := b.requests.Get().(*request)
	if !ok {
		return &request{done: make(chan struct{}, 1)}
	}
	*q = request{frame: q.frame[:0], done: q.done}
	return q
}

func (b *Buffer) recycle(q *request) {
	b.giveBack(q)
	if cap(q.frame) <= maxPooled {
		q.key = partKey{} // the strings are the caller's
		b.requests.Put(q)
	}
}

// copying bounds the bytes of records that are made and not written yet: in an
// outage every queue has a batch under way, and each is copied into its record.
const copying = 32 << 20

// begin waits until a record of n bytes may be made. One that would be refused
// is refused before that.
func (b *Buffer) begin(ctx context.Context, reason Reason, n int64) error {
	b.mu.Lock()
	err := b.admit(&b.lanes[reason], n)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if err := b.copies.Acquire(ctx, min(n, copying)); err != nil {
		b.mu.Lock()
		b.stats.Failed++
		b.mu.Unlock()
		return fmt.Errorf("the disk did not answer: %w", err)
	}
	return nil
}

// giveBack ends what begin began.
func (b *Buffer) giveBack(q *request) {
	if q.copied > 0 {
		b.copies.Release(q.copied)
		q.copied = 0
	}
}

var (
	zeroHeader [record.HeaderSize]byte
	errLeft    = errors.New("it may be stored all the same")
)

// Append stores r: nil means that it is as durable as Options.Sync says.
// Records of many callers share one sync. r is the caller's again when Append
// returns, also where ctx ended while the disk hung; then r may be stored or
// not. Every other error means that it is not.
//
// errors.Is(err, ErrFull): a limit is reached. ErrRecord: r cannot be stored.
func (b *Buffer) Append(ctx context.Context, reason Reason, r *Record) error {
	if !reason.valid() {
		return fmt.Errorf("buffer %s: append: %w: %v", b.dir, ErrRecord, reason)
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("buffer %s: append %q: %w", b.dir, r.Category, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("buffer %s: append %q: %w", b.dir, r.Category, err)
	}
	size := record.Size(r.bodySize())
	if err := b.begin(ctx, reason, size); err != nil {
		return fmt.Errorf("buffer %s: append %q: %w", b.dir, r.Category, err)
	}
	q := b.newRequest()
	q.copied = min(size, copying)
	q.body = r.bodySize()
	if cap(q.frame) < int(size) {
		q.frame = make([]byte, 0, size)
	}
	q.frame = append(q.frame, zeroHeader[:]...)
	q.frame = r.appendBody(q.frame, reason)
	q.frame = append(q.frame, record.Padding(q.body)...)
	q.key = partKey{r.Category, r.Chain, r.Partition}
	q.first, q.messages, q.bytes = r.First, len(r.Ends), int64(len(r.Data))
	if err := b.enqueue(reason, q); err != nil {
		b.recycle(q)
		return fmt.Errorf("buffer %s: append %q: %w", b.dir, r.Category, err)
	}
	if err := b.await(ctx, reason, q); err != nil {
		return fmt.Errorf("buffer %s: append %q: %w", b.dir, r.Category, err)
	}
	return nil
}

// Seal ends the open segment of a reason, behind everything that was appended
// before. Without one, or with one that holds nothing, it does nothing.
func (b *Buffer) Seal(ctx context.Context, reason Reason) error {
	if !reason.valid() {
		return fmt.Errorf("buffer %s: seal: %v", b.dir, reason)
	}
	q := b.newRequest()
	err := b.enqueue(reason, q)
	if err == nil {
		err = b.await(ctx, reason, q)
	}
	if err != nil {
		return fmt.Errorf("buffer %s: seal %v: %w", b.dir, reason, err)
	}
	return nil
}

// enqueue admits a request, by the limits.
func (b *Buffer) enqueue(reason Reason, q *request) error {
	l := &b.lanes[reason]
	err := b.admitTo(l, q)
	if err == nil {
		l.poke()
	}
	return err
}

func (b *Buffer) admitTo(l *lane, q *request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	n := int64(len(q.frame))
	if n > 0 {
		if err := b.admit(l, n); err != nil {
			return err
		}
	}
	b.used += n
	b.byReason[l.reason] += n
	l.pending += n
	l.queue = append(l.queue, q)
	if !l.started {
		l.started = true
		b.writers.Go(l.run)
	}
	return nil
}

// admit checks the limits for n more bytes; with the mutex held. What a file
// needs beside its records comes out of the reserve.
func (b *Buffer) admit(l *lane, n int64) error {
	if limit := b.o.MaxBytes - b.o.MaxBytes/reserveShare; b.used+n > limit {
		b.stats.Refused++
		return fmt.Errorf("%w: %d bytes of %d are in use (max_bytes less 5 %%): ship or forget segments, or raise max_bytes", ErrFull, b.used, limit)
	}
	if limit := b.o.ReasonLimit[l.reason]; limit > 0 && b.byReason[l.reason]+n > limit {
		b.stats.Refused++
		return fmt.Errorf("%w: %d bytes of %d for %v are in use: forget segments or raise the limit", ErrFull, b.byReason[l.reason], limit, l.reason)
	}
	if !l.bad.IsZero() && time.Now().Before(l.bad) {
		b.stats.Failed++
		return fmt.Errorf("the disk failed a moment ago: %w", l.badErr)
	}
	if !l.since.IsZero() && time.Since(l.since) > stallPatience {
		b.stats.Failed++
		return fmt.Errorf("the disk has not answered for %v", time.Since(l.since).Round(time.Second))
	}
	return nil
}

// await waits for the answer. A request that nobody has begun to write is
// taken back when ctx ends.
func (b *Buffer) await(ctx context.Context, reason Reason, q *request) error {
	select {
	case <-q.done:
		err := q.err
		b.recycle(q)
		return err
	case <-ctx.Done():
	}
	b.mu.Lock()
	if q.answered { // just now; its signal is under way, so it is not used again
		b.mu.Unlock()
		b.giveBack(q)
		return q.err
	}
	b.stats.Failed++
	if q.taken {
		q.left = true // the lane recycles it
		b.mu.Unlock()
		return fmt.Errorf("the disk did not answer: %w; %w", ctx.Err(), errLeft)
	}
	l := &b.lanes[reason]
	for i := range l.queue {
		if l.queue[i] == q {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			break
		}
	}
	b.release(l, int64(len(q.frame)))
	b.mu.Unlock()
	b.recycle(q)
	return fmt.Errorf("the disk did not answer: %w", ctx.Err())
}

// release takes back what enqueue counted; with the mutex held.
func (b *Buffer) release(l *lane, n int64) {
	b.used -= n
	b.byReason[l.reason] -= n
	l.pending -= n
}

// poke wakes the goroutine.
func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes what is queued until the buffer is closed and the queue is empty.
func (l *lane) run() {
	for {
		// Callers that are about to come belong to this group: without this one
		// of them and this goroutine can hand a processor to and fro.
		runtime.Gosched()
		group, closed := l.take()
		switch {
		case len(group) == 0 && closed:
			if err := l.seal(); err != nil {
				l.b.log.Error("buffer: a segment could not be sealed at the end; the next start does it",
					zapReason(l.reason), zapError(err))
			}
			return
		case len(group) == 0:
			<-l.wake
		case len(group[0].frame) == 0:
			l.settle(group, l.seal())
		default:
			l.settle(group, l.commit(group))
		}
	}
}

// take removes the next group from the queue: records up to GroupBytes, one at
// least, or one Seal. It never waits for more: what comes while this group is
// synced is the next one.
func (l *lane) take() (group []*request, closed bool) {
	b := l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	group = l.group[:0]
	var bytes int64
	for _, q := range l.queue {
		n := int64(len(q.frame))
		full := b.o.Sync == SyncEach || bytes+n > b.o.GroupBytes
		if len(group) > 0 && (n == 0 || full) {
			break
		}
		q.taken = true
		group = append(group, q)
		bytes += n
		if n == 0 {
			break
		}
	}
	rest := copy(l.queue, l.queue[len(group):])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	l.group = group
	if len(group) > 0 {
		l.since = time.Now()
	}
	return group, b.closed
}

// settle answers a group. Records that were written are counted in their
// segment by now; of the others nothing is left to count.
func (l *lane) settle(group []*request, err error) {
	b := l.b
	b.mu.Lock()
	l.since = time.Time{}
	for i, q := range group {
		n := int64(len(q.frame))
		switch {
		case n == 0:
		case err == nil:
			l.pending -= n
			b.stats.Records++
			b.stats.Messages += int64(q.messages)
		default:
			b.release(l, n)
			if errors.Is(err, ErrFull) {
				b.stats.Refused++
			} else if !q.left {
				b.stats.Failed++
			}
		}
		q.answered, q.err = true, err
		if q.left {
			b.recycle(q)
			group[i] = nil
		}
	}
	b.mu.Unlock()
	for i, q := range group {
		if q != nil {
			q.done <- struct{}{}
		}
		group[i] = nil
	}
}
