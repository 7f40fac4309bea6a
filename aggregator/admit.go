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
		if !noMain && !noDead {
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
	return lacking, 0, -1
}

// reserve takes the bytes of the whole call from the limits, or nothing. It is
// where a category at its limit, or one whose chain has just failed, refuses
// the calls that hold it, and no others. Needs mu.
func (a *Aggregator) reserve(s *scratch) (why reason, culprit int32, ok bool) {
	now := int64(s.now.Sub(a.base))
	total := int64(0)
	for i := range s.parts {
		p := &s.parts[i]
		if !p.good.empty() && p.c.main.until.Load() > now {
			return refusedStore, int32(i), false
		}
		if !p.dead.empty() && p.c.dead.until.Load() > now {
			return refusedDeadLetters, int32(i), false
		}
		total += p.good.charge() + p.dead.charge()
	}
	set := a.set.Load()
	if !take(&a.memory, total, int64(set.Limits.Memory)) {
		return refusedMemory, -1, false
	}
	for i := range s.parts {
		p := &s.parts[i]
		if take(&p.c.bytes, p.good.charge()+p.dead.charge(), int64(set.Limits.Queue)) {
			continue
		}
		for j := range s.parts[:i] {
			q := &s.parts[j]
			q.c.bytes.Add(-q.good.charge() - q.dead.charge())
		}
		a.memory.Add(-total)
		return refusedQueue, int32(i), false
	}
	return 0, -1, true
}

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
		p.c.used = s.now
		p.c.book.refuse(reason, n)
		if reason == refusedQueue {
			p.c.book.denied++
		}
		p.c.mu.Unlock()
	}
}
