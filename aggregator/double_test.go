package aggregator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/thrift"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kept is a copy of a batch that a place took.
type kept struct {
	store.Batch
	messages []string
	at       time.Time
}

// place is a store that keeps copies of what it takes, and holds its driver to
// the contract: one call at a time, sequences without holes inside a batch,
// arenas that nobody changes meanwhile.
type place struct {
	name     string
	category string
	part     int
	number   uint32

	// append, if set, decides instead. It is called without the lock.
	append func(ctx context.Context, b *store.Batch) (*store.Batch, error)
	close  func(ctx context.Context) error

	busy sync.Mutex

	mu     sync.Mutex
	took   []kept
	tries  []kept
	next   uint64
	ticks  []time.Time
	closed int
	fault  error
}

func (p *place) complain(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		p.fault = fmt.Errorf(format, args...)
	}
}

func copyOf(b *store.Batch) kept {
	k := kept{Batch: *b, at: time.Now()}
	k.Data, k.Ends = slices.Clone(b.Data), slices.Clone(b.Ends)
	k.Senders, k.IDs, k.Taken = slices.Clone(b.Senders), slices.Clone(b.IDs), nil
	for i := range b.Len() {
		k.messages = append(k.messages, string(b.Message(i)))
	}
	return k
}

func (p *place) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	if !p.busy.TryLock() {
		p.complain("two calls at once")
	}
	defer p.busy.Unlock()
	k := copyOf(b)
	p.mu.Lock()
	p.tries = append(p.tries, k)
	if b.Category != p.category || b.Chain != p.number {
		p.fault = fmt.Errorf("a batch of %q chain %d at the chain of %q, %d", b.Category, b.Chain, p.category, p.number)
	}
	if p.closed > 0 {
		p.fault = errors.New("append after close")
	}
	p.mu.Unlock()
	if p.append != nil {
		unsent, err := p.append(ctx, b)
		if !slices.Equal(k.Data, b.Data) {
			p.complain("the arena changed during Append")
		}
		if err != nil {
			return unsent, err
		}
	}
	p.take(b, b.Len())
	return nil, nil
}

// take keeps the first n messages of b.
func (p *place) take(b *store.Batch, n int) {
	k := copyOf(b)
	k.messages, k.Ends = k.messages[:n], k.Ends[:n]
	b.Taken = append(b.Taken, store.Taken{Place: p.name, Messages: n})
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.First < p.next {
		p.fault = fmt.Errorf("sequence %d after %d", b.First, p.next-1)
	}
	p.next = b.First + uint64(n)
	p.took = append(p.took, k)
}

func (p *place) Tick(_ context.Context, now time.Time) error {
	if !p.busy.TryLock() {
		p.complain("two calls at once")
	}
	defer p.busy.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ticks = append(p.ticks, now)
	return nil
}

func (p *place) Close(ctx context.Context) error {
	if !p.busy.TryLock() {
		p.complain("two calls at once")
	}
	defer p.busy.Unlock()
	p.mu.Lock()
	p.closed++
	f := p.close
	p.mu.Unlock()
	if f != nil {
		return f(ctx)
	}
	return nil
}

func (p *place) batches() []kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.took)
}

func (p *place) attempts() []kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.tries)
}

// ticked is how often the place was told the time.
func (p *place) ticked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ticks)
}

func (p *place) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed > 0
}

func (p *place) messages() []string {
	var all []string
	for _, k := range p.batches() {
		all = append(all, k.messages...)
	}
	return all
}

// bench builds chains of places and remembers them.
type bench struct {
	t testing.TB
	*Aggregator
	opts Options
	stop context.CancelFunc
	ran  sync.WaitGroup

	mu     sync.Mutex
	places map[string][]*place // by name of the place, then in the order of opening
	made   func(*place)        // sees each place before it is used
	opens  func(name, category string) error
}

// rule makes a rule whose chains are places of this name.
func (h *bench) rule(match, ack, name string) Rule {
	return Rule{Match: match, Ack: ack, Routes: []Route{{Key: name, Open: h.open(name)}}}
}

func (h *bench) open(name string) func(string, int, uint32) (Chain, error) {
	return func(category string, part int, number uint32) (Chain, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.opens != nil {
			if err := h.opens(name, category); err != nil {
				return Chain{}, err
			}
		}
		p := &place{name: name, category: category, part: part, number: number, next: 1}
		if h.made != nil {
			h.made(p)
		}
		h.places[name] = append(h.places[name], p)
		return Chain{Store: p, Active: func() string { return name }}, nil
	}
}

// all are the places of a name, over all categories.
func (h *bench) all(name string) []*place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.places[name])
}

