package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHealthHistories plays testdata/health. The commands:
//
//	start [rand=R] [drained]     a cluster that is up and its probes; always first
//	servers ping=C block=C       how probes fare: up, dead, hung, stuck
//	release                      what is stuck returns
//	others usable|none           whether another cluster is usable
//	failed, ack                  what the observer hears
//	drain, undrain
//	advance D                    time passes; prints each change of state
//	status
func TestHealthHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/health", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{start: time.Now(), servers: storetest.NewCluster("n1")}
			defer w.end()
			datadriven.RunTest(t, path, w.do)
		})
	})
}

type world struct {
	start   time.Time
	servers *storetest.Cluster
	h       *cluster.Health
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu     sync.Mutex
	others bool
	seen   []string
}

func (w *world) do(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "start":
		w.begin(t, d)
	case "servers":
		var ping, block string
		d.ScanArgs(t, "ping", &ping)
		d.ScanArgs(t, "block", &block)
		w.servers.Set(condition(t, ping), condition(t, block))
	case "release":
		w.servers.Release()
	case "others":
		w.mu.Lock()
		w.others = d.HasArg("usable")
		w.mu.Unlock()
	case "failed":
		w.h.Failed(errors.New("append: deadline exceeded"))
	case "ack":
		w.h.Acknowledged()
	case "drain", "undrain":
		w.h.SetDrained(d.Cmd == "drain")
	case "advance":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(by)
	case "status":
		return w.status()
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	synctest.Wait()
	return w.changes()
}

func condition(t *testing.T, name string) storetest.Condition {
	c, ok := map[string]storetest.Condition{
		"up": storetest.Up, "dead": storetest.Dead, "hung": storetest.Hung, "stuck": storetest.Stuck,
	}[name]
	if !ok {
		t.Fatalf("unknown condition %q", name)
	}
	return c
}

func (w *world) begin(t *testing.T, d *datadriven.TestData) {
	jitter := 0.0
	d.MaybeScanArgs(t, "rand", &jitter)
	w.others = true
	w.h = cluster.NewHealth("n1", cluster.HealthOptions{
		Drained: d.HasArg("drained"),
		OtherUsable: func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.others
		},
		Rand: func() float64 { return jitter },
		Log:  zap.NewNop(),
	})
	var ctx context.Context
	ctx, w.stop = context.WithCancel(t.Context())
	w.wg.Go(func() { w.h.Run(ctx, w.servers) })
	w.wg.Go(func() { w.watch(ctx) })
}

func (w *world) watch(ctx context.Context) {
	last := ""
	for {
		changed := w.h.Changed()
		s := w.h.Status()
		now := s.State.String()
		if s.Drained {
			now += ", drained"
		}
		if now != last {
			w.mu.Lock()
			w.seen = append(w.seen, fmt.Sprintf("%8.2fs %s", time.Since(w.start).Seconds(), now))
			w.mu.Unlock()
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (w *world) changes() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		return "nothing changes\n"
	}
	s := strings.Join(w.seen, "\n") + "\n"
	w.seen = nil
	return s
}

func (w *world) status() string {
	s := w.h.Status()
	is := map[bool]string{true: "yes", false: "no"}
	return fmt.Sprintf("%s since %.2fs, usable %s, may begin %s, reachable %s, hold left %v\nfalls %d, returns %d, pings %d (missed %d), blocks %d (failed %d)\nlast error: %v\n",
		s.State, s.Since.Sub(w.start).Seconds(), is[w.h.Usable()], is[w.h.MayBegin()], is[w.h.Reachable()],
		s.HoldLeft.Round(10*time.Millisecond), s.Falls, s.Returns,
		s.Pings, s.PingsMissed, s.Blocks, s.BlocksFailed, s.LastError)
}

func (w *world) end() {
	if w.stop != nil {
		w.stop()
	}
	w.wg.Wait()
}
