//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A proxy passes every packet on to N1's DataNode and, from one moment on, no acknowledgement
// back. No client may get OK for a batch that only went there, and the batch is found once.
func TestProveLostAcks(t *testing.T) {
	t.Setenv("HDFS_DN_HOST", "127.0.0.2") // the NameNode names 127.0.0.1, where the proxy stands
	n1 := startBehindProxy(t)
	t.Setenv("HDFS_DN_HOST", "")
	n2 := lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, twoClusters(n1.Hadoop, n2, ""))
	s.Start()

	const size = 200
	ctx, cancel := context.WithCancel(context.Background())
	load := lab.Load{Addr: s.Thrift, Clients: 4, Batch: 10, Interval: 5 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte("web"), lab.Line(c, n, size) }}
	done := make(chan []*lab.History)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 20*time.Second, "acknowledgements from N1", func() bool { return n1.proxy.Passed.Load() > 50 })
	var before, after status
	s.Get("/v1/status", &before)
	cut := time.Now()
	n1.proxy.DropAfter(5)
	lab.Eventually(t, 10*time.Second, "the five to have passed", func() bool { return n1.proxy.Dropped.Load() > 0 })
	s.Get("/v1/status", &before)
	time.Sleep(pick(6*time.Second, 20*time.Second))
	s.Get("/v1/status", &after)
	cancel()
	hs := <-done
	n, p50, p99, longest := lab.Latency(hs, cut, time.Now())
	_, unknown, later, _ := sumHistories(hs)
	t.Logf("acknowledgements passed %d, kept back %d; OKs after the cut %d: p50 %v, p99 %v, slowest %v; TRY_LATER %d, unknown %d",
		n1.proxy.Passed.Load(), n1.proxy.Dropped.Load(), n, p50, p99, longest, later, unknown)
	t.Logf("stored by place before the cut %v, after it %v", before.Totals.Stored, after.Totals.Stored)
	if before.Totals.Stored["n1"].Messages != after.Totals.Stored["n1"].Messages {
		t.Errorf("OKs from N1 while its acknowledgements were kept back: %d messages", after.Totals.Stored["n1"].Messages-before.Totals.Stored["n1"].Messages)
	}
	if longest >= bound() {
		t.Errorf("slowest OK %v, want under write_timeout + 1 s", longest)
	}
	n1.proxy.DropAfter(-1)
	t.Logf("settled %v after acknowledgements passed again", settled(t, s, 90*time.Second))
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	readBack(t, s, "web", hs, size, true)
	independent(t, s, "web", hs, size, n1.Hadoop, n2)
}

type proxied struct {
	*lab.Hadoop
	proxy *lab.AckProxy
}

func startBehindProxy(t *testing.T) proxied {
	t.Helper()
	h := lab.StartHadoop(t, "N1", 1)
	p := lab.StartAckProxy(t, fmt.Sprintf("127.0.0.1:%d", h.Port("dn1")), fmt.Sprintf("127.0.0.2:%d", h.Port("dn1")))
	return proxied{h, p}
}
