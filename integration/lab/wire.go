package lab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Conn is a Scribe client at its barest: frames over TCP, so that the tests
// rest on nothing of twinscribe's.
type Conn struct {
	net.Conn
	r   *bufio.Reader
	seq uint32
	buf []byte
}

// Dial connects to a Scribe port.
func Dial(addr string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, r: bufio.NewReaderSize(c, 4096)}, nil
}

// Entry is a LogEntry.
type Entry struct{ Category, Message []byte }

// Log sends one call and waits for its answer. ok=false is TRY_LATER. After an error
// nobody knows whether the call was taken.
func (c *Conn) Log(entries []Entry, timeout time.Duration) (ok bool, err error) {
	c.seq++
	b := append(c.buf[:0], 0, 0, 0, 0, 0x80, 1, 0, 1, 0, 0, 0, 3, 'L', 'o', 'g')
	b = binary.BigEndian.AppendUint32(b, c.seq)
	b = append(b, 15, 0, 1, 12)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	for _, e := range entries {
		b = append(b, 11, 0, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Category)))
		b = append(b, e.Category...)
		b = append(b, 11, 0, 2)
		b = binary.BigEndian.AppendUint32(b, uint32(len(e.Message)))
		b = append(b, e.Message...)
		b = append(b, 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.buf = b
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return false, err
	}
	if _, err := c.Write(b); err != nil {
		return false, err
	}
	return c.answer()
}

func (c *Conn) answer() (bool, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return false, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > 4096 {
		return false, fmt.Errorf("answer of %d bytes", n)
	}
	f := make([]byte, n)
	if _, err := io.ReadFull(c.r, f); err != nil {
		return false, err
	}
	// 00000003 "Log" 02 seqid 08 0000 result 00
	if n != 20 || string(f[4:7]) != "Log" || f[7] != 2 || f[12] != 8 {
		return false, fmt.Errorf("answer %q", f)
	}
	if binary.BigEndian.Uint32(f[8:]) != c.seq {
		return false, errors.New("answer to another call")
	}
	return binary.BigEndian.Uint32(f[15:]) == 0, nil
}
