package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
	"twinscribe/thrift"
)

var big = strings.Repeat("x", checkAbove+1)

// TestACallIsTheOriginals compares what goes over the wire with the bytes that
// an original Scribe sends: old form, no batch id.
func TestACallIsTheOriginals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		p := NewPool(Options{Dial: func(context.Context, string) (net.Conn, error) { return here, nil }, Log: zap.NewNop()})
		s := chain(t, p, Spec{Servers: []string{"a:1"}})
		want := []byte("\x00\x00\x00\x3b\x00\x00\x00\x03Log\x01\x00\x00\x00\x01\x0f\x00\x01\x0c\x00\x00\x00\x02" +
			"\x0b\x00\x01\x00\x00\x00\x03web\x0b\x00\x02\x00\x00\x00\x02a\n\x00" +
			"\x0b\x00\x01\x00\x00\x00\x03web\x0b\x00\x02\x00\x00\x00\x00\x00\x00")
		got := make([]byte, len(want))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := io.ReadFull(there, got); err != nil {
				t.Error(err)
			}
			there.Write([]byte("\x00\x00\x00\x14\x00\x00\x00\x03Log\x02\x00\x00\x00\x01\x08\x00\x00\x00\x00\x00\x00\x00"))
		})
		taken(t, s, storetest.Batch(1, "a\n", ""))
		wg.Wait()
		if !bytes.Equal(got, want) {
			t.Errorf("sent\n%x, want\n%x", got, want)
		}
		shut(t, s)
	})
}

// scene runs f in a bubble with a world, a pool that probes, and its end.
func scene(t *testing.T, addrs []string, f func(t *testing.T, w *world, p *Pool)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, addrs...)
		p, stop := w.pool(thisStart)
		defer func() {
			stop()
			w.end()
		}()
		f(t, w, p)
		if n := len(p.Figures()); n != 0 {
			t.Errorf("%d remotes are left after their chains", n)
		}
	})
}

var one = []string{"a:1"}

func TestAnEmptyCallGoesBeforeABatchIntoTheUnknown(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one})
		time.Sleep(100 * time.Millisecond)
		r := w.at["a:1"]
		r.came() // the first probe
		for _, c := range []struct {
			what    string
			wait    time.Duration
			message string
			later   bool
			want    []int
		}{
			{"a large one on a new connection", 0, big, false, []int{0, 1}},
			{"after an OK", 0, big, false, []int{1}},
			{"a refused one", 0, big, true, []int{1}},
			{"after TRY_LATER", time.Second, big, false, []int{0, 1}},
			{"refused again", 0, big, true, []int{1}},
			{"a refused check", time.Second, big, true, []int{0}},
			{"a small one after TRY_LATER", 2 * time.Second, "m", false, []int{1}},
			{"a small one after a second", time.Second, "m", false, []int{0, 1}},
			{"a small one at once", 0, "m", false, []int{1}},
		} {
			time.Sleep(c.wait)
			r.answers(nil)
			if c.later {
				r.answers(tryLater)
				if err := refused(t, s, storetest.Batch(1, c.message)); !errors.Is(err, store.ErrLater) {
					t.Errorf("%s: %v", c.what, err)
				}
			} else {
				taken(t, s, storetest.Batch(1, c.message))
			}
			if got := r.came(); !slices.Equal(got, c.want) {
				t.Errorf("%s: calls of %v entries came, want %v", c.what, got, c.want)
			}
		}
		if f := p.Figures()[0].Servers[0]; f.Connects != 1 || f.Checks != 4 || f.TryLater != 3 || f.OK != 6 || f.Failed != 0 || f.Sent != 6 {
			t.Errorf("figures %+v", f)
		}
		shut(t, s)
	})
}

