package thrift

import (
	"errors"
	"time"
)

// Who waits for memory that another connection is to give up waits so long, at
// most so often.
const (
	reliefWait  = 5 * time.Millisecond
	reliefTries = 4
)

// errYield says that a frame that is not all there has to give up its memory.
var errYield = errors.New("the memory of this frame is wanted")

// holdings are what a connection holds for a frame that is not all there yet.
// They are guarded by the mutex of conn, which is held for memory and for
// setting a deadline only.
type holdings struct {
	bytes int
	yield bool // it is to give them up
}

// buffer is memory's get for a frame that is being read. Where the memory is
// used up, the address whose unfinished frames hold most of it gives up the
// largest of them, unless that is the very one that asks: who sends large
// frames and does not end them does not keep others out.
func (c *conn) buffer(n int) *[]byte {
	m := &c.server.memory
	b := m.get(n)
	for try := 0; b == nil && try < reliefTries && c.server.relieve(c.peer); try++ {
		timer := time.NewTimer(reliefWait)
		select {
		case <-timer.C:
		case <-c.group.ctx.Done():
		}
		timer.Stop()
		b = m.get(n)
	}
	return b
}

// relieve has an unfinished frame of the address that holds most give up its
// memory. It is false if there is none, or none of another address than the
// asking one.
func (s *Server) relieve(asking *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(map[*peer]int)
	largest := make(map[*peer]*conn)
	sizes := make(map[*peer]int)
	for c := range s.conns {
		c.mu.Lock()
		n := c.holds.bytes
		if c.holds.yield {
			n = 0
		}
		c.mu.Unlock()
		held[c.peer] += n
		if n > sizes[c.peer] {
			sizes[c.peer], largest[c.peer] = n, c
		}
	}
	most := asking
	for p, n := range held {
		if n > held[most] {
			most = p
		}
	}
	if most == asking || largest[most] == nil {
		return false
	}
	return largest[most].askToYield()
}

// askToYield has the connection give up what it holds, if it still does.
func (c *conn) askToYield() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holds.bytes == 0 {
		return true // it has ended meanwhile, which is as good
	}
	c.holds.yield = true
	c.net.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection holds nothing soon
	return true
}

// hold notes what the frame holds that is being read; 0 ends it. Afterwards
// nobody else touches the connection's deadline for it.
func (c *conn) hold(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds.bytes = bytes
	c.holds.yield = c.holds.yield && bytes > 0
}

// mustYield says whether the frame's memory is wanted.
func (c *conn) mustYield() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holds.yield
}
