package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/thrift/client"
)

// The rhythm of probes and of the way back. A server costs little to come back
// to: a batch that it does not take is sent elsewhere whole. What is waited for
// is therefore short beside that of a cluster, and never as long as the time
// after which Scribe retries.
const (
	probeEvery   = 10 * time.Second // at most, without traffic that is answered OK
	sickEvery    = time.Second      // at most, on the way back
	probeTimeout = 2 * time.Second  // until a probe counts as missed
	answerWithin = 1500 * time.Millisecond
	holdOff      = time.Second      // the run of good probes after the first fall
	holdMost     = 15 * time.Second // what it grows to while the servers come and go
)

// silent is how long a call must have waited before its end at the caller's
// deadline is held against the server.
const silent = 500 * time.Millisecond

// Remote is the servers of one Spec: equals, of which any may take a call. It
// belongs to a Pool; all chains of the Spec share it.
type Remote struct {
	pool    *Pool
	spec    Spec
	name    string
	servers []*server
	health  *cluster.Health
	shared  *conn // nil: each chain has its own

	born  time.Time
	acked atomic.Int64 // nanoseconds from born to the last OK; 0: none yet

	chains int // guarded by Pool.mu
}

func newRemote(p *Pool, spec Spec) *Remote {
	r := &Remote{pool: p, spec: spec, name: spec.name(), born: time.Now()}
	for _, a := range spec.Servers {
		r.servers = append(r.servers, &server{addr: a})
	}
	r.health = cluster.NewHealth(r.name, cluster.HealthOptions{
		Every: probeEvery, BlockEvery: probeEvery, SickEvery: sickEvery, ProbeTimeout: probeTimeout,
		HoldOff: holdOff, HoldMax: holdMost,
		What: "remote", Log: p.o.Log,
	})
	if spec.Shared {
		r.shared = newConn(r)
	}
	return r
}

// acknowledged notes that a server answered OK to real traffic.
func (r *Remote) acknowledged() {
	r.acked.Store(int64(time.Since(r.born)))
	r.health.Acknowledged()
}

// busy says that the remote is healthy and real traffic has proven it lately.
func (r *Remote) busy() bool {
	acked := r.acked.Load()
	return acked > 0 && time.Since(r.born)-time.Duration(acked) < probeEvery && r.health.State() == cluster.Healthy
}

// Ping implements cluster.Prober: one of the servers at least takes a
// connection and answers an empty Log on it. TRY_LATER is an answer. While real
// traffic is answered only those are asked that did not answer last: a central
// server has a thousand others that would probe it too.
func (r *Remote) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	busy := r.busy()
	errs := make([]error, len(r.servers))
	var wg sync.WaitGroup
	for i, s := range r.servers {
		if !busy || s.sick.Load() {
			wg.Go(func() { errs[i] = r.probe(ctx, s) })
		}
	}
	wg.Wait()
	var texts []string
	for _, err := range errs {
		if err == nil {
			return nil
		}
		texts = append(texts, err.Error())
	}
	if len(errs) == 1 {
		return errs[0]
	}
	const told = 3
	if more := len(texts) - told; more > 0 {
		texts = append(texts[:told], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("none of the servers answers: %w (%s)", errs[0], strings.Join(texts[1:], "; "))
}

// ProbeBlock implements cluster.Prober. An empty call is all that can be proved
// without leaving a message.
func (r *Remote) ProbeBlock(ctx context.Context) error { return r.Ping(ctx) }

// probe asks one server for a sign of life, on a connection of its own.
func (r *Remote) probe(ctx context.Context, s *server) error {
	c, err := client.New(r.clientOptions(s.addr, r.pool.o.Dial))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Forward(ctx, nil, nil)
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		s.sick.Store(err != nil)
	}
	return err
}

func (r *Remote) clientOptions(addr string, dial func(context.Context, string) (net.Conn, error)) client.Options {
	return client.Options{
		Addrs: []string{addr}, ConnectTimeout: r.spec.Timeout, CallTimeout: r.spec.Timeout,
		MaxFrame: r.spec.MaxFrame, NoBatchIDs: true, Dial: dial,
	}
}

// failed notes that a server gave no answer to a call begun at began. Who was
// cut short by its caller had no time to answer.
func (r *Remote) failed(ctx context.Context, s *server, began time.Time, err error) {
	if end := ctx.Err(); end != nil && (errors.Is(end, context.Canceled) || time.Since(began) < silent) {
		return
	}
	s.sick.Store(true)
	for _, other := range r.servers {
		if !other.sick.Load() {
			return
		}
	}
	r.health.Failed(err)
}

// held is why nothing is sent now; nil: it may be.
func (r *Remote) held() error {
	if r.health.MayBegin() {
		return nil
	}
	s := r.health.Status()
	state := s.State.String()
	if s.Drained {
		state = "drained"
	}
	if s.LastError == nil {
		return fmt.Errorf("%w: %s", cluster.ErrHeld, state)
	}
	return fmt.Errorf("%w: %s, last error: %v", cluster.ErrHeld, state, s.LastError)
}

// wrap names the servers in an error, and says what operators of Scribe look
// for where there is no connection.
func (r *Remote) wrap(err error) error {
	var unconnected *dialError
	if !r.spec.IgnoreErrors && (errors.As(err, &unconnected) || errors.Is(err, cluster.ErrHeld)) {
		return fmt.Errorf("network: %s: Failed to connect: %w", r.name, err)
	}
	return fmt.Errorf("network: %s: %w", r.name, err)
}

// dialError marks a connection that was not made: nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }
