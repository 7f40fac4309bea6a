package aggregator

import (
	"bytes"
	"context"
	"time"

	"twinscribe/thrift"
)

// Log implements thrift.Handler. It takes the call whole or refuses it whole.
// OK means: every message is stored as its chain promises where the category's
// level is AckStored, and is in memory where it is AckReceived.
//
// After admission the answer comes within the acknowledgement timeout. TRY_LATER
// then says that a batch with a part of the call was withdrawn, or that the
// time, or ctx, was over: the messages may still be stored, and are counted as
// unknown.
func (a *Aggregator) Log(ctx context.Context, call *thrift.Call) thrift.Result {
	s := a.getScratch(len(call.Entries))
	defer a.putScratch(s)
	if !a.admit(s, call) {
		a.calls.refused.Add(1)
		return thrift.TryLater
	}
	if len(s.waits) == 0 {
		a.calls.ok.Add(1)
		if s.received {
			a.latency.received.Observe(time.Since(s.now).Seconds())
		}
		return thrift.OK
	}
	call.Release() // all of it is copied; the wait may be long
	if !a.await(ctx, s) {
		return thrift.TryLater
	}
	a.calls.ok.Add(1)
	a.latency.stored.Observe(time.Since(s.now).Seconds())
	return thrift.OK
}

// scratch is the working memory of one call, used again by later ones.
type scratch struct {
	now      time.Time // the one reading of the clock, for intervals
	wall     time.Time // the same for arrival times
	parts    []part
	nobody   int32    // part of the names that no category has yet; -1: none
	next     []int32  // by entry: the next one of its list; -1: none
	index    []uint32 // by entry: its number within its category; with batch ids only
	missing  []int32  // entries whose name no category has yet
	seen     []mark   // by category slot: its part in this call
	call     uint32   // tells marks of this call from older ones
	waits    []wait
	nudges   []nudged
	received bool // a part was acknowledged by being in memory
	timer    *time.Timer
}

type mark struct {
	call uint32
	part int32
}

// A part is what one call holds of one category.
type part struct {
	c          *category // nil: names that no category has yet
	good, dead list
	entries    uint32
}

// A list is a chain of entries through scratch.next.
type list struct {
	first, last int32 // -1 where it is empty
	size        Count
}

var noEntries = list{first: -1, last: -1}

func (l *list) empty() bool { return l.first < 0 }

// charge is what the list costs of the limits in bytes.
func (l *list) charge() int64 {
	if l.empty() {
		return 0
	}
	return chargeOf(l.size) + partOverhead
}

// A wait is a batch that holds messages of the call.
type wait struct {
	b    *batch
	c    *category
	size Count
}

type nudged struct {
	q   *queue
	how nudge
}

// hugeCall is from when on a call's tables are not kept.
const hugeCall = 1 << 16

func (a *Aggregator) getScratch(entries int) *scratch {
	s, _ := a.scratches.Get().(*scratch)
	if s == nil {
		s = &scratch{timer: time.NewTimer(time.Hour)}
		s.timer.Stop()
	}
	s.now = time.Now()
	s.wall = s.now
	if a.wall != nil {
		s.wall = a.wall()
	}
	if cap(s.next) < entries {
		s.next, s.index = make([]int32, entries), make([]uint32, entries)
	}
	s.next, s.index = s.next[:entries], s.index[:entries]
	return s
}

func (a *Aggregator) putScratch(s *scratch) {
	if cap(s.next) > hugeCall {
		return
	}
	clear(s.parts)
	clear(s.waits)
	clear(s.nudges)
	s.parts, s.waits, s.nudges, s.missing = s.parts[:0], s.waits[:0], s.nudges[:0], s.missing[:0]
	s.received = false
	a.scratches.Put(s)
}

// admit takes the call into the queues, or refuses and books it.
func (a *Aggregator) admit(s *scratch, call *thrift.Call) bool {
	if !a.enqueue(s, call) {
		return false
	}
	for _, n := range s.nudges {
		n.q.nudge(n.how)
	}
	return true
}

