package thrift

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectionsAreLimitedInAllAndForEachAddress(t *testing.T) {
	l, dial := tcp(t)
	s := start(t, l, &double{}, Options{MaxConnections: 3, MaxConnectionsPerIP: 2})
	served := func(c net.Conn) bool {
		c.Write(framed(logCall(1)))
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err := io.ReadFull(c, make([]byte, 24))
		return err == nil
	}
	a, b := dial(), dial()
	if !served(a) || !served(b) {
		t.Fatal("connections below the limit are not served")
	}
	if served(dial()) {
		t.Error("a third connection of one address was served")
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	elsewhere := func() net.Conn {
		c, err := from.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	if !served(elsewhere()) {
		t.Error("a connection of another address was not served")
	}
	if served(elsewhere()) {
		t.Error("a fourth connection was served")
	}
	if n := s.Stats(); n.Connections != 3 || n.Refused["connections"] != 1 || n.Refused["connections_per_ip"] != 1 {
		t.Errorf("figures %+v", n)
	}
	a.Close()
	for deadline := time.Now().Add(20 * time.Second); !served(dial()); {
		if time.Now().After(deadline) {
			t.Fatal("the place of a closed connection is never free")
		}
	}
}

func TestTheHandlerHearsWhoSends(t *testing.T) {
	l, dial := tcp(t)
	got := make(chan Call, 2)
	start(t, l, &double{log: func(_ context.Context, c *Call) Result {
		call := Call{Sender: c.Sender}
		if c.Batch != nil {
			b := *c.Batch
			call.Batch = &b
		}
		got <- call
		return OK
	}}, Options{})
	c := dial()
	exchange(t, c, AppendLog(nil, 1, nil, &BatchID{"web1", 2, 3}))
	if call := <-got; call.Sender != "127.0.0.1" || call.Batch == nil || *call.Batch != (BatchID{"web1", 2, 3}) {
		t.Errorf("call %+v", call)
	}
	exchange(t, c, framed(logCall(1)))
	if call := <-got; call.Batch != nil {
		t.Errorf("the next call has the batch id %v, want none", call.Batch)
	}
}

func TestMemoryForAFrameGrowsOnlyAsItsBytesArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := start(t, l, &double{}, Options{})
		c := l.dial()
		defer c.Close()
		frame := framed(logCall(1, entryOf("a", strings.Repeat("m", 15<<20))))
		sent := 0
		for _, to := range []int{100, 60_000, 200_000, 800_000, 3 << 20, len(frame) - 1} {
			c.Write(frame[sent:to])
			sent = to
			synctest.Wait()
			if used := s.Stats().FrameMemory; used > max(64<<10, int64(5*sent)) {
				t.Errorf("%d bytes are there, %d are taken", sent, used)
			}
		}
		wantBytes(t, "Log", exchange(t, c, frame[sent:]), logAnswer(1, 0))
	})
}

func TestACallWithoutMemoryIsAnsweredTryLater(t *testing.T) {
	for name, size := range map[string]int{"at once": 60_000, "while it grows": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				release := make(chan struct{})
				s := start(t, l, &double{log: func(context.Context, *Call) Result {
					<-release
					return OK
				}}, Options{MaxFrame: size + 100, MaxEntries: 10, FrameMemory: 1})
				frame := framed(logCall(1, entryOf("a", strings.Repeat("m", size))))
				var held []net.Conn
				for s.Stats().Busy == 0 {
					c := l.dial()
					defer c.Close()
					go c.Write(frame)
					synctest.Wait()
					held = append(held, c)
					if len(held) > 10 {
						t.Fatal("ten calls found memory for two or three")
					}
				}
				refused := held[len(held)-1]
				wantBytes(t, "the refused one", receive(t, refused), logAnswer(1, 1))
				other := framed(join(oldHeader("getCounter", 1, 8), textField(1, strings.Repeat("k", size)), 0))
				wantBytes(t, "getCounter", exchange(t, refused, other), exceptionFrame("getCounter", 8, errBusy.Error(), 6))
				close(release)
				for _, c := range held[:len(held)-1] {
					wantBytes(t, "a held one", receive(t, c), logAnswer(1, 0))
				}
				synctest.Wait()
				wantBytes(t, "the refused one, again", exchange(t, refused, frame), logAnswer(1, 0))
				if n := s.Stats(); n.Busy != 2 || n.FrameMemory != 0 {
					t.Errorf("figures %+v", n)
				}
			})
		})
	}
}

func TestAnIdleConnectionHoldsLittleAfterALargeFrame(t *testing.T) {
	const n = 200
	l, dial := tcp(t)
	s := start(t, l, &double{}, Options{})
	use := func() int64 {
		for range 3 { // what lies in a pool goes at the second collection
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	frame := framed(logCall(1, entryOf("a", strings.Repeat("m", 1<<20))))
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = dial()
	}
	before := use()
	for _, c := range conns {
		wantBytes(t, "Log", exchange(t, c, frame), logAnswer(1, 0))
	}
	if each := (use() - before) / n; each > 25<<10 {
		t.Errorf("an idle connection holds %d bytes more than a new one", each)
	}
	if now := s.Stats(); now.Connections != n || now.FrameMemory != 0 {
		t.Errorf("figures %+v", now)
	}
}

func TestACallThatWaitsForItsStoreHoldsNoFrameMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		l := newPipes()
		stored := make(chan struct{})
		s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
			c.Release()
			c.Release() // once is enough
			if len(c.Entries) != 0 {
				t.Error("a released call still has its entries")
			}
			<-stored
			return OK
		}}, Options{MaxFrame: size + 100, MaxEntries: 10, FrameMemory: 1})
		frame := framed(logCall(1, entryOf("a", strings.Repeat("m", size))))
		var held []net.Conn
		for range 20 { // there is room for two or three at once
			c := l.dial()
			defer c.Close()
			go c.Write(frame)
			synctest.Wait()
			held = append(held, c)
		}
		if n := s.Stats(); n.Busy != 0 || n.FrameMemory != 0 {
			t.Errorf("while they wait: %d refused, %d bytes held", n.Busy, n.FrameMemory)
		}
		close(stored)
		for _, c := range held {
			wantBytes(t, "Log", receive(t, c), logAnswer(1, 0))
		}
	})
}

func TestLargeCallsLeaveFrameMemoryToSmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		l := newPipes()
		release := make(chan struct{})
		s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
			if string(c.Entries[0].Category) == "large" {
				<-release
			}
			return OK
		}}, Options{MaxFrame: size + 100, MaxEntries: 10, FrameMemory: 8 << 20})
		large := framed(logCall(1, entryOf("large", strings.Repeat("m", size))))
		small := framed(logCall(1, entryOf("small", strings.Repeat("m", 10_000))))
		for s.Stats().Busy < 3 {
			c := l.dial()
			defer c.Close()
			go c.Write(large)
			synctest.Wait()
		}
		c := l.dial()
		defer c.Close()
		wantBytes(t, "a small one", exchange(t, c, small), logAnswer(1, 0))
		close(release)
	})
}
