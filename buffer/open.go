package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
)

// load reads the directory. One segment that cannot be read, or not be
// recovered, is an alarm and no reason not to start; a newer format is.
func (b *Buffer) load() error {
	if err := b.loadFree(); err != nil {
		return err
	}
	kept, err := b.fs.ReadDir(filepath.Join(b.dir, quarantine))
	if err != nil {
		return err
	}
	for _, e := range kept {
		if info, err := e.Info(); err == nil {
			b.used += info.Size()
			b.stats.Quarantined += info.Size()
		}
	}
	entries, err := b.fs.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ext, ok := parseName(e.Name())
		if !ok || ext == extDamaged {
			continue
		}
		if err := b.loadSegment(e.Name(), name, ext == extShipped); err != nil {
			return err
		}
		if name.identity == b.o.Identity {
			b.number = max(b.number, name.number)
		}
	}
	return b.fs.SyncDir(b.dir)
}

// loadFree sets what stays free on the file system.
func (b *Buffer) loadFree() error {
	b.minFree = b.o.MinFree
	if b.minFree != 0 {
		return nil
	}
	_, total, err := b.fs.Free(b.dir)
	if err != nil {
		return err
	}
	b.minFree = int64(min(total/reserveShare, maxDefaultMinFree))
	return nil
}

// loadSegment takes one segment in, and recovers it where it has no footer.
func (b *Buffer) loadSegment(base string, name segmentName, shipped bool) error {
	path := filepath.Join(b.dir, base)
	v, err := openView(b.fs, path)
	if errors.Is(err, record.ErrNewer) {
		return fmt.Errorf("%s: %w", base, err)
	}
	if err != nil {
		b.log.Error("buffer: a segment cannot be read", zapSegment(base), zapError(err))
		seg := &segment{name: name, stem: name.stem(), identity: name.identity, number: name.number,
			closed: true, shipped: shipped, since: time.Now(), damaged: true, problem: err.Error()}
		if info, err := b.fs.Stat(path); err == nil {
			seg.bytes = info.Size()
		}
		b.take(seg)
		return nil
	}
	defer v.f.Close()
	seg := &v.seg
	seg.closed, seg.since = true, time.Now()
	if shipped || v.sealed && seg.problem == "" {
		seg.unread = !shipped
		b.take(seg)
		return nil
	}
	if v.size <= record.FileHeaderSize { // its making was cut off
		failpoint.Here("recover.empty-found")
		return b.fs.Remove(path)
	}
	report, err := v.scan(func(*Record) error { return nil })
	if errors.Is(err, record.ErrNewer) {
		return fmt.Errorf("%s: %w", base, err)
	}
	if err == nil {
		b.alarm(base, &report)
		err = b.recover(v, &report)
	}
	if err != nil {
		seg.problem = fmt.Sprintf("not recovered: %v", err)
		b.log.Error("buffer: a segment of an earlier start is left as it is; its records can be read", zapSegment(base), zapError(err))
	}
	if seg.bytes > 0 {
		b.take(seg)
	}
	return nil
}

// take adds a segment to the list, when nobody else is at work yet.
func (b *Buffer) take(seg *segment) {
	b.segments[seg.stem] = seg
	b.count(seg, seg.bytes)
}

// alarm counts and logs what is damaged in a segment.
func (b *Buffer) alarm(base string, report *Report) {
	if !report.Damaged() {
		return
	}
	b.mu.Lock()
	b.stats.DamagedBytes += report.DamagedBytes
	b.stats.MissingRecords += report.MissingRecords
	b.mu.Unlock()
	first := report.Segment.Problem
	if len(report.Damage) > 0 {
		first = report.Damage[0].String()
	}
	b.log.Error("buffer: a segment is damaged; all other records of it are kept",
		zapSegment(base), zap.Int("places", len(report.Damage)), zap.Int64("damaged_bytes", report.DamagedBytes),
		zap.Int64("missing_records", report.MissingRecords), zap.Int64("unreadable_bytes", report.Unreadable), zap.String("first", first))
}

// recover makes a segment that its writer did not seal a sealed one. What is
// cut off, or damaged, is copied to quarantine before anything is changed.
// Where an earlier step fails the later ones are not done.
func (b *Buffer) recover(v *view, report *Report) error {
	base, seg := filepath.Base(v.path), &v.seg
	if report.Damaged() {
		if err := b.keep(v.holes, base, 0, v.size, seg.stem+extDamaged); err != nil {
			return err
		}
		seg.kept = true
	}
	if v.sealed {
		return nil // only its index or header is damaged: the list is from its records
	}
	if report.Tail > 0 {
		if err := b.keepTail(v, report); err != nil {
			return err
		}
	}
	if report.Records == 0 && len(report.Damage) == 0 {
		failpoint.Here("recover.nothing-found")
		seg.bytes = 0 // nothing in it was ever acknowledged
		return b.fs.Remove(v.path)
	}
	return b.finish(v, report)
}

