package repair

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/store/catalog"
	"twinscribe/store/files"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
	"twinscribe/store/statedir"
)

func TestThreeHundredTornFilesAreSealedWithinAMinuteOfTheClustersReturn(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 330
				w := newWorld(t)
				w.c.RecoverDelay, w.c.TruncateDelay, w.c.CallDelay = 3*time.Second, 3*time.Second, 50*time.Millisecond
				w.c.SetDown(true)
				w.health.Set(false, false)
				var torn []files.Torn
				for i := 1; i <= n; i++ {
					w.c.Leave(begin(i).OpenPath, text(1, 100), 0)
					lines, l := []catalog.Line{line(1, 60), line(61, 100)}, int64(60*size1)
					if restart {
						w.states = append(w.states, journal.FileState{Begin: begin(i), Lines: lines, Torn: &l})
					}
					torn = append(torn, files.Torn{Cluster: "n1", OpenPath: begin(i).OpenPath, Path: begin(i).Path, Begin: begin(i), Lines: lines[:1], L: l})
				}
				w.open()
				w.run()
				defer w.stop()
				if !restart {
					for _, f := range torn {
						w.r.Torn(f)
					}
				}
				pass(10 * time.Minute)
				if got := w.r.Backlog(); got["n1"] != n || w.c.Calls("recover") != 0 {
					t.Fatalf("backlog %v, %d calls while the cluster is away", got, w.c.Calls("recover"))
				}
				w.c.SetDown(false)
				w.health.Set(true, false)
				began := time.Now()
				if err := w.r.Wait(t.Context(), "n1"); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("%v", took)
				}
				for i := 1; i <= n; i++ {
					if data, m := w.sealed(i); len(data) != 60*size1 || m.Messages != 60 {
						t.Fatalf("file %d has %d bytes, %d messages", i, len(data), m.Messages)
					}
				}
				if most := w.c.Most(); most > 32+8 {
					t.Errorf("%d calls at once", most)
				}
			})
		})
	}
}

func TestASlowRecoveryHoldsNoOtherFileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c.Slow = make(map[string]time.Duration)
		for i := 1; i <= 100; i++ {
			w.c.Leave(begin(i).OpenPath, text(1, 10), 0)
			if i <= 60 { // more than may be worked on at once
				w.c.Slow[begin(i).OpenPath] = 90 * time.Second
			}
			w.states = append(w.states, journal.FileState{Begin: begin(i), Lines: []catalog.Line{line(1, 10)}})
		}
		w.open()
		w.run()
		defer w.stop()
		pass(2 * time.Second)
		if got := w.r.Backlog()["n1"]; got != 60 {
			t.Errorf("%d files await repair, want the 60 slow ones", got)
		}
		if err := w.r.Wait(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
		if calls := w.c.Calls("recover"); calls > 100+60*(30+40) {
			t.Errorf("%d calls to recover", calls)
		}
	})
}

func TestNothingIsTouchedOnAClusterThatIsAwayOrDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var draining atomic.Bool
		w.more = func(o *Options) { o.Targets[0].Draining = draining.Load }
		w.c.Leave(begin(1).OpenPath, text(1, 10), 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 10)}}}
		w.health.Set(false, false)
		w.open()
		w.run()
		defer w.stop()
		pass(5 * time.Minute)
		if n := len(w.c.Counters()); n != 0 {
			t.Fatalf("calls while it is away: %v", w.c.Counters())
		}
		w.health.Set(true, true)
		pass(5 * time.Minute)
		if calls := w.c.Counters(); calls["list"] == 0 || calls["recover"]+calls["replace"]+calls["rename"]+calls["truncate"]+calls["remove"] != 0 {
			t.Fatalf("calls while it is drained: %v", calls)
		}
		// That the start is over, and what waits, is known all the same.
		if it, _ := w.keeper.item("n1", begin(1).Path); it.State != catalog.StateOpen || len(w.keeper.ended) != 1 {
			t.Fatalf("item %+v, ended %v", it, w.keeper.ended)
		}
		draining.Store(true)
		pass(time.Minute)
		w.sealed(1)
	})
}

func TestAnErrorAboutOneFileConcernsThatFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		core, logs := observer.New(zap.WarnLevel)
		w.log = zap.New(core)
		for i := 1; i <= 3; i++ {
			w.c.Leave(begin(i).OpenPath, text(1, 10), 0)
			w.states = append(w.states, journal.FileState{Begin: begin(i), Lines: []catalog.Line{line(1, 10)}})
		}
		w.c.SetFault(func(op, p string, _ bool) error {
			if op == "replace" && p == manifestPath(2) {
				return fmt.Errorf("quota")
			}
			return nil
		})
		w.open()
		w.run()
		defer w.stop()
		pass(time.Hour)
		w.sealed(1)
		w.sealed(3)
		s := w.r.Stats()
		if s.Backlog["n1"] != 1 || s.Failures["path"] < 50 || s.Failures["path"] > 80 {
			t.Errorf("stats %+v", s)
		}
		if n := logs.Len(); int64(n) > s.Failures["path"] {
			t.Errorf("%d lines", n)
		}
		w.c.SetFault(nil)
		pass(maxPath)
		w.sealed(2)
	})
}

func TestAClusterThatComesBackIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c.Leave(begin(1).OpenPath, text(1, 10), 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 10)}}}
		w.c.SetFault(func(string, string, bool) error { return fmt.Errorf("strange") })
		w.open()
		w.run()
		defer w.stop()
		pass(10*time.Minute + 7*time.Second)
		w.c.SetFault(nil)
		w.health.Set(false, false)
		pass(time.Millisecond)
		w.health.Set(true, false)
		pass(time.Second)
		w.sealed(1)
	})
}

func TestOnlyOpenFilesOfOwnEarlierStartsAreFoundByListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass(10 * 24 * time.Hour)
		w.starts[0].Since = time.Now().Add(-9 * 24 * time.Hour) // died a day ago
		w.starts = append(w.starts, statedir.Start{Identity: catalog.Identity{Aggregator: "ag1", Epoch: 2, Start: 0x7f00000f}, Since: time.Now()})
		w.keeper.seen = time.Now().Add(-24 * time.Hour)
		w.keeper.living = []catalog.Partition{"dt=2000-01-02", "dt=2000-01-03/hr=07"}
		stranger := catalog.Identity{Aggregator: "ag2", Epoch: 1, Start: 0x7f000001}
		name := func(id catalog.Identity, n int) catalog.Name {
			return catalog.Name{Time: time.Now(), Identity: id, Number: uint32(n)}
		}
		shipped := name(dead, 7)
		shipped.Shipped, shipped.Segment = true, 3
		last := string(catalog.Hour.At(w.keeper.seen))
		touched := []string{
			"web/" + last + "/" + name(dead, 1).Open(),
			"web/" + string(catalog.Hour.At(w.keeper.seen.Add(-5*time.Hour))) + "/" + name(dead, 2).Open(),
			"web/dt=2000-01-03/hr=07/" + name(dead, 3).Open(), // its inventory had not ended
			"%5Fodd/dt=2000-01-02/" + name(dead, 4).Open(),
		}
		left := []string{
			"web/" + last + "/" + name(stranger, 1).Open(),
			"web/" + last + "/" + name(alive, 1).Open(),
			"web/" + last + "/" + shipped.Open(),
			"web/" + last + "/" + name(dead, 5).Sealed(),
			"web/" + last + "/20000101T0000Z-ag1-00000001.7f000001-00009.log.open",
			"web/" + last + "/_other.open",
			"_inventory/" + last + "/" + name(dead, 6).Open(),
			"web/" + name(dead, 8).Open(),
			"web/dt=2000-01-03/hr=09/" + name(dead, 9).Open(), // nobody says that it was there then
		}
		for _, p := range append(slices.Clone(touched), left...) {
			w.c.Leave(p, text(1, 10), 0)
		}
		w.repair()
		var want []string
		for _, p := range touched {
			final := strings.TrimSuffix(strings.Replace(p, "/_2000", "/2000", 1), ".open")
			want = append(want, final, path.Dir(final)+"/_"+path.Base(final)+".json")
		}
		want = append(want, left...)
		slices.Sort(want)
		if got := w.c.Paths(); !reflect.DeepEqual(got, want) {
			t.Errorf("there are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if s := w.r.Stats(); s.Repaired != 4 || !s.Listed["n1"] {
			t.Errorf("stats %+v", s)
		}
		raw, _ := w.c.Has("%5Fodd/dt=2000-01-02/" + name(dead, 4).Manifest())
		if m, err := catalog.DecodeManifest("test", raw); err != nil || m.Category != "_odd" || m.Chain != ownChain|4 {
			t.Errorf("manifest %+v, %v", m, err)
		}
		if len(w.keeper.ended) != 2 {
			t.Errorf("ended: %v", w.keeper.ended)
		}
	})
}

