//go:build integration

package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// onHDFS runs what needs real clusters.
func onHDFS(t *testing.T, r *report) {
	props := []string{"dfs.datanode.max.transfer.threads=4096", "dfs.blocksize=4194304"} // for a thousand files on one DataNode
	n1, n2 := lab.StartHadoop(t, "N1", 1, props...), lab.StartHadoop(t, "N2", 1, props...)
	t.Run("throughput", func(t *testing.T) { throughput(t, r, n1) })
	t.Run("latency", func(t *testing.T) { latency(t, r, n1) })
	t.Run("stored", func(t *testing.T) { stored(t, r, n1) })
	t.Run("calls", func(t *testing.T) { calls(t, r, n1) })
	t.Run("files", func(t *testing.T) { thousandFiles(t, r, n1) })
	t.Run("failover", func(t *testing.T) { failover(t, r, n1, n2) })
	t.Run("overload", func(t *testing.T) { overload(t, r, n1, n2) })
}

// clusters is a configuration: each category in one failover of the clusters and the buffer.
func clusters(root, extra string, hs ...*lab.Hadoop) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%sclusters:\n", extra)
	for i, h := range hs {
		fmt.Fprintf(&b, "  - {name: n%d, hdfs: {namenodes: [%q], user: %q, root: /%s}}\n", i+1, h.Addr, lab.User(), root)
	}
	b.WriteString("categories:\n  - match: \"*\"\n    store:\n      failover:\n        places:\n")
	for i := range hs {
		fmt.Fprintf(&b, "          - {files: {cluster: n%d}}\n", i+1)
	}
	b.WriteString("          - {buffer: {}}\n")
	return b.String()
}

// throughput holds the server against a program that only writes, and against Hadoop's shell.
func throughput(t *testing.T, r *report, n1 *lab.Hadoop) {
	const connections, batch, size, categories = 8, 1000, 500, 4
	calls := number(t, "BENCH_HDFS_MB", 256) * 1_000_000 / (connections * batch * size)
	_, server := serving(t, clusters("throughput", "", n1))
	l := load{connections: connections, batch: batch, size: size, categories: categories, calls: calls}
	writer := built(t, "hdfswriter")
	written := float64(connections * calls * batch * size)
	run := func(cmd *exec.Cmd) sample {
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
		p := cmd.ProcessState
		return sample{bytes: written, wall: time.Since(start).Seconds(), cpu: (p.UserTime() + p.SystemTime()).Seconds()}
	}
	ours, bare := byTurns(func() sample { return l.on(t, server) }, func() sample {
		return run(exec.Command(writer, "-namenode", n1.Addr, "-user", lab.User(), "-files", strconv.Itoa(categories), "-bytes", fmt.Sprintf("%.0f", written)))
	})
	what := "real HDFS, one DataNode, `ack: stored`, 8 connections × batches of 1000 × 500 B, 4 categories"
	r.ratio(t, what, "CPU a MB, of a bare writer's", cpuPerMB(ours)/cpuPerMB(bare), atMost(1), fmt.Sprintf("%.2f and %.2f s a thousand", 1000*cpuPerMB(ours), 1000*cpuPerMB(bare)))
	r.ratio(t, "the same", "MB/s, of a bare writer's", rate(ours)/rate(bare), atLeast(1), fmt.Sprintf("%.0f and %.0f MB/s", rate(ours), rate(bare)))
	local := filepath.Join(t.TempDir(), "put")
	if err := os.WriteFile(local, bytes.Repeat([]byte{'x'}, int(written)), 0o600); err != nil {
		t.Fatal(err)
	}
	again, put := byTurns(func() sample { return l.on(t, server) }, func() sample {
		start := time.Now()
		n1.CLI("dfs", "-put", "-f", local, "/put")
		return sample{bytes: written, wall: time.Since(start).Seconds()}
	})
	r.ratio(t, "the same", "MB/s, of `hdfs dfs -put` with the start of its JVM", rate(again)/rate(put), atLeast(2), fmt.Sprintf("%.0f and %.0f MB/s", rate(again), rate(put)))
}

