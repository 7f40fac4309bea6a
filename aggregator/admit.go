package aggregator

import (
	"sync/atomic"

	"twinscribe/thrift"
)

// lacks says whether categories or queues must be made before the call can be
// taken. culprit >= 0 is the part because of which it must be refused instead:
// there is no room for it, or no rule. Needs mu.
func (a *Aggregator) lacks(s *scratch, call *thrift.Call) (lacking bool, why reason, culprit int32) {
	for i := range s.parts {
		p := &s.parts[i]
		c := p.c
		if c == nil {
			continue
		}
		noMain := !p.good.empty() && c.main == nil
		noDead := !p.dead.empty() && c.dead == nil
		if !noMain && !noDead && (!c.fans || c.live) {
			continue
		}
		if noMain && c.live && c.kind == refused {
			return false, refusedUnrouted, int32(i)
		}
		if !c.live {
			if why, ok := a.room([]byte(c.name)); !ok {
				return false, why, int32(i)
			}
		}
		lacking = true
	}
	for _, i := range s.missing {
		if why, ok := a.room(nameOf(&call.Entries[i])); !ok {
			return false, why, s.nobody
		}
		lacking = true
	}
	if !s.fans {
		return lacking, 0, -1
	}
	for _, w := range s.wants {
		if why, ok := a.room([]byte(w.c.name)); !ok {
			return false, why, w.part
		}
		lacking = true
	}
	return lacking, 0, -1
}

// reserve takes the bytes of the whole call from the limits, or nothing. It is
// where a category at its limit, or one whose chain has just failed, refuses
// the calls that hold it, and no others. Needs mu.
func (a *Aggregator) reserve(s *scratch) (why reason, culprit int32, ok bool) {
	now := int64(s.since)
	total := int64(0)
	set := a.set.Load()
	leave := leaver{s: s, set: set}
	for i := range s.parts {
		p := &s.parts[i]
		if !p.good.empty() && p.c.main.until.Load() > now && !leave.out(i) {
			return refusedStore, int32(i), false
		}
		if !p.dead.empty() && p.c.dead.until.Load() > now {
			return refusedDeadLetters, int32(i), false
		}
		total += p.charge()
	}
	if !a.takeMemory(s, total, int64(set.Limits.Memory)) {
		return refusedMemory, -1, false
	}
	for i := range s.parts {
		p := &s.parts[i]
		leave.reserved = i
		for !p.take(set) {
			n := p.charge()
			if leave.out(i) {
				n -= p.charge()
				a.memory.Add(-n)
				total -= n
				continue
			}
			for j := range s.parts[:i] {
				q := &s.parts[j]
				q.c.bytes.Add(-q.charge())
			}
			a.memory.Add(-total)
			return refusedQueue, int32(i), false
		}
	}
	leave.book()
	return 0, -1, true
}

// take takes the bytes of a part from its queue's limit. What holds none needs
// none: all of it is left out.
func (p *part) take(set *settings) bool {
	n, limit := p.charge(), int64(set.Limits.Queue)
	switch {
	case n == 0:
		return true
	case set.below:
		return takeBelow(&p.c.bytes, n, limit)
	default:
		return take(&p.c.bytes, n, limit)
	}
}

// The last eighth of the memory is for categories that hold a sixty-fourth of
// it at most: a few whose place does not answer fill the rest, and the others
// go on.
const (
	lastPart    = 8
	modestPart  = 64
	arenaMargin = 1 << 20 // what arenas, of which none is very small, may take beside a small limit
)

// takeMemory reserves n bytes of limits.memory for the call. Arenas count as
// they are: the part of one that is still empty is memory as well.
func (a *Aggregator) takeMemory(s *scratch, n, limit int64) bool {
	modest := limit / modestPart
	for i := range s.parts {
		p := &s.parts[i]
		if p.c.bytes.Load()+p.charge() > modest {
			limit -= limit / lastPart
			break
		}
	}
	if !take(&a.memory, n, limit) {
		return false
	}
	if used := a.arenaBytes(); used > limit+arenaMargin && a.memory.Load() > n {
		a.memory.Add(-n)
		return false
	}
	return true
}

// arenaBytes is the capacity of all arenas that hold messages.
func (a *Aggregator) arenaBytes() int64 { return a.arenas.live.Load() + 4*a.offsets.live.Load() }

// take adds n to what is used unless that passes the limit. What is larger than
// the limit by itself gets through where nothing else is held: it would never
// be taken otherwise, and TRY_LATER is only for what can pass later.
func take(used *atomic.Int64, n, limit int64) bool {
	for {
		now := used.Load()
		if now > 0 && now+n > limit {
			return false
		}
		if used.CompareAndSwap(now, now+n) {
			return true
		}
	}
}

// takeBelow adds n, however much it is, to what is used unless that has reached
// the limit.
func takeBelow(used *atomic.Int64, n, limit int64) bool {
	for {
		now := used.Load()
		if now >= limit {
			return false
		}
		if used.CompareAndSwap(now, now+n) {
			return true
		}
	}
}

// refuse books the whole call as refused: for this reason at the culprit, or at
// every category where it is -1, and as refused with the call at the others.
// Needs mu, so that no category is forgotten meanwhile.
func (a *Aggregator) refuse(s *scratch, why reason, culprit int32) {
	for i := range s.parts {
		p := &s.parts[i]
		n := p.good.size
		n.add(p.dead.size)
		reason := why
		if culprit >= 0 && int32(i) != culprit {
			reason = refusedWithCall
		}
		if p.c == nil {
			a.otherMu.Lock()
			a.other.refuse(reason, n)
			a.otherMu.Unlock()
			continue
		}
		p.c.mu.Lock()
		p.c.used = s.since
		p.c.book.refuse(reason, n)
		if reason == refusedQueue {
			p.c.book.denied++
		}
		p.c.mu.Unlock()
	}
}
