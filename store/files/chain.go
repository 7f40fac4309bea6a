package files

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"twinscribe/failpoint"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/journal"
	"twinscribe/store/layout"
)

// A ChainSpec says how the files of one chain are cut. Zero fields take the
// values named.
type ChainSpec struct {
	Category string
	Chain    uint32
	Period   catalog.Period // of its partitions; an hour
	MaxSize  int64          // size at which a file is replaced; 96 MiB
	Idle     time.Duration  // a file without an Append for so long is sealed; 10 min
	// Layout gives sealed files names that other programs look for, and replaces
	// them by their rules too. The Root's cluster is layout.Engine's then. nil:
	// names of our own.
	Layout *layout.Layout
}

// A Chain is the place of one queue on one cluster. Its methods belong to the
// goroutine that drives the queue, as store.Place has it. Tick is called once a
// second at least.
type Chain struct {
	root *Root
	spec ChainSpec

	cur    *file    // appended to
	next   *opening // what comes after it, or instead of it
	turn   string   // why cur is to be replaced as soon as next is ready; empty: not
	closed bool

	used     time.Time // the last Append that stored something
	sealed   time.Time // the last seal for visibility
	retry    time.Time // no opening ahead of need before it
	failed   int       // openings that failed, one after another
	largest  int64     // batch so far
	recent   [4]int64  // sizes of the last files
	begun    int       // files so far
	sequence uint64    // expected next; 0: not known

	line  catalog.Line
	feeds []catalog.Span
	vec   [1][]byte

	asked atomic.Pointer[request] // what the Root wants of it
}

// A request asks a chain to give up its files, or one of them.
type request struct {
	reason string
	file   *file // nil: all
	at     time.Time
}

const (
	defaultMaxSize = 96 << 20
	defaultIdle    = 10 * time.Minute
	usualBatch     = 4 << 20 // the largest batch until a larger one came
	minBlock       = 8 << 20
	blockUnit      = 1 << 20

	// maxItems bounds the lists of a manifest that grow with batch ids and with
	// messages of several lines: a file with more is replaced.
	maxItems = 1 << 17
)

// Chain makes the place of one queue. It opens nothing before it has to.
func (r *Root) Chain(spec ChainSpec) *Chain {
	if spec.Period == "" {
		spec.Period = catalog.Hour
	}
	if spec.MaxSize <= 0 {
		spec.MaxSize = defaultMaxSize
	}
	spec.Idle = positive(spec.Idle, defaultIdle)
	c := &Chain{root: r, spec: spec, largest: min(usualBatch, spec.MaxSize)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chains[c] = struct{}{}
	return c
}

// Append implements store.Store. It takes a batch whole or not at all: nil
// means that its messages stand in the open file, acknowledged as the cluster
// promises.
func (c *Chain) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	if b.Len() == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return b, c.wrap(err) // no file is torn for a batch that has no time left
	}
	f, err := c.fileFor(ctx, b)
	if err != nil {
		return b, c.wrap(err)
	}
	failpoint.Here("append.file-chosen")
	l := c.lineOf(f, b)
	// A journal that fails stops nobody: it counts the line, and alarms. Only
	// where the line that it has would make repair cut this batch, the file ends.
	if err := f.entry.Batch(l); errors.Is(err, journal.ErrStale) {
		c.retire(ReasonFailover)
		return b, c.wrap(fmt.Errorf("%w: %w", cluster.ErrNotTried, err))
	}
	failpoint.Here("append.noted")
	c.vec[0] = b.Data
	err = f.w.Append(ctx, c.vec[:])
	c.vec[0] = nil
	switch {
	case err == nil:
		failpoint.Here("append.acknowledged")
		c.acknowledged(f, b, l)
		failpoint.Here("append.counted")
		return nil, nil
	case errors.Is(err, cluster.ErrNotTried):
		return b, c.wrap(err) // the next line has the same offset and replaces this one
	}
	c.tear(ctx, f, err)
	return b, c.wrap(err)
}

func (c *Chain) wrap(err error) error {
	return fmt.Errorf("files on %s, category %q: %w", c.root.place, c.spec.Category, err)
}

// lineOf says where b will lie in f. It is valid until the next call.
func (c *Chain) lineOf(f *file, b *store.Batch) *catalog.Line {
	c.feeds = catalog.LineFeeds(c.feeds[:0], b.Data, b.Ends, f.size)
	c.line = catalog.Line{
		Offset: f.size, End: f.size + int64(len(b.Data)),
		First: b.First, Last: b.Last(),
		Arrived: b.Arrived, Senders: b.Senders, IDs: b.IDs, LineFeeds: c.feeds,
	}
	return &c.line
}

func (c *Chain) acknowledged(f *file, b *store.Batch, l *catalog.Line) {
	f.held.Add(l)
	f.held.Sum(b.Data)
	f.size = l.End
	now := time.Now()
	f.last, c.used = now, now
	f.used.Store(now.UnixNano())
	if f.unpublished.IsZero() {
		f.unpublished = now
	}
	c.sequence = b.Last() + 1
	c.root.bytes.Add(int64(len(b.Data)))
	c.root.messages.Add(int64(b.Len()))
	b.Taken = append(b.Taken, store.Taken{Place: c.root.place, Messages: b.Len()})
}

// tear ends the current file at its first final error. What it has beyond the
// last acknowledged batch must be cut before anybody reads it, because the
// caller stores that batch elsewhere: so the tear is in the journal first.
func (c *Chain) tear(ctx context.Context, f *file, err error) {
	failpoint.Here("tear.failed")
	c.root.noteTear(ctx, f)
	failpoint.Here("tear.noted")
	f.w.Abort()
	failpoint.Here("tear.aborted")
	c.forgetCurrent()
	c.root.hand(&leaving{f: f, torn: err})
}

