// Package files writes chains of batches as files on one cluster: a file for
// each chain and partition, replaced by size, at the partition's edge, when it
// is idle and for visibility, sealed under its final name with a manifest
// beside it.
//
// A Root belongs to a cluster and does in the background what waits for the
// cluster: it opens files before they are needed, seals the ones that are
// done, publishes the acknowledged length of those that stay open. A Chain is
// the store.Place of one queue; it only appends.
//
// It leaves to others: what a cluster can do (store/cluster), what happens to a
// torn file (store/repair), which place a batch goes to (store), which
// partition a batch belongs to (package aggregator). docs/formats describes
// names, manifest and journal.
package files

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/journal"
	"twinscribe/store/layout"
)

// Why a file was sealed: Manifest.Reason.
const (
	ReasonSize      = "size"
	ReasonPartition = "partition"
	ReasonIdle      = "idle"
	ReasonVisible   = "visible"
	ReasonDrain     = "drain"
	ReasonStop      = "stop"
	ReasonFailover  = "failover"
	ReasonFiles     = "files"  // too many are open
	ReasonRotate    = "rotate" // the layout's time was over
)

// Health is what a Root asks of its cluster's health (*cluster.Health).
type Health interface {
	Usable() bool             // files may be begun
	Reachable() bool          // sealing and publishing go on
	Drained() bool            // an operator wants nothing of ours written there
	Changed() <-chan struct{} // closed at the next change
}

// A Recorder keeps the inventory (inventory.Keeper). Its methods do not wait
// and may be called by any goroutine.
type Recorder interface {
	Put(p catalog.Partition, item catalog.Item)
	Drop(p catalog.Partition, place, path string)
}

// Options of a Root. Zero numbers take the values named.
type Options struct {
	Identity  catalog.Identity // of this start
	Cluster   cluster.Cluster
	Health    Health
	Journal   *journal.Journal
	Numbers   func() uint32 // the next number of a file of this start; all Roots share it
	Inventory Recorder
	Repair    func(Torn)       // takes a torn file over; it does not wait
	Now       func() time.Time // the wall clock that names files
	Log       *zap.Logger

	VisibleWithin   time.Duration // an acknowledged message can be read within it; 60 s
	VisibilitySeals int           // files of a chain sealed for visibility in an hour at most; 0: none
	MaxOpen         int           // open files; above it the longest idle is sealed; 1000
	Openers         int           // files being opened at once; 32
	Sealers         int           // files being sealed at once; 8
	WriteTimeout    time.Duration // of one Append; calls in the background get five times as long; 2 s
}

func (o *Options) defaults() {
	o.VisibleWithin = positive(o.VisibleWithin, time.Minute)
	o.MaxOpen = positive(o.MaxOpen, 1000)
	o.Openers = positive(o.Openers, 32)
	o.Sealers = positive(o.Sealers, 8)
	o.WriteTimeout = positive(o.WriteTimeout, 2*time.Second)
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// A Torn is a file whose writer failed for ever, as it is handed to repair. It
// was aborted, and its tear is in the journal.
type Torn struct {
	Cluster  string
	OpenPath string
	Path     string
	Begin    journal.Begin
	Lines    []journal.Line // what is acknowledged, a line for each range
	L        int64          // bytes that must be in the file, no more and no less
	Manifest *catalog.Manifest
	Done     func() // repaired, or not there: the journal forgets it
}

// Stats of a Root.
type Stats struct {
	Open      int              // being written, or opened to be
	Opening   int              // being opened
	Sealing   int              // given up by their chains and not under their final names yet
	Opened    int64            // files
	Failed    int64            // openings that failed
	Sealed    map[string]int64 // files, by reason
	Discarded int64            // files in which nothing was
	Torn      int64
	Retries   int64 // steps of a seal that were tried again
	Published int64
	Bytes     int64 // acknowledged
	Messages  int64
}

// A Root holds the open files of all chains on one cluster. Its methods may be
// called by any goroutine.
type Root struct {
	o     Options
	place string
	log   *zap.Logger

	openers    queue[*opening]
	leavers    queue[*leaving]
	publishers queue[*publication]
	names      layout.Numbers

	mu       sync.Mutex // memory only
	closed   bool
	chains   map[*Chain]struct{}
	open     map[*file]struct{} // written to, or ready to be
	left     int                // given up by their chains, not done
	opening  int
	creating int           // of the opening ones, those that are really begun
	settled  chan struct{} // closed when open, left and opening are zero; nil: nobody waits
	sealed   map[string]int64

	bytes, messages, opened, failed, discarded, torn, retries, published atomic.Int64

	sayTear, sayRetry, sayLink seldom
}

// NewRoot makes a Root. It calls nothing; Run does the work.
func NewRoot(o Options) *Root {
	o.defaults()
	r := &Root{
		o: o, place: o.Cluster.Name(),
		chains: make(map[*Chain]struct{}),
		open:   make(map[*file]struct{}),
		sealed: make(map[string]int64),
	}
	r.log = o.Log.With(zap.String("cluster", r.place))
	r.openers.init()
	r.leavers.init()
	r.publishers.init()
	return r
}

// Publishers are few: one call each, and seldom.
const publishers = 4

// Run opens, seals and publishes until ctx ends. Close comes before that.
func (r *Root) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for range r.o.Openers {
		wg.Go(func() { r.openers.work(ctx, r.openOne) })
	}
	for range r.o.Sealers {
		wg.Go(func() { r.leavers.work(ctx, r.leaveOne) })
	}
	for range publishers {
		wg.Go(func() { r.publishers.work(ctx, r.publishOne) })
	}
	wg.Wait()
}

