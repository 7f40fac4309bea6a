// Command floor is the least that a Log server can do, as what a server's cost
// is held against: it reads frames, walks over their entries in place and
// copies each message once into a buffer of its category. With -mode file a
// buffer that has grown to a mebibyte is also checksummed, written and synced
// before the call that filled it is answered.
//
// It leaves out all else that a server has to do: limits, other methods,
// requests of any form but the one that `twinscribe bench` sends, queues,
// time, and telling anybody that something failed but by ending.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// group is how many bytes are written and synced at once.
const group = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A category is where the messages of one name go.
type category struct {
	mu   sync.Mutex
	text []byte
	sum  uint32
	file *os.File // nil: nothing is stored
}

type server struct {
	dir    string // "": nothing is stored
	gather int

	mu         sync.RWMutex
	categories map[string]*category
}

func main() {
	mode := flag.String("mode", "parse", "parse, or file")
	dir := flag.String("dir", ".", "where files are made")
	gather := flag.Int("gather", 0, "with -mode parse: bytes of a category that are kept before they are thrown away")
	flag.Parse()
	s := &server{categories: map[string]*category{}, gather: *gather}
	switch *mode {
	case "parse":
	case "file":
		s.dir = *dir
	default:
		fail(fmt.Errorf("mode %q: want parse or file", *mode))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			fail(err)
		}
		go func() {
			if err := s.serve(c); err != nil {
				fail(err)
			}
		}()
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "floor:", err)
	os.Exit(1)
}

// Where things stand in a frame of `twinscribe bench`, behind its length: the
// version, the name "Log" with its length, the sequence id, the header of the
// list.
const (
	seqAt     = 4 + 4 + 3
	countAt   = seqAt + 4 + 4
	entriesAt = countAt + 4
)

func (s *server) serve(c net.Conn) error {
	defer c.Close()
	reply := []byte("\x00\x00\x00\x14\x00\x00\x00\x03Log\x02....\x08\x00\x00\x00\x00\x00\x00\x00")
	buf, have := make([]byte, 64<<10), 0
	need := func(n int) bool {
		if n > len(buf) {
			buf = append(make([]byte, 0, n), buf[:have]...)[:n]
		}
		for have < n {
			m, err := c.Read(buf[have:])
			if have += m; err != nil {
				return false // the client is gone
			}
		}
		return true
	}
	for {
		if !need(4) {
			return nil
		}
		end := 4 + int(binary.BigEndian.Uint32(buf))
		if !need(end) {
			return nil
		}
		frame := buf[4:end]
		if err := s.take(frame); err != nil {
			return err
		}
		copy(reply[12:], frame[seqAt:seqAt+4])
		if _, err := c.Write(reply); err != nil {
			return nil
		}
		have = copy(buf, buf[end:have])
	}
}

// take copies the messages of one call.
func (s *server) take(b []byte) error {
	count := binary.BigEndian.Uint32(b[countAt:])
	at := entriesAt
	var c *category
	var name []byte
	for range count {
		var category, message []byte
		for b[at] != 0 {
			id, n := b[at+2], int(binary.BigEndian.Uint32(b[at+3:]))
			value := b[at+7 : at+7+n]
			at += 7 + n
			if id == 1 {
				category = value
			} else {
				message = value
			}
		}
		at++
		if c == nil || string(name) != string(category) {
			if err := c.leave(s.gather); err != nil {
				return err
			}
			var err error
			if c, err = s.of(category); err != nil {
				return err
			}
			name = category
			c.mu.Lock()
		}
		c.text = append(c.text, message...)
	}
	return c.leave(s.gather)
}

// of is the category of a name.
func (s *server) of(name []byte) (*category, error) {
	s.mu.RLock()
	c := s.categories[string(name)]
	s.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.categories[string(name)]; c != nil {
		return c, nil
	}
	c = &category{}
	if s.dir != "" {
		var err error
		if c.file, err = os.Create(filepath.Join(s.dir, string(name))); err != nil {
			return nil, err
		}
	}
	s.categories[string(name)] = c
	return c, nil
}

// leave unlocks the category, and writes what it has if that is enough.
func (c *category) leave(gather int) error {
	if c == nil {
		return nil
	}
	defer c.mu.Unlock()
	if c.file == nil {
		if len(c.text) > gather {
			c.text = c.text[:0]
		}
		return nil
	}
	if len(c.text) < group {
		return nil
	}
	c.sum = crc32.Update(c.sum, castagnoli, c.text)
	_, err := c.file.Write(c.text)
	c.text = c.text[:0]
	if err == nil {
		err = unix.Fdatasync(int(c.file.Fd()))
	}
	return err
}
