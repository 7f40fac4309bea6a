// Package reader is the merged view: what all clusters and buffers hold, each
// acknowledged message once, in order of sequence, and what could not be
// counted.
//
// Three things say what is there. The names and manifests below the clusters'
// roots and the segments of the buffers tell what can be read. The inventories
// tell what should be there: what they name and nobody has is reported. The
// rule that makes one data set of it: each (aggregator, start id, chain,
// sequence) is taken once, exact before counted, sealed file before segment
// before the published part of an open file, lower file number first. What
// cannot be read from the best source is taken from the next one that has it.
//
// What a report calls uncounted: a cluster or a buffer that cannot be reached;
// a file or segment that an inventory names and that is not there; a segment
// on a host that is not read; a file that holds less than its manifest says; a
// damaged segment; a file without a manifest (it is read line by line, and may
// hold what stands elsewhere too); an open file that is known to hold
// acknowledged messages beyond its published part, and one whose writer is
// gone, until it is repaired. Not reported is the open file of a start that is
// alive: what it acknowledged since its last publication is younger than
// visible_within.
//
// Where a file was repaired without its journal, its messages were counted by
// lines, and sequences of it are a guess (catalog.Range.Counted). Such a range
// ends where the next range of its chain begins. The lines behind that are
// left out only if they are, byte for byte, what the next range begins with.
//
// It leaves to others: how a cluster is read (store/cluster and its kinds), the
// format of segments (package buffer), output and exit codes (cmd).
package reader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

// Options of New. Zero fields take the values named.
type Options struct {
	Clusters []cluster.Cluster
	Buffers  []BufferSource
	// Timeout is how long one call may take that reads a folder or a small
	// file, in addition to what a cluster does itself; 30 s.
	Timeout time.Duration
	// Chunk is how many bytes of a file are read at once and given out in one
	// Run, more where a message is longer; 1 MiB.
	Chunk int
	// DeadLetters makes the buffers' dead letters part of the view.
	DeadLetters bool
	Now         func() time.Time // time.Now
	Log         *zap.Logger
}

// A Reader may be used by many goroutines at once. It holds no files between
// calls and caches nothing: each call sees what is there then.
type Reader struct{ o Options }

