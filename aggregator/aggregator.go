package aggregator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/thrift"
)

// A Config is what a reload replaces.
type Config struct {
	Rules []Rule

	// DeadLetters takes blank categories and over-long messages, Unrouted what
	// no rule matches; nil refuses it. Each has one route that is not split. Their
	// Match and Ack, and whether it is Lossy, are not looked at: a client hears OK only when such a
	// message is stored, also where its category's level is AckReceived.
	DeadLetters Rule
	Unrouted    *Rule

	Limits   conf.Limits   // Message, Memory, Queue, QueueAdmits, Categories and MessagesPerSecond of it
	Timeouts conf.Timeouts // Ack, Write and Stop of it
	Queue    conf.Queue
}

// Options of New.
type Options struct {
	Config

	Name    string // fb303's; empty: twinscribe
	Version string // fb303's

	// IdleAfter is how long a queue may be silent before it and its chain are
	// closed; 0: an hour.
	IdleAfter time.Duration

	// Rescue keeps a batch whose messages were acknowledged as received and
	// that its chain does not take at a stop. nil means durable, and Taken says
	// where. Called by many goroutines at once. nil: there is no such place.
	Rescue func(ctx context.Context, b *store.Batch) error

	// Counters adds to fb303's counters what chains count by themselves.
	Counters func(map[string]int64)

	// Problem is what is wrong with the server beside its chains; empty: nothing.
	// It is part of the Status, in front of what chains complain of. Any goroutine
	// may call it, and it returns at once. nil: there is never anything.
	Problem func() string

	// Reinitialize and Shutdown are what fb303's calls of these names start.
	// They return at once. nil: the call does nothing.
	Reinitialize, Shutdown func()

	// Now is the wall clock that arrival times and partitions are read from;
	// nil: time.Now. It may jump; intervals do not depend on it.
	Now func() time.Time

	Log *zap.Logger
}

// An Aggregator takes calls by Log and drives the chains. Run must be running
// for batches to move. All methods may be called by many goroutines at once.
type Aggregator struct {
	name, version string
	idleAfter     time.Duration
	rescue        func(context.Context, *store.Batch) error
	counters      func(map[string]int64) // nil: there are no others
	problem       func() string          // nil: there is never anything
	reinitialize  func()
	shutdown      func()
	wall          func() time.Time // nil: time.Now
	log           *zap.Logger
	lines         limiter
	base          time.Time
	since         int64

	set    atomic.Pointer[settings] // replaced under gate and mu
	memory atomic.Int64             // bytes reserved by calls and held by batches, overhead included
	chains atomic.Uint32            // the number given last

	clock     *clock
	arenas    slabs[byte]
	offsets   slabs[uint32]
	scratches sync.Pool

	calls   callCounters
	rate    rate
	latency latencies
	batches batchSizes
	labels  labels

	gate sync.RWMutex // see the package comment

	mu         sync.RWMutex
	categories map[string]*category
	lives      [kinds]int
	slots      int
	freeSlots  []int
	queues     map[*queue]struct{} // all whose messages are not all settled or whose driver runs
	fresh      []*queue            // to be started by Run
	started    bool
	halted     bool

	otherMu sync.Mutex
	other   ledger
	folding sync.RWMutex // see the package comment

	freshSignal chan struct{} // one slot
	reloading   chan struct{} // one slot: holds the turn
	stopOnce    sync.Once
	plan        stopPlan      // written before stopping is closed
	stopping    chan struct{} // closed when no call can be admitted any more
	giveUpOnce  sync.Once
	giveUp      chan struct{}
	done        chan struct{} // closed when Run has ended

	closeMu   sync.Mutex
	closeErrs []error
}

var _ thrift.Handler = (*Aggregator)(nil)

type callCounters struct {
	ok, refused, withdrawn, partial, unknown atomic.Int64

	deniedForRate atomic.Int64 // of the refused
}

// settings are a Config with what is derived from it. Never changed.
type settings struct {
	Config
	routes        *router
	maxBatch      int // bytes of text
	batchMessages int // messages of a batch
	batchBytes    int
	maxMessage    int
	strangers     int  // live categories without a rule
	below         bool // a queue admits while it is below its limit
}

func newSettings(c Config) (*settings, error) {
	routes, err := newRouter(c.Rules)
	errs := []error{err}
	if err := c.DeadLetters.checkKept(); err != nil {
		errs = append(errs, fmt.Errorf("dead letters: %w", err))
	}
	if c.Unrouted != nil {
		kept := *c.Unrouted
		c.Unrouted = &kept
		if err := kept.checkKept(); err != nil {
			errs = append(errs, fmt.Errorf("unrouted: %w", err))
		}
	}
	for _, l := range []struct {
		name  string
		value int64
	}{
		{"limits.message", int64(c.Limits.Message)}, {"limits.memory", int64(c.Limits.Memory)},
		{"limits.queue", int64(c.Limits.Queue)}, {"limits.categories", int64(c.Limits.Categories)},
		{"timeouts.ack", int64(c.Timeouts.Ack)}, {"timeouts.write", int64(c.Timeouts.Write)},
		{"timeouts.stop", int64(c.Timeouts.Stop)}, {"queue.max_batch", int64(c.Queue.MaxBatch)},
		{"queue.batch_bytes", int64(c.Queue.BatchBytes)}, {"queue.batch_wait", int64(c.Queue.BatchWait)},
	} {
		if l.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: want more than 0", l.name))
		}
	}
	if c.Queue.MaxBatch > maxArena || c.Limits.Message > maxArena {
		errs = append(errs, fmt.Errorf("queue.max_batch and limits.message: want at most %d bytes", maxArena))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &settings{
		Config: c, routes: routes,
		maxBatch:      int(c.Queue.MaxBatch),
		batchMessages: max(int(c.Queue.MaxBatch)/bytesPerOffset, 1),
		batchBytes:    int(c.Queue.BatchBytes),
		maxMessage:    int(c.Limits.Message),
		strangers:     max(c.Limits.Categories/strangersPart, 1),
		below:         c.Limits.QueueAdmits == conf.QueueAdmitsBelow,
	}, nil
}