// keepTail copies what follows the last record to quarantine, and counts it. Zeros are counted too:
// a power cut leaves them where a write was under way, but so does a block that rots.
func (b *Buffer) keepTail(v *view, report *Report) error {
	base := filepath.Base(v.path)
	if !report.TailZero {
		name := fmt.Sprintf("%s.tail-%d", v.seg.stem, report.End)
		if err := b.keep(v.holes, base, report.End, v.size-report.End, name); err != nil {
			return err
		}
	}
	b.stats.TornTails++
	b.stats.TornBytes += report.Tail
	b.log.Warn("buffer: the end of a segment was cut off; what stood there is in quarantine, unless all of it was zero",
		zapSegment(base), zap.Int64("bytes", report.Tail), zap.Bool("zero", report.TailZero), zap.String("what", report.TailWhat))
	return nil
}

// finish cuts a segment behind its last record and writes its footer.
func (b *Buffer) finish(v *view, report *Report) error {
	f, err := b.fs.OpenFile(v.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	seg := &v.seg
	found, err := record.Scan(v.holes, v.size, record.ScanOptions{Salt: v.salt, From: record.FileHeaderSize, First: 1},
		func(record.Record) error { return nil })
	if err == nil && v.size != report.End {
		// Also where the file ends inside the last padding: then this adds it.
		err = f.Truncate(report.End)
		if err == nil {
			failpoint.Here("recover.cut")
			err = f.Sync()
		}
	}
	if err == nil {
		failpoint.Here("recover.cut-synced")
		footer := appendFooter(nil, v.salt, seg.reason, seg.index.list, trailer{
			records: found.Records, first: found.First, last: found.Next - 1, end: found.End, sums: found.Sums,
		})
		seg.bytes = report.End + int64(len(footer))
		_, err = f.WriteAt(footer, report.End)
	}
	if err == nil {
		failpoint.Here("recover.footed")
		err = f.Sync()
	}
	failpoint.Here("recover.footer-synced")
	if e := f.Close(); err == nil {
		err = e
	}
	seg.footer = err == nil
	return err
}

// keep copies a part of a segment to quarantine, durably. The name stands only for a whole copy: a
// power cut leaves the length of a file without its bytes, and a start that was cut off leaves other
// bytes behind the same record. So a copy that says something else stays, and this one gets the next
// name. It fails where the limit leaves no room.
func (b *Buffer) keep(r io.ReaderAt, base string, from, size int64, name string) error {
	dir := filepath.Join(b.dir, quarantine)
	path := filepath.Join(dir, name)
	for n := 2; ; n++ {
		there, same, err := holds(b.fs, path, io.NewSectionReader(r, from, size))
		switch {
		case err != nil:
			return fmt.Errorf("look at the copy in quarantine: %w", err)
		case same:
			return b.fs.SyncDir(dir) // the start that made it may not have come so far
		case !there:
			return b.copyTo(path, base, io.NewSectionReader(r, from, size))
		}
		path = filepath.Join(dir, fmt.Sprintf("%s-%d", name, n))
	}
}

func (b *Buffer) copyTo(path, base string, from *io.SectionReader) error {
	size := from.Size()
	b.mu.Lock()
	used := b.used
	b.mu.Unlock()
	if used+size > b.o.MaxBytes {
		return fmt.Errorf("%w: no room for %d bytes of %s in quarantine: ship or forget segments", ErrFull, size, base)
	}
	err := copyDurably(b.fs, path+extCopying, from)
	if err == nil {
		failpoint.Here("quarantine.copied")
		err = b.fs.Rename(path+extCopying, path)
	}
	if err == nil {
		err = b.fs.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = b.fs.Remove(path + extCopying) // on a full disk it is in the way
		return fmt.Errorf("copy to quarantine: %w", err)
	}
	failpoint.Here("quarantine.named")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += size
	b.stats.Quarantined += size
	return nil
}

// holds says whether a file is there, and whether it holds what want gives.
func holds(fsys vfs.FS, path string, want io.Reader) (there, same bool, err error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	same, err = equal(f, want)
	return true, same, err
}

func equal(a, b io.Reader) (bool, error) {
	const piece = 64 << 10
	pa, pb := make([]byte, piece), make([]byte, piece)
	for {
		na, ea := io.ReadFull(a, pa)
		nb, eb := io.ReadFull(b, pb)
		for _, e := range []error{ea, eb} {
			if e != nil && !errors.Is(e, io.EOF) && !errors.Is(e, io.ErrUnexpectedEOF) {
				return false, e
			}
		}
		if !bytes.Equal(pa[:na], pb[:nb]) {
			return false, nil
		}
		if na < piece {
			return true, nil
		}
	}
}

func copyDurably(fsys vfs.FS, path string, r io.Reader) error {
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return err
	}
	failpoint.Here("quarantine.created")
	_, err = io.Copy(struct{ io.Writer }{f}, r)
	if err == nil {
		failpoint.Here("quarantine.written")
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
