package thrift

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestAcceptErrorsKeepTheLoopAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := start(t, l, &double{}, Options{})
		began := time.Now()
		var waits []time.Duration
		for range 12 {
			l.failures <- errors.New("too many open files")
			waits = append(waits, time.Since(began))
			began = time.Now()
		}
		want := time.Duration(0)
		for i, w := range waits {
			if w != want {
				t.Errorf("accept %d came after %v, want %v", i, w, want)
			}
			if want = min(2*want, time.Second); want == 0 {
				want = 5 * time.Millisecond
			}
		}
		c := l.dial()
		defer c.Close()
		wantBytes(t, "Log", exchange(t, c, framed(logCall(1))), logAnswer(1, 0))
		if n := s.Stats().AcceptErrors; n != 12 {
			t.Errorf("%d accept errors counted, want 12", n)
		}
		l.failures <- errors.New("again")
		began = time.Now()
		d := l.dial()
		defer d.Close()
		if took := time.Since(began); took != 5*time.Millisecond {
			t.Errorf("after a good accept the pause was %v, want 5ms again", took)
		}
	})
}

func TestAFrameHasOneDeadlineHoweverItTrickles(t *testing.T) {
	for name, size := range map[string]int{"small": 100, "large": 100_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				s := start(t, l, &double{}, Options{FrameTimeout: 10 * time.Second})
				c := l.dial()
				defer c.Close()
				time.Sleep(time.Minute) // idle before the first byte is no matter
				began := time.Now()
				frame := framed(logCall(1, entryOf("a", strings.Repeat("m", size))))
				for _, b := range frame {
					if _, err := c.Write([]byte{b}); err != nil {
						break
					}
					time.Sleep(150 * time.Millisecond)
				}
				if took := time.Since(began); took < 10*time.Second || took > 10*time.Second+150*time.Millisecond {
					t.Errorf("closed after %v, want 10s", took)
				}
				if n := s.Stats().Timeouts; n["frame"] != 1 {
					t.Errorf("figures %v", n)
				}
			})
		})
	}
}

func TestEveryFrameHasADeadlineOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		start(t, l, &double{}, Options{FrameTimeout: 10 * time.Second})
		c := l.dial()
		defer c.Close()
		for i := range 5 {
			frame := framed(logCall(i, entryOf("a", strings.Repeat("m", 9000))))
			c.Write(frame[:20])
			time.Sleep(9 * time.Second)
			wantBytes(t, "Log", exchange(t, c, frame[20:]), logAnswer(i, 0))
		}
	})
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := start(t, l, &double{}, Options{IdleTimeout: time.Minute})
		silent, busy := l.dial(), l.dial()
		defer silent.Close()
		defer busy.Close()
		began := time.Now()
		for i := range 3 {
			time.Sleep(50 * time.Second)
			exchange(t, busy, framed(logCall(i)))
		}
		closedBy(t, busy)
		if took := time.Since(began) - 150*time.Second; took < time.Minute || took > time.Minute*9/8 {
			t.Errorf("the busy one was closed after %v of silence, want a minute or an eighth more", took)
		}
		closedBy(t, silent)
		if n := s.Stats(); n.Timeouts["idle"] != 2 || n.Connections != 0 {
			t.Errorf("figures %+v", n)
		}
	})
}

func TestAClientThatNeverReadsLosesItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		s := start(t, l, &double{}, Options{ReplyTimeout: 5 * time.Second})
		c := l.dial()
		defer c.Close()
		began := time.Now()
		for {
			if _, err := c.Write(framed(logCall(1))); err != nil {
				break
			}
		}
		if took := time.Since(began); took < 5*time.Second || took > 5*time.Second*9/8 {
			t.Errorf("closed after %v, want 5s or an eighth more", took)
		}
		if n := s.Stats().Timeouts["reply"]; n != 1 {
			t.Errorf("%d reply timeouts, want 1", n)
		}
	})
}

