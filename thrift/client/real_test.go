package client

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/thrift"
)

// handler is a server's side for the tests over a real socket.
type handler struct {
	mu       sync.Mutex
	taken    map[string]int
	ids      map[thrift.BatchID]int
	refuse   int
	reloaded chan string
}

func (h *handler) Log(_ context.Context, c *thrift.Call) thrift.Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse > 0 {
		h.refuse--
		return thrift.TryLater
	}
	for _, e := range c.Entries {
		h.taken[string(e.Message)]++
	}
	h.ids[*c.Batch]++
	return thrift.OK
}
func (h *handler) Name() string                    { return "Scribe" }
func (h *handler) Version() string                 { return "2.2" }
func (h *handler) Status() (thrift.Status, string) { return thrift.Warning, "File open error" }
func (h *handler) Counters() map[string]int64      { return map[string]int64{"a": 1, "b": 2} }
func (h *handler) AliveSince() int64               { return 1700000000 }
func (h *handler) Reinitialize()                   { h.reloaded <- "reinitialize" }
func (h *handler) Shutdown()                       { h.reloaded <- "shutdown" }

func serve(t *testing.T) (*handler, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &handler{taken: map[string]int{}, ids: map[thrift.BatchID]int{}, reloaded: make(chan string, 1)}
	s := thrift.New(h, thrift.Options{Log: zap.NewNop()})
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		<-served
	})
	return h, l.Addr().String()
}

func TestManyGoroutinesShareAClientOfARealServer(t *testing.T) {
	h, addr := serve(t)
	h.refuse = 3
	c, err := New(Options{Addrs: []string{addr}, BackoffMin: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for g := range 10 {
		wg.Go(func() {
			for i := range 50 {
				m := fmt.Sprint(g, "/", i)
				if err := c.Log(t.Context(), []thrift.Entry{{Category: []byte("c"), Message: []byte(m)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(h.taken) != 500 || len(h.ids) != 500 {
		t.Errorf("%d messages under %d batch ids, want 500 of each", len(h.taken), len(h.ids))
	}
	for m, n := range h.taken {
		if n != 1 {
			t.Errorf("message %s came %d times", m, n)
		}
	}
}

func TestFB303OverARealServer(t *testing.T) {
	h, addr := serve(t)
	c, err := New(Options{Addrs: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	if s, details, err := c.Status(ctx); s != thrift.Warning || details != "File open error" || err != nil {
		t.Errorf("Status: %v %q %v", s, details, err)
	}
	if v, err := c.Version(ctx); v != "2.2" || err != nil {
		t.Errorf("Version: %q %v", v, err)
	}
	if v, err := c.Name(ctx); v != "Scribe" || err != nil {
		t.Errorf("Name: %q %v", v, err)
	}
	if v, err := c.AliveSince(ctx); v != 1700000000 || err != nil {
		t.Errorf("AliveSince: %v %v", v, err)
	}
	if v, err := c.Counters(ctx); len(v) != 2 || v["b"] != 2 || err != nil {
		t.Errorf("Counters: %v %v", v, err)
	}
	for _, call := range []struct {
		name string
		f    func(context.Context) error
	}{{"reinitialize", c.Reinitialize}, {"shutdown", c.Shutdown}} {
		if err := call.f(ctx); err != nil {
			t.Errorf("%s: %v", call.name, err)
		}
		if got := <-h.reloaded; got != call.name {
			t.Errorf("the server heard %s, want %s", got, call.name)
		}
	}
	if err := c.Log(ctx, one); err != nil {
		t.Errorf("Log on the same connection: %v", err)
	}
}
