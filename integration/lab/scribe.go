package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// NewScribe is NewServer for `scribed` and a configuration in Scribe's own grammar: port, http and
// state are filled in, the rest is the caller's. The port stays the test's own while the server is
// away.
func NewScribe(t testing.TB, conf string) *Server {
	t.Helper()
	port, http := ownPort(t), ownPort(t)
	s := newServer(t, "127.0.0.1:"+port, "127.0.0.1:"+http, "scribed", "scribe.conf")
	s.head = fmt.Sprintf("port=%s\nhttp=127.0.0.1:%s\nstate=%s\n", port, http, filepath.Join(s.Dir, "state"))
	s.Rewrite(conf)
	return s
}

// Port of the Thrift side, alone.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Thrift)
	return port
}

var owned = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// ownPort gives a port that nothing listens on and that no other test is given until the end of
// this one. It lies below those that the kernel gives to connections: a port whose server is away
// for a while is not taken.
func ownPort(t testing.TB) string {
	t.Helper()
	owned.Lock()
	defer owned.Unlock()
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		if owned.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		l.Close()
		owned.ports[port] = true
		t.Cleanup(func() {
			owned.Lock()
			delete(owned.ports, port)
			owned.Unlock()
		})
		return strconv.Itoa(port)
	}
	t.Fatal("no port is free")
	return ""
}

// OwnPort is a port for a test to listen on itself.
func OwnPort(t testing.TB) string { return ownPort(t) }

// Frame sends a frame of these bytes and gives the answer without its length.
func (c *Conn) Frame(timeout time.Duration, body ...[]byte) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(Framed(body...)); err != nil {
		return nil, err
	}
	return c.Answer()
}

// Answer reads the next frame, without its length.
func (c *Conn) Answer() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > 64<<20 {
		return nil, fmt.Errorf("answer of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.r, b)
	return b, err
}

// Ask calls a method of fb303 in the old form and gives the value of its answer behind type and
// field id. arguments are whole fields.
func (s *Server) Ask(method string, arguments ...[]byte) []byte {
	s.t.Helper()
	b, err := s.TryAsk(method, arguments...)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// TryAsk is Ask for a server that may be away.
func (s *Server) TryAsk(method string, arguments ...[]byte) ([]byte, error) {
	c, err := Dial(s.Thrift)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := c.Frame(10*time.Second, OldHeader(method, 1), bytes.Join(arguments, nil), []byte{0})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	head := OldHeader(method, 2)
	if !bytes.HasPrefix(b, head) || len(b) < len(head)+4 || b[len(b)-1] != 0 {
		return nil, fmt.Errorf("%s: answer %q", method, b)
	}
	return b[len(head)+3 : len(b)-1], nil
}

// Oneway calls a method that is never answered.
func (s *Server) Oneway(method string) {
	s.t.Helper()
	c, err := Dial(s.Thrift)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(Framed(OldHeader(method, 4), []byte{0})); err != nil {
		s.t.Fatal(err)
	}
}

// Fb303 is the server's status, 2 for ALIVE and 5 for WARNING, with its details. 0: it is away.
func (s *Server) Fb303() (status int, details string) {
	b, err := s.TryAsk("getStatus")
	if err != nil || len(b) != 4 {
		return 0, ""
	}
	d, err := s.TryAsk("getStatusDetails")
	if err != nil || len(d) < 4 {
		return 0, ""
	}
	return int(binary.BigEndian.Uint32(b)), string(d[4:])
}

// Counters are fb303's. A server that is away has none.
func (s *Server) Counters() map[string]int64 {
	b, err := s.TryAsk("getCounters")
	if err != nil || len(b) < 6 {
		return nil
	}
	all := map[string]int64{}
	n := binary.BigEndian.Uint32(b[2:])
	b = b[6:]
	for range n {
		size := binary.BigEndian.Uint32(b)
		name := string(b[4 : 4+size])
		b = b[4+size:]
		all[name] = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	return all
}

// Numbered is the name of one of Scribe's files: base, date, number.
var numbered = regexp.MustCompile(`^(.*?)(-\d{4}-\d\d-\d\d)?_(\d{5,})$`)

// ScribeFiles are the files of a base name in a folder, in the order in which they were written.
// There are none where there is no folder.
func ScribeFiles(folder, base string) []string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	type file struct {
		name, date string
		number     uint64
	}
	var all []file
	for _, e := range entries {
		m := numbered.FindStringSubmatch(e.Name())
		if m == nil || m[1] != base || !e.Type().IsRegular() {
			continue
		}
		n, _ := strconv.ParseUint(m[3], 10, 64)
		all = append(all, file{e.Name(), m[2], n})
	}
	slices.SortFunc(all, func(a, b file) int {
		if a.date != b.date {
			return bytes.Compare([]byte(a.date), []byte(b.date))
		}
		return int(int64(a.number) - int64(b.number))
	})
	var paths []string
	for _, f := range all {
		paths = append(paths, filepath.Join(folder, f.name))
	}
	return paths
}

// ScribeText is what all files of a base name hold, in their order.
func ScribeText(t testing.TB, folder, base string) []byte {
	t.Helper()
	var all []byte
	for _, path := range ScribeFiles(folder, base) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// Tool makes a link of a tool's name to the binary and gives its path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(bin, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Command has other arguments start the server, the first of them the program.
func (s *Server) Command(args ...string) { s.Bin, s.args = args[0], args[1:] }
