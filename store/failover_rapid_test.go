package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
)

// TestNothingIsLostOrStoredTwiceWhateverHappens drives a chain as a queue
// does, one batch again and again until it is taken, while its places fail in
// every way the doubles know. Afterwards the faults stop, and the chain must
// find back to a cluster.
func TestNothingIsLostOrStoredTwiceWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			m := newMachine(t, rt)
			defer m.stop()
			actions := map[string]func(*rapid.T){
				"append":    m.append,
				"append 2":  m.append,
				"append 3":  m.append,
				"give up":   m.giveUp,
				"fault":     m.fault,
				"buffer":    m.fillBuffer,
				"drain":     m.drain,
				"pass time": m.passTime,
				"next hour": func(*rapid.T) { m.hour++ },
				"":          m.check,
			}
			rt.Repeat(actions)
			m.findsBack(rt)
		})
	})
}

// bubbled hides Deadline, which may not be asked for inside a bubble.
type bubbled struct{ testing.TB }

type machine struct {
	t      *testing.T
	sites  []*site
	buffer *storetest.Mem
	f      *store.Failover
	stop   func()

	next    uint64
	hour    int
	acked   map[uint64]string          // first sequence of a batch: who took it
	sizes   map[uint64]int             // and how many messages it has
	doubted map[uint64]map[string]bool // where a copy may lie though the place gave an error
	pending *store.Batch               // refused, to be tried again first
}

func newMachine(t *testing.T, rt *rapid.T) *machine {
	m := &machine{t: t, next: 1, hour: 10, acked: map[uint64]string{}, sizes: map[uint64]int{}, doubted: map[uint64]map[string]bool{}}
	opening := time.Duration(rapid.IntRange(0, 1200).Draw(rt, "opening")) * time.Millisecond
	m.sites, m.stop = sites(t, rapid.IntRange(1, 3).Draw(rt, "clusters"), opening)
	var places []store.FailoverPlace
	for _, s := range m.sites {
		places = append(places, s.at())
	}
	b, last := newBuffer()
	m.buffer = b
	m.f = store.NewFailover(append(places, last), store.FailoverOptions{
		Prefer: rapid.SampledFrom([]string{store.PreferNone, store.PreferFirst}).Draw(rt, "prefer"),
		Log:    zap.NewNop(),
	})
	return m
}

func (m *machine) batch(rt *rapid.T) *store.Batch {
	if m.pending != nil {
		return m.pending
	}
	var messages []string
	for i := range rapid.IntRange(1, 3).Draw(rt, "messages") {
		messages = append(messages, fmt.Sprint("m", m.next+uint64(i)))
	}
	b := storetest.Batch(m.next, messages...)
	b.Partition = catalog.Hour.At(time.Date(2026, 11, 22, m.hour, 0, 0, 0, time.UTC))
	m.next += uint64(len(messages))
	m.sizes[b.First] = len(messages)
	return b
}

func (m *machine) append(rt *rapid.T) {
	b := m.batch(rt)
	waited := time.Duration(rapid.SampledFrom([]int{0, 0, 0, 500, 2700, 60000}).Draw(rt, "waited")) * time.Millisecond
	m.do(rt, m.t.Context(), b, waited)
}

func (m *machine) giveUp(rt *rapid.T) {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Duration(rapid.IntRange(0, 2500).Draw(rt, "after"))*time.Millisecond)
	defer cancel()
	m.do(rt, ctx, m.batch(rt), 0)
}

func (m *machine) do(rt *rapid.T, ctx context.Context, b *store.Batch, waited time.Duration) {
	begun := time.Now()
	b.Since = begun.Add(-waited)
	rest, err := m.f.Append(ctx, b)
	const own = 2 * time.Second // what the buffer gets, also of a batch whose time is over
	if took := time.Since(begun); took > max(3*time.Second-waited-400*time.Millisecond, 0)+own {
		rt.Fatalf("batch %d took %v after it had waited %v", b.First, took, waited)
	}
	m.noteDoubts(b.First)
	if err != nil {
		if rest != b || len(b.Taken) != 0 {
			rt.Fatalf("batch %d was refused: rest %v, taken %v; want the whole batch and none", b.First, rest, b.Taken)
		}
		m.pending = b
		return
	}
	if rest != nil || len(b.Taken) != 1 || b.Taken[0].Messages != b.Len() {
		rt.Fatalf("batch %d was taken: rest %v, taken %v; want nil and one place for all", b.First, rest, b.Taken)
	}
	m.pending = nil
	m.acked[b.First] = b.Taken[0].Place
}

