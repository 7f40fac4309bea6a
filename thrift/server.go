package thrift

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	athrift "github.com/apache/thrift/lib/go/thrift"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"twinscribe/thrift/gen/fb303"
)

// Options of a server. A zero field takes its default, except where it says otherwise.
type Options struct {
	Log *zap.Logger // has to be set

	MaxConnections      int // 10,000
	MaxConnectionsPerIP int // 0: as many as MaxConnections
	MaxFrame            int // bytes of the largest frame; 16 MiB, 256 MiB at most
	MaxEntries          int // of one call; 100,000
	// FrameMemory bounds the bytes that frames and decoded calls of all
	// connections use together: from a frame's first byte until its call is
	// answered. A call that finds none is read, thrown away and answered
	// TRY_LATER. 512 MiB; raised to what the largest call needs by itself.
	FrameMemory int

	IdleTimeout  time.Duration // for a frame's first byte; 5 min
	FrameTimeout time.Duration // from a frame's first byte to its last; 10 s
	ReplyTimeout time.Duration // for writing one reply; 5 s
}

func (o Options) withDefaults() Options {
	o.MaxConnections = orDefault(o.MaxConnections, 10_000)
	o.MaxConnectionsPerIP = orDefault(o.MaxConnectionsPerIP, o.MaxConnections)
	o.MaxFrame = min(orDefault(o.MaxFrame, 16<<20), largestFrame)
	o.MaxEntries = orDefault(o.MaxEntries, 100_000)
	// A frame lies in a buffer of up to twice its size and, while that one is
	// filled from a smaller one, in both.
	o.FrameMemory = max(orDefault(o.FrameMemory, 512<<20), smallShare*(3*o.MaxFrame+o.MaxEntries*entryBytes)/(smallShare-1)+1)
	o.IdleTimeout = orDefault(o.IdleTimeout, 5*time.Minute)
	o.FrameTimeout = orDefault(o.FrameTimeout, 10*time.Second)
	o.ReplyTimeout = orDefault(o.ReplyTimeout, 5*time.Second)
	return o
}

func orDefault[T ~int | ~int64](v, fallback T) T {
	if v > 0 {
		return v
	}
	return fallback
}

// ErrStopped is what Serve answers after Stop.
var ErrStopped = errors.New("the server is stopped")

// Server answers Scribe's interface on any number of listeners. Its methods may
// be called by many goroutines at once.
type Server struct {
	o         Options
	handler   Handler
	processor athrift.TProcessor // everything but Log
	options   options
	log       *zap.Logger
	memory    memory
	decoders  sync.Pool // of *decoder
	stats     stats

	mu      sync.Mutex
	stopped bool
	groups  map[*group]struct{}
	conns   map[*conn]struct{}
	peers   map[string]*peer
}

// peer is one client's address with the number of its connections.
type peer struct {
	sender string
	conns  int // guarded by Server.mu
}

// group is one listener with its connections.
type group struct {
	listener net.Listener
	ctx      context.Context //nolint:containedctx // of the calls: it ends when the server gives up waiting for them
	cancel   context.CancelFunc
	stopping atomic.Bool
	stop     chan struct{} // closed with stopping
	wg       sync.WaitGroup
	done     chan struct{} // closed when all has ended
}

// New makes a server that has h answer.
func New(h Handler, o Options) *Server {
	s := &Server{
		o:       o.withDefaults(),
		handler: h,
		// The same line from many connections is logged ten times in ten
		// seconds; how often it happened is in the figures.
		log: o.Log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(c, 10*time.Second, 10, 0)
		})),
		groups: make(map[*group]struct{}),
		conns:  make(map[*conn]struct{}),
		peers:  make(map[string]*peer),
	}
	s.memory.limit = int64(s.o.FrameMemory)
	s.processor = fb303.NewFacebookServiceProcessor(&answers{h, &s.options})
	return s
}

func (s *Server) decoder() *decoder {
	if d, ok := s.decoders.Get().(*decoder); ok {
		return d
	}
	return &decoder{maxEntries: s.o.MaxEntries}
}

