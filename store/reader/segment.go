package reader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
)

// bufferState is a buffer during one read.
type bufferState struct {
	src      BufferSource
	away     error
	segments []*segment
}

// A segment is one of a buffer. Its parts are those of the partition that is
// being read.
type segment struct {
	src   BufferSource
	info  buffer.Segment
	id    catalog.Identity // of the start that wrote it
	file  *buffer.SegmentFile
	told  bool // its damage is in the report
	parts []*segmentPart
}

// A segmentPart is what a segment holds of one category, chain and partition.
type segmentPart struct {
	segment   *segment
	category  string
	chain     uint32
	partition catalog.Partition
	messages  int64
	bytes     int64 // of messages
	ranges    []interval
	refs      []recordRef // in order of sequence

	feeds    []catalog.Span
	spans    []catalog.BatchSpan
	arrivals [1]catalog.Arrival
}

// A recordRef says where records lie whose sequences, and whose bytes, follow
// one another.
type recordRef struct {
	from, end   int64 // in the segment's file
	first, last uint64
}

// refBytes is how much of a segment is read at once, at most, beside one record.
const refBytes = 1 << 20

// openBuffers lists all buffers. Only a context that ended is an error.
func (p *pass) openBuffers(ctx context.Context) error {
	for _, src := range p.r.o.Buffers {
		b := &bufferState{src: src}
		p.buffers = append(p.buffers, b)
		list, err := src.Segments(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.away = err
			if !errors.Is(err, fs.ErrNotExist) {
				p.report.uncounted("%s cannot be read (%v): what only it holds is missing", src.Name(), err)
			}
			continue
		}
		for _, info := range list {
			b.segments = append(b.segments, &segment{src: src, info: info,
				id: catalog.Identity{Aggregator: info.Identity.Aggregator, Epoch: info.Identity.Epoch, Start: info.Identity.Start}})
		}
	}
	return nil
}

// holds says whether a segment may have messages of a partition that the query
// asks for, by its list of parts. A list that came by JSON has categories of
// any bytes with replacement characters in them.
func (p *pass) holds(s *segment, part catalog.Partition) bool {
	if s.info.Reason == buffer.DeadLetter && !p.r.o.DeadLetters {
		return false
	}
	return slices.ContainsFunc(s.info.Parts, func(b buffer.Part) bool {
		return catalog.Partition(b.Partition) == part && (p.q.wants(b.Category) || strings.ContainsRune(b.Category, '\ufffd'))
	})
}

// surveyBuffers notes the partitions of the segments.
func (p *pass) surveyBuffers() {
	for _, b := range p.buffers {
		for _, s := range b.segments {
			if s.info.Problem != "" && len(s.info.Parts) == 0 {
				p.report.uncounted("%s: segment %s cannot be read: %s", b.src.Name(), s.info.Name, s.info.Problem)
			}
			for i := range s.info.Parts {
				if part := catalog.Partition(s.info.Parts[i].Partition); p.q.overlaps(part) && p.holds(s, part) {
					p.tree.add(part, "")
				}
			}
		}
	}
}

// openSegments opens the segments that have a part in a partition and reads
// them whole, to know where their records lie. One that is open stays readable
// when it is shipped and removed meanwhile; one that is gone was shipped long
// enough ago for its copies to be seen.
func (p *pass) openSegments(ctx context.Context, part catalog.Partition) error {
	for _, b := range p.buffers {
		for _, s := range b.segments {
			if !p.holds(s, part) {
				continue
			}
			f, err := b.src.Open(ctx, &s.info)
			if err == nil {
				s.file = f
				err = p.index(ctx, s, part)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				s.close()
				if !errors.Is(err, fs.ErrNotExist) {
					p.report.uncounted("%s: segment %s cannot be read: %v", b.src.Name(), s.info.Name, err)
				}
			}
		}
	}
	return nil
}

