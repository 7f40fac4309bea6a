package journal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/record"
	"twinscribe/failpoint"
)

const (
	fileMagic     = "SCRBJNL1"
	fileSuffix    = ".jnl"
	damagedSuffix = ".damaged"

	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second

	// moveBytes is how much of entries said again is put at a time, so that the
	// lines of batches do not wait behind it.
	moveBytes = 256 << 10
)

// An oldFile waits for its removal, or to be set aside for people to look at
// because it is damaged.
type oldFile struct {
	path    string
	damaged bool
}

func fileName(number uint32, salt uint64) string {
	return fmt.Sprintf("%08x.%016x%s", number, salt, fileSuffix)
}

// keep is the keeper's goroutine: it begins another journal file when the
// current one is full or has failed.
func (j *Journal) keep() {
	tick := time.NewTicker(j.o.StallAfter / 4)
	defer tick.Stop()
	defer func() {
		if lf := j.current.Load(); lf != nil {
			lf.end() // Close may have come while it was being made
		}
	}()
	var retry time.Duration
	var next time.Time // not before
	for {
		select {
		case <-j.quit:
			return
		case <-j.kick:
		case <-tick.C:
		}
		lf := j.current.Load()
		if lf != nil && lf.stalled(j.o.StallAfter) {
			j.fail(lf, fmt.Errorf("%w: the disk has not answered for %v", ErrFailed, j.o.StallAfter))
			lf = nil
		}
		if lf != nil && !lf.full() || time.Now().Before(next) {
			continue
		}
		if err := j.renew(); err == nil {
			retry = 0
			continue
		} else if retry == 0 {
			j.o.Log.Error("journal: no new file can be begun; writing goes on without it", zap.String("folder", j.dir), zap.Error(err))
		}
		retry = min(max(2*retry, minRetry), maxRetry)
		next = time.Now().Add(retry)
	}
}

// renew begins another journal file and moves all entries to it.
func (j *Journal) renew() error {
	lf, err := j.create()
	if err != nil {
		return err
	}
	if old := j.current.Swap(lf); old != nil {
		defer old.end()
		j.retire(old)
	} else {
		j.o.Log.Info("journal: works again", zap.String("file", lf.path))
	}
	if err := j.settle(lf); err != nil {
		j.fail(lf, err)
		return err
	}
	return nil
}

// create makes a journal file and starts its goroutines.
func (j *Journal) create() (*logFile, error) {
	j.mu.Lock()
	j.number++
	number := j.number
	j.mu.Unlock()
	lf := &logFile{
		j: j, salt: rand.Uint64(), next: 1, limit: j.o.RotateBytes, version: j.version.Load(),
		wake: make(chan struct{}, 1), wakeSync: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	lf.path = filepath.Join(j.dir, fileName(number, lf.salt))
	header := record.FileHeader{
		Magic: fileMagic, Flags: lf.version, Salt: lf.salt, Start: j.o.Identity.Start, Number: number,
		Epoch: uint64(j.o.Identity.Epoch), First: 1, Created: j.o.Now().UnixNano(), Owner: j.o.Identity.Aggregator,
	}.Append(nil)
	f, err := j.fs.OpenFile(lf.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	failpoint.Here("journal.created")
	_, err = f.Write(header)
	if err == nil {
		failpoint.Here("journal.headed")
		err = f.Sync()
	}
	if err == nil {
		failpoint.Here("journal.header-synced")
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		f.Close()
		j.mu.Lock()
		j.old = append(j.old, oldFile{path: lf.path})
		j.mu.Unlock()
		return nil, fmt.Errorf("journal %s: %w", lf.path, err)
	}
	lf.f, lf.size = f, int64(len(header))
	lf.run()
	return lf, nil
}

// settle states all entries in lf, the current file, and removes the older
// files once that is synced.
func (j *Journal) settle(lf *logFile) error {
	for _, e := range j.entries() {
		e.mu.Lock()
		_, err := e.move(nil)
		e.mu.Unlock()
		if err == nil && lf.waiting() > moveBytes {
			err = lf.await(j.quit, false)
		}
		if err != nil {
			return err
		}
	}
	if err := lf.await(j.quit, true); err != nil {
		return err
	}
	failpoint.Here("journal.stated")
	lf.raise(2 * lf.length())
	j.mu.Lock()
	old := j.old
	j.old = nil
	j.mu.Unlock()
	for _, o := range old {
		if err := j.discard(o); err != nil {
			j.o.Log.Warn("journal: an old file stays", zap.Error(err))
			j.mu.Lock()
			j.old = append(j.old, o)
			j.mu.Unlock()
		}
	}
	if len(old) > 0 {
		failpoint.Here("journal.old-removed")
		if err := j.fs.SyncDir(j.dir); err != nil {
			j.o.Log.Warn("journal: removed files may come back after a power cut", zap.Error(err))
		}
	}
	return nil
}

func (j *Journal) discard(o oldFile) error {
	if o.damaged {
		return j.fs.Rename(o.path, o.path+damagedSuffix)
	}
	return ignoreMissing(j.fs.Remove(o.path))
}

// fail makes lf take nothing more; where it was the current file the journal
// is failed until the keeper has begun another.
func (j *Journal) fail(lf *logFile, cause error) {
	if j.current.CompareAndSwap(lf, nil) {
		j.failures.Add(1)
		j.retire(lf)
		j.o.Log.Error("journal failed: files go on being written, repair after a crash is slower", zap.String("file", lf.path), zap.Error(cause))
		signal(j.kick)
	}
	lf.fail(cause)
}

func (j *Journal) retire(lf *logFile) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.old = append(j.old, oldFile{path: lf.path})
}
