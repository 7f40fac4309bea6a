//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// names has clients log under a hundred thousand names that nobody has heard
// of, half of them below a prefix that is routed and half without any rule.
// Both kinds are taken up to their limits and refused beyond; a configured
// category does not notice; memory, /metrics and the status stay small; what
// was acknowledged is there once.
func names(t *testing.T, n1 *lab.Hadoop) {
	total, limit := pick(10_000, 100_000), pick(100, 1000)
	y := strings.Replace(twoClusters(n1, nil, fmt.Sprintf("limits: {categories: %d, memory: 256MiB, frame_memory: 24MiB, frame: 6MiB, message: 2MiB, entries: 50000, connections: 200}\n", limit)),
		`match: "*"`, `match: "app_*"`, 1)
	y += y[strings.Index(y, "  - match:"):]
	at := strings.LastIndex(y, `"app_*"`)
	y = y[:at] + `"web"` + y[at+len(`"app_*"`):]
	s := lab.NewServer(t, apart(y, "names"))
	s.Start()
	const size = 200
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	web := lab.Load{Addr: s.Thrift, Clients: 2, Batch: 10, Interval: 10 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte("web"), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- web.Run(ctx) }()
	time.Sleep(time.Second)
	before := time.Now()
	time.Sleep(pick(time.Second, 5*time.Second))

	c := &crowd{s: s, size: 100, fates: map[int]byte{}}
	c.come(16)
	var taken [2]atomic.Int64
	flood := time.Now()
	parallel(len(c.conns), func(i int) {
		for n := i; n < total; n += len(c.conns) {
			kind := n % 2
			switch ok, err := c.call(c.conns[i], fmt.Sprintf("%s%06d", [2]string{"app_", "stray"}[kind], n)); {
			case err != nil:
				c.fault(err)
				return
			case ok:
				taken[kind].Add(1)
			}
		}
	})
	end := time.Now()
	_, p99names, longest := c.latency()
	high, _ := memoryOf(t, s.Pid())
	page := s.Page("/metrics")
	labels := map[string]bool{}
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, `twinscribe_offered_messages_total{category="`); ok {
			labels[rest[:strings.IndexByte(rest, '"')]] = true
		}
	}
	asked := time.Now()
	var st status
	s.Get("/v1/status", &st)
	statusTook := time.Since(asked)
	time.Sleep(time.Second)
	cancel()
	hs := <-done
	c.leave()
	_, p50b, p99b, _ := lab.Latency(hs, before, flood)
	nd, p50d, p99d, longestWeb := lab.Latency(hs, flood, end)
	_, unknown, later, _ := sumHistories(hs)
	refused := total - int(taken[0].Load()+taken[1].Load())
	t.Logf("table: 5 | %d new names, limit %d + %d without a rule | %d + %d taken, %d refused; VmHWM %d MiB (< 320); /metrics %d KiB, %d labels (< 102); configured one p99 %v, before %v",
		total, limit, limit/4, taken[0].Load(), taken[1].Load(), refused, high>>20, len(page)>>10, len(labels), p99d.Round(10*time.Microsecond), p99b.Round(10*time.Microsecond))
	t.Logf("in %v: p99 of an answer %v, longest %v; web p50 %v, before %v, longest %v; /v1/status in %v; refused by reason: %s",
		end.Sub(flood).Round(time.Millisecond), p99names, longest, p50d, p50b, longestWeb, statusTook, metricsOf(t, s, `twinscribe_refused_messages_total{category="(other)"`, "twinscribe_live_categories"))
	if int(taken[0].Load()) != limit || int(taken[1].Load()) != limit/4 || len(c.faults) > 0 {
		t.Errorf("%d names with a rule and %d without were taken, want %d and %d; faults %v",
			taken[0].Load(), taken[1].Load(), limit, limit/4, errors.Join(c.faults...))
	}
	if high >= memoryLimit+overMemory {
		t.Errorf("VmHWM %d MiB, want under %d MiB", high>>20, (memoryLimit+overMemory)>>20)
	}
	if len(page) > 1<<20 || len(labels) > 101 {
		t.Errorf("/metrics has %d bytes and %d categories, want under 1 MiB and at most 101", len(page), len(labels))
	}
	if longest >= 10*time.Second || statusTook > 2*time.Second {
		t.Errorf("longest answer %v, /v1/status in %v", longest, statusTook)
	}
	if later > 0 || unknown > 0 || nd == 0 || longestWeb >= bound() || p99d > pick(2*time.Second, max(2*p99b, 100*time.Millisecond)) {
		t.Errorf("the configured category: %d OKs, TRY_LATER %d, unknown %d, p99 %v (before %v), longest %v", nd, later, unknown, p99d, p99b, longestWeb)
	}
	settled(t, s, 90*time.Second) // what is torn cannot be read before its repair
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	readBack(t, s, "web", hs, size, true)
	c.verify(t, "--all")
}
