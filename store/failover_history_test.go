package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
)

// TestFailoverHistories plays testdata/failover. The commands:
//
//	start [prefer=first] [opening=D] [buffer=none]   n1, n2 and a buffer, one chain; always first
//	append [hour=H] [waited=D]    one batch of one message, D after it arrived; says where it went
//	traffic D [hour=H]            a batch each 100 ms for D; says how many went where
//	advance D                     time without batches; the chain ticks each second
//	dead C, hung C, headless C    what happens to a cluster (see site)
//	forbidden C                   its appends fail for a reason that is only this chain's
//	crowded C                     its appends leave without having tried
//	slow C opening=D              its next files take so long to open
//	heal C
//	drain C, undrain C
//	full, heal buffer             the buffer at its limit
//	status
//
// Each prints the switches that it brings about.
func TestFailoverHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/failover", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			h := &history{begun: time.Now(), next: 1}
			defer func() { h.stop() }()
			datadriven.RunTest(t, path, h.do)
		})
	})
}

type history struct {
	begun  time.Time
	sites  []*site
	buffer *storetest.Mem
	f      *store.Failover
	stop   func()
	next   uint64
	events []string
}

func (h *history) do(t *testing.T, d *datadriven.TestData) string {
	var out strings.Builder
	switch d.Cmd {
	case "start":
		h.start(t, d)
	case "append":
		var waited time.Duration
		if d.HasArg("waited") {
			waited = duration(t, argument(t, d, "waited"))
		}
		out.WriteString(h.append(t, partition(t, d), waited))
	case "traffic":
		out.WriteString(h.traffic(t, duration(t, d.CmdArgs[0].Key), partition(t, d)))
	case "advance":
		for left := duration(t, d.CmdArgs[0].Key); left > 0; left -= time.Second {
			time.Sleep(min(left, time.Second))
			if err := h.f.Tick(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
		}
	case "full":
		h.buffer.Always(storetest.Step{Err: store.ErrFull})
	case "status":
		return h.status()
	default:
		h.change(t, d)
	}
	synctest.Wait()
	for _, e := range h.events {
		fmt.Fprintln(&out, e)
	}
	h.events = nil
	return out.String()
}

func (h *history) start(t *testing.T, d *datadriven.TestData) {
	opening := 200 * time.Millisecond
	if d.HasArg("opening") {
		opening = duration(t, argument(t, d, "opening"))
	}
	h.sites, h.stop = sites(t, 2, opening)
	places := []store.FailoverPlace{h.sites[0].at(), h.sites[1].at()}
	if !d.HasArg("buffer") {
		b, at := newBuffer()
		h.buffer = b
		places = append(places, at)
	}
	prefer := store.PreferNone
	d.MaybeScanArgs(t, "prefer", &prefer)
	h.f = store.NewFailover(places, store.FailoverOptions{
		Prefer: prefer, Log: zap.NewNop(),
		Switched: func(from, to, why string) {
			h.events = append(h.events, fmt.Sprintf("%8.2fs %s -> %s (%s)", time.Since(h.begun).Seconds(), from, to, why))
		},
	})
}

func (h *history) change(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	name := d.CmdArgs[0].Key
	if name == "buffer" {
		h.buffer.Always(storetest.Step{})
		return
	}
	var s *site
	for _, x := range h.sites {
		if x.servers.Name() == name {
			s = x
		}
	}
	if s == nil {
		d.Fatalf(t, "no cluster %q", name)
	}
	switch d.Cmd {
	case "dead":
		s.dead()
	case "hung":
		s.hung()
	case "headless":
		s.headless()
	case "heal":
		s.heal()
	case "forbidden":
		s.place.Always(storetest.Step{Err: errors.New("quota of the folder is used up")})
	case "crowded":
		s.place.Always(storetest.Step{Err: cluster.ErrNotTried})
	case "slow":
		s.place.SetOpening(duration(t, argument(t, d, "opening")))
	case "drain", "undrain":
		s.health.SetDrained(d.Cmd == "drain")
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
}

func argument(t *testing.T, d *datadriven.TestData, key string) (value string) {
	d.ScanArgs(t, key, &value)
	return value
}

func duration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func partition(t *testing.T, d *datadriven.TestData) catalog.Partition {
	hour := 10
	d.MaybeScanArgs(t, "hour", &hour)
	return catalog.Partition(fmt.Sprintf("dt=2026-11-22/hr=%02d", hour))
}

// one appends one batch and says where it is.
func (h *history) one(t *testing.T, p catalog.Partition, waited time.Duration) (place string, took time.Duration) {
	begun := time.Now()
	b := storetest.Batch(h.next, fmt.Sprint("m", h.next))
	b.Partition, b.Since = p, begun.Add(-waited)
	_, err := h.f.Append(t.Context(), b)
	if err != nil {
		return err.Error(), time.Since(begun)
	}
	h.next++
	if len(b.Taken) != 1 {
		t.Errorf("taken by %+v", b.Taken)
	}
	return b.Taken[0].Place, time.Since(begun)
}

func (h *history) append(t *testing.T, p catalog.Partition, waited time.Duration) string {
	place, took := h.one(t, p, waited)
	return fmt.Sprintf("%s after %.2fs\n", place, took.Seconds())
}

func (h *history) traffic(t *testing.T, d time.Duration, p catalog.Partition) string {
	var out strings.Builder
	var slowest time.Duration
	place, n := "", 0
	line := func() {
		if n > 0 {
			fmt.Fprintf(&out, "%s: %d batches, slowest %.2fs\n", place, n, slowest.Seconds())
		}
	}
	tick := time.Now()
	for end := time.Now().Add(d); time.Now().Before(end); {
		at, took := h.one(t, p, 0)
		if at != place {
			line()
			place, n, slowest = at, 0, 0
		}
		n++
		slowest = max(slowest, took)
		time.Sleep(max(0, 100*time.Millisecond-took))
		if time.Since(tick) >= time.Second {
			tick = time.Now()
			if err := h.f.Tick(t.Context(), tick); err != nil {
				t.Error(err)
			}
		}
	}
	line()
	return out.String()
}

func (h *history) status() string {
	var out strings.Builder
	s := h.f.Status()
	fmt.Fprintf(&out, "at %s since %.2fs, %d switches\n", s.Active, s.Since.Sub(h.begun).Seconds(), s.Switches)
	for i, x := range h.sites {
		open := "no file"
		if x.place.Open() {
			open = "a file open"
		}
		drained := ""
		if x.health.Drained() {
			drained = ", drained"
		}
		fmt.Fprintf(&out, "%s: %s%s, %s, %d batches, %d failures, active %.1fs\n",
			s.Places[i].Name, x.health.State(), drained, open, s.Places[i].Batches, s.Places[i].Failures, s.Places[i].Active.Seconds())
	}
	return out.String()
}
