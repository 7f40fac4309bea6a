package hdfs

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// avoidFor is how long a DataNode that failed gets no new blocks of ours. The
// NameNode's own view lags by 30 s to 10 min.
const avoidFor = 10 * time.Second

// proof is what speaks against a DataNode, weaker first.
type proof int

const (
	refused proof = iota // a block; for reasons that may be the block's or one disk's
	quiet                // it has not answered for half a probe: enough to go on without it
	dead                 // it has not answered for a probe, or nobody listens there
)

// nodeHealth is what the files of a cluster have found out about its DataNodes.
type nodeHealth struct {
	c     *Cluster
	deads atomic.Int32 // how many of bad are dead, so that an Append need not look

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
	for i := range ns {
		ns[i].heard.Store(at.UnixNano())
	}
}

// busy says whether n answered anybody a moment ago. Then it lives, however
// long it takes to answer a probe.
func (h *nodeHealth) busy(n node) bool {
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
	h.tidy()
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
		case b.why == dead:
			n++
		}
	}
	for a, p := range h.probes {
		if !p.ended.IsZero() && now.Sub(p.ended) > avoidFor {
			delete(h.probes, a)
		}
	}
	h.deads.Store(n)
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
// left, and then the quiet ones, if need are left: each set-up through such a
// one costs its time and a place.
func (h *nodeHealth) living(ns []node, need int) []node {
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
	without(quiet, need)
	return ns
}

// firstDead is the place of the first node that others have found dead, -1 if
// there is none, or if none would be left.
func (h *nodeHealth) firstDead(ns []node) int {
	if h.deads.Load() == 0 {
		return -1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tidy()
	first, n := -1, 0
	for i := range ns {
		if h.bad[ns[i].addr].why == dead {
			n++
			if first < 0 {
				first = i
			}
		}
	}
	if n == len(ns) {
		return -1
	}
	return first
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
				return nil, over(ctx, "asking DataNodes")
			}
			if !p.lives() && !h.busy(ns[i]) {
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
	if err := over(ctx, "waiting for DataNodes"); err != nil {
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
