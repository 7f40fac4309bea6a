package client

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"twinscribe/thrift"
)

var one = []thrift.Entry{{Category: []byte("c"), Message: []byte("m")}}

// fleet is a number of servers behind pipes, each of which answers a frame as
// its script says; a server without a script refuses connections.
type fleet struct {
	t       *testing.T
	mu      sync.Mutex
	scripts map[string]func(n int, frame []byte) []byte // nil answer: the connection is closed
	frames  map[string][][]byte
	tried   []string // the addresses that were dialled, in order
	times   []time.Duration
	began   time.Time
	conns   sync.WaitGroup
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, scripts: map[string]func(int, []byte) []byte{}, frames: map[string][][]byte{}, began: time.Now()}
	t.Cleanup(f.conns.Wait)
	return f
}

func (f *fleet) dial(_ context.Context, addr string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried = append(f.tried, addr)
	if f.scripts[addr] == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	f.conns.Go(func() { f.serve(addr, there) })
	return here, nil
}

func (f *fleet) serve(addr string, c net.Conn) {
	defer c.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		f.mu.Lock()
		f.frames[addr] = append(f.frames[addr], frame)
		f.times = append(f.times, time.Since(f.began))
		n, script := len(f.frames[addr]), f.scripts[addr]
		f.mu.Unlock()
		answer := script(n, frame)
		if answer == nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// seqOf is the sequence id of a Log call in the old form, result its answer.
func seqOf(frame []byte) []byte { return frame[8:12] }

func result(frame []byte, r byte) []byte {
	return slices.Concat([]byte("\x00\x00\x00\x14\x00\x00\x00\x03Log\x02"), seqOf(frame), []byte{8, 0, 0, 0, 0, 0, r, 0})
}

func ok(_ int, frame []byte) []byte    { return result(frame, 0) }
func later(_ int, frame []byte) []byte { return result(frame, 1) }

func (f *fleet) client(o Options) *Client {
	o.Dial = f.dial
	o.InOrder = true
	c, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}
