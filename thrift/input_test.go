package thrift

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Frames of all sizes, cut into writes anywhere, one after the other or each
// after the answer to the one before: a large frame's successor is read into a
// buffer of its size, whatever then comes.
func TestFramesOfAnySizeFollowEachOther(t *testing.T) {
	sizes := []int{0, 10, 3900, 4091, 4092, 4093, 5000, 8200, 60_000, 70_000, 300_000, 1_000_000, 1_100_000, 3_000_000}
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := &seen{handles: rand.New(rand.NewPCG(seed, 2))}
		l, dial := tcp(t)
		server := start(t, l, &double{log: s.log}, Options{})
		c := dial()
		const calls = 40
		var sent [][]byte
		var frames [][]byte
		size := 0
		for i := range calls {
			if i == 0 || rnd.IntN(3) == 0 { // the same size several times
				size = sizes[rnd.IntN(len(sizes))]
			}
			m := make([]byte, size)
			for k := 0; k < len(m); k += 1 + k/50 {
				m[k] = byte(rnd.Uint32())
			}
			sent = append(sent, m)
			frames = append(frames, framed(logCall(i, entryOf("a", string(m)))))
		}
		writes := rand.New(rand.NewPCG(seed, 3))
		answers := func(from, to int) {
			for i := from; i < to; i++ {
				reply := make([]byte, 24)
				if _, err := io.ReadFull(c, reply); err != nil {
					t.Fatalf("seed %d, call %d: %v", seed, i, err)
				}
				wantBytes(t, "Log", reply, logAnswer(i, 0))
			}
		}
		if seed%3 == 0 {
			go write(c, bytes.Join(frames, nil), writes.Uint64())
			answers(0, calls)
		} else {
			for i := 0; i < calls; {
				n := min(1+rnd.IntN(int(seed%3)), calls-i)
				go write(c, bytes.Join(frames[i:i+n], nil), writes.Uint64())
				answers(i, i+n)
				i += n
			}
		}
		s.mu.Lock()
		for i := range sent {
			if i >= len(s.messages) || !bytes.Equal(sent[i], s.messages[i]) {
				t.Fatalf("seed %d: message %d of %d bytes is not what was sent", seed, i, len(sent[i]))
			}
		}
		s.mu.Unlock()
		c.Close()
		server.stop(t)
	}
}

// seen keeps the messages of all calls, and gives up the memory of some early.
type seen struct {
	mu       sync.Mutex
	messages [][]byte
	handles  *rand.Rand
}

func (s *seen) log(_ context.Context, c *Call) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range c.Entries {
		s.messages = append(s.messages, bytes.Clone(e.Message))
	}
	if s.handles.IntN(2) == 0 {
		c.Release() // as one whose OK waits for a store
	}
	return OK
}

// write writes in pieces, with pauses, both by the seed.
func write(c net.Conn, b []byte, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 4))
	for len(b) > 0 {
		n := min(len(b), 1+rnd.IntN(500_000))
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		if b = b[n:]; rnd.IntN(2) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// More clients with large frames than the memory holds: each call is answered,
// and none takes a part of one for the beginning of the next.
func TestLargeFramesBesideEachOtherInLittleMemory(t *testing.T) {
	for _, size := range []int{200_000, 1_100_000} {
		l, dial := tcp(t)
		s := start(t, l, &double{}, Options{MaxFrame: 2 << 20, MaxEntries: 100, FrameMemory: 1})
		var all sync.WaitGroup
		for client := range 40 {
			c := dial()
			all.Go(func() {
				for i := range 30 {
					frame := framed(logCall(i, entryOf("a", string(make([]byte, size)))))
					if _, err := c.Write(frame); err != nil {
						t.Errorf("client %d, call %d: %v", client, i, err)
						return
					}
					reply := make([]byte, 24)
					if _, err := io.ReadFull(c, reply); err != nil {
						t.Errorf("client %d, call %d: %v", client, i, err)
						return
					}
					if !bytes.Equal(reply, logAnswer(i, 0)) && !bytes.Equal(reply, logAnswer(i, 1)) {
						t.Errorf("client %d, call %d: answer %x", client, i, reply)
						return
					}
				}
			})
		}
		all.Wait()
		if n := s.Stats(); n.Frames == 0 || n.Timeouts["frame"] > 0 || len(n.Bad) > 0 && sum(n.Bad) > 0 {
			t.Errorf("%d bytes: figures %+v", size, n)
		}
		s.stop(t)
	}
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// A buffer is lent to who sends, not to who is silent after a large frame.
func TestASilentConnectionHoldsNoMemoryOfFrames(t *testing.T) {
	l, dial := tcp(t)
	s := start(t, l, &double{}, Options{})
	c := dial()
	frame := framed(logCall(1, entryOf("a", string(make([]byte, 200_000)))))
	for range 3 {
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 24)); err != nil {
			t.Fatal(err)
		}
		for s.Stats().FrameMemory != 0 { // given back once it waits
			time.Sleep(time.Millisecond)
		}
	}
	if _, err := c.Write(frame[:5]); err != nil { // its length is enough to borrow
		t.Fatal(err)
	}
	for s.Stats().FrameMemory == 0 {
		time.Sleep(time.Millisecond)
	}
	c.Close()
	for s.Stats().FrameMemory != 0 {
		time.Sleep(time.Millisecond)
	}
}
