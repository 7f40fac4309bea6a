package scribefile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
)

// A writer writes to the files of one folder and base name, for one chain or
// several. Whoever puts an element into turn may use what stands below it,
// disk included, until taking it out again: waiting for it can end with a
// context, as waiting for a mutex cannot.
type writer struct {
	files        *Files
	folder, base string
	places       int          // that are not closed; files.mu guards it
	used         atomic.Int64 // wall clock of the last Append, nanoseconds

	turn   chan struct{}
	cur    *current  // nil: the next Append opens one
	next   bool      // the file before was left: the next Append begins a new one
	rooted bool      // the folder and those above it are known to be durable
	again  time.Time // a rotation failed: not tried before
}

// current is the file that is written to.
type current struct {
	path  string
	f     vfs.File    // nil: closed for its descriptor's sake; see park
	info  fs.FileInfo // which file it is
	size  int64
	count int64     // messages since it was opened: for the stats line
	begun time.Time // when it was opened, in the location of the names
	since int64     // Files.reopens when it was opened
	named bool      // its name is durable, and so are the folders above it
}

func (w *writer) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) tryTake() bool {
	select {
	case w.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (w *writer) give() { <-w.turn }

// ready makes sure that a file is open, and that it is the one which stands
// under its name: lines that go to a removed file are seen by nobody.
func (w *writer) ready(spec *Spec, now time.Time) error {
	w.look()
	if spec.RotateOnReopen && w.cur != nil && w.cur.since != w.files.reopens.Load() {
		w.drop()
	}
	if w.cur != nil && w.cur.f == nil {
		if err := w.reopen(); err != nil {
			return err
		}
	}
	if w.cur == nil {
		return w.open(spec, now)
	}
	if spec.Sync && !w.cur.named { // a chain that needs no sync has begun it
		if err := w.makeNamed(); err != nil {
			return w.openFailed(w.cur.path, err)
		}
	}
	return nil
}

// makeNamed makes the name of the current file durable.
func (w *writer) makeNamed() error {
	if err := w.makeFolder(true); err != nil {
		return err
	}
	if err := w.files.o.FS.SyncDir(w.folder); err != nil {
		return err
	}
	w.cur.named = true
	return nil
}

// look forgets the current file where it was removed, moved away, or another
// one stands under its name.
func (w *writer) look() {
	c := w.cur
	if c == nil {
		return
	}
	info, err := w.files.o.FS.Stat(c.path)
	switch {
	case err == nil && w.files.o.FS.SameFile(info, c.info):
		c.size = info.Size() // also where somebody emptied it
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		w.files.lost.Add(1)
		w.files.log.Warn("a file was removed or replaced while it was written to; the next message opens it anew",
			zap.String("file", c.path))
		w.drop()
		w.rooted = false
	default: // nothing is known against the open file
	}
}

// park gives the descriptor back. The file stays the current one.
func (w *writer) park() {
	if w.cur == nil || w.cur.f == nil {
		return
	}
	w.files.closed(w.cur.close())
	w.files.letGo(w)
}

// close closes the file. An error that comes only now, as on network file
// systems, is about lines that were answered before.
func (c *current) close() error {
	f := c.f
	if f == nil {
		return nil
	}
	c.f = nil
	if err := f.Close(); err != nil {
		return explain(statusWrite, c.path, err)
	}
	return nil
}

// closed tells of a close that failed where nobody can be given the error.
func (s *Files) closed(err error) {
	if err != nil {
		s.writeErrors.Add(1)
		s.log.Error("a file could not be closed cleanly: its last lines may be missing", zap.Error(err))
	}
}

// drop makes the next Append open a file.
func (w *writer) drop() {
	w.park()
	w.cur = nil
}

// abandon leaves the current file as it is, for ever.
func (w *writer) abandon() {
	w.drop()
	w.next = true
}

// reopen goes on with a parked file. Where it is gone, or another process
// writes to it, it is forgotten.
func (w *writer) reopen() error {
	s, c := w.files, w.cur
	if err := s.hold(w); err != nil {
		return w.openFailed(c.path, err)
	}
	f, err := s.o.FS.OpenFile(c.path, os.O_RDWR|os.O_APPEND, 0)
	if err == nil {
		var info fs.FileInfo
		if info, err = locked(f); err == nil && !s.o.FS.SameFile(info, c.info) {
			err = fs.ErrNotExist
		}
		if err == nil {
			c.f, c.size = f, info.Size()
			return nil
		}
		f.Close()
	}
	s.letGo(w)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrLocked) {
		w.cur = nil
		return nil
	}
	return w.openFailed(c.path, err)
}

func (w *writer) openFailed(path string, err error) error {
	w.files.openErrors.Add(1)
	return explain(statusOpen, path, err)
}

// locked takes the lock that keeps two processes from cutting each other's
// lines off, and tells what the file is.
func locked(f vfs.File) (fs.FileInfo, error) {
	if err := f.TryLock(); err != nil && !noLocks(err) {
		return nil, err
	}
	return f.Stat()
}

// tick does what is due without a message.
func (w *writer) tick(spec *Spec, now time.Time) error {
	if w.look(); w.cur == nil {
		return nil
	}
	if err := w.rotateIfDue(spec, now); err != nil {
		return err
	}
	if now.UnixNano()-w.used.Load() >= int64(w.files.o.Idle) {
		w.park()
	}
	return nil
}

// rest gives up the file where nobody wrote to it since the moment.
func (w *writer) rest(since int64) {
	if w.used.Load() <= since {
		w.drop()
	}
}

// local is a moment on the clock of the names.
func (w *writer) local(now time.Time) time.Time { return now.In(w.files.o.Location) }

func (w *writer) path(stem string, number int64) string {
	return filepath.Join(w.folder, numbered(stem, number))
}
