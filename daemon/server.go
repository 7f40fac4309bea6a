package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/files"
	"twinscribe/thrift"
)

// Options of a server.
type Options struct {
	Config   *conf.Config
	Warnings []string                               // about Config, for the status
	Load     func() (*conf.Config, []string, error) // for a reload
	Version  string
	Log      *zap.Logger
	Level    zap.AtomicLevel // of Log: a reload may change it
	FS       vfs.FS          // nil: the operating system's

	// Descriptors is how many the process may have; 0: as the operating system says.
	Descriptors uint64

	// LimitMemory tells the process what it may have in memory, at the start
	// and when a reload changes it; nil: nobody is told.
	LimitMemory func(bytes int64)
}

// A Server is one running twinscribe. Its methods may be called by many
// goroutines at once.
type Server struct {
	*base
	o          Options
	part       share // of the descriptors; base.cfg is its configuration
	places     *places
	used       usedFolders
	aggregator *aggregator.Aggregator
	thrift     *thrift.Server
	http       *http.Server
	listeners  [2]net.Listener // Thrift, HTTP
	door       *doorkeeper     // of the HTTP side
	metrics    *prometheus.Registry
	since      time.Time

	stopOnce sync.Once
	stopping chan struct{}
	reloads  chan struct{} // of one slot: holds the turn
	asked    chan struct{} // of one slot: somebody wants a reload
	brought  chan struct{} // of one slot: a reload was good
	failed   chan error    // of a listener

	current atomic.Pointer[conf.Config] // in force; o.Config is the one of the start
	refused atomic.Pointer[time.Time]   // when the buffer last took nothing of what it was given

	mu       sync.Mutex
	warnings []string // of the configuration in force
	reloaded reloadStatus
	notSent  []string          // what lies on the disk and nobody sends
	notTaken map[string]string // why what an original has left is not taken over, by path
	chainLog *zap.Logger       // of all chains together
}

// twinPatience is how long a start waits for the clusters to tell of another
// aggregator under the same id. One that does not answer has no say.
const twinPatience = 2 * time.Second

// Start opens everything and listens. The server takes calls when Run runs.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Descriptors == 0 {
		allowed, err := allowedDescriptors()
		if err != nil {
			return nil, err
		}
		o.Descriptors = allowed
	}
	part, err := divide(o.Config, o.Descriptors)
	if err != nil {
		return nil, err
	}
	if part.warning != "" {
		o.Log.Warn(part.warning)
		o.Warnings = append(slices.Clone(o.Warnings), part.warning)
	}
	b, err := openBase(ctx, part.cfg, o.FS, o.Log, o.Version)
	if err != nil {
		return nil, err
	}
	s := &Server{
		base: b, o: o, part: part, since: time.Now(), warnings: o.Warnings,
		stopping: make(chan struct{}), reloads: make(chan struct{}, 1), asked: make(chan struct{}, 1), brought: make(chan struct{}, 1), failed: make(chan error, 2),
		metrics: prometheus.NewRegistry(), door: newDoorkeeper(part.http), chainLog: sparing(b.log).Named("failover"),
	}
	s.current.Store(o.Config)
	s.dropped = s.bookDropped
	if err := s.open(ctx); err != nil {
		for _, l := range s.listeners {
			if l != nil {
				l.Close()
			}
		}
		if s.places != nil {
			err = errors.Join(err, s.places.close())
		}
		return nil, errors.Join(err, b.close(ctx))
	}
	return s, nil
}