func TestAHashedFolderTellsItsCategoryByAManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		category := strings.Repeat("a long name ", 30)
		folder := catalog.Folder(category) + "/" + string(hour00)
		for _, with := range []bool{true, false} {
			w := newWorld(t)
			open := catalog.Name{Time: time.Now(), Identity: dead, Number: 1}
			other := catalog.Name{Time: time.Now(), Identity: dead, Number: 2}
			w.c.Leave(path.Join(folder, open.Open()), text(1, 3), 0)
			want := catalog.Text(catalog.Folder(category))
			if with {
				b := catalog.NewBuilder(catalog.Head{File: other.Sealed(), Identity: dead, Chain: 1, Category: catalog.Text(category), Partition: hour00})
				raw, err := b.Manifest("size", time.Now()).Encode()
				if err != nil {
					t.Fatal(err)
				}
				w.c.Put(path.Join(folder, other.Manifest()), raw)
				want = catalog.Text(category)
			}
			w.repair()
			raw, _ := w.c.Has(path.Join(folder, open.Manifest()))
			if m, err := catalog.DecodeManifest("test", raw); err != nil || m.Category != want {
				t.Errorf("category %q, %v; want %q", m.Category, err, want)
			}
		}
	})
}

// The state folder lost journal and inventories; the cluster's inventory tells
// where the file was torn.
func TestAFoundNameIsLookedUpInTheInventoryOnTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c.Leave(begin(1).OpenPath, text(1, 100), 0)
		b := catalog.NewBuilder(catalog.Head{File: path.Base(begin(1).Path), Identity: dead, Chain: 3, Category: "web", Partition: hour00})
		b.Sum(text(1, 60))
		l := line(1, 60)
		b.Add(&l)
		inv := catalog.Inventory{Version: 1, Aggregator: dead.Aggregator, Epoch: dead.Epoch, Start: dead.StartID(), Partition: hour00, Counter: 3,
			Items: []catalog.Item{{Category: "web", Chain: 3, Place: "n1", Path: begin(1).Path, State: catalog.StateTorn, Bytes: b.Bytes(), Manifest: b.Snapshot()}}}
		raw, err := inv.Encode()
		if err != nil {
			t.Fatal(err)
		}
		w.c.Put(catalog.InventoryPath(dead, hour00), raw)
		w.repair()
		if data, m := w.sealed(1); len(data) != 60*size1 || m.Chain != 3 || m.Ranges[0] != exact(1, 60) {
			t.Errorf("%d bytes, manifest %+v", len(data), m)
		}
	})
}

func TestAListingThatFailsIsRepeatedAndInventoriesEndOnlyAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c.Leave(begin(1).OpenPath, text(1, 10), 0)
		w.c.Slow = map[string]time.Duration{begin(1).OpenPath: time.Hour}
		var bad atomic.Bool
		bad.Store(true)
		w.c.SetFault(func(op, p string, _ bool) error {
			if op == "list" && p == "web/"+string(hour00) && bad.Load() {
				return fmt.Errorf("timeout")
			}
			return nil
		})
		w.open()
		w.run()
		defer w.stop()
		pass(10 * time.Minute)
		if s := w.r.Stats(); s.Listed["n1"] || len(w.keeper.ended) > 0 {
			t.Fatalf("stats %+v, ended %v", s, w.keeper.ended)
		}
		bad.Store(false)
		pass(maxAway)
		// The file is known, and not repaired yet: the inventory tells of it before it ends.
		if it, ok := w.keeper.item("n1", begin(1).Path); !ok || it.State != catalog.StateOpen {
			t.Errorf("the inventory has %+v", it)
		}
		if len(w.keeper.ended) != 1 {
			t.Errorf("ended %v", w.keeper.ended)
		}
		if err := w.r.Wait(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
		w.sealed(1)
	})
}

func TestFilesOnAClusterThatIsNotConfiguredStayInTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		core, logs := observer.New(zap.ErrorLevel)
		w.log = zap.New(core)
		for n := 1; n <= 3; n++ {
			b := begin(n)
			b.Cluster = "n3"
			w.states = append(w.states, journal.FileState{Begin: b})
		}
		w.repair()
		if got := w.r.Backlog(); got["n3"] != 3 || got["n1"] != 0 || logs.Len() != 1 {
			t.Errorf("backlog %v, %d lines", got, logs.Len())
		}
		if err := w.r.Wait(t.Context(), "n3"); err == nil {
			t.Error("a cluster that is not configured was waited for")
		}
	})
}

func TestItemsThatTheInventoriesTellLaterAreRepairedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		w.run()
		defer w.stop()
		pass(time.Minute)
		w.c.Leave("web/dt=1999-12-01/"+path.Base(begin(1).OpenPath), text(1, 10), 0)
		final := "web/dt=1999-12-01/" + path.Base(begin(1).Path)
		w.keeper.mu.Lock()
		w.keeper.found = []inventory.Found{{Identity: dead, Partition: "dt=1999-12-01", Item: catalog.Item{
			Category: "web", Chain: 3, Place: "n1", Path: final, State: catalog.StateOpen}}}
		w.keeper.mu.Unlock()
		pass(2 * adoptEvery)
		if _, ok := w.c.Has(final); !ok {
			t.Errorf("there are %v", w.c.Paths())
		}
	})
}
