package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"twinscribe/buffer/record"
)

// A Record is one batch: a run of messages of one category, chain and
// partition.
type Record struct {
	Number    uint64 // within its segment, from 1; filled in by reading
	Offset    int64  // in the segment's file; filled in by reading
	Category  string
	Chain     uint32
	Partition string
	First     uint64 // sequence of message 0; the others follow without a gap
	Arrived   int64  // nanoseconds since 1970 UTC
	Senders   []string
	IDs       []ID
	Note      string   // why it is a dead letter; empty otherwise
	Ends      []uint32 // Ends[i] is the end of message i in Data
	Data      []byte   // each message with its one line feed
}

// ID says that Messages messages from sequence First on are the messages From,
// From+1, ... of a client's numbered call.
type ID struct {
	Producer        string
	Epoch, Sequence uint64
	From            uint32
	First           uint64
	Messages        uint32
}

// Len is the number of messages.
func (r *Record) Len() int { return len(r.Ends) }

// Last is the sequence of the last message.
func (r *Record) Last() uint64 { return r.First + uint64(len(r.Ends)) - 1 }

// Message returns message i without its terminating line feed. It is a part of Data.
func (r *Record) Message(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = r.Ends[i-1]
	}
	return r.Data[from : r.Ends[i]-1]
}

// The fixed part of a record's body. docs/formats has the whole table.
const (
	bodyVersion = 1
	bodyFixed   = 56
	idFixed     = 34 // of an ID, with the length of its producer
)

// check refuses what could not be read back as it is.
func (r *Record) check() error {
	switch {
	case len(r.Ends) == 0:
		return fmt.Errorf("%w: it has no messages", ErrRecord)
	case len(r.Partition) > math.MaxUint16:
		return fmt.Errorf("%w: partition of %d bytes", ErrRecord, len(r.Partition))
	case r.First == 0 || r.Last() < r.First:
		return fmt.Errorf("%w: sequences %d to %d", ErrRecord, r.First, r.Last())
	case !endsFit(r.Ends, r.Data):
		return fmt.Errorf("%w: the ends of its messages do not fit its %d bytes", ErrRecord, len(r.Data))
	}
	for i := range r.Senders {
		if len(r.Senders[i]) > math.MaxUint16 {
			return fmt.Errorf("%w: sender of %d bytes", ErrRecord, len(r.Senders[i]))
		}
	}
	for i := range r.IDs {
		if len(r.IDs[i].Producer) > math.MaxUint16 {
			return fmt.Errorf("%w: producer of %d bytes", ErrRecord, len(r.IDs[i].Producer))
		}
	}
	if n := r.bodySize(); n > record.MaxBody {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrRecord, n, record.MaxBody)
	}
	return nil
}

// endsFit says whether each message is at least its line feed and the last one
// ends with data.
func endsFit(ends []uint32, data []byte) bool {
	last := uint32(0)
	for _, e := range ends {
		if e <= last || int64(e) > int64(len(data)) || data[e-1] != '\n' {
			return false
		}
		last = e
	}
	return int(last) == len(data)
}

// bodySize is the length of the encoded body.
func (r *Record) bodySize() int {
	n := bodyFixed + len(r.Category) + len(r.Partition) + len(r.Note) + 4*len(r.Ends) + len(r.Data)
	for i := range r.Senders {
		n += 2 + len(r.Senders[i])
	}
	for i := range r.IDs {
		n += idFixed + len(r.IDs[i].Producer)
	}
	return n
}