// open makes what a server has beside its base.
func (s *Server) open(ctx context.Context) (err error) {
	if err := s.listen(ctx); err != nil {
		return err
	}
	check, cancel := context.WithTimeout(ctx, twinPatience)
	defer cancel()
	if err := s.keeper.CheckTwin(check); err != nil {
		return err
	}
	for _, at := range s.sites {
		at.root = files.NewRoot(s.rootOptions(at))
	}
	s.loadUse()
	s.openPlaces()
	if s.aggregator, err = s.newAggregator(); err != nil {
		return err
	}
	s.beginLeftovers(s.cfg)
	t := s.cfg
	s.thrift = thrift.New(s.aggregator, thrift.Options{
		Log:            s.log.Named("thrift"),
		MaxConnections: t.Limits.Connections, MaxConnectionsPerIP: t.Limits.ConnectionsPerIP,
		MaxFrame: int(t.Limits.Frame), MaxEntries: t.Limits.Entries,
		FrameMemory: int(t.Limits.FrameMemory),
		IdleTimeout: t.Timeouts.Idle, FrameTimeout: t.Timeouts.Frame, ReplyTimeout: t.Timeouts.Reply,
	})
	s.limitMemory(s.cfg)
	return s.register()
}

func (s *Server) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	for i, at := range []struct{ addr, key string }{
		{s.cfg.Listen.Thrift, "listen.thrift (port in a Scribe file)"},
		{s.cfg.Listen.HTTP, "listen.http (http in a Scribe file)"},
	} {
		if s.listeners[i], err = lc.Listen(ctx, "tcp", at.addr); err != nil {
			return fmt.Errorf("listening: %w: is another server running? else choose another address with %s", err, at.key)
		}
	}
	return nil
}

func (s *Server) rootOptions(at *site) files.Options {
	return files.Options{
		Identity: s.identity, Cluster: at.cluster, Health: at.health, Journal: s.journal,
		Numbers: func() uint32 { return s.numbers.Add(1) }, Inventory: s.keeper, Repair: s.repairer.Torn,
		Now: s.now, Log: sparing(s.log).Named("files"),
		VisibleWithin: s.cfg.VisibleIn, VisibilitySeals: s.cfg.Seals,
		MaxOpen: at.conf.Limits.OpenFiles, Openers: at.conf.Limits.BlockStarts, WriteTimeout: s.cfg.Timeouts.Write,
	}
}

// fb303Name is what each Scribe server answers to getName; monitoring goes by it.
const fb303Name = "Scribe"

func (s *Server) newAggregator() (*aggregator.Aggregator, error) {
	c, err := s.aggregatorConfig(s.cfg)
	if err != nil {
		return nil, err
	}
	return aggregator.New(aggregator.Options{
		Config: c, Version: cmp.Or(s.cfg.FB303Version, s.o.Version),
		Name:         fb303Name,
		Rescue:       s.rescueShared,
		Counters:     s.counters,
		Problem:      s.refusedReload,
		Reinitialize: s.AskReload,
		Shutdown:     s.Shutdown,
		Now:          s.now, Log: s.log.Named("aggregator"),
	})
}

// rescueShared keeps a batch at a stop, in the buffer that all chains share.
func (s *Server) rescueShared(ctx context.Context, b *store.Batch) error {
	to := store.NewBuffer(s.buffer, store.BufferOptions{
		AnyUsable: func() bool { return anyUsable(s.sites) }, Place: placeBuffer,
	})
	_, err := to.Append(ctx, b)
	return err
}

func (s *Server) aggregatorConfig(cfg *conf.Config) (aggregator.Config, error) {
	rules, err := s.rules(cfg)
	if err != nil {
		return aggregator.Config{}, err
	}
	c := aggregator.Config{
		Rules:       rules,
		DeadLetters: s.keep(buffer.DeadLetter, placeDeadLetter),
		Limits:      cfg.Limits, Timeouts: cfg.Timeouts, Queue: cfg.Queue,
	}
	if cfg.Unrouted == "keep" {
		kept := s.keep(buffer.Unrouted, placeUnrouted)
		c.Unrouted = &kept
	}
	return c, nil
}

// Shutdown begins an orderly stop; Run ends it.
func (s *Server) Shutdown() { s.stopOnce.Do(func() { close(s.stopping) }) }

