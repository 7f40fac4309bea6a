package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

// byDigit splits by a message's first byte, a digit, and leaves it out. What has
// none belongs to part 0.
func byDigit(parts int) *Split {
	return &Split{Key: "digit", Parts: parts, Of: func(m []byte) (part, skip int) {
		if len(m) == 0 || m[0] < '0' || m[0] > '9' {
			return 0, 0
		}
		return int(m[0]-'0') % parts, 1
	}}
}

// copied has rules whose routes are places of these names. A name with /n behind
// it is split into n parts by digit.
func (h *bench) copied(match, ack string, names ...string) Rule {
	r := Rule{Match: match, Ack: ack}
	for _, name := range names {
		base, n, split := strings.Cut(name, "/")
		route := Route{Key: base, Open: h.open(base)}
		if split {
			parts := 0
			fmt.Sscan(n, &parts)
			route.Split = byDigit(parts)
		}
		r.Routes = append(r.Routes, route)
	}
	return r
}

func copies(match, ack string, names ...string) func(*bench) {
	return func(h *bench) { h.opts.Rules = []Rule{h.copied(match, ack, names...)} }
}

// part is the one place of a name for a part of a category.
func (h *bench) part(name, category string, part int) *place {
	h.t.Helper()
	var found []*place
	for _, p := range h.all(name) {
		if p.category == category && p.part == part {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d places %q for part %d of category %q, want one", len(found), name, part, category)
	}
	return found[0]
}

func (h *bench) lane(category string, l Lane) Book {
	for _, b := range h.Books().Categories {
		if string(b.Category) == category && b.Lane != nil && *b.Lane == l {
			return b
		}
	}
	return Book{}
}

// listed are the books as "category lane stored dropped refused".
func (h *bench) listed() (all []string) {
	for _, b := range h.Books().Categories {
		all = append(all, fmt.Sprintf("%s stored %d dropped %d refused %d", b.title(), sum(b.Stored).Messages, b.Dropped.Messages, sum(b.Refused).Messages))
	}
	return all
}

func TestEveryRouteTakesEveryMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, copies("*", AckStored, "n1", "n2", "n3"))
		h.must(thrift.OK, "web:one", "api:1", "web:two", ":blank", "web:"+strings.Repeat("x", 1001))
		for _, name := range []string{"n1", "n2", "n3"} {
			equal(t, name, h.of(name, "web").messages(), []string{"one", "two"})
			equal(t, name, h.of(name, "api").messages(), []string{"1"})
			equal(t, "part", h.of(name, "api").part, Whole)
		}
		equal(t, "dead letters stand once", len(h.of("dead-letter", "web").messages()), 1)
		equal(t, "books", h.listed(), []string{
			`category "" stored 1 dropped 0 refused 0`,
			`category "api" stored 1 dropped 0 refused 0`,
			`category "api" route 1 stored 1 dropped 0 refused 0`,
			`category "api" route 2 stored 1 dropped 0 refused 0`,
			`category "web" stored 3 dropped 0 refused 0`,
			`category "web" route 1 stored 2 dropped 0 refused 0`,
			`category "web" route 2 stored 2 dropped 0 refused 0`,
		})
		c := h.Counters()
		equal(t, "received once", []int64{c["web:received good"], c["api:received good"], c["scribe_overall:received good"]}, []int64{3, 1, 4})
		m := gather(t, h.Aggregator)
		for label, want := range map[string]float64{"web": 3, "web[1]": 2, "web[2]": 2, "api[2]": 1} {
			name := "twinscribe_accepted_messages_total{category=" + label + "}"
			if got := m[name]; got != want {
				t.Errorf("%s = %v, want %v", name, got, want)
			}
		}
		text, err := json.Marshal(h.Snapshot().Categories[5])
		if err != nil || !strings.Contains(string(text), `"category":"web","lane":{"route":1,"part":-1}`) {
			t.Errorf("the status of a lane: %s %v", text, err)
		}
		text, err = json.Marshal(h.Snapshot().Categories[4])
		if err != nil || strings.Contains(string(text), "lane") {
			t.Errorf("the status of a category: %s %v", text, err)
		}
	})
}

