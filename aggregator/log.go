package aggregator

import (
	"bytes"
	"context"
	"encoding/binary"
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
	now       time.Time     // the one reading of the clock, for intervals
	since     time.Duration // the same, since Aggregator.base
	wall      time.Time     // the same for arrival times
	set       *settings     // as they are while the call is copied
	parts     []part
	fans      bool   // one of them has lanes
	wants     []want // lanes that have no account yet
	divided   int    // divisions in use
	divisions []division
	nobody    int32    // part of the names that no category has yet; -1: none
	next      []int32  // by entry: the next one of its list; -1: none
	index     []uint32 // by entry: its number within its category; with batch ids only
	missing   []int32  // entries whose name no category has yet
	seen      []mark   // by category slot: its part in this call
	call      uint32   // tells marks of this call from older ones
	waits     []wait
	nudges    []nudged
	received  bool // a part was acknowledged by being in memory
	timer     *time.Timer
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
	exact      bool
	via        uint8 // what links the good ones: 0 scratch.next, n the division n-1
	out        bool  // the good ones are left out: other routes take them
}

// charge is what the part costs of the limits in bytes.
func (p *part) charge() int64 {
	if p.out {
		return p.dead.charge()
	}
	return p.good.charge() + p.dead.charge()
}

// A list is a chain of entries through scratch.next, or through a division's.
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
	s.since = s.now.Sub(a.base)
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
	s.received, s.divided = false, 0
	if s.fans {
		clear(s.wants)
		s.wants, s.fans = s.wants[:0], false
	}
	a.scratches.Put(s)
}

// admit takes the call into the queues, or refuses and books it.
func (a *Aggregator) admit(s *scratch, call *thrift.Call) bool {
	if !a.enqueue(s, call) {
		return false
	}
	if len(s.nudges) > 0 {
		a.nudge(s)
	}
	return true
}

