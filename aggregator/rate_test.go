package aggregator

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/thrift"
)

// batchOf is a call of n messages.
func batchOf(n int) []string { return strings.Fields(strings.Repeat("web:x ", n)) }

func TestMessagesPerSecondAreCountedAsScribeCountsThem(t *testing.T) {
	for _, c := range []struct {
		limit int
		calls string // by their number of messages, + taken and - refused; | a second passes
	}{
		{100, "+10 +10 +10 +10 +10 +10 +10 +10 +10 +10 -10 -1 +0 | +10"},
		{100, "+51 +51 +51 +50 +51 +50 -50 -1 +51 +1000"},
		{100, "+50 +49 -2 +1 -1 | -0 +50 +50 -1"}, // what is refused uses nothing up
		{1, "+1 +1 +5 +1"},
		{2, "+1 +1 -1 +2 +2 -1"},
		{0, "+1 +1000"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, func(h *bench) { h.opts.Limits.MessagesPerSecond = c.limit })
			refused, messages := int64(0), int64(0)
			for word := range strings.FieldsSeq(c.calls) {
				if word == "|" {
					time.Sleep(time.Second)
					continue
				}
				var n int
				fmt.Sscan(word[1:], &n)
				want := thrift.OK
				if word[0] == '-' && n > 0 {
					want, refused, messages = thrift.TryLater, refused+1, messages+int64(n)
				}
				h.must(want, batchOf(n)...)
			}
			equal(t, c.calls, h.Counters()["scribe_overall:denied for rate"], refused)
			equal(t, "refused calls", h.calls.read().Refused, refused)
			equal(t, "refused messages", h.Books().Total.Refused["rate"].Messages, messages)
			_, there := h.Counters()["web:denied for rate"]
			equal(t, "of one category", there, false)
		})
	}
}

func TestTheRateIsOfTheWallClocksSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Date(2026, 11, 28, 12, 0, 0, 900_000_000, time.UTC)
		h := start(t, func(h *bench) {
			h.opts.Limits.MessagesPerSecond = 2
			h.opts.Now = func() time.Time { return now }
		})
		h.must(thrift.OK, "web:a", "new:b")
		h.must(thrift.OK, "web:a")
		h.must(thrift.OK, "another:a") // needs several looks, and counts once
		h.must(thrift.TryLater, "web:a")
		now = now.Add(100 * time.Millisecond)
		h.must(thrift.OK, "web:a")
	})
}

func TestARateIsReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Limits.MessagesPerSecond = 4 })
		h.must(thrift.OK, batchOf(2)...)
		h.must(thrift.OK, batchOf(2)...)
		h.must(thrift.TryLater, batchOf(1)...)
		c := h.opts.Config
		c.Limits.MessagesPerSecond = 6
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, batchOf(2)...)
		h.must(thrift.TryLater, batchOf(1)...)
	})
}

func TestAQueueThatAdmitsBelowItsLimitTakesACallOfAnySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.opts.Limits.Queue, h.opts.Limits.QueueAdmits = 1500, conf.QueueAdmitsBelow
			h.opts.Limits.Memory = 10_000
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		long := "web:" + strings.Repeat("x", 900)
		h.must(thrift.OK, long)                         // 1045 of 1500
		h.must(thrift.OK, long, long, long, "other:x")  // below it: all are taken
		h.must(thrift.TryLater, "web:x", "other:small") // now it is not
		h.must(thrift.OK, "other:small")
		equal(t, "denied", h.Counters()["web:denied for queue size"], 1)
		h.must(thrift.TryLater, strings.Fields(strings.Repeat("api:"+strings.Repeat("y", 900)+" ", 9))...) // the memory bounds all
		equal(t, "refused", h.Books().Total.Refused["memory"].Messages, 9)
		s.off.Store(false)
		time.Sleep(10 * time.Second)
		h.must(thrift.OK, "web:x")
	})
}

func TestABlankCategoryIsAnsweredWhenItsDeadLetterIsStoredAlsoWhereOthersAreReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) {
				p.append = func(context.Context, *store.Batch) (*store.Batch, error) {
					time.Sleep(100 * time.Millisecond)
					return nil, nil
				}
			}
		})
		begin := time.Now()
		h.must(thrift.OK, "web:x")
		equal(t, "at once", time.Since(begin), 0)
		h.must(thrift.OK, "web:x", ":blank")
		equal(t, "stored", time.Since(begin), 100*time.Millisecond)
		equal(t, "where it is", h.book("").Stored, map[string]Count{"dead-letter": {1, 6}})
		equal(t, "fb303", h.Counters()["scribe_overall:received blank category"], 1)
	})
}

// The way of nearly every message: one route that is not split.
func TestTheSimpleWayAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("the race detector has pools forget what they keep")
	}
	h := &bench{t: t, places: make(map[string][]*place)}
	o := modelOptions(h)
	o.Rules = []Rule{h.rule("*", AckReceived, "n1")}
	o.Limits.Memory, o.Limits.Queue, o.Limits.MessagesPerSecond = 1<<30, 1<<30, 1<<30
	o.Queue.MaxBatch, o.Queue.BatchBytes = 16<<20, 16<<20
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*thrift.Call{benchCall(1, 20, 1, 0), benchCall(100, 20, 3, 0)} {
		round := func() { equal(t, "result", a.Log(context.Background(), c) == thrift.OK, true) }
		for a.arenas.live.Load() < 4<<20 { // nobody takes batches: the arenas have room for what follows
			round()
		}
		if n := testing.AllocsPerRun(200, func() { a.Log(context.Background(), c) }); n >= 1 {
			t.Errorf("%d messages: %v allocations a call", len(c.Entries), n)
		}
	}
}
