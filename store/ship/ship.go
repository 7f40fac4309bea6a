// Package ship turns segments of the buffer into sealed files on a cluster,
// with the partition and the sequences that the messages have.
//
// Spills are shipped as soon as a cluster can take them, outages where replay
// is automatic or by hand; what has no route and dead letters by hand only.
//
// Where a message is, at each step of a segment's way:
//
//  1. The intent, which cluster the segment goes to, is synced in the state
//     folder before the first byte goes there.
//  2. Each (category, chain, partition) of the segment becomes one file, under
//     a name made of the segment's writer and number and the chain: whoever
//     ships the segment again finds the same names. It is written under a name
//     that readers skip; what a dead ship left there is removed first.
//  3. Before the first final name is made, the intent says so: from then on the
//     segment goes to this cluster and no other.
//  4. The manifest is written, the file gets its final name, the manifest is
//     read back. A final name that is there already is done, if its manifest
//     tells of all that the segment holds.
//  5. The inventories are told, the segment is marked as shipped, the intent is
//     removed. The segment's file stays ten minutes more.
//
// Until the mark the segment is there and has all of it, so that every step can
// be repeated after a kill. Where the state folder was lost, every cluster is
// asked for the names before one is chosen.
//
// It leaves to others: the segments (package buffer), who reads twice what
// stands in a segment and in its copy (nobody: store/reader).
package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/layout"
)

// A Buffer is what the Shipper needs of *buffer.Buffer.
type Buffer interface {
	Segments() []buffer.Segment
	Seal(ctx context.Context, reason buffer.Reason) error
	Shipped(name string) error
}

// A Keeper is told what became of messages: *inventory.Keeper.
type Keeper interface {
	PutAs(id catalog.Identity, p catalog.Partition, item catalog.Item)
	// Flush returns when what was put stands where it outlives this process.
	Flush(ctx context.Context) error
}

// Health is what the Shipper asks of a cluster's health (*cluster.Health).
type Health interface {
	Usable() bool    // healthy and not drained: files may be written
	Reachable() bool // it can be asked what is there
}

// A Target is a cluster that segments can be shipped to.
type Target struct {
	Cluster cluster.Cluster
	Health  Health
}

// Options of New. Zero fields take the values named.
type Options struct {
	Buffer  Buffer
	FS      vfs.FS // on which the segments lie, and Dir
	Dir     string // folder for intents, in the state folder; made if need be
	Targets []Target
	Keeper  Keeper
	// Identity is this start: no other process can have shipped its segments.
	Identity catalog.Identity
	// ReplayOutage says whether Run ships outages too; nil: no.
	ReplayOutage func() bool
	// Ripe is how old an open segment is when Run asks for its seal; 1 s.
	Ripe time.Duration
	// Every is how often Run looks for segments; 1 s.
	Every time.Duration
	// Timeout is for each call of a cluster; 30 s.
	Timeout time.Duration
	// Parallel is how many files of a segment are written at once; 4.
	Parallel int
	Now      func() time.Time
	Log      *zap.Logger
	// Layout is that of a chain's files on a cluster; nil: names of our own. It
	// must not block. A segment that is shipped again may get another answer:
	// what a file's manifest says counts.
	Layout func(cluster string, h *catalog.Head) *layout.Layout
}

// The place by which inventories know what lies in segments.
const placeBuffer = "buffer"

// maxBackoff is the longest pause before a segment that failed is tried again.
const maxBackoff = time.Minute

// flushWait is how long the inventories are waited for, for one segment, and once
// in a round. A cluster that is away does not keep a segment from being marked.
const flushWait = 10 * time.Second

var (
	// ErrWait marks a segment that cannot be shipped before a cluster is back.
	ErrWait = errors.New("no cluster can take it now")

	// ErrConflict marks a segment whose file is on a cluster with other
	// messages than the segment has. Nothing is changed; somebody has to look.
	ErrConflict = errors.New("its file is there with other content")

	// ErrDamaged marks a damaged segment: what verifies is on the cluster, and
	// the segment stays where it is.
	ErrDamaged = errors.New("the segment is damaged")
)

