package replay

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"twinscribe/buffer"
	"twinscribe/failpoint"
	"twinscribe/store"
	"twinscribe/store/catalog"
)

// errSend marks the end of a reading by what send said.
type errSend struct{ err error }

func (e *errSend) Error() string { return e.err.Error() }

// sendSegments sends the segments in the order of their names: that of the
// starts and, within one, of writing. One that is sent in part comes before all
// others: there is one cursor.
func (p *Spool) sendSegments(ctx context.Context, send func(*store.Batch) (int, error)) error {
	for {
		seg, ok := p.begun()
		if !ok {
			seg, ok = p.oldest()
		}
		if !ok {
			return nil
		}
		if err := p.sendOne(ctx, &seg, send); err != nil {
			return err
		}
		if !seg.Sealed && !p.passed[seg.Name] {
			return nil // all that is acknowledged of it; it is the last one, or is sealed first
		}
	}
}

// endBegun is done with the segment that is sent in part, where there is one:
// a file that can be read again takes the cursor.
func (p *Spool) endBegun(ctx context.Context, send func(*store.Batch) (int, error)) error {
	seg, is := p.begun()
	if !is {
		return nil
	}
	if !seg.Sealed {
		if err := p.hold(ctx); err != nil {
			return err
		}
		err := p.buf.Seal(ctx, buffer.Outage)
		p.release()
		if err != nil {
			return err
		}
		if seg, is = p.begun(); !is {
			return nil
		}
	}
	return p.sendOne(ctx, &seg, send)
}

// sendOne sends a segment, and removes it when it is sealed and all of it is
// sent. One that cannot be read is passed over.
func (p *Spool) sendOne(ctx context.Context, seg *buffer.Segment, send func(*store.Batch) (int, error)) error {
	sent, err := p.try(ctx, seg.Name, func() error { return p.sendSegment(ctx, seg, send) })
	if err != nil || !sent || !seg.Sealed {
		return err
	}
	if err := p.remove(seg); err != nil {
		// It is the next one again, and nothing of it is sent again.
		p.fail(err)
		return err
	}
	return nil
}

// try sends one segment or file. One that cannot be read is passed over: neither
// sent nor an error, and the cursor is where it was. An error ends the replay,
// and who is to hear of it has.
func (p *Spool) try(ctx context.Context, name string, do func() error) (sent bool, err error) {
	before, counted := p.pos, p.counted
	err = do()
	var no *errSend
	switch {
	case errors.As(err, &no):
		return false, no.err
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil && transient(err):
		p.fail(err)
		return false, err
	case err != nil:
		p.pass(name, err)
		p.back(before, counted)
		return false, nil
	}
	return true, nil
}

// oldest is the first segment that can be read.
func (p *Spool) oldest() (buffer.Segment, bool) {
	return p.first(func(*buffer.Segment) bool { return true })
}

// begun is the one that is sent in part.
func (p *Spool) begun() (buffer.Segment, bool) {
	return p.first(func(s *buffer.Segment) bool {
		return s.Name == p.pos.file && (p.pos.offset > 0 || p.pos.taken > 0)
	})
}

func (p *Spool) first(is func(*buffer.Segment) bool) (buffer.Segment, bool) {
	for _, seg := range p.buf.Segments() {
		if !p.passed[seg.Name] && !seg.Shipped && is(&seg) {
			return seg, true
		}
	}
	return buffer.Segment{}, false
}

// sendSegment sends what of a segment is not sent yet, as far as it is
// acknowledged. The cursor is behind each record that the primary has.
func (p *Spool) sendSegment(ctx context.Context, seg *buffer.Segment, send func(*store.Batch) (int, error)) error {
	p.at(seg.Name)
	f, err := buffer.OpenSegment(p.all.fs, seg.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	origin := p.origin(seg.Identity)
	report, err := f.Follow(p.pos.offset, p.pos.number, seg.Bytes, func(r *buffer.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Offset != p.pos.offset {
			p.pos.taken = 0 // damage has taken the record that was sent in part
		}
		b := batch(r, origin).After(int(min(p.pos.taken, uint32(r.Len()))))
		if b.Len() > 0 {
			n, err := send(b)
			failpoint.Here("replay.sent")
			if err != nil {
				if n > 0 {
					p.pos.offset, p.pos.number = r.Offset, r.Number
					p.pos.taken += uint32(n)
					p.advance(n)
				}
				return &errSend{err}
			}
		}
		p.pos.offset, p.pos.number, p.pos.taken = r.End(), r.Number+1, 0
		p.pos.messages += int64(r.Len())
		p.advance(b.Len())
		failpoint.Here("replay.noted")
		return nil
	})
	for _, d := range report.Damage {
		if d.From < p.counted {
			continue
		}
		p.counted = d.To + 1
		p.pos.damaged += max(d.To-d.From, 1)
		p.lose(seg.Name, d.To-d.From, d.String())
	}
	return err
}

// remove removes a segment that is sent; its damaged bytes stay in quarantine.
func (p *Spool) remove(seg *buffer.Segment) error {
	err := p.buf.Remove(seg.Name, p.pos.file == seg.Name && p.pos.damaged > 0)
	if err != nil && !errors.Is(err, buffer.ErrMissing) {
		return err
	}
	p.all.set(p.o.Dir, p.buf.Stats().Bytes)
	return nil
}

// pending says whether a segment has a record that was not sent.
func (p *Spool) pending(seg *buffer.Segment) (bool, error) {
	var from int64
	var number uint64
	if p.pos.file == seg.Name {
		from, number = p.pos.offset, p.pos.number
	}
	f, err := buffer.OpenSegment(p.all.fs, seg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // it was only read
	_, err = f.Follow(from, number, seg.Bytes, func(*buffer.Record) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// batch is the batch that r was made of. It refers to r.
func batch(r *buffer.Record, origin *catalog.Identity) *store.Batch {
	b := &store.Batch{
		Category: r.Category, Chain: r.Chain, Partition: catalog.Partition(r.Partition), First: r.First, Arrived: r.Arrived,
		Data: r.Data, Ends: r.Ends, Senders: slices.Clone(r.Senders), Note: r.Note, Origin: origin,
	}
	for _, id := range r.IDs {
		b.IDs = append(b.IDs, catalog.BatchSpan{
			BatchID: catalog.BatchID{Producer: catalog.Text(id.Producer), Epoch: id.Epoch, Sequence: id.Sequence},
			From:    id.From, First: id.First, Messages: id.Messages,
		})
	}
	return b
}
