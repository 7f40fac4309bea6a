package hdfs

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Redundancy comes back by ending a block: HDFS allows short blocks, the
// NameNode makes the missing replica of one that is finished, and the next one
// begins on nodes enough, if there are any.

const (
	// rollPing is how long a NameNode may take to show that it is there before a
	// short block is ended.
	rollPing = 250 * time.Millisecond

	// scoutEvery is how often one file of a cluster ends a block that was begun
	// on too few nodes, to see whether there are enough by now.
	scoutEvery = 10 * time.Second

	// refillWithin is how long the blocks that were begun on too few nodes take
	// to be ended when there are enough again: all of a cluster's files may be
	// among them, and none is in a hurry.
	refillWithin = 10 * time.Second
)

// rollAfter is when a block that lacks a node is ended: spread at random, so
// that not all files do it at once.
func rollAfter() time.Duration { return 1500*time.Millisecond + rand.N(3*time.Second) }

// plenty is what a cluster's files know of whether the NameNode has nodes
// enough for a block. Both are nanoseconds since 1970.
type plenty struct {
	full  atomic.Int64 // when a block last got all the nodes that were asked for
	scout atomic.Int64 // when a file last went to see
}

// counted notes on how many nodes the block that was just begun lies. That they
// are fewer than asked for the NameNode says to nobody.
func (f *File) counted(nodes int) {
	c, now := f.c, time.Now()
	if nodes >= f.replication {
		f.thin = time.Time{}
		c.plenty.full.Store(now.UnixNano())
		return
	}
	f.thin = now
	c.count.short.Add(1)
	if held, ok := c.sayShort.now(); ok {
		c.log.Warn("the NameNode gave a block fewer DataNodes than asked for: see whether DataNodes are down or full",
			zap.String("path", f.path), zap.Int("nodes", nodes), zap.Int("replication", f.replication), zap.Int("not_told", held))
	}
}

// short says whether to end a block now that lacks a node. Not while the
// NameNode may be away: the block would be ended and no other begun, and this
// one still has nodes enough.
func (f *File) short(ctx context.Context) bool {
	now := time.Now()
	if f.roll.IsZero() && !f.thin.IsZero() {
		f.refill(now)
	}
	if f.roll.IsZero() || now.Before(f.roll) {
		return false
	}
	if f.probe || f.c.ob.MayBegin() {
		ctx, cancel := context.WithTimeout(ctx, rollPing)
		defer cancel()
		if f.c.nn.renewLease(ctx) == nil {
			return true
		}
	}
	f.roll = now.Add(rollAfter())
	return false
}

// refill decides when a block that was begun on too few nodes is ended: soon
// after another one got enough. Once in a while one file goes to see.
func (f *File) refill(now time.Time) {
	p := &f.c.plenty
	last := p.scout.Load()
	switch {
	case p.full.Load() > f.thin.UnixNano():
		f.roll = now.Add(rand.N(refillWithin))
	case now.Sub(f.thin) >= scoutEvery && now.Sub(time.Unix(0, last)) >= scoutEvery && p.scout.CompareAndSwap(last, now.UnixNano()):
		f.roll = now
	}
}
