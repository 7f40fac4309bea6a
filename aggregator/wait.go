package aggregator

import (
	"context"
	"time"
)

// await waits until every batch that holds a part of the call is settled, the
// acknowledgement timeout is over, or ctx ends. It reports whether all of the
// call is stored.
func (a *Aggregator) await(ctx context.Context, s *scratch) bool {
	s.timer.Reset(a.set.Load().Timeouts.Ack - time.Since(s.now))
	defer s.timer.Stop()
	all, some, over := true, s.received, false
	unknown := false
	for _, w := range s.waits {
		if !over {
			select {
			case <-w.b.done:
			case <-s.timer.C:
				over = true
			case <-ctx.Done():
				over = true
			}
		}
		if over && !w.settled() {
			w.c.mu.Lock()
			w.c.book.unknown.add(w.size)
			w.c.mu.Unlock()
			all, unknown = false, true
			continue
		}
		all = all && w.b.stored == w.b.total
		some = some || w.b.stored > 0
	}
	switch {
	case all:
		return true
	case some:
		a.calls.partial.Add(1)
	case unknown:
		a.calls.unknown.Add(1)
	default:
		a.calls.withdrawn.Add(1)
	}
	return false
}

func (w *wait) settled() bool {
	select {
	case <-w.b.done:
		return true
	default:
		return false
	}
}
