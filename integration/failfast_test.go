//go:build integration

package integration

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Everything that can happen to two clusters happens under load, one after another: no OK is
// late, every message goes where it should, and every acknowledged one is there once.
func TestProve1FailFast(t *testing.T) {
	lab.NeedBlackHoles(t)
	nodes := pick(1, 3)
	n1, n2 := lab.StartHadoop(t, "N1", nodes), lab.StartHadoop(t, "N2", nodes)
	mayWrite(t, n1, n2)
	for _, f := range pick(failFastShort(), failFastLong()) {
		failFastRow(t, f, &failFast{n1: n1, n2: n2, namenodes: []string{n1.Addr}, nodes: nodes})
	}
	if !testing.Short() { // TestProveHA has a short form
		n3 := lab.StartHA(t, "N3", 1)
		mayWrite(t, n3.Hadoop)
		for _, f := range failFastPair(n3) {
			failFastRow(t, f, &failFast{n1: n3.Hadoop, n2: n2, namenodes: []string{n3.Addrs["nn"], n3.Addrs["nn2"]}, nodes: 1})
		}
	}
}

// mayWrite makes the folder below which the server, who is nobody special there, writes.
func mayWrite(t *testing.T, clusters ...*lab.Hadoop) {
	for _, h := range clusters {
		h.Admin(t, "MKDIRS", "/logs")
		h.Admin(t, "SETOWNER", "/logs", "owner="+writer)
	}
}

func failFastRow(t *testing.T, fault machineFault, row *failFast) {
	name := strings.NewReplacer(" ", "-", ",", "").Replace(fault.name)
	t.Run(name, func(t *testing.T) {
		row.T, row.root = t, "/logs/"+name
		row.run(fault)
	})
}

// A machineFault is a row of the table.
type machineFault struct {
	name   string
	folder bool                   // limited has a folder before the server starts
	before func(*failFast)        // the server starts
	begin  func(*failFast) func() // what heals it
	check  func(*failFast, outcome)
	after  func(*failFast) // everything is verified, or the row has failed

	// Every process that has a block in memory is killed: HDFS promises less there than all else
	// here is held to. What it lost must be told.
	hdfsMayLose bool
}

// writer is the server's name on the clusters; a category that is to suffer alone has a client and files of its own.
const writer, limited = "weblog", "limited"

// failFast is a row being made.
type failFast struct {
	*testing.T
	n1, n2    *lab.Hadoop
	namenodes []string // of n1
	nodes     int      // of n1 and of n2
	root      string
	s         *lab.Server
}

// An outcome is what a fault did, from its beginning until it was healed.
type outcome struct {
	stored  places // messages
	settled places // of them, those since the fault was 4 s (short form: 2 s) old
	limited places // of them, those of the category limited, from the beginning on
	torn    float64
	states  map[string]bool
}

func (o outcome) only(where string) bool {
	for place, n := range o.settled {
		if place != where && n.Messages > 0 {
			return false
		}
	}
	return o.settled[where].Messages > 0
}

func (f *failFast) config() string {
	var b strings.Builder
	b.WriteString("clusters:\n")
	for _, c := range []struct {
		name      string
		namenodes []string
	}{{"n1", f.namenodes}, {"n2", []string{f.n2.Addr}}} {
		fmt.Fprintf(&b, "  - {name: %s, hdfs: {namenodes: [%s], user: %s, root: %s}, probe: {hold_off: %v, hold_off_max: 10s}}\n",
			c.name, strings.Join(c.namenodes, ", "), writer, f.root, pick(time.Second, 3*time.Second))
	}
	b.WriteString("categories:\n")
	for match, size := range map[string]string{`"*"`: "96MiB", limited: "1MiB"} { // limited begins a file every second
		fmt.Fprintf(&b, "  - match: %s\n    store: {failover: {places: [{files: {cluster: n1, max_size: %s}}, {files: {cluster: n2, max_size: %s}}, {buffer: {}}]}}\n", match, size, size)
	}
	return b.String()
}

// A load of 24 steady categories, one that rotates every second, and two new ones a second: files
// that are open need no NameNode, the others do.
const (
	failFastSize    = 500
	failFastClients = 6
)

func failFastLoad(ctx context.Context, addr string) []*lab.History {
	var wg sync.WaitGroup
	parts := make([][]*lab.History, 3)
	run := func(i, clients, batch, firstClient int, category func(c, n int) []byte) {
		wg.Go(func() {
			parts[i] = lab.Load{Addr: addr, Clients: clients, Batch: batch, Interval: 100 * time.Millisecond,
				Message: func(c, n int) ([]byte, []byte) {
					return category(c, n), lab.Line(firstClient+c, n, failFastSize)
				}}.Run(ctx)
		})
	}
	run(0, failFastClients, 8, 0, func(c, n int) []byte { return fmt.Appendf(nil, "steady%d", c*4+n%4) })
	run(1, 1, 200, failFastClients, func(int, int) []byte { return []byte(limited) })
	run(2, 1, 4, failFastClients+1, func(_, n int) []byte { return fmt.Appendf(nil, "new%04d", n/20) })
	wg.Wait()
	return slices.Concat(parts...)
}

