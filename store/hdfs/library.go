package hdfs

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// A library is one client of the library with what belongs to it.
type library struct {
	*hdfs.Client
	bridge *bridge
	conns  *connSet
}

// library makes a client of the library whose calls end with ctx.
func (c *Cluster) library(ctx context.Context) (*library, error) {
	b := &bridge{}
	b.use(ctx, c.nn)
	set := &connSet{conns: map[*timedConn]struct{}{}}
	client, err := hdfs.NewClient(hdfs.ClientOptions{
		Addresses:        c.o.NameNodes[:1], // the bridge knows the others
		User:             c.o.User,
		NamenodeDialFunc: func(context.Context, string, string) (net.Conn, error) { return b, nil },
		DatanodeDialFunc: func(ctx context.Context, _, addr string) (net.Conn, error) {
			conn, err := c.d.dataNode(ctx, addr, c.o.ConnectTimeout)
			if err != nil {
				return nil, err
			}
			return set.add(conn, c.o.RPCTimeout)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a reader: %w", err)
	}
	return &library{client, b, set}, nil
}

// Close ends the client and its connections, also such as the library forgot.
func (l *library) Close() {
	l.conns.close()
	l.Client.Close() //nolint:errcheck // a bridge has nothing to say
}

// A connSet is the connections of one client of the library to DataNodes.
type connSet struct {
	mu     sync.Mutex
	closed bool
	conns  map[*timedConn]struct{}
}

func (s *connSet) add(conn net.Conn, limit time.Duration) (net.Conn, error) {
	t := &timedConn{Conn: conn, limit: limit, set: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, os.ErrClosed
	}
	s.conns[t] = struct{}{}
	return t, nil
}

func (s *connSet) close() {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for t := range conns {
		t.Conn.Close()
	}
}

// A timedConn bounds each Read and Write, and closes at the first error: what
// came late would be read as the answer to something else.
type timedConn struct {
	net.Conn
	limit time.Duration
	set   *connSet
}

func (t *timedConn) Read(p []byte) (int, error) {
	err := t.Conn.SetReadDeadline(time.Now().Add(t.limit))
	n := 0
	if err == nil {
		n, err = t.Conn.Read(p)
	}
	if err != nil {
		t.end()
	}
	return n, err
}

func (t *timedConn) Write(p []byte) (int, error) {
	err := t.Conn.SetWriteDeadline(time.Now().Add(t.limit))
	n := 0
	if err == nil {
		n, err = t.Conn.Write(p)
	}
	if err != nil {
		t.end()
	}
	return n, err
}

// SetDeadline does nothing: the limit of each operation is the deadline.
func (t *timedConn) SetDeadline(time.Time) error { return nil }

// Close implements net.Conn.
func (t *timedConn) Close() error {
	t.end()
	return nil
}

func (t *timedConn) end() {
	t.set.mu.Lock()
	delete(t.set.conns, t)
	t.set.mu.Unlock()
	t.Conn.Close()
}