// Close seals what the chains have given up; they are closed before. What
// cannot be sealed before ctx ends, or because the cluster is away, stays as
// it is for repair at the next start, and the error tells how much that is.
func (r *Root) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	chains := maps.Clone(r.chains)
	r.mu.Unlock()
	for _, o := range r.openers.drain() {
		if o.claim() {
			r.finish(o, nil, errClosed)
		}
	}
	if len(chains) > 0 {
		r.log.Warn("closing with chains that are not closed: their files are left to repair", zap.Int("chains", len(chains)))
	}
	r.leaveAll(ctx)
	for _, l := range r.leavers.drain() {
		if l.f.w != nil {
			l.f.w.Abort()
		}
	}
	s := r.Stats()
	if n := s.Open + s.Opening + s.Sealing; n > 0 {
		return fmt.Errorf("files on %s: %d are not sealed and stay for repair", r.place, n)
	}
	return nil
}

// leaveAll works on what is given up, beside Run or without it.
func (r *Root) leaveAll(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range r.o.Sealers {
		wg.Go(func() { r.leavers.work(ctx, r.leaveOne) })
	}
	for {
		changed := r.o.Health.Changed()
		if !r.o.Health.Reachable() {
			return
		}
		select {
		case <-r.whenSettled():
			return
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// whenSettled is closed when no file is being opened, written or sealed.
func (r *Root) whenSettled() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled == nil {
		r.settled = make(chan struct{})
	}
	c := r.settled
	r.settle()
	return c
}

// settle tells who waits; r.mu is held.
func (r *Root) settle() {
	if r.settled != nil && len(r.open)+r.left+r.opening == 0 {
		close(r.settled)
		r.settled = nil
	}
}

// Idle says that no file is being opened, written or sealed. Torn ones are
// repair's.
func (r *Root) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)+r.left+r.opening == 0
}

// Open is how many files are open.
func (r *Root) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// SealAll asks every chain to give up the files it has open now, at its next
// Tick in a pause of its traffic, or within five seconds. Files begun later are
// not concerned. For a drain, after the failovers have had time to move.
func (r *Root) SealAll(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.chains {
		if q := c.asked.Load(); q == nil || q.file != nil { // asking again does not put it off
			c.asked.Store(&request{reason: reason, at: time.Now()})
		}
	}
}

// Stats is a snapshot.
func (r *Root) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{
		Open:      len(r.open),
		Opening:   r.opening,
		Sealing:   r.left,
		Opened:    r.opened.Load(),
		Failed:    r.failed.Load(),
		Sealed:    maps.Clone(r.sealed),
		Discarded: r.discarded.Load(),
		Torn:      r.torn.Load(),
		Retries:   r.retries.Load(),
		Published: r.published.Load(),
		Bytes:     r.bytes.Load(),
		Messages:  r.messages.Load(),
	}
}

var (
	errClosed  = fmt.Errorf("closed: %w", store.ErrBroken)
	errDropped = errors.New("no longer wanted")
	errTooMany = errors.New("too many files are open")
)

// timeout is how long a call in the background may take.
func (r *Root) timeout() time.Duration { return 5 * r.o.WriteTimeout }
