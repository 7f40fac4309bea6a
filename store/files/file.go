package files

import (
	"cmp"
	"context"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/journal"
)

// A file is one open file. It belongs to the opener that makes it, then to its
// chain's goroutine, then to the leaver that ends it; handing it on passes it
// whole. Only what stands behind mu is for anybody.
type file struct {
	chain    *Chain
	begin    journal.Begin
	name     catalog.Name
	manifest string // the path of its manifest
	w        cluster.File
	entry    *journal.Entry
	held     *catalog.Builder // what is acknowledged
	moves    time.Time        // when its chain moves to the next partition

	size        int64 // acknowledged bytes
	begun       time.Time
	wall        time.Time // the same by the wall clock that names files
	last        time.Time // the last Append, or begun
	unpublished time.Time // when the oldest message that is not visible was acknowledged; zero: none

	used atomic.Int64 // last, for who looks for idle files; 0 while it is not its chain's current one

	mu     sync.Mutex // memory only
	left   bool       // given up by its chain
	pub    pubState
	pubEnd chan struct{} // closed when the publication under way ends
	since  time.Time     // what unpublished was when it was asked for
}

// record puts the file into the inventory, with the manifest where it has none
// of its own on the cluster.
func (f *file) record(state string, m *catalog.Manifest) {
	item := catalog.Item{
		Category: m.Category,
		Chain:    m.Chain,
		Place:    f.begin.Cluster,
		Path:     f.begin.Path,
		State:    state,
		Bytes:    m.Bytes,
		Messages: m.Messages,
		Ranges:   m.Ranges,
	}
	item.At = m.At
	if state != catalog.StateSealed {
		item.At, item.Manifest = "", m
	}
	f.chain.root.o.Inventory.Put(f.begin.Partition, item)
}

// An opening is a file that is being made, or is made and waits for its use.
type opening struct {
	chain     *Chain
	partition catalog.Partition
	first     uint64 // sequence expected next; 0: not known
	blockSize int64
	done      chan struct{}

	mu      sync.Mutex // memory only
	claimed bool       // an opener has it
	dropped bool
	file    *file // when done, unless err or dropped
	err     error

	wanted  time.Time // last asked for; the chain's
	entered bool      // it counts as being created; the opener's
}

func (o *opening) ready() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// claim says that the caller is the one who makes the file: an opening is put
// a second time to be sooner.
func (o *opening) claim() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	mine := !o.claimed
	o.claimed = true
	return mine
}

// start asks for a file. The chain that waits for it says so by hurry.
func (r *Root) start(c *Chain, p catalog.Partition, hurry bool) *opening {
	o := &opening{
		chain: c, partition: p, first: c.sequence, blockSize: c.blockSize(),
		done: make(chan struct{}), wanted: time.Now(),
	}
	r.mu.Lock()
	closed := r.closed
	r.opening++
	r.mu.Unlock()
	switch {
	case closed:
		r.finish(o, nil, errClosed)
	case hurry:
		r.openers.hurry(o)
	default:
		r.openers.put(o)
	}
	return o
}

// openOne is an opener's work.
func (r *Root) openOne(ctx context.Context, o *opening) {
	if !o.claim() {
		return
	}
	o.mu.Lock()
	dropped := o.dropped
	o.mu.Unlock()
	if dropped {
		r.finish(o, nil, errDropped)
		return
	}
	f, err := r.create(ctx, o)
	if err != nil {
		r.failed.Add(1)
	}
	r.finish(o, f, err)
}

