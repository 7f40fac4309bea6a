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

// bufferPlaces are all mentions of the buffer in stores, with their paths.
func (c *Config) bufferPlaces() iter.Seq2[string, *BufferPlace] {
	return func(yield func(string, *BufferPlace) bool) {
		for i := range c.Category {
			p := join(nth("categories", i), "store")
			s := &c.Category[i].Store
			if s.Buffer != nil && !yield(join(p, "buffer"), s.Buffer) {
				return
			}
			if s.Failover == nil {
				continue
			}
			for j := range s.Failover.Places {
				place := &s.Failover.Places[j]
				if place.Buffer != nil && !yield(join(nth(join(p, "failover.places"), j), "buffer"), place.Buffer) {
					return
				}
			}
		}
	}
}
