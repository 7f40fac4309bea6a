package storetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"twinscribe/store/cluster"
)

// Condition is how the servers behind a Cluster answer a probe.
type Condition int32

// The conditions there are.
const (
	Up    Condition = iota
	Dead            // refuses at once
	Hung            // answers when the caller's time is over
	Stuck           // does not answer even then, until Release
)

// How long the double takes to answer a probe, good or bad.
const (
	PingTakes  = time.Millisecond
	BlockTakes = 20 * time.Millisecond
)

// Cluster is a double of a cluster that can only be probed: what a
// cluster.Health needs. Every other method panics. All methods may be called
// by many goroutines at once.
type Cluster struct {
	cluster.Cluster

	name          string
	ping, block   atomic.Int32
	pings, blocks atomic.Int64
	running, most atomic.Int32
	release       chan struct{}
}

// NewCluster makes one that is up.
func NewCluster(name string) *Cluster {
	return &Cluster{name: name, release: make(chan struct{})}
}

// Set says how pings and block probes fare from now on.
func (c *Cluster) Set(ping, block Condition) {
	c.ping.Store(int32(ping))
	c.block.Store(int32(block))
}

// Release lets all that is stuck return, now and later.
func (c *Cluster) Release() { close(c.release) }

// Probes is how many pings and block probes have begun.
func (c *Cluster) Probes() (pings, blocks int64) { return c.pings.Load(), c.blocks.Load() }

// AtOnce is the most probes that ran at the same time.
func (c *Cluster) AtOnce() int { return int(c.most.Load()) }

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.name }

// Ping implements cluster.Cluster.
func (c *Cluster) Ping(ctx context.Context) error {
	c.pings.Add(1)
	return c.answer(ctx, &c.ping, PingTakes)
}

// ProbeBlock implements cluster.Cluster.
func (c *Cluster) ProbeBlock(ctx context.Context) error {
	c.blocks.Add(1)
	return c.answer(ctx, &c.block, BlockTakes)
}

func (c *Cluster) answer(ctx context.Context, how *atomic.Int32, takes time.Duration) error {
	now := c.running.Add(1)
	defer c.running.Add(-1)
	for m := c.most.Load(); now > m && !c.most.CompareAndSwap(m, now); m = c.most.Load() {
	}
	condition := Condition(how.Load())
	switch condition {
	case Hung:
		<-ctx.Done()
	case Stuck:
		<-c.release
		return nil
	case Up, Dead:
		if err := sleep(ctx, takes); err == nil && condition == Up {
			return nil
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: connection refused", cluster.ErrUnavailable)
}