// create makes a file, its first block and its journal entry.
func (r *Root) create(ctx context.Context, o *opening) (*file, error) {
	if !r.enter(o) {
		return nil, errTooMany
	}
	c := o.chain
	name := catalog.Name{Time: r.o.Now(), Identity: r.o.Identity, Number: r.o.Numbers()}
	folder := path.Join(catalog.Folder(c.spec.Category), string(o.partition))
	var target *catalog.Target
	if l := c.spec.Layout; l != nil {
		target = l.Target(name, o.partition)
	}
	f := &file{
		chain: c, name: name, manifest: path.Join(folder, name.Manifest()),
		begin: journal.Begin{
			Cluster: r.place, Path: path.Join(folder, name.Sealed()), OpenPath: path.Join(folder, name.Open()),
			Partition: o.partition, Category: catalog.Text(c.spec.Category), Chain: c.spec.Chain,
			First: o.first, Identity: r.o.Identity, Target: target,
		},
		held: catalog.NewBuilder(catalog.Head{
			File: name.Sealed(), Identity: r.o.Identity, Chain: c.spec.Chain,
			Category: catalog.Text(c.spec.Category), Partition: o.partition, Target: target,
		}),
	}
	end, err := o.partition.End()
	if err != nil {
		return nil, err
	}
	f.moves = end.Add(catalog.EdgeDelay(c.spec.Chain))
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	failpoint.Here("begin.named")
	f.w, err = r.o.Cluster.Create(ctx, f.begin.OpenPath, cluster.FileOptions{BlockSize: o.blockSize, Begin: true})
	if err != nil {
		r.forget(f, err)
		return nil, err
	}
	f.begun, f.wall = time.Now(), name.Time
	f.last = f.begun
	failpoint.Here("begin.created")
	// A journal that fails is its own alarm; the file is no worse for it.
	jctx, jcancel := context.WithTimeout(ctx, r.o.WriteTimeout/4)
	defer jcancel()
	f.entry, _ = r.o.Journal.Begin(jctx, f.begin, f.held)
	failpoint.Here("begin.noted")
	f.record(catalog.StateOpen, f.held.Snapshot())
	failpoint.Here("begin.recorded")
	return f, nil
}

// finish gives the opening to who waits for it, or the file away when nobody
// wants it any more.
func (r *Root) finish(o *opening, f *file, err error) {
	r.mu.Lock()
	r.opening--
	if o.entered {
		r.creating--
	}
	if f != nil {
		r.open[f] = struct{}{}
		r.opened.Add(1)
	}
	r.settle()
	r.mu.Unlock()
	o.mu.Lock()
	dropped := o.dropped
	if !dropped {
		o.file, o.err = f, err
	}
	o.mu.Unlock()
	if dropped && f != nil {
		r.leave(f, "")
	}
	close(o.done)
	r.trim()
}

// drop says that nobody wants the file any more.
func (r *Root) drop(o *opening) {
	o.mu.Lock()
	o.dropped = true
	f := o.file
	o.file = nil
	o.mu.Unlock()
	if f != nil {
		r.leave(f, "")
	}
}

// enter begins the creation of a file, which finish ends, unless there are more
// files than a burst explains. The limit itself is kept by sealing idle ones;
// here nothing is begun until that has happened.
func (r *Root) enter(o *opening) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open)+r.left+r.creating >= MostOpen(r.o.MaxOpen) {
		return false
	}
	r.creating++
	o.entered = true
	return true
}

// MostOpen is how many files of a Root can be open, being opened or being
// sealed at once where Options.MaxOpen is n.
func MostOpen(n int) int { return 2*n + min(n, openSlack) }

const (
	openSlack = 64
	minIdle   = time.Second // a file used within it is not idle, however many are open
)

// trim asks the chains with the longest idle files to give them up where too
// many are open.
func (r *Root) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	excess := len(r.open) + r.opening - r.o.MaxOpen
	if excess <= 0 {
		return
	}
	type idler struct {
		f    *file
		used int64
	}
	var idle []idler
	now := time.Now()
	before := now.Add(-minIdle).UnixNano()
	for f := range r.open {
		if u := f.used.Load(); u == 0 {
			continue
		} else if f.chain.asked.Load() != nil {
			excess--
		} else if u <= before {
			idle = append(idle, idler{f, u})
		}
	}
	slices.SortFunc(idle, func(a, b idler) int { return cmp.Compare(a.used, b.used) })
	for _, i := range idle[:min(max(excess, 0), len(idle))] {
		i.f.chain.asked.CompareAndSwap(nil, &request{reason: ReasonFiles, file: i.f, at: now})
	}
}
