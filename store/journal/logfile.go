package journal

import (
	"fmt"
	"sync"
	"time"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
)

// A logFile is one journal file that is being written. One goroutine writes
// what many put, in groups; another one syncs, so that a sync delays no write.
// A put is memory only. Where a write or sync fails the file takes nothing more.
type logFile struct {
	j    *Journal
	f    vfs.File
	path string
	salt uint64

	version uint32 // of its bodies

	mu       sync.Mutex // memory only
	err      error      // why nothing is taken any more
	ended    bool
	buf      []byte
	next     uint64       // number of the next record
	written  []chan error // hear when buf is written
	synced   []chan error // hear when buf is synced
	toSync   []chan error // buf is written, the syncer's turn
	size     int64
	limit    int64     // length at which the keeper begins another file
	writing  time.Time // when the write under way began
	syncing  time.Time // the same of the sync
	wake     chan struct{}
	wakeSync chan struct{}
	quit     chan struct{} // ended
}

// maxSpare is how much of a group's memory is kept for the next one.
const maxSpare = 1 << 20

func (lf *logFile) run() {
	lf.j.wg.Go(func() {
		done := make(chan struct{})
		lf.j.wg.Go(func() { lf.sync(done) })
		lf.write()
		close(done)
	})
}

// put takes records; reply, if there is one, hears once that they are in the
// operating system's hands, or why not. After an error it hears nothing.
func (lf *logFile) put(b *bodies, reply chan error) error {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	if lf.err != nil || lf.ended {
		return ErrFailed
	}
	from := 0
	for _, end := range b.ends {
		lf.buf = record.AppendRecord(lf.buf, lf.salt, lf.next, b.b[from:end])
		lf.next++
		from = end
	}
	if reply != nil {
		lf.written = append(lf.written, reply)
	}
	signal(lf.wake)
	return nil
}

// await waits until all that was put is written, and synced where sync is set.
func (lf *logFile) await(stop <-chan struct{}, sync bool) error {
	reply := make(chan error, 1)
	lf.mu.Lock()
	if lf.err != nil || lf.ended {
		lf.mu.Unlock()
		return ErrFailed
	}
	if sync {
		lf.synced = append(lf.synced, reply)
	} else {
		lf.written = append(lf.written, reply)
	}
	lf.mu.Unlock()
	signal(lf.wake)
	select {
	case err := <-reply:
		return err
	case <-stop:
		return fmt.Errorf("%w: no answer in time", ErrFailed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the writing goroutine.
func (lf *logFile) write() {
	var spare []byte
	var replies []chan error
	for {
		select {
		case <-lf.wake:
		case <-lf.quit:
		}
		lf.mu.Lock()
		if lf.err != nil || lf.ended && len(lf.buf) == 0 && len(lf.written)+len(lf.synced) == 0 {
			lf.mu.Unlock()
			return
		}
		group, waiting, syncs := lf.buf, lf.written, lf.synced
		lf.buf, lf.written, lf.synced = spare[:0], replies[:0], nil
		lf.writing = time.Now()
		lf.mu.Unlock()

		err := lf.writeGroup(group)

		lf.mu.Lock()
		lf.writing = time.Time{}
		lf.size += int64(len(group))
		full := lf.size > lf.limit
		if err == nil && lf.err == nil {
			lf.toSync = append(lf.toSync, syncs...)
			syncs = nil
		}
		toSync := len(lf.toSync) > 0
		lf.mu.Unlock()
		if err != nil {
			lf.j.fail(lf, err)
		}
		answer(waiting, err)
		answer(syncs, ErrFailed)
		if toSync {
			signal(lf.wakeSync)
		}
		if full {
			signal(lf.j.kick)
		}
		replies, spare = waiting, group
		if cap(spare) > maxSpare {
			spare = nil
		}
	}
}

func (lf *logFile) writeGroup(group []byte) error {
	if len(group) == 0 {
		return nil
	}
	if _, err := lf.f.Write(group); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	failpoint.Here("journal.written")
	return nil
}

// sync is the syncing goroutine; it closes the file when the writing one is done.
func (lf *logFile) sync(writer <-chan struct{}) {
	defer lf.f.Close()
	for {
		over := false
		select {
		case <-lf.wakeSync:
		case <-writer:
			over = true
		}
		lf.mu.Lock()
		waiting := lf.toSync
		lf.toSync = nil
		if len(waiting) > 0 {
			lf.syncing = time.Now()
		}
		lf.mu.Unlock()
		if len(waiting) > 0 {
			err := lf.f.Datasync()
			failpoint.Here("journal.synced")
			lf.mu.Lock()
			lf.syncing = time.Time{}
			lf.mu.Unlock()
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrFailed, err)
				lf.j.fail(lf, err)
			}
			answer(waiting, err)
		}
		if over {
			return
		}
	}
}

func answer(waiting []chan error, err error) {
	for _, c := range waiting {
		c <- err // has room: each waits once
	}
}

// fail makes the file take nothing more and answers everybody who waits for a
// write that has not begun.
func (lf *logFile) fail(err error) {
	lf.mu.Lock()
	if lf.err != nil {
		lf.mu.Unlock()
		return
	}
	lf.err = err
	waiting := append(append(lf.written, lf.synced...), lf.toSync...)
	lf.buf, lf.written, lf.synced, lf.toSync = nil, nil, nil, nil
	lf.mu.Unlock()
	answer(waiting, ErrFailed)
	lf.end()
}

// end lets the goroutines finish what was put, and close the file.
func (lf *logFile) end() {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	if !lf.ended {
		lf.ended = true
		close(lf.quit)
	}
}

// stalled says whether a write or sync has been under way for longer than d.
func (lf *logFile) stalled(d time.Duration) bool {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return !lf.writing.IsZero() && time.Since(lf.writing) > d ||
		!lf.syncing.IsZero() && time.Since(lf.syncing) > d
}

func (lf *logFile) full() bool {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return lf.size > lf.limit || lf.version < lf.j.version.Load()
}

// raise sets the limit to n at least: a file that begins with many entries
// must not be full at once.
func (lf *logFile) raise(n int64) {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	lf.limit = max(lf.limit, n)
}

// waiting is how many bytes are put and not yet being written.
func (lf *logFile) waiting() int {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return len(lf.buf)
}

func (lf *logFile) length() int64 {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	return lf.size
}
