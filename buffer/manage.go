package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
)

// Segments describes all segments, as they were written. The parts of one that
// is being written are a copy.
func (b *Buffer) Segments() []Segment {
	b.mu.Lock()
	list := make([]Segment, 0, len(b.segments))
	for _, seg := range b.segments {
		s := seg.describe(filepath.Join(b.dir, seg.file()))
		if !seg.closed {
			s.Parts = copied(s.Parts)
		}
		list = append(list, s)
	}
	b.mu.Unlock()
	slices.SortFunc(list, bySegment)
	return list
}

// claim finds a segment by any of its names and keeps others from renaming or
// removing its file.
func (b *Buffer) claim(name string) (*segment, error) {
	stem := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(name), extSegment), extShipped)
	b.mu.Lock()
	defer b.mu.Unlock()
	seg := b.segments[stem]
	switch {
	case b.closed:
		return nil, ErrClosed
	case seg == nil:
		return nil, ErrMissing
	case !seg.closed || seg.busy:
		return nil, ErrWriting
	}
	seg.busy = true
	return seg, nil
}

func (b *Buffer) give(seg *segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seg.busy = false
}

// Shipped marks a segment whose messages stand in sealed files, durably. Run
// removes it Options.Keep later. It may be called again.
func (b *Buffer) Shipped(name string) error {
	seg, err := b.claim(name)
	if err != nil {
		return fmt.Errorf("buffer %s: mark %s as shipped: %w", b.dir, name, err)
	}
	defer b.give(seg)
	if err := b.ship(seg); err != nil {
		return fmt.Errorf("buffer %s: mark %s as shipped: %w", b.dir, name, err)
	}
	return nil
}

func (b *Buffer) ship(seg *segment) error {
	if !seg.shipped {
		from, to := filepath.Join(b.dir, seg.stem+extSegment), filepath.Join(b.dir, seg.stem+extShipped)
		if err := b.fs.Rename(from, to); err != nil {
			return err
		}
		failpoint.Here("ship.segment-renamed")
		b.mu.Lock()
		b.byReason[seg.reason] -= seg.bytes
		seg.shipped, seg.unread, seg.since = true, false, time.Now()
		b.mu.Unlock()
	}
	return b.fs.SyncDir(b.dir)
}

// Forget removes a segment that nobody wants, and says how many messages were
// in it, for the books. A shipped one is not lost and cannot be forgotten.
func (b *Buffer) Forget(name string) (messages int64, err error) {
	seg, err := b.claim(name)
	if err != nil {
		return 0, fmt.Errorf("buffer %s: forget %s: %w", b.dir, name, err)
	}
	defer b.give(seg)
	if seg.shipped {
		return 0, fmt.Errorf("buffer %s: forget %s: it was shipped and is removed by itself", b.dir, name)
	}
	if err := b.remove(seg); err != nil {
		return 0, fmt.Errorf("buffer %s: forget %s: %w", b.dir, name, err)
	}
	b.log.Warn("buffer: a segment was forgotten by order", zapSegment(seg.file()), zap.Int64("messages", seg.index.messages))
	return seg.index.messages, nil
}

// Remove removes a sealed segment whose records are all where they belong.
// damaged says that the caller met something in it that is no record: then, and
// where the buffer knows so itself, the file goes to quarantine as it is.
func (b *Buffer) Remove(name string, damaged bool) error {
	seg, err := b.claim(name)
	if err != nil {
		return fmt.Errorf("buffer %s: remove %s: %w", b.dir, name, err)
	}
	defer b.give(seg)
	b.mu.Lock()
	aside := (damaged || seg.damaged) && !seg.kept
	b.mu.Unlock()
	if aside {
		err = b.setAside(seg)
	} else {
		err = b.remove(seg)
	}
	if err != nil {
		return fmt.Errorf("buffer %s: remove %s: %w", b.dir, name, err)
	}
	return nil
}

