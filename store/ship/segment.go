package ship

import (
	"context"
	"fmt"
	"path"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"twinscribe/buffer"
	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// A part is what a segment holds of one category, chain and partition: one
// file.
type part struct {
	head     catalog.Head
	name     catalog.Name
	folder   string
	messages int64
	bytes    int64
	refs     []ref
	told     *catalog.Manifest // read back from the cluster
}

// A ref says where records of a part lie, one behind another.
type ref struct{ from, end int64 }

// refBytes is how much of a segment is read at once, at most, beside one record.
const refBytes = 1 << 20

func (p *part) final() string    { return path.Join(p.folder, p.name.Sealed()) }
func (p *part) open() string     { return path.Join(p.folder, p.name.Open()) }
func (p *part) manifest() string { return path.Join(p.folder, p.name.Manifest()) }

// identity is who wrote a segment.
func identity(seg *buffer.Segment) catalog.Identity {
	return catalog.Identity{Aggregator: seg.Identity.Aggregator, Epoch: seg.Identity.Epoch, Start: seg.Identity.Start}
}

// one ships a segment. Where it returns nil the segment is marked as shipped;
// until then its file has everything.
func (s *Shipper) one(ctx context.Context, seg *buffer.Segment) error {
	if err := s.shipSegment(ctx, seg); err != nil {
		return fmt.Errorf("ship segment %s: %w", seg.Name, err)
	}
	return nil
}

func (s *Shipper) shipSegment(ctx context.Context, seg *buffer.Segment) error {
	if seg.Shipped {
		return nil
	}
	if !seg.Sealed {
		return buffer.ErrWriting
	}
	parts, damaged, err := s.survey(ctx, seg)
	if err != nil {
		return err
	}
	failpoint.Here("ship.surveyed")
	it, to, err := s.decide(ctx, seg, parts)
	if err != nil {
		return err
	}
	failpoint.Here("ship.decided")
	c := &commit{s: s, it: it}
	if err := s.shipParts(ctx, seg, parts, &to, c); err != nil {
		return err
	}
	failpoint.Here("ship.copied")
	for _, p := range parts {
		s.o.Keeper.PutAs(p.head.Identity, p.head.Partition, sealedItem(to.Cluster.Name(), p))
	}
	failpoint.Here("ship.copy-recorded")
	if damaged != nil && !seg.Damaged {
		return damaged // the buffer does not know of it, and would not keep a copy
	}
	for _, p := range parts {
		s.o.Keeper.PutAs(p.head.Identity, p.head.Partition, shippedItem(seg, p))
	}
	failpoint.Here("ship.recorded")
	s.flush(ctx, seg)
	failpoint.Here("ship.flushed")
	if err := s.o.Buffer.Shipped(seg.Name); err != nil {
		return err
	}
	failpoint.Here("ship.marked")
	s.shipped(seg, parts, to.Cluster.Name())
	if err := s.forget(ctx, s.intentPath(seg.Name)); err != nil && ctx.Err() == nil {
		s.failed("what a ship left behind cannot be removed yet", err)
	}
	return nil
}

// flush gives the inventories a while, and where that is too little no more in
// this round: there may be hundreds, and what comes after this segment must not
// wait as long again. One that is late is caught up with: the names on the
// cluster are the truth.
func (s *Shipper) flush(ctx context.Context, seg *buffer.Segment) {
	if s.late {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	if err := s.o.Keeper.Flush(ctx); err != nil {
		s.late = true
		s.o.Log.Info("ship: the inventories are behind", zap.String("segment", seg.Name), zap.Error(err))
	}
}

func (s *Shipper) shipped(seg *buffer.Segment, parts []*part, to string) {
	var messages, bytes int64
	for _, p := range parts {
		messages += p.messages
		bytes += p.bytes
	}
	s.mu.Lock()
	s.stats.Segments++
	s.stats.Files += int64(len(parts))
	s.stats.Messages += messages
	s.stats.Bytes += bytes
	s.mu.Unlock()
	s.o.Log.Info("ship: a segment is on a cluster", zap.String("segment", seg.Name), zap.Stringer("reason", seg.Reason),
		zap.String("cluster", to), zap.Int("files", len(parts)), zap.Int64("messages", messages), zap.Int64("bytes", bytes))
}

func sealedItem(cluster string, p *part) catalog.Item {
	m := p.told
	return catalog.Item{Category: m.Category, Chain: m.Chain, Place: cluster, Path: p.final(), At: m.At, State: catalog.StateSealed,
		Bytes: m.Bytes, Messages: m.Messages, Ranges: m.Ranges}
}

func shippedItem(seg *buffer.Segment, p *part) catalog.Item {
	item := catalog.Item{Category: p.head.Category, Chain: p.head.Chain, Place: placeBuffer, Path: seg.Name, State: catalog.StateShipped,
		Bytes: p.bytes, Messages: p.messages}
	for _, r := range p.told.Ranges {
		item.Ranges = append(item.Ranges, catalog.Range{First: r.First, Last: r.Last})
	}
	return item
}

// survey reads a segment and finds its parts, in the order of their first
// records. damaged says what is wrong with it; what verifies is shipped all
// the same.
func (s *Shipper) survey(ctx context.Context, seg *buffer.Segment) (parts []*part, damaged, err error) {
	f, err := buffer.OpenSegment(s.o.FS, seg.Path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	type key struct {
		category, partition string
		chain               uint32
	}
	known := make(map[key]*part)
	report, err := f.Scan(func(r *buffer.Record) error {
		k := key{r.Category, r.Partition, r.Chain}
		p := known[k]
		if p == nil {
			if _, err := catalog.Partition(r.Partition).Start(); err != nil {
				return err
			}
			p = newPart(seg, r)
			known[key{string(p.head.Category), string(p.head.Partition), r.Chain}] = p
			parts = append(parts, p)
		}
		p.add(r)
		return ctx.Err()
	})
	if err == nil && report.Damaged() {
		damaged = fmt.Errorf("%w (%d records are missing, %d bytes are no records): what verifies is on the cluster, and the segment stays; "+
			"the next start of the server puts it into quarantine", ErrDamaged, report.MissingRecords, report.DamagedBytes)
	}
	return parts, damaged, err
}

func newPart(seg *buffer.Segment, r *buffer.Record) *part {
	name := catalog.Name{Time: seg.Created, Identity: identity(seg), Number: r.Chain, Segment: seg.Number, Shipped: true}
	head := catalog.Head{File: name.Sealed(), Identity: name.Identity, Chain: r.Chain,
		Category: catalog.Text([]byte(r.Category)), Partition: catalog.Partition([]byte(r.Partition))} // r's strings may change
	return &part{head: head, name: name, folder: path.Join(catalog.Folder(r.Category), r.Partition)}
}

func (p *part) add(r *buffer.Record) {
	p.messages += int64(r.Len())
	p.bytes += int64(len(r.Data))
	if n := len(p.refs); n > 0 && p.refs[n-1].end == r.Offset && r.End()-p.refs[n-1].from <= refBytes {
		p.refs[n-1].end = r.End()
		return
	}
	p.refs = append(p.refs, ref{r.Offset, r.End()})
}

// A commit makes it durable, once, that final names are being made.
type commit struct {
	s   *Shipper
	mu  sync.Mutex
	it  *intent
	end chan struct{} // closed when err is there; nil: nobody has begun
	err error
}

// now returns when the intent says so on the disk. Whoever comes first writes
// it, and the others wait.
func (c *commit) now() error {
	c.mu.Lock()
	if c.it.Committed && c.end == nil {
		c.mu.Unlock()
		return nil
	}
	end, first := c.end, c.end == nil
	if first {
		end = make(chan struct{})
		c.end = end
	}
	c.mu.Unlock()
	if !first {
		<-end
		return c.err
	}
	it := *c.it
	it.Committed = true
	c.err = c.s.store(c.s.intentPath(it.Segment), &it)
	close(end)
	return c.err
}

// shipParts brings each part to the cluster, or finds it there.
func (s *Shipper) shipParts(ctx context.Context, seg *buffer.Segment, parts []*part, to *Target, c *commit) error {
	work := make(chan *part)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		for _, p := range parts {
			select {
			case work <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(s.o.Parallel, len(parts)) {
		g.Go(func() error {
			f, err := buffer.OpenSegment(s.o.FS, seg.Path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }() // it was only read
			w := &copier{s: s, f: f, to: to, commit: c}
			for p := range work {
				if err := w.ship(ctx, p); err != nil {
					return fmt.Errorf("%s:%s: %w", to.Cluster.Name(), p.final(), err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// patience is a context for one call of a cluster.
func (s *Shipper) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.o.Timeout)
}
