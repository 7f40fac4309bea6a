package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// slice is how long a wait goes on before it looks up: whether the caller gave
// up, the file was aborted, or the silence has lasted too long.
const slice = 100 * time.Millisecond

// Operations of the data transfer protocol, version 28 (Op.java).
const (
	opWrite    = 80
	opTransfer = 86
	opShm      = 89 // REQUEST_SHORT_CIRCUIT_SHM
)

// request is an operation with its message.
func request(op byte, m []byte) []byte {
	return append([]byte{0, 28, op}, delimited(m)...)
}

// opHeader is a ClientOperationHeaderProto.
func opHeader(b block, token []byte, client string) []byte {
	base := putBytes(putBytes(nil, 1, b.encode()), 2, token)
	return putString(putBytes(nil, 1, base), 2, client)
}

// A pipe is one connection to the first DataNode of a block's pipeline. It
// belongs to one goroutine; only close may be called by others. A timeout
// leaves it whole: whatever was under way can be gone on with.
type pipe struct {
	conn  net.Conn
	fd    int32 // of conn's socket, only to see whether something has arrived; -1: it has none
	nodes int
	seq   int64 // of the last packet made
	acked int64 // offset in the block up to which every DataNode has it

	ends  [2 * windowPackets]int64 // of the packets without acknowledgement, a ring
	first int
	count int

	heard    time.Time // when a DataNode last gave a sign of life
	answered time.Time // when it last acknowledged bytes
	failed   error     // what was met while nobody waited; for the next one who uses the pipe

	r, w int
	buf  [512]byte // answers read, r to w not yet used
	ctl  [headBytes]byte
}

func (p *pipe) close() { p.conn.Close() }

// push counts a packet that ends at offset end.
func (p *pipe) push(end int64) {
	p.seq++
	p.ends[(p.first+p.count)%len(p.ends)] = end
	p.count++
}

// maxMessage is the longest answer of a DataNode that is read. Only the text of
// a refused set-up is longer than a few bytes.
const maxMessage = 64 << 10

// message reads one message behind its length. It lies in p and is valid until
// the next call.
func (p *pipe) message(deadline time.Time) ([]byte, error) {
	for {
		l, k := protowire.ConsumeVarint(p.buf[p.r:p.w])
		switch {
		case k > 0 && l > maxMessage:
			return nil, fmt.Errorf("an answer of %d bytes: not a DataNode", l)
		case k > 0 && p.w-p.r >= k+int(l):
			m := p.buf[p.r+k : p.r+k+int(l)]
			p.r += k + int(l)
			return m, nil
		case k > 0 && k+int(l) > len(p.buf):
			m := make([]byte, l)
			n := copy(m, p.buf[p.r+k:p.w])
			p.r, p.w = 0, 0
			if err := p.conn.SetReadDeadline(deadline); err != nil {
				return nil, err
			}
			_, err := io.ReadFull(p.conn, m[n:])
			if isTimeout(err) { // part of it is lost: this connection cannot be gone on with
				err = errSilent
			}
			return m, err
		case k < 0 && p.w-p.r >= 10: // the longest varint
			return nil, errAck
		}
		if p.r > 0 {
			p.w = copy(p.buf[:], p.buf[p.r:p.w])
			p.r = 0
		}
		if err := p.conn.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		n, err := p.conn.Read(p.buf[p.w:])
		p.w += n
		if err != nil && n == 0 {
			return nil, err
		}
	}
}

// write sends what of w is left.
func (p *pipe) write(w *window, deadline time.Time) error {
	if err := p.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	n, err := w.left.WriteTo(p.conn)
	if n > 0 {
		p.heard = time.Now()
	}
	return err
}

// wait reads acknowledgements until at most left packets are without.
func (p *pipe) wait(left int, deadline time.Time) error {
	for p.count > left {
		m, err := p.message(deadline)
		if err != nil {
			return err
		}
		a, err := parseAck(m)
		if err != nil {
			return err
		}
		if a.bad >= p.nodes {
			return fmt.Errorf("%w: a reply of node %d of %d", errAck, a.bad, p.nodes)
		}
		if a.bad >= 0 {
			return failedNode(a.bad, refused, fmt.Errorf("answered status %d", a.status))
		}
		p.heard = time.Now()
		if a.seq == beatSeq {
			continue
		}
		if want := p.seq - int64(p.count) + 1; a.seq != want {
			return fmt.Errorf("%w: of packet %d, want %d", errAck, a.seq, want)
		}
		if a.replies != p.nodes {
			return fmt.Errorf("%w: of %d nodes, want %d", errAck, a.replies, p.nodes)
		}
		p.answered = p.heard
		p.acked = p.ends[p.first]
		p.first = (p.first + 1) % len(p.ends)
		p.count--
	}
	return nil
}

// last sends the packet that ends the block. Its acknowledgement says that all
// DataNodes have finished their replicas.
func (p *pipe) last() error {
	p.push(p.acked)
	return p.control(putHeader(p.ctl[:0], p.acked, p.seq, 0, true, false))
}

// beat sends a packet that only says that we live. What comes for it is heard.
func (p *pipe) beat() {
	p.failed = p.control(putHeader(p.ctl[:0], 0, beatSeq, 0, false, false))
}

// control sends a few bytes, which fit into the socket of a connection that is
// new or on which nothing waits.
func (p *pipe) control(b []byte) error {
	err := p.conn.SetWriteDeadline(time.Now().Add(slice))
	if err == nil {
		_, err = p.conn.Write(b)
	}
	if isTimeout(err) { // part of them may be sent: this connection cannot be gone on with
		err = errSilent
	}
	return err
}

