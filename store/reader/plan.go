package reader

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"twinscribe/store/catalog"
)

// A chainKey is what sequences count in.
type chainKey struct {
	id    catalog.Identity
	chain uint32
}

// compare is the order in which the chains of a partition are printed.
func (a chainKey) compare(b chainKey) int {
	return cmp.Or(
		strings.Compare(a.id.Aggregator, b.id.Aggregator),
		cmp.Compare(a.id.Epoch, b.id.Epoch),
		cmp.Compare(a.id.Start, b.id.Start),
		cmp.Compare(a.chain, b.chain),
	)
}

// The ranks of sources that hold one sequence.
const (
	rankSealed  = iota // final, checked against its manifest
	rankSegment        // checksummed
	rankOpen           // open, sealing or torn: what can be read of it may be short
)

// A piece is a run of sequences in one source.
type piece struct {
	first, last uint64
	counted     bool
	rank        int
	number      uint64 // of the file within the start: lower ones go first
	src         source
	offset, end int64 // in a file
	cut         *cut  // of a counted piece that was cut short
}

// better is the order in which sources of one sequence are preferred: exact
// before counted, sealed file before segment, lower file number first. The
// rest only makes it an order.
func (p *piece) better(q *piece) bool {
	if p.counted != q.counted {
		return !p.counted
	}
	place, path := p.src.where()
	otherPlace, otherPath := q.src.where()
	return cmp.Or(
		cmp.Compare(p.rank, q.rank),
		cmp.Compare(p.number, q.number),
		strings.Compare(place, otherPlace),
		strings.Compare(path, otherPath),
		cmp.Compare(p.offset, q.offset),
		cmp.Compare(p.first, q.first),
	) < 0
}

// A winner is a part of a piece that is printed.
type winner struct {
	*piece
	from, to uint64 // sequences
}

// plan takes each sequence from, to once, from the best piece that has it, in
// order. It works on the edges of the pieces: its cost does not depend on how
// many sequences there are.
func plan(pieces []*piece, from, to uint64) []winner {
	todo := slices.Clone(pieces)
	slices.SortFunc(todo, func(a, b *piece) int { return cmp.Compare(a.first, b.first) })
	var out []winner
	var active pieceHeap
	for at := from; at <= to; {
		for len(todo) > 0 && todo[0].first <= at {
			if todo[0].last >= at {
				heap.Push(&active, todo[0])
			}
			todo = todo[1:]
		}
		for len(active) > 0 && active[0].last < at {
			heap.Pop(&active)
		}
		if len(active) == 0 {
			if len(todo) == 0 {
				break
			}
			at = todo[0].first
			continue
		}
		best := active[0]
		end := min(best.last, to)
		if len(todo) > 0 && todo[0].first <= end {
			end = todo[0].first - 1
		}
		if n := len(out); n > 0 && out[n-1].piece == best && out[n-1].to+1 == at {
			out[n-1].to = end
		} else {
			out = append(out, winner{best, at, end})
		}
		at = end + 1
	}
	return out
}

// pieceHeap has the best piece on top.
type pieceHeap []*piece

func (h pieceHeap) Len() int           { return len(h) }
func (h pieceHeap) Less(i, j int) bool { return h[i].better(h[j]) }
func (h pieceHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *pieceHeap) Push(x any)        { *h = append(*h, x.(*piece)) }
func (h *pieceHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	*h = old[:len(old)-1]
	return p
}

// without is pieces without those of some sources.
func without(pieces []*piece, sources []source) []*piece {
	return slices.DeleteFunc(slices.Clone(pieces), func(p *piece) bool { return slices.Contains(sources, p.src) })
}

// An interval is a run of sequences.
type interval struct{ first, last uint64 }

// uncovered counts how many of the sequences of ranges no piece has.
func uncovered(ranges []catalog.Range, pieces []*piece) (missing uint64) {
	for _, r := range ranges {
		missing += r.Last - r.First + 1
		for _, w := range plan(pieces, r.First, r.Last) {
			missing -= w.to - w.from + 1
		}
	}
	return missing
}
