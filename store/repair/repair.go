// Package repair makes files whose writer failed or died equal to what they
// must hold, and seals them: bytes are cut only where they were sent again
// elsewhere, or never made a whole batch.
//
// A torn file (its writer failed and lived on) holds exactly what was
// acknowledged before its batch went elsewhere: it is cut to that. An orphan
// (its process died) keeps everything but an incomplete last batch, which
// cannot have been acknowledged. What must be in a file is told by the living
// writer, the journal or the inventories; own open files that none of them
// knows are found by listing.
//
// Each step may be the last one that runs: all of them can be done again, by
// whoever comes next, and an answer that was lost is settled by looking. Only
// names that begin with an underscore are touched, and only those of this
// aggregator's own starts.
//
// It leaves to others: writing files (store/files), uploading segments
// (store/ship), whether a cluster can be used (store/cluster).
package repair

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/files"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
	"twinscribe/store/layout"
	"twinscribe/store/statedir"
)

// Reason is Manifest.Reason of a file that was repaired.
const Reason = "repair"

// Keeper is what repair needs of inventory.Keeper.
type Keeper interface {
	PutAs(id catalog.Identity, p catalog.Partition, item catalog.Item)
	DropAs(id catalog.Identity, p catalog.Partition, place, path string)
	End(id catalog.Identity)
	Unsettled(place string) []inventory.Found
	Living(id catalog.Identity) []catalog.Partition
	LastSeen(id catalog.Identity) time.Time
}

// Options of New. Zero numbers take the values named.
type Options struct {
	Identity catalog.Identity // of this start
	Starts   []statedir.Start // the earlier ones, all dead, oldest first
	Targets  []inventory.Target
	States   []journal.FileState // what the earlier ones left unfinished
	Keeper   Keeper
	Now      func() time.Time
	Log      *zap.Logger
	// Layout is that of a category's files on a cluster as they are configured
	// now, for files of which nobody else can tell; nil: names of our own. It must
	// not block.
	Layout func(cluster, category string) *layout.Layout

	Parallel    int           // files worked on at once on a cluster; 32
	Listers     int           // folders listed at once on a cluster; 8
	LookBack    time.Duration // before a start was last seen, its open files are looked for; 6 h
	CallTimeout time.Duration // of one call of a cluster; 15 s
}

func (o *Options) defaults() {
	if o.Parallel <= 0 {
		o.Parallel = 32
	}
	if o.Listers <= 0 {
		o.Listers = 8
	}
	if o.LookBack <= 0 {
		o.LookBack = 6 * time.Hour
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 15 * time.Second
	}
}

// Stats of a Repairer. The counts are of this process.
type Stats struct {
	Backlog      map[string]int  // files that await repair, by cluster
	Listed       map[string]bool // by cluster: open files of earlier starts were looked for
	Repaired     int64           // sealed
	Found        int64           // had their final names already
	Removed      int64           // nothing was in them
	Cut          int64           // files that were cut
	CutBytes     int64
	Counted      int64            // messages that only their line feeds tell
	Missing      int64            // files that lack acknowledged bytes
	MissingBytes int64            // acknowledged bytes that are not there
	Failures     map[string]int64 // tries that failed, by kind: unavailable, conflict, path
}

// A Repairer repairs files on all clusters. Its methods may be called by many
// goroutines at once.
type Repairer struct {
	o     Options
	own   map[catalog.Identity]statedir.Start // the earlier starts
	lanes map[string]*lane
	say   limiter

	mu      sync.Mutex // memory only
	stats   Stats
	strays  map[string]int // files on clusters that are not configured
	ended   bool           // the earlier starts were told to be known
	changed chan struct{}  // closed at the next change of the backlog
	report  func(Report)   // of RepairAll
	tries   int            // of RepairAll: so many tries fail before a file is given up; 0: never
}

