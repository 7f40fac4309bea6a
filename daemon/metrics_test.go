package daemon

import (
	"bufio"
	flags "flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"twinscribe/aggregator"
	"twinscribe/conf"
)

var update = flags.Bool("update", false, "write docs/operations.md anew")

// metric is the sum of the samples whose line begins so.
func (w *world) metric(begin string) (sum float64) {
	w.t.Helper()
	for name, value := range w.samples() {
		if strings.HasPrefix(name, begin) {
			sum += value
		}
	}
	return sum
}

// samples are the values at /metrics, by name with labels.
func (w *world) samples() map[string]float64 {
	w.t.Helper()
	code, body := w.get("/metrics")
	if code != http.StatusOK {
		w.t.Fatalf("/metrics: %d %s", code, body)
	}
	found := map[string]float64{}
	for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); {
		line := s.Text()
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			w.t.Fatalf("%q: %v", line, err)
		}
		found[line[:i]] = v
	}
	return found
}

var descForm = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]*)", .*variableLabels: \{(.*)\}\}$`)

// described are the families of the server's own collectors: name, labels, meaning.
func described(t *testing.T) [][3]string {
	t.Helper()
	a, err := aggregator.New(aggregatorOptions())
	if err != nil {
		t.Fatal(err)
	}
	var rows [][3]string
	for _, c := range []prometheus.Collector{a, &statsCollector{}} {
		descs := make(chan *prometheus.Desc)
		go func() {
			defer close(descs)
			c.Describe(descs)
		}()
		for d := range descs {
			m := descForm.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("%s: not understood", d)
			}
			row := [3]string{m[1], m[3], m[2]}
			if constant := regexp.MustCompile(`constLabels: \{(\w+)=`).FindStringSubmatch(d.String()); constant != nil {
				row[1] = constant[1]
			}
			if !slices.Contains(rows, row) {
				rows = append(rows, row)
			}
		}
	}
	slices.SortFunc(rows, func(a, b [3]string) int { return strings.Compare(a[0], b[0]) })
	return rows
}

func aggregatorOptions() aggregator.Options {
	c := conf.Default()
	keep := aggregator.Rule{Match: "*", Ack: aggregator.AckStored, Routes: []aggregator.Route{{Key: "k", Open: func(string, int, uint32) (aggregator.Chain, error) {
		return aggregator.Chain{}, nil
	}}}}
	return aggregator.Options{Config: aggregator.Config{
		Rules: []aggregator.Rule{keep}, DeadLetters: keep, Limits: c.Limits, Timeouts: c.Timeouts, Queue: c.Queue,
	}, Now: nowZero, Log: nopLog}
}

const (
	metricsBegin = "<!-- metrics: made by `make docs` -->"
	metricsEnd   = "<!-- end of metrics -->"
	operations   = "../docs/operations.md"
)

func metricsTable(t *testing.T) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| metric | labels | meaning |\n|---|---|---|\n", metricsBegin)
	for _, r := range described(t) {
		for _, cell := range r {
			if strings.Contains(cell, "|") {
				t.Errorf("%q breaks the table", cell)
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r[0], strings.ReplaceAll(r[1], ",", ", "), r[2])
	}
	fmt.Fprintf(&b, "\n%s", metricsEnd)
	return b.String()
}

func TestTheOperationsPageListsEveryMetric(t *testing.T) {
	raw, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	page, want := string(raw), metricsTable(t)
	before, rest, ok := strings.Cut(page, metricsBegin)
	_, after, ok2 := strings.Cut(rest, metricsEnd)
	if !ok || !ok2 {
		t.Fatalf("%s: there is no %s ... %s", operations, metricsBegin, metricsEnd)
	}
	fresh := before + want + after
	if *update {
		if err := os.WriteFile(operations, []byte(fresh), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page != fresh {
		t.Errorf("%s is stale: run `make docs`", operations)
	}
}

func TestEveryMetricThatIsSentIsDescribed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all+"unrouted: refuse\n").start()
	w.send("web", "one", "two")
	w.offer("", "a dead letter")
	names := map[string]bool{}
	for _, r := range described(t) {
		names[r[0]] = true
	}
	found := map[string]bool{}
	for sample := range w.samples() {
		name, _, _ := strings.Cut(sample, "{")
		if !strings.HasPrefix(name, "twinscribe_") {
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); names[base] {
				name = base
			}
		}
		found[name] = true
		if !names[name] {
			t.Errorf("%s is sent and not described", name)
		}
	}
	if len(found) < len(names)*3/4 {
		t.Errorf("only %d of %d families are sent by a server that has taken a message", len(found), len(names))
	}
	if n := w.metric(`twinscribe_stored_messages_total{category="web",place="n1"}`); n != 2 {
		t.Errorf("two messages were stored on n1, and the metric says %v", n)
	}
	if n := w.metric(`twinscribe_cluster_state{cluster="n1",state="healthy"}`); n != 1 {
		t.Errorf("n1 is healthy, and the metric says %v", n)
	}
}