func TestTryLaterHoldsOffOneChainForATimeThatGrows(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		spec := Spec{Servers: one, Shared: true}
		s, other := chain(t, p, spec), chain(t, p, spec)
		w.at["a:1"].answers(func(c call) thrift.Result {
			if len(c.messages) > 0 && c.messages[0] == "refused" {
				return thrift.TryLater
			}
			return thrift.OK
		})
		asked := func() int64 { return p.Figures()[0].Servers[0].TryLater }
		var pauses []time.Duration
		last := time.Now()
		for len(pauses) < 8 {
			before := asked()
			err := refused(t, s, storetest.Batch(1, "refused"))
			if !errors.Is(err, store.ErrLater) {
				t.Fatal(err)
			}
			if asked() > before {
				pauses = append(pauses, time.Since(last))
				last = time.Now()
				if s.Warm("") {
					t.Error("warm while it is held off")
				}
			}
			taken(t, other, storetest.Batch(1, "from another chain"))
			time.Sleep(50 * time.Millisecond)
		}
		want := time.Second
		for i, d := range pauses[1:] {
			if d < want*3/4 || d > want+50*time.Millisecond {
				t.Errorf("pause %d is %v, want %v to %v", i+1, d, want*3/4, want)
			}
			want = min(2*want, 30*time.Second)
		}
		if f := p.Figures()[0]; f.Health.Falls != 0 || f.Chains != 2 || f.Servers[0].Connects != 1 {
			t.Errorf("%+v; want a healthy server and one connection", f)
		}
		time.Sleep(30 * time.Second)
		taken(t, s, storetest.Batch(1, "m"))
		if s.pause.last != 0 {
			t.Error("the pause is kept after an OK")
		}
		shut(t, s, other)
	})
}

func TestABatchGoesOutInPiecesOfOneCall(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		many := make([]string, 2*maxEntries+3)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		s := chain(t, p, Spec{Servers: one, BatchIDs: true})
		taken(t, s, storetest.Batch(11, many...))
		var firsts []uint64
		for _, c := range w.calls {
			firsts = append(firsts, c.id.Sequence)
			if c.id.Producer != "leaf1.00000abc.7" || c.id.Epoch != 3 {
				t.Errorf("id %+v", c.id)
			}
		}
		if want := []uint64{11, 11 + maxEntries, 11 + 2*maxEntries}; !slices.Equal(firsts, want) {
			t.Errorf("calls begin at sequences %v, want %v", firsts, want)
		}
		wantMessages(t, "all of it", w.messages(), many...)
		if p.Sent() != int64(len(many)) {
			t.Errorf("sent %d, want %d", p.Sent(), len(many))
		}
		shut(t, s)
	})
}

func TestAFrameIsFilledToItsLimitAndNoFurther(t *testing.T) {
	const entry = 15 + len("web")
	for _, c := range []struct {
		limit int // beyond a call without an entry
		want  []int
	}{
		{3 * (entry + 10), []int{3, 2}},
		{3*(entry+10) - 1, []int{2, 2, 1}},
		{entry + 10, []int{1, 1, 1, 1, 1}},
	} {
		scene(t, one, func(t *testing.T, w *world, p *Pool) {
			s := chain(t, p, Spec{Servers: one, MaxFrame: thrift.LogSize(nil) + c.limit})
			taken(t, s, storetest.Batch(1, slices.Repeat([]string{"0123456789"}, 5)...))
			var got []int
			for _, c := range w.calls {
				got = append(got, len(c.messages))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("a limit of %d gives calls of %v messages, want %v", c.limit, got, c.want)
			}
			// What fits no call stands in the way, with all that follows it.
			rest, err := s.Append(t.Context(), storetest.Batch(6, "first", strings.Repeat("x", 200), "last"))
			if !errors.Is(err, store.ErrBroken) || rest == nil || rest.Len() != 2 || rest.First != 7 {
				t.Errorf("rest %v, error %v", rest, err)
			}
			shut(t, s)
		})
	}
}

