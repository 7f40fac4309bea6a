package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"twinscribe/store"
	"twinscribe/store/cluster"
	"twinscribe/thrift"
	"twinscribe/thrift/client"
)

const (
	// checkAbove is Scribe's: a call of more message bytes is not sent into the
	// unknown, an empty one goes before it. Scribe does so before every such
	// call; here only where the last answer on this connection was not OK.
	checkAbove = 4096

	// idleAfter is how long after an answer a call without an id is preceded by
	// an empty one, however small it is: the server may have closed the
	// connection meanwhile, and a call that went into that cannot be repeated.
	idleAfter = time.Second
)

// conn is one connection, to one of a remote's servers at a time, and the turn
// to use it.
type conn struct {
	r    *Remote
	turn chan struct{} // holds one token; whoever took it owns what follows

	at     int            // the server in use
	client *client.Client // of that server; nil: none yet
	proven bool           // the last answer on the present connection was OK
	last   time.Time      // when it came
	closed bool
}

func newConn(r *Remote) *conn {
	c := &conn{r: r, turn: make(chan struct{}, 1), at: rand.IntN(len(r.servers))}
	c.turn <- struct{}{}
	return c
}

// send sends a batch, call by call, and says how many of its messages were
// taken.
func (c *conn) send(ctx context.Context, b *store.Batch) (taken int, err error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: the connection was in use: %w", cluster.ErrNotTried, context.Cause(ctx))
	}
	defer func() { c.turn <- struct{}{} }()
	// Whoever had the turn may have found out that nobody is there.
	if err := c.r.held(); err != nil {
		return 0, err
	}
	if c.closed {
		return 0, store.ErrBroken
	}
	if c.r.servers[c.at].sick.Load() {
		c.next()
	}
	k := c.r.newCutter(b)
	defer k.end()
	for taken < b.Len() {
		p, err := k.cut(taken)
		if err != nil {
			return taken, err
		}
		if err := c.deliver(ctx, p); err != nil {
			return taken, err
		}
		taken += len(p.entries)
		c.r.pool.sent.Add(int64(len(p.entries)))
	}
	return taken, nil
}

// deliver has one of the servers take a piece. The next one is asked where the
// one before took nothing of it for certain, or a second copy is recognised.
// Where one of them asks for a pause and the others are away, so does deliver.
func (c *conn) deliver(ctx context.Context, p piece) error {
	var later error
	for asked := 1; ; asked++ {
		unsent, err := c.attempt(ctx, p)
		if err == nil || len(c.r.servers) == 1 || ctx.Err() != nil {
			return err
		}
		more := c.next()
		if !unsent && p.id == nil {
			return err
		}
		if errors.Is(err, store.ErrLater) {
			later = err
		}
		if more && asked < len(c.r.servers) {
			continue
		}
		if later != nil {
			return later
		}
		return err
	}
}

// attempt sends a piece to the server in use. unsent: it has no message of it
// for certain.
func (c *conn) attempt(ctx context.Context, p piece) (unsent bool, err error) {
	s := c.r.servers[c.at]
	if c.check(p) {
		s.checks.Add(1)
		if err := c.call(ctx, s, nil, nil); err != nil {
			return true, err
		}
	}
	s.tries.Add(1)
	began := time.Now()
	err = c.call(ctx, s, p.entries, p.id)
	var unconnected *dialError
	switch {
	case err == nil:
		s.answered(len(p.entries), time.Since(began))
		c.r.acknowledged()
		return false, nil
	case errors.Is(err, store.ErrLater):
		return true, err
	default:
		s.failed.Add(1)
		return errors.As(err, &unconnected), err
	}
}

// check says whether an empty call goes before a piece.
func (c *conn) check(p piece) bool {
	if !c.proven {
		return p.bytes > checkAbove
	}
	return p.id == nil && time.Since(c.last) >= idleAfter
}

// call makes one call. nil means OK; TRY_LATER is store.ErrLater, and the
// connection stays. After any other error the connection is closed.
func (c *conn) call(ctx context.Context, s *server, entries []thrift.Entry, id *thrift.BatchID) error {
	c.proven = false
	began := time.Now()
	if err := c.use(s); err != nil {
		return err
	}
	result, err := c.client.Forward(ctx, entries, id)
	switch {
	case err != nil:
		c.r.failed(ctx, s, began, err)
		return err
	case result != thrift.OK:
		s.later.Add(1)
		s.sick.Store(false)
		return fmt.Errorf("%s answers TRY_LATER: %w", s.addr, store.ErrLater)
	}
	s.sick.Store(false)
	c.proven, c.last = true, time.Now()
	return nil
}

// use sees to it that there is a client of the server in use.
func (c *conn) use(s *server) (err error) {
	if c.client != nil {
		return nil
	}
	c.client, err = client.New(c.r.clientOptions(s.addr, func(ctx context.Context, addr string) (net.Conn, error) {
		s.connects.Add(1)
		nc, err := c.r.pool.o.Dial(ctx, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		return nc, nil
	}))
	return err
}

// next goes to the next server that is not known to be sick, and says whether
// there is one. It leaves the one in use either way.
func (c *conn) next() bool {
	n := len(c.r.servers)
	if n > 1 {
		c.drop()
	}
	for i := 1; i < n; i++ {
		if at := (c.at + i) % n; !c.r.servers[at].sick.Load() {
			c.at = at
			return true
		}
	}
	return false
}

// drop closes the connection.
func (c *conn) drop() {
	if c.client != nil {
		c.client.Close()
		c.client = nil
	}
	c.proven = false
}

// rest closes the connection until the next send. It does not wait: only the
// chain that the connection belongs to calls it.
func (c *conn) rest() {
	<-c.turn
	c.drop()
	c.turn <- struct{}{}
}

// close ends the connection for good, after the call under way.
func (c *conn) close() {
	<-c.turn
	c.closed = true
	c.drop()
	c.turn <- struct{}{}
}
