//go:build integration

// Package bench measures what the server costs and how fast it is, from end to
// end, and writes a report of it (docs/performance). Most figures are ratios to
// something that was measured by turns with the server in the same run: to the
// program in floor, to one that writes with the HDFS client library
// (hdfswriter), to Hadoop's shell, to cat. A bound that is not reached is told
// in the report and fails nothing: how fast a machine is at one moment is no
// property of the code.
//
// It leaves to others: the benchmarks of single parts, which are beside the
// code, and all questions of what is lost (package integration).
package bench

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Settings of a run, which the environment may change.
var turns, seconds int // rounds, and seconds of load in each measurement

func number(t *testing.T, key string, fallback int) int {
	t.Helper()
	s := os.Getenv(key)
	if s == "" {
		return fallback
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number of at least 1", key, s)
	}
	return n
}

// TestReport runs every case and writes the report into BENCH_REPORT, or into a
// folder that is gone afterwards.
func TestReport(t *testing.T) {
	turns, seconds = number(t, "BENCH_ROUNDS", 5), number(t, "BENCH_SECONDS", 3)
	r := &report{dir: os.Getenv("BENCH_REPORT")}
	if r.dir == "" {
		r.dir = t.TempDir()
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T, *report)
	}{
		{"received", received},
		{"categories", manyCategories},
		{"dir", directory},
		{"connections", idleConnections},
		{"read", reading},
		{"start", starting},
		{"hdfs", onHDFS},
		{"curves", curves},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, r) })
	}
	if err := r.write(); err != nil {
		t.Error(err)
	}
}

// nullStore is a server that throws away what it acknowledges.
const nullStore = "ack: received\nlimits: {connections: 20000, categories: 10000}\ncategories:\n  - {match: \"*\", store: {null: {}}}\n"

// dirCluster is a configuration with one cluster, a directory.
func dirCluster(path string) string {
	return fmt.Sprintf("clusters:\n  - {name: d, dir: {path: %q}}\ncategories:\n  - {match: \"*\", store: {files: {cluster: d}}}\n", path)
}

// serving starts a server.
func serving(t *testing.T, yaml string) (*lab.Server, target) {
	t.Helper()
	s := lab.NewServer(t, yaml)
	s.Start()
	return s, target{name: "twinscribe", addr: s.Thrift, pid: s.Pid()}
}

// received holds the server without a store against the floor.
func received(t *testing.T, r *report) {
	s, server := serving(t, nullStore)
	floor := startFloor(t)
	made := func() float64 { return s.Metric("go_memstats_mallocs_total") }
	for _, c := range []struct {
		connections, batch int
		bound              float64
	}{{8, 1000, 1.5}, {8, 100, 1.6}, {64, 1, 1.25}} {
		l := load{connections: c.connections, batch: c.batch, size: 200}
		ours, least := byTurns(func() sample {
			asking := -made()
			asking += made()
			before := made()
			x := l.on(t, server)
			x.allocations = made() - before - asking
			return x
		}, func() sample { return l.on(t, floor) })
		r.ratio(t, fmt.Sprintf("null store, `ack: received`, %d connections × %s", c.connections, batches(c.batch)),
			"CPU a message, of the floor's", cpuPerMessage(ours)/cpuPerMessage(least), atMost(c.bound),
			fmt.Sprintf("%.3f and %.3f s a million", cpuPerMessage(ours), cpuPerMessage(least)))
		each := max(0, lab.Median(ours, func(s sample) float64 { return s.allocations / s.messages })) // what the asking made is an estimate
		r.ratio(t, "the same", "allocations a message", math.Round(10*each)/10, atMost(0), fmt.Sprintf("%.4f, with those of the page that tells", each))
	}
}

func batches(n int) string {
	if n == 1 {
		return "single messages"
	}
	return fmt.Sprintf("batches of %d", n)
}

// manyCategories holds a thousand categories against one.
func manyCategories(t *testing.T, r *report) {
	_, server := serving(t, nullStore)
	one, many := load{connections: 8, batch: 1000, size: 200}, load{connections: 8, batch: 1000, size: 200, categories: 1000}
	// A second look at what the machine makes of it: the floor with as much memory for each category as the server's.
	floor := startFloor(t, "-gather", "2048")
	a, b := byTurns(func() sample { return many.on(t, server) }, func() sample { return one.on(t, server) })
	least, leastOne := byTurns(func() sample { return many.on(t, floor) }, func() sample { return one.on(t, floor) })
	r.ratio(t, "1,000 categories in each batch of 1000, `ack: received`", "CPU a message, of one category's", cpuPerMessage(a)/cpuPerMessage(b), atMost(3),
		fmt.Sprintf("%.3f and %.3f s a million", cpuPerMessage(a), cpuPerMessage(b)))
	r.fact("1,000 categories in each batch of 1000, the floor that keeps 2 KiB of each: %.1f times the CPU of its one category (%.3f and %.3f s a million messages).",
		cpuPerMessage(least)/cpuPerMessage(leastOne), cpuPerMessage(least), cpuPerMessage(leastOne))
}

// directory holds a dir cluster against the floor, which syncs each mebibyte.
func directory(t *testing.T, r *report) {
	at := t.TempDir()
	_, server := serving(t, dirCluster(filepath.Join(at, "d")))
	floor := startFloor(t, "-mode", "file", "-dir", at)
	l := load{connections: 8, batch: 1000, size: 500}
	ours, least := byTurns(func() sample { return l.on(t, server) }, func() sample { return l.on(t, floor) })
	r.ratio(t, "dir cluster, `ack: stored`, 8 connections × batches of 1000 × 500 B", "acknowledged MB/s, of the floor's with a sync each MiB",
		rate(ours)/rate(least), atLeast(0.5), fmt.Sprintf("%.0f and %.0f MB/s", rate(ours), rate(least)))
	r.ratio(t, "the same", "CPU a message, of the floor's", cpuPerMessage(ours)/cpuPerMessage(least), atMost(2),
		fmt.Sprintf("%.3f and %.3f s a million", cpuPerMessage(ours), cpuPerMessage(least)))
}

// curves shows how cost grows.
func curves(t *testing.T, r *report) {
	_, server := serving(t, nullStore)
	point := func(of string, x int, l load) {
		l.duration = time.Second
		l.refused = true // at gigabytes a second a queue is full now and then
		r.point(of, float64(x), l.on(t, server))
	}
	for _, n := range []int{1, 3, 10, 30, 100, 300, 1000, 3000} {
		point("batch", n, load{connections: 8, batch: n, size: 200})
	}
	for _, n := range []int{10, 100, 1000, 10_000, 100_000, 1_000_000} {
		point("size", n, load{connections: 8, batch: max(1, min(1000, 1_000_000/n)), size: n})
	}
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		point("connections", n, load{connections: n, batch: 10, size: 200})
	}
	for _, n := range []int{1, 10, 100, 1000} {
		point("categories", n, load{connections: 8, batch: 1000, size: 200, categories: n})
	}
}
