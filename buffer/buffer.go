// Package buffer keeps batches on the local disk: checksummed segments in one
// directory for all chains, for the time when no cluster takes them, and for
// what no cluster shall take (dead letters, categories without a route).
//
//	buffer: {path: /var/lib/twinscribe/buffer, max_bytes: 50GiB, segment: 64MiB, sync: group}
//
// It leaves to others: when a batch goes here (store), and how segments become
// files on a cluster (store/ship). docs/formats describes the layout.
//
// Where an Append has returned nil its record lies in a file that was synced,
// under a name that was synced.
package buffer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"twinscribe/buffer/vfs"
)

// Reason is why a segment was written. Reasons never share a segment.
type Reason uint8

// The reasons there are. Their numbers stand in segments.
const (
	Spill      Reason = 1 // a cluster was healthy, only the time was short
	Outage     Reason = 2 // no cluster was usable
	Unrouted   Reason = 3 // the configuration has no route for the category
	DeadLetter Reason = 4 // no store will ever take the message
)

var reasonNames = [...]string{Spill: "spill", Outage: "outage", Unrouted: "unrouted", DeadLetter: "dead-letter"}

func (r Reason) String() string {
	if r.valid() {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

func (r Reason) valid() bool { return r >= Spill && r <= DeadLetter }

// Sync is how durable a record is when Append returns.
type Sync string

// The values of Sync.
const (
	SyncGroup Sync = "group" // one fdatasync for all that came while the one before ran
	SyncEach  Sync = "each"  // one for each record
	SyncNone  Sync = "none"  // the operating system has it; a power cut loses it
)

// Identity is who writes: one start of one aggregator. Start ids are never
// used twice, and a directory is opened once in a start.
type Identity struct {
	Aggregator   string
	Epoch, Start uint32
}

func (i Identity) String() string {
	return fmt.Sprintf("%s-%08x.%08x", i.Aggregator, i.Epoch, i.Start)
}

// Options of a buffer. Zero fields take the defaults that are named.
type Options struct {
	Identity     Identity
	MaxBytes     int64            // of the directory, all files together; 50 GiB. 5 % of it are kept for seals and quarantine
	SegmentBytes int64            // at which a segment is sealed; 64 MiB
	ReasonLimit  map[Reason]int64 // of MaxBytes, for one reason; none
	Sync         Sync             // group
	GroupBytes   int64            // records that one fdatasync is for, at most, beside the first; 1 MiB
	Keep         time.Duration    // a shipped segment stays this long; 10 min
	MinFree      int64            // bytes that stay free on the file system; 5 % of it, at most 1 GiB. Negative: none
	VerifyRate   int64            // bytes a second that Run reads to verify old segments; 64 MiB
	NoLock       bool             // the caller keeps other processes out, with a lock on a folder above
	Log          *zap.Logger
	Now          func() time.Time // the wall clock
}

const (
	defaultMaxBytes     = 50 << 30
	defaultSegmentBytes = 64 << 20
	defaultGroupBytes   = 1 << 20
	defaultKeep         = 10 * time.Minute
	defaultVerifyRate   = 64 << 20
	maxDefaultMinFree   = 1 << 30

	reserveShare  = 20              // one part in so many is kept: 5 %
	badPause      = time.Second     // no write is tried so long after two segments failed
	stallPatience = 2 * time.Second // a write that takes longer has others refused at once
	lockFile      = "lock"          // in the directory
	quarantine    = "quarantine"    // folder of damaged bytes
	filePerm      = 0o600           // segments hold what clients sent
	folderPerm    = 0o700
)

var (
	// ErrFull marks the refusal of a record at a limit: the directory's, the
	// reason's, or the disk's. Not a byte of it is kept.
	ErrFull = errors.New("buffer is full")
	// ErrClosed marks calls after Close.
	ErrClosed = errors.New("buffer is closed")
	// ErrLocked marks a directory that another process writes to.
	ErrLocked = vfs.ErrLocked
	// ErrRecord marks a record that cannot be written at all: its fields
	// contradict each other, or it is too large.
	ErrRecord = errors.New("record cannot be stored")
	// ErrWriting marks a segment that is still being written (Seal it first), or
	// that somebody marks or removes at this moment.
	ErrWriting = errors.New("segment is in use")
	// ErrMissing marks a segment that is not there.
	ErrMissing = errors.New("no such segment")
)

// Buffer is an open directory. All methods may be called by many goroutines at
// once.
type Buffer struct {
	fs      vfs.FS
	dir     string
	o       Options
	log     *zap.Logger
	lock    vfs.File // nil with Options.NoLock
	unlock  sync.Once
	minFree int64
	lanes   [DeadLetter + 1]lane
	writers sync.WaitGroup // one goroutine for each lane that was used
	// requests is the buffer's own, so that a test's bubble never meets the
	// channels of another's.
	requests sync.Pool
	copies   *semaphore.Weighted // bytes of records that are made and not written

	mu       sync.Mutex
	closed   bool
	segments map[string]*segment // by name without its extension
	number   uint32              // of the last segment
	used     int64               // bytes of all files, what is queued included
	byReason [DeadLetter + 1]int64
	stats    Stats
}

// Open takes the directory's lock, makes the directory if need be, and reads
// what is there: of each segment the header and the footer, and whole only
// those that an earlier start left without one. Those are recovered and
// sealed. The bodies of the others are verified by Run.
func Open(fsys vfs.FS, dir string, o Options) (*Buffer, error) {
	b := &Buffer{fs: fsys, dir: filepath.Clean(dir), o: o, log: o.Log, segments: map[string]*segment{}, copies: semaphore.NewWeighted(copying)}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("buffer %s: %w", dir, err)
	}
	for r := range b.lanes {
		b.lanes[r] = lane{b: b, reason: Reason(r), wake: make(chan struct{}, 1)}
	}
	if err := vfs.MkdirAllSync(fsys, filepath.Join(b.dir, quarantine), folderPerm); err != nil {
		return nil, fmt.Errorf("buffer %s: %w", dir, err)
	}
	if !o.NoLock {
		lock, err := takeLock(fsys, filepath.Join(b.dir, lockFile))
		if err != nil {
			return nil, fmt.Errorf("buffer %s: %w", dir, err)
		}
		b.lock = lock
	}
	if err := b.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("buffer %s: %w", dir, err), b.giveLock())
	}
	return b, nil
}

