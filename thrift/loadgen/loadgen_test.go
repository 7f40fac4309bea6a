package loadgen

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/thrift"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a server's handler that counts what it is sent.
type sink struct {
	answer func(call int64) thrift.Result // nil: OK

	calls, messages, bytes atomic.Int64
	mu                     sync.Mutex
	categories             map[string]int
	odd                    string // the first message that is not as it should be
	size                   int
}

func (s *sink) Log(_ context.Context, c *thrift.Call) thrift.Result {
	n := s.calls.Add(1)
	s.mu.Lock()
	for _, e := range c.Entries {
		s.categories[string(e.Category)]++
		if len(e.Message) != s.size || e.Message[s.size-1] != '\n' || strings.Count(string(e.Message), "\n") != 1 {
			s.odd = string(e.Message)
		}
	}
	s.mu.Unlock()
	s.messages.Add(int64(len(c.Entries)))
	s.bytes.Add(int64(c.Bytes))
	if s.answer != nil {
		return s.answer(n)
	}
	return thrift.OK
}

func (*sink) Name() string                    { return "sink" }
func (*sink) Version() string                 { return "" }
func (*sink) Status() (thrift.Status, string) { return thrift.Alive, "" }
func (*sink) Counters() map[string]int64      { return nil }
func (*sink) AliveSince() int64               { return 0 }
func (*sink) Reinitialize()                   {}
func (*sink) Shutdown()                       {}

