// Package inventory keeps, for one aggregator, what each of its starts wrote
// into each partition, and the member file that says that the start exists. It
// copies both to every cluster, also to one that was away.
//
// It leaves to others: what a file holds (store/files, store/repair, buffer put
// the items), and when a partition is complete (store/reader). docs/formats
// describes the files.
package inventory

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/statedir"
)

// Times. Those that readers rely on are part of the format: docs/formats.
const (
	writeEvery  = 2 * time.Second  // changes of this long go into one writing
	touchEvery  = 30 * time.Second // the member file
	twinWithin  = 90 * time.Second // a member file touched within this is alive
	localHead   = time.Second      // the local copy is written first, but not waited for longer
	callTimeout = 10 * time.Second // one call of a cluster
	maxBackoff  = 30 * time.Second

	// edgeSlack is when the last chain has moved to the next partition by.
	edgeSlack = 30 * time.Second

	// maxCatchUp bounds how many partitions are made at once after the clock
	// jumped or the process slept.
	maxCatchUp = 72 * time.Hour
)

// Health is what the Keeper asks of a cluster's health (*cluster.Health).
type Health interface {
	Reachable() bool
	Drained() bool
	Changed() <-chan struct{} // closed at the next change
}

// A Target is a cluster and whether it may be used.
type Target struct {
	Cluster cluster.Cluster
	Health  Health
	// Draining says that a drain of this cluster is not over: what is written
	// on a drained cluster otherwise not is written still. nil: never.
	Draining func() bool
}

// Usable says whether inventories may be written and files be repaired there.
func (t *Target) Usable() bool {
	return t.Health.Reachable() && (!t.Health.Drained() || t.Draining != nil && t.Draining())
}

// Options of New.
type Options struct {
	Identity catalog.Identity // of this start
	Starts   []statedir.Start // the earlier ones
	Targets  []Target
	FS       vfs.FS
	Dir      string         // of the local copies; made if need be
	Member   catalog.Member // host, program, HTTP; the rest is filled in
	Now      func() time.Time
	Log      *zap.Logger

	// Left says that no chain of this start will write into a partition any
	// more. It is asked from 30 s after the partition's end on and must not
	// block. nil: the time alone decides.
	Left func(catalog.Partition) bool

	// Retention is for how long inventories and member files of this aggregator
	// stay on the clusters; 0: for ever.
	Retention time.Duration

	// Forget is told of an earlier start of which nothing is left to do:
	// statedir.Dir.Forget. It may do I/O. nil: nobody is told.
	Forget func(catalog.Identity) error
}

// A Keeper holds the inventories of this start, and those of earlier ones that
// are not yet settled and on every cluster. Its methods may be called by many
// goroutines at once. Those that change items do no I/O: Run writes.
type Keeper struct {
	o     Options
	since time.Time

	mu       sync.Mutex
	books    map[bookID]*book
	members  map[catalog.Identity]*member
	covered  time.Time                            // partitions of this start are made up to here
	left     map[catalog.Period]catalog.Partition // of this start: those up to here may have been let go
	remove   []bookID                             // local copies that nobody needs any more
	localBad bool                                 // the last local copy could not be written
	changed  chan struct{}                        // closed when something was delivered
	stats    Stats

	flushing atomic.Int32 // calls of Flush: nobody rests after a failure

	rush  chan struct{}   // do not wait for writeEvery
	local chan struct{}   // a local copy is to be read or written
	lanes []chan struct{} // by target: a copy is to be written
}

// Stats of a Keeper.
type Stats struct {
	Inventories int // in memory
	Items       int // in them
	// Behind is, by cluster, how many inventories lack there what is ready to be
	// written, or what was said last of files on that very cluster. Under load
	// others change all the time; these are done when the cluster is.
	Behind      map[string]int
	Written     int64  // copies written on clusters
	Failed      int64  // tries that failed
	LocalFailed int64  // the same of local copies
	Refused     int64  // items that contradict themselves
	Twin        string // a living start under our id that is not ours; empty: none was seen
}

// New reads the local copies of earlier starts. It fails where one has a newer
// format; a damaged one is left out, the clusters' copies count instead.
func New(o Options) (*Keeper, error) {
	k := &Keeper{
		o:       o,
		since:   o.Now(),
		books:   make(map[bookID]*book),
		members: make(map[catalog.Identity]*member),
		left:    make(map[catalog.Period]catalog.Partition),
		changed: make(chan struct{}),
		rush:    make(chan struct{}, 1),
		local:   make(chan struct{}, 1),
	}
	for range o.Targets {
		k.lanes = append(k.lanes, make(chan struct{}, 1))
	}
	if err := k.loadLocal(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cover(k.since)
	return k, nil
}

// Put sets an item of this start. A later Put of the same file, or of the same
// category and chain of a segment, replaces it whole.
func (k *Keeper) Put(p catalog.Partition, item catalog.Item) { k.PutAs(k.o.Identity, p, item) }

// PutAs is Put for any start of this aggregator.
func (k *Keeper) PutAs(id catalog.Identity, p catalog.Partition, item catalog.Item) {
	if err := k.check(p, &item); err != nil {
		k.o.Log.Error("an item that no reader would take is left out of the inventory",
			zap.String("partition", string(p)), zap.String("place", item.Place), zap.String("path", item.Path), zap.Error(err))
		return
	}
	e := newEntry(item)
	k.mu.Lock()
	defer k.mu.Unlock()
	b := k.book(id, p)
	b.put(e)
	if b.ended && id == k.o.Identity && !k.members[id].over && item.State == catalog.StateOpen {
		b.ended = false
		k.o.Log.Warn("a file was begun in a partition that was given up: the partition is not complete after all",
			zap.String("partition", string(p)), zap.String("path", item.Path))
	}
}

// check counts items that would make an inventory unreadable.
func (k *Keeper) check(p catalog.Partition, item *catalog.Item) error {
	_, err := p.Start()
	if err == nil {
		err = item.Check()
	}
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.stats.Refused++
	}
	return err
}

