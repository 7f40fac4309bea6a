package thrift

import (
	"errors"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// lingerTime bounds how long a connection that the server closes waits for the
// client to close its side.
const lingerTime = 250 * time.Millisecond

// conn is one connection, served by one goroutine. Between calls it holds its
// own small buffer and nothing else.
type conn struct {
	server *Server
	group  *group
	net    net.Conn
	peer   *peer

	idle     atomic.Bool // waits for the first byte of a frame
	frameEnd time.Time   // deadline of the frame being read; zero: not set yet

	// What arrived: in[start:end] is not read yet. in is own, or lent for a frame
	// that is larger.
	in         []byte
	start, end int
	lent       *[]byte               // of the server's memory; nil: none
	expect     int                   // bytes of the last frame, if it was a large one; else 0
	idleUntil  time.Time             // the read deadline, where it is one of armIdle's
	replyUntil time.Time             // the write deadline
	raw        syscall.RawConn       // nil: the connection is none of the operating system's
	take       func(fd uintptr) bool // ready, as a value made once
	waited     bool                  // of the first read of a frame, as got and failed
	got        int
	failed     error

	own   [readSize]byte
	head  [maxHeader]byte // the beginning of a frame that is thrown away
	reply [32]byte

	mu    sync.Mutex
	holds holdings // for a frame that is being read; guarded by mu

	answered bool   // the last reply was written and may still be under way
	producer string // of the last batch id, see decoder

	// What the call under way holds.
	frame    frame
	decoder  *decoder // nil: none
	reserved int      // bytes for its entries
}

func newConn(s *Server, g *group, nc net.Conn, p *peer) *conn {
	c := &conn{server: s, group: g, net: nc, peer: p}
	c.in, c.take = c.own[:], c.ready
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c
}

// serve answers one call after another until the connection ends.
func (c *conn) serve() {
	defer c.server.drop(c)
	defer c.giveBack()
	defer func() {
		if p := recover(); p != nil {
			c.server.stats.panics.Add(1)
			c.server.log.Error("thrift: a connection ended by a panic",
				zap.String("peer", c.peer.sender), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		}
	}()
	for {
		f, err := c.read()
		if err != nil {
			c.ended(err)
			return
		}
		reply, err := c.answer(f)
		if len(reply) > 0 {
			err = errors.Join(err, c.write(reply))
		}
		if err != nil {
			c.ended(err)
			return
		}
	}
}

// ended counts and logs why the connection is closed.
func (c *conn) ended(err error) {
	b, is := errors.AsType[*badFrame](err)
	switch {
	case is:
		c.server.stats.bad[b.kind].Add(1)
		c.server.log.Warn("thrift: no call, connection closed", zap.String("peer", c.peer.sender),
			zap.Stringer("kind", b.kind), zap.String("error", b.text))
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.server.stats.timeouts[frameDeadline].Add(1)
		c.server.log.Warn("thrift: a frame did not arrive in time, connection closed", zap.String("peer", c.peer.sender))
	}
	if c.answered {
		c.linger()
	}
}

// answer makes the reply to one frame, a whole frame too, or none, and frees the
// frame: a slow client does not hold its memory. An error ends the connection
// after the reply.
func (c *conn) answer(f frame) (reply []byte, err error) {
	c.frame = f
	defer c.release()
	if !f.busy {
		c.server.stats.frames.Add(1)
		c.server.stats.frameBytes.Add(int64(len(f.body)) + 4)
	}
	h, err := parseHeader(f.body)
	if err != nil {
		if looksUnframed(f.body) {
			err = bad(badUnframed, "Thrift without frames, old form")
		}
		return nil, err
	}
	if h.kind != messageCall && h.kind != messageOneway {
		err := bad(badMessage, "a message of kind %d, want a call", h.kind)
		return h.complaint(excMessageType, err), err
	}
	log := string(h.name) == "Log"
	switch {
	case f.busy && f.bad != nil:
		err = f.bad
	case f.busy:
		err = errBusy
	case log:
		reply, err = c.log(f.body, h)
	default:
		reply, err = c.other(f.body, h)
	}
	if err == nil {
		return reply, nil
	}
	if errors.Is(err, errBusy) {
		c.server.stats.busy.Add(1)
		if log {
			return appendLogReply(c.reply[:0], h.seq, TryLater), nil
		}
		return h.complaint(excInternal, err), nil
	}
	return h.complaint(excProtocol, err), err
}

// complaint is the exception by which a call is told what is wrong with it. A
// method that is never answered gets none.
func (h header) complaint(typ int32, err error) []byte {
	switch string(h.name) {
	case "reinitialize", "shutdown":
		return nil
	}
	return exception(h.name, h.seq, typ, err.Error())
}

// log decodes a Log call and has it handled. It is answered also where it was
// sent as a oneway call: Scribe does so.
func (c *conn) log(body []byte, h header) ([]byte, error) {
	d := c.server.decoder()
	d.producer, d.account = c.producer, c
	c.decoder = d
	call, err := d.decode(body, h.args)
	if err != nil {
		return nil, err
	}
	call.Sender, call.owner = c.peer.sender, c
	n := &c.server.stats
	entries := int64(len(call.Entries))
	result := c.server.handler.Log(c.group.ctx, call)
	n.logCalls.Add(1)
	n.entries.Add(entries)
	if result != OK {
		n.tryLater.Add(1)
	}
	return appendLogReply(c.reply[:0], h.seq, result), nil
}

// reserve implements account for the call under way.
func (c *conn) reserve(bytes int) bool {
	ok := c.server.memory.reserve(bytes)
	if ok {
		c.reserved += bytes
	}
	return ok
}

// release gives back what the call under way holds: its frame, its entries and
// their decoder. Once it has, it does nothing.
func (c *conn) release() {
	if d := c.decoder; d != nil {
		c.producer = d.producer
		d.clear()
		c.server.memory.release(c.reserved)
		c.reserved, c.decoder = 0, nil
		d.account = nil
		c.server.decoders.Put(d)
	}
	c.free(c.frame)
	c.frame = frame{}
	c.settle()
}

// write writes one reply within its deadline. A client that does not read its
// replies loses the connection.
func (c *conn) write(reply []byte) error {
	err := c.armReply()
	if err == nil {
		_, err = c.net.Write(reply)
	}
	if err == nil {
		c.answered = true
		return nil
	}
	c.answered = false
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.server.stats.timeouts[replyDeadline].Add(1)
		c.server.log.Warn("thrift: a client does not read its replies, connection closed", zap.String("peer", c.peer.sender))
	}
	return errEnded
}

// armReply sets the write deadline, unless one is set that is nearly as late.
func (c *conn) armReply() error {
	now, limit := time.Now(), c.server.o.ReplyTimeout
	if c.replyUntil.Sub(now) >= limit {
		return nil
	}
	c.replyUntil = now.Add(limit + limit/8)
	return c.net.SetWriteDeadline(c.replyUntil)
}

// linger has the client read its last reply: closing a socket with unread bytes
// resets the connection, which can overtake a reply under way. What still comes
// is thrown away.
func (c *conn) linger() {
	w, ok := c.net.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	if c.net.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	for left := 1 << 20; left > 0; {
		n, err := c.net.Read(c.own[:])
		if err != nil {
			return
		}
		left -= n
	}
}
