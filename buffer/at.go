package buffer

import (
	"errors"
	"fmt"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
)

// End is the offset behind a record that was read, and behind its padding.
func (r *Record) End() int64 { return r.Offset + record.Size(r.bodySize()) }

// A SegmentFile is a segment that is open for reading, whole (Scan) or single
// records of it (At). It stays readable when it is shipped or removed
// meanwhile. One goroutine at a time uses it.
type SegmentFile struct {
	v *view
	d decoder
}

// OpenSegment opens a segment as ReadSegment does.
func OpenSegment(fsys vfs.FS, path string) (*SegmentFile, error) {
	v, err := openView(fsys, path)
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", path, err)
	}
	return &SegmentFile{v: v}, nil
}

// Close implements io.Closer.
func (s *SegmentFile) Close() error { return s.v.f.Close() }

// Scan is ReadSegment.
func (s *SegmentFile) Scan(f func(*Record) error) (Report, error) {
	report, err := s.v.scan(f)
	if err != nil {
		return report, fmt.Errorf("segment %s: %w", s.v.path, err)
	}
	return report, nil
}

// followWindow is how much Follow holds of a segment, beside one record:
// hundreds of segments are followed at once.
const followWindow = 64 << 10

// Follow calls f for the records from the offset from on that lie before to: a
// record's offset or End that was read earlier, 0 for the first. number is that
// of the record that is due there, 0 for the first. In a sealed segment to is
// where its records end, whatever the caller says; in one that is being written
// the caller says how much is acknowledged (Segment.Bytes). All bytes before to
// are to be records: whatever else stands there is damage. The report is of
// what was read; the record is valid until f returns.
//
// Errors are as those of ReadSegment.
func (s *SegmentFile) Follow(from int64, number uint64, to int64, f func(*Record) error) (Report, error) {
	var report Report
	from, number = max(from, record.FileHeaderSize), max(number, 1)
	if s.v.sealed {
		to = s.v.trailer.end
	}
	to = min(to, s.v.size)
	o := record.ScanOptions{Salt: s.v.salt, From: from, First: number, Window: followWindow}
	found, err := record.Scan(s.v.holes, to, o, func(rec record.Record) error {
		if err := s.d.decode(rec.Body); err != nil {
			if errors.Is(err, record.ErrNewer) {
				return err
			}
			report.add(Damage{From: rec.Offset, To: rec.End(), MissingFirst: rec.Number, MissingLast: rec.Number, What: err.Error()})
			return nil
		}
		s.d.r.Number, s.d.r.Offset = rec.Number, rec.Offset
		report.Records++
		report.Messages += int64(s.d.r.Len())
		return f(&s.d.r)
	})
	for _, damage := range found.Damage {
		report.add(damage)
	}
	report.End, report.Unreadable = found.End, s.v.holes.bytes
	if err != nil {
		return report, fmt.Errorf("segment %s: %w", s.v.path, err)
	}
	switch last := s.v.trailer.last; {
	case found.Tail > 0:
		d := Damage{From: found.End, To: to, MissingFirst: found.Next, What: found.TailWhat}
		if s.v.sealed {
			d.MissingLast = last
		}
		report.add(d)
	case s.v.sealed && found.Next <= last:
		report.add(Damage{From: to, To: to, MissingFirst: found.Next, MissingLast: last, What: "records are missing"})
	}
	return report, nil
}

// At calls f for the records that lie in the bytes from, to: offsets of records
// that Scan gave. It reads those bytes at once. Their checksums are verified
// again; what is damaged by now is an error.
func (s *SegmentFile) At(from, to int64, f func(*Record) error) error {
	found, err := record.Scan(s.v.holes, to, record.ScanOptions{Salt: s.v.salt, From: from}, func(rec record.Record) error {
		if err := s.d.decode(rec.Body); err != nil {
			return err
		}
		s.d.r.Number, s.d.r.Offset = rec.Number, rec.Offset
		return f(&s.d.r)
	})
	if err == nil && (found.End != to || len(found.Damage) > 0) {
		err = fmt.Errorf("damaged since it was opened, at %d", found.End)
	}
	if err != nil {
		return fmt.Errorf("segment %s: bytes %d to %d: %w", s.v.path, from, to, err)
	}
	return nil
}