func (b *Buffer) giveLock() error {
	if b.lock == nil {
		return nil
	}
	return b.lock.Close()
}

// check fills in the defaults.
func (b *Buffer) check() error {
	o := &b.o
	switch {
	case o.Log == nil || o.Now == nil:
		return errors.New("log and clock are needed")
	case o.Identity.Aggregator == "" || strings.ContainsAny(o.Identity.Aggregator, "/\x00"):
		return fmt.Errorf("aggregator id %q: want a name", o.Identity.Aggregator)
	}
	setDefault(&o.MaxBytes, defaultMaxBytes)
	setDefault(&o.SegmentBytes, defaultSegmentBytes)
	setDefault(&o.GroupBytes, defaultGroupBytes)
	setDefault(&o.VerifyRate, defaultVerifyRate)
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	switch o.Sync {
	case "":
		o.Sync = SyncGroup
	case SyncGroup, SyncEach, SyncNone:
	default:
		return fmt.Errorf("sync %q: want group, each or none", o.Sync)
	}
	return nil
}

func setDefault(value *int64, d int64) {
	if *value <= 0 {
		*value = d
	}
}

func takeLock(fsys vfs.FS, name string) (vfs.File, error) {
	f, err := fsys.OpenFile(name, osCreate, filePerm)
	if err != nil {
		return nil, err
	}
	if err := f.TryLock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close writes what is queued, seals the open segments and gives the lock
// back. Where the disk hangs it says so when ctx ends, and the lock stays.
func (b *Buffer) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for r := range b.lanes {
		b.lanes[r].poke()
	}
	done := make(chan struct{})
	go func() {
		b.writers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("buffer %s: close: a write hangs: %w", b.dir, ctx.Err())
	}
	var err error
	b.unlock.Do(func() { err = b.giveLock() })
	if err != nil {
		return fmt.Errorf("buffer %s: close: %w", b.dir, err)
	}
	return nil
}

// Stats are a buffer's figures, taken at one moment. Counts begin at Open.
type Stats struct {
	Bytes, MaxBytes int64 // of all files in the directory, and their limit
	Segments        int   // not shipped ones
	Open            int   // of them, being written
	Shipped         int   // shipped, not removed yet
	Damaged         int   // segments with damage in them
	ToVerify        int   // segments of earlier starts that Run has not read yet

	Records, Messages int64         // appended
	Commits, Syncs    int64         // groups written, fdatasyncs
	Refused           int64         // appends with ErrFull
	Failed            int64         // appends with another error
	Poisoned          int64         // segments left because a write or sync failed
	TornTails         int64         // segments whose end was cut at Open
	TornBytes         int64         // bytes cut so; they are in quarantine
	DamagedBytes      int64         // bytes that are no record, in front of one that is
	MissingRecords    int64         // records known to be lost
	Quarantined       int64         // bytes in quarantine
	Stalled           time.Duration // how long the oldest write under way has taken
}

// Stats gives the figures.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Bytes, s.MaxBytes = b.used, b.o.MaxBytes
	for _, seg := range b.segments {
		switch {
		case seg.shipped:
			s.Shipped++
		default:
			s.Segments++
		}
		if !seg.closed {
			s.Open++
		}
		if seg.damaged {
			s.Damaged++
		}
		if seg.unread {
			s.ToVerify++
		}
	}
	for r := range b.lanes {
		if since := b.lanes[r].since; !since.IsZero() {
			s.Stalled = max(s.Stalled, time.Since(since))
		}
	}
	return s
}
