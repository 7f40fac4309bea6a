package reader

import "twinscribe/store/catalog"

// seenIDs is the second key: which messages of which numbered calls were
// already printed, so that what a client sent twice, because the answer to its
// first try was lost, stands once.
//
// It remembers the calls of a category's last two partitions: a retry lies in
// the partition of its first try or in the next one. Its size follows the
// number of calls with an id, not of messages.
type seenIDs struct {
	categories map[string]*seenCalls
}

// seenCalls are those of one category.
type seenCalls struct {
	partition catalog.Partition
	clients   map[client]uint32
	now, old  generation
}

// A client is one life of a producer.
type client struct {
	producer catalog.Text
	epoch    uint64
}

type call struct {
	client   uint32
	sequence uint64
}

// A part is a run of indices of the messages of one call and category.
type part struct{ from, end uint32 }

// A generation is what one partition held. Nearly every call has one part.
type generation struct {
	parts map[call]part
	more  map[call][]part
}

func newGeneration() generation {
	return generation{parts: make(map[call]part), more: make(map[call][]part)}
}

func newSeenIDs() *seenIDs { return &seenIDs{categories: make(map[string]*seenCalls)} }

// in gives the calls of a category, whose partition p is printed now.
func (s *seenIDs) in(category string, p catalog.Partition) *seenCalls {
	c := s.categories[category]
	if c == nil {
		c = &seenCalls{partition: p, clients: make(map[client]uint32), now: newGeneration(), old: newGeneration()}
		s.categories[category] = c
	}
	if c.partition != p {
		c.partition, c.old, c.now = p, c.now, newGeneration()
	}
	return c
}

// take marks the messages of a span that lie in [from, to] and appends to dst
// the sequences of those that were marked before, in no order, some perhaps twice.
func (c *seenCalls) take(dst []interval, span *catalog.BatchSpan, from, to uint64) []interval {
	first, last := max(span.First, from), min(span.First+uint64(span.Messages)-1, to)
	if first > last {
		return dst
	}
	k := c.key(span.BatchID)
	p := part{from: span.From + uint32(first-span.First), end: span.From + uint32(last-span.First) + 1}
	add := func(q part) {
		if a, b := max(p.from, q.from), min(p.end, q.end); a < b {
			dst = append(dst, interval{first + uint64(a-p.from), first + uint64(b-1-p.from)})
		}
	}
	c.old.each(k, add)
	c.now.each(k, add)
	c.now.mark(k, p)
	return dst
}

// key names a call in few bytes.
func (c *seenCalls) key(id catalog.BatchID) call {
	who := client{id.Producer, id.Epoch}
	n, ok := c.clients[who]
	if !ok {
		n = uint32(len(c.clients))
		c.clients[who] = n
	}
	return call{n, id.Sequence}
}

func (g *generation) each(k call, f func(part)) {
	p, ok := g.parts[k]
	if !ok {
		return
	}
	f(p)
	for _, p := range g.more[k] {
		f(p)
	}
}

// mark adds a part. Parts of one call may overlap: whoever asks counts each
// message once.
func (g *generation) mark(k call, p part) {
	q, ok := g.parts[k]
	switch {
	case !ok:
		g.parts[k] = p
	case p.from <= q.end && q.from <= p.end:
		g.parts[k] = part{min(p.from, q.from), max(p.end, q.end)}
	default:
		g.more[k] = append(g.more[k], p)
	}
}

// forget takes back what take marked of sequences from to: they could not be
// read, and a second copy of them is welcome.
func (c *seenCalls) forget(span *catalog.BatchSpan, from, to uint64) {
	first, last := max(span.First, from), min(span.First+uint64(span.Messages)-1, to)
	if first > last {
		return
	}
	k := c.key(span.BatchID)
	p := part{from: span.From + uint32(first-span.First), end: span.From + uint32(last-span.First) + 1}
	c.now.unmark(k, p)
}

func (g *generation) unmark(k call, p part) {
	var rest []part
	g.each(k, func(q part) {
		if q.from < min(p.from, q.end) {
			rest = append(rest, part{q.from, min(p.from, q.end)})
		}
		if max(p.end, q.from) < q.end {
			rest = append(rest, part{max(p.end, q.from), q.end})
		}
	})
	delete(g.parts, k)
	delete(g.more, k)
	for _, q := range rest {
		g.mark(k, q)
	}
}
