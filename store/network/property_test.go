package network

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/storetest"
	"twinscribe/thrift"
)

// TestEachMessageOnce sends batches under random faults until each is taken, as
// a queue does, and crashes now and then: the batch under way is then sent again
// whole by the next start, which knows where it came from. A reader that goes by
// the batch ids finds each message once and in order; one that does not finds
// each at least once, and the first copies in order.
func TestEachMessageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { rapid.Check(bubbled{t}, eachOnce) })
}

func TestEachMessageAtLeastOnceWithoutIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(t *rapid.T) {
			h := newHistory(t, false)
			defer h.end()
			h.play()
			wantMessages(t, "at least once, in order", firsts(h.w.messages()), h.sent...)
		})
	})
}

// bubbled hides Deadline, which may not be asked for inside a bubble.
type bubbled struct{ testing.TB }

func eachOnce(t *rapid.T) {
	h := newHistory(t, true)
	defer h.end()
	h.play()
	wantMessages(t, "once", h.w.read(), h.sent...)
	wantMessages(t, "at least once, in order", firsts(h.w.messages()), h.sent...)
	count := 0
	for _, n := range h.took {
		count += n
	}
	if count != len(h.sent) {
		t.Errorf("the books have %d messages, %d were sent", count, len(h.sent))
	}
}

func firsts(all []string) (kept []string) {
	seen := map[string]bool{}
	for _, m := range all {
		if !seen[m] {
			kept = append(kept, m)
		}
		seen[m] = true
	}
	return kept
}

// history is one run of the property.
type history struct {
	t    *rapid.T
	w    *world
	spec Spec

	mu     sync.Mutex
	random []int // what the faults are drawn from, over and over
	next   int
	calm   bool

	start catalog.Identity
	pool  *Pool
	s     *Store
	stop  func()

	sent []string
	took map[uint64]int // messages of the batch that begins there
}

func newHistory(t *rapid.T, ids bool) *history {
	list := []string{"a:1", "b:1", "c:1"}[:rapid.IntRange(1, 3).Draw(t, "servers")]
	h := &history{
		t: t, w: newWorld(t, list...), took: map[uint64]int{}, start: thisStart,
		spec:   Spec{Servers: list, BatchIDs: ids, MaxFrame: rapid.IntRange(150, 600).Draw(t, "frame"), Shared: rapid.Bool().Draw(t, "shared")},
		random: rapid.SliceOfN(rapid.IntRange(0, 999), 40, 40).Draw(t, "faults"),
	}
	h.w.faults(func(string) fault { return h.fault() })
	for _, r := range h.w.at {
		r.answers(func(call) thrift.Result {
			if h.draw()%10 == 0 {
				return thrift.TryLater
			}
			return thrift.OK
		})
	}
	h.begin()
	return h
}

func (h *history) draw() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calm {
		return 999
	}
	h.next++
	return h.random[h.next%len(h.random)]
}

func (h *history) fault() fault {
	n := h.draw()
	switch n % 8 {
	case 0:
		return fault{refused: true}
	case 1:
		return fault{silent: true}
	case 2:
		return fault{reply: n/8 + 1}
	case 3:
		return fault{reply: -1}
	case 4:
		return fault{request: n/4 + 1}
	case 5:
		return fault{slow: time.Duration(n) * 10 * time.Millisecond}
	default:
		return fault{}
	}
}

func (h *history) begin() {
	h.pool, h.stop = h.w.pool(h.start)
	h.s = chain(h.t, h.pool, h.spec)
}

// crash ends the process and begins another one, the next start.
func (h *history) crash() {
	shut(h.t, h.s)
	h.stop()
	h.start.Epoch++
	h.start.Start += 77
	h.begin()
}

func (h *history) end() {
	shut(h.t, h.s)
	h.stop()
	h.w.end()
}

func (h *history) play() {
	t := h.t
	first := uint64(1)
	origin := h.start
	for range rapid.IntRange(1, 6).Draw(t, "batches") {
		var messages []string
		for range rapid.IntRange(1, 12).Draw(t, "messages") {
			messages = append(messages, fmt.Sprintf("message %d of them", len(h.sent)+len(messages)))
		}
		make1 := func() *store.Batch {
			b := storetest.Batch(first, messages...)
			if h.start != origin {
				from := origin
				b.Origin = &from
			}
			return b
		}
		b := make1()
		crashAt := rapid.IntRange(1, 20).Draw(t, "crash")
		for try := 1; b != nil; try++ {
			if try == crashAt {
				h.crash()
				b, h.took[first] = make1(), 0
			}
			if try == 300 { // it may draw nothing but faults
				h.mu.Lock()
				h.calm = true
				h.mu.Unlock()
			}
			b = h.append(b, first)
		}
		h.sent = append(h.sent, messages...)
		first += uint64(len(messages))
	}
}

// append sends a batch once and returns what is left of it.
func (h *history) append(b *store.Batch, first uint64) *store.Batch {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	data := slices.Clone(b.Data)
	rest, err := h.s.Append(ctx, b)
	if !slices.Equal(data, b.Data) {
		h.t.Fatal("the messages are changed")
	}
	clearTail(b, rest)
	n := 0
	for _, k := range b.Taken {
		n += k.Messages
	}
	left := 0
	if rest != nil {
		left = rest.Len()
	}
	if n+left != b.Len() || (err == nil) != (rest == nil) {
		h.t.Fatalf("%d taken and %d left of %d, error %v", n, left, b.Len(), err)
	}
	h.took[first] += n
	if err != nil {
		time.Sleep(700 * time.Millisecond)
	}
	return rest
}

// clearTail overwrites what was taken: it is the caller's again, and nobody may
// read it any more.
func clearTail(b, rest *store.Batch) {
	taken := len(b.Data)
	if rest != nil {
		taken -= len(rest.Data)
	}
	for i := range b.Data[:taken] {
		b.Data[i] = 'Z'
	}
}