// appendBody encodes r, which check has passed.
func (r *Record) appendBody(dst []byte, reason Reason) []byte {
	le := binary.LittleEndian
	dst = append(dst, bodyVersion, byte(reason))
	dst = le.AppendUint16(dst, uint16(len(r.Partition)))
	dst = le.AppendUint32(dst, r.Chain)
	dst = le.AppendUint64(dst, r.First)
	dst = le.AppendUint64(dst, uint64(r.Arrived))
	dst = le.AppendUint32(dst, uint32(len(r.Category)))
	dst = le.AppendUint32(dst, uint32(len(r.Note)))
	dst = le.AppendUint32(dst, uint32(len(r.Senders)))
	dst = le.AppendUint32(dst, uint32(len(r.IDs)))
	dst = le.AppendUint32(dst, uint32(len(r.Ends)))
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = le.AppendUint64(dst, 0)
	dst = append(dst, r.Category...)
	dst = append(dst, r.Partition...)
	dst = append(dst, r.Note...)
	for i := range r.Senders {
		dst = le.AppendUint16(dst, uint16(len(r.Senders[i])))
		dst = append(dst, r.Senders[i]...)
	}
	for i := range r.IDs {
		d := &r.IDs[i]
		dst = le.AppendUint16(dst, uint16(len(d.Producer)))
		dst = le.AppendUint64(dst, d.Epoch)
		dst = le.AppendUint64(dst, d.Sequence)
		dst = le.AppendUint32(dst, d.From)
		dst = le.AppendUint64(dst, d.First)
		dst = le.AppendUint32(dst, d.Messages)
		dst = append(dst, d.Producer...)
	}
	for _, e := range r.Ends {
		dst = le.AppendUint32(dst, e)
	}
	return append(dst, r.Data...)
}

var errBody = errors.New("the body has not the form of a batch")

// decoder decodes bodies into one record again and again. What it gives is
// valid until the next body; Data lies in the body.
type decoder struct {
	r      Record
	reason Reason
}

// decode never believes a length that the body cannot hold.
func (d *decoder) decode(b []byte) error {
	if len(b) < bodyFixed {
		return fmt.Errorf("%w: %d bytes", errBody, len(b))
	}
	if b[0] != bodyVersion {
		return fmt.Errorf("%w: version %d, this program knows %d: %w", errBody, b[0], bodyVersion, record.ErrNewer)
	}
	le := binary.LittleEndian
	r := &d.r
	d.reason = Reason(b[1])
	r.Chain, r.First, r.Arrived = le.Uint32(b[4:]), le.Uint64(b[8:]), int64(le.Uint64(b[16:]))
	senders, ids := int(le.Uint32(b[32:])), int(le.Uint32(b[36:]))
	messages, data := int(le.Uint32(b[40:])), int(le.Uint32(b[44:]))
	p := &parser{b: b[bodyFixed:]}
	reuse(&r.Category, p.take(int(le.Uint32(b[24:]))))
	reuse(&r.Partition, p.take(int(le.Uint16(b[2:]))))
	reuse(&r.Note, p.take(int(le.Uint32(b[28:]))))
	r.Senders = r.Senders[:0]
	for range p.bound(senders, 2) {
		r.Senders = append(r.Senders, string(p.take(int(p.u16()))))
	}
	r.IDs = r.IDs[:0]
	for range p.bound(ids, idFixed) {
		n := int(p.u16())
		id := ID{Epoch: p.u64(), Sequence: p.u64(), From: p.u32(), First: p.u64(), Messages: p.u32()}
		id.Producer = string(p.take(n))
		r.IDs = append(r.IDs, id)
	}
	r.Ends = r.Ends[:0]
	for range p.bound(messages, 4) {
		r.Ends = append(r.Ends, p.u32())
	}
	r.Data = p.take(data)
	if p.bad || len(p.b) != 0 {
		return fmt.Errorf("%w: its lengths do not fit %d bytes", errBody, len(b))
	}
	if !d.reason.valid() {
		return fmt.Errorf("%w: reason %d", errBody, d.reason)
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("%w: %v", errBody, err)
	}
	return nil
}

// reuse makes s what b is, without a new string where it is that already.
func reuse(s *string, b []byte) {
	if *s != string(b) {
		*s = string(b)
	}
}

// parser takes fields off the front of b. After the first that b cannot hold
// it gives zeros, and bad is set.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.b, p.bad = nil, true
		return nil
	}
	t := p.b[:n:n]
	p.b = p.b[n:]
	return t
}

// bound is n, if that many elements of at least size bytes can be there.
func (p *parser) bound(n, size int) int {
	if n < 0 || n > len(p.b)/size {
		p.b, p.bad = nil, true
		return 0
	}
	return n
}

func (p *parser) u16() uint16 {
	if t := p.take(2); t != nil {
		return binary.LittleEndian.Uint16(t)
	}
	return 0
}

func (p *parser) u32() uint32 {
	if t := p.take(4); t != nil {
		return binary.LittleEndian.Uint32(t)
	}
	return 0
}

func (p *parser) u64() uint64 {
	if t := p.take(8); t != nil {
		return binary.LittleEndian.Uint64(t)
	}
	return 0
}
