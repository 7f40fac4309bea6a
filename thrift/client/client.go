// Package client sends log messages to aggregators over Scribe's interface, and
// asks them the questions of fb303.
//
//	c, err := client.New(client.Options{Addrs: []string{"ag1:1463", "ag2:1463"}})
//	...
//	err = c.Log(ctx, []thrift.Entry{{Category: []byte("web"), Message: line}})
//
// It leaves to others: keeping messages that no aggregator takes. Log returns
// when they are acknowledged or its context ends, and they are the caller's
// until then.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"twinscribe/thrift"
)

// Options of a client. A zero field takes its default.
type Options struct {
	// Addrs are the aggregators, host:port. The client stays with one while it
	// takes calls and goes to the next when it does not.
	Addrs []string
	// InOrder begins with the first address. Otherwise the first one is drawn,
	// so that a fleet of clients with the same list spreads.
	InOrder bool

	ConnectTimeout time.Duration // 1.5 s
	CallTimeout    time.Duration // for one answer; 15 s, longer than the server's ack_timeout

	// Pauses between tries begin with BackoffMin and double up to BackoffMax;
	// each is cut by up to a half, at random. 100 ms and 5 s.
	BackoffMin, BackoffMax time.Duration

	MaxFrame int // bytes of the largest call; 16 MiB, the server's default limit

	// NoBatchIDs sends calls without a number. A call whose answer was lost may
	// then be stored twice.
	NoBatchIDs bool
	// Producer names this client in batch ids, 1 to 256 bytes, together with
	// Epoch: no two clients may ever have the same pair. Empty: a random name.
	Producer string
	Epoch    uint64

	// Dial connects to an address. Nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// ErrTooLarge is the refusal of a call that is over MaxFrame. Nothing is sent.
var ErrTooLarge = errors.New("the call is larger than a frame may be")

// ErrClosed is what the methods answer after Close.
var ErrClosed = errors.New("the client is closed")

// Client may be used by many goroutines; their calls go out one at a time. Its
// connection is made by the first call and again whenever it was lost.
type Client struct {
	o        Options
	producer string

	turn chan struct{} // holds one token; whoever took it owns what follows

	closed   bool
	at       int      // the address in use
	conn     net.Conn // nil: none
	used     bool     // conn has answered a call
	seq      int32    // of the last message
	sequence uint64   // of the last batch id
	frame    *[]byte  // the call under way; nil: there is none
}

// frames are the buffers of calls. A process may have a client for each of a
// thousand queues, of which few send at a time.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// New makes a client. It does not connect.
func New(o Options) (*Client, error) {
	if len(o.Addrs) == 0 {
		return nil, errors.New("no aggregator's address is given")
	}
	for _, a := range o.Addrs {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			return nil, fmt.Errorf("address %q: want host:port", a)
		}
	}
	if len(o.Producer) > maxProducer {
		return nil, fmt.Errorf("the producer's name has %d bytes, at most %d are taken", len(o.Producer), maxProducer)
	}
	orDefault(&o.ConnectTimeout, 1500*time.Millisecond)
	orDefault(&o.CallTimeout, 15*time.Second)
	orDefault(&o.BackoffMin, 100*time.Millisecond)
	orDefault(&o.BackoffMax, 5*time.Second)
	if o.MaxFrame <= 0 {
		o.MaxFrame = 16 << 20
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	c := &Client{o: o, producer: o.Producer, turn: make(chan struct{}, 1)}
	if c.producer == "" {
		c.producer = rand.Text()
	}
	if !o.InOrder {
		c.at = mrand.IntN(len(o.Addrs))
	}
	c.turn <- struct{}{}
	return c, nil
}

// maxProducer is what a server takes as a producer's name.
const maxProducer = 256

// keptFrame bounds a buffer that is kept for the next call.
const keptFrame = 1 << 20

func orDefault(d *time.Duration, fallback time.Duration) {
	if *d <= 0 {
		*d = fallback
	}
}

// Log sends entries as one call and returns nil when an aggregator answered OK.
// Until then it tries again: at once at the next address when a connection
// fails, after a pause when all have failed or one answered TRY_LATER, each
// time with the same batch id. It gives up when ctx ends, when the server
// answers with an exception (*thrift.Exception), and for ErrTooLarge. After any
// error the entries may have been stored all the same.
func (c *Client) Log(ctx context.Context, entries []thrift.Entry) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.end()
	if err := c.encode(entries, c.number()); err != nil {
		return err
	}
	pause, failed := c.o.BackoffMin, 0
	for {
		result, err := c.send(ctx, true)
		switch {
		case err == nil && result == thrift.OK:
			return nil
		case err == nil:
			err = fmt.Errorf("%s answers TRY_LATER", c.o.Addrs[c.at])
			failed = 0
		case permanent(err):
			return err
		default:
			failed++
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not acknowledged: %w; last: %w", context.Cause(ctx), err)
		}
		c.next()
		if failed > 0 && failed < len(c.o.Addrs) {
			continue
		}
		failed = 0
		if !wait(ctx, pause) {
			return fmt.Errorf("not acknowledged: %w; last: %w", context.Cause(ctx), err)
		}
		pause = min(2*pause, c.o.BackoffMax)
	}
}