func TestASplitDividesMessagesAndLeavesOutWhatItGoesBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			copies("*", AckStored, "split/3", "whole", "two/2")(h)
			h.opts.Limits.Categories = 30
		})
		c := call("web:0a", "web:2b", "web:none", "web:1c", "web:5d", "api:1e", "web:"+strings.Repeat("x", 1001), "web:2", "web:1\n")
		c.Batch = &thrift.BatchID{Producer: "p", Epoch: 1, Sequence: 2}
		equal(t, "result", h.Log(context.Background(), c), thrift.OK)
		h.must(thrift.OK, "web:2alone") // the way of a single message
		equal(t, "0", h.part("split", "web", 0).messages(), []string{"a", "none"})
		equal(t, "1", h.part("split", "web", 1).messages(), []string{"c", ""})
		equal(t, "2", h.part("split", "web", 2).messages(), []string{"b", "d", "", "alone"})
		equal(t, "api", h.part("split", "api", 1).messages(), []string{"e"})
		equal(t, "whole", h.of("whole", "web").messages(), []string{"0a", "2b", "none", "1c", "5d", "2", "1", "2alone"})
		equal(t, "another split", h.part("two", "web", 0).messages(), []string{"a", "b", "none", "", "alone"})
		equal(t, "another split", h.part("two", "web", 1).messages(), []string{"c", "d", ""})
		equal(t, "ids", ids(h.part("split", "web", 2).batches()), []string{"p:1:2 1+1@1", "p:1:2 4+1@2", "p:1:2 6+1@3"})
		equal(t, "ids", ids(h.of("whole", "web").batches()), []string{"p:1:2 0+5@1", "p:1:2 6+2@6"})
		equal(t, "books", h.listed()[2:8], []string{
			`category "api" route 1 stored 1 dropped 0 refused 0`,
			`category "api" route 2 stored 0 dropped 0 refused 0`,
			`category "api" route 2 part 1 stored 1 dropped 0 refused 0`,
			`category "web" stored 1 dropped 0 refused 0`,
			`category "web" route 0 part 0 stored 2 dropped 0 refused 0`,
			`category "web" route 0 part 1 stored 2 dropped 0 refused 0`,
		})
		equal(t, "received once", h.Counters()["web:received good"], 9)
		m := gather(t, h.Aggregator)
		equal(t, "route 0 and the dead letter", m["twinscribe_stored_messages_total{category=web,place=split}"]+
			m["twinscribe_stored_messages_total{category=web,place=dead-letter}"], 9)
		equal(t, "route 2", m["twinscribe_stored_messages_total{category=web[2],place=two}"], 8)
	})
}

func TestASplitIsAskedOnceForEachMessageOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := start(t, func(h *bench) {
			copies("*", AckStored, "n1/64")(h)
			h.opts.Limits.Categories = 100
			h.opts.Rules[0].Routes[0].Split.Of = func([]byte) (int, int) { asked.Add(1); return rand.IntN(64), 0 }
		})
		for range 100 { // by chance: each may be the first message of its part
			h.must(thrift.OK, "web:a", "web:b")
		}
		equal(t, "asked", asked.Load(), 200)
	})
}

func TestASplitThatAnswersOutOfBoundsIsPartNought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := [2]int{}
		h := start(t, func(h *bench) {
			copies("*", AckStored, "n1/3")(h)
			h.opts.Rules[0].Routes[0].Split.Of = func([]byte) (int, int) { return answer[0], answer[1] }
		})
		for _, answer = range [][2]int{{3, 0}, {-1, 0}, {1, 5}, {1, -1}, {1, 4}} {
			h.must(thrift.OK, "web:four")
		}
		equal(t, "0", h.part("n1", "web", 0).messages(), []string{"four", "four", "four", "four"})
		equal(t, "1", h.part("n1", "web", 1).messages(), []string{""})
	})
}

func TestAnOKWaitsForAllRoutesAndOneThatFailsIsHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			copies("*", AckStored, "n1", "n2")(h)
			h.made = func(p *place) {
				p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) {
					if p.name == "n2" {
						time.Sleep(time.Second)
						return s.append(ctx, b)
					}
					return nil, nil
				}
			}
		})
		begin := time.Now()
		h.must(thrift.OK, "web:a")
		equal(t, "after", time.Since(begin), time.Second)
		s.off.Store(true)
		h.must(thrift.TryLater, "web:b")
		equal(t, "calls", h.calls.read(), Calls{OK: 1, Partial: 1})
		h.must(thrift.TryLater, "web:c") // refused whole: n1 does not get it
		equal(t, "n1", h.of("n1", "web").messages(), []string{"a", "b"})
		equal(t, "books", h.listed(), []string{
			`category "web" stored 2 dropped 0 refused 1`, `category "web" route 1 stored 1 dropped 0 refused 1`,
		})
		status, text := h.Status()
		equal(t, "status", fmt.Sprint(status, text), fmt.Sprint(thrift.Warning, `category "web" route 1: the cluster is away`))
	})
}

func TestALaneAtItsLimitRefusesTheCallWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		h := start(t, func(h *bench) {
			copies("*", AckReceived, "n1", "n2/4")(h)
			h.opts.Limits.Queue = 1500
			h.made = func(p *place) {
				if p.name == "n2" {
					p.append = func(context.Context, *store.Batch) (*store.Batch, error) { <-block; return nil, nil }
				}
			}
		})
		long := strings.Repeat("x", 900)
		h.must(thrift.OK, "web:1"+long)
		time.Sleep(time.Second)
		h.must(thrift.TryLater, "web:1"+long, "web:2b", "api:1c")
		h.must(thrift.OK, "web:2"+long, "api:1d")
		time.Sleep(time.Second)
		equal(t, "n1", len(h.of("n1", "web").messages()), 2)
		equal(t, "refused at web", h.book("web").Refused, map[string]Count{"call": {2, 905}})
		equal(t, "refused at the part", h.lane("web", Lane{1, 1}).Refused, map[string]Count{"queue": {1, 901}})
		equal(t, "denied once", h.Counters()["web:denied for queue size"], 1)
		close(block)
	})
}

func TestLanesCountAgainstTheLimitOfCategories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, copies("*", AckStored, "n1/9", "n2")) // of eight: web, its second route, its parts
		for i := range 6 {
			h.must(thrift.OK, fmt.Sprintf("web:%d", i))
		}
		h.must(thrift.TryLater, "web:6")
		h.must(thrift.OK, "web:1")
		h.must(thrift.TryLater, "api:1")
		equal(t, "live", h.Snapshot().Live, 8)
		equal(t, "refused", h.Books().Total.Refused["categories"].Messages > 0, true)
	})
}

func TestAReloadKeepsTheLanesWhoseRouteIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, copies("*", AckStored, "n1"))
		h.must(thrift.OK, "web:0a")
		reload := func(names ...string) {
			t.Helper()
			c := h.opts.Config
			c.Rules = []Rule{h.copied("*", AckStored, names...)}
			if err := h.Reload(context.Background(), c); err != nil {
				t.Fatal(err)
			}
		}
		reload("n1", "n2/2") // a copy more
		h.must(thrift.OK, "web:1b", "web:0b")
		equal(t, "n1 goes on", h.of("n1", "web").messages(), []string{"0a", "1b", "0b"})
		reload("n1", "n2/2", "n3")
		h.must(thrift.OK, "web:1c")
		equal(t, "part 1 goes on", h.part("n2", "web", 1).messages(), []string{"b", "c"})
		part1 := h.part("n2", "web", 1)
		reload("n1", "n2/3") // another split
		synctest.Wait()
		equal(t, "part 1 is drained", part1.isClosed(), true)
		equal(t, "the third route too", h.of("n3", "web").isClosed(), true)
		h.must(thrift.OK, "web:1d")
		var got []string
		for _, p := range h.all("n2") {
			if p.part == 1 {
				got = append(got, fmt.Sprint(p.messages()))
			}
		}
		equal(t, "n2", got, []string{"[b c]", "[d]"})
		reload("n1/2") // divided, and the copy is gone
		h.must(thrift.OK, "web:1e")
		synctest.Wait()
		equal(t, "live", h.Snapshot().Live, 2)
		reload("n1")
		h.must(thrift.OK, "web:1f")
		synctest.Wait()
		equal(t, "live", h.Snapshot().Live, 1)
		c := h.opts.Config
		c.Rules = []Rule{h.copied("*", AckStored, "n1")}
		c.Rules[0].Routes[0].Exact = true
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, "web:1g\n")
		var all []string
		for _, p := range h.all("n1") {
			all = append(all, p.messages()...)
		}
		equal(t, "n1", all, []string{"0a", "1b", "0b", "1c", "1d", "e", "1f", "1g\n"})
	})
}

func TestSilentLanesAreForgottenIntoTheirRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			copies("*", AckStored, "n1/5", "n2/5")(h)
			h.opts.IdleAfter = time.Minute
			h.opts.Limits.Categories = 11
		})
		for i := range 5 {
			h.must(thrift.OK, fmt.Sprintf("web:%dx", i))
		}
		before := gather(t, h.Aggregator)
		h.mu.Lock()
		var was [2]*category
		for i := range was {
			was[i] = h.account("web", Lane{i, 3})
		}
		h.mu.Unlock()
		for range 10 {
			time.Sleep(time.Minute)
			h.must(thrift.OK, "web:0y")
			h.balanced()
			for name, n := range gather(t, h.Aggregator) {
				if strings.Contains(name, "_total") && n < before[name] {
					t.Errorf("%s fell from %v to %v", name, before[name], n)
				}
			}
		}
		equal(t, "live", h.Snapshot().Live, 3)
		equal(t, "closed", h.part("n1", "web", 3).isClosed(), true)
		h.Aggregator.mu.Lock()
		h.forget(was[0])
		h.forget(was[1])
		h.Aggregator.mu.Unlock()
		h.balanced()
		equal(t, "the route has it", h.listed()[0], `category "web" stored 1 dropped 0 refused 0`)
		m := gather(t, h.Aggregator)
		equal(t, "all of route 0", m["twinscribe_stored_messages_total{category=web,place=n1}"], 15)
		equal(t, "all of route 1", m["twinscribe_stored_messages_total{category=web[1],place=n2}"], 15)
		equal(t, "received good", h.Counters()["web:received good"], 15)
		h.must(thrift.OK, "web:3z") // it comes back

		time.Sleep(10 * time.Minute)
		h.Aggregator.mu.Lock()
		for len(h.categories) > 0 {
			for c := range h.accounts() {
				if !c.live && !c.pinned() {
					h.forget(c)
					break
				}
			}
		}
		free := len(h.freeSlots)
		h.Aggregator.mu.Unlock()
		equal(t, "slots", free, h.slots)
		equal(t, "the rest has all", h.Books().Other.Stored, map[string]Count{"n1": {16, 32}, "n2": {16, 32}})
		equal(t, "received good", h.Counters()["scribe_overall:received good"], 16)
	})
}