// Stages of OpWriteBlockProto.
const (
	stageRecover = 3 // PIPELINE_SETUP_STREAMING_RECOVERY
	stageClose   = 5 // PIPELINE_CLOSE_RECOVERY
	stageCreate  = 6 // PIPELINE_SETUP_CREATE
)

// A setup is what makes a pipeline.
type setup struct {
	stage uint64
	block block  // as the NameNode has it; size is the bytes acknowledged
	gen   uint64 // the generation stamp that it gets
	token []byte
	nodes []node
	max   int64 // bytes that a replica may have
}

func (s *setup) encode(client string) []byte {
	q := putBytes(nil, 1, opHeader(s.block, s.token, client))
	for _, n := range s.nodes[1:] {
		q = putBytes(q, 2, n.info)
	}
	q = putUint(putUint(q, 4, s.stage), 5, uint64(len(s.nodes)))
	q = putUint(putUint(putUint(q, 6, uint64(s.block.size)), 7, uint64(s.max)), 8, s.gen)
	q = putBytes(q, 9, putUint(putUint(nil, 1, 2), 2, chunkBytes)) // CHECKSUM_CRC32C
	q = putUint(q, 11, s.nodes[0].kind)
	for _, n := range s.nodes[1:] {
		q = putUint(q, 12, n.kind)
	}
	q = putString(q, 16, s.nodes[0].storage)
	for _, n := range s.nodes[1:] {
		q = putString(q, 17, n.storage)
	}
	return request(opWrite, q)
}

// open makes the pipeline. need and judge are a question's.
func (c *Cluster) open(ctx context.Context, s *setup, need int, judge func([]int, bool) error) (*pipe, error) {
	q := &question{c: c, nodes: s.nodes, need: need, judge: judge}
	conn, err := c.reach(ctx, s.nodes[0], q)
	if err != nil {
		return nil, blame(err)
	}
	p := &pipe{conn: conn, fd: descriptor(conn), nodes: len(s.nodes), acked: s.block.size, heard: time.Now()}
	m, err := p.ask(ctx, s.encode(c.nn.name), q)
	if err == nil {
		err = s.answer(m)
	}
	if err != nil {
		p.close()
		return nil, blame(err)
	}
	return p, nil
}

// ask sends a request and waits for the answer as long as q has hope.
func (p *pipe) ask(ctx context.Context, b []byte, q *question) ([]byte, error) {
	if err := p.control(b); err != nil {
		return nil, err
	}
	q.heard = time.Now()
	for {
		m, err := p.message(q.next(ctx))
		if !isTimeout(err) {
			return m, err
		}
		if err = q.hope(ctx); err != nil {
			return nil, err
		}
	}
}

// reach connects to a DataNode. A connect that takes too long is begun again:
// the first packet of it may have been lost.
func (c *Cluster) reach(ctx context.Context, n node, q *question) (net.Conn, error) {
	until := time.Now().Add(c.o.ConnectTimeout)
	q.heard = time.Now()
	for {
		conn, err := c.d.dataNode(ctx, n.addr, c.o.NodeTimeout)
		if err == nil {
			return conn, nil
		}
		if stop := late(ctx, "connecting to", []node{n}); stop != nil {
			return nil, &stopError{stop}
		}
		var t interface{ Timeout() bool }
		if !errors.As(err, &t) || !t.Timeout() || time.Now().After(until) {
			return nil, failedNode(0, dead, err)
		}
		if err = q.hope(ctx); err != nil {
			return nil, err
		}
	}
}

// blame makes the first node responsible for an error of the connection to it.
func blame(err error) error {
	if errors.As(err, new(*nodeError)) || errors.As(err, new(*stopError)) {
		return err
	}
	return failedNode(0, refused, err)
}

// answer reads a BlockOpResponseProto.
func (s *setup) answer(m []byte) error {
	f, err := decode(m)
	if err != nil {
		return err
	}
	link := string(f.s[2])
	if f.u[1] == 0 && link == "" {
		return nil
	}
	bad := 0
	for i, n := range s.nodes {
		if n.addr == link {
			bad = i
		}
	}
	return failedNode(bad, refused, fmt.Errorf("refused the block: status %d, first bad link %q, %s", f.u[1], link, f.s[5]))
}

// transfer makes the node from copy the block to the node to, and waits for it.
// Blame is put on 0 = from, 1 = to; silence only on the latter: the former is
// one of the last that have the block, and busy with others' copies.
func (c *Cluster) transfer(ctx context.Context, from node, b block, token []byte, to node) error {
	q := &question{c: c, nodes: []node{from, to}, need: 2, judge: func(silent []int, _ bool) error {
		if slices.Contains(silent, 0) {
			return nil
		}
		return blameSilent(silent)
	}}
	conn, err := c.reach(ctx, from, q)
	if err != nil {
		return blame(err)
	}
	p := &pipe{conn: conn}
	defer p.close()
	r := putBytes(nil, 1, opHeader(b, token, c.nn.name))
	r = putString(putUint(putBytes(r, 2, to.info), 3, to.kind), 4, to.storage)
	m, err := p.ask(ctx, request(opTransfer, r), q)
	if err != nil {
		return blame(err)
	}
	f, err := decode(m)
	if err != nil {
		return blame(err)
	}
	if f.u[1] != 0 { // the source tells; most often it could not reach the other one
		return failedNode(1, refused, fmt.Errorf("copying the block refused: status %d, %s", f.u[1], f.s[5]))
	}
	return nil
}
