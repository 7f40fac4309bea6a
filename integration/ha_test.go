//go:build integration

package integration

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A pair of NameNodes changes roles under load: in order, then after the active one was killed,
// then while it hangs. No OK is late, the cluster is used again, and every message is there once.
func TestProveHA(t *testing.T) {
	n1, n2 := lab.StartHA(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	for _, v := range []struct {
		name         string
		standbyFirst bool
		faults       []haFault
	}{
		{"standby first", true, pick([]haFault{handOver, killActive}, []haFault{handOver, killActive, stopActive})},
		{"active first", false, pick(nil, []haFault{handOver, killActive, stopActive})},
	} {
		if v.faults == nil {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			active := n1.Active()
			first, second := active, n1.Other(active)
			if v.standbyFirst {
				first, second = second, first
			}
			t.Logf("namenodes: %s, %s; %s is active", first, second, active)
			one := fmt.Sprintf("[%q]", n1.Addr)
			pair := fmt.Sprintf("[%q, %q]", n1.Addrs[first], n1.Addrs[second])
			s := lab.NewServer(t, strings.Replace(twoClusters(n1.Hadoop, n2, ""), one, pair, 1))
			changeRoles(t, s, n1, v.faults)
			n1.CLI("dfs", "-rm", "-r", "-f", "-skipTrash", "/logs")
			n2.CLI("dfs", "-rm", "-r", "-f", "-skipTrash", "/logs")
		})
	}
}

// A haFault takes the role from a pair's active NameNode.
type haFault struct {
	name string
	take func(n1 *lab.HA, active string) // and leaves the other one active
	lost bool                            // the one that was active must be started anew
}

var (
	handOver = haFault{"handed over", func(n1 *lab.HA, active string) {
		n1.Failover(active, n1.Other(active))
	}, false}
	killActive = haFault{"active killed", func(n1 *lab.HA, active string) {
		n1.Do(active, "kill")
		time.Sleep(2 * time.Second)
		n1.Activate(n1.Other(active))
	}, true}
	stopActive = haFault{"active stopped", func(n1 *lab.HA, active string) {
		n1.Do(active, "stop")
		time.Sleep(2 * time.Second)
		n1.Activate(n1.Other(active))
	}, true}
)

func changeRoles(t *testing.T, s *lab.Server, n1 *lab.HA, faults []haFault) {
	const size, batch = 200, 10
	standby := n1.Other(n1.Active())
	n1.Do(standby, "stop") // one that hangs is in nobody's way, not even as the first one asked
	s.Start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Files that are open need no NameNode, so one client begins a category twice a second.
	load := lab.Load{Addr: s.Thrift, Clients: 4, Batch: batch, Interval: 50 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) {
			if c == 0 {
				return fmt.Appendf(nil, "new%04d", n/(10*batch)), lab.Line(c, n, size)
			}
			return fmt.Appendf(nil, "steady%d", c), lab.Line(c, n, size)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 30*time.Second, "files open on n1", func() bool { return s.Metric("twinscribe_files_open", `cluster="n1"`) >= 5 })
	var st status
	s.Get("/v1/status", &st)
	t.Logf("the standby hangs: stored %v, n1 is %s", st.Totals.Stored, clusterState(t, s, "n1"))
	if len(st.Totals.Stored) != 1 {
		t.Errorf("stored %v while the standby hung, want all on n1", st.Totals.Stored)
	}
	n1.Do(standby, "cont")
	var windows []haWindow
	for _, f := range faults {
		windows = append(windows, takeRole(t, s, n1, f))
	}
	time.Sleep(2 * time.Second)
	cancel()
	hs := <-done
	for _, w := range windows {
		n, p50, p99, longest := lab.Latency(hs, w.from, w.to)
		t.Logf("%s: %d OKs, p50 %v, p99 %v, slowest %v; %v until the other one was active, %v more until n1 was healthy, %v until a file was begun there; stored meanwhile %v; files torn on n1 %.0f",
			w.name, n, p50, p99, longest, w.without.Round(time.Millisecond), w.healthy.Round(time.Millisecond), w.begun.Round(time.Millisecond), w.stored, w.torn)
		if n == 0 || longest >= bound() {
			t.Errorf("%s: %d OKs, slowest %v, want under %v", w.name, n, longest, bound())
		}
	}
	sent, unknown, later, longest := sumHistories(hs)
	t.Logf("%d messages, unknown %d, TRY_LATER %d, slowest OK of all %v", sent, unknown, later, longest)
	if later > 0 || unknown > 0 || longest >= bound() {
		t.Errorf("TRY_LATER %d, unknown %d, slowest OK %v: want none, and under %v", later, unknown, longest, bound())
	}
	t.Logf("settled in %v", settled(t, s, 60*time.Second).Round(time.Millisecond))
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	var b lab.Books
	lab.Eventually(t, 30*time.Second, "everything counted in read", func() bool {
		stderr, code := s.Read(func(r io.Reader) error { b = lab.Verify(t, r, hs, size, false); return nil }, "--all")
		if code != 0 {
			t.Logf("read ended with %d: %s", code, stderr)
		}
		return code == 0
	})
	t.Logf("twinscribe read: %v", b)
	b.MustBalance(t)
}

// A haWindow is what happened from a fault until n1 was in use again.
type haWindow struct {
	name     string
	from, to time.Time
	without  time.Duration // from the fault until the other one was active
	healthy  time.Duration // from then until n1 was healthy
	begun    time.Duration // and until a file was begun there
	stored   places
	torn     float64
}

func takeRole(t *testing.T, s *lab.Server, n1 *lab.HA, f haFault) haWindow {
	t.Helper()
	active := n1.Active()
	next := n1.Other(active)
	var before, after status
	s.Get("/v1/status", &before)
	torn := s.Metric("twinscribe_files_torn_total", `cluster="n1"`)
	w := haWindow{name: fmt.Sprintf("%s (%s to %s)", f.name, active, next), from: time.Now()}
	f.take(n1, active)
	changed := time.Now()
	w.without = changed.Sub(w.from)
	begun := s.Metric("twinscribe_files_begun_total", `cluster="n1"`)
	if got := n1.Active(); got != next {
		t.Fatalf("%s: %q is active, want %s", f.name, got, next)
	}
	lab.Eventually(t, 60*time.Second, "n1 is healthy again", func() bool { return clusterState(t, s, "n1") == "healthy" })
	w.healthy = time.Since(changed)
	lab.Eventually(t, 10*time.Second, "a file begun on n1 again", func() bool { return s.Metric("twinscribe_files_begun_total", `cluster="n1"`) > begun })
	w.begun = time.Since(changed)
	w.to = time.Now()
	s.Get("/v1/status", &after)
	w.stored = places{}
	for place, n := range after.Totals.Stored {
		w.stored[place] = count{n.Messages - before.Totals.Stored[place].Messages}
	}
	w.torn = s.Metric("twinscribe_files_torn_total", `cluster="n1"`) - torn
	if f.lost {
		n1.Rejoin(active, 1)
	}
	return w
}
