//go:build integration

package integration

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// bound is write_timeout + 1 s. The short forms run beside whatever else a machine does: there it
// is below ack_timeout, and what the product promises is proved by the long ones.
func bound() time.Duration { return pick(9*time.Second, 3*time.Second) }

// Three DataNodes, hundreds of busy files, one DataNode killed, then one frozen: no file is lost
// or reopened, and no OK is late.
//
// A JVM that meets its first broken pipelines loads and compiles what that takes, hundreds of
// times slower than at the next ones, and here four of them share the machine: two of the
// DataNodes are frozen once before anything is counted, as in a cluster that has been up for
// more than a minute, and what is frozen at last is the one that was restarted. What the
// rehearsals tear is told too.
func TestProveDataNodes(t *testing.T) {
	// Each DataNode writes a replica of every file, and for a moment two of them when pipelines are
	// recovered: in the lab's usual heap it would do little else than collect garbage.
	// So would it write nothing but the traces of two thousand threads that lost their connection.
	t.Setenv("HDFS_DN_OPTS", "-Xms512m -Xmx512m -Ddatanode.log=FATAL")
	// The first slow answer in a DataNode's life has it load classes for a second, with all that
	// answer waiting.
	n1 := lab.StartHadoop(t, "N1", 3, "dfs.datanode.slow.io.warning.threshold.ms=60000")
	// Nothing but the faults has files begun anew: neither a seal for readers nor a full hour.
	conf := twoClusters(n1, nil, "visible_within: 10m\nlimits: {memory: 256MiB}\n")
	s := lab.NewServer(t, strings.Replace(conf, "{files: {cluster: n1}}", "{files: {cluster: n1, partition: day}}", 1))
	s.Start()
	files := pick(100, 500)
	const size = 200
	clients := files / 10
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// All machines of the cluster are this one: at twice the rate it would be busy without a fault.
	load := lab.Load{Addr: s.Thrift, Clients: clients, Batch: 10, Interval: time.Second,
		Message: func(c, n int) ([]byte, []byte) {
			return fmt.Appendf(nil, "cat%03d", c*10+n%10), lab.Line(c, n, size)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 60*time.Second, "all files open", func() bool { return s.Metric("twinscribe_files_open") >= float64(files) })
	settled(t, s, 2*time.Minute) // what the burst of new files had to send elsewhere

	hold := pick(8*time.Second, 20*time.Second)
	freeze := func(who string) (end func()) {
		pid := n1.Pid(who)
		n1.Signal(pid, syscall.SIGSTOP)
		return func() { n1.Signal(pid, syscall.SIGCONT) }
	}
	kill := func(who string) (end func()) {
		n1.Do(who, "kill")
		return func() { n1.Do(who, "start") }
	}
	type phase struct {
		name      string
		rehearsal bool
		do        func(string) (end func())
		who       string
	}
	type seen struct {
		phase
		from, to    time.Time
		torn, begun float64
	}
	var all []seen
	for _, p := range []phase{
		{"rehearsal: one frozen", true, freeze, "dn3"},
		{"rehearsal: another frozen", true, freeze, "dn1"},
		{"no fault", false, func(string) func() { return func() {} }, ""},
		{"one DataNode killed", false, kill, "dn1"},
		{"one DataNode frozen", false, freeze, "dn1"},
	} {
		time.Sleep(pick(2*time.Second, 25*time.Second)) // blocks on two nodes are ended, the next ones begin on three
		was := seen{phase: p, from: time.Now(), torn: s.Metric("twinscribe_files_torn_total"), begun: s.Metric("twinscribe_files_begun_total")}
		end := p.do(p.who)
		time.Sleep(hold)
		was.to = time.Now()
		was.torn, was.begun = s.Metric("twinscribe_files_torn_total")-was.torn, s.Metric("twinscribe_files_begun_total")-was.begun
		all = append(all, was)
		end()
		n1.Wait(3)
		settled(t, s, 2*time.Minute)
	}
	cancel()
	hs := <-done
	for _, w := range all {
		n, p50, p99, longest := lab.Latency(hs, w.from, w.to)
		t.Logf("%s: %d OKs, p50 %v, p99 %v, slowest %v; files torn %.0f, begun anew %.0f", w.name, n, p50, p99, longest, w.torn, w.begun)
		if longest >= bound() {
			t.Errorf("%s: slowest OK %v, want under %v", w.name, longest, bound())
		}
		if (w.torn > 0 || w.begun > 0) && !w.rehearsal && !testing.Short() {
			t.Errorf("%s: files torn %.0f, reopened %.0f, want none", w.name, w.torn, w.begun)
		}
	}
	sent, unknown, later, _ := sumHistories(hs)
	t.Logf("%d files, %d messages, TRY_LATER %d, unknown %d; pipelines recovered %.0f, nodes replaced %.0f, fewest nodes behind an OK %.0f",
		files, sent, later, unknown, s.Metric("twinscribe_cluster_events_total", `event="recoveries"`),
		s.Metric("twinscribe_cluster_events_total", `event="replaced"`), s.Metric("twinscribe_cluster_fewest_replicas"))
	if f := s.Metric("twinscribe_cluster_fewest_replicas"); f < 2 {
		t.Errorf("an OK with %v nodes, want min_replicas 2", f)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	verifySpread(t, s, hs, size, files)
}

// verifySpread reads all categories at once and verifies them together.
func verifySpread(t *testing.T, s *lab.Server, hs []*lab.History, size, files int) {
	t.Helper()
	b := readAll(t, s, hs, size)
	t.Logf("twinscribe read of %d categories: %v", files, b)
	b.MustBalance(t)
}

// The only DataNode of a cluster, and its NameNode, each frozen and killed under load: no OK is
// late, the torn files are cut and sealed within a minute of its return, and spills are shipped.
func TestProveOnlyDataNode(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	type fault struct {
		who, what string
		restart   bool // of twinscribe, while N1 is away
	}
	faults := []fault{{"dn1", "stop", false}, {"nn", "kill", true}, {"dn1", "kill", true}, {"nn", "stop", false}}
	if testing.Short() {
		faults = faults[:2]
	}
	for _, categories := range pick([]int{100}, []int{1, 100}) {
		for _, f := range faults {
			t.Run(fmt.Sprintf("categories=%d/%s/%s", categories, f.who, f.what), func(t *testing.T) {
				s := lab.NewServer(t, twoClusters(n1, n2, ""))
				s.Start()
				loseOnly(t, s, n1, categories, f.who, f.what, f.restart)
				n1.CLI("dfs", "-rm", "-r", "-f", "-skipTrash", "/logs")
				n2.CLI("dfs", "-rm", "-r", "-f", "-skipTrash", "/logs")
			})
		}
	}
}

func loseOnly(t *testing.T, s *lab.Server, n1 *lab.Hadoop, categories int, who, what string, restart bool) {
	const size = 200
	clients := max(1, categories/10)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: clients, Batch: 10, Interval: 20 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) {
			if categories == 1 {
				return []byte("cat"), lab.Line(c, n, size)
			}
			return fmt.Appendf(nil, "cat%03d", c*10+n%10), lab.Line(c, n, size)
		}}
	if categories > 1 {
		load.Interval = 200 * time.Millisecond
	}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 30*time.Second, "all files open", func() bool { return s.Metric("twinscribe_files_open") >= float64(categories) })
	time.Sleep(2 * time.Second)
	before := time.Now()
	n1.Do(who, what)
	fault := time.Now()
	time.Sleep(pick(6*time.Second, 15*time.Second))
	end := time.Now()
	if restart {
		s.Kill()
		s.Start()
		time.Sleep(3 * time.Second)
	}
	if what == "stop" {
		n1.Do(who, "cont")
	} else {
		n1.Do(who, "start")
	}
	n1.Wait(1)
	t.Logf("torn files sealed and spills shipped %v after N1 was back", settled(t, s, 60*time.Second).Round(time.Millisecond))
	time.Sleep(2 * time.Second)
	cancel()
	hs := <-done
	_, p50b, p99b, _ := lab.Latency(hs, before.Add(-2*time.Second), before)
	n, _, _, longest := lab.Latency(hs, before, fault.Add(4*time.Second))
	_, p50, p99, late := lab.Latency(hs, fault.Add(4*time.Second), end)
	_, unknown, later, _ := sumHistories(hs)
	var st status
	s.Get("/v1/status", &st)
	t.Logf("%s %s: %d OKs around the fault, slowest %v; before p50 %v p99 %v, afterwards p50 %v p99 %v max %v; TRY_LATER %d, unknown %d; stored since the last start %v",
		who, what, n, longest, p50b, p99b, p50, p99, late, later, unknown, st.Totals.Stored)
	if longest >= bound() || late >= bound() {
		t.Errorf("slowest OK %v, want under %v", max(longest, late), bound())
	}
	if p50 > 10*p50b+50*time.Millisecond {
		t.Errorf("afterwards p50 %v, before %v", p50, p50b)
	}
	if torn := openNames(t, n1); len(torn) > categories {
		t.Errorf("%d open files on N1, more than the %d being written: %v", len(torn), categories, torn[0])
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	b := readAll(t, s, hs, size)
	t.Logf("twinscribe read: %v", b)
	b.MustBalance(t)
}
