// Package hdfstest is a Hadoop cluster in the memory of a test: NameNodes and
// DataNodes that speak as much of the protocols as package hdfs uses, keep the
// rules that a writer must keep (offsets, checksums, lengths, generation
// stamps, leases), and can be made to do what real ones can hardly be made to
// show: lose an answer, drop acknowledgements, send garbage, hang.
//
// It leaves to others: whether Hadoop really is so. The integration tests of
// package hdfs run against real ones.
package hdfstest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
)

// Options of a cluster. Zero fields take the default said.
type Options struct {
	DataNodes   int  // default 3
	NameNodes   int  // default 1; the first is active
	Replication int  // default of files; default 3
	TCP         bool // real sockets on the loopback instead of a Net
	Forget      bool // DataNodes count bytes and do not keep them
}

// Cluster is a name space, its NameNodes and its DataNodes.
type Cluster struct {
	o    Options
	net  *Net
	nns  []*NameNode
	dns  []*DataNode
	wg   sync.WaitGroup
	done chan struct{}

	mu   sync.Mutex // all of the name space and of the replicas
	cond *sync.Cond
	ns   namespace
}

// New starts a cluster.
func New(o Options) (*Cluster, error) {
	if o.DataNodes == 0 {
		o.DataNodes = 3
	}
	if o.NameNodes == 0 {
		o.NameNodes = 1
	}
	if o.Replication == 0 {
		o.Replication = 3
	}
	c := &Cluster{o: o, net: NewNet(), done: make(chan struct{})}
	c.cond = sync.NewCond(&c.mu)
	c.ns.init()
	for i := range o.NameNodes {
		n := &NameNode{server: server{c: c, name: fmt.Sprintf("nn%d:8020", i+1)}, standby: i > 0, calls: map[string]int{}, lastDial: map[string]int{}}
		n.serve = n.conn
		if err := n.start(); err != nil {
			return nil, err
		}
		c.nns = append(c.nns, n)
	}
	for i := range o.DataNodes {
		d := &DataNode{server: server{c: c, name: fmt.Sprintf("10.0.0.%d:9866", i+1)}, index: i, replicas: map[uint64]*replica{}}
		d.serve = d.conn
		if err := d.start(); err != nil {
			return nil, err
		}
		c.dns = append(c.dns, d)
	}
	return c, nil
}

// Addrs are the NameNodes' addresses.
func (c *Cluster) Addrs() []string {
	var as []string
	for _, n := range c.nns {
		as = append(as, n.addr())
	}
	return as
}

// Dial connects to a node of the cluster.
func (c *Cluster) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if c.o.TCP {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	return c.net.Dial(ctx, network, addr)
}

// Net is the network in memory.
func (c *Cluster) Net() *Net { return c.net }

// NN is the NameNode i, from 0.
func (c *Cluster) NN(i int) *NameNode { return c.nns[i] }

// DN is the DataNode i, from 0.
func (c *Cluster) DN(i int) *DataNode { return c.dns[i] }

// Close ends all nodes and waits for their goroutines.
func (c *Cluster) Close() {
	close(c.done)
	for _, n := range c.nns {
		n.Kill()
	}
	for _, d := range c.dns {
		d.Kill()
	}
	c.wg.Wait()
}

// SafeMode enters or leaves it.
func (c *Cluster) SafeMode(on bool) {
	c.mu.Lock()
	c.ns.safe = on
	c.mu.Unlock()
}

// Activate makes NameNode i the active one and the others standby.
func (c *Cluster) Activate(i int) {
	c.mu.Lock()
	for k, n := range c.nns {
		n.standby = k != i
	}
	c.mu.Unlock()
}

