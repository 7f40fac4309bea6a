// Package network forwards batches to another server: one of ours, or an
// original Scribe. It is a store.Place, Scribe's network store.
//
//	pool := network.NewPool(network.Options{Identity: start, Log: log})
//	go pool.Run(ctx) // probes the servers until ctx ends
//	place, err := pool.Chain(network.Spec{Servers: []string{"ag1:1463"}, BatchIDs: true}, "central")
//
// A batch goes out as one Log call after another, in the old form of the
// protocol, of MaxFrame bytes and 16,384 entries at most each. nil means that
// the server answered OK to all of them, and is worth what its OK is worth:
// with ack stored there the messages are stored, with an original they are in
// its memory. Each message is sent as Batch.Message gives it. So that it is the
// message as it came, batches for here have one line feed more than the message
// also where that ends with one of its own.
//
// With BatchIDs each call carries a batch id made of what never changes for
// these messages: as producer the aggregator, the start and the chain that
// numbered them, the start's epoch, and as sequence that of the first message
// of the call. The calls of a batch are cut by sizes alone, from its first
// message on, so a batch that is sent again, or what is left of it, goes out as
// the same calls with the same ids, also after a crash: whoever reads the
// receiving side takes each message once. Another MaxFrame cuts other calls,
// therefore it stays the same while something waits to be sent again. A server
// that does not know batch ids, an original Scribe, skips them as it skips
// every field that it does not know, and stores a message twice if its OK was
// lost. A batch that was given up, so that its clients send again, comes back as
// other messages with other ids. The ids that clients gave their own calls (Batch.IDs) end here: they
// count calls of the client, of which a batch holds pieces of many, and cannot
// be told on a call of another shape. A client's own retry is therefore
// recognised by the server that it sends to, not by the one behind it.
//
// It leaves to others: what becomes of a batch that was not taken (store, and
// the buffer), the wire (thrift, thrift/client).
package network

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

// Spec is where batches go, and how. Zero fields take the defaults named here.
type Spec struct {
	// Servers are host:port, 1 to 256. Of several one is drawn for each
	// connection, and the next one is asked when it does not take a call: they
	// are equals, whose data is read together.
	Servers []string

	// Timeout is how long a connection may take, and one call with its answer;
	// 5 s. A server that stores before it answers needs less for that.
	Timeout time.Duration

	Shared       bool // all chains of this Spec use one connection, in turn; otherwise each has its own
	IgnoreErrors bool // leave "Failed to connect", which operators look for, out of errors
	BatchIDs     bool // number the calls, so that a repeated one is recognised
	MaxFrame     int  // bytes of the largest call; 16 MiB, what our servers take by default
}

const (
	maxServers     = 256
	defaultTimeout = 5 * time.Second
	defaultFrame   = 16 << 20
)

func (s Spec) withDefaults() (Spec, error) {
	if len(s.Servers) == 0 || len(s.Servers) > maxServers {
		return s, fmt.Errorf("network: %d servers, want 1 to %d", len(s.Servers), maxServers)
	}
	s.Servers = slices.Clone(s.Servers)
	for i, a := range s.Servers {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			return s, fmt.Errorf("network: server %q: want host:port", a)
		}
		if slices.Contains(s.Servers[:i], a) {
			return s, fmt.Errorf("network: server %q stands twice in the list", a)
		}
	}
	if s.Timeout <= 0 {
		s.Timeout = defaultTimeout
	}
	if s.MaxFrame <= 0 {
		s.MaxFrame = defaultFrame
	}
	return s, nil
}

// key tells remotes apart.
func (s Spec) key() string { return fmt.Sprintf("%+v", s) }

// name is how errors and the log call the servers.
func (s Spec) name() string {
	if len(s.Servers) > 3 {
		return fmt.Sprintf("%s and %d more", s.Servers[0], len(s.Servers)-1)
	}
	return strings.Join(s.Servers, ", ")
}

// Options of NewPool.
type Options struct {
	Identity catalog.Identity // of this start: what batch ids are made of

	// Dial connects to an address. Nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	Log *zap.Logger
}

// Pool has what all chains of a process share: for each Spec one Remote with
// its connections, health and figures, as long as a chain uses it. Its methods
// may be called by many goroutines.
type Pool struct {
	o       Options
	sent    atomic.Int64
	changed chan struct{} // of one slot: remotes came or went

	mu      sync.Mutex
	remotes map[string]*Remote
	gone    map[string]ServerFigures // of remotes that are no more, by address
}

// NewPool makes a pool. Nothing is connected before a chain sends.
func NewPool(o Options) *Pool {
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	return &Pool{o: o, changed: make(chan struct{}, 1), remotes: make(map[string]*Remote), gone: make(map[string]ServerFigures)}
}

// Chain makes the place of one chain. place is what the books call it. Its
// Close gives the Remote back.
func (p *Pool) Chain(spec Spec, place string) (*Store, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.remotes[spec.key()]
	if r == nil {
		r = newRemote(p, spec)
		p.remotes[spec.key()] = r
		p.tell()
	}
	r.chains++
	s := &Store{remote: r, place: place, conn: r.shared}
	if !spec.Shared {
		s.conn = newConn(r)
	}
	return s, nil
}

// release takes back what Chain gave. The last chain of a remote ends it.
func (p *Pool) release(r *Remote) {
	p.mu.Lock()
	r.chains--
	last := r.chains == 0
	if last {
		delete(p.remotes, r.spec.key())
		for _, s := range r.servers {
			past := p.gone[s.addr]
			past.add(s.figures())
			past.Sick = false // nobody looks any more
			p.gone[s.addr] = past
		}
		p.tell()
	}
	p.mu.Unlock()
	if last && r.shared != nil {
		r.shared.close()
	}
}

func (p *Pool) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// list is the remotes in use, by name.
func (p *Pool) list() []*Remote {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*Remote, 0, len(p.remotes))
	for _, r := range p.remotes {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Remote) int { return strings.Compare(a.spec.key(), b.spec.key()) })
	return all
}

// Run probes the servers of every remote, those that come later too, until ctx
// ends, and waits for its probes. Without it a remote that has failed once is
// never asked again: it runs until the last chain is closed.
func (p *Pool) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	probed := map[*Remote]context.CancelFunc{}
	defer func() {
		for _, stop := range probed {
			stop()
		}
	}()
	for {
		now := p.list()
		for _, r := range now {
			if probed[r] == nil {
				own, stop := context.WithCancel(ctx)
				probed[r] = stop
				wg.Go(func() { r.health.Run(own, r) })
			}
		}
		for r, stop := range probed {
			if !slices.Contains(now, r) {
				stop()
				delete(probed, r)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
	}
}

// Sent is how many messages servers have answered OK for since the pool was
// made: Scribe's counter "sent".
func (p *Pool) Sent() int64 { return p.sent.Load() }

// Figures are the figures of all remotes in use.
func (p *Pool) Figures() []Figures {
	var all []Figures
	for _, r := range p.list() {
		all = append(all, r.figures())
	}
	return all
}

// Servers are the figures of every address since the start, whichever remotes
// have used it, in order of the addresses. None of the counts ever falls.
func (p *Pool) Servers() []ServerFigures {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(p.gone)
	for _, r := range p.remotes {
		for _, s := range r.servers {
			sum := all[s.addr]
			sum.add(s.figures())
			all[s.addr] = sum
		}
	}
	list := make([]ServerFigures, 0, len(all))
	for addr, f := range all {
		f.Addr = addr
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b ServerFigures) int { return strings.Compare(a.Addr, b.Addr) })
	return list
}

var _ store.Place = (*Store)(nil)
