package thrift

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// A client whose lengths are wrong has a text of somebody else's in its frame,
// or behind it, that looks like a call. No call is made of it, also when there
// is no memory for the frame or for its entries.
func TestWithoutMemoryNoCallIsFoundInTheTextOfABadOne(t *testing.T) {
	const size = 60_000
	padding := strings.Repeat("m", size)
	forged := framed(logCall(9, entryOf("a", "forged")))
	for name, body := range map[string][]byte{
		"bytes behind the call": join(logCall(1, entryOf("a", padding)), forged),
		"a string beyond":       join(oldHeader("Log", 1, 1), listOf(1, join(textField(1, "a"), fieldOf(11, 2), u32(2*size), padding))),
		"too many entries":      join(oldHeader("Log", 1, 1), listOf(size), make([]byte, size), 0),
		"an entry missing":      join(oldHeader("Log", 1, 1), listOf(2, entryOf("a", padding))),
		"bytes behind fb303":    join(oldHeader("getName", 1, 1), textField(1, padding), 0, forged),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				release := make(chan struct{})
				var found atomic.Int64
				s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
					if c.Bytes == len("forged") {
						found.Add(1)
						return OK
					}
					<-release
					return OK
				}}, Options{MaxFrame: 2*size + 1000, MaxEntries: 10, FrameMemory: 1})
				full := framed(logCall(1, entryOf("a", padding)))
				var held []net.Conn
				for s.Stats().Busy == 0 {
					c := l.dial()
					defer c.Close()
					go c.Write(full)
					synctest.Wait()
					held = append(held, c)
					if len(held) > 20 {
						t.Fatal("20 calls found memory")
					}
				}
				c := l.dial()
				defer c.Close()
				go c.Write(join(framed(body), forged))
				busy := s.Stats().Busy
				time.Sleep(time.Second)
				if found.Load() > 0 {
					t.Error("a call was found")
				} else {
					closedBy(t, c)
				}
				if n := s.Stats(); n.Busy != busy || n.Entries > 0 {
					t.Errorf("figures %+v", n)
				}
				close(release)
				for _, c := range held[:len(held)-1] {
					receive(t, c)
				}
			})
		})
	}
}

func TestEntriesWithoutMemoryAreWalkedOver(t *testing.T) {
	d := newDecoder(10)
	d.account = grants(false)
	for _, body := range [][]byte{
		join(logCall(1, entryOf("a", "b")), 0),
		join(oldHeader("Log", 1, 9), listOf(2, entryOf("a", "1")), 0),
		join(oldHeader("Log", 1, 9), listOf(1, join(fieldOf(11, 1), u32(99), 0)), 0),
	} {
		if _, err := decodeBody(d, body); !isBad(err) {
			t.Errorf("%q: %v, want that it is no call", body, err)
		}
	}
}

func isBad(err error) bool {
	_, is := errors.AsType[*badFrame](err)
	return is
}

// stream is a connection from which bytes come in small pieces.
type stream struct {
	net.Conn
	r io.Reader
}

func (s stream) Read(p []byte) (int, error)    { return s.r.Read(p) }
func (stream) SetReadDeadline(time.Time) error { return nil }

// FuzzUnread holds the walk over a frame that is not in memory against the
// decoder: both must think the same of its arguments, wherever it is cut in two,
// and the walk must end where the frame does or before.
func FuzzUnread(f *testing.F) {
	for _, seed := range [][]byte{
		logCall(1),
		logCall(1, entryOf("a", "1"), entryOf("", "")),
		join(logCall(1), 0),
		join(strictHeader("Log", 1, 9), listOf(1, join(fieldOf(13, 7), 11, 8, u32(1), text("k"), u32(1), textField(2, "2"), 0)), 0),
		join(oldHeader("Log", 1, 9), fieldOf(12, 2), textField(1, strings.Repeat("p", 300)), fieldOf(10, 2), u64(3), fieldOf(10, 3), u64(4), 0, 0),
		join(oldHeader("Log", 1, 9), listOf(15_000_000), 0),
		join(oldHeader("Log", 1, 9), fieldOf(15, 9), 15, u32(1), 14, u32(1), 16, u32(1), u64(1), u64(2), 0),
		join(oldHeader("Log", 1, 9), listOf(1, join(fieldOf(11, 1), u32(-1), 0)), 0),
		join(oldHeader("getName", 1, 9), bytes.Repeat([]byte{12, 0, 1}, 70), make([]byte, 71)),
		join(oldHeader("getOption", 1, 9), textField(1, "k"), 0),
	} {
		f.Add(seed, uint16(20))
	}
	server := &Server{}
	f.Fuzz(func(t *testing.T, body []byte, cut uint16) {
		h, err := parseHeader(body)
		if err != nil {
			return
		}
		var want error
		if string(h.name) == "Log" {
			_, want = decodeBody(newDecoder(1000), body)
		} else if end, err := skip(body, h.args, typeStruct, maxDepth); err != nil || end < len(body) {
			want = err
			if err == nil {
				want = bad(badTrailing, "")
			}
		}
		have := min(int(cut), len(body))
		c := &conn{server: server, net: stream{r: iotest.HalfReader(bytes.NewReader(body[have:]))}, frameEnd: time.Now().Add(time.Hour)}
		c.in = c.own[:]
		u := unread{conn: c, known: body[:have], later: len(body) - have}
		got := u.pass(h.args)
		if got == nil {
			got = u.call(string(h.name) == "Log", 1000)
		}
		a, isA := errors.AsType[*badFrame](got)
		b, isB := errors.AsType[*badFrame](want)
		if isA != isB || (got == nil) != (want == nil) || isA && a.kind != b.kind {
			t.Fatalf("the walk says %v, the decoder %v", got, want)
		}
		if u.left() < 0 || got == nil && u.left() != 0 {
			t.Fatalf("%d bytes are left", u.left())
		}
	})
}
