package journal

import (
	"encoding/binary"
	"fmt"

	"twinscribe/store/catalog"
)

// The versions of the records' bodies; one stands in the flags of the file's
// header. A file is begun with the lower one as long as no entry needs the other.
const (
	bodyVersion   = 1
	targetVersion = 2 // begin may end with a target
)

// The kinds of records: a body's first byte. The entry's number follows it.
const (
	kindBegin  = 1 // a file was begun
	kindAgain  = 2 // the same, said again: what follows up to kindStated replaces what older files say
	kindBatch  = 3 // a line
	kindMore   = 4 // more items of the line before
	kindTorn   = 5
	kindSealed = 6 // the entry ends
	kindStated = 7 // a statement that began with kindAgain is complete
)

// The items of a line: a tag, and what it says.
const (
	itemSender  = 1
	itemID      = 2 // of the same producer as the item before
	itemIDOf    = 3 // of the producer named
	itemFeed    = 4
	itemArrival = 5 // its senders follow as itemSender
)

const flagCounted = 1

// chunk is the size behind which a line goes on in another record.
const chunk = 256 << 10

// bodies are bodies of records that belong together, one behind another.
type bodies struct {
	b    []byte
	ends []int
}

// keepBytes is how much memory of a long line is kept for the next one.
const keepBytes = 64 << 10

func (b *bodies) reset() {
	if cap(b.b) > keepBytes {
		b.b = nil
	}
	b.b, b.ends = b.b[:0], b.ends[:0]
}

func (b *bodies) add(more *bodies) {
	at := len(b.b)
	b.b = append(b.b, more.b...)
	for _, end := range more.ends {
		b.ends = append(b.ends, at+end)
	}
}

func (b *bodies) begin(kind byte, entry uint64) {
	b.b = append(b.b, kind)
	b.uint(entry)
}
func (b *bodies) end()          { b.ends = append(b.ends, len(b.b)) }
func (b *bodies) uint(v uint64) { b.b = binary.AppendUvarint(b.b, v) }
func (b *bodies) int(v int64)   { b.b = binary.AppendVarint(b.b, v) }
func (b *bodies) text(s string) {
	b.uint(uint64(len(s)))
	b.b = append(b.b, s...)
}

func (b *bodies) start() int {
	if n := len(b.ends); n > 0 {
		return b.ends[n-1]
	}
	return 0
}

func encodeMark(b *bodies, kind byte, entry uint64) {
	b.begin(kind, entry)
	b.end()
}

func encodeTorn(b *bodies, entry uint64, length int64) {
	b.begin(kindTorn, entry)
	b.uint(uint64(length))
	b.end()
}

func encodeBegin(b *bodies, entry uint64, f *Begin, again bool) {
	kind := byte(kindBegin)
	if again {
		kind = kindAgain
	}
	b.begin(kind, entry)
	b.text(f.Cluster)
	b.text(f.Path)
	b.text(f.OpenPath)
	b.text(string(f.Partition))
	b.text(string(f.Category))
	b.uint(uint64(f.Chain))
	b.uint(f.First)
	b.text(f.Identity.Aggregator)
	b.uint(uint64(f.Identity.Epoch))
	b.uint(uint64(f.Identity.Start))
	if t := f.Target; t != nil {
		b.text(t.Folder)
		b.text(t.Stem)
		b.uint(uint64(t.First))
		b.text(t.Link)
	}
	b.end()
}

// lineWriter writes the items of a line, which are told relative to the item
// before, and goes on in another record where one is long enough.
type lineWriter struct {
	b        *bodies
	entry    uint64
	sequence uint64
	offset   int64
	millis   int64
	producer string
	named    bool
}

func encodeLine(b *bodies, entry uint64, l *Line) {
	b.begin(kindBatch, entry)
	b.uint(uint64(l.Offset))
	b.uint(uint64(l.End - l.Offset))
	b.uint(l.First)
	b.uint(l.Last - l.First)
	flags := uint64(0)
	if l.Counted {
		flags = flagCounted
	}
	b.uint(flags)
	b.int(l.Arrived)
	w := lineWriter{b: b, entry: entry}
	w.senders(l.Senders)
	for i := range l.IDs {
		w.id(&l.IDs[i])
	}
	for _, s := range l.LineFeeds {
		w.item(itemFeed)
		b.int(s.Offset - w.offset)
		b.uint(uint64(s.Length))
		w.offset = s.Offset
	}
	for i := range l.Arrivals {
		a := &l.Arrivals[i]
		w.item(itemArrival)
		b.int(int64(a.First - w.sequence))
		b.int(a.Millis - w.millis)
		w.sequence, w.millis = a.First, a.Millis
		w.senders(a.Senders)
	}
	b.end()
}

