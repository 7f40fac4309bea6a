package aggregator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

// leavable has rules like copies, of which all routes are optional, and places
// that hang while their names are among held.
func leavable(ack string, held *[2]string, open chan struct{}, names ...string) func(*bench) {
	return func(h *bench) {
		copies("*", ack, names...)(h)
		for i := range h.opts.Rules[0].Routes {
			h.opts.Rules[0].Routes[i].Optional = true
		}
		h.opts.Limits.Queue = 1500
		h.made = func(p *place) {
			if p.name == held[0] || p.name == held[1] {
				p.append = func(context.Context, *store.Batch) (*store.Batch, error) { <-open; return nil, nil }
			}
		}
	}
}

func TestAnOptionalRouteThatIsFullIsLeftOut(t *testing.T) {
	long := strings.Repeat("x", 900)
	for full, lane := range map[string]Lane{"n1": own, "n2": {1, Whole}} {
		synctest.Test(t, func(t *testing.T) {
			open := make(chan struct{})
			h := start(t, leavable(AckReceived, &[2]string{full}, open, "n1", "n2"))
			for _, m := range []string{"a", "b", "c"} {
				h.must(thrift.OK, "web:"+m+long)
				time.Sleep(time.Second)
			}
			h.must(thrift.OK, "api:d")
			close(open)
			time.Sleep(time.Second)
			other := map[string]string{"n1": "n2", "n2": "n1"}[full]
			equal(t, other, len(h.of(other, "web").messages()), 3)
			equal(t, full, h.of(full, "web").messages(), []string{"a" + long})
			book := h.book("web")
			if lane != own {
				book = h.lane("web", lane)
			}
			equal(t, "left out", book.Dropped, Count{2, 1804})
			c := h.Counters()
			equal(t, "fb303", []int64{c["web:received good"], c["web:lost"], c["web:denied for queue size"]}, []int64{3, 2, 0})
			h.must(thrift.OK, "web:e")
			time.Sleep(time.Second)
			equal(t, full, len(h.of(full, "web").messages()), 2)
		})
	}
}

func TestOptionalRoutesThatAreAllFullRefuse(t *testing.T) {
	long := strings.Repeat("x", 900)
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		h := start(t, leavable(AckReceived, &[2]string{"n1", "n2"}, open, "n1", "n2"))
		h.must(thrift.OK, "web:a"+long)
		time.Sleep(time.Second)
		h.must(thrift.TryLater, "web:b"+long, "api:c")
		equal(t, "refused", h.book("web").Refused, map[string]Count{"queue": {1, 902}})
		equal(t, "dropped", h.Books().Total.Dropped, Count{})
		close(open)
	})
}

// What is left out of part 0 of one route may be what was left out of part 1 of
// another one, unless a route takes all.
func TestAMessageIsNotLeftOutOfEveryRoute(t *testing.T) {
	long := strings.Repeat("x", 900)
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		h := start(t, leavable(AckReceived, &[2]string{"a", "b"}, open, "a/2", "b/3"))
		h.must(thrift.OK, "web:0"+long) // part 0 of both
		time.Sleep(time.Second)
		h.must(thrift.TryLater, "web:0"+long, "web:1b") // neither takes both, though each has a part that is free
		h.must(thrift.OK, "web:2"+long)                 // a is full, b is not
		h.must(thrift.OK, "web:3"+long)                 // b is full, a is not
		h.must(thrift.OK, "web:5b")                     // both are free
		close(open)
		time.Sleep(time.Second)
		equal(t, "a/0 left out", h.lane("web", Lane{0, 0}).Dropped, Count{1, 901})
		equal(t, "b/0 left out", h.lane("web", Lane{1, 0}).Dropped, Count{1, 901})
	})
}

func TestADeadLetterIsNeverLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		h := start(t, leavable(AckReceived, &[2]string{"n1"}, open, "n1", "n2"))
		h.must(thrift.OK, "web:"+strings.Repeat("x", 900))
		time.Sleep(time.Second)
		// The queue of the category holds its dead letters too.
		h.must(thrift.TryLater, "web:"+strings.Repeat("x", 900), "web:"+strings.Repeat("y", 1001))
		h.must(thrift.OK, "web:"+strings.Repeat("x", 900))
		close(open)
		time.Sleep(time.Second)
		h.must(thrift.OK, "web:"+strings.Repeat("y", 1001))
		equal(t, "n2", len(h.of("n2", "web").messages()), 2)
		equal(t, "dead letters", len(h.of("dead-letter", "web").messages()), 1)
	})
}

// Calls of any shape against queues of which any are full: what was answered OK
// is on one route at least, what was refused on none, and on no route twice.
func TestEveryOKIsOnOneOfItsOptionalRoutes(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 6))
			var shut [3]atomic.Bool
			h := start(t, func(h *bench) {
				copies("*", AckReceived, "a/2", "b/3", "c")(h)
				for i := range h.opts.Rules[0].Routes {
					h.opts.Rules[0].Routes[i].Optional = true
				}
				h.opts.Limits.Queue, h.opts.Limits.Categories = 2000, 100
				h.made = func(p *place) {
					p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
						if shut[p.name[0]-'a'].Load() {
							return b, errAway
						}
						return nil, nil
					}
				}
			})
			answers := make(map[string]thrift.Result)
			for n := range 150 {
				shut[random.IntN(3)].Store(random.IntN(3) > 0)
				var entries, names []string
				for i := range 1 + random.IntN(4) {
					m := fmt.Sprintf("-%d-%d-%s", n, i, strings.Repeat("x", random.IntN(500)))
					category := []string{"web", "api"}[random.IntN(2)]
					entries, names = append(entries, fmt.Sprintf("%s:%d%s", category, random.IntN(6), m)), append(names, m)
				}
				got := h.log(entries...)
				for _, m := range names {
					answers[m] = got
				}
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
				h.balanced()
			}
			for i := range shut {
				shut[i].Store(false)
			}
			time.Sleep(time.Minute)
			found := make(map[string]map[string]int)
			for name, places := range h.places {
				for _, p := range places {
					for _, m := range p.messages() {
						m = m[strings.Index(m, "-"):]
						if found[m] == nil {
							found[m] = make(map[string]int)
						}
						if found[m][name]++; found[m][name] > 1 {
							t.Errorf("%s twice at %s", m, name)
						}
					}
				}
			}
			for m, answer := range answers {
				if (len(found[m]) > 0) != (answer == thrift.OK) {
					t.Errorf("%s was answered %d and is at %v", m, answer, found[m])
				}
			}
		})
	}
}
