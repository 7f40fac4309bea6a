package aggregator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

func TestAChainIsBegunWithoutAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.rule("plain", AckStored, "n3"), h.copied("*", AckReceived, "n1", "n2/3")}
			h.opts.IdleAfter = time.Minute
			h.opens = func(string, string) error {
				if away.Load() {
					return errAway
				}
				return nil
			}
		})
		begin := func(category string, l Lane) {
			t.Helper()
			if err := h.Begin(category, l); err != nil {
				t.Error(err)
			}
		}
		begin("plain", own)
		begin("web", Lane{1, 2})
		begin("web", own)
		begin("web", own)
		time.Sleep(3 * time.Second)
		for _, p := range []*place{h.of("n3", "plain"), h.part("n2", "web", 2), h.of("n1", "web")} {
			if p.ticked() == 0 {
				t.Errorf("%s of %q does not hear of the time", p.name, p.category)
			}
		}
		equal(t, "parts that nobody asked for", len(h.all("n2")), 1)
		h.must(thrift.OK, "web:2a", "plain:b")
		time.Sleep(time.Second)
		equal(t, "the chain that was begun takes messages", h.part("n2", "web", 2).messages(), []string{"a"})
		equal(t, "this one too", h.of("n3", "plain").messages(), []string{"b"})

		before := len(h.Books().Categories)
		for _, l := range []Lane{{0, 0}, {0, -2}, {1, Whole}, {1, 3}, {2, 0}, {2, Whole}, {-1, Whole}, {-1, 0}} {
			if err := h.Begin("none", l); err == nil {
				t.Errorf("%v: there is no such lane", l)
			}
		}
		if err := h.Begin("", own); err == nil {
			t.Error("the blank category has no chain of its own")
		}
		equal(t, "no account was made for it", len(h.Books().Categories), before)

		away.Store(true)
		begin("late", own)
		time.Sleep(time.Hour) // the others are closed for being idle
		equal(t, "not yet", len(h.all("n1")), 1)
		_, text := h.Status()
		equal(t, "the status says why", text, `category "late": open the chain: the cluster is away`)
		away.Store(false)
		time.Sleep(2 * time.Second)
		equal(t, "opened in the end", h.of("n1", "late").isClosed(), false)
		_, text = h.Status()
		equal(t, "nothing to tell", text, "")
		time.Sleep(time.Hour)
		equal(t, "and closed when it was idle", h.of("n1", "late").isClosed(), true)
	})
}

func TestOnlyWhatHasARuleOfItsOwnIsBegunAndOnlyAsFarAsThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.rule("a*", AckStored, "n1")}
			h.opts.Limits.Categories = 2
		})
		if err := h.Begin("stray", own); err == nil {
			t.Error("a category without a rule was begun")
		}
		var errs []bool
		for i := range 3 {
			errs = append(errs, h.Begin(fmt.Sprint("a", i), own) != nil)
		}
		equal(t, "refused", errs, []bool{false, false, true})
	})
}

func TestABusyChainIsNotClosedForBeingIdleAndItsProblemIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Bool
		h := start(t, func(h *bench) {
			h.opts.IdleAfter = time.Minute
			open := h.open("n1")
			h.opts.Rules[0].Routes[0].Open = func(category string, part int, number uint32) (Chain, error) {
				c, err := open(category, part, number)
				c.Busy, c.Problem = busy.Load, func() string { return "a file cannot be read" }
				return c, err
			}
		})
		busy.Store(true)
		h.must(thrift.OK, "web:a")
		time.Sleep(time.Hour)
		equal(t, "busy", h.of("n1", "web").isClosed(), false)
		status, text := h.Status()
		equal(t, "warning", status, thrift.Warning)
		equal(t, "text", text, `category "web": a file cannot be read`)
		equal(t, "in the status", h.Snapshot().Categories[0].Queues[0].Problem, "a file cannot be read")
		busy.Store(false)
		time.Sleep(10 * time.Minute)
		equal(t, "not any more", h.of("n1", "web").isClosed(), true)
	})
}