// item begins an item, in a new record where the last one is full.
func (w *lineWriter) item(tag byte) {
	if b := w.b; len(b.b)-b.start() > chunk {
		b.end()
		b.begin(kindMore, w.entry)
		named := w.producer
		*w = lineWriter{b: b, entry: w.entry, producer: named}
	}
	w.b.b = append(w.b.b, tag)
}

func (w *lineWriter) senders(all []string) {
	for _, s := range all {
		w.item(itemSender)
		w.b.text(s)
	}
}

func (w *lineWriter) id(s *catalog.BatchSpan) {
	w.item(itemID)
	if p := string(s.Producer); !w.named || p != w.producer {
		w.b.b[len(w.b.b)-1] = itemIDOf
		w.b.text(p)
		w.producer, w.named = p, true
	}
	w.b.uint(s.Epoch)
	w.b.uint(s.Sequence)
	w.b.uint(uint64(s.From))
	w.b.int(int64(s.First - w.sequence))
	w.b.uint(uint64(s.Messages))
	w.sequence = s.First
}

// A body is a record's body, read from the front. After the first mistake
// bad is set and all it gives is zero.
type body struct {
	b   []byte
	bad bool
}

func (p *body) uint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.b, p.bad = nil, true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *body) int() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.b, p.bad = nil, true
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *body) uint32() uint32 {
	v := p.uint()
	if v > 1<<32-1 {
		p.bad = true
		return 0
	}
	return uint32(v)
}

func (p *body) text() []byte {
	n := p.uint()
	if n > uint64(len(p.b)) {
		p.b, p.bad = nil, true
		return nil
	}
	s := p.b[:n]
	p.b = p.b[n:]
	return s
}

func (p *body) byte() byte {
	if len(p.b) == 0 {
		p.bad = true
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

// names gives equal strings once: senders and producers come again and again.
type names map[string]string

func (n names) of(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	n[s] = s
	return s
}

func decodeBegin(p *body, n names) Begin {
	f := Begin{
		Cluster:   n.of(p.text()),
		Path:      string(p.text()),
		OpenPath:  string(p.text()),
		Partition: catalog.Partition(n.of(p.text())),
		Category:  catalog.Text(n.of(p.text())),
		Chain:     p.uint32(),
		First:     p.uint(),
		Identity: catalog.Identity{
			Aggregator: n.of(p.text()),
			Epoch:      p.uint32(),
			Start:      p.uint32(),
		},
	}
	if len(p.b) > 0 {
		f.Target = &catalog.Target{Folder: n.of(p.text()), Stem: n.of(p.text()), First: p.uint32(), Link: n.of(p.text())}
		p.bad = p.bad || f.Target.Check() != nil
	}
	return f
}

func decodeLine(p *body, n names) (l Line, err error) {
	offset, length := p.uint(), p.uint()
	first, more := p.uint(), p.uint()
	flags := p.uint()
	l.Arrived = p.int()
	end, last := offset+length, first+more
	if p.bad || end < offset || end > 1<<63-1 || last < first {
		return l, fmt.Errorf("line of %d bytes at %d, %d sequences more than %d", length, offset, more, first)
	}
	l.Offset, l.End, l.First, l.Last = int64(offset), int64(end), first, last
	l.Counted = flags&flagCounted != 0
	return l, decodeItems(p, n, &l)
}

// decodeItems adds a record's items to a line.
func decodeItems(p *body, n names, l *Line) error {
	var sequence uint64
	var offset, millis int64
	var producer catalog.Text
	for len(p.b) > 0 && !p.bad {
		switch tag := p.byte(); tag {
		case itemSender:
			s := n.of(p.text())
			if k := len(l.Arrivals); k > 0 {
				l.Arrivals[k-1].Senders = append(l.Arrivals[k-1].Senders, s)
			} else {
				l.Senders = append(l.Senders, s)
			}
		case itemIDOf, itemID:
			if tag == itemIDOf {
				producer = catalog.Text(n.of(p.text()))
			}
			s := catalog.BatchSpan{
				BatchID: catalog.BatchID{Producer: producer, Epoch: p.uint(), Sequence: p.uint()},
				From:    p.uint32(),
			}
			sequence += uint64(p.int())
			s.First, s.Messages = sequence, p.uint32()
			l.IDs = append(l.IDs, s)
		case itemFeed:
			offset += p.int()
			l.LineFeeds = append(l.LineFeeds, catalog.Span{Offset: offset, Length: int64(p.uint())})
		case itemArrival:
			sequence += uint64(p.int())
			millis += p.int()
			l.Arrivals = append(l.Arrivals, catalog.Arrival{First: sequence, Millis: millis})
		default:
			return fmt.Errorf("item of kind %d", tag)
		}
	}
	if p.bad {
		return fmt.Errorf("items cut short")
	}
	return nil
}
