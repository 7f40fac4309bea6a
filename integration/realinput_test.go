//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Eight clients send into two clusters whose NameNodes are killed at one third and two thirds.
// Everything is read back once, in order for each client, and by readers that share no code
// with twinscribe.
func TestProveRealInput(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, twoClusters(n1, n2, fmt.Sprintf("visible_within: %v\n", pick(5*time.Second, time.Minute))))
	s.Start()
	t.Run("access.log", func(t *testing.T) { sendAccessLog(t, s) })

	const clients, size, batch = 8, 500, 100
	total := pick(60_000, 2_000_000)
	limit := total / clients
	var sent atomic.Int64
	third, twoThirds := make(chan struct{}), make(chan struct{})
	load := lab.Load{Addr: s.Thrift, Clients: clients, Batch: batch, Limit: limit,
		Message: func(c, n int) ([]byte, []byte) { return []byte("web"), lab.Line(c, n, size) },
		Answered: func(_, _, n int, _ time.Duration) {
			now := sent.Add(int64(n))
			if before := now - int64(n); before < int64(total/3) && now >= int64(total/3) {
				close(third)
			} else if before < int64(2*total/3) && now >= int64(2*total/3) {
				close(twoThirds)
			}
		}}
	go func() {
		<-third
		n1.Do("nn", "kill")
		<-twoThirds
		n2.Do("nn", "kill")
	}()
	start := time.Now()
	hs := load.Run(context.Background())
	took := time.Since(start)
	sentAll, unknown, later, longest := sumHistories(hs)
	t.Logf("%d messages of %d bytes in %v (%.0f MB/s): TRY_LATER %d, unknown %d, slowest OK %v",
		sentAll, size, took.Round(time.Millisecond), float64(sentAll*size)/1e6/took.Seconds(), later, unknown, longest)
	var st status
	s.Get("/v1/status", &st)
	t.Logf("stored by place: %v", st.Totals.Stored)

	n1.Do("nn", "start")
	n2.Do("nn", "start")
	n1.Wait(1)
	n2.Wait(1)
	t.Logf("settled %v after both were back", settled(t, s, 90*time.Second))
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	readBack(t, s, "web", hs, size, true)
	independent(t, s, "web", hs, size, n1, n2)
}

func sendAccessLog(t *testing.T, s *lab.Server) {
	input := accessLog(t)
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "cat", "--addr", s.Thrift, "access")
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("twinscribe cat: %v", err)
	}
	var got []byte
	lab.Eventually(t, 70*time.Second, "all of access.log in read", func() bool {
		out, _, code := s.Run("read", "-c", s.Config, "--category", "access")
		got = out
		return (code == 0 || code == 3) && len(out) >= len(input)
	})
	if !bytes.Equal(got, input) {
		t.Errorf("access.log came back different: %d bytes sent, %d read", len(input), len(got))
	}
	t.Logf("access.log: %d lines, %d bytes, byte for byte in order", bytes.Count(got, []byte("\n")), len(got))
}
