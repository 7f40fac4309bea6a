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

// other changes what the rules of a configuration build.
func (h *bench) other(name string, match ...string) Config {
	c := h.opts.Config
	c.Rules = nil
	for _, m := range match {
		c.Rules = append(c.Rules, h.rule(m, AckStored, name))
	}
	return c
}

func TestAReloadKeepsQueuesWhoseRuleIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		h.must(thrift.OK, "web:a", "api:a", ":blank")
		c := h.other("n2", "api*")
		c.Rules = append(c.Rules, h.rule("web", AckStored, "n1"), h.rule("*", AckStored, "n3"))
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, "web:b", "api:b", ":blank")
		synctest.Wait()
		web := h.of("n1", "web")
		equal(t, "web goes on", web.messages(), []string{"a", "b"})
		equal(t, "in one sequence", web.batches()[1].First, 2)
		equal(t, "its chain is not closed", web.isClosed(), false)
		equal(t, "api went to n1", h.of("n1", "api").messages(), []string{"a"})
		equal(t, "goes to n2", h.of("n2", "api").messages(), []string{"b"})
		equal(t, "its old chain is closed", h.of("n1", "api").isClosed(), true)
		equal(t, "dead letters go on", h.of("dead-letter", "").messages(), []string{"blank", "blank"})
		equal(t, "the account of api goes on", h.book("api").Stored, map[string]Count{"n1": {1, 2}, "n2": {1, 2}})
		equal(t, "live", h.Snapshot().Live, 1) // web stands in the configuration now
	})
}

func TestAReloadDrainsTheOldChainWhileTheNewOneTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s switchable
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) {
				if p.name == "n1" {
					p.append = s.append
				}
			}
		})
		s.off.Store(true)
		h.must(thrift.OK, "web:old")
		time.Sleep(time.Second)
		h.must(thrift.OK, "web:old too")
		c := h.opts.Config
		c.Rules = []Rule{h.rule("*", AckReceived, "n2")}
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, "web:new")
		time.Sleep(time.Second)
		equal(t, "new", h.of("n2", "web").messages(), []string{"new"})
		equal(t, "old", len(h.of("n1", "web").messages()), 0)
		var holds []string
		for _, q := range h.Snapshot().Categories[0].Queues {
			holds = append(holds, fmt.Sprintf("%s %d closing=%v %s", q.Active, q.Messages, q.Closing, q.Fault))
		}
		if got := strings.Join(holds, ";"); !strings.Contains(got, "n1 2 closing=true the cluster is away") {
			t.Errorf("the status does not show the draining queue: %s", got)
		}
		s.off.Store(false)
		time.Sleep(10 * time.Second)
		equal(t, "old", h.of("n1", "web").messages(), []string{"old", "old too"})
		equal(t, "closed", h.of("n1", "web").isClosed(), true)
	})
}

func TestAReloadThatCannotOpenAChainChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, nil)
		for i := range 5 {
			h.must(thrift.OK, fmt.Sprintf("c%d:x", i))
		}
		h.mu.Lock()
		h.opens = func(name, category string) error {
			if name == "n2" && category == "c3" {
				return errors.New("no such cluster")
			}
			return nil
		}
		h.mu.Unlock()
		err := h.Reload(context.Background(), h.other("n2", "*"))
		equal(t, "error", fmt.Sprint(err), `category "c3": open its chain: no such cluster`)
		for i := range 5 {
			h.must(thrift.OK, fmt.Sprintf("c%d:y", i))
			equal(t, "messages", h.of("n1", fmt.Sprintf("c%d", i)).messages(), []string{"x", "y"})
		}
		for _, p := range h.all("n2") {
			equal(t, "what was built is closed", p.isClosed(), true)
		}
		if err := h.Reload(context.Background(), Config{}); err == nil {
			t.Error("an empty configuration was taken")
		}
		h.must(thrift.OK, "c0:z")
	})
}

