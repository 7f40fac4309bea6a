package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
	"twinscribe/thrift"
)

// TestAReplyCutAtEveryByte has the connection reset after each number of bytes
// of the reply, and of the request. The message is at the server or not; the
// batch is not taken, and sent again under the same id.
func TestAReplyCutAtEveryByte(t *testing.T) {
	frame := len(thrift.AppendLog(nil, 1, []thrift.Entry{{Category: []byte("web"), Message: []byte("the message")}},
		&thrift.BatchID{Producer: "leaf1.00000abc.7"}))
	var faults []fault
	for n := range 24 {
		faults = append(faults, fault{reply: max(n, 1)})
	}
	faults[0].reply = -1
	for n := 1; n < frame; n++ {
		faults = append(faults, fault{request: n})
	}
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one, BatchIDs: true})
		var want []string
		for i, f := range faults {
			time.Sleep(15 * time.Second) // the health is itself again
			w.all(f)
			s.Rest()
			b := storetest.Batch(uint64(1+i), "the message")
			want = append(want, "the message")
			before := len(w.messages())
			refused(t, s, b)
			synctest.Wait()
			w.all(fault{})
			if came := len(w.messages()) - before; came == 1 != (f.reply != 0) {
				t.Errorf("%+v: %d messages came", f, came)
			}
			time.Sleep(3 * time.Second)
			taken(t, s, b)
		}
		wantMessages(t, "read", w.read(), want...)
		if n := len(w.messages()); n != len(faults)+24 {
			t.Errorf("%d messages came, want each of the first 24 twice", n)
		}
		shut(t, s)
	})
}

func TestASilentServerCostsOneTimeoutForAll(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s, others := chain(t, p, Spec{Servers: one}), []*Store{}
		for range 50 {
			others = append(others, chain(t, p, Spec{Servers: one}))
		}
		time.Sleep(time.Second)
		w.all(fault{silent: true})
		begun := time.Now()
		err := refused(t, s, storetest.Batch(1, "m"))
		if d := time.Since(begun); d != 5*time.Second || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("it took %v: %v; want the timeout of 5s", d, err)
		}
		for _, o := range others {
			if err := refused(t, o, storetest.Batch(1, "m")); !errors.Is(err, cluster.ErrHeld) {
				t.Error(err)
			}
		}
		if d := time.Since(begun); d != 5*time.Second {
			t.Errorf("the others waited %v", d-5*time.Second)
		}
		time.Sleep(10 * time.Second)
		if state := s.Health().State(); state != cluster.Down {
			t.Errorf("%s after %v, want down", state, time.Since(begun))
		}
		w.all(fault{})
		healed := time.Now()
		for !s.Warm("") {
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(healed); d > 4*time.Second {
			t.Errorf("asked again %v after it answered, want the first good probe", d)
		}
		taken(t, s, storetest.Batch(1, "m"))
		for !s.Health().Usable() {
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(healed); d > 7*time.Second {
			t.Errorf("usable %v after it answered", d)
		}
		shut(t, append(others, s)...)
	})
}

func TestTheCallersDeadlineEndsACall(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget time.Duration
		cancel bool
		blamed bool
	}{
		{"after long silence", 2 * time.Second, false, true},
		{"after a moment", 100 * time.Millisecond, false, false},
		{"by its own will", 2 * time.Second, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, one, func(t *testing.T, w *world, p *Pool) {
				s := chain(t, p, Spec{Servers: one})
				time.Sleep(time.Second)
				w.faults(func(string) fault { return fault{silent: true} })
				ctx, cancel := context.WithTimeout(t.Context(), c.budget)
				if c.cancel {
					ctx, cancel = context.WithCancel(t.Context())
					time.AfterFunc(c.budget, cancel)
				}
				defer cancel()
				begun := time.Now()
				rest, err := s.Append(ctx, storetest.Batch(1, "m"))
				if rest == nil || !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
					t.Errorf("rest %v, error %v", rest, err)
				}
				if d := time.Since(begun); d != c.budget {
					t.Errorf("it took %v, want %v", d, c.budget)
				}
				if blamed := !s.Health().Usable(); blamed != c.blamed {
					t.Errorf("held against the server: %v", blamed)
				}
				w.all(fault{})
				shut(t, s)
			})
		})
	}
}