// latency of single messages.
func latency(t *testing.T, r *report, n1 *lab.Hadoop) {
	_, server := serving(t, clusters("latency", "", n1))
	l := load{connections: 64, batch: 1, size: 200, rate: 5000, duration: 5 * time.Second}
	ours := repeated(func() sample { return l.on(t, server) })
	what := "real HDFS, `ack: stored`, 64 connections, one category, 5,000 single messages/s"
	detail := fmt.Sprintf("%.0f messages/s", lab.Median(ours, func(s sample) float64 { return s.messages / s.wall }))
	r.ratio(t, what, "p50 in ms", 1000*lab.Median(ours, func(s sample) float64 { return s.p50 }), atMost(3), detail)
	r.ratio(t, "the same", "p99 in ms", 1000*lab.Median(ours, func(s sample) float64 { return s.p99 }), atMost(25), detail)
}

// stored shows what a message costs whose OK waits for HDFS, by the size of calls.
func stored(t *testing.T, r *report, n1 *lab.Hadoop) {
	_, server := serving(t, clusters("stored", "", n1))
	for _, n := range []int{1, 10, 100, 1000} {
		r.point("stored", float64(n), load{connections: 64, batch: n, size: 200, categories: min(n, 10)}.on(t, server))
	}
}

// calls counts what the NameNode is asked for each sealed file.
func calls(t *testing.T, r *report, n1 *lab.Hadoop) {
	s, server := serving(t, strings.ReplaceAll(clusters("calls", "visibility_seals: 1\n", n1), "{cluster: n1}", "{cluster: n1, max_size: 1MiB}"))
	// As fast as files can be replaced: 2 MB a second and category.
	l := load{connections: 4, batch: 100, size: 1000, categories: 10, rate: 20_000, duration: 5 * time.Second}
	l.on(t, server)
	methods := []string{"create", "addBlock", "complete", "getFileInfo", "rename", "rename2", "mkdirs", "fsync", "delete"}
	count := func() map[string]float64 {
		m := map[string]float64{}
		for _, name := range methods {
			m[name] = s.Metric("twinscribe_cluster_events_total", fmt.Sprintf("event=%q", "nn_calls."+name))
		}
		m["sealed"] = s.Metric("twinscribe_files_sealed_total")
		return m
	}
	before := count()
	l.on(t, server)
	after := count()
	var each []string
	for _, name := range methods {
		if n := (after[name] - before[name]) / (after["sealed"] - before["sealed"]); n >= 0.05 {
			each = append(each, fmt.Sprintf("%s %.1f", name, n))
		}
	}
	r.fact("NameNode calls for each sealed file, manifest and inventory included: %s.", strings.Join(each, ", "))
}

// thousandFiles shows what a thousand categories cost that log once a second each.
func thousandFiles(t *testing.T, r *report, n1 *lab.Hadoop) {
	const categories = 1000
	s, server := serving(t, clusters("thousand", "limits: {categories: 2000}\n", n1))
	empty := statusOf(t, server.pid, "VmRSS")
	l := load{connections: 1, batch: categories, size: 200, categories: categories, rate: categories, duration: 10 * time.Second}
	l.on(t, server) // they are opened
	lab.Eventually(t, time.Minute, "all files open", func() bool { return s.Metric("twinscribe_files_open") >= categories })
	x := l.on(t, server)
	full := statusOf(t, server.pid, "VmRSS")
	r.fact("1,000 categories on HDFS with a message of 200 B a second each: %.1f %% of a core, %.0f us an append, p50 of a call that holds all of them %.0f ms; %.0f KiB of memory for each open file.",
		100*x.cpu/x.wall, 1e6*x.cpu/x.messages, 1000*x.p50, (full-empty)/categories)
}

