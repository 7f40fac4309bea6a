package hdfs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Copying a block into a DataNode that replaces a lost one must fit what is
// left of the budget: at this speed at least, and with the rest kept back for
// the calls around it.
const (
	copySpeed   = 25 << 20 // bytes a second
	copyReserve = 30       // percent of the time
)

// rollPing is how long a NameNode may take to show that it is there before a
// short block is ended.
const rollPing = 250 * time.Millisecond

// rollAfter is when a block that has lost a node is ended: spread at random, so
// that not all files do it at once.
func rollAfter() time.Duration { return 1500*time.Millisecond + rand.N(3*time.Second) }

// mend makes a pipeline that can be gone on with, after cause. Meanwhile the
// Append's place is for others, whose pipelines are whole.
func (f *File) mend(ctx context.Context, cause error) error {
	if errors.As(cause, new(*stopError)) {
		return cause
	}
	cause = blame(cause)
	f.c.giveWindow(f)
	return f.guarded(ctx, true, func(ctx context.Context) error {
		var err error
		if f.off == 0 && (f.probe || f.c.ob.MayBegin()) {
			err = f.restart(ctx, cause)
		} else {
			err = f.recover(ctx, cause, stageRecover)
		}
		if err == nil {
			err = f.c.takeWindow(ctx, f)
		}
		return err
	})
}

// restart gives up a block that holds nothing acknowledged and begins another,
// on nodes enough.
func (f *File) restart(ctx context.Context, cause error) error {
	f.pipe.close()
	f.lost(f.nodes, cause)
	f.c.count.restarts.Add(1)
	if err := f.c.nn.abandonBlock(ctx, patient, f, f.block); err != nil {
		return fmt.Errorf("%w, after %w", err, cause)
	}
	f.pipe = nil
	return f.begin(ctx, patient)
}

// lost notes the nodes that failed and answers those that are left.
func (f *File) lost(nodes []node, cause error) (left, gone []node) {
	var bad *nodeError
	if !errors.As(cause, &bad) {
		return nodes, nil
	}
	for i, n := range nodes {
		if !slices.Contains(bad.nodes, i) {
			left = append(left, n)
			continue
		}
		gone = append(gone, n)
		f.c.nodes.exclude(n, bad.why)
		if held, ok := f.c.sayLost.now(); ok {
			f.c.log.Warn("a DataNode failed: going on without it",
				zap.String("node", n.addr), zap.String("path", f.path), zap.Error(bad.err), zap.Int("not_told", held))
		}
	}
	return left, gone
}

// recover makes a new pipeline of the nodes that are left, under a new
// generation stamp: what is acknowledged stays, and a writer whose lease was
// taken learns it from the NameNode. A nil cause blames nobody.
func (f *File) recover(ctx context.Context, cause error, stage uint64) error {
	f.pipe.close()
	f.torn = true
	nodes := slices.Clone(f.nodes)
	var gone []node // those that failed in this recovery
	again := false  // the last node was asked a second time
	for {
		if stop := over(ctx, "recovering the pipeline"); stop != nil {
			return after(stop, cause)
		}
		var bad *nodeError
		switch {
		case errors.As(cause, &bad) && len(nodes) == 1 && bad.why != dead && !again:
			again = true // it closed the connection: it may live, and the lease may be lost
		case errors.As(cause, &bad):
			var g []node
			nodes, g = f.lost(nodes, cause)
			gone = append(gone, g...)
		case cause != nil:
			return cause
		}
		if len(nodes) == 0 {
			return unavailable(after(errors.New("no DataNode of the pipeline is left"), cause))
		}
		if err := f.c.starts.take(ctx); err != nil { // or the DataNodes' listen queues overflow
			return after(err, cause)
		}
		err := f.rebuild(ctx, &nodes, gone, cause, stage)
		f.c.starts.give()
		if err == nil {
			return nil
		}
		cause = err
	}
}

func after(err, cause error) error {
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w, after %v", err, cause)
}

