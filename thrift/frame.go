package thrift

import (
	"bytes"
	"errors"
	"time"
)

const (
	// firstPart is how much of a large frame gets memory before any of it is
	// there; further memory is taken as bytes arrive.
	firstPart = 64 << 10

	// largestFrame bounds the limit of frames: Thrift's own libraries take no
	// more, and a TLS hello read as a length is larger.
	largestFrame = 256 << 20

	// garbageLength is the length from which on nobody means a frame.
	garbageLength = 1 << 30
)

// A frame is one frame of a connection, valid until free.
type frame struct {
	body   []byte
	buffer *[]byte // where body lies if it is not the connection's own buffer
	busy   bool    // body is the beginning only: the rest was thrown away for want of memory
	bad    error   // busy only: what is wrong with the arguments
}

// errEnded says that a connection ended between two frames, as it may.
var errEnded = errors.New("the connection ended")

// read reads the next frame, with as few calls of the operating system as it
// can: one for a frame that fits the connection's own buffer, and for a larger
// one a first into that buffer and the others straight into the frame's.
//
// It ends with errEnded when the server stops, also where further frames have
// arrived: they are not answered.
func (c *conn) read() (frame, error) {
	if c.group.stopping.Load() {
		return frame{}, errEnded
	}
	if c.start == c.end {
		if err := c.wait(); err != nil {
			return frame{}, err
		}
	}
	c.frameEnd = time.Time{}
	if err := c.need(4); err != nil {
		return frame{}, err
	}
	n, err := c.length()
	if err != nil {
		return frame{}, err
	}
	c.start += 4
	if n <= readSize-4 {
		if err := c.need(n); err != nil {
			return frame{}, err
		}
		body := c.in[c.start : c.start+n : c.start+n]
		c.start += n
		c.expect = 0
		return frame{body: body}, nil
	}
	if c.expect = n; n > expectMost {
		c.expect = 0
	}
	if c.lent != nil && len(c.in)-c.start >= n {
		return c.readLent(n)
	}
	return c.readLarge(n)
}

// length reads the length of a frame and judges it.
func (c *conn) length() (int, error) {
	b := c.in[c.start : c.start+4]
	n := be32(b)
	switch {
	case n == 0:
		return 0, bad(badEmpty, "a frame of 0 bytes")
	case uint64(n) <= uint64(c.server.o.MaxFrame):
		return int(n), nil
	case b[0] == 0x16 && b[1] == 3:
		return 0, bad(badTLS, "a TLS hello")
	case isHTTP(b):
		return 0, bad(badHTTP, "a plain HTTP request")
	case n&strictMask == strictVersion:
		return 0, bad(badUnframed, "Thrift without frames, strict form")
	case n >= garbageLength:
		return 0, bad(badGarbage, "a frame's length of 0x%08x", n)
	}
	return 0, bad(badTooLarge, "a frame of %d bytes, at most %d are taken", n, c.server.o.MaxFrame)
}

// isHTTP says whether four bytes begin an HTTP request.
func isHTTP(b []byte) bool {
	for _, method := range []string{"GET ", "POST", "PUT ", "HEAD", "OPTI", "DELE", "CONN", "PATC", "TRAC", "PRI "} {
		if string(b) == method {
			return true
		}
	}
	return false
}

// readLarge reads a frame of n > readSize-4 bytes whose length is read.
func (c *conn) readLarge(n int) (frame, error) {
	m := &c.server.memory
	buffer := c.buffer(min(n, max(firstPart, c.end-c.start)))
	if buffer == nil {
		return c.discard(nil, 0, n)
	}
	have := copy(*buffer, c.in[c.start:min(c.end, c.start+n)])
	c.start += have
	c.settle()
	defer c.hold(0)
	for {
		c.hold(len(*buffer))
		to := min(n, len(*buffer))
		if have < to {
			got, err := c.readAtLeast((*buffer)[have:to], to-have)
			have += got
			if errors.Is(err, errYield) {
				return c.yield(buffer, have, n)
			}
			if err != nil {
				m.put(buffer)
				return frame{}, err
			}
		}
		if have == n {
			return frame{body: (*buffer)[:n:n], buffer: buffer}, nil
		}
		larger := c.buffer(min(n, 4*have))
		if larger == nil {
			return c.yield(buffer, have, n)
		}
		copy(*larger, (*buffer)[:have])
		m.put(buffer)
		buffer = larger
	}
}

// readLent reads a frame of n bytes whose length is read and that has room in
// the buffer that was lent for it.
func (c *conn) readLent(n int) (frame, error) {
	have := min(c.end-c.start, n)
	body := c.in[c.start : c.start+n : c.start+n]
	if have < n {
		c.hold(len(c.in))
		defer c.hold(0)
		got, err := c.readAtLeast(body[have:], n-have)
		if errors.Is(err, errYield) {
			buffer := c.lent
			have = copy(*buffer, body[:have+got])
			c.keepOwn()
			return c.yield(buffer, have, n)
		}
		if err != nil {
			return frame{}, err
		}
		c.end = c.start + n
	}
	c.start += n
	return frame{body: body}, nil
}

// yield gives up the buffer of a frame of which n bytes are to come in all and
// have are there, and throws the frame away.
func (c *conn) yield(buffer *[]byte, have, n int) (frame, error) {
	c.hold(0) // nobody else wants it any more: what still arrives is read undisturbed
	if err := c.net.SetReadDeadline(c.frameEnd); err != nil {
		c.server.memory.put(buffer)
		return frame{}, bad(badCut, "%v", err)
	}
	return c.discard(buffer, have, n)
}

// discard reads a frame of n bytes to its end without keeping it. have of them
// lie in buffer, which is given back.
func (c *conn) discard(buffer *[]byte, have, n int) (frame, error) {
	u := unread{conn: c, later: n - have, buffer: buffer}
	defer u.giveBack()
	if buffer != nil {
		u.known = (*buffer)[:have]
	}
	if err := u.head(); err != nil {
		return frame{}, err
	}
	f := frame{body: c.head[:], busy: true}
	h, err := parseHeader(f.body)
	if err != nil {
		return f, u.pass(u.left())
	}
	if err = u.pass(h.args); err == nil {
		err = u.call(string(h.name) == "Log", c.server.o.MaxEntries)
	}
	if _, is := errors.AsType[*badFrame](err); err != nil && !is {
		return frame{}, err
	}
	f.bad = err
	return f, u.pass(u.left())
}

func (c *conn) free(f frame) {
	if f.buffer != nil {
		c.server.memory.put(f.buffer)
	}
}

// looksUnframed says whether a frame's body is what a client that sends the
// old form without frames leaves: the name of a method in a frame of its length.
func looksUnframed(body []byte) bool {
	return len(body) <= maxName && bytes.IndexFunc(body, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) < 0
}
