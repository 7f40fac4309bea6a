package aggregator

import (
	"sync"
	"time"
)

// limiter bounds the log lines that thousands of queues write about the same
// outage.
type limiter struct {
	mu     sync.Mutex
	window time.Time
	lines  int
	left   int
}

const (
	linesWindow = time.Second
	linesMost   = 5
)

// allow says whether a line may be written, and how many were left out before it.
func (l *limiter) allow(now time.Time) (ok bool, leftOut int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.window) >= linesWindow {
		l.window, l.lines = now, 0
	}
	if l.lines >= linesMost {
		l.left++
		return false, 0
	}
	l.lines++
	leftOut, l.left = l.left, 0
	return true, leftOut
}
