package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
)

func TestTheNextStartUpdatesAndEndsTheInventoriesOfADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		dead, p := w.id, hour(time.Now())
		w.k.Put(p, file(1, "n1", catalog.StateOpen))
		w.k.Put(p, file(2, "n1", catalog.StateTorn))
		w.k.Put(p, file(3, "n2", catalog.StateSealed))
		pass(40 * time.Second)
		w.stop()
		counter := w.on(0, dead, p).Counter

		w.start()
		defer func() { w.stop() }()
		found := w.k.Unsettled("n1")
		if len(found) != 2 || len(w.k.Unsettled("n2")) != 0 || found[0].Identity != dead || found[0].Partition != p {
			t.Fatalf("unsettled: %+v", found)
		}
		if living := w.k.Living(dead); len(living) < 2 {
			t.Fatalf("living partitions %v, want the hour and the day", living)
		}
		if seen := w.k.LastSeen(dead); time.Since(seen) > time.Minute {
			t.Fatalf("last seen %v ago", time.Since(seen))
		}
		pass(5 * time.Second)
		if inv := w.on(0, dead, p); inv.Ended || inv.Counter != counter {
			t.Fatalf("it was changed without a reason: %+v", inv)
		}
		w.k.PutAs(dead, p, file(1, "n1", catalog.StateSealed))
		w.k.DropAs(dead, p, "n1", file(2, "", "").Path)
		w.k.PutAs(dead, p, file(4, "n2", catalog.StateTorn))
		w.k.End(dead)
		pass(5 * time.Second)
		for i := range w.c {
			inv := w.on(i, dead, p)
			if !inv.Ended || inv.Counter != counter+1 || len(inv.Items) != 3 {
				t.Errorf("n%d holds %+v", i+1, inv)
			}
			if m := w.member(i, dead); m.Ended || m.Host != "web1" {
				t.Errorf("n%d: member %+v with a torn file", i+1, m)
			}
		}
		if len(w.gone) != 0 {
			t.Fatal("a start with a torn file was forgotten")
		}
		w.k.PutAs(dead, p, file(4, "n2", catalog.StateSealed))
		pass(10 * time.Second)
		if m := w.member(1, dead); !m.Ended {
			t.Error("the member has not ended")
		}
		if len(w.gone) != 1 || w.gone[0] != dead {
			t.Errorf("forgotten: %v", w.gone)
		}
		if _, err := os.Stat(w.k.localFolder(dead)); err == nil {
			t.Error("the local copies stay")
		}
	})
}

func TestASegmentKeepsItsInventoryUntilItIsShipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		p := hour(time.Now())
		dead := w.id
		seg := catalog.Item{Category: "web", Chain: 1, Place: "buffer", Path: "seg1", State: catalog.StateSegment}
		w.k.Put(p, seg)
		pass(5 * time.Second)
		w.stop()
		w.start()
		defer func() { w.stop() }()
		w.k.End(dead)
		pass(time.Hour)
		if len(w.gone) != 0 {
			t.Fatal("a start with a segment was forgotten")
		}
		if m := w.member(0, dead); !m.Ended {
			t.Error("a segment is no open file: the member has ended")
		}
		seg.State = catalog.StateShipped
		w.k.PutAs(dead, p, seg)
		pass(10 * time.Second)
		if s := states(w.on(1, dead, p)); s["buffer/seg1"] != catalog.StateShipped {
			t.Errorf("n2 holds %v", s)
		}
		if len(w.gone) != 1 {
			t.Error("the start was not forgotten")
		}
	})
}

func TestAPartitionThatWasLetGoIsReadAgainForALateItem(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if away {
				w.health[1].Set(false, false) // so that the local copy stays
			}
			w.start()
			defer w.stop()
			p := hour(time.Now())
			w.k.Put(p, file(1, "n1", catalog.StateSealed))
			pass(2 * time.Hour)
			if _, ok := w.k.Get(w.id, p); ok {
				t.Fatal("it is still in memory")
			}
			counter := w.on(0, w.id, p).Counter
			w.k.Put(p, file(2, "n1", catalog.StateShipped))
			w.k.Drop(p, "n1", file(9, "", "").Path)
			pass(10 * time.Second)
			inv := w.on(0, w.id, p)
			if inv.Counter != counter+1 || len(inv.Items) != 2 || !inv.Ended {
				t.Fatalf("away %v: %+v", away, inv)
			}
		})
	}
}

