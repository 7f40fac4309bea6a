//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// soakCategories share the clients' messages by their numbers.
var soakCategories = []string{"soak0", "soak1", "soak2"}

const soakSize = 200

// TestProve9Soak has two clusters fail by turns, so that the traffic goes from one to the other all the time: every
// second the books balance; what the process holds is level; and in the end the books agree with the manifests, with
// readers that share nothing with twinscribe, and with what the clients remember.
func TestProve9Soak(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	yaml := strings.ReplaceAll(twoClusters(n1, n2, ""), "{hold_off: 3s, hold_off_max: 10s}", "{hold_off: 2s, hold_off_max: 2s}")
	s := lab.NewServer(t, yaml)
	s.Start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 4, Batch: 12, Interval: 100 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) {
			return []byte(soakCategories[n%len(soakCategories)]), lab.Line(c, n, soakSize)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(pick(2*time.Second, 10*time.Second))

	w := watchBooks(s)
	faults, both := breakByTurns(t, s, n1, n2, time.Now().Add(pick(20*time.Second, 20*time.Minute)))
	w.stop()
	settled(t, s, 3*time.Minute)
	time.Sleep(2 * time.Second)
	cancel()
	hs := <-done
	books := finalBooks(t, s)
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}

	least := pick(4, 40)
	t.Logf("%d faults, %d of them of both clusters at once; writing went to another place %d times: %s", faults, both, w.moves, w.where)
	if w.switches < int64(least) || w.moves < least {
		t.Errorf("the clusters switched %d times and writing went to another place %d times, want %d at least of both", w.switches, w.moves, least)
	}
	t.Logf("table: 9 | %d faults of N1 and N2 by turns in %.0f min, hold-off 2 s | switches %d, moves of the traffic %d (40)",
		faults, w.lasted().Minutes(), w.switches, w.moves)
	w.judgeBooks(t)
	w.judgeLevels(t)
	agree(t, s, books, hs, n1, n2)
}

// breakByTurns breaks the cluster that is in use, again and again until end, and waits each time until both are healthy:
// frozen and killed, NameNode and DataNode, and now and then both clusters at once.
func breakByTurns(t *testing.T, s *lab.Server, n1, n2 *lab.Hadoop, end time.Time) (faults, both int) {
	t.Helper()
	kinds := []struct {
		who, what string
		away      time.Duration
	}{
		{"dn1", "stop", 4 * time.Second}, {"all", "stop", 4 * time.Second}, {"nn", "stop", 8 * time.Second},
		{"dn1", "kill", 4 * time.Second}, {"dn1", "stop", 3 * time.Second}, {"nn", "kill", 8 * time.Second},
	}
	for time.Now().Before(end) {
		kind := kinds[faults%len(kinds)]
		broken := []*lab.Hadoop{n1}
		if inUse(t, s) == "n2" {
			broken[0] = n2
		}
		if faults%len(kinds) == 1 && faults/len(kinds)%pick(1, 3) == 0 {
			broken, both = []*lab.Hadoop{n1, n2}, both+1
		}
		faults++
		for _, h := range broken {
			breakPart(h, kind.who, kind.what)
		}
		time.Sleep(kind.away)
		for _, h := range broken {
			mendPart(h, kind.who, kind.what)
		}
		for _, h := range broken {
			h.Wait(1)
		}
		lab.Eventually(t, 90*time.Second, "both clusters healthy after "+kind.who+" "+kind.what, func() bool {
			return clusterState(t, s, "n1") == "healthy" && clusterState(t, s, "n2") == "healthy"
		})
		time.Sleep(time.Second)
	}
	return faults, both
}

// inUse is the place that messages go to just now.
func inUse(t *testing.T, s *lab.Server) (place string) {
	t.Helper()
	var before, now snapshot
	s.Get("/v1/status", &before)
	lab.Eventually(t, 30*time.Second, "messages being stored", func() bool {
		s.Get("/v1/status", &now)
		place = grew(before, now)
		return place != ""
	})
	return place
}

func breakPart(h *lab.Hadoop, who, what string) {
	if what == "kill" {
		h.Do(who, "kill")
		return
	}
	signalPart(h, who, syscall.SIGSTOP)
}

