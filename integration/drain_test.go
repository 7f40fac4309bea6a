//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A cluster is drained and taken back under load, with a restart while it is drained.
func TestProveDrain(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	for _, categories := range []int{1, 100} {
		t.Run(fmt.Sprintf("categories=%d", categories), func(t *testing.T) {
			s := lab.NewServer(t, twoClusters(n1, n2, ""))
			s.Start()
			drainUnderLoad(t, s, n1, categories)
			n1.CLI("dfs", "-rm", "-r", "-f", "-skipTrash", "/logs")
			n2.CLI("dfs", "-rm", "-r", "-f", "-skipTrash", "/logs")
		})
	}
}

func drainUnderLoad(t *testing.T, s *lab.Server, n1 *lab.Hadoop, categories int) {
	const size = 200
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: max(2, categories/10), Batch: 10, Interval: 100 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) {
			if categories == 1 {
				return []byte("cat"), lab.Line(c, n, size)
			}
			return fmt.Appendf(nil, "cat%03d", c*10+n%10), lab.Line(c, n, size)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 30*time.Second, "all files open on n1", func() bool {
		return s.Metric("twinscribe_files_open", `cluster="n1"`) >= float64(categories)
	})
	ctl := func(args ...string) time.Duration {
		start := time.Now()
		out, stderr, code := s.Run(append([]string{"ctl", "--addr", s.HTTP}, args...)...)
		if code != 0 {
			t.Fatalf("ctl %v: exit status %d: %s%s", args, code, out, stderr)
		}
		return time.Since(start)
	}
	begun := time.Now()
	took := ctl("drain", "n1", "--timeout", "60s")
	drained := allNames(t, n1)
	if i := slices.IndexFunc(drained, func(n string) bool { return strings.HasSuffix(n, ".open") }); i >= 0 {
		t.Errorf("open on n1 after drain: %s", drained[i])
	}
	time.Sleep(pick(2*time.Second, 10*time.Second))
	restart := time.Now()
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	s.Start()
	restarted := time.Now()
	time.Sleep(pick(3*time.Second, 10*time.Second))
	if now := allNames(t, n1); !slices.Equal(now, drained) {
		t.Errorf("n1 changed while it was drained: %d names, then %d", len(drained), len(now))
	}
	back := ctl("undrain", "n1")
	ctl("drain", "n2", "--timeout", "60s")
	lab.Eventually(t, 20*time.Second, "writing on n1 again", func() bool {
		return s.Metric("twinscribe_files_open", `cluster="n1"`) > 0
	})
	ctl("undrain", "n2")
	time.Sleep(2 * time.Second)
	cancel()
	hs := <-done
	_, unknown, later, _ := sumHistories(hs)
	n, p50, p99, longest := lab.Latency(hs, begun, time.Now())
	t.Logf("%d categories: drain took %v, undrain %v, restart %v; %d OKs: p50 %v, p99 %v, slowest %v; TRY_LATER %d, unknown (connections cut by the restart) %d",
		categories, took.Round(time.Millisecond), back.Round(time.Millisecond), restarted.Sub(restart).Round(time.Millisecond), n, p50, p99, longest, later, unknown)
	if later > 0 || longest >= pick(bound(), time.Second) {
		t.Errorf("TRY_LATER %d, slowest OK %v: want none, and under 1 s", later, longest)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	b := readAll(t, s, hs, size)
	t.Logf("twinscribe read: %v", b)
	b.MustBalance(t)
}

// allNames are the names of everything below the root, without the files about members that
// are there before a drain.
func allNames(t *testing.T, h *lab.Hadoop) []string {
	t.Helper()
	out, err := h.TryCLI("dfs", "-ls", "-C", "-R", "/logs")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	return names
}