// A Shipper ships one segment at a time. Its methods may be called by many
// goroutines at once.
type Shipper struct {
	o    Options
	turn chan struct{} // holds one token: whoever has it ships
	late bool          // the inventories were behind in this round; of who has the turn

	names layout.Numbers

	mu      sync.Mutex
	stats   Stats
	backoff map[string]retry // of segments that failed, by name
}

// A retry says when a segment is tried again.
type retry struct {
	failed int
	at     time.Time
}

// Stats of a Shipper, since it was made.
type Stats struct {
	Waiting  int // segments that Run is to ship
	Segments int64
	Files    int64
	Messages int64
	Bytes    int64
	Failed   int64  // tries that failed
	Problem  string // of the last try, if that failed
}

// New makes a shipper. It does no I/O.
func New(o Options) *Shipper {
	if o.ReplayOutage == nil {
		o.ReplayOutage = func() bool { return false }
	}
	setDefault(&o.Ripe, time.Second)
	setDefault(&o.Every, time.Second)
	setDefault(&o.Timeout, 30*time.Second)
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	s := &Shipper{o: o, turn: make(chan struct{}, 1), backoff: make(map[string]retry)}
	s.turn <- struct{}{}
	return s
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Stats may be called at any time.
func (s *Shipper) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Run ships what is due, in order of writer and number, until ctx ends.
func (s *Shipper) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		s.round(ctx)
		timer.Reset(s.o.Every)
	}
}

// wanted says whether Run ships segments of a reason.
func (s *Shipper) wanted(r buffer.Reason) bool {
	return r == buffer.Spill || r == buffer.Outage && s.o.ReplayOutage()
}

// round ships each segment that is due once.
func (s *Shipper) round(ctx context.Context) {
	if err := s.hold(ctx); err != nil {
		return
	}
	defer s.release()
	if err := s.prepare(ctx); err != nil {
		s.failed("state folder", err)
		return
	}
	if s.usable() {
		s.sealRipe(ctx)
	}
	waiting, list := s.due()
	s.mu.Lock()
	s.stats.Waiting = waiting
	s.mu.Unlock()
	if !s.usable() {
		return
	}
	for _, seg := range list {
		err := s.one(ctx, &seg)
		if ctx.Err() != nil {
			return
		}
		s.settle(&seg, err)
		if errors.Is(err, cluster.ErrUnavailable) && !s.usable() {
			return
		}
	}
	s.tidy(ctx)
}

