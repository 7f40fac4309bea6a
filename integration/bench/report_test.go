//go:build integration

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"twinscribe/integration/lab"
)

// A report gathers what was measured.
type report struct {
	dir      string
	rows     []row
	points   map[string][]point // by what grows
	facts    []string
	failover []second
}

type row struct{ what, measure, figure, bound, met, detail string }

type point struct {
	x float64
	s sample
}

// second is what clients saw in one slice of a failover.
type second struct{ at, rate, p99 float64 }

// A bound says whether a figure is good enough.
type bound struct {
	limit float64
	least bool
}

func atMost(limit float64) bound  { return bound{limit: limit} }
func atLeast(limit float64) bound { return bound{limit: limit, least: true} }

func (b bound) String() string {
	if b.least {
		return fmt.Sprintf("≥ %v", b.limit)
	}
	return fmt.Sprintf("≤ %v", b.limit)
}

func (b bound) met(x float64) bool { return x == b.limit || (x > b.limit) == b.least }

// ratio notes a figure without a unit, or with one in what it measures.
func (r *report) ratio(t *testing.T, what, measure string, x float64, b bound, detail string) {
	t.Helper()
	met := "yes"
	if !b.met(x) {
		met = "**no**"
	}
	one := row{what, measure, fmt.Sprintf("%.3g", x), b.String(), met, detail}
	r.rows = append(r.rows, one)
	t.Logf("bench: %s | %s | %s (%s) %s | %s", one.what, one.measure, one.figure, one.bound, one.met, one.detail)
}

// fact notes what no bound is set for.
func (r *report) fact(format string, args ...any) {
	r.facts = append(r.facts, fmt.Sprintf(format, args...))
}

func (r *report) point(of string, x float64, s sample) {
	if r.points == nil {
		r.points = map[string][]point{}
	}
	r.points[of] = append(r.points[of], point{x, s})
}

// write makes the report and its plots.
func (r *report) write() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("# Performance\n\nMade by `make bench BENCH_REPORT=docs/performance`, which takes about 15 minutes (BENCH_ROUNDS, BENCH_SECONDS, BENCH_READ_GB and BENCH_HDFS_MB make it shorter or longer). ")
	if _, err := os.Stat(filepath.Join(r.dir, "notes.md")); err == nil {
		b.WriteString("What limits the figures and what was tried is in [notes](notes.md). ")
	}
	b.WriteString("Messages have 200 bytes where nothing else is said. A figure that is a ratio is one of medians of ")
	fmt.Fprintf(&b, "%d rounds of %d s, measured by turns in this run, after one round that does not count; CPU is that of the server's process, the system's part included. ", turns, seconds)
	b.WriteString("The floor is [a program](../../integration/bench/floor/main.go) that reads frames, walks over them in place and copies each message once, and does nothing else.\n\n")
	fmt.Fprintf(&b, "%s\n\n", machine())
	b.WriteString("| case | measured | figure | bound | reached | |\n|---|---|---|---|---|---|\n")
	for _, o := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", o.what, o.measure, o.figure, o.bound, o.met, o.detail)
	}
	if len(r.facts) > 0 {
		b.WriteString("\n## Also measured\n\n")
		for _, f := range r.facts {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	b.WriteString("\n## How cost grows\n\nNull store, `ack: received`, 8 connections × batches of 1000 of one category where nothing else is said (10 messages a call with many connections, 1 MB a call at most with large messages).\n")
	for _, c := range []struct{ of, title string }{
		{"batch", "messages a call"},
		{"size", "bytes a message"},
		{"connections", "connections"},
		{"categories", "categories"},
		{"stored", "messages a call; each OK waits for HDFS, 64 connections"},
	} {
		if len(r.points[c.of]) == 0 {
			continue
		}
		name := c.of + ".svg"
		if err := r.plotGrowth(filepath.Join(r.dir, name), c.title, r.points[c.of]); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n![throughput and CPU against %s](%s)\n\n| %s | thousand messages/s | MB/s | CPU s a million messages | memory, MiB |\n|---|---|---|---|---|\n", c.title, name, c.title)
		for _, p := range r.points[c.of] {
			fmt.Fprintf(&b, "| %.0f | %.0f | %.0f | %.2f | %.0f |\n", p.x, p.s.messages/p.s.wall/1e3, p.s.bytes/p.s.wall/1e6, p.s.cpu/p.s.messages*1e6, p.s.memory)
		}
	}
	if len(r.failover) > 0 {
		if err := r.plotFailover(filepath.Join(r.dir, "failover.svg")); err != nil {
			return err
		}
		b.WriteString("\n## Across a failover\n\nNameNode and DataNode of the cluster in use are stopped (SIGSTOP) at 0 s, under full load on real HDFS.\n\n![rate and latency across a failover](failover.svg)\n")
	}
	return os.WriteFile(filepath.Join(r.dir, "README.md"), b.Bytes(), 0o644)
}

// machine says what all this was measured on and when.
func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
				break
			}
		}
	}
	kernel, _ := exec.Command("uname", "-sr").Output()
	commit := exec.Command("git", "describe", "--always", "--dirty")
	commit.Dir = lab.Repository()
	version, _ := commit.Output()
	return fmt.Sprintf("%s, %d processors of %s, %s, %s; twinscribe %s.", time.Now().UTC().Format("2 January 2006"), runtime.NumCPU(), model,
		strings.TrimSpace(string(kernel)), runtime.Version(), strings.TrimSpace(string(version)))
}

// plotGrowth draws throughput and CPU, each as a part of its own largest value.
func (r *report) plotGrowth(file, label string, ps []point) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = label, "part of the largest"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min, p.Y.Max = 0, 1.05
	p.Legend.Top = true
	var args []any
	for _, c := range []struct {
		name string
		of   func(sample) float64
	}{
		{"messages/s", func(s sample) float64 { return s.messages / s.wall }},
		{"MB/s", func(s sample) float64 { return s.bytes / s.wall }},
		{"CPU a message", func(s sample) float64 { return s.cpu / s.messages }},
	} {
		most := 0.0
		for _, q := range ps {
			most = max(most, c.of(q.s))
		}
		xy := make(plotter.XYs, len(ps))
		for i, q := range ps {
			xy[i] = plotter.XY{X: q.x, Y: c.of(q.s) / most}
		}
		args = append(args, c.name, xy)
	}
	if err := plotutil.AddLinePoints(p, args...); err != nil {
		return err
	}
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, file)
}

func (r *report) plotFailover(file string) error {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "seconds", "part of the largest"
	p.Legend.Top = true
	most := slices.MaxFunc(r.failover, func(a, b second) int { return int(a.rate - b.rate) }).rate
	slowest := slices.MaxFunc(r.failover, func(a, b second) int { return int(1e6 * (a.p99 - b.p99)) }).p99
	rates, p99s := make(plotter.XYs, len(r.failover)), make(plotter.XYs, len(r.failover))
	for i, s := range r.failover {
		rates[i], p99s[i] = plotter.XY{X: s.at, Y: s.rate / most}, plotter.XY{X: s.at, Y: s.p99 / slowest}
	}
	if err := plotutil.AddLines(p, fmt.Sprintf("acknowledged/s, of %.0f", most), rates, fmt.Sprintf("p99, of %.2f s", slowest), p99s); err != nil {
		return err
	}
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, file)
}
