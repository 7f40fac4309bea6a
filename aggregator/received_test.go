package aggregator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store"
	"twinscribe/thrift"
)

// received makes every category one that is acknowledged in memory.
func received(h *bench) { h.opts.Rules = []Rule{h.rule("*", AckReceived, "n1")} }

// switchable takes batches while it is on.
type switchable struct{ off atomic.Bool }

func (s *switchable) append(_ context.Context, b *store.Batch) (*store.Batch, error) {
	if s.off.Load() {
		return b, errAway
	}
	return nil, nil
}

func TestReceivedMessagesGatherForTheBatchWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, received)
		begin := time.Now()
		for i := range 5 {
			h.must(thrift.OK, fmt.Sprintf("web:%d", i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Millisecond)
		h.must(thrift.OK, "web:5")
		equal(t, "answered at once", time.Since(begin), 6*time.Millisecond)
		time.Sleep(time.Second)
		b := h.of("n1", "web").batches()
		equal(t, "first batch", b[0].messages, []string{"0", "1", "2", "3", "4"})
		equal(t, "taken after", b[0].at.Sub(begin), 5*time.Millisecond)
		equal(t, "second batch", b[1].messages, []string{"5"})
		equal(t, "taken after", b[1].at.Sub(begin), 11*time.Millisecond)
		equal(t, "no waiter, no budget", b[0].Since.IsZero(), true)
	})
}

func TestReceivedMessagesAreTakenAtBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, received)
		begin := time.Now()
		for range 3 {
			h.must(thrift.OK, "web:"+strings.Repeat("x", 700))
		}
		synctest.Wait()
		b := h.of("n1", "web").batches()
		equal(t, "batches", len(b), 1)
		equal(t, "at once", b[0].at.Sub(begin), 0)
	})
}

func TestWhatIsLeftBehindAFullBatchIsTakenAfterTheBatchWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, received)
		var entries []string
		for range 5 { // 4096 bytes hold four of 901
			entries = append(entries, "web:"+strings.Repeat("x", 900))
		}
		begin := time.Now()
		h.must(thrift.OK, entries...)
		time.Sleep(time.Second)
		b := h.of("n1", "web").batches()
		equal(t, "batches", len(b), 2)
		equal(t, "the rest is taken after", b[1].at.Sub(begin), 5*time.Millisecond)
	})
}

func TestAReceivedBatchIsRetriedUntilItIsStoredAndStaysFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:first")
		time.Sleep(50 * time.Minute)
		h.must(thrift.OK, "web:second") // admission goes on
		status, text := h.Status()
		equal(t, "status", fmt.Sprint(status, text), fmt.Sprint(thrift.Warning, `category "web": the cluster is away`))
		time.Sleep(15 * time.Minute) // into the next hour
		s.off.Store(false)
		time.Sleep(6 * time.Second)
		p := h.of("n1", "web")
		equal(t, "messages", p.messages(), []string{"first", "second"})
		b, tries := p.batches(), p.attempts()
		equal(t, "the batch kept its partition", b[0].Partition, "dt=2000-01-01/hr=00")
		equal(t, "and its sequence", b[0].First, 1)
		equal(t, "the next one has its own", b[1].Partition, "dt=2000-01-01/hr=01")
		for i := 1; i < len(tries)-1; i++ {
			wait := tries[i].at.Sub(tries[i-1].at)
			least := min(firstRetry<<min(i-1, 10), lastRetry)
			if wait < least || wait > min(least*5/4, lastRetry) {
				t.Errorf("attempt %d came after %v, want %v and up to a quarter more", i+1, wait, least)
			}
		}
		book := h.book("web")
		equal(t, "withdrawn", book.Withdrawn, Count{})
		equal(t, "retried", book.Retried, int64(len(tries)-2))
		equal(t, "requeue", h.Counters()["web:requeue"], int64(len(tries)-2))
		status, _ = h.Status()
		equal(t, "status", status, thrift.Alive)
	})
}

func TestAnUnstoredCategoryRefusesAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.opts.Limits.Queue = 1600
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		for i := range 3 { // of 502 and 144
			want := thrift.OK
			if i > 1 {
				want = thrift.TryLater
			}
			h.must(want, "web:"+strings.Repeat("x", 501))
		}
		h.must(thrift.OK, "other:x")
		time.Sleep(time.Minute)
		s.off.Store(false)
		time.Sleep(time.Minute)
		h.must(thrift.OK, "web:"+strings.Repeat("x", 501))
	})
}

func TestTheRestOfAReceivedBatchIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) {
				p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
					if tries++; tries == 1 {
						p.take(b, 2)
						return after(b, 2), errAway
					}
					return nil, nil
				}
			}
		})
		h.must(thrift.OK, "web:one", "web:two", "web:three")
		time.Sleep(time.Second)
		p := h.of("n1", "web")
		equal(t, "messages", p.messages(), []string{"one", "two", "three"})
		equal(t, "sequence of the rest", p.batches()[1].First, 3)
		equal(t, "stored", h.book("web").Stored, map[string]Count{"n1": {3, 14}})
		equal(t, "memory", h.memory.Load(), 0)
	})
}

func TestAStoredCategoryRefusesForAMomentAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				if p.category == "web" {
					p.append = s.append
				}
			}
		})
		s.off.Store(true)
		begin := time.Now()
		for time.Since(begin) < 10*time.Second { // a client that comes back at once
			h.must(thrift.TryLater, "web:x")
			h.must(thrift.OK, "api:x") // others do not notice
			time.Sleep(time.Millisecond)
		}
		tries := h.of("n1", "web").attempts()
		if n := len(tries); n < 20 || n > 40 {
			t.Errorf("%d attempts in 10 s, want one each 50 to 500 ms", n)
		}
		s.off.Store(false)
		time.Sleep(500 * time.Millisecond)
		h.must(thrift.OK, "web:x")
		h.must(thrift.OK, "web:x")
		if h.book("web").Refused["store"].Messages == 0 {
			t.Error("nothing was refused by the chain's failure")
		}
	})
}

func TestACategoryIsTakenAgainAsSoonAsItsChainTakesABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
					if tries++; tries == 1 {
						time.Sleep(time.Second)
						return b, errAway
					}
					return nil, nil
				}
			}
		})
		var calls sync.WaitGroup
		calls.Go(func() { h.must(thrift.TryLater, "web:fails") })
		synctest.Wait()
		h.must(thrift.OK, "web:gathers meanwhile") // tried at once: it was admitted before
		h.must(thrift.OK, "web:comes while the failure would still refuse")
		calls.Wait()
	})
}

func TestABrokenChainIsNotTriedByTheClock(t *testing.T) {
	for _, ack := range []string{AckStored, AckReceived} {
		synctest.Test(t, func(t *testing.T) {
			var mended atomic.Bool
			h := start(t, func(h *bench) {
				h.opts.Rules = []Rule{h.rule("*", ack, "n1")}
				h.made = func(p *place) {
					p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
						if mended.Load() {
							return nil, nil
						}
						return b, fmt.Errorf("no permission: %w", store.ErrBroken)
					}
				}
			})
			h.log("web:first")
			time.Sleep(30 * time.Minute)
			h.must(thrift.TryLater, "web:second")
			p := h.of("n1", "web")
			equal(t, "attempts", len(p.attempts()), 1)

			mended.Store(true)
			if err := h.Reload(context.Background(), h.opts.Config); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			h.must(thrift.OK, "web:third")
			time.Sleep(time.Second)
			want := []string{"third"}
			if ack == AckReceived {
				want = []string{"first", "third"}
			}
			equal(t, "messages", p.messages(), want)
		})
	}
}

func TestWhatACrashWouldLoseIsAMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:12345678")
		time.Sleep(4 * time.Second)
		h.must(thrift.OK, "web:9")
		time.Sleep(time.Second)
		m := gather(t, h.Aggregator)
		equal(t, "bytes", m["twinscribe_received_unstored_bytes"], 11)
		equal(t, "seconds", m["twinscribe_received_unstored_seconds"], 5)
		equal(t, "failing", m["twinscribe_failing_chains"], 1)
		s.off.Store(false)
		time.Sleep(5 * time.Second)
		m = gather(t, h.Aggregator)
		equal(t, "bytes", m["twinscribe_received_unstored_bytes"], 0)
		equal(t, "seconds", m["twinscribe_received_unstored_seconds"], 0)
	})
}

