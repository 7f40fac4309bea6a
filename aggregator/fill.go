package aggregator

import (
	"strings"

	"twinscribe/store/catalog"
	"twinscribe/thrift"
)

// storedSize is the size of a message as it is stored: with its one line feed,
// which exactly speaking is never its own.
func storedSize(m []byte, exact bool) int {
	if !exact && len(m) > 0 && m[len(m)-1] == '\n' {
		return len(m)
	}
	return len(m) + 1
}

// noteOf says why an entry is a dead letter.
func noteOf(e *thrift.Entry) string {
	switch {
	case len(e.Category) == 0:
		return noteBlank
	case len(e.Category) > maxName:
		return noteName
	default:
		return noteMessage
	}
}

// A filler copies the messages of one call into one queue. It holds the arena
// that it fills in fields of its own, and gives it back by flush. Needs the
// category's lock from newFiller to flush.
type filler struct {
	q        *queue
	s        *scratch
	call     *thrift.Call
	set      *settings
	left     Count   // of the part, not yet copied
	overhead int64   // of the part, charged to the first batch that takes something
	next     []int32 // what links the lists; set by who makes the filler
	skip     []int32 // leading bytes of each entry that are left out; nil: none

	b    *batch
	data []byte
	ends []uint32
	from int // messages in the batch before this call's

	spanned bool   // the last span of the batch is this call's
	expect  uint32 // the index that continues it
}

func newFiller(q *queue, s *scratch, call *thrift.Call, l list) filler {
	f := filler{q: q, s: s, call: call, set: s.set, left: l.size, overhead: partOverhead}
	if q.tail != nil {
		f.attach(q.tail)
	}
	return f
}

// attach goes on with a batch.
func (f *filler) attach(b *batch) {
	f.b, f.data, f.ends = b, b.data, b.ends
	f.from, f.spanned = len(f.ends), false
}

// add copies the messages of a list. A batch ends at max_batch bytes, and at so
// many messages that their offsets stay a fraction of them.
func (f *filler) add(l list) {
	entries, next, skip := f.call.Entries, f.next, f.skip
	data, ends, exact := f.data, f.ends, f.q.exact
	for i := l.first; i >= 0; i = next[i] {
		e := &entries[i]
		m := e.Message
		if skip != nil {
			m = m[skip[i]:]
		}
		size := storedSize(m, exact)
		at := len(data)
		if at+size > cap(data) || at+size > f.set.maxBatch || len(ends) == cap(ends) || len(ends) >= f.set.batchMessages || f.q.role == deadLetters {
			f.have(data, ends)
			f.room(e, size)
			data, ends, at = f.data, f.ends, len(f.data)
		}
		data = data[:at+size]
		copy(data[at:], m)
		if size > len(m) {
			data[at+len(m)] = '\n'
		}
		ends = append(ends, uint32(len(data)))
		if f.call.Batch != nil {
			f.have(data, ends)
			f.index(f.s.index[i])
		}
	}
	f.have(data, ends)
}

// have notes what add has copied.
func (f *filler) have(data []byte, ends []uint32) {
	f.left.Messages -= int64(len(ends) - len(f.ends))
	f.left.Bytes -= int64(len(data) - len(f.data))
	f.data, f.ends = data, ends
}

// room makes room for a message, in a new batch where it has to be.
func (f *filler) room(e *thrift.Entry, size int) {
	if f.b == nil || len(f.data)+size > f.set.maxBatch || len(f.ends) >= f.set.batchMessages ||
		(f.q.role == deadLetters && f.b.out.Note != noteOf(e)) {
		f.flush()
		f.open(e, size)
	}
	if len(f.data)+size > cap(f.data) || len(f.ends) == cap(f.ends) {
		f.grow(size)
	}
}

// grow makes room for one more message, and at once for what is left of the call.
func (f *filler) grow(size int) {
	if need := len(f.data) + size; need > cap(f.data) {
		whole := min(int64(len(f.data))+f.left.Bytes, int64(f.set.maxBatch))
		double := min(2*len(f.data), f.set.maxBatch)
		f.data = f.q.a.arenas.grow(f.data, max(need, int(whole), double))
	}
	if len(f.ends) == cap(f.ends) {
		whole := min(int64(len(f.ends))+f.left.Messages, int64(f.set.batchMessages))
		f.ends = f.q.a.offsets.grow(f.ends, max(int(whole), 2*len(f.ends), 1))
	}
}

// open begins a batch, of which e is the first message. Its arena is as large
// as the last one, so that a steady flow never grows one, unless arenas take
// half of the memory limit by now.
func (f *filler) open(e *thrift.Entry, size int) {
	q := f.q
	b := q.spare.Swap(nil)
	if b == nil {
		b = &batch{}
	}
	b.began, b.out.Taken = f.s.now, b.taken1[:0]
	if q.stored {
		b.done = make(chan struct{})
	}
	b.out.Arrived = f.s.wall.UnixNano()
	if q.role == deadLetters {
		b.out.Note = noteOf(e)
	}
	bytes := max(size, int(min(f.left.Bytes, int64(f.set.maxBatch))))
	count := int(min(f.left.Messages, int64(f.set.batchMessages)))
	if q.a.arenas.live.Load()+int64(q.lastBytes) <= int64(f.set.Limits.Memory)/2 {
		bytes, count = max(bytes, q.lastBytes), max(count, q.lastCount)
	}
	b.data, b.ends = q.a.arenas.get(bytes), q.a.offsets.get(count)
	if q.tail == nil {
		q.head = b
	} else {
		q.tail.next = b
	}
	q.tail = b
	f.attach(b)
}

// index says which message of its call, in its category, the last one is: what
// a reader tells repeated messages by.
func (f *filler) index(i uint32) {
	b := f.b
	if f.spanned && i == f.expect {
		b.out.IDs[len(b.out.IDs)-1].Messages++
		f.expect++
		return
	}
	id := f.call.Batch
	if f.q.producer != id.Producer {
		f.q.producer = strings.Clone(id.Producer) // the call's text is not ours to keep
	}
	b.out.IDs = append(b.out.IDs, catalog.BatchSpan{
		BatchID:  catalog.BatchID{Producer: catalog.Text(f.q.producer), Epoch: id.Epoch, Sequence: id.Sequence},
		From:     i,
		First:    uint64(len(f.ends) - 1), // within the batch; the cut adds its sequence
		Messages: 1,
	})
	f.spanned, f.expect = true, i+1
}

// flush gives the arena back to the batch, and notes who waits for it.
func (f *filler) flush() {
	b := f.b
	if b == nil {
		return
	}
	from := len(b.data)
	b.data, b.ends = f.data, f.ends
	f.b = nil
	size := Count{Messages: int64(len(f.ends) - f.from), Bytes: int64(len(f.data) - from)}
	if size.Messages == 0 { // it was full already
		return
	}
	b.charge += chargeOf(size) + f.overhead
	f.overhead = 0
	b.sender(f.call.Sender)
	if f.q.stored {
		f.s.waits = append(f.s.waits, wait{b: b, c: f.q.c, size: size})
	} else {
		f.s.received = true
	}
}

// chargeOf is what messages cost of the limits in bytes.
func chargeOf(n Count) int64 { return n.Bytes + n.Messages*messageOverhead }
