package aggregator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

// second is the lane of a rule's second route.
var second = Lane{1, Whole}

// optional has the routes of copied, of which the last may be left out.
func optional(h *bench, ack string, names ...string) {
	r := h.copied("*", ack, names...)
	r.Routes[len(r.Routes)-1].Optional = true
	h.opts.Rules = []Rule{r}
	h.opts.Limits.Queue = 2200
}

// held has the chains of a name take nothing until the function is called.
func (h *bench) held(name string) (release func()) {
	c := make(chan struct{})
	h.made = func(p *place) {
		if p.name == name {
			p.append = func(context.Context, *store.Batch) (*store.Batch, error) { <-c; return nil, nil }
		}
	}
	return func() { close(c) }
}

func TestAnOptionalRouteIsLeftOutWhileItIsFull(t *testing.T) {
	for _, admits := range []string{"fits", "below"} {
		t.Run(admits, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var release func()
				h := start(t, func(h *bench) {
					optional(h, AckReceived, "n1", "n2")
					h.opts.Limits.QueueAdmits = admits
					release = h.held("n2")
				})
				long := strings.Repeat("x", 1000)
				for range 5 {
					h.must(thrift.OK, "web:"+long, "web:y")
					time.Sleep(time.Second)
				}
				equal(t, "the first has all", h.book("web").Stored["n1"].Messages, 10)
				taken := map[string]int64{"fits": 2, "below": 4}[admits]
				lost := h.lane("web", second)
				equal(t, "the other is asked for all", lost.Accepted.Messages, 10)
				equal(t, "and has lost those", lost.Dropped.Messages, 10-taken)
				equal(t, "lost", h.Counters()["web:lost"], 10-taken)
				equal(t, "and received once", h.Counters()["web:received good"], 10)
				release()
				time.Sleep(time.Second)
				h.must(thrift.OK, "web:again")
				time.Sleep(time.Second)
				equal(t, "room again", h.lane("web", second).Stored["n2"].Messages, taken+1)
			})
		})
	}
}

func TestAnOptionalRouteIsLeftOutWhileItsChainFailsAndNoOtherIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := map[string]bool{"n2": true}
		h := start(t, func(h *bench) {
			optional(h, AckStored, "n1", "n2")
			h.made = func(p *place) {
				p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
					if away[p.name] {
						return b, errAway
					}
					return nil, nil
				}
			}
		})
		h.must(thrift.TryLater, "web:a") // it was not known to fail
		h.must(thrift.OK, "web:b", "web:"+strings.Repeat("x", 1001))
		equal(t, "left out", h.lane("web", second).Dropped, Count{1, 2})
		time.Sleep(time.Minute)
		away["n1"] = true
		h.must(thrift.TryLater, "web:c")
		h.must(thrift.TryLater, "web:d")
		equal(t, "with both away nobody is left out", h.lane("web", second).Dropped, Count{1, 2})
		equal(t, "refused", h.book("web").Refused["store"].Messages+h.lane("web", second).Refused["store"].Messages, 1)
	})
}

// Whoever is left out, the messages are all on another route.
func TestARouteIsLeftOutOnlyWhereAnotherTakesAllOfTheMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			optional(h, AckReceived, "n1/2", "n2")
			h.opts.Rules[0].Routes[0].Optional = true
		})
		h.must(thrift.OK, "web:0a", "web:1b")
		time.Sleep(time.Second)
		c := h.categories["web"]
		full := func(lanes ...Lane) string {
			for _, l := range lanes {
				c.lanes[l].bytes.Add(5000)
				defer c.lanes[l].bytes.Add(-5000)
			}
			dropped := func(l Lane) int64 { return h.lane("web", l).Dropped.Messages }
			all := []Lane{{0, 0}, {0, 1}, second}
			before := make(map[Lane]int64)
			for _, l := range all {
				before[l] = dropped(l)
			}
			said := map[thrift.Result]string{thrift.OK: "OK", thrift.TryLater: "TRY_LATER"}[h.log("web:0c", "web:1d")]
			for _, l := range all {
				if dropped(l) > before[l] {
					said += " without " + l.String()
				}
			}
			time.Sleep(time.Second)
			return said
		}
		equal(t, "none is full", full(), "OK")
		equal(t, "half of the first is", full(Lane{0, 0}), "OK without route 0 part 0")
		equal(t, "the first is", full(Lane{0, 0}, Lane{0, 1}), "OK without route 0 part 0 without route 0 part 1")
		equal(t, "the second is", full(second), "OK without route 1")
		equal(t, "half of the first and the second", full(Lane{0, 0}, second), "TRY_LATER")
		equal(t, "all are", full(Lane{0, 0}, Lane{0, 1}, second), "TRY_LATER")
		equal(t, "nothing stays reserved", h.memory.Load(), 0)
	})
}