// rebuild makes a pipeline of nodes, to which it adds those that it lacks. An
// error that is no *nodeError is final.
func (f *File) rebuild(ctx context.Context, nodes *[]node, gone []node, cause error, stage uint64) error {
	c := f.c
	*nodes = c.nodes.living(*nodes, f.min)
	for stage == stageRecover && len(*nodes) < f.min {
		if err := f.replace(ctx, nodes, gone); err != nil {
			return after(err, cause)
		}
	}
	l, err := c.nn.updateBlockForPipeline(ctx, f.block)
	if err != nil {
		return after(err, cause)
	}
	old := f.block
	old.size = f.off
	s := &setup{stage: stage, block: old, gen: l.gen, token: l.token, nodes: *nodes, max: f.sent}
	p, err := c.open(ctx, s, f.min, f.judge)
	if err != nil {
		return err
	}
	b := old
	b.gen = l.gen
	if err = c.nn.updatePipeline(ctx, old, b, *nodes); err != nil {
		p.close()
		return after(err, cause)
	}
	c.count.recoveries.Add(1)
	f.adopt(b, slices.Clone(*nodes), p)
	if len(f.nodes) < f.replication {
		f.roll = time.Now().Add(rollAfter())
	}
	return nil
}

// adopt makes p the pipeline that the file is written to.
func (f *File) adopt(b block, nodes []node, p *pipe) {
	f.c.nodes.know(nodes)
	f.block, f.nodes, f.pipe, f.torn, f.roll = b, nodes, p, false, time.Time{}
	f.q.nodes = nodes
	f.pipeNow.Store(p)
	if f.isAborted() { // Abort may have seen the old one
		p.close()
	}
}

// replace lets a DataNode that is not among nodes copy the block as far as it
// is acknowledged, and adds it. A *nodeError says which of *nodes failed then.
// None of gone is tried.
func (f *File) replace(ctx context.Context, nodes *[]node, gone []node) error {
	c := f.c
	short := fmt.Errorf("%d DataNodes left of %d wanted at least", len(*nodes), f.min)
	if err := f.copyable(ctx); err != nil {
		return unavailable(fmt.Errorf("%w: %w", short, err))
	}
	b := f.block
	b.size = f.off
	l, spare, err := f.spare(ctx, b, *nodes, gone)
	if err != nil {
		return fmt.Errorf("%w: %w", short, err)
	}
	err = c.transfer(ctx, (*nodes)[0], b, l.token, spare)
	var bad *nodeError
	switch {
	case err == nil:
		c.count.replaced.Add(1)
	case errors.As(err, &bad) && bad.nodes[0] == 1: // blamed at the place that it would have
		err = failedNode(len(*nodes), bad.why, bad.err)
	default:
		return err
	}
	*nodes = append(slices.Clone(*nodes), spare)
	return err
}

// spare asks the NameNode for a DataNode more; rather for one that failed a
// while ago than for none.
func (f *File) spare(ctx context.Context, b block, have, gone []node) (located, node, error) {
	for _, why := range []proof{refused, quiet} {
		l, err := f.c.nn.additionalDataNode(ctx, f, b, have, append(f.c.nodes.avoid(why), gone...))
		if err != nil {
			return located{}, node{}, err
		}
		for _, n := range l.nodes {
			if !slices.ContainsFunc(have, func(h node) bool { return h.addr == n.addr }) {
				return l, n, nil
			}
		}
	}
	return located{}, node{}, unavailable(errors.New("none to spare"))
}

// copyable says whether a copy of the block fits what is left of the budget.
func (f *File) copyable(ctx context.Context) error {
	until, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	left := time.Until(until)
	need := time.Duration(float64(f.off) / copySpeed * float64(time.Second))
	if need > left*(100-copyReserve)/100 {
		return fmt.Errorf("a copy of %d bytes does not fit the %v left", f.off, left.Round(time.Millisecond))
	}
	return nil
}