// Content is what the NameNode knows of a file, read from the first replica of
// each block, and on how many DataNodes all of it lies. An error says what is
// wrong with the file.
func (c *Cluster) Content(path string) (content []byte, replicas int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.ns.files[path]
	if f == nil {
		return nil, 0, fmt.Errorf("no file %s", path)
	}
	replicas = len(c.dns)
	for i, b := range f.blocks {
		var first []byte
		n := 0
		for _, d := range c.dns {
			r := d.replicas[b.id]
			if r == nil || r.gen != b.gen || int64(len(r.data)) < b.size {
				continue
			}
			data := r.data[:b.size]
			if n++; n == 1 {
				first = data
			} else if !bytes.Equal(first, data) {
				return nil, 0, fmt.Errorf("%s: replicas of block %d differ", path, i)
			}
		}
		if n == 0 {
			return nil, 0, fmt.Errorf("%s: block %d of %d bytes is nowhere", path, i, b.size)
		}
		content, replicas = append(content, first...), min(replicas, n)
	}
	return content, replicas, nil
}

// Blocks are the sizes of a file's blocks.
func (c *Cluster) Blocks(path string) (sizes []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.ns.files[path]; f != nil {
		for _, b := range f.blocks {
			sizes = append(sizes, b.size)
		}
	}
	return sizes
}

// Paths are all files, open ones with a "*" behind.
func (c *Cluster) Paths() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps := map[string]bool{}
	for p, f := range c.ns.files {
		ps[p] = f.holder != ""
	}
	return ps
}

// A server is what NameNodes and DataNodes have in common: connections, and
// being hung, killed and started again.
type server struct {
	c     *Cluster
	name  string // address in memory
	serve func(net.Conn)

	l      net.Listener
	tcp    string // address on the loopback, once it is known
	frozen bool
	dead   bool
	conns  map[net.Conn]struct{}
	dials  int
}

// Addr is where the node listens.
func (s *server) Addr() string { return s.addr() }

func (s *server) addr() string {
	if s.c.o.TCP {
		return s.tcp
	}
	return s.name
}

func (s *server) start() (err error) {
	if s.c.o.TCP {
		at := s.tcp
		if at == "" {
			at = "127.0.0.1:0"
		}
		s.l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", at)
		if err == nil {
			s.tcp = s.l.Addr().String()
		}
	} else {
		s.l, err = s.c.net.Listen(s.name)
	}
	if err != nil {
		return err
	}
	s.c.mu.Lock()
	s.dead, s.conns = false, map[net.Conn]struct{}{}
	s.c.mu.Unlock()
	l := s.l
	s.c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.c.mu.Lock()
			if s.dead {
				s.c.mu.Unlock()
				conn.Close()
				continue
			}
			s.conns[conn] = struct{}{}
			s.dials++
			s.c.mu.Unlock()
			s.c.wg.Go(func() {
				s.serve(conn)
				conn.Close()
				s.c.mu.Lock()
				delete(s.conns, conn)
				s.c.mu.Unlock()
			})
		}
	})
	return nil
}

// Freeze makes the node hang, as SIGSTOP does; Thaw wakes it up.
func (s *server) Freeze() { s.setFrozen(true) }

// Thaw ends a Freeze.
func (s *server) Thaw() { s.setFrozen(false) }

func (s *server) setFrozen(on bool) {
	s.c.mu.Lock()
	s.frozen = on
	s.c.cond.Broadcast()
	s.c.mu.Unlock()
}

// Kill ends the node; what it stored stays for Restart.
func (s *server) Kill() {
	s.l.Close()
	s.c.mu.Lock()
	s.dead = true
	conns := s.conns
	s.conns = map[net.Conn]struct{}{}
	s.c.cond.Broadcast()
	s.c.mu.Unlock()
	for conn := range conns {
		conn.Close()
	}
}

// Drop breaks off n of its connections, which is what others see first of a
// process that ends: it still takes new ones then.
func (s *server) Drop(n int) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for conn := range s.conns {
		if n--; n < 0 {
			return
		}
		conn.Close()
	}
}

// Restart starts a killed node.
func (s *server) Restart() error { return s.start() }

// Dead says whether it was killed.
func (s *server) Dead() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.dead
}

// Dials is how many connections were made to it.
func (s *server) Dials() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.dials
}

// Conns is how many connections to it there are now.
func (s *server) Conns() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return len(s.conns)
}

// gate waits while the node hangs; false: it is dead. c.mu is held.
func (s *server) gate() bool {
	for s.frozen && !s.dead {
		s.c.cond.Wait()
	}
	return !s.dead
}

// pass is gate without c.mu.
func (s *server) pass() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.gate()
}
