package hdfstest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Net is a network in memory. Nothing in it takes time, and all that waits in
// it waits on time or on each other, so that it can be used in a
// testing/synctest bubble. Connections are accepted and take some bytes whether
// or not anybody serves them, as a kernel's do.
type Net struct {
	mu     sync.Mutex
	listen map[string]*listener
	hole   map[string]bool
}

// NewNet makes a network without hosts.
func NewNet() *Net { return &Net{listen: map[string]*listener{}, hole: map[string]bool{}} }

// Listen opens an address, which is any text.
func (n *Net) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listen[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	l := &listener{net: n, addr: addr, queue: make(chan net.Conn, 4096), closed: make(chan struct{})}
	n.listen[addr] = l
	return l, nil
}

// BlackHole makes connects to an address get no answer at all.
func (n *Net) BlackHole(addr string, on bool) {
	n.mu.Lock()
	n.hole[addr] = on
	n.mu.Unlock()
}

// Dial connects, as net.Dialer.DialContext.
func (n *Net) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l, hole := n.listen[addr], n.hole[addr]
	n.mu.Unlock()
	fail := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Addr: memAddr(addr), Err: err} }
	if hole {
		<-ctx.Done()
		return nil, fail(ctx.Err())
	}
	if l == nil {
		return nil, fail(syscall.ECONNREFUSED)
	}
	a, b := newHalf(), newHalf()
	select {
	case l.queue <- &conn{r: a, w: b, addr: addr}:
		return &conn{r: b, w: a, addr: addr}, nil
	case <-l.closed:
		return nil, fail(syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, fail(ctx.Err())
	}
}

type memAddr string

func (memAddr) Network() string  { return "tcp" }
func (a memAddr) String() string { return string(a) }

type listener struct {
	net    *Net
	addr   string
	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listen, l.addr)
		l.net.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.queue:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return memAddr(l.addr) }

// halfBytes is what one direction of a connection holds before its writer waits.
const halfBytes = 256 << 10

// A half is one direction of a connection.
type half struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  []byte
	eof  bool // the writer closed
	gone bool // the reader closed
	r, w deadline
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set is called with h.mu held.
func (d *deadline) set(h *half, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			h.cond.Broadcast()
			h.mu.Unlock()
		})
	}
	h.cond.Broadcast()
}

type conn struct {
	r, w *half
	addr string
}

func (c *conn) Read(p []byte) (int, error) {
	h := c.r
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.gone:
			return 0, net.ErrClosed
		case h.r.passed():
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[:copy(h.buf, h.buf[n:])]
			h.cond.Broadcast()
			return n, nil
		case h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	h := c.w
	h.mu.Lock()
	defer h.mu.Unlock()
	done := 0
	for len(p) > 0 {
		switch {
		case h.eof:
			return done, net.ErrClosed
		case h.gone:
			return done, syscall.EPIPE
		case h.w.passed():
			return done, os.ErrDeadlineExceeded
		}
		if n := min(len(p), halfBytes-len(h.buf)); n > 0 {
			h.buf = append(h.buf, p[:n]...)
			p, done = p[n:], done+n
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
	return done, nil
}

func (c *conn) Close() error {
	c.r.mu.Lock()
	c.r.gone = true
	c.r.r.set(c.r, time.Time{})
	c.r.mu.Unlock()
	c.w.mu.Lock()
	c.w.eof = true
	c.w.w.set(c.w, time.Time{})
	c.w.mu.Unlock()
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.r.gone {
		return net.ErrClosed
	}
	c.r.r.set(c.r, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.eof {
		return net.ErrClosed
	}
	c.w.w.set(c.w, t)
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) LocalAddr() net.Addr  { return memAddr("client") }
func (c *conn) RemoteAddr() net.Addr { return memAddr(c.addr) }
