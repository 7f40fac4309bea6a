package hdfs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"twinscribe/store/cluster"
)

// beginTries is how many sets of DataNodes a block start tries.
const beginTries = 5

// errShort is the NameNode's giving a block fewer nodes than an
// acknowledgement stands for.
var errShort = errors.New("too few DataNodes for a block")

// begin gets a block and a pipeline for it. Nodes that fail are avoided and
// another block is asked for. The error is cluster.ErrHeld where the observer
// forbids it; an ErrUnavailable was not yet reported.
func (f *File) begin(ctx context.Context, m manner) error {
	c := f.c
	if err := f.takePlace(ctx); err != nil {
		return err
	}
	defer f.givePlace()
	weight := refused // what must speak against a node for it to be avoided
	var last error
	for try, pauses := 0, 0; try < beginTries; {
		if stop := over(ctx, "beginning a block"); stop != nil {
			return after(stop, last)
		}
		if !f.probe && !c.ob.MayBegin() {
			if last != nil { // held off meanwhile, perhaps for what was met here
				return unavailable(last)
			}
			return fmt.Errorf("beginning a block: %w", cluster.ErrHeld)
		}
		avoid := c.nodes.avoid(weight)
		err := f.beginOn(ctx, m, avoid)
		tooFew := errors.Is(err, errShort) || err != nil && isNoNodes(err)
		switch {
		case err == nil:
			return nil
		case isClass(err, "NotReplicatedYetException"): // the block before is not known well enough
			if stop := pause(ctx, pauses); stop != nil {
				return after(stop, err)
			}
			pauses++
		case tooFew && len(avoid) > 0: // those that failed a while ago are better than none
			weight++
		case errors.As(err, new(*nodeError)):
			c.count.restarts.Add(1)
			if weight > dead {
				return unavailable(err)
			}
			try++
		default:
			return err
		}
		last = err
	}
	return unavailable(fmt.Errorf("no pipeline in %d tries: %w", beginTries, last))
}

func isNoNodes(err error) bool {
	var r *RemoteError
	return errors.As(err, &r) && r.name() == "IOException" && errors.Is(r, cluster.ErrUnavailable)
}

// pause waits 5 to 320 ms, longer each time.
func pause(ctx context.Context, n int) error {
	t := time.NewTimer(5 * time.Millisecond << min(n, 6))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return over(ctx, "waiting for the NameNode")
	}
}

// beginOn asks for one block and makes its pipeline. A *nodeError says that
// the block was abandoned because of a node, which is avoided from now on.
func (f *File) beginOn(ctx context.Context, m manner, avoid []node) error {
	c := f.c
	if err := f.dropStray(ctx, m); err != nil {
		return err
	}
	f.stray = true
	l, err := c.nn.addBlock(ctx, m, f, f.prev, avoid)
	if err != nil {
		f.stray = !errors.As(err, new(*RemoteError)) // the answer says that there is none
		return err
	}
	abandon := func(err error) error {
		said := c.nn.abandonBlock(ctx, m, f, l.block)
		f.stray = said != nil
		return after(err, said)
	}
	if len(l.nodes) < f.min {
		return abandon(unavailable(fmt.Errorf("%w: %d of %d, at least %d", errShort, len(l.nodes), f.replication, f.min)))
	}
	s := &setup{stage: stageCreate, block: l.block, gen: l.gen, token: l.token, nodes: l.nodes}
	s.block.size = 0
	p, err := c.open(ctx, s, 1, func(silent []int, all bool) error {
		if all {
			f.allSilent(l.nodes)
		}
		return blameSilent(silent) // nothing is lost with this block
	})
	if err != nil {
		f.lost(l.nodes, err) //nolint:contextcheck // the probe that it begins is everybody's, and ends with the cluster
		return abandon(err)
	}
	c.count.blocks.Add(1)
	f.stray = false
	f.off, f.sent, f.tailN = 0, 0, 0
	f.adopt(s.block, l.nodes, p)
	f.counted(len(l.nodes))
	return nil
}

// dropStray takes away the block that a begin may have left which failed before
// it could. Asked for the same block again the NameNode gives that one.
func (f *File) dropStray(ctx context.Context, m manner) error {
	if !f.stray {
		return nil
	}
	l, err := f.c.nn.addBlock(ctx, m, f, f.prev, nil)
	if err == nil {
		err = f.c.nn.abandonBlock(ctx, m, f, l.block)
	}
	f.stray = err != nil
	return err
}

// end finishes the block at its present length, which may be shorter than a
// block's size. After an error it may be called again: torn says that the
// pipeline is gone.
func (f *File) end(ctx context.Context) error {
	if f.off == 0 { // nothing in it: a file does not end in an empty block
		f.pipe.close()
		if err := f.c.nn.abandonBlock(ctx, patient, f, f.block); err != nil {
			return err
		}
		f.pipe, f.torn = nil, false
		return nil
	}
	if err := f.finish(ctx); err != nil {
		return err
	}
	f.pipe.close()
	b := f.block
	b.size = f.off
	f.prev, f.pipe, f.base = &b, nil, f.base+f.off
	f.off, f.sent, f.tailN, f.torn = 0, 0, 0, false
	return nil
}

// finish makes every node of the pipeline finish its replica, over as many
// pipelines as it takes. All of the block is acknowledged: it needs no more
// nodes than are left.
func (f *File) finish(ctx context.Context) error {
	if f.torn {
		return f.recover(ctx, nil, stageClose)
	}
	f.q.heard, f.q.need = time.Now(), 1
	err := f.pipe.failed
	if err == nil {
		err = f.pipe.last()
	}
	for err == nil {
		if err = f.pipe.wait(0, f.q.next(ctx)); err == nil {
			return nil
		}
		if isTimeout(err) {
			err = f.lookUp(ctx)
		}
	}
	if errors.As(err, new(*stopError)) {
		f.pipe.close()
		f.torn = true
		return err
	}
	return f.recover(ctx, blame(err), stageClose)
}

// lookUp is look without an Append: ctx says everything.
func (f *File) lookUp(ctx context.Context) error {
	if f.pipe.heard.After(f.q.heard) {
		f.q.heard = f.pipe.heard
	}
	return f.q.hope(ctx)
}
