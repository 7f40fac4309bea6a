package hdfs

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

// A sentPacket is a packet as a DataNode reads it.
type sentPacket struct {
	off, seq   int64
	last, sync bool
	data       []byte
}

// readPackets reads what was written, as PacketReceiver.java does, and checks
// every length and checksum.
func readPackets(t rapid.TB, b []byte) (ps []sentPacket) {
	for len(b) > 0 {
		rest, header := int(binary.BigEndian.Uint32(b)), int(binary.BigEndian.Uint16(b[4:]))
		var p sentPacket
		n := -1
		for h := b[6 : 6+header]; len(h) > 0; {
			num, typ, k := protowire.ConsumeTag(h)
			h = h[k:]
			switch {
			case num == 1 && typ == protowire.Fixed64Type:
				p.off = int64(binary.LittleEndian.Uint64(h))
				h = h[8:]
			case num == 2 && typ == protowire.Fixed64Type:
				p.seq = int64(binary.LittleEndian.Uint64(h))
				h = h[8:]
			case num == 3 && typ == protowire.VarintType:
				p.last = h[0] == 1
				h = h[1:]
			case num == 4 && typ == protowire.Fixed32Type:
				n = int(binary.LittleEndian.Uint32(h))
				h = h[4:]
			case num == 5 && typ == protowire.VarintType:
				p.sync = h[0] == 1
				h = h[1:]
			default:
				t.Fatalf("field %d of type %d", num, typ)
			}
		}
		sums := (n + 511) / 512 * 4
		if n < 0 || rest != 4+sums+n {
			t.Fatalf("length %d for %d bytes", rest, n)
		}
		b = b[6+header:]
		p.data = b[sums : sums+n]
		for i := 0; i < n; i += 512 {
			if want := crc32.Checksum(p.data[i:min(n, i+512)], castagnoli); binary.BigEndian.Uint32(b[i/512*4:]) != want {
				t.Fatalf("checksum of chunk %d of a packet of %d bytes", i/512, n)
			}
		}
		ps, b = append(ps, p), b[sums+n:]
	}
	return ps
}

func TestPacketsCarryTheCallersBytesWhateverTheSlices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tail := rapid.SliceOfN(rapid.Byte(), 0, 511).Draw(t, "tail")
		off := int64(rapid.IntRange(0, 1000).Draw(t, "chunks"))*512 + int64(len(tail))
		var p [][]byte
		var want []byte
		for range rapid.IntRange(1, 40).Draw(t, "slices") {
			n := rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, 1100), rapid.IntRange(0, 200_000)).Draw(t, "length")
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(i*7 + len(p))
			}
			p, want = append(p, b), append(want, b...)
		}
		sync := rapid.Bool().Draw(t, "sync")
		pipe := &pipe{}
		w := &window{}
		cur := cursor{p: p}
		at, left := off, int64(len(want))
		var got []sentPacket
		for tail, left := tail, left; left > 0; tail = nil {
			var wire bytes.Buffer
			n := w.fill(pipe, at, tail, &cur, left, sync)
			if _, err := w.left.WriteTo(&wire); err != nil {
				t.Fatal(err)
			}
			if w.used > len(w.heads) || n == 0 {
				t.Fatalf("%d bytes of heads, %d taken", w.used, n)
			}
			at, left = at+n, left-n
			got = append(got, readPackets(t, wire.Bytes())...)
			for pipe.count > 0 { // acknowledged
				pipe.first, pipe.count = (pipe.first+1)%len(pipe.ends), pipe.count-1
			}
		}
		for i, s := range got {
			data := s.data
			if i == 0 {
				if !bytes.HasPrefix(data, tail) || s.off != off-int64(len(tail)) {
					t.Fatalf("the first packet begins at %d without the tail of %d", s.off, off)
				}
				data = data[len(tail):]
			} else if s.off != off || s.off%512 != 0 {
				t.Fatalf("packet %d begins at %d, want %d", i, s.off, off)
			}
			if !bytes.HasPrefix(want, data) || s.seq != int64(i+1) || s.last || s.sync != (sync && i == len(got)-1) || len(s.data) > packetBytes {
				t.Fatalf("packet %d of %d is wrong: %d bytes, number %d", i, len(got), len(s.data), s.seq)
			}
			want, off = want[len(data):], off+int64(len(data))
		}
		if len(want) != 0 {
			t.Fatalf("%d bytes are missing", len(want))
		}
		w.reset()
		for _, b := range w.iov[:cap(w.iov)] {
			if b != nil {
				t.Fatal("a window keeps the caller's bytes")
			}
		}
	})
}

func TestTailFollowsWhatIsAcknowledged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &File{}
		var all []byte
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			var p [][]byte
			n := 0
			for range rapid.IntRange(1, 4).Draw(t, "slices") {
				b := rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(t, "bytes")
				p, n = append(p, b), n+len(b)
				all = append(all, b...)
			}
			cur := cursor{p: p}
			for n > 0 { // acknowledged in parts
				k := rapid.IntRange(1, n).Draw(t, "acked")
				f.advance(&cur, int64(k))
				n -= k
				have := len(all) - n
				if f.off != int64(have) || !bytes.Equal(f.tail[:f.tailN], all[have/512*512:have]) {
					t.Fatalf("at %d the tail has %d bytes", have, f.tailN)
				}
			}
		}
	})
}

func TestHeartbeatAndLastPacketAreAsHadoopReadsThem(t *testing.T) {
	h := &hearing{}
	p := &pipe{conn: h, nodes: 1, seq: 41, acked: 1000}
	if err := p.last(); err != nil {
		t.Fatal(err)
	}
	p.beat()
	ps := readPackets(t, h.Bytes())
	if len(ps) != 2 || !ps[0].last || ps[0].seq != 42 || ps[0].off != 1000 || len(ps[0].data) != 0 {
		t.Fatalf("%+v", ps)
	}
	if ps[1].seq != -1 || ps[1].last || ps[1].off != 0 || len(ps[1].data) != 0 {
		t.Fatalf("%+v", ps[1])
	}
}

// A hearing connection keeps what is written and answers nothing.
type hearing struct {
	patientConn
	bytes.Buffer
}

func (h *hearing) Read([]byte) (int, error)    { return 0, errTimeoutOf{} }
func (h *hearing) Write(p []byte) (int, error) { return h.Buffer.Write(p) }

func TestAcknowledgementsAreReadAsHadoopWritesThem(t *testing.T) {
	packed := protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), protowire.EncodeZigZag(7)), 2, protowire.BytesType)
	packed = protowire.AppendBytes(packed, []byte{0, 0, 1})
	single := []byte{1 << 3, 14, 2 << 3, 0, 2 << 3, 8, 2 << 3, 1, 3 << 3, 200, 1, 4<<3 | 2, 2, 1, 2}
	for _, test := range []struct {
		name string
		m    []byte
		want ack
		err  bool
	}{
		{"each reply a field", single, ack{seq: 7, replies: 3, bad: 1, status: 8}, false},
		{"packed", packed, ack{seq: 7, replies: 3, bad: 2, status: 1}, false},
		{"heartbeat", []byte{1 << 3, 1, 2 << 3, 0}, ack{seq: -1, replies: 1, bad: -1}, false},
		{"no number", []byte{2 << 3, 0}, ack{}, true},
		{"empty", nil, ack{}, true},
		{"cut", single[:3], ack{}, true},
		{"garbage", []byte{0xff, 0xff, 0xff}, ack{}, true},
	} {
		got, err := parseAck(test.m)
		if (err != nil) != test.err || err == nil && got != test.want {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}
