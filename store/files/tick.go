package files

import (
	"context"
	"time"
)

const (
	lively    = time.Minute     // a chain with an Append within it opens the next partition's file ahead
	leadTime  = 5 * time.Second // so long before it moves
	edgeGrace = 5 * time.Second // for batches of the old partition that are tried again
	restAfter = time.Minute     // a file opened ahead that nobody asked for since is given up

	askPause = time.Second     // without an Append: a good moment for what the Root asks
	askLimit = 5 * time.Second // after which it is done in any case
)

// Tick implements store.Store: rotation by time, also when nothing arrives,
// and visibility. now is the wall clock; intervals are measured by time.Now.
func (c *Chain) Tick(_ context.Context, now time.Time) error {
	if c.closed {
		return nil
	}
	mono := time.Now()
	c.answer(mono)
	if c.cur != nil {
		c.edge(now, mono)
	}
	if c.cur != nil {
		c.visibility(mono)
	}
	if c.cur != nil && mono.Sub(c.cur.last) >= c.idleLimit() {
		c.retire(ReasonIdle)
	}
	if l := c.spec.Layout; l != nil && c.cur != nil && c.cur.size > 0 && l.Due(c.cur.wall, now) && c.turn == "" {
		c.turn = ReasonRotate
	}
	if c.cur != nil && c.turn != "" {
		c.takeTurn(mono)
	}
	if c.next != nil && mono.Sub(c.next.wanted) >= restAfter {
		c.dropNext()
	}
	return nil
}

// idleLimit is when the current file is given up; one in which nothing is was
// opened for traffic that has stopped.
func (c *Chain) idleLimit() time.Duration {
	if c.cur.size == 0 {
		return min(restAfter, c.spec.Idle)
	}
	return c.spec.Idle
}

// takeTurn replaces the current file, or gives it up where nothing comes any more.
func (c *Chain) takeTurn(mono time.Time) {
	switch p := c.cur.begin.Partition; {
	case mono.Sub(c.cur.last) >= c.root.o.VisibleWithin/2:
		c.retire(c.turn)
		c.dropNext()
	case c.next != nil && c.next.partition > p: // the partition is over within seconds
	case c.ahead(p):
		c.swap()
	}
}

// answer does what the Root asked for.
func (c *Chain) answer(mono time.Time) {
	q := c.asked.Load()
	if q == nil {
		return
	}
	switch {
	case q.file != nil && q.file != c.cur: // it is gone already
	case q.file == nil && c.cur != nil && c.cur.begun.After(q.at): // all that was open then is gone
	case q.file != nil && mono.Sub(c.cur.last) < minIdle: // it is busy again: another one is idler
	case q.file == nil && c.cur != nil && mono.Sub(c.cur.last) < askPause && mono.Sub(q.at) < askLimit:
		return
	default:
		c.retire(q.reason)
		c.dropNext()
	}
	c.asked.CompareAndSwap(q, nil)
}

// edge gives up a file whose partition is over, and opens the next partition's
// ahead where the chain is lively.
func (c *Chain) edge(now, mono time.Time) {
	f := c.cur
	if now.After(f.moves.Add(edgeGrace)) && mono.Sub(f.last) >= edgeGrace {
		c.retire(ReasonPartition)
		return
	}
	if p := c.spec.Period.At(now); p > f.begin.Partition && !now.Before(f.moves.Add(-leadTime)) &&
		!c.used.IsZero() && mono.Sub(c.used) < lively {
		c.ahead(p)
	}
}

// visibility makes acknowledged messages readable in time: a quiet file is
// sealed, as often as that is allowed; what cannot be sealed, or is busy, is
// published. A file that is busy all the time is replaced as often.
func (c *Chain) visibility(mono time.Time) {
	f, o := c.cur, &c.root.o
	f.pubSettle()
	if f.size == 0 {
		return
	}
	quiet := mono.Sub(f.last) >= o.VisibleWithin/2
	due := !f.unpublished.IsZero() && mono.Sub(f.unpublished) >= c.visibleAfter()
	switch may := c.maySeal(mono); {
	case may && quiet && (due || f.unpublished.IsZero()):
		c.sealed = mono
		c.retire(ReasonVisible)
		return
	case may && !quiet && mono.Sub(f.begun) >= c.sealEvery() && c.turn == "":
		c.sealed = mono
		c.turn = ReasonVisible
	}
	if due && o.Health.Reachable() {
		c.root.publish(f)
	}
}

func (c *Chain) sealEvery() time.Duration {
	return time.Hour / time.Duration(c.root.o.VisibilitySeals)
}

func (c *Chain) maySeal(mono time.Time) bool {
	return c.root.o.VisibilitySeals > 0 && (c.sealed.IsZero() || mono.Sub(c.sealed) >= c.sealEvery())
}

// visibleAfter is how long a message waits before it is made visible: long
// enough to make few calls, early enough to try twice, and not for all chains
// the same, so that a thousand do not come at once.
func (c *Chain) visibleAfter() time.Duration {
	const spread = 1 << 16
	within := int64(c.root.o.VisibleWithin)
	part := int64(c.spec.Chain * 2654435761 >> 16)
	return time.Duration(within*3/4 - within/6*part/spread)
}