func TestAConnectionThatEndsInsideAFrameIsCounted(t *testing.T) {
	l := newPipes()
	s := start(t, l, &double{}, Options{})
	for _, part := range []int{1, 4, 10, 5000} {
		c := l.dial()
		c.Write(framed(logCall(1, entryOf("a", strings.Repeat("m", 9000))))[:part])
		c.Close()
	}
	s.Stop(t.Context())
	if n := s.Stats().Bad["cut"]; n != 4 {
		t.Errorf("%d cut frames, want 4", n)
	}
}

func TestAPanicEndsOneConnectionOnly(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	l := newPipes()
	s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
		if string(c.Entries[0].Message) == "panic" {
			panic("broken invariant")
		}
		return OK
	}}, Options{Log: zap.New(core)})
	other := l.dial()
	defer other.Close()
	c := l.dial()
	defer c.Close()
	go c.Write(framed(logCall(1, entryOf("a", "panic"))))
	if got := closedBy(t, c); len(got) > 0 {
		t.Errorf("answer %x", got)
	}
	wantBytes(t, "the other one", exchange(t, other, framed(logCall(2, entryOf("a", "b")))), logAnswer(2, 0))
	s.Stop(t.Context())
	if n := s.Stats(); n.Panics != 1 || n.FrameMemory != 0 {
		t.Errorf("figures %+v", n)
	}
	lines := logs.FilterField(zap.Any("panic", "broken invariant")).All()
	if len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()["stack"]), "server_test.go") {
		t.Errorf("log %v, want one line with the stack", lines)
	}
}

func TestTheSameComplaintIsNotLoggedAThousandTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		l := newPipes()
		s := start(t, l, &double{}, Options{Log: zap.New(core)})
		for range 1000 {
			c := l.dial()
			c.Write([]byte("GET / HTTP/1.1\r\n"))
			c.Close()
		}
		synctest.Wait()
		if s.Stats().Bad["http"] != 1000 || logs.Len() != 10 {
			t.Errorf("%d counted and %d logged, want 1000 and 10", s.Stats().Bad["http"], logs.Len())
		}
	})
}

func TestManyConnectionsCallAtOnce(t *testing.T) {
	l, dial := tcp(t)
	var mu sync.Mutex
	sum := 0
	s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range c.Entries {
			if string(e.Category) != "c" || strings.Trim(string(e.Message), "m") != "" {
				t.Errorf("entry %q", e)
			}
			sum += len(e.Message)
		}
		return OK
	}}, Options{})
	var wg sync.WaitGroup
	want := 0
	for i := range 20 {
		size := 10 << (i % 14)
		want += 20 * 3 * size
		c := dial()
		wg.Go(func() {
			e := entryOf("c", strings.Repeat("m", size))
			for n := range 20 {
				wantBytes(t, "Log", exchange(t, c, framed(logCall(n, e, e, e))), logAnswer(n, 0))
			}
		})
	}
	wg.Wait()
	if n := s.Stats(); sum != want || n.LogCalls != 400 || n.Entries != 1200 || n.Frames != 400 {
		t.Errorf("%d bytes, want %d; figures %+v", sum, want, n)
	}
}

func TestTheGeneratedCodeIsWhatTheIDLMakes(t *testing.T) {
	out, err := exec.Command("thrift", "--version").Output()
	if err != nil || !strings.Contains(string(out), "0.17.0") {
		t.Skip("thrift-compiler 0.17.0 is not installed")
	}
	dir := t.TempDir()
	cmd := exec.Command("thrift", "-r", "--gen", "go:package_prefix=twinscribe/thrift/gen/,skip_remote", "-out", dir, "idl/scribe.thrift")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"scribe/scribe.go", "fb303/fb303.go"} {
		if diff, err := exec.Command("cmp", filepath.Join(dir, name), filepath.Join("gen", name)).CombinedOutput(); err != nil {
			t.Errorf("run `make generate`: %s", diff)
		}
	}
}
