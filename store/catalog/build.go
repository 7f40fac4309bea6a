package catalog

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"
)

// A Line says where a batch lies in a file, or a run of batches one after
// another: what the journal notes before a batch is written, and what a
// manifest is made of.
type Line struct {
	Offset, End int64  // in the file's text
	First, Last uint64 // sequences
	Arrived     int64  // of the first message, nanoseconds since 1970 UTC; 0: not known
	Senders     []string
	IDs         []BatchSpan
	LineFeeds   []Span
	// Arrivals of a run of batches; Arrived and Senders are not set there.
	Arrivals []Arrival
	// Counted: by a repair that had no journal line and counted the messages.
	Counted bool
}

// Messages is how many messages the line stands for.
func (l *Line) Messages() int64 { return int64(l.Last - l.First + 1) }

// Limits of the lists that grow with a file. Arrivals get coarser at theirs;
// the others are bounded by whoever ends the file (see Builder.Items).
const (
	maxArrivals   = 1024    // of one file
	maxSenders    = 1000    // of one arrival; more are told by manySenders
	maxSenderRefs = 1 << 16 // of all arrivals of a file together
	manySenders   = "*"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Head is what is known of a file before anything is in it.
type Head struct {
	File      string // final base name
	Identity  Identity
	Chain     uint32
	Category  Text
	Partition Partition
	Target    *Target // the name that it takes when it is sealed; nil: its own
}

// A Builder gathers what one file holds: ranges (joined where offset and
// sequence both follow), messages with line feeds inside, batch ids, arrivals
// (one a second at most, coarser in a long-lived file) and the checksum.
//
// Add and Sum belong to the goroutine that owns the file; the others may be
// called by any. Nothing that it hands out changes later.
type Builder struct {
	head Head

	mu       sync.Mutex // held for memory only
	bytes    int64
	summed   int64
	messages int64
	crc      uint32
	ranges   []Range
	ids      []BatchSpan // only ever appended to, so that snapshots share it
	feeds    []Span      // the same
	arrivals []Arrival   // closed ones
	refs     int         // senders in arrivals
	step     int64       // milliseconds that an arrival stands for

	// The arrival that grows. Its senders lie in a slice that is used again.
	open    bool
	first   uint64
	millis  int64
	senders []string
	seen    map[string]struct{}
}

// NewBuilder begins with an empty file.
func NewBuilder(h Head) *Builder {
	return &Builder{head: h, step: 1000, seen: make(map[string]struct{})}
}

// Head is what NewBuilder was given.
func (b *Builder) Head() Head { return b.head }

// Bytes is the end of what was added.
func (b *Builder) Bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// Messages is how many were added.
func (b *Builder) Messages() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.messages
}

// Items is how many entries the manifest's lists have that no limit of their
// own bounds. Whoever writes a file ends it before they are too many.
func (b *Builder) Items() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ranges) + len(b.ids) + len(b.feeds)
}

// Add takes a line that begins where the last one ended. It keeps nothing of
// it but strings.
func (b *Builder) Add(l *Line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.Offset != b.bytes || l.End < l.Offset || l.Last < l.First {
		panic(fmt.Sprintf("catalog: line of bytes %d to %d, sequences %d to %d, behind byte %d of %s",
			l.Offset, l.End, l.First, l.Last, b.bytes, b.head.File))
	}
	b.bytes = l.End
	b.messages += l.Messages()
	b.addRange(Range{First: l.First, Last: l.Last, Offset: l.Offset, End: l.End, Counted: l.Counted})
	b.ids = append(b.ids, l.IDs...)
	b.feeds = append(b.feeds, l.LineFeeds...)
	for i := range l.Arrivals {
		b.arrive(l.Arrivals[i].First, l.Arrivals[i].Millis, l.Arrivals[i].Senders)
	}
	if l.Arrived != 0 && len(l.Arrivals) == 0 {
		b.arrive(l.First, l.Arrived/int64(time.Millisecond), l.Senders)
	}
}

// Skip says that the next n bytes hold no message that can be counted: they
// stand in no range. Only a repair meets such bytes.
func (b *Builder) Skip(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += n
}

// Sum adds the file's next bytes to the checksum.
func (b *Builder) Sum(p []byte) {
	crc := crc32.Update(b.crc, castagnoli, p) // only the owner writes it
	b.mu.Lock()
	defer b.mu.Unlock()
	b.crc = crc
	b.summed += int64(len(p))
}

func (b *Builder) addRange(r Range) {
	if n := len(b.ranges); n > 0 {
		last := &b.ranges[n-1]
		if last.Last+1 == r.First && last.End == r.Offset && last.Counted == r.Counted {
			last.Last, last.End = r.Last, r.End
			return
		}
	}
	b.ranges = append(b.ranges, r)
}

// arrive notes that the messages from first on came at this time.
func (b *Builder) arrive(first uint64, millis int64, senders []string) {
	if away := millis - b.millis; !b.open || away >= b.step || away <= -b.step {
		b.closeArrival()
		b.open, b.first, b.millis = true, first, millis
	}
	for _, s := range senders {
		if _, ok := b.seen[s]; ok {
			continue
		}
		if len(b.senders) >= maxSenders {
			if b.senders[len(b.senders)-1] != manySenders {
				b.senders = append(b.senders, manySenders)
			}
			return
		}
		b.seen[s] = struct{}{}
		b.senders = append(b.senders, s)
	}
}