func TestAReloadMovesCategoriesBetweenRuleAndNoRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) { h.opts.Rules = []Rule{h.rule("web", AckStored, "n1")} })
		h.must(thrift.OK, "api:1", "web:1")
		if err := h.Reload(context.Background(), h.other("n1", "api")); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, "api:2", "web:2")
		equal(t, "api", h.of("unrouted", "api").messages(), []string{"1"})
		equal(t, "api", h.of("n1", "api").messages(), []string{"2"})
		equal(t, "web", h.of("n1", "web").messages(), []string{"1"})
		equal(t, "web", h.of("unrouted", "web").messages(), []string{"2"})

		c := h.other("n1", "web")
		c.Unrouted = nil
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.TryLater, "api:3", "web:3")
		h.must(thrift.OK, "web:4")
		synctest.Wait()
		equal(t, "api is closed", h.of("n1", "api").isClosed(), true)
		equal(t, "api", h.book("api").Refused, map[string]Count{"unrouted": {1, 2}})
	})
}

func TestAReloadChangesTheLevelOfAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.made = func(p *place) {
				p.append = func(context.Context, *store.Batch) (*store.Batch, error) {
					time.Sleep(time.Second)
					return nil, nil
				}
			}
		})
		begin := time.Now()
		h.must(thrift.OK, "web:a")
		equal(t, "stored", time.Since(begin), time.Second)
		c := h.opts.Config
		c.Rules = []Rule{h.rule("*", AckReceived, "n1")}
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		begin = time.Now()
		h.must(thrift.OK, "web:b")
		equal(t, "received", time.Since(begin), 0)
	})
}

func TestAReloadHasABrokenChainThatIsBeingClosedTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		h := start(t, func(h *bench) {
			received(h)
			h.made = func(p *place) {
				p.append = func(_ context.Context, b *store.Batch) (*store.Batch, error) {
					if p.name == "n1" && !mended.Load() {
						return b, fmt.Errorf("no permission: %w", store.ErrBroken)
					}
					return nil, nil
				}
			}
		})
		h.must(thrift.OK, "web:first")
		time.Sleep(time.Second)
		c := h.other("n2", "*")
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		h.must(thrift.OK, "web:second")
		time.Sleep(time.Minute)
		equal(t, "attempts", len(h.of("n1", "web").attempts()), 2)
		mended.Store(true)
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "n1", h.of("n1", "web").messages(), []string{"first"})
		equal(t, "closed", h.of("n1", "web").isClosed(), true)
		equal(t, "n2", h.of("n2", "web").messages(), []string{"second"})
	})
}

func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	h := start(t, func(h *bench) { h.opts.Limits.Categories = 50 })
	var sent atomic.Int64
	quit := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-quit:
					return
				default:
				}
				c := fmt.Sprintf("c%d:%d-%d", j%20, i, j)
				if h.log(c, c) == thrift.OK {
					sent.Add(2)
				}
			}
		})
	}
	for i := range 50 {
		c := h.other(fmt.Sprintf("n%d", i%3), "*")
		if i%4 == 0 {
			c.Rules[0].Ack = AckReceived
		}
		if err := h.Reload(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	close(quit)
	clients.Wait()
	left, err := h.Stop(context.Background())
	equal(t, "stop", fmt.Sprint(left, err), "0 <nil>")
	stored := sum(h.Books().Total.Stored).Messages
	equal(t, "stored", stored, sent.Load())
	seen := make(map[string]int)
	numbers := make(map[uint32]bool)
	for i := range 3 {
		for _, p := range h.all(fmt.Sprintf("n%d", i)) {
			if numbers[p.number] {
				t.Errorf("chain %d twice", p.number)
			}
			numbers[p.number] = true
			for _, m := range p.messages() {
				seen[p.category+m]++
			}
		}
	}
	equal(t, "messages", int64(len(seen)), sent.Load()/2)
}
