package hdfstest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// A PacketFault is what the first DataNode of a pipeline does with one packet
// of data. The zero PacketFault stores it everywhere and acknowledges it.
type PacketFault struct {
	Drop    bool   // stored, not acknowledged
	Status  uint64 // acknowledged with this status of Node, and the connection closed
	Node    int    // place in the pipeline that Status is about
	Seq     int64  // added to the number that is acknowledged
	Fewer   bool   // acknowledged by one node less
	Garbage bool   // these bytes instead of an acknowledgement: none
	Dribble bool   // the acknowledgement comes byte by byte
	Reset   bool   // stored, and the connection closed
}

// DataNode is one DataNode of the cluster.
type DataNode struct {
	server
	index     int
	replicas  map[uint64]*replica
	forgotten bool // the NameNode gives it no blocks
	refuse    func(pipeline []int) (status uint64, bad int)
	script    func(nth int) PacketFault
	packets   int
	beats     int
	synced    int
}

// A replica is a block on one DataNode.
type replica struct {
	gen    uint64
	data   []byte
	length int64 // where data is not kept
	final  bool
	writer net.Conn
}

func (r *replica) size() int64 { return max(r.length, int64(len(r.data))) }

func (r *replica) cut(n int64) {
	if int64(len(r.data)) > n {
		r.data = r.data[:n]
	}
	r.length = min(r.length, n)
}

// Forget makes the NameNode give it no new blocks, as one that it takes for dead.
func (d *DataNode) Forget(on bool) {
	d.c.mu.Lock()
	d.forgotten = on
	d.c.mu.Unlock()
}

// Refuse makes f decide about each set-up through d as the first node: status 0
// accepts; else bad is the place of the node that is to blame.
func (d *DataNode) Refuse(f func(pipeline []int) (status uint64, bad int)) {
	d.c.mu.Lock()
	d.refuse = f
	d.c.mu.Unlock()
}

// Script makes f decide about each packet of data that d receives first, from
// now on: nth counts them from 1.
func (d *DataNode) Script(f func(nth int) PacketFault) {
	d.c.mu.Lock()
	d.script, d.packets = f, 0
	d.c.mu.Unlock()
}

// Packets is how many packets of data d received as a first node, since Script.
func (d *DataNode) Packets() int {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.packets
}

// Beats is how many heartbeats d received as a first node.
func (d *DataNode) Beats() int {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.beats
}

// Synced is how many packets asked d, as any node of a pipeline, to sync its disk.
func (d *DataNode) Synced() int {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.synced
}

// Writing is how many connections write to it as a first node.
func (d *DataNode) Writing() (n int) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	for _, r := range d.replicas {
		if r.writer != nil {
			n++
		}
	}
	return n
}