// setAside moves the file of a claimed segment to quarantine, which needs no
// space on the disk.
func (b *Buffer) setAside(seg *segment) error {
	to := filepath.Join(b.dir, quarantine, seg.stem+extDamaged)
	if err := b.fs.Rename(filepath.Join(b.dir, seg.file()), to); err != nil {
		return err
	}
	failpoint.Here("replay.set-aside")
	if err := errors.Join(b.fs.SyncDir(filepath.Dir(to)), b.fs.SyncDir(b.dir)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(seg)
	b.used += seg.bytes
	b.stats.Quarantined += seg.bytes
	return nil
}

// remove deletes the file of a claimed segment.
func (b *Buffer) remove(seg *segment) error {
	err := b.fs.Remove(filepath.Join(b.dir, seg.file()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	failpoint.Here("delete.removed")
	if err := b.fs.SyncDir(b.dir); err != nil {
		return err
	}
	failpoint.Here("delete.synced")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(seg)
	return nil
}

// sweepEvery is how often Run looks for shipped segments to remove.
const sweepEvery = 15 * time.Second

// Run verifies the segments of earlier starts, one by one at
// Options.VerifyRate, and removes shipped ones when their time is over. It
// returns when ctx ends.
func (b *Buffer) Run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	next := time.NewTimer(0) // verifies, and rests by what was read
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			b.sweep()
		case <-next.C:
			if read, more := b.verifyOne(ctx); more {
				next.Reset(time.Duration(float64(read) / float64(b.o.VerifyRate) * float64(time.Second)))
			}
		}
	}
}

// sweep removes the shipped segments whose time is over. A damaged one goes
// only when its bytes are in quarantine.
func (b *Buffer) sweep() {
	b.mu.Lock()
	var due []string
	for stem, seg := range b.segments {
		if seg.shipped && !seg.busy && time.Since(seg.since) >= b.o.Keep {
			due = append(due, stem)
		}
	}
	b.mu.Unlock()
	slices.Sort(due)
	for _, stem := range due {
		seg, err := b.claim(stem)
		if err != nil {
			continue // somebody else is at it
		}
		err = b.keepDamaged(seg)
		if err == nil {
			err = b.remove(seg)
		}
		b.give(seg)
		if err != nil {
			b.log.Warn("buffer: a shipped segment could not be removed; tried again", zapSegment(seg.file()), zapError(err), zap.Duration("in", sweepEvery))
		}
	}
}

// keepDamaged copies a damaged segment to quarantine, once. Run alone calls it.
func (b *Buffer) keepDamaged(seg *segment) error {
	b.mu.Lock()
	file, due := seg.file(), seg.damaged && !seg.kept
	b.mu.Unlock()
	if !due {
		return nil
	}
	f, err := b.fs.OpenFile(filepath.Join(b.dir, file), osRead, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if err := b.keep(&holes{f: f, size: size}, file, 0, size, seg.stem+extDamaged); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	seg.kept = true
	return nil
}

// verifyOne reads one segment of an earlier start whole. It does not claim it:
// who ships or forgets it meanwhile does not notice. more is false where none
// is left.
func (b *Buffer) verifyOne(ctx context.Context) (read int64, more bool) {
	b.mu.Lock()
	var seg *segment
	for _, s := range b.segments {
		if s.unread && (seg == nil || s.stem < seg.stem) {
			seg = s
		}
	}
	if seg == nil {
		b.mu.Unlock()
		return 0, false
	}
	seg.unread = false
	file := seg.file()
	b.mu.Unlock()
	report, err := ReadSegment(b.fs, filepath.Join(b.dir, file), func(*Record) error { return ctx.Err() })
	switch {
	case ctx.Err() != nil, errors.Is(err, fs.ErrNotExist): // stopped; or it was shipped or forgotten just now
	case err != nil:
		b.log.Error("buffer: a segment could not be verified", zapSegment(file), zapError(err))
	case report.Damaged():
		b.alarm(file, &report)
		b.mu.Lock()
		seg.damaged = true
		seg.problem = fmt.Sprintf("places that are damaged: %d, records that are missing: %d", len(report.Damage), report.MissingRecords)
		b.mu.Unlock()
		if err := b.keepDamaged(seg); err != nil {
			b.log.Error("buffer: a damaged segment could not be copied to quarantine; it is not removed", zapSegment(file), zapError(err))
		}
	}
	return report.Segment.Bytes, true
}
