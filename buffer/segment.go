package buffer

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
)

const (
	segmentMagic = "SCRBSEG1"
	osRead       = os.O_RDONLY
	osCreate     = os.O_RDWR | os.O_CREATE
	// Appending, so that a write goes on at the end after bytes were cut off.
	osCreateNew = os.O_WRONLY | os.O_CREATE | os.O_EXCL | os.O_APPEND
)

// segment is one file of the directory. Its fields are under the buffer's
// mutex; index belongs to the lane's goroutine as long as the file is written,
// which changes it under the mutex too.
type segment struct {
	name     segmentName
	stem     string
	identity Identity // of the writer: the header's word, or the name's
	number   uint32
	reason   Reason
	created  int64
	bytes    int64 // of the file, as far as it counts
	records  uint64
	index    index
	closed   bool // not written any more
	shipped  bool
	since    time.Time // when it was shipped, or found so
	footer   bool
	damaged  bool
	unread   bool // Run has not verified it yet
	problem  string
	kept     bool // its damaged bytes are in quarantine
	busy     bool // somebody renames or removes its file
}

func (s *segment) file() string {
	if s.shipped {
		return s.stem + extShipped
	}
	return s.stem + extSegment
}

// writer is the open file of a lane's segment.
type writer struct {
	f      vfs.File
	salt   uint64
	next   uint64 // number of the next record
	size   int64  // of what is acknowledged
	sums   uint32 // as record.Report has it
	footer []byte
}

// commit writes a group and syncs it. A segment whose write or sync fails is
// never written to again: what the disk has of it is unknown, and a second
// sync would say that all is well. The group goes to a new one, once.
func (l *lane) commit(group []*request) error {
	b := l.b
	var bytes int64
	for _, q := range group {
		bytes += int64(len(q.frame))
	}
	if err := b.checkFree(bytes); err != nil {
		return err
	}
	err := l.try(group, bytes)
	if err == nil || errors.Is(err, ErrFull) {
		return err
	}
	b.log.Error("buffer: a segment failed and is left; its last records go to a new one",
		zapReason(l.reason), zapError(err))
	if err = l.try(group, bytes); err == nil || errors.Is(err, ErrFull) {
		return err
	}
	b.mu.Lock()
	l.bad, l.badErr = time.Now().Add(badPause), err
	b.mu.Unlock()
	b.log.Error("buffer: the new segment failed too; records are refused for a moment",
		zapReason(l.reason), zapError(err), zap.Duration("pause", badPause))
	return err
}

// try writes a group to the open segment, or to a new one.
func (l *lane) try(group []*request, bytes int64) error {
	if l.w != nil && l.w.next > 1 && l.w.size+bytes > l.b.o.SegmentBytes {
		if err := l.seal(); err != nil {
			// Its records are safe, and the next start seals it.
			l.b.log.Error("buffer: a full segment could not be sealed", zapReason(l.reason), zapError(err))
		}
	}
	if l.w == nil {
		if err := l.begin(); err != nil {
			return full(fmt.Errorf("begin a segment: %w", err))
		}
	}
	return l.write(group, bytes)
}

// full marks errors of a disk, or of a quota, that has no more space.
func full(err error) error {
	for _, no := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: the disk: %w", ErrFull, err)
		}
	}
	return err
}

// checkFree keeps the reserve of the file system.
func (b *Buffer) checkFree(bytes int64) error {
	if b.o.MinFree < 0 {
		return nil
	}
	free, _, err := b.fs.Free(b.dir)
	if err != nil {
		return err
	}
	if free < uint64(b.minFree+bytes) {
		return fmt.Errorf("%w: %d bytes are free on the disk, %d are kept", ErrFull, free, b.minFree)
	}
	return nil
}

// begin makes a segment: its header and its name are durable before the first
// record is written.
func (l *lane) begin() error {
	b := l.b
	b.mu.Lock()
	b.number++
	n := segmentName{identity: b.o.Identity, number: b.number}
	b.mu.Unlock()
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return err
	}
	n.salt = binary.LittleEndian.Uint64(salt[:])
	seg := &segment{name: n, stem: n.stem(), identity: n.identity, number: n.number, reason: l.reason,
		created: b.o.Now().UnixNano(), bytes: record.FileHeaderSize}
	path := filepath.Join(b.dir, seg.file())
	f, err := b.fs.OpenFile(path, osCreateNew, filePerm)
	if err != nil {
		return err
	}
	failpoint.Here("segment.created")
	_, err = f.Write(seg.header())
	if err == nil {
		failpoint.Here("segment.headed")
		err = f.Sync()
	}
	if err == nil {
		failpoint.Here("segment.header-synced")
		err = b.fs.SyncDir(b.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), b.fs.Remove(path))
	}
	failpoint.Here("segment.begun")
	l.cur, l.w = seg, &writer{f: f, salt: n.salt, next: 1, size: record.FileHeaderSize}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.segments[seg.stem] = seg
	b.count(seg, record.FileHeaderSize)
	return nil
}