// of is the one place of a name for a category.
func (h *bench) of(name, category string) *place {
	h.t.Helper()
	var found []*place
	for _, p := range h.all(name) {
		if p.category == category {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d places %q for category %q, want one", len(found), name, category)
	}
	return found[0]
}

// start makes an aggregator with small limits, has edit change them, and runs it.
// What is wrong with the contract, the books or the goroutines fails the test at
// its end.
func start(t testing.TB, edit func(*bench)) *bench {
	t.Helper()
	h := &bench{t: t, places: make(map[string][]*place)}
	h.opts = Options{
		Config: Config{
			DeadLetters: h.rule("", "", "dead-letter"),
			Limits:      conf.Limits{Message: 1000, Memory: 1 << 20, Queue: 1 << 18, Categories: 8},
			Timeouts:    conf.Timeouts{Ack: 10 * time.Second, Write: 2 * time.Second, Stop: 20 * time.Second},
			Queue:       conf.Queue{MaxBatch: 4096, BatchBytes: 2048, BatchWait: 5 * time.Millisecond},
		},
		Log: zap.NewNop(),
	}
	h.opts.Rules = []Rule{h.rule("*", AckStored, "n1")}
	kept := h.rule("", "", "unrouted")
	h.opts.Unrouted = &kept
	if edit != nil {
		edit(h)
	}
	a, err := New(h.opts)
	if err != nil {
		t.Fatal(err)
	}
	a.arenas.scrub = func(p []byte) { // whoever still reads it finds out
		for i := range p {
			p[i] = 0xdb
		}
	}
	h.Aggregator = a
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.ran.Go(func() { a.Run(ctx) })
	t.Cleanup(h.finish)
	return h
}

// finish ends the aggregator and checks what must hold at the end of every test.
func (h *bench) finish() {
	h.stop()
	h.ran.Wait()
	h.balanced()
	held := h.Books().Total.Queued
	held.add(h.Books().Total.InFlight)
	if n := h.memory.Load(); held == (Count{}) && n != 0 {
		h.t.Errorf("%d bytes are reserved at the end", n)
	}
	for c := range h.accounts() {
		if n := c.bytes.Load(); held == (Count{}) && n != 0 {
			h.t.Errorf("%d bytes of %v are reserved at the end", n, c)
		}
	}
	for name, places := range h.places {
		for _, p := range places {
			if p.fault != nil {
				h.t.Errorf("place %s of %q: %v", name, p.category, p.fault)
			}
			if p.closed != 1 {
				h.t.Errorf("place %s of %q: closed %d times", name, p.category, p.closed)
			}
		}
	}
}

// balanced checks every account, and that nothing is unaccounted for.
func (h *bench) balanced() {
	h.t.Helper()
	b := h.Books()
	for _, one := range append(b.Categories, b.Other, b.Total) {
		if err := one.Check(); err != nil {
			h.t.Error(err)
		}
		if one.Unaccounted != (Count{}) {
			h.t.Errorf("category %q: unaccounted %v", one.Category, one.Unaccounted)
		}
	}
}

func (h *bench) book(category string) Book {
	for _, b := range h.Books().Categories {
		if string(b.Category) == category {
			return b
		}
	}
	return Book{}
}

// call makes a call of entries "category:message".
func call(entries ...string) *thrift.Call {
	c := &thrift.Call{Sender: "10.0.0.1"}
	for _, e := range entries {
		category, message, _ := strings.Cut(e, ":")
		c.Entries = append(c.Entries, thrift.Entry{Category: []byte(category), Message: []byte(message)})
		c.Bytes += len(message)
	}
	return c
}

func (h *bench) log(entries ...string) thrift.Result {
	return h.Log(context.Background(), call(entries...))
}

func (h *bench) must(want thrift.Result, entries ...string) {
	h.t.Helper()
	if got := h.log(entries...); got != want {
		h.t.Errorf("Log(%.60q) = %d, want %d", entries, got, want)
	}
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// failing refuses everything with err.
func failing(err error) func(context.Context, *store.Batch) (*store.Batch, error) {
	return func(_ context.Context, b *store.Batch) (*store.Batch, error) { return b, err }
}

// hanging waits for the end of its context.
func hanging(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	<-ctx.Done()
	return b, ctx.Err()
}

var errAway = errors.New("the cluster is away")

// after is what is left of b without its first n messages.
func after(b *store.Batch, n int) *store.Batch {
	rest := *b
	rest.Taken = nil
	rest.First += uint64(n)
	rest.Data = b.Data[b.Ends[n-1]:]
	rest.Ends = nil
	for _, end := range b.Ends[n:] {
		rest.Ends = append(rest.Ends, end-b.Ends[n-1])
	}
	return &rest
}

var nop = zap.NewNop()