// closeSegments lets go of what openSegments opened.
func (p *pass) closeSegments() {
	for _, b := range p.buffers {
		for _, s := range b.segments {
			s.close()
		}
	}
}

func (s *segment) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
		s.file = nil
	}
	s.parts = nil
}

// index reads a segment and notes where its records of a partition lie.
func (p *pass) index(ctx context.Context, s *segment, partition catalog.Partition) error {
	type key struct {
		category string
		chain    uint32
	}
	parts := make(map[key]*segmentPart)
	report, err := s.file.Scan(func(r *buffer.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if catalog.Partition(r.Partition) != partition || !p.q.wants(r.Category) {
			return nil
		}
		k := key{r.Category, r.Chain}
		part := parts[k]
		if part == nil {
			k.category = strings.Clone(r.Category)
			part = &segmentPart{segment: s, category: k.category, chain: r.Chain, partition: partition}
			parts[k] = part
			s.parts = append(s.parts, part)
		}
		part.add(r)
		return nil
	})
	if err != nil {
		return err
	}
	for _, part := range s.parts {
		part.sort()
		p.tree.add(partition, catalog.Folder(part.category))
	}
	if report.Damaged() && !s.told {
		s.told = true
		p.report.uncounted("%s: segment %s is damaged: %s", s.src.Name(), s.info.Name, damage(&report))
	}
	return nil
}

func damage(r *buffer.Report) string {
	text := fmt.Sprintf("%d records are known to be missing, %d bytes are no records", r.MissingRecords, r.DamagedBytes)
	if len(r.Damage) > 0 {
		text += ", first " + r.Damage[0].String()
	}
	if r.Segment.Problem != "" {
		text += "; " + r.Segment.Problem
	}
	return text
}

func (s *segmentPart) add(r *buffer.Record) {
	s.messages += int64(r.Len())
	s.bytes += int64(len(r.Data))
	ref := recordRef{from: r.Offset, end: r.End(), first: r.First, last: r.Last()}
	if n := len(s.refs); n > 0 {
		if last := &s.refs[n-1]; last.end == ref.from && last.last+1 == ref.first && ref.end-last.from <= refBytes {
			last.end, last.last = ref.end, ref.last
			return
		}
	}
	s.refs = append(s.refs, ref)
}

// sort puts the records into the order of their sequences and joins ranges. A
// sequence that stands twice is read from its first record.
func (s *segmentPart) sort() {
	slices.SortStableFunc(s.refs, func(a, b recordRef) int { return cmp.Compare(a.first, b.first) })
	for _, r := range s.refs {
		s.ranges = append(s.ranges, interval{r.first, r.last})
	}
	s.ranges = join(s.ranges)
}

func (s *segmentPart) where() (place, path string) { return s.segment.src.Name(), s.segment.info.Name }

// close leaves the segment open: other chains lie in it too.
func (s *segmentPart) close() {}

func (s *segmentPart) emit(ctx context.Context, e *emitter, w winner) (next uint64, err error) {
	next = w.from
	at, _ := slices.BinarySearchFunc(s.refs, w.from, func(r recordRef, first uint64) int { return cmp.Compare(r.first, first) })
	for at > 0 && s.refs[at-1].last >= w.from { // those before, which may reach into it
		at--
	}
	for ; at < len(s.refs) && next <= w.to && err == nil; at++ {
		if r := s.refs[at]; r.last >= next {
			err = s.segment.file.At(r.from, r.end, func(r *buffer.Record) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				next, err = s.give(e, r, next, w.to)
				return err
			})
		}
	}
	if err == nil && next <= w.to {
		err = errShort
	}
	return next, err
}

