package aggregator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store"
	"twinscribe/thrift"
)

// Clients, faults, reloads and a reader of the books at once: every snapshot
// balances, every message that was answered OK is stored once, and one that was
// not is stored at most once.
func TestEverySnapshotBalancesAndEveryOKIsStoredOnce(t *testing.T) {
	var r shelter
	h := start(t, func(h *bench) {
		h.opts.Limits.Categories, h.opts.Limits.Queue, h.opts.Limits.Memory = 12, 1<<13, 1<<15
		h.opts.Timeouts.Ack = 20 * time.Millisecond
		h.opts.Rescue = r.rescue
		h.opts.Rules = []Rule{h.rule("s*", AckStored, "n1"), h.rule("r*", AckReceived, "n2")}
		h.made = func(p *place) { p.append = p.moody }
	})
	answers := h.load(t, func(i int) {
		c := h.opts.Config
		c.Rules = []Rule{h.rule("s*", AckStored, "n1"), h.rule("r*", AckReceived, fmt.Sprint("n", 2+i%2))}
		if err := h.Reload(context.Background(), c); err != nil {
			t.Error(err)
		}
	})
	equal(t, "memory", h.memory.Load(), 0)
	found := make(map[string]int)
	stored := int64(0)
	for _, places := range h.places {
		for _, p := range places {
			for _, m := range p.messages() {
				found[p.category+":"+m]++
				stored++
			}
		}
	}
	for _, k := range r.got {
		for _, m := range k.messages {
			found[k.Category+":"+m]++
			stored++
		}
	}
	equal(t, "stored in the books", sum(h.Books().Total.Stored).Messages, stored)
	for e, answer := range answers {
		if n := found[e]; n > 1 || (n == 0 && answer == thrift.OK) {
			t.Errorf("%.40q was answered %d and is stored %d times", e, answer, n)
		}
	}
	if len(found) == 0 || len(found) == len(answers) {
		t.Errorf("%d of %d messages are stored: the test shows nothing", len(found), len(answers))
	}
}

// load has clients send, a reader look at the books, and change called ten times
// beside them, and then stops. It returns the answer to each entry.
func (h *bench) load(t *testing.T, change func(i int)) map[string]thrift.Result {
	var mu sync.Mutex
	answers := make(map[string]thrift.Result)
	quit := make(chan struct{})
	var clients, reader sync.WaitGroup
	for i := range 12 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 7))
			for j := range 300 {
				entries := someEntries(random, fmt.Sprintf("%d-%d", i, j))
				got := h.log(entries...)
				mu.Lock()
				for _, e := range entries {
					answers[e] = got
				}
				mu.Unlock()
			}
		})
	}
	reader.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
				h.balanced()
				h.Snapshot()
				gather(t, h.Aggregator)
			}
		}
	})
	for i := range 10 {
		change(i)
	}
	clients.Wait()
	left, err := h.Stop(context.Background())
	equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
	close(quit)
	reader.Wait()
	return answers
}

// moody takes a batch, or half of it, or nothing, quickly or not.
func (p *place) moody(_ context.Context, b *store.Batch) (*store.Batch, error) {
	switch n := rand.IntN(20); {
	case n == 0:
		return b, errAway
	case n == 1 && b.Len() > 1:
		p.take(b, b.Len()/2)
		return after(b, b.Len()/2), errAway
	case n == 2:
		time.Sleep(30 * time.Millisecond) // longer than the acknowledgement timeout
	}
	return nil, nil
}

func someEntries(random *rand.Rand, id string) (entries []string) {
	for k := range 1 + random.IntN(4) {
		m := fmt.Sprintf("%s-%d-%s", id, k, strings.Repeat("x", random.IntN(100)))
		switch random.IntN(12) {
		case 0:
			m += strings.Repeat("x", 1000)
		case 1:
			m = strings.ReplaceAll(m, "x", "\n")
			m = strings.TrimRight(m, "\n") + "."
		}
		category := []string{"s1", "s2", "s3", "r1", "r2", "r3", "stray", ""}[random.IntN(8)]
		entries = append(entries, category+":"+m)
	}
	return entries
}

// model is what the books must say of one category, kept the simple way.
type model struct {
	offered, accepted, refused, stored, withdrawn Count
	pending                                       []string // accepted, not yet with a place or withdrawn
}

func size(m string) Count { return Count{1, int64(storedSize([]byte(m), false))} }

// The books and the order of messages against a model, with the drivers moved
// by hand, one attempt at a time.
func TestTheBooksAgreeWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &bench{places: make(map[string][]*place)}
		fail := 0 // messages of the next batch that the place takes; -1: all
		h.made = func(p *place) {
			p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
				switch {
				case fail < 0 || fail >= b.Len():
					return nil, nil
				case fail == 0:
					return b, errAway
				}
				p.take(b, fail)
				return after(b, fail), errAway
			}
		}
		a, err := New(modelOptions(h))
		if err != nil {
			t.Fatal(err)
		}
		h.Aggregator = a
		m := make(map[string]*model)
		drivers := make(map[*queue]*driver)
		t.Repeat(map[string]func(*rapid.T){
			"log":  func(t *rapid.T) { modelLog(t, h, m) },
			"step": func(t *rapid.T) { modelStep(t, h, m, drivers, &fail) },
			"":     func(t *rapid.T) { modelCheck(t, h, m) },
		})
	})
}