func mendPart(h *lab.Hadoop, who, what string) {
	if what == "kill" {
		h.Do(who, "start")
		return
	}
	signalPart(h, who, syscall.SIGCONT)
}

func signalPart(h *lab.Hadoop, who string, sig syscall.Signal) {
	parts := []string{who}
	if who == "all" {
		parts = []string{"nn", "dn1"}
	}
	for _, p := range parts {
		h.Signal(h.Pid(p), sig)
	}
}

// finalBooks waits until nothing is on its way any more and takes the books.
func finalBooks(t *testing.T, s *lab.Server) (b snapshot) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "nothing queued or in flight", func() bool {
		s.Get("/v1/status", &b)
		return b.Totals.Queued.Messages+b.Totals.InFlight.Messages == 0
	})
	if err := b.check(); err != nil {
		t.Errorf("at the end: %v", err)
	}
	return b
}

// agree holds the books against the manifests and segments, against readers of other people, and against the histories.
func agree(t *testing.T, s *lab.Server, books snapshot, hs []*lab.History, clusters ...*lab.Hadoop) {
	t.Helper()
	out, stderr, code := s.Run("ls", "-c", s.Config, "--check")
	t.Logf("ls --check: exit status %d: %s%s", code, out, stderr)
	if code != 0 {
		t.Errorf("ls --check ended with %d", code)
	}
	listed := listedPlaces(t, s)
	var streams []io.Reader
	total := int64(0)
	for _, c := range soakCategories {
		book := books.category(t, c)
		for place, want := range book.Stored {
			if got := listed[c][place]; got != want.Messages {
				t.Errorf("%s: manifests and inventories have %d messages of %s, the books %d", c, got, place, want.Messages)
			}
		}
		var data []byte
		for _, h := range clusters {
			data = append(data, catFinal(t, h, "/logs/"+c)...)
		}
		data = append(data, catSegments(t, s, c)...)
		n, want := int64(bytes.Count(data, []byte{'\n'})), sumStored(book.Stored).Messages
		if n != want {
			t.Errorf("%s: Hadoop's shell and segments.py count %d messages, the books say %d stored", c, n, want)
		}
		total += n
		streams = append(streams, bytes.NewReader(data))
	}
	b := lab.Verify(t, io.MultiReader(streams...), hs, soakSize, false)
	t.Logf("independent readers: %v", b)
	b.MustBalance(t)
	b = readAll(t, s, hs, soakSize)
	b.MustBalance(t)
	sent, unknown, later, longest := sumHistories(hs)
	t.Logf("sent %d, of unknown fate %d, TRY_LATER %d, slowest OK %v; stored %v", sent, unknown, later, longest, books.Totals.Stored)
	t.Logf("table: 9 | books, manifests, Hadoop's shell + segments.py, clients at the end | %d messages each (%v); lost %d, twice %d",
		total, books.Totals.places(), b.Lost, b.Twice)
}

// listedPlaces is what `twinscribe ls` has of each category, by the place that answered for it: a sealed file that was
// shipped is counted for the buffer, and its segment, which still lies there, is not.
func listedPlaces(t *testing.T, s *lab.Server) map[string]map[string]int64 {
	t.Helper()
	out, stderr, code := s.Run("ls", "-c", s.Config, "--json")
	if code != 0 {
		t.Errorf("ls --json ended with %d: %s", code, stderr)
	}
	all := map[string]map[string]int64{}
	for line := range bytes.Lines(out) {
		i := listedItem(t, line)
		if i.State != "sealed" && i.State != "segment" && i.State != "shipped" || i.Missing != "" {
			t.Errorf("ls: %s", line)
		}
		if i.State == "shipped" {
			continue
		}
		place := i.Place
		if i.Reason == "ship" || i.State == "segment" {
			place = "buffer"
		}
		if all[i.Category] == nil {
			all[i.Category] = map[string]int64{}
		}
		all[i.Category][place] += i.Messages
	}
	if len(all) == 0 {
		t.Fatal(fmt.Errorf("ls lists nothing: %s", stderr))
	}
	return all
}