func (s *Shipper) hold(ctx context.Context) error {
	select {
	case <-s.turn:
		s.late = false
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Shipper) release() { s.turn <- struct{}{} }

func (s *Shipper) usable() bool {
	return slices.ContainsFunc(s.o.Targets, func(t Target) bool { return t.Health.Usable() })
}

// sealRipe ends open segments that are to be shipped.
func (s *Shipper) sealRipe(ctx context.Context) {
	asked := make(map[buffer.Reason]bool)
	for _, seg := range s.o.Buffer.Segments() {
		if seg.Sealed || seg.Records == 0 || asked[seg.Reason] || !s.wanted(seg.Reason) || s.o.Now().Sub(seg.Created) < s.o.Ripe {
			continue
		}
		asked[seg.Reason] = true
		call, cancel := context.WithTimeout(ctx, s.o.Timeout)
		if err := s.o.Buffer.Seal(call, seg.Reason); err != nil && ctx.Err() == nil {
			s.failed(seg.Name, fmt.Errorf("seal: %w", err))
		}
		cancel()
	}
}

// due says how many segments are there for Run, and lists those of them that
// are not in their pause, in order.
func (s *Shipper) due() (waiting int, list []buffer.Segment) {
	segments := s.o.Buffer.Segments()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range segments {
		if seg.Shipped || !seg.Sealed || !s.wanted(seg.Reason) {
			continue
		}
		waiting++
		if !time.Now().Before(s.backoff[seg.Name].at) {
			list = append(list, seg)
		}
	}
	slices.SortFunc(list, inOrder)
	return waiting, list
}

// inOrder is the order of writer and number.
func inOrder(a, b buffer.Segment) int {
	return cmp.Or(
		strings.Compare(a.Identity.Aggregator, b.Identity.Aggregator),
		cmp.Compare(a.Identity.Epoch, b.Identity.Epoch),
		cmp.Compare(a.Identity.Start, b.Identity.Start),
		cmp.Compare(a.Number, b.Number),
	)
}

// settle notes what became of a try.
func (s *Shipper) settle(seg *buffer.Segment, err error) {
	s.mu.Lock()
	if err == nil {
		delete(s.backoff, seg.Name)
		s.stats.Problem = ""
		s.mu.Unlock()
		return
	}
	r := s.backoff[seg.Name]
	r.failed++
	pause := min(maxBackoff, time.Second<<min(r.failed-1, 10))
	r.at = time.Now().Add(pause/2 + rand.N(pause))
	s.backoff[seg.Name] = r
	s.mu.Unlock()
	s.note(err)
	if bits.OnesCount(uint(r.failed)) == 1 { // the 1st, 2nd, 4th, 8th ... time
		s.o.Log.Warn("ship: a segment could not be shipped; it stays in the buffer and is tried again",
			zap.String("segment", seg.Name), zap.Error(err), zap.Int("tries", r.failed), zap.Duration("pause", pause))
	}
}

func (s *Shipper) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Failed++
	s.stats.Problem = err.Error()
}

// failed tells what concerns no try of a segment; at most once while it stays.
func (s *Shipper) failed(what string, err error) {
	s.mu.Lock()
	again := s.stats.Problem == err.Error()
	s.mu.Unlock()
	s.note(err)
	if !again {
		s.o.Log.Warn("ship: "+what, zap.Error(err))
	}
}

// Progress of Ship.
type Progress struct {
	Segment  string // that is being shipped, or was shipped last
	Done     int    // segments
	Total    int
	Messages int64 // in those that are done
	Bytes    int64
}

func (p Progress) String() string {
	return fmt.Sprintf("%d of %d segments, %d messages, %d bytes: %s", p.Done, p.Total, p.Messages, p.Bytes, p.Segment)
}

// Ship ships segments by order, whatever their reason, and says how many
// segments and messages of them are on a cluster now. Each is tried once; the
// error joins what went wrong. It can be called again after any end. progress
// is called before and after each segment; nil: not at all.
func (s *Shipper) Ship(ctx context.Context, list []buffer.Segment, progress func(Progress)) (segments int, messages int64, err error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := s.hold(ctx); err != nil {
		return 0, 0, err
	}
	defer s.release()
	if err := s.prepare(ctx); err != nil {
		return 0, 0, err
	}
	list = slices.Clone(list)
	slices.SortFunc(list, inOrder)
	var errs []error
	p := Progress{Total: len(list)}
	for i := range list {
		seg := &list[i]
		p.Segment = seg.Name
		progress(p)
		err := s.one(ctx, seg)
		if ctx.Err() != nil {
			return p.Done, p.Messages, errors.Join(append(errs, ctx.Err())...)
		}
		s.settle(seg, err)
		if err != nil {
			errs = append(errs, err)
			if errors.Is(err, cluster.ErrUnavailable) && !s.usable() {
				break
			}
			continue
		}
		p.Done++
		p.Messages += seg.Messages
		p.Bytes += seg.Bytes
		progress(p)
	}
	s.tidy(ctx)
	return p.Done, p.Messages, errors.Join(errs...)
}