func (a *Aggregator) enqueue(s *scratch, call *thrift.Call) bool {
	a.gate.RLock()
	defer a.gate.RUnlock()
	const rounds = 3 // survey, make what is missing, survey again; once more if it was retired in between
	for round := 1; ; round++ {
		lacking, ok := a.survey(s, call, round == rounds)
		if !ok {
			return false
		}
		if !lacking {
			break
		}
		if why, ok := a.ensure(s, call); !ok {
			a.mu.RLock()
			a.sort(s, call)
			a.refuse(s, why, s.nobody)
			a.mu.RUnlock()
			return false
		}
	}
	for i := range s.parts {
		a.commit(s, call, &s.parts[i])
	}
	return true
}

// commit copies one category's part into its queues. Memory is reserved.
func (a *Aggregator) commit(s *scratch, call *thrift.Call, p *part) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = s.now
	// The queues as they are now: the gate holds off a reload, and nobody
	// retires a queue while bytes are reserved.
	if !p.good.empty() {
		c.book.accept(p.good.size)
		s.nudge(c.main, c.main.push(s, call, p.good))
		if c.main.role == unroutedMessages {
			c.book.unrouted += p.good.size.Messages
		}
	}
	if !p.dead.empty() {
		c.book.accept(p.dead.size)
		s.nudge(c.dead, c.dead.push(s, call, p.dead))
	}
}

// nudge notes that a driver is to be told of new messages once no lock is held.
func (s *scratch) nudge(q *queue, how nudge) {
	if how != nudgeNone {
		s.nudges = append(s.nudges, nudged{q, how})
	}
}

// survey sorts the call's entries by category and reserves memory for all of
// them. lacking=true: categories or queues must be made first. ok=false: the
// call was refused and booked. With final, what lacks is a refusal.
func (a *Aggregator) survey(s *scratch, call *thrift.Call, final bool) (lacking, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.sort(s, call)
	if a.halted {
		a.refuse(s, refusedStopping, -1)
		return false, false
	}
	lacking, why, culprit := a.lacks(s, call)
	switch {
	case culprit >= 0:
		a.refuse(s, why, culprit)
		return false, false
	case lacking && final:
		a.refuse(s, refusedCategories, s.nobody)
		return false, false
	case lacking:
		return true, true
	}
	if why, culprit, ok := a.reserve(s); !ok {
		a.refuse(s, why, culprit)
		return false, false
	}
	return false, true
}

// sort fills s.parts. Needs mu.
func (a *Aggregator) sort(s *scratch, call *thrift.Call) {
	s.parts, s.missing, s.nobody = s.parts[:0], s.missing[:0], -1
	if s.call++; s.call == 0 { // the counter came round: old marks could lie
		clear(s.seen)
		s.call = 1
	}
	longest := a.set.Load().maxMessage
	var name []byte
	at, blank := int32(-1), false
	for i := range call.Entries {
		e := &call.Entries[i]
		if at < 0 || !bytes.Equal(e.Category, name) {
			name = e.Category
			at = a.partOf(s, nameOf(e))
			blank = len(nameOf(e)) == 0
			if s.parts[at].c == nil {
				s.missing = append(s.missing, int32(i))
			}
		} else if s.parts[at].c == nil && len(e.Message) > longest {
			s.missing = append(s.missing, int32(i)) // it needs a queue for dead letters too
		}
		p := &s.parts[at]
		l := &p.good
		if blank || len(e.Message) > longest {
			l = &p.dead
		}
		if l.last < 0 {
			l.first = int32(i)
		} else {
			s.next[l.last] = int32(i)
		}
		s.next[i] = -1
		l.last = int32(i)
		l.size.Messages++
		l.size.Bytes += int64(storedSize(e.Message))
		if call.Batch != nil {
			s.index[i] = p.entries
			p.entries++
		}
	}
}

// partOf returns the number of the part for a name.
func (a *Aggregator) partOf(s *scratch, name []byte) int32 {
	c := a.categories[string(name)]
	if c == nil {
		if s.nobody < 0 {
			s.nobody = s.newPart(nil)
		}
		return s.nobody
	}
	if c.slot >= len(s.seen) {
		s.seen = append(s.seen, make([]mark, a.slots-len(s.seen))...)
	}
	m := &s.seen[c.slot]
	if m.call != s.call {
		*m = mark{call: s.call, part: s.newPart(c)}
	}
	return m.part
}

func (s *scratch) newPart(c *category) int32 {
	s.parts = append(s.parts, part{c: c, good: noEntries, dead: noEntries})
	return int32(len(s.parts) - 1)
}