// failover stops the cluster in use under full load and looks at what the
// clients see.
func failover(t *testing.T, r *report, n1, n2 *lab.Hadoop) {
	const slice = 100 * time.Millisecond
	var backs, pauses []sample
	for round := range turns {
		s, _ := serving(t, clusters(fmt.Sprint("failover", round), "", n1, n2))
		ctx, cancel := context.WithCancel(t.Context())
		message := bytes.Repeat([]byte{'x'}, 500)
		l := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 100, Message: func(c, _ int) ([]byte, []byte) {
			return fmt.Appendf(nil, "c%d", c%4), message
		}}
		done := make(chan []*lab.History, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(3 * time.Second)
		at := map[string]float64{"n1": 0, "n2": 0}
		for place := range at {
			at[place] = -s.Metric("twinscribe_stored_messages_total", fmt.Sprintf("place=%q", place))
		}
		time.Sleep(time.Second)
		for place := range at {
			at[place] += s.Metric("twinscribe_stored_messages_total", fmt.Sprintf("place=%q", place))
		}
		used := n1
		if at["n2"] > at["n1"] {
			used = n2
		}
		cut := time.Now()
		goOn := freeze(used)
		time.Sleep(8 * time.Second)
		cancel()
		hs := <-done
		goOn()
		count := func(from time.Time, d time.Duration) float64 {
			n, _, _, _ := lab.Latency(hs, from, from.Add(d))
			return float64(n) / d.Seconds()
		}
		before := count(cut.Add(-3*time.Second), 3*time.Second)
		back := 8 * time.Second // where it never is
		for from := time.Duration(0); from < 7*time.Second; from += slice {
			if count(cut.Add(from), time.Second) >= 0.9*before {
				back = from
				break
			}
		}
		backs, pauses = append(backs, sample{wall: back.Seconds()}), append(pauses, sample{wall: pause(hs, cut).Seconds()})
		if round == turns-1 {
			for from := -3 * time.Second; from < 8*time.Second; from += slice {
				n, _, p99, _ := lab.Latency(hs, cut.Add(from), cut.Add(from+slice))
				r.failover = append(r.failover, second{from.Seconds(), float64(n*l.Batch) / slice.Seconds(), p99.Seconds()})
			}
		}
		if code := s.Stop(); code != 0 {
			t.Errorf("the server stopped with %d", code)
		}
	}
	var each []string
	for i, b := range backs {
		each = append(each, fmt.Sprintf("%.1f after %.1f without an OK", b.wall, pauses[i].wall))
	}
	slices.Sort(each)
	r.ratio(t, "failover: NameNode and DataNode of the cluster in use stopped under full load", "s until a second with 90 % of the rate begins", lab.Median(backs, func(s sample) float64 { return s.wall }), atMost(3),
		"each: "+strings.Join(each, ", "))
}

// freeze stops NameNode and DataNode of clusters until the function that it
// returns is called, which waits until they work again.
func freeze(hs ...*lab.Hadoop) (goOn func()) {
	signal := func(sig syscall.Signal) {
		for _, h := range hs {
			for _, who := range []string{"nn", "dn1"} {
				h.Signal(h.Pid(who), sig)
			}
		}
	}
	signal(syscall.SIGSTOP)
	return func() {
		signal(syscall.SIGCONT)
		for _, h := range hs {
			h.Wait(1)
		}
	}
}

// pause is the longest time without an OK of anybody after a moment.
func pause(hs []*lab.History, from time.Time) time.Duration {
	var at []time.Time
	for _, h := range hs {
		for _, o := range h.OKs {
			if o.At.After(from) {
				at = append(at, o.At)
			}
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	longest, last := time.Duration(0), from
	for _, t := range at {
		longest, last = max(longest, t.Sub(last)), t
	}
	return longest
}

// overload offers more than can be stored while both clusters are stopped.
func overload(t *testing.T, r *report, n1, n2 *lab.Hadoop) {
	const memory, frames = 256, 24
	limits := fmt.Sprintf("limits: {memory: %dMiB, frame_memory: %dMiB, frame: 6MiB, message: 2MiB, entries: 50000, connections: 410}\nbuffer: {max_bytes: 64MiB}\n", memory, frames)
	_, server := serving(t, clusters("overload", limits, n1, n2))
	load{connections: 8, batch: 1, size: 200, categories: 8, duration: time.Second}.on(t, server)
	defer freeze(n1, n2)()
	load{connections: 400, batch: 5000, size: 200, categories: 16, duration: 20 * time.Second, refused: true}.on(t, server)
	high := statusOf(t, server.pid, "VmHWM") / 1024
	r.ratio(t, fmt.Sprintf("400 connections × batches of 5000, both clusters stopped, buffer full, `limits.memory` and `frame_memory` %d MiB", memory+frames), "MiB of memory at most beside these", high-memory-frames, atMost(64), fmt.Sprintf("VmHWM %.0f MiB", high))
}
