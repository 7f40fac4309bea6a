package aggregator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/thrift"
)

func TestACategoryAtItsLimitRefusesOnlyCallsThatHoldIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		h := start(t, func(h *bench) {
			h.opts.Limits.Queue = 1500
			h.made = func(p *place) {
				if p.category == "hot" {
					p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) { <-block; return nil, nil }
				}
			}
		})
		var held sync.WaitGroup
		held.Go(func() { h.must(thrift.OK, "hot:"+strings.Repeat("x", 900)) })
		synctest.Wait()
		h.must(thrift.TryLater, "cold:a", "hot:"+strings.Repeat("x", 900))
		h.must(thrift.OK, "cold:b")
		equal(t, "cold", h.of("n1", "cold").messages(), []string{"b"})
		hot := h.book("hot")
		equal(t, "hot refused", hot.Refused, map[string]Count{"queue": {1, 901}})
		equal(t, "denied", hot.Denied, 1)
		equal(t, "fb303", h.Counters()["hot:denied for queue size"], 1)
		close(block)
		held.Wait()
		h.must(thrift.OK, "hot:"+strings.Repeat("x", 900))
	})
}

func TestACallLargerThanEveryLimitPassesAloneAndABatchKeepsItWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Limits.Queue, h.opts.Limits.Memory = 100, 200 })
		h.must(thrift.OK, "web:"+strings.Repeat("x", 900))
		h.must(thrift.OK, "web:"+strings.Repeat("x", 900))
		equal(t, "memory", h.memory.Load(), 0)
	})
}

func TestTheMemoryLimitCountsAllQueuesAndOverhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		h := start(t, func(h *bench) {
			h.opts.Limits.Memory = 1000
			h.made = func(p *place) {
				p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) { <-block; return nil, nil }
			}
		})
		var held sync.WaitGroup
		for i := range 6 { // of one byte, and 1 + 16 + 128 in memory
			held.Go(func() { h.must(thrift.OK, fmt.Sprintf("c%d:", i)) })
		}
		synctest.Wait()
		equal(t, "memory", h.memory.Load(), 6*145)
		h.must(thrift.TryLater, "c0:")
		h.must(thrift.TryLater, "c0:", "c1:")
		equal(t, "refused", h.Books().Total.Refused, map[string]Count{"memory": {3, 3}})
		close(block)
		held.Wait()
		equal(t, "memory at the end", h.memory.Load(), 0)
		h.must(thrift.OK, "c0:")
	})
}

func TestNamesBeyondTheLimitAreRefusedAndConfiguredOnesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = append(h.opts.Rules, h.rule("web", AckStored, "n1"))
		})
		for i := range 8 {
			h.must(thrift.OK, fmt.Sprintf("c%d:x", i))
		}
		h.must(thrift.TryLater, "c8:x")
		h.must(thrift.TryLater, "c0:x", "c9:x")
		h.must(thrift.OK, "c0:x", "web:x", ":x")
		equal(t, "others", h.Books().Other.Refused, map[string]Count{"categories": {2, 4}})
		equal(t, "c0", h.book("c0").Refused, map[string]Count{"call": {1, 2}})
		equal(t, "live", h.Snapshot().Live, 8)
	})
}

func TestACallWithManyNewNamesIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Limits.Categories = 1000 })
		var entries []string
		for i := range 2000 {
			entries = append(entries, fmt.Sprintf("c%d:%d", i%1000, i))
		}
		h.must(thrift.OK, entries...)
		equal(t, "c7", h.of("n1", "c7").messages(), []string{"7", "1007"})
		equal(t, "c999", h.of("n1", "c999").messages(), []string{"999", "1999"})
	})
}

func TestCategoriesWithoutARuleAreKeptApartAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Rules = []Rule{h.rule("web", AckReceived, "n1")} })
		h.must(thrift.OK, "stray:a", "web:b")
		equal(t, "stray", h.of("unrouted", "stray").messages(), []string{"a"})
		b := h.book("stray")
		equal(t, "stored", b.Stored, map[string]Count{"unrouted": {1, 2}})
		equal(t, "unrouted", b.Unrouted, 1)
		for _, c := range h.Snapshot().Categories {
			equal(t, string(c.Category), c.Unrouted, c.Category == "stray")
		}
		equal(t, "fb303", h.Counters()["stray:received bad"], 1)
		h.must(thrift.OK, "stray2:a")      // a quarter of 8
		h.must(thrift.TryLater, "stray3:") // and no more
	})
}

func TestCategoriesWithoutARuleAreRefusedWhereTheConfigurationSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules, h.opts.Unrouted = []Rule{h.rule("web", AckStored, "n1")}, nil
		})
		h.must(thrift.TryLater, "stray:a", "web:b")
		h.must(thrift.OK, "web:c")
		h.must(thrift.TryLater, "stray:d", "web:e")
		equal(t, "stray", h.book("stray").Refused, map[string]Count{"unrouted": {2, 4}})
		equal(t, "web", h.book("web").Refused, map[string]Count{"call": {2, 4}})
		for i := range 5 { // two names are kept, the rest is counted together
			h.must(thrift.TryLater, fmt.Sprintf("s%d:x", i))
		}
		equal(t, "others", h.Books().Other.Refused["unrouted"].Messages, 4)
		equal(t, "fb303", h.Counters()["scribe_overall:received bad"], 7)
	})
}

func TestTheLastOfTheMemoryIsForThoseThatHoldLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		h := start(t, func(h *bench) {
			h.opts.Limits = conf.Limits{Message: 1000, Memory: 64 << 10, Queue: 64 << 10, Categories: 100}
			h.made = func(p *place) {
				if strings.HasPrefix(p.category, "hot") {
					p.append = func(context.Context, *store.Batch) (*store.Batch, error) { <-block; return nil, nil }
				}
			}
		})
		var held sync.WaitGroup
		var refused atomic.Int64
		for i := range 100 { // 856 bytes of 64 KiB each
			held.Go(func() {
				if h.log(fmt.Sprintf("hot%d:%s", i%10, strings.Repeat("x", 711))) == thrift.TryLater {
					refused.Add(1)
				}
			})
			synctest.Wait()
		}
		if n := h.memory.Load(); n > 56<<10 || n < 50<<10 || refused.Load() == 0 {
			t.Errorf("%d bytes are held and %d calls refused, want seven eighths of 64 KiB", n, refused.Load())
		}
		for i := range 20 {
			h.must(thrift.OK, fmt.Sprintf("quiet%d:x", i))
		}
		close(block)
		held.Wait()
	})
}

func TestArenasCountAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const message, limit = 1<<20 + 1, 64 << 20 // just beyond a power of two
		block := make(chan struct{})
		h := start(t, func(h *bench) {
			h.opts.Limits = conf.Limits{Message: 2 << 20, Memory: limit, Queue: limit, Categories: 1000}
			h.opts.Queue.MaxBatch = 4 << 20
			h.made = func(p *place) {
				p.append = func(context.Context, *store.Batch) (*store.Batch, error) { <-block; return nil, nil }
			}
		})
		text := strings.Repeat("x", message)
		var held sync.WaitGroup
		for i := range 200 {
			held.Go(func() { h.log(fmt.Sprintf("c%d:%s", i/2, text)) })
			synctest.Wait()
		}
		if n := h.arenaBytes(); n > limit+arenaMargin+4<<20 {
			t.Errorf("arenas of %d MiB, the limit is %d", n>>20, limit>>20)
		}
		if n := h.memory.Load(); n < limit/2 {
			t.Errorf("only %d MiB of %d are used", n>>20, limit>>20)
		}
		close(block)
		held.Wait()
	})
}