func modelOptions(h *bench) Options {
	o := Options{Log: nop}
	o.Rules = []Rule{h.rule("s*", AckStored, "n1"), h.rule("r*", AckReceived, "n1")}
	o.DeadLetters = h.rule("", "", "dead-letter")
	o.Limits.Message, o.Limits.Memory, o.Limits.Queue, o.Limits.Categories = 50, 3000, 1000, 3
	o.Timeouts.Ack, o.Timeouts.Write, o.Timeouts.Stop = 1, time.Second, time.Second // nobody waits
	o.Queue.MaxBatch, o.Queue.BatchBytes, o.Queue.BatchWait = 100, 100, 1
	return o
}

func modelLog(t *rapid.T, h *bench, m map[string]*model) {
	entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		category := rapid.SampledFrom([]string{"s1", "s2", "r1", "r2", "stray", ""}).Draw(t, "category")
		return category + ":" + rapid.StringOfN(rapid.SampledFrom([]rune("a\n")), 0, 70, -1).Draw(t, "message")
	}), 1, 6).Draw(t, "entries")
	before := h.calls.refused.Load()
	got := h.log(entries...)
	refused := h.calls.refused.Load() > before
	if refused && got == thrift.OK {
		t.Fatal("refused with OK")
	}
	for _, e := range entries {
		category, message, _ := strings.Cut(e, ":")
		if h.categories[category] == nil {
			category = "other" // no account: refused for its name
			if !refused {
				t.Fatalf("%q was taken without an account", e)
			}
		}
		c := m[category]
		if c == nil {
			c = &model{}
			m[category] = c
		}
		c.offered.add(size(message))
		if refused {
			c.refused.add(size(message))
		} else {
			c.accepted.add(size(message))
			c.pending = append(c.pending, message)
		}
	}
}

// modelStep lets one queue make one attempt.
func modelStep(t *rapid.T, h *bench, m map[string]*model, drivers map[*queue]*driver, fail *int) {
	var all []*queue
	for number := range h.chains.Load() { // in a fixed order
		for q := range h.queues {
			if q.number == number+1 {
				all = append(all, q)
			}
		}
	}
	if len(all) == 0 {
		t.Skip("no queue yet")
	}
	q := rapid.SampledFrom(all).Draw(t, "queue")
	d := drivers[q]
	if d == nil {
		d = newDriver(q)
		d.tick.Stop()
		drivers[q] = d
	}
	d.retryDue = time.Time{} // its time has come
	b := d.due()
	if b == nil {
		return
	}
	*fail = rapid.IntRange(-2, 3).Draw(t, "taken")
	n := b.out.Len()
	var texts []string
	for i := range n {
		texts = append(texts, string(b.out.Message(i)))
	}
	d.put(context.Background(), b)
	taken := n
	if *fail >= 0 {
		taken = min(*fail, n)
	}
	c := m[q.c.name]
	for i, text := range texts {
		if i >= taken && !q.stored {
			break
		}
		at := c.remove(text)
		if at < 0 {
			t.Fatalf("category %q: %q is stored and was not pending", q.c.name, text)
		}
		if i < taken {
			c.stored.add(at.of(text))
		} else {
			c.withdrawn.add(at.of(text))
		}
	}
	q.until.Store(0)
}

// found is the size of the pending message that a text came from.
type found int

func (f found) of(string) Count { return Count{1, int64(f)} }

// remove takes the first pending message with this text, which is without its
// line feed, and returns its stored size; -1: there is none.
func (m *model) remove(text string) found {
	for i, p := range m.pending {
		if strings.TrimSuffix(p, "\n") == text || p == text {
			if n := size(p).Bytes; n == int64(len(text)+1) {
				m.pending = append(m.pending[:i:i], m.pending[i+1:]...)
				return found(n)
			}
		}
	}
	return -1
}

func modelCheck(t *rapid.T, h *bench, m map[string]*model) {
	books := h.Books()
	for _, b := range append(books.Categories, books.Other, books.Total) {
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
	}
	accounts := map[string]Book{"other": books.Other}
	for _, b := range books.Categories {
		accounts[string(b.Category)] = b
	}
	for name, c := range m {
		b := accounts[name]
		var pending Count
		for _, p := range c.pending {
			pending.add(size(p))
		}
		held := b.Queued
		held.add(b.InFlight)
		got := fmt.Sprint(b.Offered, b.Accepted, sum(b.Refused), sum(b.Stored), b.Withdrawn, held)
		want := fmt.Sprint(c.offered, c.accepted, c.refused, c.stored, c.withdrawn, pending)
		if got != want {
			t.Fatalf("category %q: the books say %s, the model %s", name, got, want)
		}
	}
	if n := h.memory.Load(); n < 0 || (n > 0) != (books.Total.Queued.Messages+books.Total.InFlight.Messages > 0) {
		t.Fatalf("%d bytes are held for %v queued and %v in flight", n, books.Total.Queued, books.Total.InFlight)
	}
}