func TestADeadMemberOfAListIsNotNoticed(t *testing.T) {
	list := []string{"a:1", "b:1", "c:1"}
	for _, f := range []fault{{refused: true}, {reply: -1}, {silent: true}} {
		for _, ids := range []bool{true, false} {
			t.Run(fmt.Sprintf("%+v ids=%v", f, ids), func(t *testing.T) {
				scene(t, list, func(t *testing.T, w *world, p *Pool) {
					w.faults(func(addr string) fault {
						if addr == "b:1" {
							return f
						}
						return fault{}
					})
					var chains []*Store
					for range 12 {
						chains = append(chains, chain(t, p, Spec{Servers: list, BatchIDs: ids}))
					}
					time.Sleep(3 * time.Second) // a probe
					var want []string
					for i, s := range chains {
						m := fmt.Sprint("message ", i)
						begun := time.Now()
						taken(t, s, storetest.Batch(1, m))
						if d := time.Since(begun); d > 0 {
							t.Errorf("it took %v", d)
						}
						want = append(want, m)
					}
					wantMessages(t, "came", w.messages(), want...)
					if h := p.Figures()[0].Health; h.Falls != 0 {
						t.Errorf("the list is %+v", h)
					}
					shut(t, chains...)
				})
			})
		}
	}
}

// TestAMemberThatDiesIsLeftForTheNext has it die before any probe knows.
func TestAMemberThatDiesIsLeftForTheNext(t *testing.T) {
	list := []string{"a:1", "b:1"}
	for _, c := range []struct {
		f      fault
		ids    bool
		direct bool // the batch is taken at once
	}{
		{fault{refused: true}, false, true},
		{fault{reply: -1}, true, true},
		{fault{reply: -1}, false, false}, // it may have been stored: no second copy
	} {
		scene(t, list, func(t *testing.T, w *world, p *Pool) {
			s := chain(t, p, Spec{Servers: list, BatchIDs: c.ids})
			time.Sleep(time.Second)
			dies := list[s.conn.at]
			w.faults(func(addr string) fault {
				if addr == dies {
					return c.f
				}
				return fault{}
			})
			b := storetest.Batch(1, "m")
			if !c.direct {
				refused(t, s, b)
			}
			taken(t, s, b)
			if s.Health().State() != cluster.Healthy {
				t.Error("the list is not healthy, though one of it takes calls")
			}
			shut(t, s)
		})
	}
}

func TestAListThatIsDeadIsHeldOffUntilOneAnswers(t *testing.T) {
	list := []string{"a:1", "b:1"}
	scene(t, list, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: list})
		time.Sleep(time.Second)
		w.all(fault{refused: true})
		refused(t, s, storetest.Batch(1, "m"))
		time.Sleep(20 * time.Second)
		if state := s.Health().State(); state != cluster.Down {
			t.Errorf("%s, want down", state)
		}
		w.dialled()
		err := refused(t, s, storetest.Batch(1, "m"))
		if !errors.Is(err, cluster.ErrHeld) || w.dialled() != 0 {
			t.Errorf("it is asked while it is down: %v", err)
		}
		w.faults(func(addr string) fault { return fault{refused: addr == "a:1"} })
		for !s.Warm("") {
			time.Sleep(100 * time.Millisecond)
		}
		taken(t, s, storetest.Batch(1, "m"))
		f := p.Figures()[0]
		if !f.Servers[0].Sick || f.Servers[1].Sick || f.Servers[1].Sent != 1 {
			t.Errorf("%+v", f.Servers)
		}
		shut(t, s)
	})
}

func TestOneOfAListThatAsksForAPauseLeavesItToTheOthers(t *testing.T) {
	list := []string{"a:1", "b:1", "c:1"}
	scene(t, list, func(t *testing.T, w *world, p *Pool) {
		w.at["a:1"].answers(tryLater)
		w.at["b:1"].answers(tryLater)
		s := chain(t, p, Spec{Servers: list})
		for range 3 {
			taken(t, s, storetest.Batch(1, "m"))
		}
		if at := list[s.conn.at]; at != "c:1" {
			t.Errorf("it stays with %s", at)
		}
		w.at["c:1"].answers(tryLater)
		if err := refused(t, s, storetest.Batch(1, "m")); !errors.Is(err, store.ErrLater) {
			t.Error(err)
		}
		for _, f := range p.Figures()[0].Servers {
			if f.TryLater == 0 {
				t.Errorf("%s was not asked", f.Addr)
			}
		}
		shut(t, s)
	})
}

func TestAPauseThatOneAsksForIsKeptWhereTheOthersAreAway(t *testing.T) {
	list := []string{"a:1", "b:1"}
	for _, first := range []int{0, 1} {
		scene(t, list, func(t *testing.T, w *world, p *Pool) {
			s := chain(t, p, Spec{Servers: list})
			time.Sleep(time.Second)
			s.conn.at = first
			w.at["a:1"].answers(tryLater)
			w.faults(func(addr string) fault { return fault{refused: addr == "b:1"} })
			if err := refused(t, s, storetest.Batch(1, "m")); !errors.Is(err, store.ErrLater) {
				t.Error(err)
			}
			if s.Warm("") || !s.Health().Usable() {
				t.Error("want the chain held off, and the list healthy")
			}
			shut(t, s)
		})
	}
}