const (
	// maxArena keeps end offsets within 32 bits.
	maxArena = 1 << 30
	// bytesPerOffset bounds a batch of tiny messages: its offsets, of four
	// bytes each, take at most half of what its text may take.
	bytesPerOffset = 8
	// strangersPart is the part of Limits.Categories that names without a rule
	// may take beside it.
	strangersPart = 4
	// keptArenas bounds what is kept for reuse, in bytes.
	keptArenas = 64 << 20
)

// New returns an aggregator, or what is wrong with the configuration.
func New(o Options) (*Aggregator, error) {
	set, err := newSettings(o.Config)
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "twinscribe"
	}
	if o.IdleAfter <= 0 {
		o.IdleAfter = time.Hour
	}
	keep := int(min(int64(set.Limits.Memory)/4, keptArenas))
	base := time.Now()
	a := &Aggregator{
		name: o.Name, version: o.Version, idleAfter: o.IdleAfter, rescue: o.Rescue, counters: o.Counters, problem: o.Problem,
		reinitialize: o.Reinitialize, shutdown: o.Shutdown, wall: o.Now, log: o.Log,
		base: base, since: base.Unix(), clock: newClock(base),
		arenas:      slabs[byte]{keep: keep},
		offsets:     slabs[uint32]{keep: keep / 16},
		latency:     newLatencies(),
		batches:     newBatchSizes(),
		categories:  make(map[string]*category),
		queues:      make(map[*queue]struct{}),
		freshSignal: make(chan struct{}, 1),
		reloading:   make(chan struct{}, 1),
		stopping:    make(chan struct{}),
		giveUp:      make(chan struct{}),
		done:        make(chan struct{}),
	}
	a.use(set)
	return a, nil
}

// use makes settings count. After New it needs gate and mu.
func (a *Aggregator) use(set *settings) {
	a.set.Store(set)
	a.arenas.largest.Store(int64(set.maxBatch))
	a.offsets.largest.Store(int64(set.batchMessages))
	a.arenas.much.Store(int64(set.Limits.Memory) / 2)
	a.offsets.much.Store(int64(set.Limits.Memory) / 16)
}

// Run drives the queues until Stop has ended them. It is called once. ctx is
// the life of the process, not the wish to stop it: when it ends, queues are
// given up as by a crash. Run returns when all chains are closed.
func (a *Aggregator) Run(ctx context.Context) {
	life, endLife := context.WithCancel(ctx)
	defer endLife()
	appends, endAppends := context.WithCancel(life)
	defer endAppends()
	a.mu.Lock()
	a.started = true
	a.mu.Unlock()
	defer close(a.done)

	var drivers sync.WaitGroup
	start := func() {
		for _, q := range a.takeFresh() {
			drivers.Go(func() { newDriver(q).run(life, appends) })
		}
	}
	drivers.Go(func() {
		a.clock.run(ctx, a.stopping, func() time.Duration { return early(a.set.Load().Queue.BatchWait) })
	})
	a.serve(ctx, start)
	start()
	a.signalAll()

	ended := make(chan struct{})
	go func() { drivers.Wait(); close(ended) }()
	lastAppend := time.NewTimer(time.Until(a.plan.appends))
	defer lastAppend.Stop()
	lastOfAll := time.NewTimer(time.Until(a.plan.all))
	defer lastOfAll.Stop()
	giveUp := a.giveUp
	for {
		select {
		case <-ended:
			return
		case <-lastAppend.C:
			endAppends()
		case <-lastOfAll.C:
			endLife()
		case <-giveUp:
			giveUp = nil
			endLife()
		}
	}
}

// serve starts new queues and retires idle ones until the stop begins.
func (a *Aggregator) serve(ctx context.Context, start func()) {
	sweep := time.NewTicker(max(a.idleAfter/8, time.Second))
	defer sweep.Stop()
	for {
		select {
		case <-a.freshSignal:
			start()
		case now := <-sweep.C:
			a.retire(now)
		case <-a.stopping:
			return
		case <-ctx.Done():
			a.halt(0)
			return
		}
	}
}

// signalAll has every driver look around, for instance at the stop that has begun.
func (a *Aggregator) signalAll() {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for q := range a.queues {
		q.signal()
	}
}

func (a *Aggregator) takeFresh() []*queue {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := a.fresh
	a.fresh = nil
	return fresh
}

func (a *Aggregator) now() time.Time {
	if a.wall != nil {
		return a.wall()
	}
	return time.Now()
}