// closeArrival ends the arrival that grows. A steady set of senders, the usual
// case, is kept once for all arrivals.
func (b *Builder) closeArrival() {
	if !b.open {
		return
	}
	a := Arrival{First: b.first, Millis: b.millis}
	if n := len(b.arrivals); n > 0 && b.sameSenders(b.arrivals[n-1].Senders) {
		a.Senders = b.arrivals[n-1].Senders
	} else {
		a.Senders = slices.Clone(b.senders)
	}
	b.arrivals = append(b.arrivals, a)
	b.refs += len(a.Senders)
	b.open, b.senders = false, b.senders[:0]
	clear(b.seen)
	for len(b.arrivals) > 1 && (len(b.arrivals) > maxArrivals || b.refs > maxSenderRefs) {
		b.coarsen()
	}
}

func (b *Builder) sameSenders(old []string) bool {
	if len(old) != len(b.senders) {
		return false
	}
	for _, s := range old {
		if _, ok := b.seen[s]; !ok && s != manySenders {
			return false
		}
	}
	return true
}

// coarsen joins each two arrivals.
func (b *Builder) coarsen() {
	b.step *= 2
	joined := b.arrivals[:0]
	b.refs = 0
	for i := 0; i < len(b.arrivals); i += 2 {
		a := b.arrivals[i]
		if i+1 < len(b.arrivals) {
			a.Senders = joinSenders(a.Senders, b.arrivals[i+1].Senders)
		}
		b.refs += len(a.Senders)
		joined = append(joined, a)
	}
	clear(b.arrivals[len(joined):])
	b.arrivals = joined
}

// joinSenders never changes what it is given: it may be shared.
func joinSenders(a, more []string) []string {
	have := make(map[string]struct{}, len(a))
	for _, s := range a {
		have[s] = struct{}{}
	}
	out := a[:len(a):len(a)]
	for _, s := range more {
		if _, ok := have[s]; ok {
			continue
		}
		if len(out) >= maxSenders || s == manySenders {
			if _, ok := have[manySenders]; !ok {
				out = append(out, manySenders)
			}
			break
		}
		out = append(out, s)
	}
	return out
}

// allArrivals is a copy with the one that grows.
func (b *Builder) allArrivals() []Arrival {
	out := make([]Arrival, len(b.arrivals), len(b.arrivals)+1)
	copy(out, b.arrivals)
	if b.open {
		out = append(out, Arrival{First: b.first, Millis: b.millis, Senders: slices.Clone(b.senders)})
	}
	return out
}

// Snapshot is the manifest of what was added and summed so far, without a
// reason: the acknowledged part of a file that is still open or torn.
func (b *Builder) Snapshot() *Manifest { return b.manifest("", 0) }

// Manifest is the manifest of the file as it is sealed now.
func (b *Builder) Manifest(reason string, at time.Time) *Manifest {
	return b.manifest(reason, at.UnixNano())
}

func (b *Builder) manifest(reason string, sealed int64) *Manifest {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.summed != b.bytes {
		panic(fmt.Sprintf("catalog: manifest of %s with %d bytes summed of %d", b.head.File, b.summed, b.bytes))
	}
	m := &Manifest{
		File:       b.head.File,
		Aggregator: b.head.Identity.Aggregator,
		Epoch:      b.head.Identity.Epoch,
		Start:      b.head.Identity.StartID(),
		Chain:      b.head.Chain,
		Category:   b.head.Category,
		Partition:  b.head.Partition,
		Bytes:      b.bytes,
		Messages:   b.messages,
		CRC32C:     b.crc,
		Ranges:     slices.Clone(b.ranges),
		LineFeeds:  slices.Clip(b.feeds),
		IDs:        slices.Clip(b.ids),
		Arrivals:   b.allArrivals(),
		Reason:     reason,
		Sealed:     sealed,
	}
	m.SetTarget(b.head.Target, "")
	return m
}

// Lines is all that was added, one line for each range: adding them to an
// empty Builder gives the same manifest, but for its checksum.
func (b *Builder) Lines() []Line {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := make([]Line, len(b.ranges))
	ids, feeds, arrivals := slices.Clip(b.ids), slices.Clip(b.feeds), b.allArrivals()
	for i, r := range b.ranges {
		l := Line{Offset: r.Offset, End: r.End, First: r.First, Last: r.Last, Counted: r.Counted}
		l.IDs, ids = cut(ids, func(s BatchSpan) bool { return s.First <= r.Last })
		l.LineFeeds, feeds = cut(feeds, func(s Span) bool { return s.Offset < r.End })
		l.Arrivals, arrivals = cut(arrivals, func(a Arrival) bool { return a.First <= r.Last })
		if i > 0 && !r.Counted && (len(l.Arrivals) == 0 || l.Arrivals[0].First > r.First) {
			l.Arrivals = inherit(lines[i-1].Arrivals, r.First, l.Arrivals)
		}
		lines[i] = l
	}
	return lines
}

// inherit puts the last arrival of the range before in front: it goes on.
func inherit(before []Arrival, first uint64, own []Arrival) []Arrival {
	if len(before) == 0 {
		return own
	}
	last := before[len(before)-1]
	last.First = first
	return append([]Arrival{last}, own...)
}

func cut[T any](all []T, mine func(T) bool) (head, tail []T) {
	n := 0
	for n < len(all) && mine(all[n]) {
		n++
	}
	return all[:n:n], all[n:]
}

// LineFeeds appends to dst where the messages with line feeds inside lie. The
// messages stand in data as in a file, each with its one line feed at ends[i],
// and data begins at offset.
func LineFeeds(dst []Span, data []byte, ends []uint32, offset int64) []Span {
	if bytes.Count(data, []byte{'\n'}) == len(ends) {
		return dst
	}
	from := uint32(0)
	for _, end := range ends {
		if bytes.IndexByte(data[from:end-1], '\n') >= 0 {
			dst = append(dst, Span{Offset: offset + int64(from), Length: int64(end - from)})
		}
		from = end
	}
	return dst
}