// New makes a reader. It dials nothing.
func New(o Options) *Reader {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Chunk <= 0 {
		o.Chunk = 1 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reader{o: o}
}

// A Query says which messages are wanted. The zero Query wants all of them.
type Query struct {
	Category string // exact; empty: all
	// From and To are moments: the partitions that overlap the time from From
	// up to To are read, whole. Zero: no bound.
	From, To time.Time
}

func (q *Query) wants(category string) bool { return q.Category == "" || q.Category == category }

func (q *Query) overlaps(p catalog.Partition) bool {
	start, err := p.Start()
	if err != nil {
		return false
	}
	end, _ := p.End() // fails where Start does
	return (q.To.IsZero() || start.Before(q.To)) && (q.From.IsZero() || end.After(q.From))
}

// ErrNothing is the answer where no cluster and no buffer can be reached.
var ErrNothing = errors.New("no cluster and no buffer can be read")

// Read gives the messages of a query to sink: partition by partition in order
// of time, in a partition by category, in a category chain by chain
// (aggregator, epoch and start id, number of the chain), in a chain in order of
// sequence. It ends at sink's first error, which it returns, and soon after ctx
// does. The report is right in every case, for what was given out; an error
// means that the rest was not looked at.
//
// It reads one file at a time and keeps, beside it, the manifests of one
// category and partition, the inventories of one partition and the batch ids
// of two partitions of each category.
func (r *Reader) Read(ctx context.Context, q Query, sink func(*Run) error) (Report, error) {
	p, err := r.begin(ctx, q)
	if err != nil {
		return p.report, err
	}
	defer p.closeSegments()
	e := &emitter{sink: sink, report: &p.report, buf: make([]byte, r.o.Chunk)}
	seen := newSeenIDs()
	err = p.each(ctx, func(u *unit) error {
		e.calls = seen.in(u.folder, u.partition)
		return p.print(ctx, e, u)
	})
	p.tell()
	return p.report, err
}

// A pass is one call of a Reader.
type pass struct {
	r       *Reader
	q       Query
	sites   []*site
	buffers []*bufferState
	tree    tree
	members map[catalog.Identity]*catalog.Member    // nil: none can be read
	books   map[catalog.Identity]*catalog.Inventory // of the partition that is being read
	late    map[string]bool                         // segments that were there later than the first look; nil: not asked

	mu     sync.Mutex // for the report, while many goroutines look around
	report Report
	lacks  lacks
}

// begin reaches for everything and finds the partitions.
func (r *Reader) begin(ctx context.Context, q Query) (*pass, error) {
	p := &pass{
		r: r, q: q,
		tree:    tree{folders: make(map[catalog.Partition]map[string]bool)},
		members: make(map[catalog.Identity]*catalog.Member),
	}
	for _, c := range r.o.Clusters {
		p.sites = append(p.sites, &site{name: c.Name(), c: c, timeout: r.o.Timeout})
	}
	// The buffers come first: a segment that is shipped meanwhile is then seen
	// here, there, or in both places, and counts once.
	if err := p.openBuffers(ctx); err != nil {
		return p, err
	}
	if err := p.survey(ctx); err != nil {
		p.closeSegments()
		return p, err
	}
	if err := p.reachable(); err != nil {
		p.closeSegments()
		return p, err
	}
	return p, nil
}

// reachable fails if there is nothing to read from.
func (p *pass) reachable() error {
	var reasons []error
	for _, s := range p.sites {
		err := s.gone()
		if err == nil {
			return nil
		}
		reasons = append(reasons, fmt.Errorf("cluster %s: %w", s.name, err))
	}
	for _, b := range p.buffers {
		if b.away == nil {
			return nil
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", b.src.Name(), b.away))
	}
	return fmt.Errorf("%w: %w", ErrNothing, errors.Join(reasons...))
}

// each calls f for each category of each partition, in order.
func (p *pass) each(ctx context.Context, f func(*unit) error) error {
	for _, part := range p.tree.partitions() {
		if err := p.openSegments(ctx, part); err != nil {
			return err
		}
		books, err := p.inventories(ctx, part)
		if err != nil {
			return err
		}
		p.books, p.late = books, nil
		for _, folder := range p.foldersOf(part, books) {
			u, err := p.collect(ctx, part, folder, books)
			if err != nil {
				return err
			}
			if err := f(u); err != nil {
				return err
			}
		}
		p.closeSegments()
	}
	return nil
}

// foldersOf is the categories' folders of a partition: those that are there and
// those that the inventories tell of.
func (p *pass) foldersOf(part catalog.Partition, books map[catalog.Identity]*catalog.Inventory) []string {
	for _, b := range books {
		for i := range b.Items {
			p.tree.add(part, catalog.Folder(string(b.Items[i].Category)))
		}
	}
	var list []string
	for folder := range p.tree.folders[part] {
		list = append(list, folder)
	}
	slices.Sort(list)
	return list
}

// print gives out one category of one partition.
func (p *pass) print(ctx context.Context, e *emitter, u *unit) error {
	for _, c := range u.chains {
		if err := p.printChain(ctx, e, c); err != nil {
			return err
		}
	}
	for _, f := range u.strangers {
		err := f.emitLines(ctx, e, 0, f.size)
		f.close()
		switch {
		case e.failed != nil || ctx.Err() != nil:
			return err
		case err != nil:
			p.report.uncounted("%s:%s: %v", f.site.name, f.named(), err)
		}
	}
	return nil
}

// printChain gives out what a partition holds of one chain. A piece that fails
// is replaced, from there on, by what else has its sequences.
func (p *pass) printChain(ctx context.Context, e *emitter, c *chain) error {
	pieces := cutCounted(c.pieces)
	type step struct {
		winner
		tried []source // that failed for these sequences
	}
	var todo []step
	for _, w := range plan(pieces, 1, math.MaxUint64-1) {
		todo = append(todo, step{winner: w})
	}
	for i := 0; i < len(todo); i++ {
		w := todo[i]
		next, err := w.src.emit(ctx, e, w.winner)
		if i+1 == len(todo) || todo[i+1].src != w.src {
			w.src.close()
		}
		if err == nil {
			if w.cut != nil && w.to == w.last {
				err = p.printCut(ctx, e, w.piece, pieces)
			}
			if err != nil {
				return err
			}
			continue
		}
		if e.failed != nil || ctx.Err() != nil {
			w.src.close()
			return err
		}
		tried := append(slices.Clone(w.tried), w.src)
		missing := w.to - next + 1
		var instead []step
		for _, other := range plan(without(pieces, tried), next, w.to) {
			instead = append(instead, step{other, tried})
			missing -= other.to - other.from + 1
		}
		p.failed(w.winner, next, missing, err)
		todo = slices.Insert(todo, i+1, instead...)
	}
	for _, piece := range pieces { // what was cut down to nothing, or was no winner at its cut
		if piece.cut != nil {
			if err := p.printCut(ctx, e, piece, pieces); err != nil {
				return err
			}
		}
	}
	return nil
}

// failed tells that a source had less than it should.
func (p *pass) failed(w winner, next, missing uint64, err error) {
	place, path := w.src.where()
	if missing == 0 {
		p.report.problem("%s:%s: %v; sequences %d to %d were taken from elsewhere", place, path, err, next, w.to)
		return
	}
	p.report.uncounted("%s:%s: %v; %d messages of sequences %d to %d are missing", place, path, err, missing, next, w.to)
}

// tell ends the report.
func (p *pass) tell() {
	for _, s := range p.sites {
		if err := s.gone(); err != nil {
			p.report.uncounted("cluster %s is away (%v): what only it holds is missing", s.name, err)
		}
	}
	p.lacks.tell(&p.report)
}