// Drop takes the items of a file or segment of this start out: nothing of it
// is there any more.
func (k *Keeper) Drop(p catalog.Partition, place, path string) {
	k.DropAs(k.o.Identity, p, place, path)
}

// DropAs is Drop for any start of this aggregator.
func (k *Keeper) DropAs(id catalog.Identity, p catalog.Partition, place, path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.book(id, p).drop(place, path)
}

// End says that a start is over and all its items are known: its inventories
// end. For this start it is part of stopping; what is open then stays so.
func (k *Keeper) End(id catalog.Identity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.members[id]
	if m == nil {
		m = k.addMember(k.memberOf(id))
	}
	m.over = true
	m.touch()
	for _, b := range k.books {
		if b.id == id {
			b.end()
		}
	}
	k.wake(k.rush)
}

// Get is what is known in memory of a start's partition; false if that is
// nothing, because there is nothing or because it was settled and let go.
func (k *Keeper) Get(id catalog.Identity, p catalog.Partition) (catalog.Inventory, bool) {
	k.mu.Lock()
	b := k.books[bookID{id, p}]
	if b == nil || b.away {
		k.mu.Unlock()
		return catalog.Inventory{}, false
	}
	head, entries := b.head(), b.list()
	k.mu.Unlock()
	head.Items = make([]catalog.Item, 0, len(entries))
	for _, e := range entries {
		head.Items = append(head.Items, e.item())
		head.Version = max(head.Version, e.version)
	}
	return head, true
}

// A Found is an item of an earlier start.
type Found struct {
	Identity  catalog.Identity
	Partition catalog.Partition
	Item      catalog.Item
}

// Unsettled are the files of earlier starts at a place that no inventory says
// to be sealed: open, sealing or torn.
func (k *Keeper) Unsettled(place string) []Found {
	type ref struct {
		b *book
		e *entry
	}
	var refs []ref
	k.mu.Lock()
	for _, b := range k.books {
		if b.id == k.o.Identity {
			continue
		}
		for _, e := range b.entries {
			if e.key.place == place && e.unfinished() {
				refs = append(refs, ref{b, e})
			}
		}
	}
	k.mu.Unlock()
	found := make([]Found, 0, len(refs))
	for _, r := range refs {
		found = append(found, Found{r.b.id, r.b.partition, r.e.item()})
	}
	return found
}

// Living are the partitions that a start had not left for good, as far as its
// inventories tell: files of it may be open there.
func (k *Keeper) Living(id catalog.Identity) []catalog.Partition {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []catalog.Partition
	for _, b := range k.books {
		if b.id == id && (b.leftOpen || b.unfinished > 0) {
			list = append(list, b.partition)
		}
	}
	return list
}

// LastSeen is when an earlier start was surely still alive; the zero time where
// nothing tells.
func (k *Keeper) LastSeen(id catalog.Identity) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	var last int64
	if m := k.members[id]; m != nil {
		last = m.file.Touched
	}
	for _, b := range k.books {
		if b.id == id {
			last = max(last, b.loadedUpdated)
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(0, last)
}

// Stats may be called at any time.
func (k *Keeper) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	s.Behind = make(map[string]int)
	for _, b := range k.books {
		s.Inventories++
		s.Items += len(b.entries)
		for i := range k.o.Targets {
			if name := k.o.Targets[i].Cluster.Name(); b.behind(i, name) {
				s.Behind[name]++
			}
		}
	}
	return s
}

// Flush writes what has changed at once and waits until every cluster that can
// be used has it. Run must be running. The error says what is missing where.
func (k *Keeper) Flush(ctx context.Context) error {
	k.flushing.Add(1)
	defer k.flushing.Add(-1)
	k.mu.Lock()
	k.members[k.o.Identity].touch()
	k.mu.Unlock()
	k.wake(k.rush)
	for {
		k.mu.Lock()
		missing, changed := k.missing(), k.changed
		k.mu.Unlock()
		if missing == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("inventories are not on all clusters (%s): %w", missing, ctx.Err())
		}
	}
}

// wake leaves word for a goroutine; one word is enough.
func (k *Keeper) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
