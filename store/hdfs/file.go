package hdfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"twinscribe/store/cluster"
)

// File is a file being written. It implements cluster.File.
//
// No goroutine belongs to it. What its packets carry is always the caller's
// present batch, so that nothing is kept for a recovery.
type File struct {
	c           *Cluster
	path        string // absolute
	id          uint64 // of the NameNode
	replication int
	min         int   // nodes that an acknowledgement stands for, at least
	blockSize   int64 // bytes
	probe       bool  // written by a probe: it may begin blocks at any time, and tells the observer nothing

	acked     atomic.Int64
	pipeNow   atomic.Pointer[pipe] // what Abort closes
	aborted   chan struct{}
	abortOnce sync.Once

	// turn holds one token. Who has it owns everything below: the one who calls
	// the methods, or for a moment a keeper.
	turn   chan struct{}
	err    error // the first final one
	sealed bool
	block  block  // being written; size is not used
	nodes  []node // that it lies on
	pipe   *pipe  // nil: no block is begun
	torn   bool   // pipe is closed, yet the block is not ended
	prev   *block // the last one that is finished
	stray  bool   // the NameNode may have another block behind prev, of a begin that failed
	base   int64  // bytes of finished blocks
	off    int64  // bytes of this block that every node has
	sent   int64  // bytes of this block that a node may have
	tail   [chunkBytes]byte
	tailN  int       // bytes of this block behind its last full chunk, in tail
	roll   time.Time // the pipeline has lost a node: about then the block is ended
	thin   time.Time // the block was begun then, on fewer nodes than asked for
	since  time.Time // when the Append under way got its turn
	placed time.Time // when it last got a place to begin a block or to recover
	told   bool      // it has reported that all nodes are silent
	w      *window   // the Append's place while it has one
	q      question
}

func newFile(c *Cluster, path string, id uint64, replication, min int, blockSize int64) *File {
	f := &File{
		c: c, path: path, id: id, replication: replication, min: min, blockSize: blockSize,
		aborted: make(chan struct{}),
		turn:    make(chan struct{}, 1),
	}
	f.q = question{c: c, need: min, judge: f.judge}
	f.turn <- struct{}{}
	return f
}

// Acked implements cluster.File.
func (f *File) Acked() int64 { return f.acked.Load() }

// Replicas implements cluster.File.
func (f *File) Replicas() int {
	if f.pipe == nil {
		return 0
	}
	return len(f.nodes)
}

// Abort implements cluster.File. The NameNode hears nothing of it: the file
// stays open there until somebody recovers it.
func (f *File) Abort() {
	f.abortOnce.Do(func() {
		close(f.aborted)
		if p := f.pipeNow.Load(); p != nil {
			p.close()
		}
		f.c.forget(f)
	})
}

func (f *File) isAborted() bool {
	select {
	case <-f.aborted:
		return true
	default:
		return false
	}
}

// hold takes the turn.
func (f *File) hold(ctx context.Context) error {
	select {
	case <-f.turn:
		return nil
	default:
	}
	select {
	case <-f.turn: // of a keeper, which has it for a moment
		return nil
	case <-ctx.Done():
		return over(ctx, "waiting for the file")
	}
}

func (f *File) release() { f.turn <- struct{}{} }

// Append implements cluster.File. When it answers nil, every node of a pipeline
// of at least min nodes has acknowledged every packet.
func (f *File) Append(ctx context.Context, p [][]byte) error {
	var size int64
	for _, b := range p {
		size += int64(len(b))
	}
	if err := f.hold(ctx); err != nil {
		return f.notTried(err)
	}
	defer f.release()
	if err := f.usable(); err != nil || size == 0 {
		return err
	}
	if err := over(ctx, "beginning"); err != nil {
		return f.notTried(err)
	}
	if err := f.c.takeWindow(ctx, f); err != nil {
		return f.notTried(err)
	}
	f.since, f.placed, f.told = time.Now(), time.Time{}, false
	cur, end := cursor{p: p}, f.base+f.off
	err := f.append(ctx, &cur, size)
	f.c.giveWindow(f)
	switch {
	case err == nil:
		f.acked.Add(size)
		f.c.count.bytes.Add(size)
		if !f.probe {
			f.c.count.stoodOn(len(f.nodes))
			f.c.lives(f.pipe.answered)
			f.c.ob.Acknowledged()
		}
		return nil
	case f.base+f.off == end && f.sent == f.off && f.passing(err):
		return f.notTried(err)
	}
	return f.fail(fmt.Errorf("append to %s: %w", f.path, err))
}