// give hands out the sequences of a record from next up to last.
func (s *segmentPart) give(e *emitter, r *buffer.Record, next, last uint64) (uint64, error) {
	if r.Last() < next || r.First > last {
		return next, nil
	}
	if r.First > next {
		return next, fmt.Errorf("sequences %d to %d are not where they were", next, r.First-1)
	}
	to := min(r.Last(), last)
	s.spans = s.spans[:0]
	for _, id := range r.IDs {
		s.spans = append(s.spans, catalog.BatchSpan{
			BatchID: catalog.BatchID{Producer: catalog.Text(id.Producer), Epoch: id.Epoch, Sequence: id.Sequence},
			From:    id.From, First: id.First, Messages: id.Messages})
	}
	begin := uint32(0)
	if next > r.First {
		begin = r.Ends[next-r.First-1]
	}
	data := r.Data[begin:r.Ends[to-r.First]]
	s.feeds = catalog.LineFeeds(s.feeds[:0], r.Data, r.Ends, 0)
	if len(s.feeds) > 0 {
		s.feeds = feedsWithin(s.feeds, s.feeds, int64(begin), int64(begin)+int64(len(data)))
	}
	e.begin(winner{from: next, to: to}, s.spans)
	e.run = Run{Category: s.category, Partition: s.partition, Identity: s.segment.id, Chain: s.chain, First: next,
		Messages: int(to - next + 1), Data: data, LineFeeds: s.feeds}
	e.run.Place, e.run.Path = s.where()
	if r.Arrived != 0 {
		s.arrivals[0] = catalog.Arrival{First: r.First, Millis: r.Arrived / 1e6, Senders: r.Senders}
		e.run.arrivals = s.arrivals[:]
	}
	if err := e.give(&e.run); err != nil {
		return next, err
	}
	return to + 1, nil
}

func (s *segmentPart) item() Item {
	place, path := s.where()
	state := catalog.StateSegment
	if s.segment.info.Shipped {
		state = catalog.StateShipped
	}
	return Item{Category: s.category, Text: catalog.Text(s.category), Partition: s.partition, Place: place, Path: path, State: state,
		Aggregator: s.segment.id.Aggregator, Start: epochStart(s.segment.id), Chain: s.chain, Messages: s.messages, Bytes: s.bytes,
		Reason: s.segment.info.Reason.String()}
}

// addSegments finds the segments' parts that belong to a unit.
func (p *pass) addSegments(u *unit) {
	for _, b := range p.buffers {
		for _, s := range b.segments {
			for _, part := range s.parts {
				if catalog.Folder(part.category) == u.folder {
					u.category = part.category
					u.parts = append(u.parts, part)
				}
			}
		}
	}
}

// whyNoSegment is the line that tells of messages that an inventory says to
// lie in a segment. Empty: there is nothing to tell.
func (p *pass) whyNoSegment(ctx context.Context, item *expected) string {
	for _, b := range p.buffers {
		for _, s := range b.segments {
			if s.info.Name != item.Path {
				continue
			}
			item.here = true
			if s.info.Reason == buffer.DeadLetter && !p.r.o.DeadLetters || !s.info.Sealed && p.alive(ctx, item.id) {
				return "" // it grew since it was listed
			}
			return fmt.Sprintf("%s: segment %s has less than the inventory of %s tells of", b.src.Name(), item.Path, item.id)
		}
	}
	if p.alive(ctx, item.id) && p.begunLate(ctx, item.Path) {
		item.here = true
		return ""
	}
	where := "a host that no member file names"
	if m := p.member(ctx, item.id); m != nil {
		where = fmt.Sprintf("host %s (%s)", m.Host, m.HTTP)
	}
	return fmt.Sprintf("segment %s lies on %s, in none of the buffers that are read", item.Path, where)
}

// begunLate says whether a segment is in one of the buffers by now: it was
// begun after they were listed.
func (p *pass) begunLate(ctx context.Context, name string) bool {
	if p.late == nil {
		p.late = make(map[string]bool)
		for _, b := range p.buffers {
			list, err := b.src.Segments(ctx)
			if err != nil {
				continue // then it is not there, and that is told
			}
			for _, s := range list {
				p.late[s.Name] = true
			}
		}
	}
	return p.late[name]
}
