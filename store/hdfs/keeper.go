package hdfs

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// keepEvery is how often the lease is renewed, which others may take after
// 60 s, and how often a pipeline without traffic gets a heartbeat, which its
// DataNodes end after 60 s.
const keepEvery = 10 * time.Second

// keep serves all open files until the cluster is closed.
func (c *Cluster) keep() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.life:
			return
		case <-tick.C:
		}
		files := c.openFiles()
		if len(files) == 0 {
			continue
		}
		c.renew()
		for _, f := range files {
			f.beat()
		}
	}
}

func (c *Cluster) renew() {
	ctx, cancel := context.WithTimeout(c.life, keepEvery)
	defer cancel()
	if err := c.nn.renewLease(ctx); err != nil {
		if held, ok := c.sayLease.now(); ok {
			c.log.Warn("the lease of the open files was not renewed; others may take it 60 s after the last time",
				zap.Error(err), zap.Int("not_told", held))
		}
	}
}

// beat sends a heartbeat if nobody uses the file: a busy one needs none.
func (f *File) beat() {
	select {
	case <-f.turn:
	default:
		return
	}
	if f.pipe != nil && !f.torn && f.err == nil {
		f.pipe.beat()
	}
	f.release()
}
