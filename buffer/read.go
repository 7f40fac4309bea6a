package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
)

// Segment describes a segment.
type Segment struct {
	Name     string   // of the file as it was written; shipping does not change it
	Path     string   // of the file as it is now
	Identity Identity // of the start that wrote it
	Number   uint32   // within that start
	Reason   Reason
	Created  time.Time
	Sealed   bool // not written any more
	Shipped  bool
	Bytes    int64 // of the file
	Records  int64
	Messages int64
	Parts    []Part
	Damaged  bool   // there is, or was, something in it that is no record
	Problem  string // what is wrong, for people; empty where nothing is
}

// Damage is a run of bytes that is no record, or records that are missing.
type Damage = record.Damage

// Report is what ReadSegment found.
type Report struct {
	Segment  Segment // its figures and parts are of the records that were read
	Records  int64
	Messages int64
	Damage   []Damage
	// DamagedBytes and MissingRecords are sums over Damage.
	DamagedBytes   int64
	MissingRecords int64
	// Unreadable bytes the disk did not give; they count as damage.
	Unreadable int64

	// Tail is the number of bytes behind the last record of a segment without
	// a footer: the group being written at this moment, or what a crash cut
	// off. It is no damage.
	Tail     int64
	TailWhat string
	TailZero bool  // they are all zero: space, not data
	End      int64 // offset behind the last record
}

// Damaged says whether anything but a torn tail is wrong.
func (r *Report) Damaged() bool {
	return len(r.Damage) > 0 || r.Segment.Damaged
}

func (r *Report) add(d Damage) {
	r.Damage = append(r.Damage, d)
	r.DamagedBytes += d.To - d.From
	if d.MissingLast >= d.MissingFirst {
		r.MissingRecords += int64(d.MissingLast - d.MissingFirst + 1)
	}
}

// ReadSegment calls f for each record of a segment, in order, and says what is
// damaged. It changes nothing and may be called while the segment is written:
// then it gives what is there, acknowledged or about to be. The record and all
// it refers to are valid until f returns. It also reads shipped segments, and
// whole ones in quarantine.
//
// Errors are f's own, those of the file system, and record.ErrNewer. Damage is
// no error.
func ReadSegment(fsys vfs.FS, path string, f func(*Record) error) (Report, error) {
	v, err := openView(fsys, path)
	if err != nil {
		return Report{}, fmt.Errorf("segment %s: %w", path, err)
	}
	defer v.f.Close()
	report, err := v.scan(f)
	if err != nil {
		return report, fmt.Errorf("segment %s: %w", path, err)
	}
	return report, nil
}

// view is a segment's file open for reading, with what its header and footer say.
type view struct {
	path    string
	f       vfs.File
	holes   *holes
	size    int64
	salt    uint64
	seg     segment
	sealed  bool // there is a footer
	trailer trailer
}

