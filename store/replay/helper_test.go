package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
)

const root = "/spools"

// chain is a Store over a file system, with what a test wants to ask.
type chain struct {
	*Store
	t       testing.TB
	spools  *Spools
	primary *primary
	logs    *observer.ObservedLogs
	next    uint64 // sequence
}

// setup says how a chain is made. Its zero value is good.
type setup struct {
	fs      vfs.FS
	start   uint32 // of the identity
	primary *primary
	spools  SpoolsOptions
	spool   SpoolOptions
	options Options
}

func open(t testing.TB, u setup) *chain {
	t.Helper()
	c, err := tryOpen(t, u)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryOpen(t testing.TB, u setup) (*chain, error) {
	t.Helper()
	if u.fs == nil {
		u.fs = memfs.New()
	}
	if u.primary == nil {
		u.primary = &primary{}
	}
	if u.start == 0 {
		u.start = 1
	}
	u.primary.set(func() { u.primary.start = catalog.Identity{Aggregator: "leaf", Epoch: u.start, Start: u.start} })
	core, logs := observer.New(zap.DebugLevel)
	u.spools.Identity = buffer.Identity{Aggregator: "leaf", Epoch: u.start, Start: u.start}
	u.spools.Log, u.spools.Now = zap.New(core), time.Now
	if u.spools.MinFree == 0 {
		u.spools.MinFree = -1
	}
	spools, err := OpenSpools(u.fs, root, u.spools)
	if err != nil {
		return nil, err
	}
	if u.spool.Dir == "" {
		u.spool.Dir = "web"
	}
	spool, err := spools.Spool(u.spool)
	if err != nil {
		return nil, errors.Join(err, spools.Close())
	}
	u.options.Log = zap.New(core)
	return &chain{Store: New(u.primary, spool, u.options), t: t, spools: spools, primary: u.primary, logs: logs, next: 1}, nil
}

// batch makes the next batch of the chain.
func (c *chain) batch(messages ...string) *store.Batch {
	b := &store.Batch{Category: "web", Chain: 7, Partition: "dt=2026-11-22/hr=10", First: c.next, Arrived: 1, Senders: []string{"10.0.0.1"}}
	c.next += uint64(len(messages))
	for _, m := range messages {
		b.Data = append(append(b.Data, m...), '\n')
		b.Ends = append(b.Ends, uint32(len(b.Data)))
	}
	return b
}

// put appends messages, which must be taken.
func (c *chain) put(messages ...string) *store.Batch {
	c.t.Helper()
	b := c.batch(messages...)
	if rest, err := c.Append(c.t.Context(), b); err != nil || rest != nil {
		c.t.Fatalf("append of %q: %v, rest %v", messages, err, rest)
	}
	return b
}

func (c *chain) tick() {
	c.t.Helper()
	if err := c.Tick(c.t.Context(), time.Now()); err != nil {
		c.t.Fatalf("tick: %v", err)
	}
}

// end closes the chain and its spools.
func (c *chain) end() {
	c.t.Helper()
	if err := c.Close(context.Background()); err != nil {
		c.t.Fatalf("close: %v", err)
	}
	if err := c.spools.Close(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chain) wantState(want State) {
	c.t.Helper()
	if got := c.Status().State; got != want {
		c.t.Fatalf("the state is %v, want %v", got, want)
	}
}

// primary is a store that takes or refuses what it is told to, and remembers.
type primary struct {
	mu      sync.Mutex
	refuse  func(b *store.Batch) (take int, err error) // nil: it takes everything
	delay   time.Duration
	hang    bool
	got     []string
	batches []store.Batch // without their bytes
	dedup   map[string]bool
	start   catalog.Identity // that runs, for dedup
	ticks   int
	inside  int
	closed  bool
}

func (p *primary) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

var errAway = errors.New("the server is away")

func away(*store.Batch) (int, error) { return 0, errAway }

func (p *primary) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	p.mu.Lock()
	if p.inside++; p.inside > 1 {
		panic("two goroutines call the primary")
	}
	refuse, delay, hang := p.refuse, p.delay, p.hang
	p.mu.Unlock()
	defer p.set(func() { p.inside-- })
	if hang {
		<-ctx.Done()
		return b, ctx.Err()
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return b, ctx.Err()
		}
	}
	n := b.Len()
	var err error
	if refuse != nil {
		n, err = refuse(b)
		if err == nil {
			n = b.Len()
		}
	}
	p.take(b, n)
	if n > 0 {
		b.Taken = append(b.Taken, store.Taken{Place: "primary", Messages: n})
	}
	if err != nil {
		return b.After(n), fmt.Errorf("primary: %w", err)
	}
	return nil, nil
}

// take keeps n messages, those it knows already excepted if it dedups.
func (p *primary) take(b *store.Batch, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range n {
		if p.dedup != nil {
			by := p.start
			if b.Origin != nil {
				by = *b.Origin
			}
			id := fmt.Sprint(by, b.Chain, b.First+uint64(i))
			if p.dedup[id] {
				continue
			}
			p.dedup[id] = true
		}
		p.got = append(p.got, string(b.Message(i)))
	}
	k := *b
	k.Data, k.Ends, k.Taken = nil, nil, nil
	p.batches = append(p.batches, k)
}

func (p *primary) Tick(context.Context, time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inside > 0 {
		panic("tick while another goroutine calls the primary")
	}
	p.ticks++
	return nil
}

func (p *primary) Close(context.Context) error {
	p.set(func() { p.closed = true })
	return nil
}

func (p *primary) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *primary) ticked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ticks
}

func (p *primary) want(t testing.TB, want ...string) {
	t.Helper()
	if got := p.messages(); !slices.Equal(got, want) {
		t.Errorf("the primary has %q\nwant %q", brief(got), brief(want))
	}
}

func brief(list []string) string {
	if len(list) > 40 {
		return fmt.Sprintf("%d: %s ... %s", len(list), strings.Join(list[:20], " "), strings.Join(list[len(list)-20:], " "))
	}
	return strings.Join(list, " ")
}

func numbered(from, to int) []string {
	var list []string
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("m%d", i))
	}
	return list
}
