package journal

import (
	"context"
	"fmt"
	"sync"
	"time"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// An Entry is one file in the journal. Batch, Torn and Sealed are called by the
// one goroutine that owns the file.
type Entry struct {
	j      *Journal
	number uint64
	begin  Begin
	held   *catalog.Builder // what is acknowledged of a file of this start
	lines  []Line           // the same of an earlier start's file

	mu   sync.Mutex // memory only; taken before any lock of a logFile
	home *logFile   // where the entry is stated; nil: nowhere
	last bodies     // the newest line, encoded
	end  int64      // where it ends: behind what held has, where it is not acknowledged
	torn *int64
	done bool

	reply chan error // of Batch
	timer *time.Timer
}

// Begin notes that a file was begun. It is synced when the error is nil. With
// an error the entry is there nevertheless, and will stand in the next journal
// file. held is what the journal states the entry from again: its owner adds a
// line to it when the line's batch is acknowledged and before the next Batch.
func (j *Journal) Begin(ctx context.Context, b Begin, held *catalog.Builder) (*Entry, error) {
	j.upgrade(ctx.Done(), b.version())
	e := j.register(b)
	e.mu.Lock()
	e.held = held
	lf, err := e.move(nil)
	e.mu.Unlock()
	failpoint.Here("begin.put")
	if err == nil {
		err = lf.await(ctx.Done(), true)
	}
	if err != nil {
		return e, fmt.Errorf("begin %s: %w", b.OpenPath, err)
	}
	return e, nil
}

// Batch notes where a batch will lie, before it is written. A nil error says
// that the operating system has the line; it survives the process, not the
// machine. With an error the batch may be written all the same, unless the
// error is ErrStale.
//
// A batch that was not tried is followed by a line of the same offset, which
// replaces its own. That line is synced, because it must not be lost alone.
func (e *Entry) Batch(l *Line) error {
	e.mu.Lock()
	replaces := l.Offset < e.end
	e.last.reset()
	encodeLine(&e.last, e.number, l)
	e.end = l.End
	reply := e.reply
	if replaces {
		reply = nil
	}
	lf, err := e.note(&e.last, reply)
	e.mu.Unlock()
	switch {
	case err != nil:
	case replaces:
		err = e.waitSynced(lf)
	default:
		err = e.wait(lf)
	}
	if err == nil {
		return nil
	}
	e.j.missed.Add(1)
	if replaces {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return err
}

// note puts what is new of the entry into the current journal file, together
// with everything else where the entry is not stated there.
func (e *Entry) note(b *bodies, reply chan error) (*logFile, error) {
	lf := e.j.current.Load()
	switch {
	case lf == nil:
		return nil, ErrFailed
	case e.home != lf:
		return e.move(reply)
	}
	return lf, lf.put(b, reply)
}

// move states the entry in the current journal file, where it is not.
func (e *Entry) move(reply chan error) (*logFile, error) {
	lf := e.j.current.Load()
	if lf == nil {
		return nil, ErrFailed
	}
	if e.home == lf || e.done {
		return lf, nil
	}
	if lf.version < e.begin.version() {
		return nil, ErrFailed // the next journal file is being begun
	}
	var b bodies
	e.state(&b)
	if err := lf.put(&b, reply); err != nil {
		return nil, err
	}
	e.home = lf
	return lf, nil
}

// state encodes all that is known of the entry. Said again, it counts only
// when it is complete: a crash may cut it, and the file that has the older
// statement is removed only after this one is synced.
func (e *Entry) state(b *bodies) {
	lines := e.lines
	if e.held != nil {
		lines = e.held.Lines()
	}
	again := e.home != nil || e.held == nil
	encodeBegin(b, e.number, &e.begin, again)
	end := int64(0)
	for i := range lines {
		encodeLine(b, e.number, &lines[i])
		end = lines[i].End
	}
	if e.end > end {
		b.add(&e.last)
	}
	if e.torn != nil {
		encodeTorn(b, e.number, *e.torn)
	}
	if again {
		encodeMark(b, kindStated, e.number)
	}
}

// wait waits until the line is written, not longer than LineWait.
func (e *Entry) wait(lf *logFile) error {
	if e.timer == nil {
		e.timer = time.NewTimer(e.j.o.LineWait)
	} else {
		e.timer.Reset(e.j.o.LineWait)
	}
	select {
	case err := <-e.reply:
		e.timer.Stop()
		return err
	case <-e.timer.C:
		e.j.fail(lf, fmt.Errorf("%w: a line was not written within %v", ErrFailed, e.j.o.LineWait))
		e.reply = make(chan error, 1) // the old one may still be answered
		return ErrFailed
	}
}

// syncWait is how many times LineWait a sync may take.
const syncWait = 4

// waitSynced is wait, up to the sync.
func (e *Entry) waitSynced(lf *logFile) error {
	stop := make(chan struct{})
	timer := time.AfterFunc(syncWait*e.j.o.LineWait, func() { close(stop) })
	defer timer.Stop()
	return lf.await(stop, true)
}

// Torn notes that the writer failed and that the file must hold its first
// length bytes, no more and no less. It is synced when the error is nil.
func (e *Entry) Torn(ctx context.Context, length int64) error {
	e.mu.Lock()
	e.torn = &length
	var b bodies
	encodeTorn(&b, e.number, length)
	lf, err := e.note(&b, nil)
	e.mu.Unlock()
	failpoint.Here("tear.put")
	if err == nil {
		err = lf.await(ctx.Done(), true)
	}
	if err != nil {
		return fmt.Errorf("torn %s: %w", e.begin.OpenPath, err)
	}
	return nil
}

// Sealed says that the file is under its final name, or gone: the entry ends.
// It is not synced: whoever finds the entry again finds the final name too.
func (e *Entry) Sealed() {
	e.mu.Lock()
	if e.home != nil && !e.done {
		var b bodies
		encodeMark(&b, kindSealed, e.number)
		_ = e.home.put(&b, nil) // a failed file is forgotten with all it held
	}
	e.done = true
	e.held, e.lines, e.last = nil, nil, bodies{}
	e.mu.Unlock()
	e.j.mu.Lock()
	delete(e.j.live, e)
	e.j.mu.Unlock()
}
