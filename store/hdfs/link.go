package hdfs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxReply is the longest answer of a NameNode that is read: Hadoop's own
// default for ipc.maximum.response.length.
const maxReply = 128 << 20

// An answer is what came back for one call on one link.
type answer struct {
	body []byte
	err  error
	from *link
}

// A link is one TCP connection to a NameNode, for any number of calls at a
// time. Two goroutines serve it; they end when it breaks or is closed.
type link struct {
	conn net.Conn
	out  chan []byte
	gone chan struct{} // closed when it is broken

	mu      sync.Mutex
	waiting map[int32]chan<- answer // nil once it is broken
	left    bool                    // takes no new calls: ends when nothing waits
}

func newLink(c net.Conn) *link {
	return &link{
		conn:    c,
		out:     make(chan []byte, 64),
		gone:    make(chan struct{}),
		waiting: map[int32]chan<- answer{},
	}
}

// send puts a call's frame on the way. What comes back for it goes to ch, which
// must have room, also that the link broke. An error says that nothing comes:
// the link is broken already, or ctx over.
func (l *link) send(ctx context.Context, call int32, b []byte, ch chan<- answer) error {
	l.mu.Lock()
	if l.waiting == nil {
		l.mu.Unlock()
		return errBroken
	}
	l.waiting[call] = ch
	l.mu.Unlock()
	select {
	case l.out <- b:
		return nil
	case <-l.gone:
		return nil // fail tells ch
	case <-ctx.Done():
		l.forget(call)
		return over(ctx, "sending")
	}
}

// forget ends the waiting for a call.
func (l *link) forget(call int32) {
	l.mu.Lock()
	delete(l.waiting, call)
	idle := l.left && len(l.waiting) == 0
	l.mu.Unlock()
	if idle {
		l.conn.Close()
	}
}

// leave says that no new call will come.
func (l *link) leave() {
	l.mu.Lock()
	l.left = true
	idle := len(l.waiting) == 0
	l.mu.Unlock()
	if idle {
		l.conn.Close()
	}
}

// take ends the waiting for a call that was answered.
func (l *link) take(call int32) chan<- answer {
	l.mu.Lock()
	ch := l.waiting[call]
	l.mu.Unlock()
	l.forget(call)
	return ch
}

// fail ends the link: every call that waits is told.
func (l *link) fail(err error) {
	l.conn.Close()
	l.mu.Lock()
	w := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if w == nil {
		return
	}
	close(l.gone)
	for _, ch := range w {
		deliver(ch, answer{err: err, from: l})
	}
}

// deliver never blocks: a call that has more answers than room needs no more.
func deliver(ch chan<- answer, a answer) {
	select {
	case ch <- a:
	default:
	}
}

// write sends frames until the link ends. limit bounds each write.
func (l *link) write(limit time.Duration) {
	for {
		select {
		case b := <-l.out:
			err := l.conn.SetWriteDeadline(time.Now().Add(limit))
			if err == nil {
				_, err = l.conn.Write(b)
			}
			if err != nil {
				l.fail(fmt.Errorf("%w: %w", errBroken, err))
				return
			}
		case <-l.gone:
			return
		}
	}
}

// read hands out answers until the link ends.
func (l *link) read() {
	r := bufio.NewReader(l.conn)
	for {
		b, err := readFrame(r)
		var p reply
		if err == nil {
			p, err = parseReply(b)
		}
		if err != nil {
			l.fail(fmt.Errorf("%w: %w", errBroken, err))
			return
		}
		if p.fatal { // the NameNode ends the connection: for everybody on it
			l.fail(p.err)
			return
		}
		if ch := l.take(p.call); ch != nil {
			deliver(ch, answer{body: p.body, err: p.err, from: l})
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var l [4]byte
	if _, err := io.ReadFull(r, l[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(l[:])
	if n > maxReply {
		return nil, fmt.Errorf("an answer of %d bytes: not a NameNode", n)
	}
	var b bytes.Buffer // grows with what arrives, not with what is announced
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// A reply is one answer of a NameNode: RpcResponseHeaderProto and the method's own.
type reply struct {
	call  int32
	body  []byte
	err   error // *RemoteError
	fatal bool
}

func parseReply(b []byte) (reply, error) {
	h, k := protowire.ConsumeBytes(b)
	if k < 0 {
		return reply{}, protowire.ParseError(k)
	}
	f, err := decode(h)
	if err != nil {
		return reply{}, err
	}
	p := reply{call: int32(f.u[1])} // two's complement: a connection's own messages have negative ids
	switch f.u[2] {
	case 0:
		if p.body, k = protowire.ConsumeBytes(b[k:]); k < 0 {
			return reply{}, protowire.ParseError(k)
		}
	case 1, 2:
		p.fatal = f.u[2] == 2
		p.err = &RemoteError{Class: string(f.s[4]), Message: string(f.s[5])}
	default:
		return reply{}, errors.New("an answer of unknown status: not a NameNode")
	}
	return p, nil
}
