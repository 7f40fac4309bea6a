package aggregator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/thrift"
)

// Hundreds of small categories at moments of their own, some again before they
// are written: each message is written within the batch wait, none much sooner.
func TestTheClockWakesEveryQueueInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			received(h)
			h.opts.Limits.Categories = 1000
		})
		wait := h.opts.Queue.BatchWait
		rnd := rand.New(rand.NewPCG(3, 1))
		first := map[string]time.Time{} // by category and number of the batch
		for i := range 600 {
			name := fmt.Sprint("c", rnd.IntN(200))
			written := 0
			if h.known(name) {
				written = len(h.of("n1", name).batches())
			}
			if key := fmt.Sprint(name, "#", written); first[key].IsZero() {
				first[key] = time.Now()
			}
			h.must(thrift.OK, fmt.Sprint(name, ":", i))
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Microsecond)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		batches := 0
		for n := range 200 {
			name := fmt.Sprint("c", n)
			if !h.known(name) {
				continue
			}
			for i, b := range h.of("n1", name).batches() {
				batches++
				took := b.at.Sub(first[fmt.Sprint(name, "#", i)])
				if took > wait || took < wait-early(wait) {
					t.Errorf("%s: batch %d was written %v after its first message, want %v", name, i, took, wait)
				}
			}
		}
		if batches < 300 {
			t.Errorf("%d batches: hardly anything was looked at", batches)
		}
	})
}

// Calls that name the same categories in any order lock many of them at once,
// and none waits for another for ever.
func TestCallsMayNameCategoriesInAnyOrder(t *testing.T) {
	h := start(t, func(h *bench) {
		received(h)
		h.opts.Limits.Memory, h.opts.Limits.Queue, h.opts.Limits.Categories = 1<<30, 1<<30, 100
	})
	const clients, calls, categories = 8, 200, 60
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(client), 1))
			for call := range calls {
				var entries []string
				for _, n := range rnd.Perm(categories) {
					entries = append(entries, fmt.Sprintf("c%d:%d.%d", n, client, call))
				}
				h.must(thrift.OK, entries...)
			}
		})
	}
	all.Wait()
	if left, err := h.Stop(t.Context()); left != 0 || err != nil {
		t.Error(left, err)
	}
	for n := range categories {
		if got := len(h.of("n1", fmt.Sprint("c", n)).messages()); got != clients*calls {
			t.Errorf("c%d has %d messages, want %d", n, got, clients*calls)
		}
	}
}

// known says whether a chain was opened for the category.
func (h *bench) known(category string) bool {
	return slices.ContainsFunc(h.all("n1"), func(p *place) bool { return p.category == category })
}