func (f *failFast) run(fault machineFault) {
	if fault.after != nil {
		f.Cleanup(func() { fault.after(f) })
	}
	if fault.before != nil {
		fault.before(f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := f.startLoad(ctx, fault.folder)
	cut := time.Now()
	o := f.suffer(fault)
	healed := time.Now()
	f.healthy()
	back := time.Since(healed)
	time.Sleep(time.Second)
	cancel()
	hs := <-done
	calm := settled(f.T, f.s, 150*time.Second)
	if code := f.s.Stop(); code != 0 {
		f.Errorf("the server stopped with %d", code)
	}
	f.report(fault, o, hs, cut)
	f.Logf("n1 was %s; healthy %v after the fault was healed, nothing left to repair or ship %v after the load; files torn on n1 %.0f",
		strings.Join(slices.Sorted(maps.Keys(o.states)), ", "), back.Round(time.Millisecond), calm.Round(time.Millisecond), o.torn)
	if fault.check != nil {
		fault.check(f, o)
	}
}

// startLoad starts a server and clients, and gives them time to open their files on n1. A machine
// that has other things to do can make a cluster look ill before it is: then there is another try.
func (f *failFast) startLoad(ctx context.Context, folder bool) <-chan []*lab.History {
	root := f.root
	for try := 1; ; try++ {
		f.root = fmt.Sprintf("%s-%d", root, try)
		if folder {
			f.folderOfLimited()
		}
		f.s = lab.NewServer(f, f.config())
		f.s.Start()
		loaded, cancel := context.WithCancel(ctx)
		done := make(chan []*lab.History, 1)
		go func() { done <- failFastLoad(loaded, f.s.Thrift) }()
		time.Sleep(pick(2*time.Second, 3*time.Second))
		all, _ := f.stored()
		if all["n1"].Messages > 0 && all.away("n1") == 0 && f.s.Metric("twinscribe_files_open", `cluster="n1"`) > 4*failFastClients {
			f.Cleanup(cancel)
			return done
		}
		cancel()
		<-done
		f.s.Kill()
		if f.Logf("try %d: stored %v before there was a fault", try, all); try == 5 {
			f.Fatal("the clusters do not take the load even without a fault")
		}
	}
}

// suffer keeps the fault for a time and says what became of it.
func (f *failFast) suffer(fault machineFault) outcome {
	before, limitsBefore := f.stored()
	torn := f.s.Metric("twinscribe_files_torn_total", `cluster="n1"`)
	heal := sync.OnceFunc(fault.begin(f))
	f.Cleanup(heal)
	o := outcome{states: map[string]bool{}}
	begun := time.Now()
	watch := func(d time.Duration) {
		for time.Since(begun) < d {
			o.states[clusterState(f.T, f.s, "n1")] = true
			time.Sleep(200 * time.Millisecond)
		}
	}
	watch(pick(2500*time.Millisecond, 4*time.Second))
	early, _ := f.stored()
	watch(pick(4*time.Second, 8*time.Second))
	now, limits := f.stored()
	o.stored, o.settled, o.limited = now.since(before), now.since(early), limits.since(limitsBefore)
	o.torn = f.s.Metric("twinscribe_files_torn_total", `cluster="n1"`) - torn
	heal()
	return o
}

// stored are the messages by place at one moment: all, and those of the category limited.
func (f *failFast) stored() (all, limits places) {
	var st struct {
		status
		Categories []struct {
			Category string `json:"category"`
			Stored   places `json:"stored"`
		} `json:"categories"`
	}
	f.s.Get("/v1/status", &st)
	for _, c := range st.Categories {
		if c.Category == limited {
			limits = c.Stored
		}
	}
	return st.Totals.Stored, limits
}

// since is what came after an earlier moment.
func (p places) since(before places) places {
	d := places{}
	for place, n := range p {
		if n := n.Messages - before[place].Messages; n != 0 {
			d[place] = count{n}
		}
	}
	return d
}

// away are the messages elsewhere than at one place.
func (p places) away(from string) (n int64) {
	for place, c := range p {
		if place != from {
			n += c.Messages
		}
	}
	return n
}

func (f *failFast) healthy() {
	for _, c := range []string{"n1", "n2"} {
		lab.Eventually(f, 90*time.Second, c+" is healthy again", func() bool { return clusterState(f.T, f.s, c) == "healthy" })
	}
}

// report verifies everything and logs the row.
func (f *failFast) report(fault machineFault, o outcome, hs []*lab.History, cut time.Time) {
	var b lab.Books
	var told int
	lab.Eventually(f, 60*time.Second, "everything counted in read", func() bool {
		stderr, code := f.s.Read(func(r io.Reader) error { b = lab.Verify(f, r, hs, failFastSize, false); return nil }, "--all")
		if code != 0 {
			f.Logf("read ended with %d: %s", code, stderr)
		}
		told = strings.Count(stderr, "the cluster has lost")
		return code == 0 || fault.hdfsMayLose && code == 3 && told > 0 && told == strings.Count(stderr, "\n")
	})
	n, p50, p99, slowest := lab.Latency(hs, cut, time.Now())
	_, unknown, later, _ := sumHistories(hs)
	f.Logf("table: 1 | %s | slowest OK %.2f s (bound %.0f s), stored %v; lost %d, twice %d",
		fault.name, slowest.Seconds(), bound().Seconds(), o.stored, b.Lost, b.Twice)
	f.Logf("%d OKs, p50 %v, p99 %v; TRY_LATER %d, unknown %d; settled to %v; limited to %v; %v", n, p50, p99, later, unknown, o.settled, o.limited, b)
	if told > 0 {
		f.Logf("HDFS lost the end of %d files, and read tells of each", told)
		if b.Lost <= told*(64<<10)/failFastSize {
			b.Lost = 0
		}
	}
	b.MustBalance(f)
	if n == 0 || slowest >= bound() {
		f.Errorf("%d OKs, slowest %v, want under %v", n, slowest, bound())
	}
	if later+unknown > 0 && !testing.Short() {
		f.Errorf("TRY_LATER %d, unknown %d, want none", later, unknown)
	}
}
