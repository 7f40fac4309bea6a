package hdfs

import (
	"context"
	"errors"
	"fmt"
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

// mend makes a pipeline that can be gone on with, after cause. Meanwhile the
// Append's place is for others, whose pipelines are whole.
func (f *File) mend(ctx context.Context, cause error) error {
	if errors.As(cause, new(*stopError)) {
		return cause
	}
	if errors.Is(cause, errTorn) {
		cause = nil // an earlier Append has told
	} else {
		cause = blame(cause)
	}
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
	f.torn = true
	f.lost(f.nodes, cause) //nolint:contextcheck // the probe that it begins is everybody's, and ends with the cluster
	f.c.count.restarts.Add(1)
	if err := f.c.nn.abandonBlock(ctx, patient, f, f.block); err != nil {
		return after(err, cause)
	}
	f.pipe, f.torn, f.sent = nil, false, 0
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
		if errors.Is(bad.err, errKnown) {
			continue
		}
		f.c.nodes.exclude(n, bad.why)
		if bad.why == refused {
			f.c.nodes.probe(n) // if nobody listens there any more, the other files learn it before they send
		}
		if held, ok := f.c.sayLost.now(); ok {
			f.c.log.Warn("a DataNode failed: going on without it",
				zap.String("node", n.addr), zap.String("path", f.path), zap.Error(bad.err), zap.Int("not_told", held))
		}
	}
	return left, gone
}

// A rescue is one recovery of a pipeline.
type rescue struct {
	*File
	stage uint64
	need  int    // nodes that the new pipeline must have
	nodes []node // to make it of
	gone  []node // those that failed in this recovery
	mute  []node // those that were left out only because they did not answer
	keep  bool   // mute ones are among nodes again: a slow node is better than none
	again bool   // the last node was asked a second time
	cause error  // why it is needed, or what failed last
}

// recover makes a new pipeline of the nodes that are left, under a new
// generation stamp: what is acknowledged stays, and a writer whose lease was
// taken learns it from the NameNode. A nil cause blames nobody.
func (f *File) recover(ctx context.Context, cause error, stage uint64) error {
	f.pipe.close()
	f.torn = true
	r := &rescue{File: f, stage: stage, need: f.min, nodes: slices.Clone(f.nodes), cause: cause}
	if stage == stageClose { // all of the block is acknowledged by nodes enough
		r.need = 1
	}
	for {
		if stop := over(ctx, "recovering the pipeline"); stop != nil {
			return after(stop, r.cause)
		}
		if err := r.drop(); err != nil { //nolint:contextcheck // the probe that it begins is everybody's, and ends with the cluster
			return err
		}
		if err := f.takePlace(ctx); err != nil {
			return after(err, r.cause)
		}
		err := r.rebuild(ctx)
		f.givePlace()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNoSpare) && len(r.mute) > 0:
			r.nodes, r.mute, r.keep, err = append(r.nodes, r.mute...), nil, true, nil
		}
		r.cause = err
	}
}

// drop leaves out the nodes that the cause blames. An error is final.
func (r *rescue) drop() error {
	var bad *nodeError
	switch {
	case r.cause == nil:
		return nil
	case !errors.As(r.cause, &bad):
		return r.cause
	case len(r.nodes) == 1 && bad.why != dead && !r.again:
		r.again = true // it closed the connection: it may live, and the lease may be lost
		return nil
	}
	left, gone := r.lost(r.nodes, r.cause)
	r.nodes, r.gone = left, append(r.gone, gone...)
	if bad.why == quiet {
		r.mute = append(r.mute, gone...)
	}
	if len(r.nodes) == 0 {
		return unavailable(after(errors.New("no DataNode of the pipeline is left"), r.cause))
	}
	return nil
}

func after(err, cause error) error {
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w, after %v", err, cause)
}

// rebuild makes a pipeline of the nodes, to which it adds those that it lacks.
// An error that is no *nodeError is final.
func (r *rescue) rebuild(ctx context.Context) error {
	f, c := r.File, r.c
	if !r.keep {
		left := c.nodes.living(r.nodes, r.need, quiet)
		for _, n := range r.nodes {
			if !slices.ContainsFunc(left, n.is) {
				r.mute = append(r.mute, n)
			}
		}
		r.nodes = left
	}
	for len(r.nodes) < r.need {
		if err := r.replace(ctx); err != nil {
			return after(err, r.cause)
		}
	}
	l, err := c.nn.updateBlockForPipeline(ctx, f.block)
	if err != nil {
		return after(err, r.cause)
	}
	old := f.block
	old.size = f.off
	s := &setup{stage: r.stage, block: old, gen: l.gen, token: l.token, nodes: r.nodes, max: f.sent}
	p, err := c.open(ctx, s, r.need, r.judge)
	if err != nil {
		return err
	}
	b := old
	b.gen = l.gen
	if err = c.nn.updatePipeline(ctx, old, b, r.nodes); err != nil {
		p.close()
		return after(err, r.cause)
	}
	c.count.recoveries.Add(1)
	if !f.probe {
		c.lives(time.Now())
	}
	f.adopt(b, slices.Clone(r.nodes), p)
	if len(f.nodes) < f.replication {
		f.roll = time.Now().Add(rollAfter())
	}
	return nil
}

// judge is a question's. Nodes that the pipeline needs are waited for, all of
// them too: they have a copy, another one would have to make it, and when a node
// is lost the others may do nothing for a second but end its pipelines.
func (r *rescue) judge(silent []int, _ bool) error {
	if len(r.nodes)-len(silent) < r.need {
		return nil
	}
	return blameSilent(silent)
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

// replace lets another DataNode copy the block as far as it is acknowledged,
// and adds it. A *nodeError says which of the nodes failed then.
func (r *rescue) replace(ctx context.Context) error {
	f, c := r.File, r.c
	short := fmt.Errorf("%d DataNodes left of %d wanted at least", len(r.nodes), r.need)
	if err := f.copyable(ctx); err != nil {
		return unavailable(fmt.Errorf("%w: %w", short, err))
	}
	b := f.block
	b.size = f.off
	l, spare, err := r.spare(ctx, b)
	if err != nil {
		return fmt.Errorf("%w: %w", short, err)
	}
	err = c.transfer(ctx, r.nodes[0], b, l.token, spare)
	var bad *nodeError
	switch {
	case err == nil:
		c.count.replaced.Add(1)
	case errors.As(err, &bad) && bad.nodes[0] == 1: // blamed at the place that it would have
		err = failedNode(len(r.nodes), bad.why, bad.err)
	default:
		return err
	}
	r.nodes = append(slices.Clone(r.nodes), spare)
	return err
}

// spare asks the NameNode for a DataNode more, but none of those that failed
// here; rather for one that failed a while ago than for none.
func (r *rescue) spare(ctx context.Context, b block) (located, node, error) {
	for _, why := range []proof{refused, quiet} {
		l, err := r.c.nn.additionalDataNode(ctx, r.File, b, r.nodes, append(r.c.nodes.avoid(why), r.gone...))
		if err != nil {
			return located{}, node{}, err
		}
		for _, n := range l.nodes {
			if !slices.ContainsFunc(r.nodes, n.is) {
				return l, n, nil
			}
		}
	}
	return located{}, node{}, unavailable(errNoSpare)
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