// passing says whether err is one that passes, of an Append of which no node
// has a byte: then the next one may go on with the file, although its pipeline
// or its block may have to be made first. It tells of what speaks against the
// cluster.
func (f *File) passing(err error) bool {
	if f.isAborted() {
		return false
	}
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if late && !f.probe {
		since := f.since
		if f.placed.After(since) {
			since = f.placed
		}
		f.c.report(err, since)
	}
	return late || errors.Is(err, errDoubt) || errors.Is(err, cluster.ErrHeld)
}

func (f *File) notTried(err error) error {
	return fmt.Errorf("append to %s: %w: %w", f.path, cluster.ErrNotTried, err)
}

func (f *File) usable() error {
	switch {
	case f.err != nil:
		return f.err
	case f.sealed:
		return fmt.Errorf("%s: %w", f.path, errSealed)
	case f.isAborted():
		return f.fail(fmt.Errorf("%s: %w", f.path, errAborted))
	}
	return nil
}

// fail makes err the file's last word.
func (f *File) fail(err error) error {
	if f.isAborted() && !errors.Is(err, errAborted) {
		err = fmt.Errorf("%w (%v)", errAborted, err)
	}
	f.err = err
	if f.pipe != nil {
		f.pipe.close()
	}
	f.c.forget(f)
	if !f.probe {
		f.c.report(err, f.since)
	}
	return err
}

