package aggregator

import (
	"context"
	"errors"
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

// shelter is a rescue that keeps copies.
type shelter struct {
	mu  sync.Mutex
	got []kept
	err error
}

func (s *shelter) rescue(_ context.Context, b *store.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.got = append(s.got, copyOf(b))
	b.Taken = append(b.Taken, store.Taken{Place: "rescue", Messages: b.Len()})
	return nil
}

func (s *shelter) messages() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.got {
		all = append(all, k.messages...)
	}
	return all
}

// stopped stops within the given time and says how long it took.
func (h *bench) stopped(within time.Duration) (left int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	begin := time.Now()
	left, err = h.Stop(ctx)
	return left, time.Since(begin), err
}

func TestAStopStoresWhatIsQueuedAndClosesTheChains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, received)
		for i := range 100 {
			h.must(thrift.OK, fmt.Sprintf("c%d:%d", i%5, i))
		}
		left, took, err := h.stopped(20 * time.Second)
		equal(t, "left", left, 0)
		equal(t, "error", err, nil)
		equal(t, "took", took, 0)
		equal(t, "stored", h.Books().Total.Stored["n1"].Messages, 100)
		for _, p := range h.all("n1") {
			equal(t, p.category, p.isClosed(), true)
		}
		status, _ := h.Status()
		equal(t, "status", status, thrift.Stopped)
	})
}

func TestCallsAreRefusedFromTheMomentOfStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(context.Context, *store.Batch) (*store.Batch, error) {
					time.Sleep(time.Second)
					return nil, nil
				}
			}
		})
		var waiting sync.WaitGroup
		waiting.Go(func() { h.must(thrift.OK, "web:in flight") })
		synctest.Wait()
		waiting.Go(func() { h.must(thrift.OK, "web:queued") })
		synctest.Wait()
		waiting.Go(func() {
			left, took, err := h.stopped(20 * time.Second)
			equal(t, "stop", fmt.Sprint(left, err, took), "0 <nil> 2s")
		})
		synctest.Wait()
		h.must(thrift.TryLater, "web:late")
		h.must(thrift.TryLater)
		h.must(thrift.TryLater, "another:late")
		status, _ := h.Status()
		equal(t, "status", status, thrift.Stopping)
		waiting.Wait()
		equal(t, "messages", h.of("n1", "web").messages(), []string{"in flight", "queued"})
		equal(t, "refused", h.Books().Total.Refused, map[string]Count{"stopping": {2, 10}})
	})
}

// The case that loses data where a stop forgets the batch that is being retried.
func TestAStopDuringAnOutageRescuesTheBatchBeingRetriedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		var r shelter
		h := start(t, func(h *bench) {
			received(h)
			h.opts.Rescue = r.rescue
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:first")
		time.Sleep(time.Minute) // it is retried by now
		h.must(thrift.OK, "web:second", "web:"+strings.Repeat("x", 900))
		h.must(thrift.OK, "web:third")
		tries := len(h.of("n1", "web").attempts())
		left, took, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err, took), "0 <nil> 0s")
		equal(t, "attempts", len(h.of("n1", "web").attempts())-tries, 1)
		got := r.messages()
		equal(t, "rescued", []string{got[0], got[1], got[3]}, []string{"first", "second", "third"})
		equal(t, "stored", h.book("web").Stored, map[string]Count{"rescue": {4, 6 + 7 + 901 + 6}})
		equal(t, "memory", h.memory.Load(), 0)
	})
}

func TestAStopWithoutAWayOutSaysWhatIsLeft(t *testing.T) {
	for _, rescue := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var s switchable
			h := start(t, func(h *bench) {
				received(h)
				if rescue {
					h.opts.Rescue = (&shelter{err: errors.New("disk full")}).rescue
				}
				h.made = func(p *place) {
					if p.category == "web" {
						p.append = s.append
					}
				}
			})
			s.off.Store(true)
			h.must(thrift.OK, "web:first", "other:x")
			time.Sleep(time.Second)
			h.must(thrift.OK, "web:second")
			left, took, err := h.stopped(20 * time.Second)
			equal(t, "left", left, 2)
			equal(t, "took", took, 15*time.Second) // until then the chain could have come back
			if err == nil || !strings.Contains(err.Error(), `category "web": 2 received messages are not stored`) {
				t.Errorf("error %v", err)
			}
			b := h.book("web")
			equal(t, "in flight or queued", b.InFlight.Messages+b.Queued.Messages, 2)
		})
	}
}

func TestAChainThatComesBackDuringTheStopTakesWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) { p.append = s.append }
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:first")
		time.Sleep(time.Minute)
		time.AfterFunc(5*time.Second, func() { s.off.Store(false) })
		left, took, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
		if took < 5*time.Second || took > 6*time.Second {
			t.Errorf("took %v", took)
		}
		equal(t, "messages", h.of("n1", "web").messages(), []string{"first"})
	})
}

func TestAStopEndsAnAppendThatHangsAndRescuesItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r shelter
		h := start(t, func(h *bench) {
			received(h)
			h.opts.Timeouts.Write = time.Hour
			h.opts.Rescue = r.rescue
			h.made = func(p *place) { p.append = hanging }
		})
		h.must(thrift.OK, "web:hangs")
		time.Sleep(time.Second)
		h.must(thrift.OK, "web:queued")
		left, took, err := h.stopped(20 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err, took), "0 <nil> 15s")
		equal(t, "rescued", r.messages(), []string{"hangs", "queued"})
	})
}

func TestAStopAnswersWaitersWhoseChainFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.made = func(p *place) { p.append = hanging } })
		var waiting sync.WaitGroup
		waiting.Go(func() { h.must(thrift.TryLater, "web:a") })
		synctest.Wait()
		waiting.Go(func() { h.must(thrift.TryLater, "web:b") })
		synctest.Wait()
		left, took, err := h.stopped(4 * time.Second)
		equal(t, "stop", fmt.Sprint(left, err), "0 <nil>") // nobody was told OK
		if took > 4*time.Second {
			t.Errorf("took %v", took)
		}
		waiting.Wait()
		equal(t, "withdrawn", h.book("web").Withdrawn.Messages, 2)
	})
}

func TestAStopGivesUpWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) {
				p.append = failing(errAway)
				p.close = func(ctx context.Context) error { <-ctx.Done(); return errors.New("files not sealed") }
			}
		})
		h.must(thrift.OK, "web:x")
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		left, err := h.Stop(ctx)
		equal(t, "left", left, 1)
		if err == nil || !strings.Contains(err.Error(), "files not sealed") {
			t.Errorf("error %v", err)
		}
		equal(t, "took", time.Since(begin), time.Second)
	})
}

func TestAStopDoesNotWaitForAChainThatPaysNoHeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) {
				p.append = func(context.Context, *store.Batch) (*store.Batch, error) { <-release; return nil, nil }
			}
		})
		h.must(thrift.OK, "web:x")
		time.Sleep(time.Second)
		left, took, err := h.stopped(10 * time.Second)
		equal(t, "left", left, 1)
		equal(t, "took", took, 10*time.Second+lastGrace)
		if err == nil {
			t.Error("no error")
		}
		close(release)
	})
}

func TestChainsCloseInParallelAndTheirErrorsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Limits.Categories = 100
			h.made = func(p *place) {
				p.close = func(context.Context) error { time.Sleep(2 * time.Second); return errors.New("manifest not written") }
			}
		})
		for i := range 50 {
			h.must(thrift.OK, fmt.Sprintf("c%d:x", i))
		}
		left, took, err := h.stopped(20 * time.Second)
		equal(t, "left", left, 0)
		equal(t, "took", took, 2*time.Second)
		equal(t, "errors", strings.Count(fmt.Sprint(err), "manifest not written"), 20)
		equal(t, "and more", strings.Contains(fmt.Sprint(err), "and 30 more"), true)
	})
}

func TestASecondStopSaysTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) { p.append = failing(errAway) }
		})
		h.must(thrift.OK, "web:x")
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				left, _, _ := h.stopped(20 * time.Second)
				equal(t, "left", left, 1)
			})
		}
		both.Wait()
		if err := h.Reload(context.Background(), h.opts.Config); err == nil {
			t.Error("a reload after the stop was taken")
		}
	})
}

func TestStopWithoutRunSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := start(t, received)
		a, err := New(running.opts)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "result", a.Log(context.Background(), call("web:x")), thrift.OK)
		status, _ := a.Status()
		equal(t, "status", status, thrift.Starting)
		left, err := a.Stop(context.Background())
		equal(t, "left", left, 1)
		if err == nil {
			t.Error("no error")
		}
	})
}

func TestTheEndOfRunsContextGivesUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.rule("mem", AckReceived, "n1"), h.rule("*", AckStored, "n1")}
			h.made = func(p *place) { p.append = hanging }
		})
		var waiting sync.WaitGroup
		waiting.Go(func() { h.must(thrift.TryLater, "web:a") })
		h.must(thrift.OK, "mem:x")
		synctest.Wait()
		begin := time.Now()
		h.stop()
		h.ran.Wait()
		waiting.Wait()
		equal(t, "took", time.Since(begin), 0)
		left, _, err := h.stopped(time.Second)
		equal(t, "left", left, 1)
		equal(t, "told", err != nil, true)
		h.must(thrift.TryLater, "web:b")
	})
}

func TestAStopEndsChainsThatDoNotCloseShortlyBeforeItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.close = func(ctx context.Context) error { <-ctx.Done(); return errors.New("files not sealed") }
			}
		})
		h.must(thrift.OK, "web:x")
		_, took, err := h.stopped(10 * time.Second)
		equal(t, "error", fmt.Sprint(err), `category "web": close the chain: files not sealed`)
		equal(t, "took", took, 9500*time.Millisecond)
	})
}

// A call that is admitted just before the stop is stored, or it is refused.
func TestStopsAmidCallsLoseNothing(t *testing.T) {
	for range 40 {
		h := start(t, func(h *bench) {
			received(h)
			h.opts.Limits.Queue, h.opts.Limits.Memory = 1<<24, 1<<26
		})
		var sent atomic.Int64
		var clients, begun sync.WaitGroup
		for i := range 4 {
			begun.Add(1)
			clients.Go(func() {
				entries := []string{fmt.Sprintf("a%d:x", i), "b:x", "c:x", "d:" + strings.Repeat("x", 200)}
				h.must(thrift.OK, entries...)
				sent.Add(4)
				begun.Done()
				for h.Books().Total.Refused["stopping"].Messages == 0 {
					if h.log(entries...) == thrift.OK {
						sent.Add(4)
					}
				}
			})
		}
		begun.Wait()
		left, err := h.Stop(context.Background())
		equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
		clients.Wait()
		equal(t, "stored", h.Books().Total.Stored["n1"].Messages, sent.Load())
	}
}
