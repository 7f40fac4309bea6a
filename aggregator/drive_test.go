package aggregator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/thrift"
)

func TestAWaiterHearsAfterTheAcknowledgementTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) {
					time.Sleep(12 * time.Second) // pays no heed to its context
					return nil, nil
				}
			}
		})
		begin := time.Now()
		h.must(thrift.TryLater, "web:x")
		equal(t, "after", time.Since(begin), 10*time.Second)
		b := h.book("web")
		equal(t, "unknown", b.Unknown, Count{1, 2})
		equal(t, "in flight", b.InFlight, Count{1, 2})
		time.Sleep(3 * time.Second)
		equal(t, "stored all the same", h.book("web").Stored["n1"], Count{1, 2})
		equal(t, "calls", h.calls.read(), Calls{Unknown: 1})
	})
}

func TestAWaiterHearsWhenTheServerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.made = func(p *place) { p.append = hanging } })
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		equal(t, "result", h.Log(ctx, call("web:x")), thrift.TryLater)
		equal(t, "after", time.Since(begin), time.Second)
		equal(t, "unknown", h.book("web").Unknown, Count{1, 2})
		time.Sleep(5 * time.Second)
	})
}

func TestABatchWhoseBudgetIsSpentInTheQueueStillGetsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left []time.Duration
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) {
					deadline, _ := ctx.Deadline()
					left = append(left, time.Until(deadline))
					if len(left) == 1 {
						return hanging(ctx, b)
					}
					return nil, nil
				}
			}
		})
		var calls sync.WaitGroup
		calls.Go(func() { h.must(thrift.TryLater, "web:a") })
		synctest.Wait()
		calls.Go(func() { h.must(thrift.OK, "web:b") })
		calls.Wait()
		equal(t, "budgets", left, []time.Duration{5 * time.Second, 2 * time.Second})
	})
}

func TestACallOfWhichAPartWasStoredIsAnsweredTryLaterAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = append(h.opts.Rules, h.rule("mem", AckReceived, "n2"))
			h.made = func(p *place) {
				if p.category == "bad" {
					p.append = failing(errAway)
				}
			}
		})
		h.must(thrift.TryLater, "good:x", "bad:y")
		h.must(thrift.OK, "good:z")
		time.Sleep(time.Second)
		h.must(thrift.TryLater, "mem:x", "bad:y")
		time.Sleep(time.Second)
		h.must(thrift.TryLater, "bad:y")
		equal(t, "calls", h.calls.read(), Calls{OK: 1, Partial: 2, Withdrawn: 1})
		equal(t, "good", h.of("n1", "good").messages(), []string{"x", "z"})
		equal(t, "withdrawn", h.book("bad").Withdrawn, Count{3, 6})
	})
}

func TestEveryStoreErrorIsWithdrawnFromItsWaiters(t *testing.T) {
	for _, err := range []error{errAway, store.ErrFull, fmt.Errorf("x: %w", store.ErrBroken), context.DeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, func(h *bench) { h.made = func(p *place) { p.append = failing(err) } })
			h.must(thrift.TryLater, "web:a")
			equal(t, "withdrawn", h.book("web").Withdrawn, Count{1, 2})
			equal(t, "memory", h.memory.Load(), 0)
			equal(t, "attempts", len(h.of("n1", "web").attempts()), 1)
		})
	}
}

func TestAChainThatCannotBeOpenedRefusesLikeOneThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opens = func(name, category string) error {
				if time.Now().Before(time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC)) {
					return errors.New("no such cluster")
				}
				return nil
			}
		})
		h.must(thrift.TryLater, "web:a")
		_, text := h.Status()
		equal(t, "status", text, `category "web": open the chain: no such cluster`)
		time.Sleep(time.Minute)
		h.must(thrift.OK, "web:b")
		equal(t, "sequence", h.of("n1", "web").batches()[0].First, 2)
	})
}

func TestAPartOfABatchThatWasStoredIsCountedAndTheRestWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
					p.take(b, 2)
					return after(b, 2), errAway
				}
			}
		})
		h.must(thrift.TryLater, "web:one", "web:two", "web:three")
		b := h.book("web")
		equal(t, "stored", b.Stored, map[string]Count{"n1": {2, 8}})
		equal(t, "withdrawn", b.Withdrawn, Count{1, 6})
		equal(t, "calls", h.calls.read(), Calls{Partial: 1})
	})
}

func TestAChainThatBreaksTheContractIsNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		append func(*place, *store.Batch) (*store.Batch, error)
		want   thrift.Result
		stored int64
		odd    int64
	}{
		"an error without a rest":  {func(p *place, b *store.Batch) (*store.Batch, error) { p.take(b, 1); return nil, errAway }, thrift.TryLater, 0, 0},
		"a rest without an error":  {func(p *place, b *store.Batch) (*store.Batch, error) { return b, nil }, thrift.TryLater, 0, 0},
		"nothing said about where": {func(p *place, b *store.Batch) (*store.Batch, error) { b.Taken = nil; return nil, nil }, thrift.OK, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := New(Options{Config: Config{
				Rules: []Rule{{Match: "*", Ack: AckStored, Routes: []Route{{Open: func(string, int, uint32) (Chain, error) {
					return Chain{Store: rude{func(b *store.Batch) (*store.Batch, error) { return c.append(&place{}, b) }}}, nil
				}}}}},
				DeadLetters: Rule{Routes: []Route{{Open: func(string, int, uint32) (Chain, error) { return Chain{Store: rude{}}, nil }}}},
				Limits:      conf.Limits{Message: 100, Memory: 1000, Queue: 1000, Categories: 1},
				Timeouts:    conf.Timeouts{Ack: time.Second, Write: time.Second, Stop: time.Second},
				Queue:       conf.Queue{MaxBatch: 100, BatchBytes: 100, BatchWait: 1},
			}, Log: nop})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var ran sync.WaitGroup
			ran.Go(func() { a.Run(ctx) })
			equal(t, "result", a.Log(ctx, call("web:a", "web:b")), c.want)
			cancel()
			ran.Wait()
			b := a.Books().Total
			equal(t, "stored", sum(b.Stored).Messages, c.stored)
			equal(t, "unaccounted", b.Unaccounted.Messages, c.odd)
			if err := b.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// rude is a store that answers as it is told.
type rude struct {
	append func(*store.Batch) (*store.Batch, error)
}

func (r rude) Append(_ context.Context, b *store.Batch) (*store.Batch, error) { return r.append(b) }
func (r rude) Tick(context.Context, time.Time) error                          { return nil }
func (r rude) Close(context.Context) error                                    { return nil }

func TestAChainMovesToTheNextPartitionAWhileAfterTheBoundaryAndNeverBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock time.Duration // what the wall clock is ahead of the bubble's
		var mu sync.Mutex
		h := start(t, func(h *bench) {
			h.opts.Now = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(clock)
			}
		})
		jump := func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			clock += d
		}
		at := func() catalog.Partition {
			h.must(thrift.OK, "web:x")
			b := h.of("n1", "web").batches()
			return b[len(b)-1].Partition
		}
		delay := catalog.EdgeDelay(1)
		time.Sleep(59 * time.Minute) // 2000-01-01T00:59
		equal(t, "before the boundary", at(), "dt=2000-01-01/hr=00")
		time.Sleep(time.Minute + delay - time.Second)
		equal(t, "just before the move", at(), "dt=2000-01-01/hr=00")
		time.Sleep(time.Second)
		equal(t, "at the move", at(), "dt=2000-01-01/hr=01")
		jump(-2 * time.Hour)
		equal(t, "when the clock goes back", at(), "dt=2000-01-01/hr=01")
		jump(2*time.Hour + 5*time.Hour)
		equal(t, "when it goes forward", at(), "dt=2000-01-01/hr=06")
		jump(-5 * time.Hour)
		equal(t, "and back again", at(), "dt=2000-01-01/hr=06")
		jump(10*time.Hour + time.Second - delay) // 11:00:01
		equal(t, "into the first seconds of an hour", at(), "dt=2000-01-01/hr=10")
	})
}

func TestANewChainBeginsInThePartitionOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		time.Sleep(time.Hour + time.Second)
		h.must(thrift.OK, "web:x")
		equal(t, "partition", h.of("n1", "web").batches()[0].Partition, "dt=2000-01-01/hr=01")
		equal(t, "arrived", h.of("n1", "web").batches()[0].Arrived, time.Now().UnixNano())
	})
}

func TestAChainIsToldTheTimeOnceASecondAlsoWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "web:x")
		p := h.of("n1", "web")
		time.Sleep(time.Minute)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.ticks); n < 59 || n > 61 {
			t.Errorf("%d ticks in a minute", n)
		}
	})
}

func TestABusyChainIsToldTheTimeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(ctx context.Context, b *store.Batch) (*store.Batch, error) {
					time.Sleep(300 * time.Millisecond)
					return nil, nil
				}
			}
		})
		var calls sync.WaitGroup
		for range 2 {
			calls.Go(func() {
				for range 20 {
					h.must(thrift.OK, "web:x")
				}
			})
		}
		calls.Wait()
		p := h.of("n1", "web")
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.ticks); n < 5 {
			t.Errorf("%d ticks in %v of work", n, 300*time.Millisecond*time.Duration(len(p.took)))
		}
	})
}
