package lab

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// An AckProxy stands in front of a DataNode's data port. It passes every packet on, and every
// answer; but from a chosen moment on it keeps the acknowledgements of written packets to
// itself. It is what a network does that loses one direction.
type AckProxy struct {
	ln      net.Listener
	to      string
	left    atomic.Int64 // acknowledgements that still pass; negative: all
	Passed  atomic.Int64
	Dropped atomic.Int64
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
}

// StartAckProxy listens on one address and forwards to another. All acknowledgements pass until
// DropAfter.
func StartAckProxy(t testing.TB, listen, to string) *AckProxy {
	t.Helper()
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	p := &AckProxy{ln: ln, to: to, conns: map[net.Conn]struct{}{}}
	p.left.Store(-1)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

// DropAfter lets n more acknowledgements pass and keeps all others.
func (p *AckProxy) DropAfter(n int64) { p.left.Store(n) }

func (p *AckProxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		d, err := net.Dial("tcp", p.to)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[d] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.pair(c, d) })
	}
}

func (p *AckProxy) pair(client, node net.Conn) {
	defer func() {
		client.Close()
		node.Close()
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, node)
		p.mu.Unlock()
	}()
	head := make([]byte, 3) // version 28 and the operation
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	if _, err := node.Write(head); err != nil {
		return
	}
	done := make(chan struct{})
	p.wg.Go(func() {
		defer close(done)
		_, _ = io.Copy(node, client)
		_ = node.(*net.TCPConn).CloseWrite()
	})
	if head[2] == 80 { // write block
		p.answers(client, node)
	} else {
		_, _ = io.Copy(client, node)
	}
	client.Close()
	<-done
}

// answers passes the answer to the set-up on, and then the acknowledgements while they are let through.
func (p *AckProxy) answers(client, node net.Conn) {
	r := bufio.NewReader(node)
	for first := true; ; first = false {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return
		}
		m := make([]byte, n)
		if _, err := io.ReadFull(r, m); err != nil {
			return
		}
		if !first {
			left := p.left.Load()
			if left == 0 {
				p.Dropped.Add(1)
				continue
			}
			if left > 0 {
				p.left.Add(-1)
			}
			p.Passed.Add(1)
		}
		if _, err := client.Write(append(binary.AppendUvarint(nil, n), m...)); err != nil {
			return
		}
	}
}
