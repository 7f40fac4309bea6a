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
// settled; the struct only where no waiters look at it afterwards.
type batch struct {
	data    []byte // the arena; its messages end at ends
	ends    []uint32
	next    *batch
	charge  int64 // bytes reserved for it
	senders []string
	known   map[string]struct{} // the senders, where they are many

	out    store.Batch    // complete once it is cut
	done   chan struct{}  // closed when it is settled; nil with ack received
	began  time.Time      // arrival of its first message
	total  int            // messages it was cut with
	stored int            // of them, or dropped by a lossy route; known before done is closed
	taken1 [1]store.Taken // room for the usual answer
}

// reset makes a settled batch an empty one.
func (b *batch) reset() { *b = batch{senders: b.senders[:0]} }

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
// (driver) takes them. As in category, what every message needs comes first.
type queue struct {
	// until is the moment, since Aggregator.base, before which admission refuses
	// because the chain has just failed; 0: it does not.
	until atomic.Int64

	// Under c.mu.
	head, tail *batch
	pending    int           // bytes of text in them
	unsettled  Count         // pending and in flight
	used       time.Duration // since Aggregator.base

	stored bool // ack level of its waiters
	exact  bool // every message gets a line feed, also one that has its own
	lossy  bool // what the chain refuses is dropped
	copies bool // its messages are on the first route too
	role   role
	listed atomic.Bool // ack received: the clock wakes the driver; set under c.mu

	a      *Aggregator
	c      *category
	rule   *Rule
	route  *Route // of the rule
	number uint32 // of its chain
	opened Chain  // by a reload; otherwise the driver opens it

	wake  chan struct{}         // one slot: there is something to do
	spare atomic.Pointer[batch] // ack received: nobody looks at a settled batch, so it is used again

	// again asks the driver of a broken chain for another attempt.
	again atomic.Bool

	// eager has the driver open the chain though no message comes, until it is
	// open. It becomes true under c.mu, and only before that.
	eager atomic.Bool

	// Under c.mu.
	flying     time.Time // arrival of the first message in flight; zero: nothing is
	closing    bool
	open       bool // it has a chain
	lastBytes  int  // sizes of the batch that was cut last, as a guess for the next
	lastCount  int
	producer   string // of the last batch id; kept so that equal ones share it
	fault      string // what fails now; empty: nothing
	faultSince time.Time
	active     func() string
	problem    func() string
	busy       func() bool
}

func (a *Aggregator) newQueue(c *category, rule *Rule, route *Route, r role, number uint32, now time.Duration) *queue {
	q := &queue{
		a: a, c: c, rule: rule, route: route, role: r, used: now,
		stored: r != messages || rule.Ack == AckStored,
		exact:  r != deadLetters && route.Exact,
		lossy:  r == messages && route.Lossy,
		copies: c.lane.Route > 0,
		number: number,
		wake:   make(chan struct{}, 1),
	}
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
func (q *queue) push(s *scratch, call *thrift.Call, l list, via uint8) nudge {
	empty, before := q.head == nil, q.pending
	if l.first != l.last || !q.append(s, call, l, via) {
		f := newFiller(q, s, call, l)
		f.next, f.skip = s.of(via)
		f.add(l)
		f.flush()
	}
	q.pending += int(l.size.Bytes)
	q.unsettled.add(l.size)
	q.used = s.since
	switch limit := s.set.batchBytes; {
	case q.stored && !empty:
		return nudgeNone // whoever filled the empty queue has woken the driver
	case q.stored, before < limit && q.pending >= limit:
		return nudgeNow
	case empty && !q.listed.Load():
		q.listed.Store(true)
		return nudgeTimer
	}
	return nudgeNone
}

// append copies a single message where that needs nothing new, and reports
// whether it has. A filler is worth its making for more than one. Needs c.mu.
func (q *queue) append(s *scratch, call *thrift.Call, l list, via uint8) bool {
	b, size := q.tail, int(l.size.Bytes)
	if b == nil || call.Batch != nil || q.role == deadLetters {
		return false
	}
	at, n := len(b.data), len(b.ends)
	if at+size > cap(b.data) || n == cap(b.ends) || at+size > s.set.maxBatch || n >= s.set.batchMessages {
		return false
	}
	m := call.Entries[l.first].Message
	if via > 0 {
		m = m[s.divisions[via-1].skip[l.first]:]
	}
	b.data = b.data[:at+size]
	copy(b.data[at:], m)
	b.data[at+size-1] = '\n'
	b.ends = append(b.ends, uint32(at+size))
	b.charge += l.charge()
	b.sender(call.Sender)
	if q.stored {
		s.waits = append(s.waits, wait{b: b, c: q.c, size: l.size})
	} else {
		s.received = true
	}
	return true
}

// nudge is how a driver hears of new messages.
type nudge uint8

const (
	nudgeNone nudge = iota
	nudgeNow
	nudgeTimer // by the clock, after the batch wait
)

// nudge has the drivers hear of a call's messages.
func (a *Aggregator) nudge(s *scratch) {
	timed := false
	for _, n := range s.nudges {
		if n.how == nudgeNow {
			n.q.signal()
		} else {
			timed = true
		}
	}
	if timed {
		a.clock.add(s.nudges, s.now.Add(a.set.Load().Queue.BatchWait))
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
