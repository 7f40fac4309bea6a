package files

import (
	"sync/atomic"
	"time"
)

// seldom lets one log line a second through where a thousand files say the
// same. The counts stand in the metrics.
type seldom struct{ next atomic.Int64 }

func (s *seldom) now() bool {
	t, due := time.Now().UnixNano(), s.next.Load()
	return t >= due && s.next.CompareAndSwap(due, t+int64(time.Second))
}
