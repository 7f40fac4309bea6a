package hdfs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// avoidFor is how long a DataNode that failed gets no new blocks of ours. The
// NameNode's own view lags by 30 s to 10 min.
const avoidFor = 10 * time.Second

// goneLately is how long the other nodes may be busy with the pipelines of one
// that has died.
const goneLately = 2 * time.Second

// proof is what speaks against a DataNode, weaker first.
type proof int

const (
	refused proof = iota // a block; for reasons that may be the block's or one disk's
	quiet                // it has not answered for half a probe: enough to go on without it
	dead                 // it has not answered for a probe, or nobody listens there
)

// nodeHealth is what the files of a cluster have found out about its DataNodes.
type nodeHealth struct {
	c *Cluster
	// How many of bad do not answer, and how many probes run, so that an Append
	// need not look.
	mutes, asking atomic.Int32
	gone          atomic.Int64 // when a node was last found to listen no more, nanoseconds since 1970

	mu     sync.Mutex
	bad    map[string]badNode       // by address
	probes map[string]*probe        // the same; the last one of each
	heard  map[string]*atomic.Int64 // the same; of every node that a pipeline was made of
}

type badNode struct {
	node
	why   proof
	until time.Time
}

func newNodeHealth(c *Cluster) *nodeHealth {
	return &nodeHealth{c: c, bad: map[string]badNode{}, probes: map[string]*probe{}, heard: map[string]*atomic.Int64{}}
}

// know lets the nodes of a pipeline that was just made share what is heard of them.
func (h *nodeHealth) know(ns []node) {
	h.mu.Lock()
	for i := range ns {
		if h.heard[ns[i].addr] == nil {
			h.heard[ns[i].addr] = new(atomic.Int64)
		}
		ns[i].heard = h.heard[ns[i].addr]
	}
	h.mu.Unlock()
	hear(ns, time.Now())
}

// hear notes that every node of a pipeline answered.
func hear(ns []node, at time.Time) {
	t := at.UnixNano()
	for i := range ns {
		if ns[i].heard.Load() < t {
			ns[i].heard.Store(t)
		}
	}
}

// excuses says whether n answered anybody a moment ago. Then it lives, however
// long it takes to answer a probe; unless nobody listens there any more.
func (h *nodeHealth) excuses(n node, err error) bool {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	h.mu.Lock()
	at := h.heard[n.addr]
	h.mu.Unlock()
	return at != nil && time.Since(time.Unix(0, at.Load())) < h.c.o.NodeTimeout
}

// exclude notes what speaks against n.
func (h *nodeHealth) exclude(n node, why proof) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tidy()
	h.bad[n.addr] = badNode{n, max(why, h.bad[n.addr].why), time.Now().Add(avoidFor)}
	if p := h.probes[n.addr]; p != nil && why >= quiet {
		p.decide()
	}
	h.tidy()
}

// vanished notes that n has lost many connections at once, and says whether that
// is news. It is taken back as soon as n answers.
func (h *nodeHealth) vanished(n node) bool {
	h.mu.Lock()
	known, heard := h.bad[n.addr].why == dead, h.heard[n.addr]
	h.mu.Unlock()
	if known {
		return false
	}
	if heard != nil {
		heard.Store(0) // what it said before excuses it no more
	}
	h.exclude(n, dead)
	h.gone.Store(time.Now().UnixNano())
	h.c.spawn(func() { h.watch(n) })
	return true
}

// clear takes back that n does not answer.
func (h *nodeHealth) clear(n node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bad[n.addr].why != refused {
		delete(h.bad, n.addr)
		h.tidy()
	}
}

// tidy drops what is over. h.mu is held.
func (h *nodeHealth) tidy() {
	n := int32(0)
	now := time.Now()
	for a, b := range h.bad {
		switch {
		case now.After(b.until):
			delete(h.bad, a)
		case b.why >= quiet:
			n++
		}
	}
	for a, p := range h.probes {
		if !p.ended.IsZero() && now.Sub(p.ended) > avoidFor {
			delete(h.probes, a)
		}
	}
	h.mutes.Store(n)
}

// lostBeside says whether a node that is none of ns does not answer, or any has
// gone just now.
func (h *nodeHealth) lostBeside(ns []node) bool {
	if time.Since(time.Unix(0, h.gone.Load())) < goneLately {
		return true
	}
	for _, n := range h.avoid(quiet) {
		if !slices.ContainsFunc(ns, n.is) {
			return true
		}
	}
	return false
}

// avoid is what a new replica must not lie on: nodes with that proof against
// them, or a stronger one.
func (h *nodeHealth) avoid(why proof) []node {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tidy()
	ns := make([]node, 0, len(h.bad))
	for _, b := range h.bad {
		if b.why >= why {
			ns = append(ns, b.node)
		}
	}
	return ns
}

