package aggregator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"twinscribe/thrift"
)

// gather returns every sample as name{label="value"}; histograms by their count.
func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.GetCounter() != nil:
				all[name] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				all[name] = m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				all[name] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

func TestTheMetricsSayWhatTheBooksSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.rule("bad", AckStored, "n2"), h.rule("mem", AckReceived, "n1"), h.rule("*", AckStored, "n1")}
			h.made = func(p *place) {
				if p.name == "n2" {
					p.append = failing(errAway)
				}
			}
		})
		h.must(thrift.OK, "web:one", "web:two", ":blank")
		h.must(thrift.OK, "mem:x")
		h.must(thrift.TryLater, "bad:x")
		h.must(thrift.TryLater, "bad:y", "web:z")
		time.Sleep(time.Second)
		m := gather(t, h.Aggregator)
		for name, want := range map[string]float64{
			"twinscribe_offered_messages_total{category=web}":                 3,
			"twinscribe_offered_bytes_total{category=web}":                    10,
			"twinscribe_accepted_messages_total{category=web}":                2,
			"twinscribe_stored_messages_total{category=web,place=n1}":         2,
			"twinscribe_stored_bytes_total{category=web,place=n1}":            8,
			`twinscribe_stored_messages_total{category="",place=dead-letter}`: 1,
			"twinscribe_refused_messages_total{category=web,reason=call}":     1,
			"twinscribe_refused_messages_total{category=bad,reason=store}":    1,
			"twinscribe_withdrawn_messages_total{category=bad}":               1,
			"twinscribe_unaccounted_messages{category=(other)}":               0,
			"twinscribe_calls_total{end=ok}":                                  2,
			"twinscribe_calls_total{end=withdrawn}":                           1,
			"twinscribe_calls_total{end=refused}":                             1,
			"twinscribe_ack_seconds{ack=stored}":                              1,
			"twinscribe_ack_seconds{ack=received}":                            1,
			"twinscribe_batch_messages":                                       4,
			"twinscribe_memory_bytes":                                         0,
			"twinscribe_memory_limit_bytes":                                   1 << 20,
			"twinscribe_live_categories{kind=exact}":                          3,
			"twinscribe_live_categories{kind=pattern}":                        1,
			"twinscribe_queue_bytes{category=web}":                            0,
			"twinscribe_arena_bytes":                                          0,
			"twinscribe_live_categories_limit":                                8,
		} {
			if got, ok := m[name]; !ok || got != want {
				t.Errorf("%s = %v (%v), want %v", name, got, ok, want)
			}
		}
	})
}

func TestNoCounterFallsAndTheLargestCategoriesHaveLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, func(h *bench) {
			h.opts.Limits.Categories, h.opts.IdleAfter = 300, 6*time.Minute
		})
		last := make(map[string]float64)
		look := func() map[string]float64 {
			now := gather(t, h.Aggregator)
			total := 0.0
			for name, was := range last {
				if got, ok := now[name]; ok && strings.Contains(name, "_total") && got < was {
					t.Errorf("%s fell from %v to %v", name, was, got)
				}
			}
			for name, v := range now {
				if strings.HasPrefix(name, "twinscribe_offered_messages_total") {
					total += v
				}
			}
			last = now
			now["total"] = total
			return now
		}
		send := func(from, to, n int) {
			for i := from; i < to; i++ {
				h.must(thrift.OK, strings.Fields(strings.Repeat(fmt.Sprintf("c%03d:x ", i), n))...)
			}
		}
		send(0, 200, 1)
		send(150, 200, 3)
		m := look()
		equal(t, "total", m["total"], 350)
		equal(t, "a large one", m["twinscribe_offered_messages_total{category=c199}"], 4)
		equal(t, "the small ones without", m["twinscribe_offered_messages_total{category=(other)}"], 100)

		for range 9 { // the first hundred stay, the labelled large ones fall silent
			time.Sleep(time.Minute)
			send(0, 100, 2)
			look()
		}
		time.Sleep(time.Minute)
		m = look()
		if _, ok := m["twinscribe_offered_messages_total{category=c199}"]; ok {
			t.Error("a category that is gone has its label yet")
		}
		with := 0
		for name := range m {
			if strings.HasPrefix(name, "twinscribe_offered_messages_total") {
				with++
			}
		}
		equal(t, "labels", with, 101)
		send(100, 200, 1) // those that were gone come back
		look()
		send(0, 200, 1)
		look()
	})
}