func (d *DataNode) info() m {
	host, port, err := net.SplitHostPort(d.addr())
	if err != nil {
		panic(err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		panic(err)
	}
	id := m(nil).str(1, host).str(2, host).str(3, fmt.Sprintf("uuid-%d", d.index)).uint(4, p).uint(5, 1).uint(6, 2)
	return m(nil).bytes(1, id)
}

// conn serves one operation, and reads until the client leaves.
func (d *DataNode) conn(c net.Conn) {
	r := bufio.NewReaderSize(c, 128<<10)
	var op [3]byte
	if _, err := io.ReadFull(r, op[:]); err != nil || op[1] != 28 {
		return
	}
	n, err := binary.ReadUvarint(r)
	if err != nil || n > 1<<20 {
		return
	}
	b := make([]byte, n)
	if _, err = io.ReadFull(r, b); err != nil || !d.pass() {
		return
	}
	q, err := read(b)
	if err != nil {
		return
	}
	switch op[2] {
	case 80:
		d.write(c, r, q)
	case 81:
		d.read(c, q)
	case 86:
		d.transfer(c, q)
	case 89: // no domain socket: ERROR_INVALID
		if q.str(1) != "" && d.pass() {
			say(c, m(nil).uint(1, 3).str(2, "must request a shared memory segment over a UNIX domain socket"))
		}
	}
}

func say(c net.Conn, b m) error {
	_, err := c.Write(append(protowire.AppendVarint(nil, uint64(len(b))), b...))
	return err
}

func refusal(status uint64, link, text string) m {
	return m(nil).uint(1, status).str(2, link).str(5, text)
}

// A pipeline is one write under way, at its first DataNode. The others are
// reached without a network.
type pipeline struct {
	d     *DataNode
	conn  net.Conn
	nodes []*DataNode
	id    uint64
	gen   uint64
	seq   int64
	ack   []byte
	body  []byte
}

// setup makes the replicas ready. c.mu is held. It answers the place of the
// node that is to blame, -1 if none is.
func (p *pipeline) setup(q fields) (bad int, text string) {
	header := q.sub(1)
	b := header.sub(1).sub(1)
	stage, low, high := q.num(4), int64(q.num(6)), int64(q.num(7))
	p.id, p.gen = b.num(2), q.num(8)
	if t := header.sub(1).sub(2); t.str(1) != token(p.id) {
		return 0, "token " + t.str(1)
	}
	if q.num(5) != uint64(len(p.nodes)) || q.sub(9).num(1) != 2 || q.sub(9).num(2) != 512 {
		return 0, "set-up is not consistent"
	}
	for i, d := range p.nodes {
		if !d.gate() {
			return i, "node is dead"
		}
		r := d.replicas[p.id]
		switch stage {
		case 6:
			if r != nil {
				return i, "replica exists"
			}
			r = &replica{}
			d.replicas[p.id] = r
		case 3:
			if r == nil || r.final || r.gen > p.gen || r.size() < low || r.size() > high {
				return i, "replica cannot be recovered"
			}
		case 5:
			if r == nil || r.gen > p.gen || r.size() != low || high < low {
				return i, "replica cannot be finished"
			}
			r.final = true
		default:
			return i, "stage"
		}
		if r.writer != nil && r.writer != p.conn {
			r.writer.Close()
		}
		r.gen, r.writer = p.gen, nil
		if i == 0 && stage != 5 {
			r.writer = p.conn
		}
	}
	return -1, ""
}

// write serves OpWriteBlock.
func (d *DataNode) write(c net.Conn, r *bufio.Reader, q fields) {
	p := &pipeline{d: d, conn: c, nodes: []*DataNode{d}}
	var places []int
	d.c.mu.Lock()
	for _, t := range q.s[2] {
		f, _ := read(t)
		for _, o := range d.c.dns {
			if o.addr() == addrOf(f.sub(1)) {
				p.nodes = append(p.nodes, o)
			}
		}
	}
	for _, n := range p.nodes {
		places = append(places, n.index)
	}
	status, bad, text := uint64(0), -1, ""
	if d.refuse != nil {
		if status, bad = d.refuse(places); status == 0 {
			bad = -1
		}
	}
	if bad < 0 {
		if bad, text = p.setup(q); bad >= 0 {
			status = 1
		}
	}
	link := ""
	if bad > 0 {
		link = p.nodes[bad].addr()
	}
	d.c.mu.Unlock()
	if bad >= 0 {
		say(c, refusal(status, link, text))
		return
	}
	if say(c, refusal(0, "", "")) != nil || q.num(4) == 5 {
		return
	}
	for p.packet(r) {
	}
	d.c.mu.Lock()
	if r := d.replicas[p.id]; r != nil && r.writer == c {
		r.writer = nil
	}
	d.c.mu.Unlock()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// packet serves one packet; false ends the pipeline. It allocates nothing once
// its buffers have grown.
func (p *pipeline) packet(r *bufio.Reader) bool {
	head, err := r.Peek(6)
	if err != nil {
		return false
	}
	rest, hl := int(binary.BigEndian.Uint32(head)), int(binary.BigEndian.Uint16(head[4:]))
	if hl != 25 && hl != 27 || rest < 4 || rest > 1<<20 {
		return false
	}
	if cap(p.body) < 6+hl+rest-4 {
		p.body = make([]byte, 6+hl+rest-4)
	}
	p.body = p.body[:6+hl+rest-4]
	if _, err = io.ReadFull(r, p.body); err != nil || !p.d.pass() {
		return false
	}
	h := p.body[6 : 6+hl]
	off, seq := int64(binary.LittleEndian.Uint64(h[1:])), int64(binary.LittleEndian.Uint64(h[10:]))
	last, n := h[19] != 0, int(binary.LittleEndian.Uint32(h[21:]))
	sync := hl == 27 && h[26] != 0
	sums := (n + 511) / 512 * 4
	if 4+sums+n != rest {
		return false
	}
	data := p.body[6+hl+sums:]
	for i := 0; i < n; i += 512 {
		if binary.BigEndian.Uint32(p.body[6+hl+i/512*4:]) != crc32.Checksum(data[i:min(n, i+512)], castagnoli) {
			return p.acknowledge(seq, PacketFault{Status: 2})
		}
	}
	if seq != -1 {
		if p.seq++; seq != p.seq {
			return false
		}
	}
	return p.store(off, seq, data, last, sync)
}

// store puts a packet on every node and acknowledges it.
func (p *pipeline) store(off, seq int64, data []byte, last, sync bool) bool {
	c := p.d.c
	var f PacketFault
	c.mu.Lock()
	if seq == -1 {
		p.d.beats++
	}
	if seq != -1 && !last {
		p.d.packets++
		if p.d.script != nil {
			f = p.d.script(p.d.packets)
		}
	}
	for i, d := range p.nodes {
		if !d.gate() {
			if f.Status == 0 {
				f = PacketFault{Status: 1, Node: i}
			}
			break
		}
		r := d.replicas[p.id]
		if r == nil || r.gen != p.gen || r.final || off > r.size() || off%512 != 0 && len(data) > 0 {
			f = PacketFault{Status: 1, Node: i}
			break
		}
		switch {
		case seq == -1:
			continue
		case c.o.Forget:
			r.length = max(r.length, off+int64(len(data)))
		case off+int64(len(data)) > r.size():
			r.data = append(r.data[:off], data...)
		}
		if sync {
			d.synced++
		}
		if last {
			r.final = true
			for _, file := range c.ns.files {
				if b := file.last(); b != nil && b.id == p.id && b.gen == p.gen {
					b.reported[d.index] = true
				}
			}
		}
	}
	c.mu.Unlock()
	if p.d.pass() {
		return p.acknowledge(seq, f) && !last
	}
	return false
}

// acknowledge says what the nodes say to a packet.
func (p *pipeline) acknowledge(seq int64, f PacketFault) bool {
	if f.Reset {
		return false
	}
	if f.Drop {
		return true
	}
	b := p.ack[:0]
	b = append(b, 0) // its length
	b = protowire.AppendVarint(append(b, 1<<3), protowire.EncodeZigZag(seq+f.Seq))
	n := len(p.nodes)
	if f.Fewer {
		n--
	}
	for i := range n {
		status := uint64(0)
		if f.Status != 0 && i == f.Node {
			status = f.Status
		}
		b = protowire.AppendVarint(append(b, 2<<3), status)
		if status != 0 {
			break
		}
	}
	b = append(b, 3<<3, 7) // downstreamAckTimeNanos
	b[0] = byte(len(b) - 1)
	if f.Garbage {
		for i := range b {
			b[i] = byte(0xff - i)
		}
	}
	p.ack = b
	if f.Dribble {
		for i := range b {
			if _, err := p.conn.Write(b[i : i+1]); err != nil {
				return false
			}
		}
		return true
	}
	_, err := p.conn.Write(b)
	return err == nil && f.Status == 0
}

// read serves OpReadBlock: whole chunks, from the one that holds the offset on.
func (d *DataNode) read(c net.Conn, q fields) {
	header := q.sub(1)
	id := header.sub(1).sub(1).num(2)
	d.c.mu.Lock()
	r := d.replicas[id]
	var data []byte
	ok := r != nil && header.sub(1).sub(2).str(1) == token(id)
	if ok {
		data = append(data, r.data...)
	}
	d.c.mu.Unlock()
	if !ok {
		say(c, refusal(1, "", "Replica not found"))
		return
	}
	off := int(q.num(2)) / 512 * 512
	end := min(len(data), (int(q.num(2))+int(q.num(3))+511)/512*512)
	sum := m(nil).bytes(1, m(nil).uint(1, 2).uint(2, 512)).uint(2, uint64(off))
	if say(c, m(nil).uint(1, 0).bytes(4, sum)) != nil {
		return
	}
	for seq := int64(0); ; seq++ {
		n := max(0, min(64<<10, end-off))
		if !d.pass() {
			return
		}
		if _, err := c.Write(readPacket(int64(off), seq, data[off:off+n], n == 0)); err != nil || n == 0 {
			return
		}
		off += n
	}
}

func readPacket(off, seq int64, data []byte, last bool) []byte {
	sums := (len(data) + 511) / 512 * 4
	b := binary.BigEndian.AppendUint32(nil, uint32(4+sums+len(data)))
	b = binary.BigEndian.AppendUint16(b, 25)
	b = binary.LittleEndian.AppendUint64(append(b, 1<<3|1), uint64(off))
	b = binary.LittleEndian.AppendUint64(append(b, 2<<3|1), uint64(seq))
	b = append(b, 3<<3, byte(protowire.EncodeBool(last)))
	b = binary.LittleEndian.AppendUint32(append(b, 4<<3|5), uint32(len(data)))
	for i := 0; i < len(data); i += 512 {
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(data[i:min(len(data), i+512)], castagnoli))
	}
	return append(b, data...)
}

// transfer serves OpTransferBlock: the replica is copied to the target.
func (d *DataNode) transfer(c net.Conn, q fields) {
	header := q.sub(1)
	b := header.sub(1).sub(1)
	id := b.num(2)
	target := addrOf(q.sub(2).sub(1))
	ok := false
	d.c.mu.Lock()
	r := d.replicas[id]
	for _, o := range d.c.dns {
		if o.addr() == target && r != nil && r.size() >= int64(b.num(4)) && header.sub(1).sub(2).str(1) == token(id) && o.gate() {
			o.replicas[id] = &replica{gen: r.gen, data: append([]byte(nil), r.data...), length: r.length}
			ok = true
		}
	}
	d.c.mu.Unlock()
	if !d.pass() {
		return
	}
	if ok {
		say(c, refusal(0, "", ""))
	} else {
		say(c, refusal(1, "", "transfer failed"))
	}
}
