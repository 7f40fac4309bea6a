//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A spell is a rhythm in which N1 is up while N2 is away, and the other way round.
type spell struct {
	half time.Duration // up, and then away so long
	who  string        // dn1, or all
	long time.Duration
}

// The spells of TestProve10Flapping. Those of the first two minutes bring the hold-off to where it stays. Then: in step
// with the probes, each second and each two seconds; just longer than a write may take, which probes see least of; and just
// longer than the 30 s after which a cluster comes back while no other is usable, where the product switches most
// (TestProve10Rhythms finds it).
func spells() []spell {
	return pick([]spell{
		{500 * time.Millisecond, "all", 3 * time.Second},
		{time.Second, "dn1", 4 * time.Second},
		{5 * time.Second, "all", 10 * time.Second},
	}, []spell{
		{16 * time.Second, "all", 96 * time.Second},
		{500 * time.Millisecond, "all", 24 * time.Second}, // two minutes
		{time.Second, "dn1", 40 * time.Second},
		{2 * time.Second, "all", 40 * time.Second},
		{2250 * time.Millisecond, "dn1", 60 * time.Second},
		{34 * time.Second, "all", 340 * time.Second},
	})
}

// TestProve10Flapping has N1 and N2 come and go in anti-phase under load, with the hold-off that a server has by itself.
func TestProve10Flapping(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	yaml := twoClusters(n1, n2, "")
	if !testing.Short() {
		yaml = strings.ReplaceAll(yaml, "    probe: {hold_off: 3s, hold_off_max: 10s}\n", "")
	}
	s := lab.NewServer(t, yaml)
	s.Start()
	const size, category = 200, "flap"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 6, Batch: 5, Interval: 50 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte(category), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 30*time.Second, "a file open", func() bool { return s.Metric("twinscribe_files_open") > 0 })
	time.Sleep(2 * time.Second)
	normal := time.Now()
	time.Sleep(pick(3*time.Second, 15*time.Second))
	begun := time.Now()
	w := watchFlapping(s)
	for _, sp := range spells() {
		antiphase(n1, n2, sp)
	}
	ended := time.Now()
	judged := begun.Add(pick(time.Duration(0), 2*time.Minute))
	onCluster := lab.Eventually(t, 90*time.Second, "a cluster in use after the flapping", func() bool {
		p := w.current()
		return p == "n1" || p == "n2"
	})
	time.Sleep(max(0, pick(5*time.Second, 70*time.Second)-time.Since(ended)))
	w.stop()
	t.Logf("torn files sealed and spills shipped %v later", settled(t, s, 3*time.Minute).Round(time.Second))
	cancel()
	hs := <-done
	for _, f := range w.failed {
		t.Error(f)
	}

	minutes := ended.Sub(judged).Minutes()
	moves := within(w.onto, judged, ended)
	files := within(w.files, judged, ended)
	busiestFiles, switches, all := busiest(files), 0, 0
	for _, name := range []string{"n1", "n2"} {
		at := within(w.switches[name], judged, ended)
		t.Logf("%s: %d switches in the last %.1f minutes, %d at most in one minute", name, len(at), minutes, busiest(at))
		switches, all = max(switches, busiest(at)), max(all, len(at))
	}
	t.Logf("%d moves onto a cluster, %d at most in one minute; %d files begun; places in order: %s", len(moves), busiest(moves), len(files), strings.Join(w.places, " "))
	if !testing.Short() && (switches > 2 || busiest(moves) > 2) {
		t.Errorf("a cluster switched %d times in one minute, and the traffic went to a cluster %d times: want at most two", switches, busiest(moves))
	}
	if busiestFiles > 100 {
		t.Errorf("%d files begun in one minute, want at most 100", busiestFiles)
	}
	before := rate(hs, normal, begun)
	back := backAt(hs, ended, 0.9*before)
	if back > time.Minute || onCluster > time.Minute {
		t.Errorf("90 %% of the rate before (%.0f OKs/s) %v after the end, a cluster in use after %v: want both within a minute", before, back, onCluster)
	}
	n, p50, p99, longest := lab.Latency(hs, begun, ended)
	sent, unknown, later, _ := sumHistories(hs)
	during := rate(hs, begun, ended)
	t.Logf("the status was %v late at most", w.latest)
	t.Logf("%d OKs while they flapped, p50 %v, p99 %v, slowest %v, %.0f %% of the rate before; sent %d, unknown %d, TRY_LATER %d", n, p50, p99, longest, 100*during/before, sent, unknown, later)
	if longest >= bound() || n == 0 {
		t.Errorf("slowest of %d OKs %v, want under %v", n, longest, bound())
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	b := readBack(t, s, category, hs, size, false)
	independent(t, s, category, hs, size, n1, n2)
	names := len(finalNames(t, n1, category)) + len(finalNames(t, n2, category))
	t.Logf("table: 10 | N1 and N2 in anti-phase, %.1f min, %d rhythms, hold-off %s | last %.1f min: switches of a cluster at most %d in any minute (2; %.1f on average), moves to one %d (2; %.1f), files %d (100; %d in all)",
		ended.Sub(begun).Minutes(), len(spells()), pick("3 s", "15 s to 15 min"), minutes, switches, float64(all)/minutes, busiest(moves), float64(len(moves))/minutes, busiestFiles, names)
	t.Logf("table: 10 | calm after it | 90 %% of the rate in %.0f s (60), on a cluster in %.0f s (60); slowest OK %v (3 s); lost %d, twice %d of %d",
		back.Seconds(), onCluster.Seconds(), longest.Round(10*time.Millisecond), b.Lost, b.Twice, b.Read)
}