// TestAConnectionThatTheServerClosedMeanwhile is what a chain with little to say
// finds: servers close idle connections after five minutes.
func TestAConnectionThatTheServerClosedMeanwhile(t *testing.T) {
	for _, ids := range []bool{true, false} {
		scene(t, one, func(t *testing.T, w *world, p *Pool) {
			s := chain(t, p, Spec{Servers: one, BatchIDs: ids})
			for i := range 3 {
				taken(t, s, storetest.Batch(uint64(i+1), "m"))
				time.Sleep(6 * time.Minute)
			}
			f := p.Figures()[0]
			if len(w.messages()) != 3 || f.Servers[0].Failed != 0 || f.Servers[0].Connects != 3 || f.Health.Falls != 0 {
				t.Errorf("ids %v: %d messages, %+v", ids, len(w.messages()), f)
			}
			shut(t, s)
		})
	}
}

func TestASlowServerIsWaitedFor(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one})
		w.all(fault{slow: 700 * time.Millisecond})
		for range 3 {
			taken(t, s, storetest.Batch(1, "m"))
		}
		f := p.Figures()[0].Servers[0]
		if f.Slowest != 700*time.Millisecond || f.Answers != 3*f.Slowest || f.OK != 3 {
			t.Errorf("%+v", f)
		}
		shut(t, s)
	})
}

// TestWhoWaitedForASharedConnectionIsNotToBlameIt has many chains behind one
// call to a server that says nothing.
func TestWhoWaitedForASharedConnectionIsNotToBlameIt(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		spec := Spec{Servers: one, Shared: true}
		first := chain(t, p, spec)
		time.Sleep(time.Second)
		w.all(fault{silent: true})
		results := make(chan error, 100)
		begun := time.Now()
		go func() {
			_, err := first.Append(context.Background(), storetest.Batch(1, "m"))
			results <- err
		}()
		time.Sleep(100 * time.Millisecond)
		chains := []*Store{first}
		for i := range 20 {
			s := chain(t, p, spec)
			chains = append(chains, s)
			ctx, cancel := context.WithCancel(context.Background())
			if i%2 == 0 {
				time.AfterFunc(time.Second, cancel)
			}
			go func() {
				defer cancel()
				_, err := s.Append(ctx, storetest.Batch(1, "m"))
				results <- err
			}()
		}
		var untried, held int
		for range len(chains) {
			switch err := <-results; {
			case errors.Is(err, cluster.ErrNotTried):
				untried++
			case errors.Is(err, cluster.ErrHeld):
				held++
			case err == nil:
				t.Error("taken")
			}
		}
		if untried != 10 || held != 10 || time.Since(begun) != 5*time.Second {
			t.Errorf("%d not tried, %d held after %v; want 10 and 10 after the one timeout", untried, held, time.Since(begun))
		}
		shut(t, chains...)
	})
}

// TestFailoverGoesOnWithoutItsServer has a network place before a buffer.
func TestFailoverGoesOnWithoutItsServer(t *testing.T) {
	scene(t, one, func(t *testing.T, w *world, p *Pool) {
		s := chain(t, p, Spec{Servers: one})
		last := storetest.NewMem("buffer", storetest.MemOptions{})
		f := store.NewFailover([]store.FailoverPlace{
			{Name: "central", Place: s, Health: s.Health(), Retry: store.Retry{Fixed: true, Interval: 5 * time.Minute}},
			{Name: "buffer", Place: last},
		}, store.FailoverOptions{Log: zap.NewNop()})
		n := uint64(0)
		second := func() string { // a batch each second; who took it
			time.Sleep(time.Second)
			n++
			b := storetest.Batch(n, fmt.Sprint(n))
			begun := time.Now()
			if _, err := f.Append(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begun); d > 2600*time.Millisecond {
				t.Errorf("batch %d took %v", n, d)
			}
			return b.Taken[0].Place
		}
		run := func(k int) (by []string) {
			for range k {
				by = append(by, second())
			}
			return by
		}
		if by := run(3); slices.Contains(by, "buffer") {
			t.Errorf("healthy: %v", by)
		}
		w.at["a:1"].answers(tryLater)
		run(1)
		w.at["a:1"].answers(nil)
		if by := run(3); by[2] != "central" {
			t.Errorf("after one TRY_LATER: %v; want it asked again within seconds, not after a retry", by)
		}
		w.all(fault{silent: true})
		s.Rest() // the old connection is gone too
		begun := time.Now()
		if by := run(10); slices.Contains(by, "central") {
			t.Errorf("silent: %v", by)
		}
		if d := time.Since(begun); d > 13*time.Second {
			t.Errorf("ten batches took %v, want one timeout in all", d)
		}
		w.all(fault{})
		run(300)
		if by := run(2); !slices.Equal(by, []string{"central", "central"}) {
			t.Errorf("healed: %v", by)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