// forgetCurrent ends the time of the current file, which is handed on.
func (c *Chain) forgetCurrent() {
	c.recent[c.begun%len(c.recent)] = c.cur.size
	c.begun++
	c.cur, c.turn = nil, ""
}

// retire gives the current file up to be sealed.
func (c *Chain) retire(reason string) {
	if f := c.cur; f != nil {
		c.forgetCurrent()
		c.root.leave(f, reason)
	}
}

// dropNext gives up what was opened ahead.
func (c *Chain) dropNext() {
	if c.next != nil {
		c.root.drop(c.next)
		c.next = nil
	}
}

// fileFor is the file that b goes to. It waits only where there is none, or
// where the current one is far too big.
func (c *Chain) fileFor(ctx context.Context, b *store.Batch) (*file, error) {
	if c.closed {
		return nil, errClosed
	}
	c.largest = max(c.largest, int64(len(b.Data)))
	if c.sequence == 0 {
		c.sequence = b.First
	}
	if c.cur != nil && c.cur.begin.Partition != b.Partition {
		c.retire(ReasonPartition)
	}
	if c.cur != nil {
		if must := c.plan(int64(len(b.Data))); !must {
			return c.cur, nil
		}
	}
	return c.await(ctx, b.Partition)
}

// plan opens the next file ahead and swaps to it when it is ready. It says
// whether the current file takes no more.
func (c *Chain) plan(bytes int64) (must bool) {
	f := c.cur
	items := f.held.Items()
	if f.size >= c.spec.MaxSize || items >= maxItems {
		c.turn = ReasonSize
	}
	if c.turn == "" && f.size < c.spec.MaxSize/10*9 {
		return false
	}
	if c.next != nil && c.next.partition > f.begin.Partition {
		return false // it is for the next partition, which is seconds away
	}
	if ready := c.ahead(f.begin.Partition); ready && c.turn != "" {
		if c.swap() {
			return false
		}
	}
	return c.turn == ReasonSize && (f.size+bytes > c.spec.MaxSize+c.largest || items >= 2*maxItems)
}

// ahead opens a file in the background and says whether it is there.
func (c *Chain) ahead(p catalog.Partition) bool {
	c.settleNext(p)
	if c.next == nil {
		if c.root.o.Health.Usable() && !time.Now().Before(c.retry) {
			c.next = c.root.start(c, p, false)
		}
		return false
	}
	c.next.wanted = time.Now()
	return c.next.ready()
}

// settleNext drops a next file of another partition, or one that could not be
// opened.
func (c *Chain) settleNext(p catalog.Partition) {
	switch {
	case c.next == nil:
	case c.next.partition != p:
		c.dropNext()
	case c.next.ready() && c.next.err != nil:
		c.openFailed()
	}
}

// openFailed forgets the opening and holds off those that nobody waits for.
func (c *Chain) openFailed() {
	c.next = nil
	c.retry = time.Now().Add(min(time.Second<<min(c.failed, 5), 30*time.Second))
	c.failed++
}

// swap makes the next file, which is ready, the current one.
func (c *Chain) swap() bool {
	o := c.next
	if o.err != nil {
		c.openFailed()
		return false
	}
	c.retire(c.turn)
	c.next, c.failed, c.turn = nil, 0, ""
	c.cur = o.file
	now := time.Now()
	c.cur.last = now
	c.cur.used.Store(now.UnixNano())
	return true
}

// await waits for the next file, as long as ctx allows. What is being opened
// then stays for the next call.
func (c *Chain) await(ctx context.Context, p catalog.Partition) (*file, error) {
	c.settleNext(p)
	switch {
	case c.next == nil && !c.root.o.Health.Usable():
		return nil, fmt.Errorf("no file is open: %w", cluster.ErrHeld)
	case c.next == nil:
		c.next = c.root.start(c, p, true)
	case !c.next.ready():
		c.root.openers.hurry(c.next)
	}
	o := c.next
	o.wanted = time.Now()
	select {
	case <-o.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("the file is still being opened: %w", ctx.Err())
	}
	if !c.swap() {
		return nil, fmt.Errorf("open a file: %w", o.err)
	}
	return c.cur, nil
}

// blockSize of the next file: room for all of it where the chain fills its
// files, little where it does not, because the cluster sets that much aside. A
// file that outgrows its block gets another one.
func (c *Chain) blockSize() int64 {
	whole := (c.spec.MaxSize + c.largest + blockUnit - 1) / blockUnit * blockUnit
	expect := int64(0)
	for _, size := range c.recent {
		expect = max(expect, 2*size)
	}
	size := int64(minBlock)
	for size < expect {
		size *= 2
	}
	return min(size, whole)
}

// Warm implements store.Place.
func (c *Chain) Warm(p catalog.Partition) bool {
	if c.closed {
		return false
	}
	if c.cur != nil && c.cur.begin.Partition == p && c.cur.size < c.spec.MaxSize {
		return true
	}
	return c.ahead(p)
}

// Rest implements store.Place.
func (c *Chain) Rest() {
	reason := ReasonFailover
	if c.root.o.Health.Drained() {
		reason = ReasonDrain
	}
	c.retire(reason)
	c.dropNext()
}

// Close implements store.Store. What Append took is stored already; the Root
// seals it, up to its own Close.
func (c *Chain) Close(context.Context) error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.retire(ReasonStop)
	c.dropNext()
	c.root.mu.Lock()
	defer c.root.mu.Unlock()
	delete(c.root.chains, c)
	return nil
}
