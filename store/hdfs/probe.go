package hdfs

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// A probe asks one DataNode whether it lives, for all files that want to know.
// It takes node_timeout at most, with a second connection after half of it,
// since the first packet of a connect may be lost.
type probe struct {
	half  chan struct{} // closed when half of its time is over
	done  chan struct{} // closed at the end
	ended time.Time     // under nodeHealth.mu
	alive bool          // when done is closed
}

// lives says whether an answer has come.
func (p *probe) lives() bool {
	select {
	case <-p.done:
		return p.alive
	default:
		return false
	}
}

// probe begins to ask n, or joins who asks it, or takes an answer that is fresh.
func (h *nodeHealth) probe(n node) *probe {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.probes[n.addr]; p != nil && (p.ended.IsZero() || time.Since(p.ended) <= h.c.o.NodeTimeout/2) {
		return p
	}
	p := &probe{half: make(chan struct{}), done: make(chan struct{})}
	h.probes[n.addr] = p
	ok := h.c.spawn(func() {
		alive := h.c.ask(n, p.half) || h.busy(n)
		h.mu.Lock()
		p.ended = time.Now()
		h.mu.Unlock()
		p.alive = alive
		if alive {
			h.clear(n)
		} else {
			h.exclude(n, dead)
		}
		close(p.done)
		if !alive {
			h.watch(n)
		}
	})
	if !ok { // closed: nobody needs to know any more
		p.alive, p.ended = true, time.Now()
		close(p.done)
	}
	return p
}

// watch waits for a dead node to come back, as long as it is avoided.
func (h *nodeHealth) watch(n node) {
	for until := time.Now().Add(avoidFor); time.Now().Before(until); {
		t := time.NewTimer(time.Second)
		select {
		case <-h.c.life:
			t.Stop()
			return
		case <-t.C:
		}
		if h.c.ask(n, make(chan struct{})) {
			h.clear(n)
			return
		}
	}
}

// ask is one probe. It closes half when half of its time is over and no answer
// has come, or the answer is no.
func (c *Cluster) ask(n node, half chan<- struct{}) bool {
	c.count.probes.Add(1)
	limit := c.o.NodeTimeout
	ctx, cancel := context.WithTimeout(c.life, limit)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	answers := make(chan error, 2)
	try := func() { wg.Go(func() { answers <- c.tryNode(ctx, n) }) }
	try()
	t := time.NewTimer(limit / 2)
	defer t.Stop()
	for tries, failed := 1, 0; ; {
		select {
		case <-t.C:
			close(half)
			try()
			tries++
		case err := <-answers:
			if err == nil {
				return true
			}
			failed++
			if errors.Is(err, syscall.ECONNREFUSED) || tries == 2 && failed == 2 {
				return false
			}
		}
	}
}

// tryNode asks a DataNode for shared memory, which it has only for its own
// host's domain socket: it says no at once, without a look at its disks, and
// before it writes to its log, where the traces of hundreds of pipelines that
// broke with another node may queue for seconds. Any answer is a sign of life.
func (c *Cluster) tryNode(ctx context.Context, n node) error {
	conn, err := c.d.dataNode(ctx, n.addr, c.o.NodeTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	until, _ := ctx.Deadline()
	if err = conn.SetDeadline(until); err != nil {
		return err
	}
	if _, err = conn.Write(request(opShm, putString(nil, 1, c.nn.name))); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