// antiphase lets N1 and N2 come and go in turn. Both are up afterwards, also when the test ends before.
func antiphase(n1, n2 *lab.Hadoop, sp spell) {
	pids := map[*lab.Hadoop][]int{}
	for _, h := range []*lab.Hadoop{n1, n2} {
		pids[h] = append(pids[h], h.Pid("dn1"))
		if sp.who == "all" {
			pids[h] = append(pids[h], h.Pid("nn"))
		}
	}
	signal := func(h *lab.Hadoop, sig syscall.Signal) {
		for _, p := range pids[h] {
			h.Signal(p, sig)
		}
	}
	defer signal(n1, syscall.SIGCONT)
	defer signal(n2, syscall.SIGCONT)
	end := time.Now().Add(sp.long)
	up, away := n1, n2
	for at := time.Now(); at.Before(end); at = at.Add(sp.half) {
		signal(away, syscall.SIGSTOP)
		signal(up, syscall.SIGCONT)
		time.Sleep(time.Until(at.Add(sp.half)))
		up, away = away, up
	}
}

// flapWatch notes when clusters switch, files are begun and the traffic goes elsewhere.
type flapWatch struct {
	stop func()

	mu       sync.Mutex
	place    string
	places   []string
	onto     []time.Time            // the traffic goes to a cluster
	switches map[string][]time.Time // of a cluster, by its own counter
	files    []time.Time            // begun
	failed   []string
	latest   time.Duration // that a look was due before it came: this machine, or this process, stood still
	last     time.Time
}

func watchFlapping(s *lab.Server) *flapWatch {
	w := &flapWatch{switches: map[string][]time.Time{}}
	end, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		var last snapshot
		files := -1
		for {
			w.look(s, &last, &files)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	w.stop = sync.OnceFunc(func() { close(end); <-over })
	return w
}

func (w *flapWatch) look(s *lab.Server, last *snapshot, files *int) {
	var now snapshot
	err := s.TryGet("/v1/status", &now)
	if err == nil {
		err = now.check()
	}
	page, err2 := s.TryPage("/metrics")
	at := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.last.IsZero() {
		w.latest = max(w.latest, at.Sub(w.last)-500*time.Millisecond)
	}
	w.last = at
	if err != nil || err2 != nil {
		if len(w.failed) < 20 {
			w.failed = append(w.failed, fmt.Sprint(err, err2))
		}
		return
	}
	begun := int(sumOf(page, "twinscribe_files_begun_total"))
	for ; *files >= 0 && *files < begun; *files++ {
		w.files = append(w.files, at)
	}
	*files = begun
	before := map[string]int64{}
	for _, c := range last.Clusters {
		before[c.Name] = c.Switches
	}
	for _, c := range now.Clusters {
		for n := before[c.Name]; len(last.Clusters) > 0 && n < c.Switches; n++ {
			w.switches[c.Name] = append(w.switches[c.Name], at)
		}
	}
	w.moved(*last, now, at)
	*last = now
}

// moved notes every place that has grown and is not where the traffic was: those of one look in any order.
func (w *flapWatch) moved(last, now snapshot, at time.Time) {
	was := w.place
	var grown []string
	for p, n := range now.Totals.Stored {
		if len(last.Clusters) > 0 && n.Messages > last.Totals.Stored[p].Messages {
			grown = append(grown, p)
		}
	}
	slices.Sort(grown)
	for _, p := range grown {
		if p == was {
			continue
		}
		w.place, w.places = p, append(w.places, p)
		if p != "buffer" && was != "" {
			w.onto = append(w.onto, at)
		}
	}
}

func (w *flapWatch) current() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.place
}

func within(at []time.Time, from, to time.Time) (some []time.Time) {
	for _, a := range at {
		if !a.Before(from) && a.Before(to) {
			some = append(some, a)
		}
	}
	return some
}

// busiest is the most in any minute.
func busiest(at []time.Time) (n int) {
	for i, from := range at {
		k := i
		for k < len(at) && at[k].Before(from.Add(time.Minute)) {
			k++
		}
		n = max(n, k-i)
	}
	return n
}

// rate is how many OKs there were in a second.
func rate(hs []*lab.History, from, to time.Time) float64 {
	n, _, _, _ := lab.Latency(hs, from, to)
	return float64(n) / to.Sub(from).Seconds()
}

// backAt is how long after the end the rate is least, over five seconds, and stays so to the end of the load.
func backAt(hs []*lab.History, end time.Time, least float64) time.Duration {
	last := end
	for _, h := range hs {
		if n := len(h.OKs); n > 0 && h.OKs[n-1].At.After(last) {
			last = h.OKs[n-1].At
		}
	}
	const window = 5 * time.Second
	back := time.Duration(0)
	for at := end; at.Add(window).Before(last); at = at.Add(time.Second) {
		if rate(hs, at, at.Add(window)) < least {
			back = at.Sub(end) + time.Second
		}
	}
	return back
}

func finalNames(t *testing.T, h *lab.Hadoop, category string) []string {
	t.Helper()
	out, err := h.TryCLI("dfs", "-ls", "-C", "/logs/"+category+"/*/*/*.log")
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}
