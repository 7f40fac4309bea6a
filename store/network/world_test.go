package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/thrift"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is what a *testing.T and a *rapid.T have in common.
type tester interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// A call is what a receiver took.
type call struct {
	server   string
	messages []string
	id       thrift.BatchID
	numbered bool
}

// receiver is the handler of one server: it keeps what it answers OK for.
type receiver struct {
	w    *world
	addr string

	mu     sync.Mutex
	answer func(c call) thrift.Result // nil: OK
	sizes  []int                      // entries of every call that came, empty ones and probes too
}

func (r *receiver) Log(_ context.Context, c *thrift.Call) thrift.Result {
	k := call{server: r.addr}
	for _, e := range c.Entries {
		k.messages = append(k.messages, string(e.Message))
	}
	if k.numbered = c.Batch != nil; k.numbered {
		k.id = *c.Batch
		k.id.Producer = string(append([]byte(nil), k.id.Producer...))
	}
	r.mu.Lock()
	r.sizes = append(r.sizes, len(k.messages))
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		if a := answer(k); a != thrift.OK {
			return a
		}
	}
	if len(k.messages) > 0 {
		r.w.mu.Lock()
		r.w.calls = append(r.w.calls, k)
		r.w.mu.Unlock()
	}
	return thrift.OK
}
func (r *receiver) Name() string                    { return "Scribe" }
func (r *receiver) Version() string                 { return "2.2" }
func (r *receiver) Status() (thrift.Status, string) { return thrift.Alive, "" }
func (r *receiver) Counters() map[string]int64      { return nil }
func (r *receiver) AliveSince() int64               { return 1700000000 }
func (r *receiver) Reinitialize()                   {}
func (r *receiver) Shutdown()                       {}

func (r *receiver) answers(f func(c call) thrift.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// came is how many entries each call had since the last came.
func (r *receiver) came() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.sizes
	r.sizes = nil
	return n
}

func tryLater(call) thrift.Result { return thrift.TryLater }

// A fault is what a connection suffers. The zero fault is none.
type fault struct {
	refused bool
	silent  bool          // takes everything, answers nothing
	reply   int           // the connection is reset after so many bytes of replies; less than 0: before the first
	request int           // it is reset after so many bytes of requests
	slow    time.Duration // before each reply
}

// world is real servers behind pipes, and a dialler that gives its connections
// the faults of the moment. It works inside a bubble.
type world struct {
	t       tester
	servers map[string]*pipes
	at      map[string]*receiver
	wg      sync.WaitGroup
	ends    []func()

	mu    sync.Mutex
	calls []call
	fault func(addr string) fault // of the next connection; nil: none
	dials int
}

func newWorld(t tester, addrs ...string) *world {
	w := &world{t: t, servers: map[string]*pipes{}, at: map[string]*receiver{}}
	for _, a := range addrs {
		l := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
		r := &receiver{w: w, addr: a}
		s := thrift.New(r, thrift.Options{Log: zap.NewNop()})
		w.servers[a], w.at[a] = l, r
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.Serve(context.Background(), l)
		}()
		w.ends = append(w.ends, func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			s.Stop(ctx)
			<-served
		})
	}
	return w
}

// end stops the servers. A test calls it when its pool's work is over.
func (w *world) end() {
	for _, end := range w.ends {
		end()
	}
	w.wg.Wait()
}

