//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// The points of the short form: each ends another step.
var fewPoints = []string{"state.counted", "begin.created", "append.acknowledged", "seal.manifest-placed",
	"repair.manifest-placed", "inventory.copied", "segment.written", "ship.renamed"}

// kill -9 at every point between two steps, three times each, and at 50 moments drawn over the
// whole life, while N1 comes and goes: nothing acknowledged is lost, nothing stands twice, and a
// minute after the last start no file of a dead one is open.
func TestProve2Kill9(t *testing.T) {
	points, _ := failPoints(t)
	ordinary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(ordinary); err != nil || bytes.Contains(b, []byte("seal.manifest-placed")) {
		t.Errorf("the ordinary binary %s has fail points in it (%v)", ordinary, err)
	}
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, busyLife(n1, n2))
	s.Bin = lab.BuildWith(t, "failpoints")
	want := 3
	if testing.Short() {
		points, want = fewPoints, 1
	}
	k := newHadoopKiller(t, s, n1, n2, points, want, pick(3, 50))
	const size = 600
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 6, Batch: 20, Interval: 40 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return fmt.Appendf(nil, "web%d", max(c-3, 0)), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	begun := time.Now()
	k.run(pick(25*time.Second, 20*time.Minute))
	took := time.Since(begun)

	s.Env = nil
	s.Start()
	last := time.Now()
	time.Sleep(2 * time.Second)
	cancel()
	hs := <-done
	after := settled(t, s, 60*time.Second-time.Since(last)) + time.Since(last)
	left := deadOpen(t, s, func() (open []string) {
		for _, h := range []*lab.Hadoop{n1, n2} {
			open = append(open, openNames(t, h)...)
		}
		return open
	})
	balance(t, s)
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	b := readOnce(t, s, hs, size)
	sent, unknown, later, longest := sumHistories(hs)
	t.Logf("%d messages, unknown %d, TRY_LATER %d, slowest OK %v; read: %v", sent, unknown, later, longest, b)
	t.Logf("table: 2 | kill -9 at %d fail points | least hits of a point %d (want %d), kills %d, N1 away %d times, %v", len(points),
		k.least(), want, k.total(), k.weather.falls, took.Round(time.Second))
	t.Logf("table: 2 | kill -9 at moments drawn over the whole life | %d moments, %d of them while it stopped in order", k.drawn, k.stopping)
	t.Logf("table: 2 | after %d starts, both clusters up | acknowledged lost %d, twice %d, settled in %v (bound 60 s), .open of dead starts %d",
		k.starts, b.Lost, b.Twice, after.Round(100*time.Millisecond), len(left))
	k.report()
}

// busyLife is a configuration in which every step comes often.
func busyLife(n1, n2 *lab.Hadoop) string {
	const files = "          - {files: {cluster: %s, max_size: 1MiB, idle: 3s}}\n"
	y := "visible_within: 1s\ntimeouts: {write: 1s, stop: 5s}\nbuffer: {segment: 4MiB, replay: auto, keep: 1s}\nclusters:\n"
	for name, h := range map[string]*lab.Hadoop{"n1": n1, "n2": n2} {
		y += fmt.Sprintf("  - name: %s\n    hdfs: {namenodes: [%q], user: %q, root: /logs}\n    probe: {hold_off: 1s, hold_off_max: 2s}\n", name, h.Addr, lab.User())
	}
	return y + "categories:\n  - match: \"*\"\n    store:\n      failover:\n        prefer: first\n        places:\n" +
		fmt.Sprintf(files, "n1") + fmt.Sprintf(files, "n2") + "          - {buffer: {}}\n"
}

// deadOpen are those of the clusters' open files that nobody writes any more, once the living ones
// are known.
func deadOpen(t *testing.T, s *lab.Server, list func() []string) []string {
	t.Helper()
	var before, after status
	s.Get("/v1/status", &before)
	open := list()
	s.Get("/v1/status", &after)
	living := 0
	for i := range before.Clusters {
		living += max(before.Clusters[i].OpenFiles, after.Clusters[i].OpenFiles)
	}
	if len(open) <= living {
		return nil
	}
	t.Errorf("%d files are open, %d of them are being written: %v", len(open), living, open)
	return open
}

// balance holds the books of the last start against themselves.
func balance(t *testing.T, s *lab.Server) {
	t.Helper()
	var st status
	s.Get("/v1/status", &st)
	var stored int64
	for _, c := range st.Totals.Stored {
		stored += c.Messages
	}
	if stored == 0 || stored != st.Totals.Accepted.Messages || st.Totals.Offered.Messages < stored {
		t.Errorf("the books of the last start do not balance: offered %d, accepted %d, stored %d",
			st.Totals.Offered.Messages, st.Totals.Accepted.Messages, stored)
	}
}

// least is how often the point with the fewest hits was hit.
func (k *killer) least() int { return slices.Min(slices.Collect(maps.Values(k.hits))) }

func (k *killer) total() (n int) {
	for _, h := range k.hits {
		n += h
	}
	return n
}

// report says which points were hit how often, and fails for those that were not hit enough.
func (k *killer) report() {
	k.t.Helper()
	var line []string
	for _, p := range slices.Sorted(maps.Keys(k.hits)) {
		line = append(line, fmt.Sprintf("%s %d", p, k.hits[p]))
		if k.hits[p] < k.want {
			k.t.Errorf("fail point %s: hit %d times, want %d (passed in %d of %d starts)", p, k.hits[p], k.want, k.passed[p], k.starts)
		}
	}
	k.t.Logf("hits: %v", line)
	k.t.Logf("lives by kind: %v", k.kinds)
	if k.drawn < k.moments {
		k.t.Errorf("%d moments were drawn, want %d", k.drawn, k.moments)
	}
}

// pickMoment is drawn over the whole life: the start, the work, the orderly stop.
func pickMoment() (after time.Duration, stopFirst bool) {
	switch rand.IntN(5) {
	case 0:
		return time.Duration(rand.IntN(400)) * time.Millisecond, false
	case 1:
		return time.Duration(rand.IntN(600)) * time.Millisecond, true
	default:
		return time.Duration(rand.IntN(4000)) * time.Millisecond, false
	}
}
