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

// keepLease renews the lease of all open files until the cluster is closed.
func (c *Cluster) keepLease() {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.life:
			return
		case <-tick.C:
		}
		if len(c.openFiles()) > 0 {
			c.renew()
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

// keepPipelines serves the pipelines without traffic until the cluster is closed:
// it hears what DataNodes say there, hangs up where one is gone, and sends
// heartbeats.
func (c *Cluster) keepPipelines() {
	tick := time.NewTicker(listenEvery)
	defer tick.Stop()
	var e ear
	for beaten := time.Now(); ; {
		select {
		case <-c.life:
			return
		case n := <-c.gone:
			c.hangUp(n)
			continue
		case <-tick.C:
		}
		c.listen(&e)
		if time.Since(beaten) >= keepEvery {
			beaten = time.Now()
			for _, f := range c.openFiles() {
				f.idle((*pipe).beat)
			}
		}
	}
}

// idle calls do with the pipeline of a file that nobody uses; a busy one needs
// neither heartbeats nor anybody to listen.
func (f *File) idle(do func(*pipe)) {
	select {
	case <-f.turn:
	default:
		return
	}
	defer f.release()
	if f.pipe != nil && !f.torn && f.err == nil && f.pipe.failed == nil {
		do(f.pipe)
	}
}
