package thrift

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// double is a handler whose answers a test sets.
type double struct {
	log      func(context.Context, *Call) Result
	counters map[string]int64

	mu            sync.Mutex
	reinitialized int
	shutdown      int
}

func (d *double) Log(ctx context.Context, c *Call) Result {
	if d.log == nil {
		return OK
	}
	return d.log(ctx, c)
}
func (d *double) Name() string               { return "Scribe" }
func (d *double) Version() string            { return "2.2" }
func (d *double) Status() (Status, string)   { return Warning, "Failed to connect" }
func (d *double) Counters() map[string]int64 { return d.counters }
func (d *double) AliveSince() int64          { return 1700000000 }
func (d *double) Reinitialize()              { d.mu.Lock(); d.reinitialized++; d.mu.Unlock() }
func (d *double) Shutdown()                  { d.mu.Lock(); d.shutdown++; d.mu.Unlock() }

// pipes is a listener whose connections are pipes: it works inside a bubble.
type pipes struct {
	accepted chan net.Conn
	failures chan error
	closed   chan struct{}
	once     sync.Once
}

func newPipes() *pipes {
	return &pipes{accepted: make(chan net.Conn), failures: make(chan error), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case <-p.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-p.accepted:
		return c, nil
	case err := <-p.failures:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// dial connects to the server behind the listener.
func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.accepted <- there
	return here
}

// started is a server under test and what its Serve answered.
type started struct {
	*Server
	served chan error
}

func start(t testing.TB, l net.Listener, h Handler, o Options) *started {
	t.Helper()
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &started{New(h, o), make(chan error, 1)}
	go func() { s.served <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() { s.stop(t) })
	return s
}

// stop stops the server at once and sees to it that it ended well.
func (s *started) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Stop(ctx)
	if err := <-s.served; err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	s.served <- nil
	if m := s.Stats().FrameMemory; m != 0 {
		t.Errorf("after the stop %d bytes of frames are in the account", m)
	}
}

// tcp listens on loopback.
func tcp(t testing.TB) (net.Listener, func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// The wire by hand, so that the tests do not rest on the code under test.

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
func u64(n uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, n)
}

func join(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		case int:
			b = append(b, byte(p))
		}
	}
	return b
}

func text(s string) []byte           { return join(u32(len(s)), s) }
func fieldOf(typ, id int) []byte     { return join(typ, u16(id)) }
func textField(id int, s string) any { return join(fieldOf(11, id), text(s)) }
func framed(body []byte) []byte      { return join(u32(len(body)), body) }
func entryOf(cat, msg string) []byte { return join(textField(1, cat), textField(2, msg), 0) }
func listOf(n int, es ...[]byte) []byte {
	return join(fieldOf(15, 1), 12, u32(n), slices.Concat(es...))
}

func oldHeader(name string, kind, seq int) []byte {
	return join(text(name), kind, u32(seq))
}

func strictHeader(name string, kind, seq int) []byte {
	return join(0x80, 0x01, 0, kind, text(name), u32(seq))
}

// logCall is the body of a Log call in the old form.
func logCall(seq int, es ...[]byte) []byte {
	return join(oldHeader("Log", 1, seq), listOf(len(es), es...), 0)
}

// logAnswer is the answer to Log as Scribe gives it, a whole frame.
func logAnswer(seq, result int) []byte {
	return join(u32(20), u32(3), "Log", 2, u32(seq), 8, u16(0), u32(result), 0)
}

func exceptionFrame(name string, seq int, message string, typ int) []byte {
	return framed(join(text(name), 3, u32(seq), textField(1, message), fieldOf(8, 2), u32(typ), 0))
}

// exchange sends bytes and reads one frame.
func exchange(t testing.TB, c net.Conn, send []byte) []byte {
	t.Helper()
	go c.Write(send)
	return receive(t, c)
}

func receive(t testing.TB, c net.Conn) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatalf("no reply: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatalf("half a reply: %v", err)
	}
	return join(head, body)
}

// closedBy reads until the server closes and returns what came before.
func closedBy(t testing.TB, c net.Conn) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Minute))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("the connection was not closed in order: %v", err)
	}
	return b
}

func wantBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

func messagesOf(c *Call) []string {
	var s []string
	for _, e := range c.Entries {
		s = append(s, string(e.Category)+"="+string(e.Message))
	}
	return s
}