func (s *segment) header() []byte {
	return record.FileHeader{
		Magic: segmentMagic, Flags: uint32(s.reason), Salt: s.name.salt, Start: s.identity.Start,
		Number: s.number, Epoch: uint64(s.identity.Epoch), First: 1, Created: s.created, Owner: s.identity.Aggregator,
	}.Append(nil)
}

// count adds to the bytes in use; with the mutex held.
func (b *Buffer) count(seg *segment, bytes int64) {
	b.used += bytes
	if !seg.shipped {
		b.byReason[seg.reason] += bytes
	}
}

// write appends a group to the open segment.
func (l *lane) write(group []*request, bytes int64) error {
	w, b := l.w, l.b
	sums, next := w.sums, w.next
	l.parts = l.parts[:0]
	for _, q := range group {
		sum := record.PutHeader(q.frame, w.salt, next, q.frame[record.HeaderSize:][:q.body])
		sums = record.AddSum(sums, sum)
		next++
		l.parts = append(l.parts, q.frame)
	}
	_, err := w.f.Writev(l.parts)
	clear(l.parts)
	if err != nil {
		return l.undo(full(err))
	}
	failpoint.Here("segment.written")
	if b.o.Sync != SyncNone {
		if err := w.f.Datasync(); err != nil {
			l.poison(err)
			return err
		}
	}
	failpoint.Here("segment.synced")
	w.sums, w.next, w.size = sums, next, w.size+bytes
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Commits++
	if b.o.Sync != SyncNone {
		b.stats.Syncs++
	}
	for _, q := range group {
		l.cur.index.add(q.key, q.first, q.messages, q.bytes)
	}
	l.cur.records += uint64(len(group))
	l.cur.bytes = w.size
	return nil
}

// undo cuts off what a write that found no space has left. Nothing was synced
// and nothing failed to be, so the segment goes on.
func (l *lane) undo(err error) error {
	if errors.Is(err, ErrFull) && l.w.f.Truncate(l.w.size) == nil {
		return err
	}
	l.poison(err)
	return err
}

// poison leaves the segment as it is. Without a record it is removed.
func (l *lane) poison(why error) {
	b, seg, w := l.b, l.cur, l.w
	l.cur, l.w = nil, nil
	_ = w.f.Close() // what is acknowledged is synced
	var gone bool
	if w.next == 1 {
		gone = b.fs.Remove(filepath.Join(b.dir, seg.file())) == nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Poisoned++
	seg.closed = true
	seg.problem = fmt.Sprintf("left after %d records: %v", w.next-1, why)
	if gone {
		b.drop(seg)
	}
}

// drop forgets a segment whose file is gone; with the mutex held.
func (b *Buffer) drop(seg *segment) {
	b.count(seg, -seg.bytes)
	delete(b.segments, seg.stem)
}

// seal writes the footer of the open segment and closes it.
func (l *lane) seal() error {
	b, seg, w := l.b, l.cur, l.w
	if w == nil || w.next == 1 && !b.closing() {
		return nil
	}
	if w.next == 1 {
		return l.discard()
	}
	t := trailer{records: w.next - 1, first: 1, last: w.next - 1, end: w.size, sums: w.sums}
	w.footer = appendFooter(w.footer[:0], w.salt, seg.reason, seg.index.list, t)
	_, err := w.f.Write(w.footer)
	if err == nil {
		failpoint.Here("segment.footed")
		err = w.f.Sync()
	}
	if err != nil {
		l.poison(err)
		return err
	}
	failpoint.Here("segment.footer-synced")
	l.cur, l.w = nil, nil
	err = w.f.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	seg.closed, seg.footer = true, true
	seg.bytes += int64(len(w.footer))
	b.count(seg, int64(len(w.footer)))
	return err
}

// discard removes an open segment that holds nothing, at the end.
func (l *lane) discard() error {
	b, seg, w := l.b, l.cur, l.w
	l.cur, l.w = nil, nil
	err := errors.Join(w.f.Close(), b.fs.Remove(filepath.Join(b.dir, seg.file())))
	b.mu.Lock()
	defer b.mu.Unlock()
	seg.closed = true
	if err == nil {
		b.drop(seg)
	}
	return err
}

func (b *Buffer) closing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

func zapReason(r Reason) zap.Field  { return zap.Stringer("reason", r) }
func zapError(err error) zap.Field  { return zap.Error(err) }
func zapSegment(s string) zap.Field { return zap.String("segment", s) }