// Begin, calls, retirement and reloads at once: no chain is opened twice, and
// each is closed once (start looks).
func TestChainsAreBegunBesideTraffic(t *testing.T) {
	var opened sync.Map // by number
	h := start(t, func(h *bench) {
		h.opts.Rules = []Rule{h.copied("*", AckStored, "n1", "n2/3")}
		h.opts.Limits.Categories = 100
		h.made = func(p *place) {
			if _, twice := opened.LoadOrStore(p.number, true); twice {
				t.Errorf("chain %d of %q is opened twice", p.number, p.category)
			}
		}
	})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 200 {
				h.must(thrift.OK, fmt.Sprintf("c%d:%d%d", j%5, j%3, i))
			}
		})
		all.Go(func() {
			for j := range 200 {
				if err := h.Begin(fmt.Sprintf("c%d", j%5), Lane{1, j % 3}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 10 {
		h.retire(time.Now().Add(2 * time.Hour))
		c := h.opts.Config
		c.Rules = []Rule{h.copied("*", AckStored, "n1", fmt.Sprintf("n%d/3", 2+i%2))}
		if err := h.Reload(context.Background(), c); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	left, err := h.Stop(context.Background())
	equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
	equal(t, "stored", sum(h.Books().Total.Stored).Messages, 1600)
	if err := h.Begin("c1", own); err == nil {
		t.Error("a chain is begun after the stop")
	}
}

func TestQueueBytesAreThoseOfOneLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var release func()
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.copied("*", AckReceived, "n1", "n2/2")}
			release = h.held("n2")
		})
		h.must(thrift.OK, "web:0abc", "web:0d")
		time.Sleep(time.Second)
		equal(t, "of the part", h.QueueBytes("web", Lane{1, 0}), 4+2+2*messageOverhead+partOverhead)
		equal(t, "of the route that has stored it", h.QueueBytes("web", own), 0)
		equal(t, "of a part without messages", h.QueueBytes("web", Lane{1, 1}), 0)
		equal(t, "of nobody", h.QueueBytes("api", own), 0)
		release()
	})
}

func TestAStopHandsWhatALaneHoldsToTheRescueOfItsRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared, whole shelter
		var mu sync.Mutex
		parts := map[int][]string{}
		h := start(t, func(h *bench) {
			r := h.copied("*", AckReceived, "n1", "n2/3", "n3")
			r.Routes[0].Rescue = func(ctx context.Context, part int, b *store.Batch) error {
				equal(t, "part", part, Whole)
				return whole.rescue(ctx, b)
			}
			r.Routes[1].Rescue = func(_ context.Context, part int, b *store.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				parts[part] = append(parts[part], copyOf(b).messages...)
				b.Taken = append(b.Taken, store.Taken{Place: "state", Messages: b.Len()})
				return nil
			}
			h.opts.Rules, h.opts.Rescue = []Rule{r}, shared.rescue
			h.made = func(p *place) { p.append = failing(errAway) }
		})
		h.must(thrift.OK, "web:0a", "web:2b")
		time.Sleep(time.Minute)
		h.must(thrift.OK, "web:2c")
		left, _, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
		equal(t, "by the route", whole.messages(), []string{"0a", "2b", "2c"})
		equal(t, "by part", parts, map[int][]string{0: {"a"}, 2: {"b", "c"}})
		equal(t, "by the server", shared.messages(), []string{"0a", "2b", "2c"})
		equal(t, "in the books", h.lane("web", Lane{1, 2}).Stored, map[string]Count{"state": {2, 4}})
		equal(t, "memory", h.memory.Load(), 0)
	})
}

func TestAReloadTakesARuleAwayWhoseLanesHoldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.copied("web", AckReceived, "n1", "n2/3")}
			h.opts.Unrouted = nil
			h.opts.IdleAfter = time.Minute
			h.opts.Limits.Categories = 1
			h.made = func(p *place) {
				if p.name == "n2" && p.part == 1 {
					p.append = s.append
				}
			}
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:1a", "web:2x")
		time.Sleep(time.Second)
		c := h.opts.Config
		c.Rules = []Rule{h.rule("a*", AckStored, "n3")}
		if err := h.Reload(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		equal(t, "the category alone is there to be named", h.Snapshot().UnroutedNames, 1)
		h.must(thrift.TryLater, "web:2b")
		for i := range 5 { // more names than accounts are kept for
			h.must(thrift.OK, fmt.Sprintf("a%d:x", i))
			time.Sleep(10 * time.Minute)
		}
		equal(t, "its account is there as long as it holds a message", h.lane("web", Lane{1, 1}).InFlight, Count{1, 2})
		s.off.Store(false)
		time.Sleep(time.Minute)
		equal(t, "stored by the old chain", h.part("n2", "web", 1).messages(), []string{"a"})
		for i := range 5 {
			h.must(thrift.OK, fmt.Sprintf("a%d:x", i))
			time.Sleep(10 * time.Minute)
		}
		equal(t, "then it is forgotten", h.book("web").Category, "")
		equal(t, "but not in the sums", h.Books().Total.Stored["n2"], Count{2, 4})
	})
}