func TestAPartThatWasTakenIsReported(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one, BatchIDs: true, MaxFrame: 256})
		w.at["a:1"].answers(func(c call) thrift.Result {
			if slices.Contains(c.messages, "message 7") {
				return thrift.TryLater
			}
			return thrift.OK
		})
		var all []string
		for i := range 12 {
			all = append(all, fmt.Sprint("message ", i))
		}
		b := storetest.Batch(101, all...)
		b.IDs = []catalog.BatchSpan{{First: 101, Messages: 12}}
		rest, err := s.Append(t.Context(), b)
		if !errors.Is(err, store.ErrLater) || rest == nil {
			t.Fatalf("rest %v, error %v", rest, err)
		}
		n := b.Len() - rest.Len()
		if want := []store.Taken{{Place: "central", Messages: n}}; n == 0 || n > 7 || !slices.Equal(b.Taken, want) || len(rest.Taken) > 0 {
			t.Errorf("taken %v and %v, want %v", b.Taken, rest.Taken, want)
		}
		if rest.First != 101+uint64(n) || rest.IDs[0].From != uint32(n) {
			t.Errorf("the rest begins at %d with ids %v", rest.First, rest.IDs)
		}
		w.at["a:1"].answers(nil)
		time.Sleep(time.Second)
		taken(t, s, rest)
		wantMessages(t, "both parts", w.messages(), all...)
		shut(t, s)
	})
}

func TestErrorsSayFailedToConnectUnlessToldNot(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		w.all(fault{refused: true})
		loud, quiet := chain(t, p, Spec{Servers: one}), chain(t, p, Spec{Servers: one, IgnoreErrors: true})
		time.Sleep(5 * time.Second)
		for range 2 { // not connected, then held off
			for s, want := range map[*Store]bool{loud: true, quiet: false} {
				err := refused(t, s, storetest.Batch(1, "m"))
				if got := strings.Contains(err.Error(), "Failed to connect"); got != want {
					t.Errorf("%v: says so %v, want %v", err, got, want)
				}
				if !strings.Contains(err.Error(), "a:1") || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("%v: want the server and the cause", err)
				}
			}
		}
		shut(t, loud, quiet)
	})
}

func TestSpecsAreChecked(t *testing.T) {
	p := NewPool(Options{Log: zap.NewNop()})
	for _, servers := range [][]string{nil, {"a"}, {"a:"}, {"a:1", "b:1", "a:1"}, make([]string, 257)} {
		if _, err := p.Chain(Spec{Servers: servers}, "x"); err == nil || !strings.HasPrefix(err.Error(), "network: ") {
			t.Errorf("%q: %v", servers, err)
		}
	}
}

func TestConnectionsAreSharedOnlyWhereToldSo(t *testing.T) {
	for shared, want := range map[bool]int{false: 20, true: 1} {
		scene(t, one, func(t *testing.T, w *world, p *Pool) {
			time.Sleep(time.Second)
			var chains []*Store
			for range 20 {
				chains = append(chains, chain(t, p, Spec{Servers: one, Shared: shared}))
			}
			time.Sleep(time.Second)
			w.dialled() // the probe's
			var wg sync.WaitGroup
			for i, s := range chains {
				wg.Go(func() {
					for k := range 10 {
						taken(t, s, storetest.Batch(uint64(k+1), fmt.Sprint(i, "/", k)))
					}
				})
			}
			wg.Wait()
			if n := w.dialled(); n != want {
				t.Errorf("%d connections of 20 chains, shared %v; want %d", n, shared, want)
			}
			if n := len(p.Figures()); n != 1 {
				t.Errorf("%d remotes, want one", n)
			}
			if n := len(w.messages()); n != 200 {
				t.Errorf("%d messages, want 200", n)
			}
			shut(t, chains...)
		})
	}
}