// Serve accepts connections on l, which it closes, and serves them. It returns
// when the last one has ended: with nil after Stop, with ErrStopped if the
// server was stopped before, with the cause when ctx ended, which cuts all
// connections and ends the calls under way, and with an error when somebody
// else closed l. A failing accept does not end it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := &group{listener: l, stop: make(chan struct{}), done: make(chan struct{})}
	ctx, g.cancel = context.WithCancel(ctx)
	g.ctx = ctx
	defer g.cancel()
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return errors.Join(ErrStopped, l.Close())
	}
	s.groups[g] = struct{}{}
	s.mu.Unlock()
	defer close(g.done)

	cut := context.AfterFunc(ctx, func() { s.cut(g) })
	defer cut()
	err := s.accept(g)
	if err != nil {
		s.wind(g)
	}
	g.wg.Wait()
	s.mu.Lock()
	delete(s.groups, g)
	s.mu.Unlock()
	return err
}

// accept is the loop that accepts until the group stops.
func (s *Server) accept(g *group) error {
	const first, longest = 5 * time.Millisecond, time.Second
	pause := first
	for {
		nc, err := g.listener.Accept()
		switch {
		case err == nil:
			pause = first
			s.take(g, nc)
			continue
		case g.stopping.Load():
			return nil
		case g.ctx.Err() != nil:
			return context.Cause(g.ctx)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("thrift: the listener at %s was closed: %w", g.listener.Addr(), err)
		}
		s.stats.acceptErrors.Add(1)
		s.log.Error("thrift: accepting a connection failed, trying again", zap.Error(err), zap.Duration("pause", pause))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-g.stop:
		case <-g.ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, longest)
	}
}

// take begins to serve a connection, or closes it where a limit is reached.
func (s *Server) take(g *group, nc net.Conn) {
	sender := senderOf(nc.RemoteAddr())
	s.mu.Lock()
	p := s.peers[sender]
	all := len(s.conns) >= s.o.MaxConnections
	one := p != nil && p.conns >= s.o.MaxConnectionsPerIP
	if all || one || g.stopping.Load() || g.ctx.Err() != nil {
		s.mu.Unlock()
		defer nc.Close()
		switch {
		case all:
			s.stats.refusedAll.Add(1)
			s.log.Warn("thrift: too many connections, one more closed", zap.String("peer", sender), zap.Int("limit", s.o.MaxConnections))
		case one:
			s.stats.refusedPeer.Add(1)
			s.log.Warn("thrift: too many connections of one address, one more closed", zap.String("peer", sender), zap.Int("limit", s.o.MaxConnectionsPerIP))
		}
		return
	}
	if p == nil {
		p = &peer{sender: sender}
		s.peers[sender] = p
	}
	p.conns++
	c := newConn(s, g, nc, p)
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.stats.accepted.Add(1)
	g.wg.Go(c.serve)
}

// drop closes a connection that is no longer served.
func (s *Server) drop(c *conn) {
	c.net.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.peer.conns--; c.peer.conns == 0 {
		delete(s.peers, c.peer.sender)
	}
}

// senderOf is an address without its port.
func senderOf(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().String()
	}
	return a.String()
}

// Stop closes the listeners, has the calls under way answered, and closes every
// connection as soon as it is between two frames. A frame that has begun to
// arrive is a call under way. When ctx ends first the rest is cut: the context
// of the calls ends, and Stop waits for the handler to notice; the error says
// how many connections there were. Afterwards Serve answers ErrStopped.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	groups := make([]*group, 0, len(s.groups))
	for g := range s.groups {
		groups = append(groups, g)
	}
	s.mu.Unlock()
	for _, g := range groups {
		s.wind(g)
	}
	for _, g := range groups {
		select {
		case <-g.done:
		case <-ctx.Done():
		}
	}
	left := 0
	for _, g := range groups {
		left += len(s.of(g))
		g.cancel()
	}
	for _, g := range groups {
		<-g.done
	}
	if left > 0 {
		return fmt.Errorf("thrift: %d connections cut while they had calls under way: %w", left, context.Cause(ctx))
	}
	return nil
}

// wind closes a group's listener and wakes its idle connections, so that they end.
func (s *Server) wind(g *group) {
	if g.stopping.Swap(true) {
		return
	}
	close(g.stop)
	s.closeListener(g)
	for _, c := range s.of(g) {
		if c.idle.Load() {
			c.net.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection needs no waking
		}
	}
}

// cut closes a group's listener and connections at once.
func (s *Server) cut(g *group) {
	s.closeListener(g)
	for _, c := range s.of(g) {
		c.net.Close()
	}
}

func (s *Server) closeListener(g *group) {
	if err := g.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("thrift: closing a listener failed", zap.Error(err))
	}
}

// of are the connections of a group.
func (s *Server) of(g *group) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cs []*conn
	for c := range s.conns {
		if c.group == g {
			cs = append(cs, c)
		}
	}
	return cs
}