// append stores size bytes at cur, over as many blocks as it takes. A block is
// ended before the bytes that need the next one, never after those that filled
// it: what is acknowledged stays so, whatever becomes of the next block.
func (f *File) append(ctx context.Context, cur *cursor, size int64) error {
	for size > 0 {
		if f.pipe != nil && (f.off == f.blockSize || f.short(ctx)) {
			if err := f.guarded(ctx, true, f.end); err != nil {
				return err
			}
		}
		if f.pipe == nil {
			if err := f.guarded(ctx, true, f.beginPatient); err != nil {
				return err
			}
		}
		n := min(size, f.blockSize-f.off)
		if err := f.write(ctx, cur, n); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func (f *File) beginPatient(ctx context.Context) error { return f.begin(ctx, patient) }

// write sends n bytes at cur, which fit into the block, and waits for them,
// over as many pipelines as it takes.
func (f *File) write(ctx context.Context, cur *cursor, n int64) error {
	for {
		err := f.pipe.failed
		if err == nil && f.torn {
			err = errTorn
		}
		if err == nil {
			f.c.nodes.settle(ctx, f.nodes)
			err = f.c.nodes.known(f.nodes, f.min, quiet)
		}
		if err == nil {
			err = f.send(ctx, *cur, n)
		}
		got := f.pipe.acked - f.off // to a packet's end
		f.advance(cur, got)
		if n -= got; err == nil {
			return nil
		}
		if err = f.mend(ctx, err); err != nil {
			return err
		}
	}
}

// advance goes on by n acknowledged bytes and keeps those behind the last full chunk.
func (f *File) advance(cur *cursor, n int64) {
	f.off += n
	keep := f.off % chunkBytes // of the block's last bytes
	if keep > n {              // the old ones are among them
		keep = n
	} else {
		f.tailN = 0
	}
	cur.skip(n - keep)
	for keep > 0 {
		b := cur.next(keep)
		f.tailN += copy(f.tail[f.tailN:], b)
		keep -= int64(len(b))
	}
}

// send writes n bytes at cur into the pipeline and waits until every node has
// them.
func (f *File) send(ctx context.Context, cur cursor, n int64) error {
	p, off, tail := f.pipe, f.off, f.tail[:f.tailN]
	f.q.heard, f.q.need = f.since, f.min
	for n > 0 {
		k := f.w.fill(p, off, tail, &cur, n, f.c.o.Sync)
		off += k
		n -= k
		tail = nil
		f.sent = max(f.sent, off)
		if err := f.flush(ctx); err != nil {
			return err
		}
		left := 0
		if n > 0 {
			left = windowPackets
		}
		if err := f.wait(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) flush(ctx context.Context) error {
	for {
		err := f.pipe.write(f.w, f.q.next(ctx))
		if err == nil {
			return nil
		}
		if !isTimeout(err) {
			// The answer that says who failed may be there already.
			if said := f.pipe.wait(0, time.Now().Add(slice)); errors.As(said, new(*nodeError)) {
				return said
			}
			return err
		}
		if err = f.look(ctx); err != nil {
			return err
		}
	}
}

func (f *File) wait(ctx context.Context, left int) error {
	for {
		err := f.pipe.wait(left, f.q.next(ctx))
		if err == nil {
			hear(f.nodes, f.pipe.heard)
			return nil
		}
		if !isTimeout(err) {
			return err
		}
		if err = f.look(ctx); err != nil {
			return err
		}
	}
}

// look is asked whenever a wait has gone on for a slice: nil waits on.
func (f *File) look(ctx context.Context) error {
	if f.isAborted() {
		return &stopError{errAborted}
	}
	if err := f.doubt(f.lastAck()); err != nil {
		return &stopError{err}
	}
	if f.pipe.heard.After(f.q.heard) {
		f.q.heard = f.pipe.heard
		hear(f.nodes, f.pipe.heard)
	}
	f.c.nodes.suspect(f.nodes) //nolint:contextcheck // a probe is everybody's, and ends with the cluster
	if err := f.c.nodes.known(f.nodes, f.min, dead); err != nil {
		return err
	}
	return f.q.hope(ctx)
}

// lastAck is when the Append under way was last acknowledged bytes, or got its turn.
func (f *File) lastAck() time.Time {
	if f.pipe != nil && f.pipe.answered.After(f.since) {
		return f.pipe.answered
	}
	return f.since
}

// doubt ends an Append that waits for nothing on a cluster that hangs.
func (f *File) doubt(since time.Time) error {
	silence := time.Since(since)
	if f.probe || silence < f.c.o.NodeTimeout+doubtful || !f.c.hangs() {
		return nil
	}
	return unavailable(fmt.Errorf("no acknowledgement for %v %w", silence.Round(time.Millisecond), errDoubt))
}

// judge goes on without nodes that do not answer, as long as nodes enough are
// left or only one has to be replaced. When none answers, it tells so, long
// before the deadline, so that others need not find it out, and waits on: a
// last replica is not given up because its node is slow.
func (f *File) judge(silent []int, all bool) error {
	if !all {
		if len(silent) > 1 && len(f.nodes)-len(silent) < f.q.need {
			return nil // when many nodes are slow at once it is the load, or the network
		}
		return blameSilent(silent)
	}
	f.allSilent(f.nodes)
	return nil
}

// allSilent tells that none of the nodes of a pipeline answers. Where another
// node was lost just now, it is too early: what that leaves to do may keep them
// from answering for a second.
func (f *File) allSilent(ns []node) {
	if f.told || f.probe || f.c.nodes.lostBeside(ns) {
		return
	}
	f.told = true
	f.c.report(unavailable(fmt.Errorf("append to %s: %w", f.path, errAllSilent)), f.since)
}

// guarded runs a step that makes calls and connections. Its ctx ends, with the
// reason as its cause, when the file is aborted and, for a step within an
// Append, when the Append waits for nothing.
func (f *File) guarded(ctx context.Context, appending bool, step func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	since := f.lastAck()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(slice)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-f.aborted:
				cancel(errAborted)
				return
			case <-t.C:
				if appending {
					if err := f.doubt(since); err != nil {
						cancel(err)
						return
					}
				}
			}
		}
	})
	err := step(ctx)
	close(stop)
	wg.Wait()
	return err
}
