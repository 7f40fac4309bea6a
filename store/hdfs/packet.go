package hdfs

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"

	"google.golang.org/protobuf/encoding/protowire"
)

// A block goes to its DataNodes as packets (datatransfer.proto,
// PacketReceiver.java): four bytes with the length of what follows the header
// and of themselves, two with the header's, PacketHeaderProto, a CRC32C for
// each chunk, the bytes. A packet that does not begin on a chunk's edge begins
// at the edge before it and carries those bytes again.
const (
	chunkBytes    = 512
	packetBytes   = 64 << 10
	headBytes     = 33                                       // lengths and PacketHeaderProto with its sync flag
	packetHead    = headBytes + 4*(packetBytes/chunkBytes+1) // the most before the bytes
	windowPackets = 16                                       // sent in one write; twice as many may be without acknowledgement
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A cursor is a place in a slice of slices.
type cursor struct {
	p    [][]byte
	i, o int
}

// next returns the next bytes in one piece, at most n and at least one, and
// goes on behind them. There must be some.
func (c *cursor) next(n int64) []byte {
	for c.o == len(c.p[c.i]) {
		c.i, c.o = c.i+1, 0
	}
	b := c.p[c.i][c.o:]
	if int64(len(b)) > n {
		b = b[:n]
	}
	c.o += len(b)
	return b
}

// skip goes on by n bytes.
func (c *cursor) skip(n int64) {
	for n > 0 {
		n -= int64(len(c.next(n)))
	}
}

// A window makes packets of a caller's bytes, some at a time, and writes them.
// It belongs to one Append at a time and is used again by others. It refers to
// the caller's bytes, never copies them, and lets go of them in reset.
type window struct {
	iov   net.Buffers // what was made
	left  net.Buffers // what of it is not written
	heads [windowPackets * packetHead]byte
	used  int
}

func (w *window) reset() {
	clear(w.iov[:cap(w.iov)])
	w.iov, w.left = w.iov[:0], nil
}

// fill makes packets of at most n bytes at cur, which begin at offset off of
// the block and follow tail, the bytes that its last chunk holds already. It
// returns how many bytes it took. p counts the packets; sync marks the last one
// if it took all n.
func (w *window) fill(p *pipe, off int64, tail []byte, cur *cursor, n int64, sync bool) (taken int64) {
	w.iov, w.used = w.iov[:0], 0
	for i := 0; i < windowPackets && taken < n; i++ {
		k := min(n-taken, int64(packetBytes-len(tail)))
		w.packet(p, off+taken, tail, cur, k, sync && taken+k == n)
		taken += k
		tail = nil
	}
	w.left = w.iov
	return taken
}

// packet makes one packet of tail and n bytes.
func (w *window) packet(p *pipe, off int64, tail []byte, cur *cursor, n int64, sync bool) {
	p.push(off + n)
	head := w.heads[w.used:w.used:len(w.heads)]
	head = putHeader(head, off-int64(len(tail)), p.seq, len(tail)+int(n), false, sync)
	at := len(w.iov)
	w.iov = append(w.iov, nil) // the head, when its checksums are known
	sum, have := uint32(0), len(tail)
	if have > 0 {
		w.iov = append(w.iov, tail)
		sum = crc32.Update(0, castagnoli, tail)
	}
	for n > 0 {
		b := cur.next(n)
		n -= int64(len(b))
		w.iov = append(w.iov, b)
		for len(b) > 0 {
			k := min(len(b), chunkBytes-have)
			sum = crc32.Update(sum, castagnoli, b[:k])
			b = b[k:]
			if have += k; have == chunkBytes {
				head = binary.BigEndian.AppendUint32(head, sum)
				sum, have = 0, 0
			}
		}
	}
	if have > 0 {
		head = binary.BigEndian.AppendUint32(head, sum)
	}
	w.used += len(head)
	w.iov[at] = head
}

// putHeader appends the lengths and the header of a packet of n bytes.
func putHeader(b []byte, off, seq int64, n int, last, sync bool) []byte {
	header := 25
	if sync {
		header = 27
	}
	sums := (n + chunkBytes - 1) / chunkBytes * 4
	b = binary.BigEndian.AppendUint32(b, uint32(4+sums+n))
	b = binary.BigEndian.AppendUint16(b, uint16(header))
	b = binary.LittleEndian.AppendUint64(append(b, 1<<3|1), uint64(off)) // sfixed64 offsetInBlock = 1
	b = binary.LittleEndian.AppendUint64(append(b, 2<<3|1), uint64(seq)) // sfixed64 seqno = 2
	b = append(b, 3<<3, byte(protowire.EncodeBool(last)))                // bool lastPacketInBlock = 3
	b = binary.LittleEndian.AppendUint32(append(b, 4<<3|5), uint32(n))   // sfixed32 dataLen = 4
	if sync {
		b = append(b, 5<<3, 1) // bool syncBlock = 5
	}
	return b
}

// An ack is a PipelineAckProto: what the DataNodes say to one packet, the first
// one first.
type ack struct {
	seq     int64
	replies int
	bad     int    // the first whose reply is not SUCCESS, -1: none
	status  uint64 // its reply
}

// beatSeq is the sequence number of heartbeats and of their acknowledgements.
const beatSeq = -1

var errAck = errors.New("not an acknowledgement")

func (a *ack) reply(status uint64) {
	if status != 0 && a.bad < 0 {
		a.bad, a.status = a.replies, status
	}
	a.replies++
}

// parseAck reads an acknowledgement. It allocates nothing.
func parseAck(m []byte) (ack, error) {
	a := ack{bad: -1}
	numbered := false
	for len(m) > 0 {
		n, t, k := protowire.ConsumeTag(m)
		if k < 0 {
			return a, errAck
		}
		m = m[k:]
		switch {
		case n == 1 && t == protowire.VarintType:
			u, k := protowire.ConsumeVarint(m)
			if k < 0 {
				return a, errAck
			}
			m = m[k:]
			a.seq, numbered = protowire.DecodeZigZag(u), true
		case n == 2 && t == protowire.VarintType:
			u, k := protowire.ConsumeVarint(m)
			if k < 0 {
				return a, errAck
			}
			m = m[k:]
			a.reply(u)
		case n == 2 && t == protowire.BytesType:
			v, k := protowire.ConsumeBytes(m)
			if k < 0 {
				return a, errAck
			}
			m = m[k:]
			for len(v) > 0 {
				u, k := protowire.ConsumeVarint(v)
				if k < 0 {
					return a, errAck
				}
				v = v[k:]
				a.reply(u)
			}
		default:
			k := protowire.ConsumeFieldValue(n, t, m)
			if k < 0 {
				return a, errAck
			}
			m = m[k:]
		}
	}
	if !numbered {
		return a, errAck
	}
	return a, nil
}