// New takes over what the earlier starts left, as far as the journal and the
// inventories at hand tell. It calls no cluster; Run does the work.
func New(o Options) *Repairer {
	o.defaults()
	r := &Repairer{
		o:       o,
		own:     make(map[catalog.Identity]statedir.Start),
		lanes:   make(map[string]*lane),
		strays:  make(map[string]int),
		changed: make(chan struct{}),
	}
	r.stats.Failures = make(map[string]int64)
	for _, s := range o.Starts {
		r.own[s.Identity] = s
	}
	for i := range o.Targets {
		l := newLane(r, &o.Targets[i])
		r.lanes[l.name] = l
	}
	for i := range o.States {
		s := &o.States[i]
		if l := r.lane(s.Begin.Cluster); l != nil {
			l.add(jobOfState(s))
		}
	}
	for _, l := range r.lanes {
		l.adopt()
	}
	return r
}

// lane is the one of a cluster; nil, told once, for a cluster that is not
// configured any more.
func (r *Repairer) lane(name string) *lane {
	if l := r.lanes[name]; l != nil {
		return l
	}
	r.mu.Lock()
	first := r.strays[name] == 0
	r.strays[name]++
	r.mu.Unlock()
	if first {
		r.o.Log.Error("files on a cluster that is not configured cannot be repaired: configure it, drained if need be, until they are",
			zap.String("cluster", name))
	}
	return nil
}

// Torn takes over a file whose writer failed. It never waits.
func (r *Repairer) Torn(t files.Torn) {
	if l := r.lane(t.Cluster); l != nil {
		l.add(jobOfTorn(&t))
	}
}

// Run repairs until ctx ends.
func (r *Repairer) Run(ctx context.Context) {
	if len(r.lanes) == 0 {
		r.listed()
	}
	var wg sync.WaitGroup
	for _, l := range r.lanes {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
}

// Backlog is how many files await repair, by cluster.
func (r *Repairer) Backlog() map[string]int {
	r.mu.Lock()
	backlog := maps.Clone(r.strays)
	r.mu.Unlock()
	for name, l := range r.lanes {
		backlog[name] = l.len()
	}
	return backlog
}

// Stats may be called at any time.
func (r *Repairer) Stats() Stats {
	backlog := r.Backlog()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Backlog = backlog
	s.Failures = maps.Clone(s.Failures)
	s.Listed = make(map[string]bool)
	for name, l := range r.lanes {
		s.Listed[name] = l.isListed()
	}
	return s
}

// Wait returns when no file of a cluster awaits repair and own open files were
// looked for there, or with what is left when ctx ends.
func (r *Repairer) Wait(ctx context.Context, name string) error {
	l := r.lanes[name]
	if l == nil {
		return fmt.Errorf("repair: no cluster %q is configured", name)
	}
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		left, listed := l.len(), l.isListed()
		if left == 0 && listed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if left == 0 {
				return fmt.Errorf("%s: open files of earlier starts are still looked for: %w", name, ctx.Err())
			}
			return fmt.Errorf("%s: %d files await repair: %w", name, left, ctx.Err())
		}
	}
}

// notify tells those who wait that the backlog has changed.
func (r *Repairer) notify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// listed is told when the open files on a cluster are known. Once they are on
// all clusters nothing will be added to what earlier starts wrote: files that
// still wait are put into the inventories, and those end.
func (r *Repairer) listed() {
	for _, l := range r.lanes {
		if !l.isListed() {
			return
		}
	}
	r.mu.Lock()
	again := r.ended
	r.ended = true
	r.mu.Unlock()
	if again {
		return
	}
	for _, l := range r.lanes {
		l.declare()
	}
	failpoint.Here("repair.declared")
	for _, s := range r.o.Starts {
		r.o.Keeper.End(s.Identity)
	}
	failpoint.Here("repair.starts-ended")
}

// earlier says whether a start is one of ours and dead.
func (r *Repairer) earlier(id catalog.Identity) bool {
	_, ok := r.own[id]
	return ok
}

// clusters in order of name.
func (r *Repairer) clusters() []*lane {
	names := slices.Sorted(maps.Keys(r.lanes))
	list := make([]*lane, len(names))
	for i, name := range names {
		list[i] = r.lanes[name]
	}
	return list
}

var _ Keeper = (*inventory.Keeper)(nil)
var _ inventory.Health = (*cluster.Health)(nil)