// Call sends entries as one call, once, and returns the answer. An error means
// that there was none, and that the entries may have been stored all the same.
// The next call goes to the next address then.
func (c *Client) Call(ctx context.Context, entries []thrift.Entry) (thrift.Result, error) {
	if err := c.lock(ctx); err != nil {
		return thrift.TryLater, err
	}
	defer c.end()
	return c.once(ctx, entries, c.number())
}

// Forward is Call for whoever numbers its calls itself: with the batch id id,
// or without one for nil, whatever the options say. The same entries have to
// come with the same id whenever they are sent.
func (c *Client) Forward(ctx context.Context, entries []thrift.Entry, id *thrift.BatchID) (thrift.Result, error) {
	if err := c.lock(ctx); err != nil {
		return thrift.TryLater, err
	}
	defer c.end()
	return c.once(ctx, entries, id)
}

// once sends a call to the address in use. A call that went into a connection
// that was closed meanwhile is sent once more, if that can do no harm: a server
// that has it already knows it by its id, or there is nothing in it.
func (c *Client) once(ctx context.Context, entries []thrift.Entry, id *thrift.BatchID) (thrift.Result, error) {
	if err := c.encode(entries, id); err != nil {
		return thrift.TryLater, err
	}
	result, err := c.send(ctx, id != nil || len(entries) == 0)
	if err != nil {
		if !permanent(err) {
			c.next()
		}
		return thrift.TryLater, err
	}
	return result, nil
}

// Close closes the connection. It waits for the call under way, whose context
// ends it sooner.
func (c *Client) Close() error {
	<-c.turn
	defer c.end()
	c.closed = true
	c.drop()
	return nil
}

// number is the batch id of the next call; nil if calls have none.
func (c *Client) number() *thrift.BatchID {
	if c.o.NoBatchIDs {
		return nil
	}
	c.sequence++
	return &thrift.BatchID{Producer: c.producer, Epoch: c.o.Epoch, Sequence: c.sequence}
}

// encode makes the frame of a call.
func (c *Client) encode(entries []thrift.Entry, id *thrift.BatchID) error {
	c.seq++
	if c.frame == nil {
		c.frame = frames.Get().(*[]byte)
	}
	*c.frame = thrift.AppendLog((*c.frame)[:0], c.seq, entries, id)
	if size := len(*c.frame) - 4; size > c.o.MaxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, c.o.MaxFrame)
	}
	return nil
}

// lock waits for the client's turn. end gives it back.
func (c *Client) lock(ctx context.Context) error {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return fmt.Errorf("not sent: %w", context.Cause(ctx))
	}
	if c.closed {
		c.end()
		return ErrClosed
	}
	return nil
}

func (c *Client) end() {
	if c.frame != nil && cap(*c.frame) <= keptFrame {
		frames.Put(c.frame)
	}
	c.frame = nil
	c.turn <- struct{}{}
}

// next goes to the next address.
func (c *Client) next() {
	if len(c.o.Addrs) > 1 {
		c.drop()
		c.at = (c.at + 1) % len(c.o.Addrs)
	}
}

// permanent says whether an error stays however often the call is sent.
func permanent(err error) bool {
	_, exception := errors.AsType[*thrift.Exception](err)
	return exception
}

// wait waits between a half and all of d. It says false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d - mrand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
