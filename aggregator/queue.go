package aggregator

import (
	"slices"
	"sync/atomic"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

// Overhead of memory that admission counts beside the bytes of the messages:
// for each message its end offset with slack, for each category of a call its
// share of batch, sender and batch id. Many tiny messages cost what they cost.
const (
	messageOverhead = 16
	partOverhead    = 128
)

// Why a message is a dead letter.
const (
	noteBlank   = "blank category"
	noteName    = "category name of more than 65535 bytes"
	noteMessage = "message longer than limits.message"
)

// role is what a queue's messages are.
type role uint8

const (
	messages role = iota
	unroutedMessages
	deadLetters
)

// broken is the value of queue.until where only a reload or a stop tries again.
const broken = 1<<63 - 1

// A batch is being filled under its category's lock, then belongs to the
// goroutine that drives the queue. Its arena goes back to the slabs when it is
// settled; the struct does not, since waiters look at it afterwards.
type batch struct {
	out     store.Batch // complete once it is cut
	next    *batch
	data    []byte // the arena as it was cut, for the slabs
	ends    []uint32
	done    chan struct{} // closed when it is settled; nil with ack received
	began   time.Time     // arrival of its first message
	charge  int64         // bytes reserved for it
	total   int           // messages it was cut with
	stored  int           // of them, known before done is closed
	senders []string
	known   map[string]struct{} // the senders, where they are many

	sender1 [1]string      // room for the usual one
	taken1  [1]store.Taken // and for the usual answer
}

// manySenders is from when on a batch looks senders up in a table.
const manySenders = 16

func (b *batch) sender(s string) {
	if last := len(b.senders) - 1; last >= 0 && b.senders[last] == s {
		return
	}
	if b.known != nil {
		if _, ok := b.known[s]; ok {
			return
		}
		b.known[s] = struct{}{}
	} else if slices.Contains(b.senders, s) {
		return
	}
	b.senders = append(b.senders, s)
	if b.known == nil && len(b.senders) >= manySenders {
		b.known = make(map[string]struct{}, 2*manySenders)
		for _, s := range b.senders {
			b.known[s] = struct{}{}
		}
	}
}

func (b *batch) size() Count {
	return Count{Messages: int64(len(b.out.Ends)), Bytes: int64(len(b.out.Data))}
}

// A queue gathers the messages of one category into batches. One goroutine
// (driver) takes them.
type queue struct {
	a      *Aggregator
	c      *category
	rule   *Rule
	role   role
	stored bool   // ack level of its waiters
	number uint32 // of its chain
	opened Chain  // by a reload; otherwise the driver opens it

	wake   chan struct{} // one slot: there is something to do
	gather *time.Timer   // ack received: when what has gathered is taken at the latest

	// until is the moment, since Aggregator.base, before which admission refuses
	// because the chain has just failed; 0: it does not.
	until atomic.Int64
	// again asks the driver of a broken chain for another attempt.
	again atomic.Bool

	// Under c.mu.
	head, tail *batch
	pending    int       // bytes of text in them
	unsettled  Count     // pending and in flight
	flying     time.Time // arrival of the first message in flight; zero: nothing is
	closing    bool
	used       time.Time
	lastBytes  int // sizes of the batch that was cut last, as a guess for the next
	lastCount  int
	producer   string // of the last batch id; kept so that equal ones share it
	fault      string // what fails now; empty: nothing
	faultSince time.Time
	active     func() string
}

func (a *Aggregator) newQueue(c *category, rule *Rule, r role, number uint32, now time.Time) *queue {
	q := &queue{
		a: a, c: c, rule: rule, role: r, used: now,
		stored: r != messages || rule.Ack == AckStored,
		number: number,
		wake:   make(chan struct{}, 1),
		gather: time.NewTimer(time.Hour),
	}
	q.gather.Stop()
	return q
}

// signal wakes the driver. It never blocks.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// push copies a part's messages into the queue's batches and says how the
// driver has to be told. Needs c.mu.
func (q *queue) push(s *scratch, call *thrift.Call, l list) nudge {
	empty, before := q.head == nil, q.pending
	f := newFiller(q, s, call, l)
	for i := l.first; i >= 0; i = s.next[i] {
		f.add(&call.Entries[i])
		if call.Batch != nil {
			f.index(s.index[i])
		}
	}
	f.flush()
	q.pending += int(l.size.Bytes)
	q.unsettled.add(l.size)
	q.used = s.now
	switch limit := f.set.batchBytes; {
	case q.stored && !empty:
		return nudgeNone // whoever filled the empty queue has woken the driver
	case q.stored, before < limit && q.pending >= limit:
		return nudgeNow
	case empty:
		return nudgeTimer
	}
	return nudgeNone
}

// nudge is how a driver hears of new messages.
type nudge uint8

const (
	nudgeNone nudge = iota
	nudgeNow
	nudgeTimer
)

func (q *queue) nudge(n nudge) {
	switch n {
	case nudgeNow:
		q.signal()
	case nudgeTimer:
		q.gather.Reset(q.a.set.Load().Queue.BatchWait)
	case nudgeNone:
	}
}

// oldest is when the oldest unsettled message arrived; zero: there is none.
// Needs c.mu.
func (q *queue) oldest() time.Time {
	if q.flying.IsZero() && q.head != nil {
		return q.head.began
	}
	return q.flying
}
