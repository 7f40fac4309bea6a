// Package journal is the aggregator's local log of the files it writes on
// clusters: files begun, where each batch lies, torn files. After a crash or a
// failed write it tells repair what must be in a file. It is the quick way, not
// the truth: that is what lies on the clusters.
//
// A journal that stalls or fails stops nobody: its methods answer within a
// bounded time, it is then failed and says so, and a new journal file, which
// states all living entries again, is begun in the background as soon as the
// disk allows.
//
// It leaves to others: the framing of records (buffer/record), the lock on the
// folder (store/statedir), what is done about an unfinished file (store/repair).
// docs/formats describes the records byte by byte.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

// ErrFailed marks errors of a journal that is failed at the moment, or that
// did not answer in time. What was to be noted is kept in memory and will
// stand in the next journal file.
var ErrFailed = errors.New("journal failed")

// ErrStale is the refusal to replace a line whose batch was not tried where the
// new line cannot be made durable first: if the machine died, the older line
// would be the last, and repair would take the new batch for the incomplete end
// of the older one. The batch must not be written into this file.
var ErrStale = errors.New("an older line of the same offset could not be replaced")

// Line says where a batch lies in its file.
type Line = catalog.Line

// Begin is what is known of a file when it is begun.
type Begin struct {
	Cluster   string
	Path      string // its final path, below the cluster's root
	OpenPath  string // its path while it is written
	Partition catalog.Partition
	Category  catalog.Text
	Chain     uint32
	First     uint64 // sequence that its first message is expected to have; 0: not known
	Identity  catalog.Identity
	Target    *catalog.Target // the name it takes in place of Path; nil: none
}

// version is that of the bodies that can tell of the file.
func (b *Begin) version() uint32 {
	if b.Target != nil {
		return targetVersion
	}
	return bodyVersion
}

// Options of a journal. Zero fields take the values named.
type Options struct {
	Identity    catalog.Identity // of this start
	RotateBytes int64            // size at which a new journal file is begun; 64 MiB
	LineWait    time.Duration    // longest wait of Batch; 50 ms
	StallAfter  time.Duration    // a write or sync under way for longer fails the journal; 1 s
	Now         func() time.Time
	Log         *zap.Logger
}

func (o *Options) defaults() {
	if o.RotateBytes <= 0 {
		o.RotateBytes = 64 << 20
	}
	if o.LineWait <= 0 {
		o.LineWait = 50 * time.Millisecond
	}
	if o.StallAfter <= 0 {
		o.StallAfter = time.Second
	}
}

// A FileState is a file that an earlier start left unfinished. It is carried
// over from journal file to journal file until Done.
type FileState struct {
	Begin Begin
	// Lines in order of offset, none overlapping another; those that follow one
	// another are joined, but the last stays apart, since it may say more than
	// was written. A hole between two means lines that were lost. Where records
	// were lost the last line is left out: it may not have been the last.
	Lines []Line
	Torn  *int64 // what must be in the file, where its writer failed and lived on
	entry *Entry
}

// Done says that the file is repaired, or is not there: it is forgotten.
// States that Read gave have nothing to forget.
func (s *FileState) Done() {
	if s.entry != nil {
		s.entry.Sealed()
	}
}

// Stats of a journal.
type Stats struct {
	Failed   bool  // nothing is noted on disk at the moment
	Failures int64 // how often it failed
	Missed   int64 // batch lines that were not on disk before their batch was written
	Damage   int64 // places where records of earlier starts were damaged
	Entries  int   // files that are not finished
	Bytes    int64 // of the current journal file
}

// A Journal is safe for use by many goroutines at once.
type Journal struct {
	fs  vfs.FS
	dir string
	o   Options

	current  atomic.Pointer[logFile] // nil: failed
	failures atomic.Int64
	missed   atomic.Int64
	damage   atomic.Int64
	version  atomic.Uint32 // that the next journal file needs

	mu     sync.Mutex // memory only
	live   map[*Entry]struct{}
	next   uint64 // number of the next entry
	number uint32 // of the newest journal file
	old    []oldFile

	kick   chan struct{} // the keeper has something to do
	quit   chan struct{}
	closed atomic.Bool
	wg     sync.WaitGroup // keeper, writers, syncers
}