func (a *Aggregator) enqueue(s *scratch, call *thrift.Call) bool {
	a.gate.RLock()
	defer a.gate.RUnlock()
	const rounds = 4 // survey, make the categories, survey, make their lanes, survey; once more if something was retired in between
	for round := 1; ; round++ {
		lacking, ok := a.survey(s, call, round == 1, round == rounds)
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
	s.set = a.set.Load()
	for parts := s.parts; len(parts) > 0; {
		parts = parts[s.commit(call, parts):]
	}
	return true
}

// A call has so many categories locked together, with messages of so many bytes.
// A lock is taken and given back by an instruction that waits until all that was
// written before has reached the cache. With a lock for each message, a call of
// a thousand categories would spend a quarter of its time on such waits. Large
// parts are copied under a lock of their own, so that calls beside each other
// do not wait for the whole of one another.
const (
	lockedAtOnce = 16
	lockedBytes  = 8 << 10
)

// commit copies the first parts into the queues of their categories, and says
// how many. Memory is reserved.
func (s *scratch) commit(call *thrift.Call, parts []part) int {
	parts[0].c.mu.Lock()
	n := 1
	defer func() {
		for i := range parts[:n] {
			parts[i].c.mu.Unlock()
		}
	}()
	// Who holds a lock never waits for another one: calls name categories in any order.
	bytes := parts[0].charge()
	for most := min(len(parts), lockedAtOnce); n < most; n++ {
		if bytes += parts[n].charge(); bytes > lockedBytes || !parts[n].c.mu.TryLock() {
			break
		}
	}
	for i := range parts[:n] {
		s.put(call, &parts[i])
	}
	return n
}

// put copies one category's part into its queues. Needs the category's lock.
func (s *scratch) put(call *thrift.Call, p *part) {
	c := p.c
	c.used = s.since
	// The queues as they are now: the gate holds off a reload, and nobody
	// retires a queue while bytes are reserved.
	if !p.good.empty() && !p.out {
		c.book.accept(p.good.size)
		s.nudge(c.main, c.main.push(s, call, p.good, p.via))
		if c.main.role == unroutedMessages {
			c.book.unrouted += p.good.size.Messages
		}
		if c.main.copies {
			c.book.copies += p.good.size.Messages
		}
	}
	if !p.dead.empty() {
		c.book.accept(p.dead.size)
		s.nudge(c.dead, c.dead.push(s, call, p.dead, 0))
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
// call was refused and booked. The first survey of a call counts it against the
// rate; in the final one, what lacks is a refusal.
func (a *Aggregator) survey(s *scratch, call *thrift.Call, first, final bool) (lacking, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.sort(s, call)
	if a.halted {
		a.refuse(s, refusedStopping, -1)
		return false, false
	}
	if limit := a.set.Load().Limits.MessagesPerSecond; limit > 0 && first && !a.rate.take(s.wall, len(call.Entries), limit) {
		a.refuse(s, refusedRate, -1)
		a.calls.deniedForRate.Add(1)
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
	for i := 0; i < len(call.Entries); {
		e := &call.Entries[i]
		var at int32
		if c := a.categories[string(nameOf(e))]; c != nil {
			at = a.partOf(s, c)
		} else {
			at = s.nobodysPart()
			s.missing = append(s.missing, int32(i))
		}
		i = s.run(call, i, &s.parts[at], longest)
	}
	if s.fans {
		s.wants = s.wants[:0]
		a.fan(s, call)
	}
}

// run puts the entries from i on that have the same name into their part, and
// returns the number of the next one.
func (s *scratch) run(call *thrift.Call, i int, p *part, longest int) int {
	name, blank, first := call.Entries[i].Category, len(nameOf(&call.Entries[i])) == 0, i
	good, exact := p.good, p.exact
	for ; i < len(call.Entries); i++ {
		e := &call.Entries[i]
		if i > first && !same(e.Category, name) {
			break
		}
		if call.Batch != nil {
			s.index[i] = p.entries
			p.entries++
		}
		if blank || len(e.Message) > longest {
			p.dead.link(s.next, int32(i), storedSize(e.Message, false))
			if p.c == nil && i > first {
				s.missing = append(s.missing, int32(i)) // it needs a queue for dead letters too
			}
			continue
		}
		good.link(s.next, int32(i), storedSize(e.Message, exact))
	}
	p.good = good
	return i
}

// same says whether two names are. Most are short, and compared without a call.
func same(a, b []byte) bool {
	n := len(a)
	switch {
	case n != len(b):
		return false
	case n >= 8 && n <= 16:
		le := binary.LittleEndian
		return le.Uint64(a) == le.Uint64(b) && le.Uint64(a[n-8:]) == le.Uint64(b[n-8:])
	case n >= 4 && n < 8:
		le := binary.LittleEndian
		return le.Uint32(a) == le.Uint32(b) && le.Uint32(a[n-4:]) == le.Uint32(b[n-4:])
	}
	return bytes.Equal(a, b)
}

// link puts an entry, of so many bytes as it is stored, at the end of a list.
func (l *list) link(next []int32, i int32, size int) {
	if l.last < 0 {
		l.first = i
	} else {
		next[l.last] = i
	}
	next[i] = -1
	l.last = i
	l.size.Messages++
	l.size.Bytes += int64(size)
}

// nobodysPart returns the number of the part of names that no category has yet.
func (s *scratch) nobodysPart() int32 {
	if s.nobody < 0 {
		s.nobody = s.newPart(nil)
	}
	return s.nobody
}

// partOf returns the number of the part of a category or lane.
func (a *Aggregator) partOf(s *scratch, c *category) int32 {
	if int(c.slot) >= len(s.seen) {
		s.seen = append(s.seen, make([]mark, a.slots-len(s.seen))...)
	}
	m := &s.seen[c.slot]
	if m.call != s.call {
		*m = mark{call: s.call, part: s.newPart(c)}
	}
	return m.part
}

func (s *scratch) newPart(c *category) int32 {
	p := part{c: c, good: noEntries, dead: noEntries}
	if c != nil {
		p.exact = c.exact
		s.fans = s.fans || c.fans
	}
	s.parts = append(s.parts, p)
	return int32(len(s.parts) - 1)
}
