package aggregator

import (
	"time"

	"twinscribe/store"
)

// take removes the next batch from the queue, if it is due. With ack stored it
// always is: the batch gathers while the one before it is being stored. With
// ack received it is once it is full, holds batch_bytes, or is batch_wait old;
// the clock tells of the last.
func (q *queue) take(drain bool) *batch {
	set := q.a.set.Load()
	q.c.mu.Lock()
	b := q.head
	if b == nil {
		q.c.mu.Unlock()
		return nil
	}
	if !q.stored && !drain && !q.closing && b.next == nil && q.pending < set.batchBytes {
		if wait := set.Queue.BatchWait; time.Since(b.began) < wait-early(wait) {
			listed := q.listed.Swap(true)
			due := b.began.Add(wait)
			q.c.mu.Unlock()
			if !listed {
				q.a.clock.add([]nudged{{q, nudgeTimer}}, due)
			}
			return nil
		}
	}
	defer q.c.mu.Unlock()
	if q.head = b.next; q.head == nil {
		q.tail = nil
	}
	b.next = nil
	b.out.Data, b.out.Ends = b.data, b.ends
	size := b.size()
	b.total = int(size.Messages)
	q.pending -= int(size.Bytes)
	q.lastBytes = min(int(size.Bytes), set.maxBatch)
	q.lastCount = b.total
	q.flying = b.began
	q.c.book.cut(size)
	return b
}

// ended says that nothing is left and nothing will come.
func (q *queue) ended() bool {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	return q.closing && q.head == nil
}

// took books what places took of b in one attempt.
func (q *queue) took(b *batch, sent Count, taken []store.Taken, failed bool) {
	if sent.Messages == 0 {
		taken = nil
	}
	b.stored += int(sent.Messages)
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	q.c.book.store(sent, taken)
	if !failed {
		q.flying = time.Time{}
	}
	q.unsettled.sub(sent)
	if failed && !q.stored && !q.lossy {
		q.c.book.retried += b.size().Messages
	}
}

// withdraw gives up what is left of b: nobody was told OK for it.
func (q *queue) withdraw(b *batch) {
	left := b.size()
	q.c.mu.Lock()
	q.c.book.withdraw(left)
	q.flying = time.Time{}
	q.unsettled.sub(left)
	q.c.mu.Unlock()
	q.settle(b)
}

// drop gives up what is left of b, as a lossy route says: its clients hear OK all
// the same, and the books call it dropped.
func (q *queue) drop(b *batch) {
	left := b.size()
	b.stored = b.total // what waiters go by
	q.c.mu.Lock()
	q.c.book.drop(left)
	q.flying = time.Time{}
	q.unsettled.sub(left)
	q.c.mu.Unlock()
	q.settle(b)
}

// settle gives the arena and the reserved bytes back and wakes the waiters.
// The books have it already.
func (q *queue) settle(b *batch) {
	q.a.arenas.put(b.data)
	q.a.offsets.put(b.ends)
	b.data, b.ends, b.out.Data, b.out.Ends = nil, nil, nil, nil
	q.c.bytes.Add(-b.charge)
	q.a.memory.Add(-b.charge)
	if b.done != nil {
		close(b.done)
		return
	}
	b.reset()
	q.spare.Store(b)
}

// fails notes what is wrong with the chain for the status; nil: nothing.
func (q *queue) fails(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	if text != "" && q.fault == "" {
		q.faultSince = time.Now()
	}
	q.fault = text
}

// opens makes the chain known to the status.
func (q *queue) opens(c Chain) {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	q.active, q.problem, q.busy = c.Active, c.Problem, c.Busy
	q.open = true
	q.eager.Store(false)
}