// Run serves until ctx ends, Shutdown is called or a listener fails, and then
// stops in order. left is how many messages were acknowledged as received and
// are durable nowhere.
func (s *Server) Run(ctx context.Context) (left int64, err error) {
	life := context.WithoutCancel(ctx) // the stop needs everything to go on
	health, work, queues, ways := newBackground(life), newBackground(life), newBackground(life), newBackground(life)
	probe(health.ctx, s.sites, &health.wg)
	s.runBase(work.ctx, &work.wg)
	for _, at := range s.sites {
		work.wg.Go(func() { at.root.Run(work.ctx) })
	}
	work.wg.Go(func() { s.housekeep(work.ctx) })
	work.wg.Go(func() { s.places.network.Run(work.ctx) })
	queues.wg.Go(func() { s.takeOver(queues.ctx) })
	ways.wg.Go(func() { s.reloadWhenAsked(ways.ctx) })
	queues.wg.Go(func() { s.aggregator.Run(queues.ctx) })
	s.http = s.newHTTP(ways.ctx)
	ways.wg.Go(func() { s.failed <- s.http.Serve(s.listeners[1]) })
	ways.wg.Go(func() { s.failed <- s.thrift.Serve(ways.ctx, s.listeners[0]) })
	s.log.Info("twinscribe runs", zap.String("version", s.o.Version), zap.Stringer("start", s.identity),
		zap.Stringer("thrift", s.listeners[0].Addr()), zap.Stringer("http", s.listeners[1].Addr()))

	select {
	case <-ctx.Done():
	case <-s.stopping:
	case err = <-s.failed:
		err = fmt.Errorf("a listener ended: %w", err)
	}
	s.Shutdown()
	left, stopErr := s.stopInOrder(life, health, work, queues, ways)
	s.log.Info("twinscribe has stopped", zap.Int64("left", left), zap.Error(stopErr))
	return left, errors.Join(err, stopErr)
}

// backgroundWork is a group of goroutines that stop together, before what they use does.
type backgroundWork struct {
	ctx    context.Context //nolint:containedctx // the life of the goroutines in wg, which stop ends
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (b *backgroundWork) stop() {
	b.cancel()
	b.wg.Wait()
}

func newBackground(ctx context.Context) *backgroundWork {
	b := &backgroundWork{}
	b.ctx, b.cancel = context.WithCancel(ctx)
	return b
}

// stopInOrder ends the way in, empties the queues, seals, and closes what is
// below, each part while what it needs still runs. What has no time left to be
// sealed is repaired at the next start: nothing acknowledged depends on it.
func (s *Server) stopInOrder(life context.Context, health, work, queues, ways *backgroundWork) (left int64, err error) {
	limit := s.inForce().Timeouts.Stop
	ctx, cancel := context.WithTimeout(life, limit)
	defer cancel()
	calls, endCalls := context.WithTimeout(ctx, limit/4)
	thriftErr := s.thrift.Stop(calls)
	endCalls()
	left, err = s.aggregator.Stop(ctx)
	queues.stop()
	for _, at := range s.sites {
		if e := at.root.Close(ctx); e != nil { // said, but no failure: repair does it
			s.log.Info("not everything is sealed", zap.Error(e))
		}
	}
	if thriftErr != nil {
		s.log.Warn("calls were cut off", zap.Error(thriftErr))
	}
	s.segments.update()
	s.keeper.End(s.identity)
	if e := s.keeper.Flush(ctx); e != nil {
		s.log.Info("inventories are not on every cluster", zap.Error(e))
	}
	web, endWeb := context.WithTimeout(life, time.Second)
	_ = s.http.Shutdown(web) // requests that go on are cut off with the process
	endWeb()
	ways.stop()
	work.stop()
	health.stop()
	return left, errors.Join(err, s.places.close(), s.close(life))
}

// housekeep looks every second after what nothing else looks after.
func (s *Server) housekeep(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	last := s.buffer.Stats()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			s.segments.update()
			s.watchDrains()
			last = s.watchBuffer(last)
		}
	}
}

// inForce is the configuration that the last good reload, or the start, brought.
func (s *Server) inForce() *conf.Config { return s.current.Load() }

// setLevel makes the log as detailed as a configuration says.
func (s *Server) setLevel(cfg *conf.Config) {
	if l, err := zapcore.ParseLevel(cfg.Log.Level); err == nil {
		s.o.Level.SetLevel(l)
	}
}
