// Package loadgen is the load generator behind `twinscribe bench`: a number of
// connections, each with one Log call outstanding, made of frames that are
// encoded once, so that the generator costs as little as it can. Every answer
// is checked.
//
// It leaves to others: remembering which message became what (it sends the
// same ones again and again) and printing.
package loadgen

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Options of a run. All have to be set.
type Options struct {
	Addr        string
	Connections int
	Batch       int           // messages a call
	Size        int           // bytes a message
	Category    string        // with Categories above 1 a number is added
	Categories  int           // the messages of a call go round them
	Duration    time.Duration // how long calls are begun
	Calls       int           // of each connection at most; 0: no limit but Duration
	Rate        float64       // messages a second, all connections together; 0: as fast as answers come
	Timeout     time.Duration // for one answer
}

// Result of a run.
type Result struct {
	Elapsed       time.Duration
	Calls         int64 // answered OK
	Messages      int64 // in them
	Bytes         int64 // of message in them
	TryLater      int64 // calls
	Errors        int64 // connections that ended by an error
	FirstError    error
	P50, P99, Max time.Duration // of all answers, refusals too
}

// Limits of Options.
const (
	maxConnections = 100_000
	maxFrame       = 256 << 20 // the largest that a server can be set to take
)

// Check says what is wrong with the options.
func (o Options) Check() error {
	switch {
	case o.Connections < 1 || o.Batch < 1 || o.Size < 1 || o.Categories < 1:
		return errors.New("connections, batch, size and categories have to be at least 1")
	case o.Connections > maxConnections:
		return fmt.Errorf("%d connections: want %d at most", o.Connections, maxConnections)
	case o.Batch > maxFrame/o.entry():
		return fmt.Errorf("a call of %d messages of %d bytes: want less than %d bytes in all", o.Batch, o.Size, maxFrame)
	case o.Duration <= 0 || o.Timeout <= 0:
		return errors.New("duration and timeout have to be more than 0")
	case o.Calls < 0 || o.Rate < 0:
		return errors.New("calls and rate cannot be less than 0")
	}
	return nil
}

// entry is how many bytes a message takes in a frame, at most.
func (o Options) entry() int { return o.Size + len(o.Category) + 32 }

// Run drives the load until Duration or ctx ends. It fails only if no
// connection could be made, or for options that Check does not like.
func Run(ctx context.Context, o Options) (Result, error) {
	if err := o.Check(); err != nil {
		return Result{}, err
	}
	workers := make([]worker, o.Connections)
	connect(ctx, o, workers)
	ctx, cancel := context.WithTimeout(ctx, o.Duration)
	defer cancel()
	var wg sync.WaitGroup
	start := time.Now()
	for i := range workers {
		if workers[i].conn != nil {
			wg.Go(func() { workers[i].run(ctx) })
		}
	}
	wg.Wait()
	return sum(workers, time.Since(start))
}

// atOnce is how many connections are made at the same time: more than a
// listener's backlog holds would wait for a second.
const atOnce = 128

// connect makes the workers and their connections. What takes the time of a
// run is the calls.
func connect(ctx context.Context, o Options, workers []worker) {
	d := net.Dialer{Timeout: o.Timeout}
	turn := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range workers {
		w := &workers[i]
		turn <- struct{}{}
		wg.Go(func() {
			w.o, w.frame = o, encode(o, i)
			w.conn, w.err = d.DialContext(ctx, "tcp", o.Addr)
			<-turn
		})
	}
	wg.Wait()
}

type worker struct {
	o                      Options
	frame                  []byte
	calls, later, messages int64
	times                  []time.Duration
	err                    error
	conn                   net.Conn // nil: it was not made
}

// seqAt is where the sequence id of the call stands in a frame: behind the
// length, the version, and the name "Log" with its length.
const seqAt = 4 + 4 + 4 + 3

func encode(o Options, conn int) []byte {
	b := append(make([]byte, 4, 64+o.Batch*o.entry()), 0x80, 1, 0, 1, 0, 0, 0, 3, 'L', 'o', 'g')
	b = append(b, 0, 0, 0, 0, 15, 0, 1, 12)
	b = binary.BigEndian.AppendUint32(b, uint32(o.Batch))
	message := make([]byte, o.Size)
	for i := range message {
		message[i] = byte('a' + i%26)
	}
	message[o.Size-1] = '\n'
	for i := range o.Batch {
		category := o.Category
		if o.Categories > 1 {
			category = fmt.Sprintf("%s%d", o.Category, (conn+i)%o.Categories)
		}
		b = append(b, 11, 0, 1)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(category))), category...)
		b = append(b, 11, 0, 2)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(message))), message...)
		b = append(b, 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (w *worker) run(ctx context.Context) {
	c := w.conn
	defer c.Close()
	r := bufio.NewReaderSize(c, 512)
	var pace *time.Ticker
	if w.o.Rate > 0 {
		every := time.Duration(float64(w.o.Batch*w.o.Connections) / w.o.Rate * float64(time.Second))
		pace = time.NewTicker(max(every, time.Microsecond))
		defer pace.Stop()
	}
	for n := uint32(1); ctx.Err() == nil && (w.o.Calls == 0 || int(n) <= w.o.Calls); n++ {
		if pace != nil {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
		}
		if w.err = w.call(c, r, n); w.err != nil {
			return
		}
	}
}

func (w *worker) call(c net.Conn, r io.Reader, n uint32) error {
	binary.BigEndian.PutUint32(w.frame[seqAt:], n)
	start := time.Now()
	if err := c.SetDeadline(start.Add(w.o.Timeout)); err != nil {
		return err
	}
	if _, err := c.Write(w.frame); err != nil {
		return err
	}
	var a [24]byte
	if _, err := io.ReadFull(r, a[:]); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	// length 20, name "Log" with its length, reply, sequence id, field 0 i32, result, stop
	if string(a[:12]) != "\x00\x00\x00\x14\x00\x00\x00\x03Log\x02" || binary.BigEndian.Uint32(a[12:]) != n ||
		string(a[16:19]) != "\x08\x00\x00" || a[23] != 0 {
		return fmt.Errorf("wrong answer %x", a)
	}
	w.times = append(w.times, time.Since(start))
	switch result := binary.BigEndian.Uint32(a[19:]); result {
	case 0:
		w.calls++
		w.messages += int64(w.o.Batch)
	case 1:
		w.later++
	default:
		return fmt.Errorf("wrong answer: result %d", result)
	}
	return nil
}

func sum(workers []worker, took time.Duration) (Result, error) {
	r := Result{Elapsed: took}
	var times []time.Duration
	connected := false
	for i := range workers {
		w := &workers[i]
		connected = connected || w.conn != nil
		r.Calls += w.calls
		r.TryLater += w.later
		r.Messages += w.messages
		times = append(times, w.times...)
		if w.err != nil {
			if r.Errors++; r.FirstError == nil {
				r.FirstError = w.err
			}
		}
	}
	if !connected {
		return r, r.FirstError
	}
	r.Bytes = r.Messages * int64(workers[0].o.Size)
	slices.Sort(times)
	if n := len(times); n > 0 {
		r.P50, r.P99, r.Max = times[n/2], times[n*99/100], times[n-1]
	}
	return r, nil
}
