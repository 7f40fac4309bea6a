//go:build integration

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// kill -9 of the aggregator under load, again and again: nothing acknowledged is lost, nothing
// stands twice, and a minute after the last start no file of a dead one is open.
func TestProveKill9(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, twoClusters(n1, n2, ""))
	s.Start()
	const size = 300
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 20,
		Message: func(c, n int) ([]byte, []byte) { return fmt.Appendf(nil, "web%d", n%3), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	moments := pick(4, 10)
	for i := range moments {
		after := time.Duration(200+rand.IntN(2800)) * time.Millisecond
		time.Sleep(after)
		s.Kill()
		start := time.Now()
		s.Start()
		t.Logf("moment %d: killed after %v, ready again in %v", i+1, after, time.Since(start).Round(time.Millisecond))
	}
	last := time.Now()
	time.Sleep(2 * time.Second)
	cancel()
	hs := <-done
	sent, unknown, later, longest := sumHistories(hs)
	t.Logf("%d messages, unknown %d, TRY_LATER %d, slowest OK %v", sent, unknown, later, longest)
	settled(t, s, 60*time.Second-time.Since(last))
	var st status
	s.Get("/v1/status", &st)
	open := append(openNames(t, n1), openNames(t, n2)...)
	living := 0
	for _, c := range st.Clusters {
		living += c.OpenFiles
	}
	t.Logf("%v after the last start: %d open files, %d of them being written", time.Since(last).Round(time.Second), len(open), living)
	if len(open) > living {
		t.Errorf("open files of dead starts: %v", open)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	readOnce(t, s, hs, size)
}

// bySequence counts that no (aggregator, start, chain, sequence) is printed twice.
func bySequence(t *testing.T, s *lab.Server) {
	t.Helper()
	seen, twice := map[string]bool{}, 0
	s.Read(func(r io.Reader) error {
		sc := bufio.NewScanner(r)
		sc.Buffer(make([]byte, 1<<20), 64<<20)
		for sc.Scan() {
			var m struct {
				Aggregator, Start string
				Chain, Sequence   uint64
			}
			if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
				return err
			}
			key := fmt.Sprint(m.Aggregator, m.Start, m.Chain, " ", m.Sequence)
			if seen[key] {
				twice++
			}
			seen[key] = true
		}
		return sc.Err()
	}, "--all", "--json")
	t.Logf("by sequence: %d messages, twice %d", len(seen), twice)
	if twice > 0 || len(seen) == 0 {
		t.Errorf("%d sequences, %d of them twice", len(seen), twice)
	}
}