// What a call has reserved already does not make its own route look full.
func TestALargeCallIsTakenByOneRouteWhileTheOtherIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { optional(h, AckReceived, "n1", "n2") })
		h.must(thrift.OK, "web:a")
		time.Sleep(time.Second)
		l := h.categories["web"].lanes[second]
		l.bytes.Add(1) // of a call beside this one
		large := "web:" + strings.Repeat("x", 900)
		h.must(thrift.OK, large, large, large, large)
		l.bytes.Add(-1)
		time.Sleep(time.Second)
		equal(t, "stored", h.book("web").Stored["n1"].Messages, 5)
		equal(t, "left out", h.lane("web", second).Dropped.Messages, 4)
	})
}

func TestLossyAndOptionalRoutesBalanceUnderLoadAndReloads(t *testing.T) {
	var r shelter
	rules := func(h *bench, i int) []Rule {
		stored := h.copied("s*", AckStored, "n1", fmt.Sprintf("part%d/%d", i%3, 2+i%2))
		if i%4 == 0 {
			stored.Routes = stored.Routes[:1]
		}
		received := h.copied("r*", AckReceived, "n2", "copy", "optional")
		received.Routes[1].Exact, received.Routes[2].Optional = i%3 == 0, true
		lossy := h.copied("stray", AckReceived, "lossy", "lossy2/3")
		lossy.Routes[0].Lossy, lossy.Routes[1].Lossy, lossy.Routes[0].Optional = true, true, i%2 == 0
		return []Rule{stored, received, lossy}
	}
	h := start(t, func(h *bench) {
		h.opts.Limits.Categories, h.opts.Limits.Queue, h.opts.Limits.Memory = 100, 1<<12, 1<<16
		h.opts.Timeouts.Ack = 20 * time.Millisecond
		h.opts.Rescue = r.rescue
		h.opts.Rules = rules(h, 0)
		h.made = func(p *place) {
			if p.append = p.moody; p.name == "lossy" {
				p.append = failing(errAway)
			}
		}
	})
	answers := h.load(t, func(i int) {
		c := h.opts.Config
		c.Rules = rules(h, i)
		if err := h.Reload(context.Background(), c); err != nil {
			t.Error(err)
		}
		h.retire(time.Now().Add(2 * time.Hour))
	})
	equal(t, "memory", h.memory.Load(), 0)
	found := make(map[string]int) // by place, category and message
	stored := int64(len(r.messages()))
	for name, places := range h.places {
		for _, p := range places {
			for _, m := range p.messages() {
				found[name+" "+p.category+":"+strings.TrimSuffix(m, "\n")]++
				stored++
			}
		}
	}
	rescued := make(map[string]bool)
	for _, k := range r.got {
		for _, m := range k.messages {
			rescued[k.Category+":"+strings.TrimSuffix(m, "\n")] = true
		}
	}
	total := h.Books().Total
	equal(t, "stored in the books", sum(total.Stored).Messages, stored)
	if total.Dropped.Messages == 0 || total.Retried == 0 {
		t.Errorf("dropped %v, retried %d: the test shows nothing", total.Dropped, total.Retried)
	}
	for m, n := range found {
		if n > 1 && !strings.HasPrefix(m, "part") && !strings.HasPrefix(m, "lossy2") { // parts lack the digit that tells messages apart
			t.Errorf("%.60q is stored %d times by one route", m, n)
		}
	}
	for e, answer := range answers {
		category, message, _ := strings.Cut(e, ":")
		if first := map[byte]string{'s': "n1 ", 'r': "n2 "}[(e + " ")[0]]; answer == thrift.OK && first != "" && category != "stray" &&
			len(message) <= 1000 && !rescued[e] && found[first+e] != 1 {
			t.Errorf("%.60q was answered OK and is on its first route %d times", e, found[first+e])
		}
	}
}