// noteDoubts remembers where a copy lies although the place gave an error.
func (m *machine) noteDoubts(first uint64) {
	for _, s := range m.sites {
		if s.place.Lost() == 0 {
			continue
		}
		if m.doubted[first] == nil {
			m.doubted[first] = map[string]bool{}
		}
		m.doubted[first][s.servers.Name()] = true
	}
}

func (m *machine) fault(rt *rapid.T) {
	s := rapid.SampledFrom(m.sites).Draw(rt, "cluster")
	switch rapid.SampledFrom([]string{"heal", "heal", "dead", "hung", "headless", "forbidden", "crowded", "answer lost", "held", "slow"}).Draw(rt, "fault") {
	case "heal":
		s.heal()
	case "dead":
		s.dead()
	case "hung":
		s.hung()
	case "headless":
		s.headless()
	case "forbidden":
		s.place.Always(storetest.Step{Err: errors.New("quota of the folder is used up")})
	case "crowded":
		s.place.Then(storetest.Step{Err: cluster.ErrNotTried})
	case "held":
		s.place.Then(storetest.Step{Err: cluster.ErrHeld})
	case "answer lost":
		s.place.Then(storetest.Step{Err: cluster.ErrUnavailable, Keep: true})
	case "slow":
		s.place.Then(storetest.Step{Delay: 1500 * time.Millisecond})
	}
}

func (m *machine) fillBuffer(rt *rapid.T) {
	m.buffer.Always(rapid.SampledFrom([]storetest.Step{
		{}, {Err: store.ErrFull}, {Hang: true}, {Delay: 300 * time.Millisecond},
	}).Draw(rt, "buffer"))
}

func (m *machine) drain(rt *rapid.T) {
	s := rapid.SampledFrom(m.sites).Draw(rt, "cluster")
	s.health.SetDrained(rapid.Bool().Draw(rt, "drained"))
}

func (m *machine) passTime(rt *rapid.T) {
	for range rapid.IntRange(1, 40).Draw(rt, "seconds") {
		time.Sleep(time.Second)
		m.tick(rt)
	}
}

func (m *machine) tick(rt *rapid.T) {
	begun := time.Now()
	if err := m.f.Tick(m.t.Context(), begun); err != nil || time.Since(begun) > 0 {
		rt.Fatalf("tick: %v after %v", err, time.Since(begun))
	}
}

// check compares what lies in the places with what was answered.
func (m *machine) check(rt *rapid.T) {
	found := map[uint64][]string{}
	for _, p := range append([]*storetest.Mem{m.buffer}, places(m.sites)...) {
		last := uint64(0)
		for _, k := range p.Kept() {
			if k.First < last {
				rt.Fatalf("%s has batch %d after batch %d", p.Name(), k.First, last)
			}
			last = k.First
			if len(k.Messages) != m.sizes[k.First] || k.Messages[0] != fmt.Sprint("m", k.First) {
				rt.Fatalf("%s has %q as batch %d", p.Name(), k.Messages, k.First)
			}
			found[k.First] = append(found[k.First], p.Name())
		}
	}
	for first, where := range found {
		sure := slices.DeleteFunc(slices.Clone(where), func(p string) bool { return m.doubted[first][p] })
		taker, ok := m.acked[first]
		switch {
		case !ok && len(sure) > 0:
			rt.Fatalf("batch %d was refused and lies in %v", first, sure)
		case ok && !slices.Contains(where, taker):
			rt.Fatalf("batch %d was taken by %s and lies in %v", first, taker, where)
		case ok && len(sure) > 1:
			rt.Fatalf("batch %d lies in %v", first, sure)
		}
	}
	for first, taker := range m.acked {
		if len(found[first]) == 0 {
			rt.Fatalf("batch %d was taken by %s and is gone", first, taker)
		}
	}
}

func places(all []*site) (mems []*storetest.Mem) {
	for _, s := range all {
		mems = append(mems, s.place)
	}
	return mems
}

// findsBack ends the faults: within three minutes of traffic the chain writes
// to a cluster, and nothing is left over.
func (m *machine) findsBack(rt *rapid.T) {
	for _, s := range m.sites {
		s.heal()
		s.place.Forget()
		s.health.SetDrained(false)
	}
	m.buffer.Always(storetest.Step{})
	for range 180 {
		m.append(rt)
		time.Sleep(time.Second)
		m.tick(rt)
	}
	m.check(rt)
	if m.pending != nil {
		rt.Fatalf("batch %d is still refused", m.pending.First)
	}
	if at := m.f.Active(); at == "buffer" {
		rt.Fatalf("the chain is at the buffer three minutes after the faults ended")
	}
}