func TestWhatIsWrittenOffIsTakenFromTheLanesThatHoldIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, copies("*", AckStored, "n1/3", "n2"))
		h.must(thrift.OK, "web:0a", "web:1b", "web:2c", "web:2d")
		equal(t, "more than there is", h.Dropped("web", "n1", Count{5, 10}), false)
		equal(t, "most of it", h.Dropped("web", "n1", Count{3, 6}), true)
		h.balanced()
		equal(t, "the rest", h.Dropped("web", "n1", Count{1, 2}), true)
		equal(t, "nothing is left", h.Dropped("web", "n1", Count{1, 2}), false)
		equal(t, "all", h.Books().Total.Dropped, Count{4, 8})
		equal(t, "n2 has its own", h.Books().Total.Stored, map[string]Count{"n2": {4, 12}})
	})
}

func TestAStopDrainsAllLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		var r shelter
		h := start(t, func(h *bench) {
			copies("*", AckReceived, "n1", "n2/2")(h)
			h.opts.Rescue = r.rescue
			h.made = func(p *place) {
				if p.name == "n2" {
					p.append = s.append
				}
			}
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:0a", "web:1b")
		left, _, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
		equal(t, "n1", h.of("n1", "web").messages(), []string{"0a", "1b"})
		equal(t, "rescued", len(r.messages()), 2)
	})
}

// Clients, faults and reloads that change the routes: what was answered OK is on
// every route that its call met, once.
func TestEveryOKIsOnEveryRouteOnce(t *testing.T) {
	h := start(t, func(h *bench) {
		copies("*", AckReceived, "a/3", "b")(h)
		h.opts.Limits.Categories, h.opts.Limits.Queue, h.opts.Limits.Memory = 100, 1<<13, 1<<15
		h.made = func(p *place) { p.append = p.moody }
	})
	var mu sync.Mutex
	answers := make(map[string]thrift.Result)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 100 {
				m := fmt.Sprintf("%d-%d-%d", j%5, i, j)
				got := h.log("web:"+m, "api:"+m)
				mu.Lock()
				answers[m] = got
				mu.Unlock()
			}
		})
	}
	for i := range 10 {
		c := h.opts.Config
		c.Rules = []Rule{h.copied("*", AckReceived, fmt.Sprintf("a/%d", 2+i%3), []string{"b", "b/2"}[i%2])}
		if err := h.Reload(context.Background(), c); err != nil {
			t.Error(err)
		}
		h.balanced()
		gather(t, h.Aggregator)
	}
	clients.Wait()
	left, err := h.Stop(context.Background())
	equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
	found := make(map[string]int)
	for name, places := range h.places {
		for _, p := range places {
			for _, m := range p.messages() {
				found[name+p.category+m[strings.Index(m, "-"):]]++
			}
		}
	}
	for m, answer := range answers {
		for _, at := range []string{"aweb", "bweb", "aapi", "bapi"} {
			n := found[at+m[strings.Index(m, "-"):]]
			if want := map[thrift.Result]int{thrift.OK: 1, thrift.TryLater: 0}[answer]; n != want {
				t.Errorf("%s was answered %d and is %d times at %s", m, answer, n, at)
			}
		}
	}
}

func TestALaneThatCannotBeOpenedFailsAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, copies("*", AckStored, "n1", "n2/2"))
		h.must(thrift.OK, "web:1a")
		h.mu.Lock()
		h.opens = func(name, _ string) error {
			if name == "n3" {
				return errors.New("no such cluster")
			}
			return nil
		}
		h.mu.Unlock()
		c := h.opts.Config
		c.Rules = []Rule{h.copied("*", AckStored, "n1", "n3/2")}
		equal(t, "error", fmt.Sprint(h.Reload(context.Background(), c)), `category "web" route 1 part 1: open its chain: no such cluster`)
		h.must(thrift.OK, "web:1b")
		equal(t, "nothing has changed", h.part("n2", "web", 1).messages(), []string{"a", "b"})
	})
}