// Open reads what earlier starts left in dir, begins a journal file of this
// start that states it again, and removes the older files. The caller holds
// the lock on dir. A file of a newer version is an error that names it.
func Open(fsys vfs.FS, dir string, o Options) (*Journal, []FileState, error) {
	o.defaults()
	if err := vfs.MkdirAllSync(fsys, dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("journal %s: %w", dir, err)
	}
	past, err := readAll(fsys, dir)
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{
		fs: fsys, dir: dir, o: o,
		live:   make(map[*Entry]struct{}),
		number: past.number,
		kick:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
	}
	j.version.Store(bodyVersion)
	j.damage.Store(int64(len(past.damage)))
	for _, d := range past.damage {
		o.Log.Error("journal is damaged: what verifies is used, files without a record are found by listing", zap.String("damage", d))
	}
	j.old = past.files
	for i := range past.states {
		s := &past.states[i]
		s.entry = j.register(s.Begin)
		j.need(s.Begin.version())
		s.entry.lines, s.entry.torn = s.Lines, s.Torn
	}
	lf, err := j.create()
	if err != nil {
		return nil, nil, err
	}
	j.current.Store(lf)
	if err := j.settle(lf); err != nil {
		j.fail(lf, err)
		j.stop()
		j.wg.Wait()
		return nil, nil, err
	}
	j.wg.Go(j.keep)
	return j, past.states, nil
}

// Read is Open for who only wants to know: it changes nothing and needs no lock.
func Read(fsys vfs.FS, dir string) ([]FileState, error) {
	past, err := readAll(fsys, dir)
	return past.states, err
}

// Stats may be called by any goroutine.
func (j *Journal) Stats() Stats {
	lf := j.current.Load()
	s := Stats{
		Failed:   lf == nil,
		Failures: j.failures.Load(),
		Missed:   j.missed.Load(),
		Damage:   j.damage.Load(),
	}
	if lf != nil {
		s.Bytes = lf.length()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Entries = len(j.live)
	return s
}

// Close ends the journal; no method of it or of its entries is called
// afterwards, but for another Close, which does nothing. Entries that are not
// sealed stay for the next start. A disk that does not answer holds it up to
// the end of ctx.
func (j *Journal) Close(ctx context.Context) error {
	if j.closed.Swap(true) {
		return nil
	}
	var err error
	if lf := j.current.Load(); lf != nil {
		err = lf.await(ctx.Done(), true)
	}
	j.stop()
	done := make(chan struct{})
	go func() { j.wg.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("journal %s: closing: %w", j.dir, ctx.Err())
	}
}

func (j *Journal) stop() {
	close(j.quit)
	if lf := j.current.Load(); lf != nil {
		lf.end()
	}
}

// need has the next journal file be of this version at least.
func (j *Journal) need(version uint32) {
	for v := j.version.Load(); v < version && !j.version.CompareAndSwap(v, version); v = j.version.Load() {
	}
}

// upgrade waits for a journal file of a version that can tell of a file.
func (j *Journal) upgrade(stop <-chan struct{}, version uint32) {
	j.need(version)
	for {
		lf := j.current.Load()
		if lf == nil || lf.version >= version {
			return
		}
		signal(j.kick)
		select {
		case <-lf.quit:
			if j.current.Load() == lf { // the journal was closed
				return
			}
		case <-stop:
			return
		}
	}
}

func (j *Journal) register(b Begin) *Entry {
	e := &Entry{j: j, begin: b, reply: make(chan error, 1)}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	e.number = j.next
	j.live[e] = struct{}{}
	return e
}

// entries are those that are not finished, oldest first.
func (j *Journal) entries() []*Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.SortedFunc(maps.Keys(j.live), func(a, b *Entry) int { return cmp.Compare(a.number, b.number) })
}
