package inventory

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/statedir"
)

func TestALivingStrangerUnderOurIDIsATwin(t *testing.T) {
	stranger := catalog.Identity{Aggregator: "ag1", Epoch: 1, Start: 0xabcdef01}
	for _, c := range []struct {
		name    string
		id      catalog.Identity
		age     time.Duration
		ended   bool
		raw     string        // content of the file, if not a member
		skew    time.Duration // of the cluster's clock
		own     bool          // the start stands in our state folder
		drained bool
		down    bool
		readErr bool // the cluster takes no files
		twin    bool
	}{
		{name: "touched just now", id: stranger, twin: true},
		{name: "touched 89 s ago", id: stranger, age: 89 * time.Second, twin: true},
		{name: "touched 91 s ago", id: stranger, age: 91 * time.Second},
		{name: "the cluster's clock is an hour ahead", id: stranger, skew: time.Hour, twin: true},
		{name: "the same, and dead", id: stranger, skew: time.Hour, age: 2 * time.Minute},
		{name: "the cluster's clock is an hour behind", id: stranger, skew: -time.Hour, twin: true},
		{name: "the same, and dead", id: stranger, skew: -time.Hour, age: 2 * time.Minute},
		{name: "stopped in order", id: stranger, ended: true},
		{name: "what cannot be read is taken for alive", id: stranger, raw: "{", twin: true},
		{name: "our own earlier start", id: stranger, own: true},
		{name: "another aggregator", id: catalog.Identity{Aggregator: "ag2", Start: 1}},
		{name: "another aggregator whose id begins with ours", id: catalog.Identity{Aggregator: "ag1.x", Start: 1}},
		{name: "a drained cluster has no say", id: stranger, drained: true},
		{name: "a cluster that is away has no say", id: stranger, down: true},
		{name: "a cluster that takes no files: our clock counts", id: stranger, readErr: true, twin: true},
		{name: "the same, and dead", id: stranger, readErr: true, age: 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.c[1].Skew = c.skew
				raw, err := json.Marshal(catalog.Member{Version: 1, Aggregator: c.id.Aggregator, Start: c.id.StartID(), Ended: c.ended})
				if err != nil {
					t.Fatal(err)
				}
				if c.raw != "" {
					raw = []byte(c.raw)
				}
				w.c[1].Put(catalog.MemberPath(c.id), raw)
				pass(c.age)
				if c.own {
					w.starts = append(w.starts, statedir.Start{Identity: c.id, Since: time.Now()})
				}
				w.health[1].Set(true, c.drained)
				w.c[1].SetDown(c.down)
				if c.readErr {
					w.c[1].SetFault(func(op, _ string, _ bool) error {
						if op == "replace" {
							return errors.New("safe mode")
						}
						return nil
					})
				}
				if err := w.open(); err != nil {
					t.Fatal(err)
				}
				err = w.k.CheckTwin(t.Context())
				if errors.Is(err, ErrTwin) != c.twin || (err != nil) != c.twin {
					t.Fatalf("got %v, want a twin: %v", err, c.twin)
				}
				if c.twin && (!strings.Contains(err.Error(), catalog.MemberPath(c.id)) || !strings.Contains(err.Error(), "n2")) {
					t.Errorf("the message names neither file nor cluster: %v", err)
				}
				for i := range w.c {
					w.c[i].SetFault(nil)
					if _, there := w.c[i].Has(catalog.MemberPath(w.id)); there && c.twin {
						t.Errorf("n%d keeps the member file of the start that was refused", i+1)
					}
				}
			})
		})
	}
}

func TestATwinOnAClusterThatComesBackIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.health[1].Set(false, false)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.c[1].SetDown(true)
		if err := w.k.CheckTwin(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.run()
		defer w.stop()
		pass(time.Minute)
		w.c[1].SetDown(false)
		w.c[1].Put("_members/ag1.00000007.json", []byte(`{"version":1,"aggregator":"ag1","start":"00000007"}`))
		w.health[1].Set(true, false)
		pass(5 * time.Second)
		if s := w.k.Stats(); s.Twin != "_members/ag1.00000007.json" {
			t.Fatalf("twin %q", s.Twin)
		}
	})
}

func TestTheMemberFileIsTouchedEachHalfMinuteAndEndsWithTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		began := time.Now()
		pass(5*time.Minute + time.Second)
		m := w.member(0, w.id)
		if age := time.Since(time.Unix(0, m.Touched)); age > touchEvery+writeEvery {
			t.Errorf("touched %v ago", age)
		}
		want := catalog.Member{Version: 1, Aggregator: "ag1", Epoch: 1, Start: "7f000001", Host: "web1", Program: "1.0",
			HTTP: "127.0.0.1:14630", Since: began.UnixNano(), Touched: m.Touched}
		if *m != want {
			t.Errorf("member %+v, want %+v", *m, want)
		}
		w.k.End(w.id)
		pass(time.Second)
		if m := w.member(1, w.id); !m.Ended {
			t.Error("it has not ended")
		}
	})
}
