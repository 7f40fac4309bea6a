package thrift

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

const (
	// readSize is the buffer that every connection keeps, for the length of a
	// frame and for frames that fit it whole.
	readSize = 4096

	// expectMost bounds the buffer that a connection gets for a frame of which
	// nothing is known but that the one before was as large: more is taken as
	// bytes arrive.
	expectMost = 1 << 20
)

// wait waits for the first byte of a frame.
func (c *conn) wait() error {
	c.giveBack()
	c.start, c.end = 0, 0
	c.idle.Store(true)
	defer c.idle.Store(false)
	if err := c.armIdle(); err != nil {
		return errEnded
	}
	// In this order, so that a stop that does not see the connection idle is
	// seen here, and one that does wakes the read.
	if c.group.stopping.Load() {
		return errEnded
	}
	c.answered = false // with nothing unread a close does not hurt the last reply
	n, err := c.first()
	c.end = n
	switch {
	case n > 0:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.group.stopping.Load():
		c.server.stats.timeouts[idleDeadline].Add(1)
	}
	return errEnded
}

// armIdle sets the deadline for the first byte of a frame, unless one is set
// that is nearly as late: it costs as much as the rest of a small call. So a
// silent connection lives up to an eighth longer.
func (c *conn) armIdle() error {
	now, idle := time.Now(), c.server.o.IdleTimeout
	if c.idleUntil.Sub(now) >= idle {
		return nil
	}
	c.idleUntil = now.Add(idle + idle/8)
	return c.net.SetReadDeadline(c.idleUntil)
}

// first reads what there is of a frame of which nothing is there. Where a large
// one is expected it waits until there is something, and only then borrows a
// buffer that has room for all of it.
func (c *conn) first() (int, error) {
	if c.expect == 0 || c.raw == nil {
		return c.net.Read(c.in)
	}
	c.waited, c.got, c.failed = false, 0, nil
	if err := c.raw.Read(c.take); err != nil {
		return 0, err
	}
	return c.got, c.failed
}

// ready is first's part, called as syscall.RawConn has it: false means that
// there is nothing to read yet.
func (c *conn) ready(fd uintptr) bool {
	if c.waited {
		c.lend()
	}
	for {
		n, err := syscall.Read(int(fd), c.in)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.giveBack()
			c.waited = true
			return false
		case err != nil:
			c.failed = err
		case n == 0:
			c.failed = io.EOF
		default:
			c.got = n
		}
		return true
	}
}

// lend makes the buffer that is read into one in which the expected frame has
// room, if the memory allows it.
func (c *conn) lend() {
	if b := c.server.memory.get(4 + c.expect); b != nil {
		c.lent, c.in = b, (*b)[:4+c.expect] // no further: a next frame hardly lies behind it
	}
}

// giveBack makes the connection's own buffer the one that is read into. What is
// unread of a lent one is forgotten.
func (c *conn) giveBack() {
	if c.lent != nil {
		c.server.memory.put(c.lent)
		c.keepOwn()
	}
}

func (c *conn) keepOwn() {
	c.lent, c.in = nil, c.own[:]
	c.start, c.end = 0, 0
}

// settle gives a lent buffer back if what is unread of it has room in the
// connection's own.
func (c *conn) settle() {
	if c.lent == nil || c.end-c.start > readSize {
		return
	}
	n := copy(c.own[:], c.in[c.start:c.end])
	c.giveBack()
	c.end = n
}

// need sees to it that n <= readSize unread bytes are in the buffer.
func (c *conn) need(n int) error {
	if c.end-c.start >= n {
		return nil
	}
	c.settle()
	if c.start+n > readSize {
		c.end = copy(c.in, c.in[c.start:c.end])
		c.start = 0
	}
	got, err := c.readAtLeast(c.in[c.end:], n-(c.end-c.start))
	c.end += got
	return err
}

// readAtLeast reads at least n and at most len(p) bytes of a frame before the
// frame's deadline, which begins with the first byte that is waited for and
// holds for the whole frame.
func (c *conn) readAtLeast(p []byte, n int) (got int, err error) {
	if c.frameEnd.IsZero() {
		c.frameEnd = time.Now().Add(c.server.o.FrameTimeout)
		c.idleUntil = time.Time{} // it is not the deadline any more
		if err := c.net.SetReadDeadline(c.frameEnd); err != nil {
			return 0, bad(badCut, "%v", err)
		}
	}
	for got < n {
		if c.mustYield() { // after the deadline is set: what wakes the read is not undone
			return got, errYield
		}
		m, err := c.net.Read(p[got:])
		got += m
		switch {
		case err == nil || got >= n:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if left := time.Until(c.frameEnd); left > 0 {
				// A stop that still took the connection for an idle one woke
				// it: what has begun is read to its end. Or somebody wants the
				// frame's memory.
				if err := c.net.SetReadDeadline(c.frameEnd); err == nil {
					continue
				}
			}
			return got, os.ErrDeadlineExceeded
		case errors.Is(err, io.EOF):
			return got, bad(badCut, "the connection ended inside a frame")
		default:
			return got, bad(badCut, "inside a frame: %v", err)
		}
	}
	return got, nil
}
