package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

// Store is the place of one chain behind a Remote.
//
// Append sends a batch in pieces and gives back what was not answered OK; that
// part may have arrived all the same, unless the error is store.ErrLater or
// cluster.ErrHeld. TRY_LATER is no failure: it holds this chain off for a
// second, doubling up to half a minute while it comes again, and other chains
// may try. While the remote is suspect, down or drained nothing is sent; the
// first good probe ends that, however long a retry policy above would wait.
type Store struct {
	remote *Remote
	place  string
	conn   *conn
	pause  pause
	closed bool
}

// Health is that of the servers, for a failover.
func (s *Store) Health() *cluster.Health { return s.remote.health }

// Append implements store.Store.
func (s *Store) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	switch {
	case s.closed:
		return b, s.remote.wrap(fmt.Errorf("closed: %w", store.ErrBroken))
	case ctx.Err() != nil:
		return b, s.remote.wrap(ctx.Err())
	case b.Len() == 0:
		return nil, nil
	}
	if left := time.Until(s.pause.until); left > 0 {
		return b, s.remote.wrap(fmt.Errorf("%w: held off for %v more", store.ErrLater, left.Round(time.Millisecond)))
	}
	taken, err := s.conn.send(ctx, b)
	if taken > 0 {
		b.Taken = append(b.Taken, store.Taken{Place: s.place, Messages: taken})
		s.pause.end()
	}
	if err == nil {
		return nil, nil
	}
	if errors.Is(err, store.ErrLater) {
		s.pause.begin()
	}
	return b.After(taken), s.remote.wrap(err)
}

// Tick implements store.Store: there is nothing that becomes due.
func (s *Store) Tick(context.Context, time.Time) error { return nil }

// Close implements store.Store. What Append took is the server's.
func (s *Store) Close(context.Context) error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.conn != s.remote.shared {
		s.conn.close()
	}
	s.remote.pool.release(s.remote)
	return nil
}

// Warm implements store.Place: whether the next Append would send.
func (s *Store) Warm(catalog.Partition) bool {
	return time.Until(s.pause.until) <= 0 && s.remote.health.MayBegin()
}

// Rest implements store.Place: a connection of the chain's own is closed.
func (s *Store) Rest() {
	if !s.closed && s.conn != s.remote.shared {
		s.conn.rest()
	}
}

// A pause is how long a server that answered TRY_LATER is left alone.
type pause struct {
	until time.Time
	last  time.Duration
}

const (
	firstPause = time.Second
	mostPause  = 30 * time.Second
)

// begin begins the next pause, up to a quarter shorter than meant: chains that
// were refused together do not come back together.
func (p *pause) begin() {
	p.last = min(max(2*p.last, firstPause), mostPause)
	p.until = time.Now().Add(p.last - rand.N(p.last/4))
}

func (p *pause) end() { *p = pause{} }
