package hdfs

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// counters are the figures of a cluster since its New.
type counters struct {
	dials      atomic.Int64 // connects to NameNodes, failed ones too
	recoveries atomic.Int64 // pipelines made anew without a node that failed
	replaced   atomic.Int64 // nodes that a pipeline got for one it had lost
	restarts   atomic.Int64 // block set-ups repeated on other nodes
	probes     atomic.Int64 // DataNodes asked whether they live
	short      atomic.Int64 // blocks that the NameNode gave fewer nodes than asked for
	blocks     atomic.Int64 // blocks begun
	files      atomic.Int64 // files created
	bytes      atomic.Int64 // acknowledged
	fewest     atomic.Int64 // nodes that an acknowledged append stood on, at the least; 0: none yet

	mu    sync.Mutex
	calls map[string]int64 // NameNode calls by method
}

func (c *counters) call(method string) {
	c.mu.Lock()
	if c.calls == nil {
		c.calls = map[string]int64{}
	}
	c.calls[method]++
	c.mu.Unlock()
}

// stoodOn notes how many nodes an acknowledged append stands on.
func (c *counters) stoodOn(nodes int) {
	for n := int64(nodes); ; {
		old := c.fewest.Load()
		if old != 0 && old <= n || c.fewest.CompareAndSwap(old, n) {
			return
		}
	}
}

// snapshot is what Cluster.Counters answers.
func (c *counters) snapshot() map[string]int64 {
	m := map[string]int64{
		"nn_dials":      c.dials.Load(),
		"recoveries":    c.recoveries.Load(),
		"replaced":      c.replaced.Load(),
		"restarts":      c.restarts.Load(),
		"node_probes":   c.probes.Load(),
		"short_blocks":  c.short.Load(),
		"blocks":        c.blocks.Load(),
		"files_created": c.files.Load(),
		"bytes":         c.bytes.Load(),

		"fewest_replicas": c.fewest.Load(),
	}
	c.mu.Lock()
	calls := maps.Clone(c.calls)
	c.mu.Unlock()
	for method, n := range calls {
		m["nn_calls."+method] = n
	}
	return m
}

// A sometimes lets one event through in a while and counts the others.
type sometimes struct {
	every time.Duration
	mu    sync.Mutex
	last  time.Time
	held  int
}

// now says whether this event is to be told, and how many were not before it.
func (s *sometimes) now() (held int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && time.Since(s.last) < s.every {
		s.held++
		return 0, false
	}
	held, s.held, s.last = s.held, 0, time.Now()
	return held, true
}