// living leaves out the nodes that others have found dead meanwhile, if any are
// left, and then, where even is quiet, the quiet ones, if need are left: each
// set-up through such a one costs its time and a place.
func (h *nodeHealth) living(ns []node, need int, even proof) []node {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tidy()
	without := func(why proof, need int) {
		ok := slices.DeleteFunc(slices.Clone(ns), func(n node) bool { return h.bad[n.addr].why >= why })
		if len(ok) >= max(need, 1) {
			ns = ok
		}
	}
	without(dead, 1)
	if even <= quiet {
		without(quiet, need)
	}
	return ns
}

// settle waits for the questions that others have asked nodes of ns just now,
// unless as much is known without them: what is sent through a node that is lost
// has to be sent again, under a recovery that cannot wait.
func (h *nodeHealth) settle(ctx context.Context, ns []node) {
	if h.asking.Load() == 0 {
		return
	}
	for _, n := range ns {
		h.mu.Lock()
		p, known := h.probes[n.addr], h.bad[n.addr].why >= quiet
		h.mu.Unlock()
		if p == nil || known {
			continue
		}
		select {
		case <-p.decided:
		case <-p.done:
		case <-ctx.Done():
		}
	}
}

// suspect begins to ask the nodes of which nobody has heard for a slice. Nobody
// sends through them meanwhile, and when the silence has lasted node_timeout half
// of that probe is over.
func (h *nodeHealth) suspect(ns []node) {
	for _, n := range ns {
		if time.Since(time.Unix(0, n.heard.Load())) >= slice {
			h.probe(n)
		}
	}
}

// known is the error of the nodes that others have found dead, or even only
// quiet where need nodes are left without those. It is nil if there are none, or
// if none would be left.
func (h *nodeHealth) known(ns []node, need int, even proof) error {
	if h.mutes.Load() == 0 {
		return nil
	}
	for why := dead; why >= even; why-- {
		left := h.living(ns, need, why)
		if len(left) == len(ns) {
			continue
		}
		bad := &nodeError{why: why, err: errKnown}
		for i, n := range ns {
			if !slices.ContainsFunc(left, n.is) {
				bad.nodes = append(bad.nodes, i)
			}
		}
		return bad
	}
	return nil
}

// silent asks all of the nodes and answers the places of those that do not
// live. It takes half a probe if need nodes have answered by then, and all of
// it else: to lose one node too many costs more than to wait. An error says
// that ctx is over.
func (h *nodeHealth) silent(ctx context.Context, ns []node, need int) ([]int, error) {
	ps := make([]*probe, len(ns))
	for i, n := range ns {
		ps[i] = h.probe(n) //nolint:contextcheck // a probe is everybody's, and ends with the cluster
	}
	for _, whole := range []bool{false, true} {
		var bad []int
		for i, p := range ps {
			until := p.half
			if whole {
				until = p.done
			}
			select {
			case <-until:
			case <-p.done:
			case <-ctx.Done():
				return nil, late(ctx, "asking", ns)
			}
			if err := p.answer(); err != nil && !h.excuses(ns[i], err) {
				bad = append(bad, i)
			}
		}
		if whole || len(ns)-len(bad) >= need {
			return bad, nil
		}
	}
	panic("unreachable: the second round answers")
}

// A question is the wait for an answer of a pipeline. A timeout is a question,
// not a verdict: after node_timeout of silence every node is asked.
type question struct {
	c     *Cluster
	nodes []node
	need  int       // nodes that the pipeline must keep
	heard time.Time // of the last sign of life, or the last question
	// judge decides about the nodes that do not answer: nil waits on.
	judge func(silent []int, all bool) error
}

// next is when to look up from the wait.
func (q *question) next(ctx context.Context) time.Time {
	now := time.Now()
	t := now.Add(slice)
	if d, ok := ctx.Deadline(); ok && d.Before(t) {
		t = d
		if t.Before(now) { // ctx is about to end
			t = now.Add(time.Millisecond)
		}
	}
	return t
}

// hope says whether to wait on. Else its error is a *nodeError, or a *stopError
// when ctx is over.
func (q *question) hope(ctx context.Context) error {
	if err := late(ctx, "waiting for", q.nodes); err != nil {
		return &stopError{err}
	}
	if time.Since(q.heard) < q.c.o.NodeTimeout {
		return nil
	}
	silent, err := q.c.nodes.silent(ctx, q.nodes, q.need)
	q.heard = time.Now()
	if err != nil {
		return &stopError{err}
	}
	if len(silent) == 0 {
		return nil
	}
	return q.judge(silent, len(silent) == len(q.nodes))
}

// blameSilent is a judge's verdict that goes on without the silent nodes.
func blameSilent(silent []int) error {
	return &nodeError{nodes: silent, why: quiet, err: errSilent}
}