func (w *world) faults(f func(addr string) fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

func (w *world) all(f fault) { w.faults(func(string) fault { return f }) }

func (w *world) dial(ctx context.Context, addr string) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	var f fault
	if w.fault != nil {
		f = w.fault(addr)
	}
	w.mu.Unlock()
	here, there := net.Pipe()
	switch {
	case f.refused:
		return nil, syscall.ECONNREFUSED
	case f.silent:
		w.wg.Go(func() { io.Copy(io.Discard, there) })
		return here, nil
	}
	select {
	case w.servers[addr].accepted <- there:
		return &faulty{Conn: here, fault: f, woken: make(chan struct{})}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dialled is how many connections were asked for since the last dialled.
func (w *world) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.dials
	w.dials = 0
	return n
}

// faulty is the client's end of a connection with a fault.
type faulty struct {
	net.Conn
	fault
	read, wrote int
	woken       chan struct{} // closed with the connection, or by a deadline that is over: who reads slowly hears of it
	once        sync.Once
}

func (c *faulty) wake() { c.once.Do(func() { close(c.woken) }) }

func (c *faulty) Close() error {
	c.wake()
	return c.Conn.Close()
}

func (c *faulty) Read(p []byte) (int, error) {
	if c.slow > 0 && c.read%24 == 0 {
		timer := time.NewTimer(c.slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.woken:
		}
	}
	if c.reply != 0 {
		left := max(c.reply, 0) - c.read
		if left == 0 {
			c.Close()
			return 0, syscall.ECONNRESET
		}
		p = p[:min(len(p), left)]
	}
	n, err := c.Conn.Read(p)
	c.read += n
	return n, err
}

func (c *faulty) Write(p []byte) (int, error) {
	left := len(p)
	if c.request > 0 {
		left = min(left, c.request-c.wrote)
	}
	n, err := c.Conn.Write(p[:left])
	c.wrote += n
	if errors.Is(err, io.ErrClosedPipe) { // a socket says so
		return n, syscall.EPIPE
	}
	if err == nil && n < len(p) {
		c.Close()
		err = syscall.EPIPE
	}
	return n, err
}

// SetDeadline is good also when the other end has closed, as a socket's is.
func (c *faulty) SetDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		c.wake()
	}
	if err := c.Conn.SetDeadline(t); !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

var thisStart = catalog.Identity{Aggregator: "leaf1", Epoch: 3, Start: 0xabc}

// pool makes a pool whose probes run until stop.
func (w *world) pool(id catalog.Identity) (p *Pool, stop func()) {
	p = NewPool(Options{Identity: id, Dial: w.dial, Log: zap.NewNop()})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	return p, func() {
		cancel()
		wg.Wait()
	}
}

func chain(t tester, p *Pool, s Spec) *Store {
	t.Helper()
	c, err := p.Chain(s, "central")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shut(t tester, chains ...*Store) {
	t.Helper()
	for _, c := range chains {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// messages are those of all calls, as they came.
func (w *world) messages() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		all = append(all, c.messages...)
	}
	return all
}

// read is what a reader makes of them that takes each (id, index) once.
func (w *world) read() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	for _, c := range w.calls {
		if !c.numbered {
			w.t.Errorf("a call without an id: %q", c.messages)
		}
		for i, m := range c.messages {
			key := fmt.Sprintf("%+v %d", c.id, i)
			if !seen[key] {
				all = append(all, m)
			}
			seen[key] = true
		}
	}
	return all
}

func wantMessages(t tester, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %d messages %.200q, want %d: %.200q", what, len(got), got, len(want), want)
	}
}

// refused appends a batch that is to be refused whole.
func refused(t tester, s *Store, b *store.Batch) error {
	t.Helper()
	rest, err := s.Append(context.Background(), b)
	if err == nil || rest == nil || rest.Len() != b.Len() || len(b.Taken) != 0 {
		t.Fatalf("rest %v, taken %v, error %v; want a refusal of the whole batch", rest, b.Taken, err)
	}
	return err
}

func taken(t tester, s *Store, b *store.Batch) {
	t.Helper()
	rest, err := s.Append(context.Background(), b)
	if err != nil || rest != nil {
		t.Fatalf("rest %v, error %v; want the batch taken", rest, err)
	}
	if want := []store.Taken{{Place: "central", Messages: b.Len()}}; !slices.Equal(b.Taken, want) {
		t.Errorf("taken by %v, want %v", b.Taken, want)
	}
}
