package repair

import (
	"sync"
	"time"
)

// limiter bounds lines of the log: logBurst within each logEvery.
type limiter struct {
	mu    sync.Mutex
	since time.Time
	said  int
	held  int
}

const (
	logBurst = 20
	logEvery = 10 * time.Second
)

// now says whether a line may be said now, and how many were held back before.
func (l *limiter) now() (held int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) >= logEvery {
		l.since, l.said = now, 0
	}
	if l.said >= logBurst {
		l.held++
		return 0, false
	}
	l.said++
	held, l.held = l.held, 0
	return held, true
}
