package aggregator

import (
	"sync"
	"time"
)

// rate counts the messages of the present second of the wall clock against
// Limits.MessagesPerSecond, over all categories.
type rate struct {
	mu     sync.Mutex
	second int64
	used   int
}

// take says whether a call of n messages may be taken at now. As in Scribe, one
// with more than half the limit always is, and is not counted: its client would
// send it for ever. What is refused uses nothing up.
func (r *rate) take(now time.Time, n, limit int) bool {
	if n > limit/2 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if second := now.Unix(); second != r.second {
		r.second, r.used = second, 0
	}
	if r.used+n > limit {
		return false
	}
	r.used += n
	return true
}
