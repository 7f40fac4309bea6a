//go:build integration

package integration

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Both clusters are down under load: OK goes on from the buffer, nothing is replayed by itself,
// the segments verify, and shipping them by hand, twice and killed again and again, puts every
// message there once.
func TestProveOutage(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, twoClusters(n1, n2, "buffer: {segment: 4MiB}\n"))
	s.Start()
	const size = 300
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 20, Interval: 20 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte("web"), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(3 * time.Second)
	cut := time.Now()
	pids := []int{n1.Pid("nn"), n1.Pid("dn1"), n2.Pid("nn"), n2.Pid("dn1")}
	for _, p := range pids {
		n1.Signal(p, syscall.SIGSTOP)
	}
	time.Sleep(pick(15*time.Second, 2*time.Minute))
	var during status
	s.Get("/v1/status", &during)
	for _, p := range pids {
		n1.Signal(p, syscall.SIGCONT)
	}
	n1.Wait(1)
	n2.Wait(1)
	settled(t, s, 90*time.Second)
	time.Sleep(pick(3*time.Second, 30*time.Second))
	cancel()
	hs := <-done
	_, unknown, later, _ := sumHistories(hs)
	n, p50, p99, longest := lab.Latency(hs, cut, time.Now())
	t.Logf("OKs since both were down: %d, p50 %v, p99 %v, slowest %v; TRY_LATER %d, unknown %d; stored by then %v",
		n, p50, p99, longest, later, unknown, during.Totals.Stored)
	if longest >= bound() {
		t.Errorf("slowest OK %v, want under %v", longest, bound())
	}
	lab.Eventually(t, 30*time.Second, "a cluster in use again", func() bool {
		var st status
		s.Get("/v1/status", &st)
		return st.Totals.Stored["n1"].Messages+st.Totals.Stored["n2"].Messages > during.Totals.Stored["n1"].Messages+during.Totals.Stored["n2"].Messages || load.Limit > 0 || ctx.Err() != nil
	})
	var st status
	s.Get("/v1/status", &st)
	t.Logf("not replayed: %v messages in the buffer", st.Buffer.Unshipped)
	if st.Buffer.Unshipped["outage"] == 0 {
		t.Error("no message of the outage is in the buffer")
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	out, stderr, code := s.Run("buffer", "verify", "-c", s.Config)
	t.Logf("buffer verify: exit status %d: %s%s", code, out, stderr)
	if code != 0 {
		t.Errorf("buffer verify ended with %d", code)
	}
	b := readAll(t, s, hs, size)
	t.Logf("read before shipping: %v", b)
	b.MustBalance(t)
	shipKilled(t, s, pick(4, 20))
	for i := range 2 {
		out, stderr, code = s.Run("buffer", "ship", "-c", s.Config)
		t.Logf("buffer ship, time %d: exit status %d: %s%s", i+1, code, out, stderr)
		if code != 0 {
			t.Errorf("buffer ship ended with %d", code)
		}
	}
	b = readAll(t, s, hs, size)
	t.Logf("read after shipping: %v", b)
	b.MustBalance(t)
	independent(t, s, "web", hs, size, n1, n2)
}

// shipKilled begins a shipping and kills it after a random time, many times.
func shipKilled(t *testing.T, s *lab.Server, times int) {
	t.Helper()
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	finished := 0
	for range times {
		cmd := exec.Command(bin, "buffer", "ship", "-c", s.Config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(5+rand.IntN(400))*time.Millisecond, func() { cmd.Process.Kill() })
		if cmd.Wait() == nil {
			finished++
		}
		timer.Stop()
	}
	t.Logf("buffer ship begun and killed %d times, %d of them had ended before", times, finished)
}