func TestWhatALabelShowedIsNotShownAgainByTheOthers(t *testing.T) {
	var l labels
	all := []figures{{}, {c: &category{name: "a"}, live: true}, {c: &category{name: "b"}, live: true}}
	look := func(offered ...int64) string {
		for i, n := range offered {
			all[i].accepted = Count{Messages: n, Bytes: n}
		}
		var shown []string
		for _, f := range l.share(slices.Clone(all)) {
			shown = append(shown, fmt.Sprintf("%s=%d", f.label, f.offered().Messages))
		}
		return strings.Join(shown, " ")
	}
	equal(t, "at first", look(5, 10, 20), "(other)=5 a=10 b=20")
	equal(t, "later", look(6, 11, 21), "(other)=6 a=11 b=21")
	all[1].live = false
	equal(t, "when a is silent", look(6, 11, 22), "(other)=6 b=22")
	equal(t, "others have news", look(7, 11, 22), "(other)=7 b=22")
	all[1].live = true
	equal(t, "when a is back", look(7, 12, 22), "(other)=8 a=0 b=22")
	equal(t, "and goes on", look(7, 15, 22), "(other)=8 a=3 b=22")
	all = all[:2] // its account goes into the rest
	equal(t, "when b is forgotten", look(7+22, 15), "(other)=8 a=3")
}

func TestEveryNameHasALabelOfItsOwn(t *testing.T) {
	long := strings.Repeat("n", 300)
	names := []string{"web", "", `""`, "(other)", `"(other)"`, "\xff", `"\xff"`, "\ufffd", long, long + "2", long[:200], "a b", "a\nb", "ü"}
	seen := make(map[string]string)
	for _, name := range names {
		label := labelOf(name, 0)
		if was, ok := seen[label]; ok {
			t.Errorf("%q and %q share the label %q", was, name, label)
		}
		seen[label] = name
		if label == otherLabel || label == "" || len(label) > 900 {
			t.Errorf("%q has the label %q", name, label)
		}
	}
}

func TestScribesCountersAndTheRestOfFb303(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reinitialized, stopped int
		h := start(t, func(h *bench) {
			h.opts.Rules = []Rule{h.rule("web", AckStored, "n1"), h.rule("waste", AckStored, "null")}
			h.opts.Name, h.opts.Version = "Scribe", "2.2"
			h.opts.Reinitialize, h.opts.Shutdown = func() { reinitialized++ }, func() { stopped++ }
		})
		equal(t, "at the start", h.Counters(), map[string]int64{})
		h.must(thrift.OK, "web:x", "web:y", ":blank", "waste:z", "stray:s")
		equal(t, "counters", h.Counters(), map[string]int64{
			"web:received good": 2, "waste:received good": 1, "waste:ignored": 1, "stray:received bad": 1,
			"scribe_overall:received good": 3, "scribe_overall:received bad": 1,
			"scribe_overall:ignored": 1, "scribe_overall:received blank category": 1,
		})
		equal(t, "name", h.Name()+h.Version(), "Scribe2.2")
		h.Reinitialize()
		h.Shutdown()
		equal(t, "calls", []int{reinitialized, stopped}, []int{1, 1})
		equal(t, "since", h.AliveSince(), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
		status, text := h.Status()
		equal(t, "status", fmt.Sprint(status, text), fmt.Sprint(thrift.Alive, ""))
	})
}

func TestWhatIsWrongBesideTheChainsStandsFirstInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beside := ""
		h := start(t, func(h *bench) {
			h.opts.Problem = func() string { return beside }
			h.made = func(p *place) {
				if p.name == "dead-letter" {
					p.append = failing(errors.New("the buffer: full"))
				}
			}
		})
		said := func() string { status, text := h.Status(); return fmt.Sprint(status, text) }
		h.must(thrift.OK, "web:x")
		equal(t, "well", said(), fmt.Sprint(thrift.Alive, ""))
		beside = "the reload was refused"
		equal(t, "beside the chains", said(), fmt.Sprint(thrift.Warning, beside))
		h.must(thrift.TryLater, ":blank")
		equal(t, "both", said(), fmt.Sprint(thrift.Warning, beside+" (and 1 more)"))
		beside = ""
		equal(t, "the chain", said(), fmt.Sprint(thrift.Warning, `category "": the buffer: full`))
	})
}