// openView reads header and footer. A header that is damaged is made up from
// the name.
func openView(fsys vfs.FS, path string) (v *view, err error) {
	name, ext, ok := parseName(filepath.Base(path))
	if !ok {
		return nil, fmt.Errorf("its name is none of a segment: want <aggregator>-<epoch>.<start>-<number>.<salt>%s", extSegment)
	}
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	v = &view{path: path, f: f, holes: &holes{f: f}, salt: name.salt}
	v.seg = segment{name: name, stem: name.stem(), identity: name.identity, number: name.number,
		shipped: ext == extShipped}
	if err := v.open(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return v, nil
}

func (v *view) open() error {
	info, err := v.f.Stat()
	if err != nil {
		return err
	}
	v.size, v.holes.size = info.Size(), info.Size()
	v.seg.bytes = v.size
	if err := v.readHeader(); err != nil {
		return err
	}
	return v.readFooter()
}

func (v *view) readHeader() error {
	if v.size < record.FileHeaderSize {
		return nil // it is being made, or a crash cut that off: there was no record yet
	}
	b := make([]byte, record.FileHeaderSize)
	if _, err := v.holes.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h, owner, err := record.ParseFileHeader(b, segmentMagic)
	if errors.Is(err, record.ErrDamaged) {
		v.seg.damaged, v.seg.problem = true, err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	n := v.seg.name
	named := owner.Is(n.identity.Aggregator)
	if !named || h.Salt != n.salt || h.Epoch != uint64(n.identity.Epoch) || h.Start != n.identity.Start || h.Number != n.number {
		v.seg.damaged = true
		own, err := v.hasRecords()
		if err != nil {
			return err
		}
		if own {
			v.seg.problem = "its header is that of another segment, its records are its own: a block was written to the wrong place"
			return nil
		}
		v.seg.problem = fmt.Sprintf("it holds segment %d of start %08x, epoch %d: it was renamed", h.Number, h.Start, h.Epoch)
	}
	if !named {
		return fmt.Errorf("%s, and its writer is not %q: give the file its own name again", v.seg.problem, n.identity.Aggregator)
	}
	v.salt, v.seg.number, v.seg.created, v.seg.reason = h.Salt, h.Number, h.Created, Reason(h.Flags)
	v.seg.identity = Identity{Aggregator: n.identity.Aggregator, Epoch: uint32(h.Epoch), Start: h.Start}
	return nil
}

// hasRecords says whether there is a record with the salt of the segment's name.
func (v *view) hasRecords() (bool, error) {
	found := errors.New("found")
	o := record.ScanOptions{Salt: v.salt, From: record.FileHeaderSize, First: 1}
	_, err := record.Scan(v.holes, v.size, o, func(record.Record) error { return found })
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// maxIndex bounds what is read for an index: a segment has less.
const maxIndex = 1 << 30

func (v *view) readFooter() error {
	if v.size < record.FileHeaderSize+trailerSize {
		return nil
	}
	b := make([]byte, trailerSize)
	if _, err := v.holes.ReadAt(b, v.size-trailerSize); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	t, ok, err := parseTrailer(b, v.salt, v.size)
	if err != nil || !ok {
		return err
	}
	v.trailer, v.sealed = t, true
	v.seg.closed, v.seg.footer, v.seg.records = true, true, t.records
	if t.indexBytes > maxIndex {
		v.seg.damaged, v.seg.problem = true, errIndex.Error()
		return nil
	}
	b = make([]byte, t.indexBytes)
	if _, err := v.holes.ReadAt(b, t.end); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	x, reason, err := parseIndex(b, v.salt, t)
	if errors.Is(err, errIndex) {
		v.seg.damaged, v.seg.problem = true, err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	v.seg.index = x
	if !v.seg.reason.valid() {
		v.seg.reason = reason
	}
	return nil
}

// scan reads all records. The segment's figures are then those of what it read.
func (v *view) scan(f func(*Record) error) (Report, error) {
	var report Report
	var d decoder
	var x index
	end := v.size
	if v.sealed {
		end = v.trailer.end
	}
	o := record.ScanOptions{Salt: v.salt, From: record.FileHeaderSize, First: 1}
	found, err := record.Scan(v.holes, end, o, func(rec record.Record) error {
		if err := d.decode(rec.Body); err != nil {
			if errors.Is(err, record.ErrNewer) {
				return err
			}
			report.add(Damage{From: rec.Offset, To: rec.End(), MissingFirst: rec.Number, MissingLast: rec.Number, What: err.Error()})
			return nil
		}
		d.r.Number, d.r.Offset = rec.Number, rec.Offset
		if !v.seg.reason.valid() {
			v.seg.reason = d.reason
		}
		report.Records++
		report.Messages += int64(len(d.r.Ends))
		x.addRecord(&d.r)
		return f(&d.r)
	})
	for _, damage := range found.Damage {
		report.add(damage)
	}
	slices.SortFunc(report.Damage, func(a, b Damage) int { return int(a.From - b.From) })
	report.End, report.Unreadable = found.End, v.holes.bytes
	report.Tail, report.TailWhat, report.TailZero = found.Tail, found.TailWhat, found.TailZero
	if v.sealed && err == nil {
		v.compare(&report, found)
	}
	v.seg.index, v.seg.records = x, uint64(report.Records)
	v.seg.damaged = v.seg.damaged || len(report.Damage) > 0
	report.Segment = v.seg.describe(v.path)
	return report, err
}

// compare holds what was found in a sealed segment against its footer.
func (v *view) compare(report *Report, found record.Report) {
	t := v.trailer
	if found.Tail > 0 || found.Next <= t.last {
		report.add(Damage{From: min(found.End, t.end), To: t.end, MissingFirst: found.Next, MissingLast: t.last, What: found.TailWhat})
		report.Tail, report.TailWhat, report.TailZero = 0, "", false
	}
	if len(report.Damage) == 0 && (found.Records != t.records || found.Sums != t.sums) {
		report.add(Damage{From: record.FileHeaderSize, To: record.FileHeaderSize, MissingFirst: 1,
			What: fmt.Sprintf("its %d records are not the %d that were sealed", found.Records, t.records)})
	}
}

// describe is the segment for everybody.
func (s *segment) describe(path string) Segment {
	return Segment{
		Name: s.stem + extSegment, Path: path, Identity: s.identity, Number: s.number, Reason: s.reason,
		Created: time.Unix(0, s.created), Sealed: s.closed, Shipped: s.shipped, Bytes: s.bytes,
		Records: int64(s.records), Messages: s.index.messages, Parts: s.index.list,
		Damaged: s.damaged, Problem: s.problem,
	}
}

// List describes the segments of a directory without its lock, for the command
// line. Segments without a footer are read whole; they count as sealed only
// where they have one. A segment that cannot be read is there with its Problem.
func List(fsys vfs.FS, dir string) ([]Segment, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("buffer %s: %w", dir, err)
	}
	var list []Segment
	for _, e := range entries {
		name, ext, ok := parseName(e.Name())
		if !ok || ext == extDamaged {
			continue
		}
		path := filepath.Join(dir, e.Name())
		s, err := look(fsys, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // shipped or removed since
		}
		if err != nil {
			s = (&segment{name: name, stem: name.stem(), identity: name.identity, number: name.number,
				shipped: ext == extShipped, damaged: true, problem: err.Error()}).describe(path)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, bySegment)
	return list, nil
}

// bySegment orders segments as they were written, start by start: no clock
// has a say in it.
func bySegment(a, b Segment) int { return strings.Compare(a.Name, b.Name) }

func look(fsys vfs.FS, path string) (Segment, error) {
	v, err := openView(fsys, path)
	if err != nil {
		return Segment{}, err
	}
	defer v.f.Close()
	if v.sealed && v.seg.problem == "" {
		return v.seg.describe(path), nil
	}
	report, err := v.scan(func(*Record) error { return nil })
	return report.Segment, err
}

// holes reads a file whose disk has lost some of it, or that was cut while it
// is read: what is not there is zero, which is no record. Pages that the disk
// did not give are counted.
type holes struct {
	f     vfs.File
	size  int64 // that the file had
	pages map[int64]struct{}
	bytes int64
}

// pageSize is what is given up at a time.
const pageSize = 4096

func (h *holes) ReadAt(p []byte, at int64) (int, error) {
	n, err := h.f.ReadAt(p, at)
	switch {
	case errors.Is(err, syscall.EIO):
		return h.pieces(p, at)
	case errors.Is(err, io.EOF) && n < len(p) && at+int64(n) < h.size:
		clear(p[n:])
		return int(min(int64(len(p)), h.size-at)), err
	}
	return n, err
}

// pieces reads page by page.
func (h *holes) pieces(p []byte, at int64) (int, error) {
	for done := 0; done < len(p); {
		from := at + int64(done)
		part := p[done:min(done+pageSize-int(from%pageSize), len(p))]
		n, err := h.f.ReadAt(part, from)
		switch {
		case errors.Is(err, syscall.EIO):
			clear(part)
			h.lose(from/pageSize, int64(len(part)))
		case err != nil:
			return done + n, err
		}
		done += len(part)
	}
	return len(p), nil
}

// lose counts a page once.
func (h *holes) lose(page, bytes int64) {
	if h.pages == nil {
		h.pages = map[int64]struct{}{}
	}
	if _, ok := h.pages[page]; !ok {
		h.pages[page] = struct{}{}
		h.bytes += bytes
	}
}