func TestWhatAServerWasSentStaysCountedWithoutItsChains(t *testing.T) {
	scene(t, []string{"a:1", "b:1"}, func(t *testing.T, _ *world, p *Pool) {
		count := func() (all string) {
			for _, s := range p.Servers() {
				all += fmt.Sprintf("%s %d of %d, sick %v; ", s.Addr, s.Sent, s.Tries, s.Sick)
			}
			return all
		}
		first := chain(t, p, Spec{Servers: []string{"b:1"}})
		taken(t, first, storetest.Batch(1, "m", "n"))
		second := chain(t, p, Spec{Servers: []string{"b:1"}, Shared: true}) // another remote with the same server
		taken(t, second, storetest.Batch(1, "o"))
		third := chain(t, p, Spec{Servers: []string{"a:1"}})
		taken(t, third, storetest.Batch(1, "p"))
		want := "a:1 1 of 1, sick false; b:1 3 of 2, sick false; "
		if got := count(); got != want {
			t.Errorf("%s want %s", got, want)
		}
		shut(t, first, second, third)
		if got := count(); got != want {
			t.Errorf("without chains: %s want %s", got, want)
		}
		again := chain(t, p, Spec{Servers: []string{"b:1"}})
		taken(t, again, storetest.Batch(1, "q"))
		if got, want := count(), "a:1 1 of 1, sick false; b:1 4 of 3, sick false; "; got != want {
			t.Errorf("with a chain again: %s want %s", got, want)
		}
		shut(t, again)
	})
}

func TestARestClosesTheConnectionOfTheChain(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one})
		for range 3 {
			taken(t, s, storetest.Batch(1, "m"))
			s.Rest()
			s.Rest()
		}
		if n := p.Figures()[0].Servers[0].Connects; n != 3 {
			t.Errorf("%d connections, want 3", n)
		}
		shut(t, s)
		s.Rest()
	})
}

func TestARemoteEndsWithItsLastChainAndComesAnew(t *testing.T) {
	for _, shared := range []bool{true, false} {
		scene(t, one, func(t *testing.T, w *world, p *Pool) {
			spec := Spec{Servers: one, Shared: shared}
			for range 3 {
				s, other := chain(t, p, spec), chain(t, p, spec)
				taken(t, s, storetest.Batch(1, "m"))
				shut(t, s, s)
				taken(t, other, storetest.Batch(1, "m"))
				time.Sleep(time.Minute)
				if h := other.Health().Status(); h.Pings+h.Blocks < 6 || h.Falls > 0 {
					t.Errorf("%d probes in a minute, %d falls", h.Pings+h.Blocks, h.Falls)
				}
				shut(t, other)
				w.dialled()
				time.Sleep(time.Minute)
				if n := w.dialled(); n > 0 {
					t.Errorf("%d connections although no chain is left", n)
				}
			}
			if p.Sent() != 6 {
				t.Errorf("sent %d, want 6", p.Sent())
			}
		})
	}
}

func TestNothingIsSentToADrainedRemote(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one})
		s.Health().SetDrained(true)
		if err := refused(t, s, storetest.Batch(1, "m")); !errors.Is(err, cluster.ErrHeld) || !strings.Contains(err.Error(), "drained") {
			t.Error(err)
		}
		s.Health().SetDrained(false)
		taken(t, s, storetest.Batch(1, "m"))
		shut(t, s)
	})
}

func TestABusyServerIsNotProbed(t *testing.T) {
	list := []string{"a:1", "b:1"}
	scene(t, list, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: list, Shared: true})
		time.Sleep(time.Second)
		taken(t, s, storetest.Batch(1, "m"))
		w.dialled()
		minute := func() int {
			for range 60 {
				time.Sleep(time.Second)
				taken(t, s, storetest.Batch(1, "m"))
			}
			return w.dialled()
		}
		if n := minute(); n > 0 {
			t.Errorf("%d connections in a minute of traffic, want none", n)
		}
		other := list[1-s.conn.at]
		p.list()[0].servers[1-s.conn.at].sick.Store(true)
		w.faults(func(addr string) fault { return fault{refused: addr == other} })
		if n := minute(); n < 6 || n > 13 {
			t.Errorf("%d connections in a minute, want some for the one that is sick", n)
		}
		w.all(fault{})
		minute()
		for _, f := range p.Figures()[0].Servers {
			if f.Sick {
				t.Errorf("%s is sick still", f.Addr)
			}
		}
		shut(t, s)
	})
}