// serve is a real server in front of s.
func serve(t *testing.T, s *sink) (addr string) {
	t.Helper()
	s.categories = map[string]int{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := thrift.New(s, thrift.Options{Log: zap.NewNop()})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := errors.Join(srv.Stop(context.Background()), <-done); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func options(addr string) Options {
	return Options{Addr: addr, Connections: 3, Batch: 10, Size: 50, Category: "bench", Categories: 1,
		Duration: time.Minute, Calls: 20, Timeout: 20 * time.Second}
}

func TestWhatIsCountedIsWhatTheServerGot(t *testing.T) {
	s := &sink{size: 50}
	r, err := Run(t.Context(), options(serve(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Calls != 60 || r.Messages != 600 || r.Bytes != 30_000 || r.Errors != 0 || r.TryLater != 0 {
		t.Errorf("%+v, want 3 connections with 20 calls of 10 messages of 50 bytes", r)
	}
	if s.calls.Load() != r.Calls || s.messages.Load() != r.Messages || s.bytes.Load() != r.Bytes || s.odd != "" {
		t.Errorf("the server got %d calls, %d messages, %d bytes; odd: %q", s.calls.Load(), s.messages.Load(), s.bytes.Load(), s.odd)
	}
	if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max || r.Max > r.Elapsed {
		t.Errorf("p50 %v, p99 %v, max %v, elapsed %v", r.P50, r.P99, r.Max, r.Elapsed)
	}
}

func TestTheMessagesOfACallGoRoundTheCategories(t *testing.T) {
	s := &sink{size: 50}
	o := options(serve(t, s))
	o.Categories = 5
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"bench0", "bench1", "bench2", "bench3", "bench4"} {
		if s.categories[c] != 120 {
			t.Errorf("%d messages of %s, want 120", s.categories[c], c)
		}
	}
	if len(s.categories) != 5 {
		t.Errorf("categories %v", s.categories)
	}
}

func TestTryLaterIsCountedAndItsMessagesAreNot(t *testing.T) {
	s := &sink{size: 50, answer: func(n int64) thrift.Result {
		if n%3 == 0 {
			return thrift.TryLater
		}
		return thrift.OK
	}}
	r, err := Run(t.Context(), options(serve(t, s)))
	if err != nil || r.TryLater != 20 || r.Calls != 40 || r.Messages != 400 || r.Errors != 0 {
		t.Errorf("%+v %v, want 20 of 60 calls refused", r, err)
	}
}

func TestARunEndsAtItsDurationAndWithItsContext(t *testing.T) {
	addr := serve(t, &sink{size: 50})
	o := options(addr)
	o.Calls, o.Duration = 0, 50*time.Millisecond
	if r, err := Run(t.Context(), o); err != nil || r.Calls == 0 || r.Errors > 0 {
		t.Errorf("%+v %v", r, err)
	}
	o.Duration = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := Run(ctx, o); err != nil || r.Calls == 0 || r.Errors > 0 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestTheRateIsNotExceeded(t *testing.T) {
	o := options(serve(t, &sink{size: 50}))
	o.Calls, o.Duration, o.Rate = 0, 300*time.Millisecond, 1000
	r, err := Run(t.Context(), o)
	if most := int64(o.Rate*r.Elapsed.Seconds()) + int64(o.Batch*o.Connections); err != nil || r.Messages > most || r.Messages == 0 {
		t.Errorf("%d messages in %v at 1000 a second: want %d at most (%v)", r.Messages, r.Elapsed, most, err)
	}
}

// answers is a server that answers each frame with what f makes of a right answer.
func answers(t *testing.T, f func(right []byte) []byte) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for {
					var length [4]byte
					if _, err := io.ReadFull(c, length[:]); err != nil {
						return
					}
					frame := make([]byte, binary.BigEndian.Uint32(length[:]))
					if _, err := io.ReadFull(c, frame); err != nil {
						return
					}
					right := append([]byte("\x00\x00\x00\x14\x00\x00\x00\x03Log\x02"), frame[11:15]...)
					b := f(append(right, 8, 0, 0, 0, 0, 0, 0, 0))
					if _, err := c.Write(b); err != nil || b == nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func TestAnAnswerThatIsNotRightEndsItsConnection(t *testing.T) {
	set := func(at int, b byte) func([]byte) []byte {
		return func(right []byte) []byte {
			right[at] = b
			return right
		}
	}
	for _, c := range []struct {
		name string
		f    func([]byte) []byte
		want string
	}{
		{"another length", set(3, 0x15), "wrong answer"},
		{"another length of the name", set(7, 4), "wrong answer"},
		{"another method", set(8, 'l'), "wrong answer"},
		{"an exception", set(11, 3), "wrong answer"},
		{"another sequence id", set(15, 0xff), "wrong answer"},
		{"a field that is no i32", set(16, 11), "wrong answer"},
		{"another field", set(18, 1), "wrong answer"},
		{"a result that there is not", set(22, 2), "result 2"},
		{"no end", set(23, 8), "wrong answer"},
		{"closed", func([]byte) []byte { return nil }, "no answer"},
		{"cut off", func(right []byte) []byte { return right[:10] }, "no answer"},
	} {
		o := options(answers(t, c.f))
		o.Timeout = 300 * time.Millisecond
		r, err := Run(t.Context(), o)
		if err != nil || r.Errors != 3 || r.Calls != 0 || r.FirstError == nil || !strings.Contains(r.FirstError.Error(), c.want) {
			t.Errorf("%s: %+v %v", c.name, r, err)
		}
	}
	same := func(right []byte) []byte { return right }
	if r, err := Run(t.Context(), options(answers(t, same))); err != nil || r.Errors != 0 || r.Calls != 60 {
		t.Errorf("right answers: %+v %v", r, err)
	}
}

func TestAServerThatNeverAnswersIsLeftAtTheTimeout(t *testing.T) {
	o := options(answers(t, func([]byte) []byte { return []byte{} }))
	o.Timeout = 50 * time.Millisecond
	var timeout net.Error
	if r, err := Run(t.Context(), o); err != nil || r.Errors != 3 || !errors.As(r.FirstError, &timeout) || !timeout.Timeout() {
		t.Errorf("%+v %v", r, err)
	}
}

func TestARunWithoutAServerFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if r, err := Run(t.Context(), options(l.Addr().String())); err == nil || r.Calls != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestOptionsWithoutAMeaningAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"connections": func(o *Options) { o.Connections = 0 },
		"100000":      func(o *Options) { o.Connections = 1 << 30 },
		"batch":       func(o *Options) { o.Batch = 0 },
		"size":        func(o *Options) { o.Size = -1 },
		"categories":  func(o *Options) { o.Categories = 0 },
		"268435456":   func(o *Options) { o.Batch, o.Size = 1<<20, 1<<20 },
		"duration":    func(o *Options) { o.Duration = 0 },
		"timeout":     func(o *Options) { o.Timeout = -time.Second },
		"calls":       func(o *Options) { o.Calls = -1 },
		"rate":        func(o *Options) { o.Rate = -1 },
	} {
		o := options("127.0.0.1:1")
		change(&o)
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASmallFrameIsExactlyThis(t *testing.T) {
	got := encode(Options{Batch: 2, Size: 3, Category: "c", Categories: 2}, 1)
	const want = "\x00\x00\x00\x40" + "\x80\x01\x00\x01" + "\x00\x00\x00\x03Log" + "\x00\x00\x00\x00" +
		"\x0f\x00\x01\x0c\x00\x00\x00\x02" +
		"\x0b\x00\x01\x00\x00\x00\x02c1" + "\x0b\x00\x02\x00\x00\x00\x03ab\n" + "\x00" +
		"\x0b\x00\x01\x00\x00\x00\x02c0" + "\x0b\x00\x02\x00\x00\x00\x03ab\n" + "\x00" + "\x00"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func BenchmarkRun(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := thrift.New(&nothing{}, thrift.Options{Log: zap.NewNop()})
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	defer func() {
		_ = s.Stop(context.Background())
		<-done
	}()
	o := options(l.Addr().String())
	o.Connections, o.Batch, o.Size = 1, 1000, 200
	b.SetBytes(int64(o.Batch * o.Size))
	b.ReportAllocs()
	o.Calls = b.N
	if r, err := Run(b.Context(), o); err != nil || r.Errors > 0 {
		b.Fatal(r, err)
	}
}

// nothing answers OK to everything.
type nothing struct{ sink }

func (*nothing) Log(context.Context, *thrift.Call) thrift.Result { return thrift.OK }