func TestIdleQueuesAreClosedAndComeBackWithAnotherChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.IdleAfter = 10 * time.Minute })
		for i := range 8 {
			h.must(thrift.OK, fmt.Sprintf("c%d:x", i), ":blank")
		}
		for range 20 {
			time.Sleep(time.Minute)
			h.must(thrift.OK, "c0:x")
		}
		equal(t, "live", h.Snapshot().Live, 1)
		equal(t, "c1 is closed", h.of("n1", "c1").isClosed(), true)
		equal(t, "the dead letters too", h.of("dead-letter", "").isClosed(), true)
		equal(t, "c0 is not", h.of("n1", "c0").isClosed(), false)
		h.must(thrift.OK, "c1:y", "new:z")

		var numbers []uint32
		for _, p := range h.all("n1") {
			if p.category == "c1" {
				numbers = append(numbers, p.number)
				equal(t, "sequence", p.batches()[0].First, 1)
			}
		}
		if len(numbers) != 2 || numbers[1] <= numbers[0] {
			t.Errorf("chains of c1: %d, want two different ones", numbers)
		}
		equal(t, "the account goes on", h.book("c1").Stored["n1"], Count{2, 4})
	})
}

func TestAQueueThatHoldsMessagesIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.opts.IdleAfter = time.Minute
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:x")
		time.Sleep(time.Hour)
		h.must(thrift.OK, "web:y")
		s.off.Store(false)
		time.Sleep(10 * time.Second)
		equal(t, "messages of one chain", h.of("n1", "web").messages(), []string{"x", "y"})
		time.Sleep(10 * time.Minute)
		equal(t, "closed", h.of("n1", "web").isClosed(), true)
	})
}

func TestNamesThatNeverComeBackAreForgottenAndTheBooksAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.IdleAfter = time.Minute })
		for round := range 10 {
			for i := range 8 {
				h.must(thrift.OK, fmt.Sprintf("r%dc%d:x", round, i))
			}
			time.Sleep(5 * time.Minute)
			h.balanced()
		}
		b := h.Books()
		equal(t, "accounts kept", len(b.Categories), 8)
		equal(t, "all of them", b.Total.Stored, map[string]Count{"n1": {80, 160}})
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := h.slots; n > 24 {
			t.Errorf("%d slots for 16 categories at a time", n)
		}
	})
}

func TestWrittenOffMessagesMoveInTheBooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "web:a", "web:b")
		equal(t, "of another start", h.Dropped("web", "n1", Count{3, 6}), false)
		equal(t, "of another place", h.Dropped("web", "n2", Count{1, 2}), false)
		equal(t, "of another category", h.Dropped("api", "n1", Count{1, 2}), false)
		equal(t, "ours", h.Dropped("web", "n1", Count{1, 2}), true)
		equal(t, "twice", h.Dropped("web", "n1", Count{2, 4}), false)
		b := h.book("web")
		equal(t, "stored", b.Stored, map[string]Count{"n1": {1, 2}})
		equal(t, "dropped", b.Dropped, Count{1, 2})
	})
}

func TestManyClientsOfManyCategories(t *testing.T) {
	h := start(t, func(h *bench) {
		h.opts.Limits.Categories = 100
		h.opts.Rules = []Rule{h.rule("a*", AckStored, "n1"), h.rule("*", AckReceived, "n2")}
	})
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			for j := range 100 {
				h.must(thrift.OK, fmt.Sprintf("a%d:%d-%d", j%5, i, j), fmt.Sprintf("b%d:%d-%d", j%7, i, j), "::")
			}
		})
	}
	clients.Wait()
	if left, err := h.Stop(context.Background()); left != 0 || err != nil {
		t.Fatal(left, err)
	}
	b := h.Books().Total
	equal(t, "stored", b.Stored["n1"].Messages+b.Stored["n2"].Messages, 3200)
	equal(t, "dead", b.Stored["dead-letter"].Messages, 1600)
	for _, p := range h.all("n1") { // each client's order is kept
		last := make(map[string]int)
		for _, m := range p.messages() {
			client, number, _ := strings.Cut(m, "-")
			var n int
			fmt.Sscan(number, &n)
			if was, ok := last[client]; ok && n <= was {
				t.Fatalf("category %q: %s after %s-%d", p.category, m, client, was)
			}
			last[client] = n
		}
	}
}
