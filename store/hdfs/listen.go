package hdfs

import (
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// listenEvery is how often pipelines without traffic are looked at. A DataNode
// whose next one is lost says so round and round, as fast as it can, until the
// connection is closed (BlockReceiver.PacketResponder.run goes on without
// waiting once mirrorError is set). Hundreds of such pipelines leave nothing of
// a machine that should serve their recoveries. Besides, a file that knows of
// the loss before it sends has nothing to lose by it.
const listenEvery = 50 * time.Millisecond

// hearFor bounds the wait for the rest of what has begun to arrive.
const hearFor = 100 * time.Microsecond

// manyLost is how many pipelines without traffic that fail within listenEvery
// because of one node speak for its end: nothing was sent that it could have
// refused.
const manyLost = 5

// An ear finds the pipelines on which something has arrived with one call for
// all of them, and without a goroutine for each.
type ear struct {
	fds   []unix.PollFd
	files []*File
}

// speaking answers the files whose pipelines say something, and those of which
// that cannot be known without reading. It is valid until the next call.
func (e *ear) speaking(c *Cluster) []*File {
	e.fds, e.files = e.fds[:0], e.files[:0]
	c.mu.Lock()
	for f := range c.files {
		if p := f.pipeNow.Load(); p != nil {
			e.fds = append(e.fds, unix.PollFd{Fd: p.fd, Events: unix.POLLIN})
			e.files = append(e.files, f)
		}
	}
	c.mu.Unlock()
	// An error says nothing: the next round finds it. A descriptor that was closed
	// meanwhile, or is another one's by now, only costs the file a look.
	if _, err := unix.Poll(e.fds, 0); err != nil && len(e.fds) > 0 {
		return nil
	}
	n := 0
	for i, fd := range e.fds {
		if fd.Fd < 0 || fd.Revents != 0 {
			e.files[n] = e.files[i]
			n++
		}
	}
	clear(e.files[n:])
	return e.files[:n]
}

// listen hears what DataNodes say on pipelines without traffic. The nodes that
// failed are asked, and where many at once have lost their connections to one,
// it is taken for gone until it answers: a process that ends closes them one by
// one, and the socket on which it could refuse last.
func (c *Cluster) listen(e *ear) {
	lost := map[string]int{}
	for _, f := range e.speaking(c) {
		var bad []node
		f.idle(func(p *pipe) { bad = f.hear(p) })
		for _, n := range bad {
			c.nodes.probe(n) // if nobody listens there any more, all learn it
			if lost[n.addr]++; lost[n.addr] == manyLost && c.nodes.vanished(n) {
				c.log.Warn("a DataNode has lost many connections at once: going on without it until it answers", zap.String("node", n.addr))
				c.hangUp(n)
			}
		}
	}
}

// hear takes what has arrived on a pipeline of f. One that has failed is closed
// at once; the answer is the nodes to blame.
func (f *File) hear(p *pipe) []node {
	// A seal that was broken off waits for the last packet's, behind which the DataNode closes.
	if p.count > 0 || p.hear() == nil {
		return nil
	}
	p.close()
	var bad *nodeError
	if !errors.As(blame(p.failed), &bad) {
		return nil
	}
	ns := make([]node, len(bad.nodes))
	for i, at := range bad.nodes {
		ns[i] = f.nodes[at]
	}
	return ns
}

// hangUp closes the pipelines without traffic of which n, which is gone, was one:
// before their DataNodes find out, and so that their files know it before they
// send.
func (c *Cluster) hangUp(n node) {
	for _, f := range c.openFiles() {
		f.idle(func(p *pipe) {
			if i := slices.IndexFunc(f.nodes, n.is); i >= 0 && p.count == 0 {
				p.failed = failedNode(i, dead, errKnown)
				p.close()
			}
		})
	}
}

// hear takes the acknowledgements of heartbeats, or the news that the pipeline
// has failed, which stays for the next one who uses it.
func (p *pipe) hear() error {
	if err := p.wait(-1, time.Now().Add(hearFor)); !isTimeout(err) {
		p.failed = err
	}
	return p.failed
}

// descriptor is the socket of a connection, -1 where it is none.
func descriptor(conn net.Conn) int32 {
	n := int32(-1)
	s, ok := conn.(syscall.Conn)
	if !ok {
		return n
	}
	if raw, err := s.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n = int32(fd) }) //nolint:gosec // a descriptor is small
	}
	return n
}