func TestWithoutLocalCopiesTheHighestCounterOnAnyClusterCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		dead, p := w.id, hour(time.Now())
		w.k.Put(p, file(1, "n1", catalog.StateOpen))
		pass(5 * time.Second)
		w.c[0].SetDown(true) // n1 misses the second file
		w.k.Put(p, file(2, "n2", catalog.StateOpen))
		pass(5 * time.Second)
		w.stop()
		if err := os.RemoveAll(w.dir); err != nil {
			t.Fatal(err)
		}
		best := w.on(1, dead, p).Counter
		// Now n2, which knows best, is away.
		w.c[0].SetDown(false)
		w.c[1].SetDown(true)
		w.health[1].Set(false, false)
		w.start()
		defer func() { w.stop() }()
		pass(5 * time.Second)
		if found := w.k.Unsettled("n1"); len(found) != 1 {
			t.Fatalf("unsettled on n1: %+v", found)
		}
		w.k.PutAs(dead, p, file(1, "n1", catalog.StateSealed))
		pass(5 * time.Second)
		w.c[1].SetDown(false)
		w.health[1].Set(true, false)
		pass(10 * time.Second)
		for i := range w.c {
			s := states(w.on(i, dead, p))
			if len(s) != 2 || s["n1/"+file(1, "", "").Path] != catalog.StateSealed || s["n2/"+file(2, "", "").Path] != catalog.StateOpen {
				t.Errorf("n%d holds %v", i+1, s)
			}
		}
		if a, b := w.on(0, dead, p).Counter, w.on(1, dead, p).Counter; a != b || a <= best {
			t.Errorf("counters %d and %d", a, b)
		}
	})
}

func TestAStartThatDiedAtOnceStillHasAnInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass(time.Minute)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		dead, p := w.id, hour(time.Now())
		w.start()
		defer func() { w.stop() }()
		w.k.End(dead)
		pass(10 * time.Second)
		if inv := w.on(0, dead, p); inv == nil || !inv.Ended || len(inv.Items) != 0 {
			t.Fatalf("inventory %+v", inv)
		}
		if m := w.member(1, dead); m == nil || !m.Ended {
			t.Fatalf("member %+v", m)
		}
		if len(w.gone) != 1 {
			t.Fatalf("forgotten: %v", w.gone)
		}
	})
}

func TestADamagedLocalCopyIsReplacedFromTheClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		dead, p := w.id, hour(time.Now())
		w.k.Put(p, file(1, "n1", catalog.StateTorn))
		pass(5 * time.Second)
		w.stop()
		name := w.k.localPath(bookID{dead, p})
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, raw[:len(raw)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		w.start()
		defer func() { w.stop() }()
		pass(5 * time.Second)
		if found := w.k.Unsettled("n1"); len(found) != 1 {
			t.Fatalf("unsettled: %+v", found)
		}
		if got := w.localCopy(dead, p); got == nil || len(got.Items) != 1 {
			t.Fatalf("local copy %+v", got)
		}
	})
}

func TestACopyUnderAnotherStartsNameIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		first, p := w.id, hour(time.Now())
		w.k.Put(p, file(1, "n1", catalog.StateTorn))
		pass(5 * time.Second)
		w.stop()
		w.start()
		second := w.id
		pass(5 * time.Second)
		w.stop()
		from, to := w.k.localFolder(first), w.k.localFolder(second)
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		w.start()
		defer w.stop()
		if m := w.k.members[second]; m == nil || m.file.Start != second.StartID() {
			t.Errorf("member %+v", m)
		}
		pass(5 * time.Second)
		if found := w.k.Unsettled("n1"); len(found) != 1 || found[0].Identity != first {
			t.Errorf("unsettled: %+v", found)
		}
	})
}

func TestANewerFormatIsRefusedByNameAndLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		dead, p := w.id, hour(time.Now())
		w.k.Put(p, file(1, "n1", catalog.StateTorn))
		pass(5 * time.Second)
		w.stop()
		newer := []byte(`{"version":3,"counter":"many","items":{"no":"list"}}`)
		path := catalog.InventoryPath(dead, p)
		w.c[0].Put(path, newer)
		w.start()
		w.k.PutAs(dead, p, file(1, "n1", catalog.StateSealed))
		pass(time.Minute)
		if got, _ := w.c[0].Has(path); string(got) != string(newer) {
			t.Errorf("the newer copy was replaced by %s", got)
		}
		if s := states(w.on(1, dead, p)); s["n1/"+file(1, "", "").Path] != catalog.StateSealed {
			t.Errorf("n2 holds %v", s)
		}
		w.stop()
		for _, name := range []string{w.k.localPath(bookID{dead, p}), filepath.Join(w.k.localFolder(dead), memberFile)} {
			old, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, newer, 0o600); err != nil {
				t.Fatal(err)
			}
			err = w.open()
			if !errors.Is(err, catalog.ErrNewer) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "version 3") {
				t.Errorf("%s: %v", name, err)
			}
			if err := os.WriteFile(name, old, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}
