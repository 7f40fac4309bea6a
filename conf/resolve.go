package conf

import (
	"iter"
	"time"
)

// resolve fills in what follows from other settings where the file says nothing.
func (c *Config) resolve(said map[string]bool) {
	for i := range c.Category {
		if c.Category[i].Ack == "" {
			c.Category[i].Ack = c.Ack
		}
	}
	for i := range c.Clusters {
		p := &c.Clusters[i].Probe
		if !said[join(nth("clusters", i), "probe.hold_off_max")] {
			p.HoldMax = max(p.HoldMax, p.HoldOff)
		}
		// A hung node is left early enough for the pipeline to be recovered.
		if h := c.Clusters[i].HDFS; h != nil && !said[join(nth("clusters", i), "hdfs.node_timeout")] {
			h.NodeTimeout = max(10*time.Millisecond, min(h.NodeTimeout, c.Timeouts.Write/4))
		}
	}
	l := &c.Limits
	if !said["limits.memory"] {
		l.Memory = max(l.Memory, l.Frame)
		if said["limits.queue"] {
			l.Memory = max(l.Memory, l.Queue)
		}
	}
	if !said["limits.queue"] {
		l.Queue = min(max(l.Queue, l.Frame), l.Memory)
	}
	if !said["limits.frame_memory"] {
		l.FrameMemory = max(l.FrameMemory, saturated(l.Frame, 4))
	}
	if !said["queue.batch_bytes"] {
		c.Queue.BatchBytes = min(c.Queue.BatchBytes, c.Queue.MaxBatch)
	}
	c.resolveBuffer(said)
}

// resolveBuffer makes one buffer of what is said about it in several places.
func (c *Config) resolveBuffer(said map[string]bool) {
	b := &c.Buffer
	maxSaid, replaySaid := said["buffer.max_bytes"], said["buffer.replay"]
	for _, p := range c.bufferPlaces() {
		if p.MaxBytes != 0 && !maxSaid {
			b.MaxBytes, maxSaid = p.MaxBytes, true
		}
		if p.Replay != "" && !replaySaid {
			b.Replay, replaySaid = p.Replay, true
		}
	}
	for _, p := range c.bufferPlaces() {
		if p.MaxBytes == 0 {
			p.MaxBytes = b.MaxBytes
		}
		if p.Replay == "" {
			p.Replay = b.Replay
		}
	}
	if !said["buffer.segment"] {
		b.Segment = min(b.Segment, max(MiB, b.MaxBytes/4))
	}
	// A tenth, but what one call can hold at least.
	part := min(b.MaxBytes, max(min(GiB, b.MaxBytes/10), saturated(c.Limits.Frame, 2)))
	if !said["buffer.dead_letters"] {
		b.DeadLetters = part
	}
	if !said["buffer.unrouted"] {
		b.Unrouted = part
	}
}

// saturated is s times n, or the largest size.
func saturated(s Size, n Size) Size {
	const largest = 1<<63 - 1
	if s > largest/n {
		return largest
	}
	return s * n
}

// bufferPlaces are all mentions of the one buffer in stores, with their paths.
// Spools are none.
func (c *Config) bufferPlaces() iter.Seq2[string, *BufferPlace] {
	return func(yield func(string, *BufferPlace) bool) {
		for at, l := range c.leaves() {
			if l.Buffer != nil && !l.spool && !yield(join(at, "buffer"), l.Buffer) {
				return
			}
		}
	}
}

// A leaf is a store that holds no others.
type leaf struct {
	*Store
	spool bool // a buffer of which each category has its own
}

// leaves are the leaves of all rules, with their paths.
func (c *Config) leaves() iter.Seq2[string, leaf] {
	return func(yield func(string, leaf) bool) {
		for i := range c.Category {
			cat, p := &c.Category[i], nth("categories", i)
			if cat.Stores == nil && !eachLeaf(join(p, "store"), &cat.Store, yield) {
				return
			}
			for j := range cat.Stores {
				if !eachLeaf(nth(join(p, "stores"), j), &cat.Stores[j], yield) {
					return
				}
			}
		}
	}
}

// eachLeaf yields the leaves of a store; false: no more are wanted.
func eachLeaf(p string, s *Store, yield func(string, leaf) bool) bool {
	var within []Store
	spooled := false
	switch {
	case s.Failover != nil:
		p, within, spooled = join(p, "failover.places"), s.Failover.Places, s.Failover.Spooled()
	case s.Bucket != nil:
		p, within = join(p, "bucket.stores"), s.Bucket.Stores
	default:
		return yield(p, leaf{Store: s})
	}
	for i := range within {
		if at := nth(p, i); within[i].Buffer != nil {
			if !yield(at, leaf{Store: &within[i], spool: spooled}) {
				return false
			}
		} else if !eachLeaf(at, &within[i], yield) {
			return false
		}
	}
	return true
}
