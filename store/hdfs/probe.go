package hdfs

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

// A probe asks one DataNode whether it lives, for all files that want to know.
// It takes node_timeout at most, with a second connection after half of it,
// since the first packet of a connect may be lost.
type probe struct {
	half    chan struct{} // closed when half of its time is over
	done    chan struct{} // closed at the end
	decided chan struct{} // closed when something else speaks against the node
	decide  func()        // closes decided, once
	ended   time.Time     // under nodeHealth.mu
	err     error         // when done is closed; nil: the node lives
}

// answer is nil when the node has answered, errSilent as long as it has not.
func (p *probe) answer() error {
	select {
	case <-p.done:
		return p.err
	default:
		return errSilent
	}
}

// probe begins to ask n, or joins who asks it, or takes an answer that is fresh.
func (h *nodeHealth) probe(n node) *probe {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.probes[n.addr]; p != nil && (p.ended.IsZero() || time.Since(p.ended) <= h.c.o.NodeTimeout/2) {
		return p
	}
	p := &probe{half: make(chan struct{}), done: make(chan struct{}), decided: make(chan struct{})}
	p.decide = sync.OnceFunc(func() { close(p.decided) })
	h.probes[n.addr] = p
	h.asking.Add(1)
	ok := h.c.spawn(func() {
		defer h.asking.Add(-1)
		err := h.c.ask(n, p.half)
		if h.excuses(n, err) {
			err = nil
		}
		h.mu.Lock()
		p.ended = time.Now()
		h.mu.Unlock()
		p.err = err
		if errors.Is(err, syscall.ECONNREFUSED) {
			h.gone.Store(time.Now().UnixNano())
		}
		if err == nil {
			h.clear(n)
		} else {
			h.exclude(n, dead)
		}
		close(p.done)
		if errors.Is(err, syscall.ECONNREFUSED) {
			select {
			case h.c.gone <- n:
			case <-h.c.life:
			}
		}
		if err != nil {
			h.c.spawn(func() { h.watch(n) })
		}
	})
	if !ok { // closed: nobody needs to know any more
		h.asking.Add(-1)
		p.ended = time.Now()
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
		if h.c.ask(n, make(chan struct{})) == nil {
			h.clear(n)
			return
		}
	}
}

// ask is one probe. It closes half when half of its time is over and no answer
// has come. Its error is ECONNREFUSED where nobody listens. A process that ends
// breaks off the connections that wait to be accepted, which says less than a
// refusal: after it, the node is asked again at once.
func (c *Cluster) ask(n node, half chan<- struct{}) error {
	c.count.probes.Add(1)
	limit := c.o.NodeTimeout
	ctx, cancel := context.WithTimeout(c.life, limit)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	answers := make(chan error, 3)
	try := func() { wg.Go(func() { answers <- c.tryNode(ctx, n) }) }
	try()
	t := time.NewTimer(limit / 2)
	defer t.Stop()
	var again, halved bool
	for waiting := 1; ; {
		select {
		case <-t.C:
			close(half)
			halved = true
			try()
			waiting++
		case err := <-answers:
			waiting--
			switch {
			case err == nil || errors.Is(err, syscall.ECONNREFUSED):
				return err
			case !again && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)):
				again = true
				try()
				waiting++
			case halved && waiting == 0:
				return err
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
