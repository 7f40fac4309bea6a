package aggregator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

// lossy makes every category one whose messages are dropped where n1 refuses them.
func lossy(ack string) func(*bench) {
	return func(h *bench) {
		h.opts.Rules = []Rule{h.rule("*", ack, "n1")}
		h.opts.Rules[0].Routes[0].Lossy = true
	}
}

func TestALossyRuleDropsWhatItsChainRefusesAndTellsNobody(t *testing.T) {
	for _, ack := range []string{AckStored, AckReceived} {
		for _, fault := range []error{errAway, store.ErrFull, fmt.Errorf("no permission: %w", store.ErrBroken)} {
			synctest.Test(t, func(t *testing.T) {
				var off atomic.Bool
				h := start(t, func(h *bench) {
					lossy(ack)(h)
					h.made = func(p *place) {
						p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
							if off.Load() {
								return b, fault
							}
							return nil, nil
						}
					}
				})
				off.Store(true)
				begin := time.Now()
				h.must(thrift.OK, "web:a", "web:b")
				h.must(thrift.OK, "web:c")
				equal(t, "nobody waits", time.Since(begin), 0)
				time.Sleep(time.Second)
				equal(t, "nothing is kept", h.memory.Load(), 0)
				status, _ := h.Status()
				equal(t, "status", status, thrift.Warning)
				off.Store(false)
				h.must(thrift.OK, "web:d")
				time.Sleep(time.Second)
				equal(t, "messages", h.of("n1", "web").messages(), []string{"d"})
				b := h.book("web")
				equal(t, "dropped", b.Dropped, Count{3, 6})
				equal(t, "neither withdrawn nor tried again", fmt.Sprint(b.Withdrawn, b.Retried, b.Refused), fmt.Sprint(Count{}, 0, map[string]Count(nil)))
				c := h.Counters()
				equal(t, "fb303", []int64{c["web:lost"], c["web:received good"], c["web:requeue"]}, []int64{3, 4, 0})
				status, _ = h.Status()
				equal(t, "status", status, thrift.Alive)
			})
		}
	}
}

func TestALossyRuleKeepsThePartThatItsChainTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			lossy(AckStored)(h)
			h.made = func(p *place) {
				p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
					p.take(b, 2)
					return after(b, 2), errAway
				}
			}
		})
		h.must(thrift.OK, "web:a", "web:b", "web:c")
		equal(t, "stored", h.book("web").Stored, map[string]Count{"n1": {2, 4}})
		equal(t, "dropped", h.book("web").Dropped, Count{1, 2})
		equal(t, "written off beside it", h.Dropped("web", "n1", Count{2, 4}), true)
		equal(t, "dropped", h.book("web").Dropped, Count{3, 6})
	})
}

func TestALossyRuleDropsWhatNoChainCanBeOpenedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			lossy(AckReceived)(h)
			h.opens = func(string, string) error { return errors.New("no such place") }
		})
		h.must(thrift.OK, "web:a")
		time.Sleep(time.Second)
		equal(t, "dropped", h.book("web").Dropped, Count{1, 2})
	})
}

func TestALossyRuleLosesNothingOfOtherRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:kept")
		time.Sleep(time.Second)
		c := h.opts.Config
		c.Rules = []Rule{h.rule("*", AckReceived, "n1")}
		c.Rules[0].Routes[0].Lossy = true
		c.DeadLetters.Routes = []Route{c.DeadLetters.Routes[0]}
		c.DeadLetters.Routes[0].Lossy = true // which is not looked at
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, "web:lost")
		h.must(thrift.TryLater, ":blank")
		time.Sleep(time.Minute)
		s.off.Store(false)
		time.Sleep(time.Minute)
		equal(t, "web", h.book("web").Stored, map[string]Count{"n1": {1, 5}})
		equal(t, "lost", h.book("web").Dropped, Count{1, 5})
		equal(t, "blank", h.book("").Dropped, Count{})
	})
}

func TestAStopRescuesALossyBatchThatItCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r shelter
		h := start(t, func(h *bench) {
			lossy(AckReceived)(h)
			h.opts.Rescue = r.rescue
			h.opts.Timeouts.Write = time.Hour
			h.made = func(p *place) { p.append = hanging }
		})
		h.must(thrift.OK, "web:a")
		time.Sleep(time.Second)
		h.must(thrift.OK, "web:b")
		left, _, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
		equal(t, "rescued", r.messages(), []string{"a", "b"})
		equal(t, "dropped", h.book("web").Dropped, Count{})
	})
}

func TestAStopDropsWhatALossyChainRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r shelter
		h := start(t, func(h *bench) {
			lossy(AckReceived)(h)
			h.opts.Rescue = r.rescue
			h.made = func(p *place) { p.append = failing(errAway) }
		})
		h.must(thrift.OK, "web:a")
		left, took, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, took, err), "0 0s <nil>")
		equal(t, "rescued", len(r.messages()), 0)
		equal(t, "dropped", h.book("web").Dropped, Count{1, 2})
	})
}

func TestALossyRouteIsLossyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			copies("*", AckStored, "n1", "n2", "n3/2")(h)
			h.opts.Rules[0].Routes[1].Lossy = true
			h.made = func(p *place) {
				if p.name == "n2" {
					p.append = failing(errAway)
				} else {
					p.append = s.append
				}
			}
		})
		h.must(thrift.OK, "web:1a")
		s.off.Store(true)
		h.must(thrift.TryLater, "web:1b")
		equal(t, "n1", h.book("web").Stored, map[string]Count{"n1": {1, 3}})
		equal(t, "n1", h.book("web").Dropped, Count{})
		equal(t, "n2", h.lane("web", Lane{1, Whole}).Dropped, Count{2, 6})
		equal(t, "n3", h.lane("web", Lane{2, 1}).Withdrawn, Count{1, 2})
	})
}

// Copies of one message may be stored in two ways.
func TestAnExactRouteIsExactAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			copies("*", AckStored, "n1", "n2", "n3/2")(h)
			h.opts.Rules[0].Routes[1].Exact = true
			h.opts.Rules[0].Routes[2].Exact = true
		})
		h.must(thrift.OK, "web:1a\n", "web:1b", "web:0c\n")
		h.must(thrift.OK, "web:1d\n") // the way of a single message
		equal(t, "n1", h.of("n1", "web").messages(), []string{"1a", "1b", "0c", "1d"})
		equal(t, "n2", h.of("n2", "web").messages(), []string{"1a\n", "1b", "0c\n", "1d\n"})
		equal(t, "n3", h.part("n3", "web", 1).messages(), []string{"a\n", "b", "d\n"})
		equal(t, "bytes", []Count{h.book("web").Accepted, h.lane("web", Lane{1, Whole}).Accepted, h.lane("web", Lane{2, 1}).Accepted},
			[]Count{{4, 12}, {4, 15}, {3, 8}})
	})
}

func TestAnExactRuleGivesEveryMessageALineFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.copied("x*", AckReceived, "n1", "n2/2"), h.rule("*", AckReceived, "n1")}
			h.opts.Rules[0].Routes[0].Exact, h.opts.Rules[0].Routes[1].Exact = true, true
		})
		want := []string{"plain", "ended\n", "", "\n", "two\n\n", "1\n", "1"}
		var entries []string
		for _, m := range want {
			entries = append(entries, "x:"+m)
		}
		h.must(thrift.OK, entries...)
		h.must(thrift.OK, "x:1alone\n") // the way of a single message
		h.must(thrift.OK, "other:ended\n")
		time.Sleep(time.Second)
		b := h.of("n1", "x").batches()[0]
		equal(t, "text", fmt.Sprintf("%q", b.Data), fmt.Sprintf("%q", "plain\nended\n\n\n\n\ntwo\n\n\n1\n\n1\n1alone\n\n"))
		equal(t, "messages", fmt.Sprintf("%q", h.of("n1", "x").messages()), fmt.Sprintf("%q", append(want, "1alone\n")))
		equal(t, "part 0", fmt.Sprintf("%q", h.part("n2", "x", 0).messages()), fmt.Sprintf("%q", want[:5]))
		equal(t, "part 1", fmt.Sprintf("%q", h.part("n2", "x", 1).messages()), fmt.Sprintf("%q", []string{"\n", "", "alone\n"}))
		equal(t, "another rule", h.of("n1", "other").messages(), []string{"ended"})
		equal(t, "the books count them", h.book("x").Stored["n1"], Count{8, int64(len(b.Data))})
	})
}
