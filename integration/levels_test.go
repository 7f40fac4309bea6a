//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// levels are what a process holds at one moment; heap and rss in MiB.
type levels struct{ goroutines, descriptors, heap, rss float64 }

// bookWatch takes a snapshot each second: of the books, and of what the process holds.
type bookWatch struct {
	s         *lab.Server
	stop      func() // returns when the last snapshot is taken
	from, to  time.Time
	snapshots int
	samples   []levels
	faults    []string // books that do not balance, snapshots that could not be taken
	switches  int64    // of the clusters, by their own counters
	moves     int      // seconds in which messages went to another place than before
	where     string   // the places in their order
}

func watchBooks(s *lab.Server) *bookWatch {
	w := &bookWatch{s: s, from: time.Now()}
	end, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var last *snapshot
		place := ""
		for {
			last = w.look(last, &place)
			select {
			case <-end:
				w.to = time.Now()
				return
			case <-tick.C:
			}
		}
	}()
	w.stop = sync.OnceFunc(func() { close(end); <-over })
	return w
}

func (w *bookWatch) fault(format string, args ...any) {
	if len(w.faults) < 20 {
		w.faults = append(w.faults, time.Since(w.from).Round(time.Second).String()+": "+fmt.Sprintf(format, args...))
	}
}

func (w *bookWatch) look(last *snapshot, place *string) *snapshot {
	var now snapshot
	if err := w.s.TryGet("/v1/status", &now); err != nil {
		w.fault("%v", err)
		return last
	}
	w.snapshots++
	if err := now.check(); err != nil {
		w.fault("%v", err)
	}
	if last != nil {
		if err := now.follows(*last); err != nil {
			w.fault("%v", err)
		}
		w.switches += now.switches() - last.switches()
		if p := grew(*last, now); p != "" && p != *place {
			if *place != "" {
				w.moves++
			}
			*place = p
			w.where += p + " "
		}
	}
	l, err := sample(w.s)
	if err != nil {
		w.fault("%v", err)
	} else {
		w.samples = append(w.samples, l)
	}
	return &now
}

// grew is the place that most messages of the last second went to; "" if there were none.
func grew(before, now snapshot) (place string) {
	most := int64(0)
	for p, n := range now.Totals.Stored {
		if d := n.Messages - before.Totals.Stored[p].Messages; d > most {
			place, most = p, d
		}
	}
	return place
}

func (w *bookWatch) lasted() time.Duration { return w.to.Sub(w.from) }

// sample asks the process, from within and from outside.
func sample(s *lab.Server) (l levels, err error) {
	page, err := s.TryPage("/metrics")
	if err != nil {
		return l, err
	}
	l.goroutines = sumOf(page, "go_goroutines")
	l.heap = sumOf(page, "go_memstats_heap_alloc_bytes") / (1 << 20)
	if l.goroutines == 0 || l.heap == 0 {
		return l, fmt.Errorf("no goroutines or no heap in the metrics")
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
	if err != nil {
		return l, err
	}
	l.descriptors = float64(len(fds))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		return l, err
	}
	for sc := bufio.NewScanner(bytes.NewReader(status)); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "VmRSS:"); ok {
			fmt.Sscan(rest, &l.rss)
			l.rss /= 1 << 10
		}
	}
	return l, nil
}

// sumOf adds up a metric's samples.
func sumOf(page, name string) (sum float64) {
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if f := strings.Fields(rest); ok && len(f) > 0 && (rest[0] == ' ' || rest[0] == '{') {
			var v float64
			if _, err := fmt.Sscan(f[len(f)-1], &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}

func (w *bookWatch) judgeBooks(t *testing.T) {
	t.Helper()
	for _, f := range w.faults {
		t.Error(f)
	}
	if least := int(w.lasted().Seconds() * 0.8); w.snapshots < least {
		t.Errorf("%d snapshots in %v, want one a second", w.snapshots, w.lasted())
	}
	t.Logf("table: 9 | books of all categories and the total, a snapshot each second | %d snapshots, %d that do not balance", w.snapshots, len(w.faults))
}

// judgeLevels compares the second fifth of the run with the last one, both many faults long. The medians may differ by
// what one more connection to each server or one more file per category comes to, and memory by what a garbage
// collection more or less leaves; a leak of a goroutine, a descriptor or 100 KiB at each fault would be beyond that.
func (w *bookWatch) judgeLevels(t *testing.T) {
	t.Helper()
	fifth := len(w.samples) / 5
	if fifth == 0 {
		t.Fatalf("only %d samples", len(w.samples))
	}
	early, late := w.samples[fifth:2*fifth], w.samples[4*fifth:]
	var parts []string
	for _, of := range []struct {
		name  string
		get   func(levels) float64
		part  float64 // may grow by so much of it
		extra float64 // and by this
	}{
		{"goroutines", func(l levels) float64 { return l.goroutines }, 0.05, 8},
		{"descriptors", func(l levels) float64 { return l.descriptors }, 0.05, 5},
		{"heap MiB", func(l levels) float64 { return l.heap }, 0.10, 4},
		{"RSS MiB", func(l levels) float64 { return l.rss }, 0.05, 4},
	} {
		a, b := lab.Median(early, of.get), lab.Median(late, of.get)
		if limit := a*(1+pick(3, of.part)) + pick(50, of.extra); b > limit {
			t.Errorf("%s: median %.1f in the second fifth, %.1f in the last, want at most %.1f", of.name, a, b, limit)
		}
		t.Logf("%s: medians of the fifths %s", of.name, fifths(w.samples, of.get))
		parts = append(parts, fmt.Sprintf("%s %.0f, %.0f", of.name, a, b))
	}
	t.Logf("table: 9 | second and last fifth of these %.0f min, medians | %s", w.lasted().Minutes(), strings.Join(parts, "; "))
}

func fifths(samples []levels, get func(levels) float64) string {
	var parts []string
	for i := range 5 {
		parts = append(parts, fmt.Sprintf("%.1f", lab.Median(samples[i*len(samples)/5:(i+1)*len(samples)/5], get)))
	}
	return strings.Join(parts, ", ")
}
