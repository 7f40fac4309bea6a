package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"twinscribe/thrift"
)

// maxReply bounds a reply. The largest one there is has the counters of all categories.
const maxReply = 16 << 20

// errStale says that a connection that had answered calls before turns out to
// be closed: the server closes idle ones, and when it restarts.
var errStale = errors.New("the connection was closed meanwhile")

// send sends the encoded call and reads its answer. resend has it sent once
// more where it went into a connection that was closed meanwhile.
func (c *Client) send(ctx context.Context, resend bool) (thrift.Result, error) {
	reply, err := c.exchange(ctx, *c.frame, true)
	if errors.Is(err, errStale) && resend {
		reply, err = c.exchange(ctx, *c.frame, true)
	}
	if err != nil {
		return thrift.TryLater, err
	}
	seq, result, err := thrift.DecodeLogReply(reply)
	exception, is := errors.AsType[*thrift.Exception](err)
	if err == nil && seq != c.seq {
		err = fmt.Errorf("the answer to call %d, want the one to call %d", seq, c.seq)
	}
	if err != nil {
		c.drop()
		if is {
			return thrift.TryLater, exception
		}
		return thrift.TryLater, fmt.Errorf("%s: no answer of Scribe's: %w", c.o.Addrs[c.at], err)
	}
	return result, nil
}

// exchange writes a frame and reads the reply, if there is to be one. After an
// error there is no connection.
func (c *Client) exchange(ctx context.Context, frame []byte, answered bool) (reply []byte, err error) {
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	conn := c.conn
	if err := conn.SetDeadline(time.Now().Add(c.o.CallTimeout)); err != nil {
		c.drop()
		return nil, fmt.Errorf("%s: %w", c.o.Addrs[c.at], err)
	}
	// When ctx ends the connection is of no use any more: an answer that comes
	// later would be taken for that of the next call.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // a closed connection has no deadline
	_, err = conn.Write(frame)
	if err == nil && answered {
		reply, err = readFrame(conn)
	}
	ended := !stop()
	if err == nil {
		c.used = true
		if ended {
			c.drop()
		}
		return reply, nil
	}
	stale := c.used && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
	c.drop()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case stale:
		err = fmt.Errorf("%w: %w", errStale, err)
	}
	return nil, fmt.Errorf("%s: %w", c.o.Addrs[c.at], err)
}

// connect makes a connection if there is none.
func (c *Client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.ConnectTimeout)
	defer cancel()
	conn, err := c.o.Dial(ctx, c.o.Addrs[c.at])
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", c.o.Addrs[c.at], err)
	}
	c.conn, c.used = conn, false
	return nil
}

func (c *Client) drop() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// readFrame reads one frame. Memory is taken as bytes arrive. io.EOF means that
// not a byte of it came.
func readFrame(conn net.Conn) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxReply {
		return nil, fmt.Errorf("a reply of %d bytes, at most %d are taken", n, maxReply)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, conn, int64(n)); err != nil {
		return nil, fmt.Errorf("half a reply: %w", noEOF(err))
	}
	return b.Bytes(), nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
