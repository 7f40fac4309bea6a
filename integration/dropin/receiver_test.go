//go:build integration

package dropin

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"twinscribe/integration/lab"
)

// receiver is a next server that does what a test wants, with what it was sent.
type receiver struct {
	port string

	mu       sync.Mutex
	calls    []received
	conns    int
	tryLater bool
	hook     func(received)
}

// received is one Log call.
type received struct {
	strict  bool
	conn    int
	body    []byte
	entries int
	refused bool
}

// listening is a receiver that answers OK.
func listening(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{port: lab.OwnPort(t)}
	l, err := net.Listen("tcp", "127.0.0.1:"+r.port)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns++
			n := r.conns
			open = append(open, c)
			r.mu.Unlock()
			wg.Go(func() { r.serve(c, n) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range open {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

// serve answers in the old form, as an original does. Anything but Log is an unknown method.
func (r *receiver) serve(c net.Conn, n int) {
	defer c.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, body); err != nil {
			return
		}
		call := received{strict: body[0] == 0x80, conn: n, body: body}
		name := []byte("\x00\x00\x00\x03Log")
		at := bytes.Index(body, name)
		if at < 0 {
			return
		}
		seq := body[at+len(name):]
		if !call.strict {
			seq = seq[1:]
		}
		call.entries = int(binary.BigEndian.Uint32(seq[4+4:]))
		r.mu.Lock()
		code, hook := byte(0), r.hook
		if r.tryLater {
			code, call.refused = 1, true
		}
		r.calls = append(r.calls, call)
		r.mu.Unlock()
		if hook != nil {
			hook(call)
		}
		answer := append(append([]byte{0, 0, 0, 3, 'L', 'o', 'g', 2}, seq[:4]...), 8, 0, 0, 0, 0, 0, code, 0)
		if _, err := c.Write(lab.Framed(answer)); err != nil {
			return
		}
	}
}

// refuse has it answer TRY_LATER from here on, or OK.
func (r *receiver) refuse(on bool) {
	r.mu.Lock()
	r.tryLater = on
	r.mu.Unlock()
}

// before has it call f with each call before it answers.
func (r *receiver) before(f func(received)) {
	r.mu.Lock()
	r.hook = f
	r.mu.Unlock()
}

// got is what was sent so far.
func (r *receiver) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.calls...)
}
