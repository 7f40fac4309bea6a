package buffer

import (
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
