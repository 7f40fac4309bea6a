package inventory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

func TestAChangeIsOnTheDiskAndOnBothClustersWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		pass(5 * time.Second)
		p := hour(time.Now())
		before := w.on(0, w.id, p)
		if before == nil || len(before.Items) != 0 || before.Counter != 1 {
			t.Fatalf("an hour without messages has %+v, want an empty inventory", before)
		}
		for n := 1; n <= 10; n++ {
			w.k.Put(p, file(n, "n1", catalog.StateOpen))
		}
		w.k.Put(p, file(3, "n1", catalog.StateSealed))
		w.k.Drop(p, "n1", file(4, "", "").Path)
		pass(writeEvery)
		for i := range w.c {
			inv := w.on(i, w.id, p)
			if inv.Counter != 2 {
				t.Errorf("n%d: counter %d after one writing, want 2", i+1, inv.Counter)
			}
			s := states(inv)
			if len(s) != 9 || s["n1/"+file(3, "", "").Path] != catalog.StateSealed || s["n1/"+file(4, "", "").Path] != "" {
				t.Errorf("n%d holds %v", i+1, s)
			}
			if inv.Aggregator != "ag1" || inv.Epoch != 1 || inv.Start != "7f000001" || inv.Partition != p || inv.Version != catalog.Version {
				t.Errorf("n%d: head %+v", i+1, inv)
			}
		}
		if got := w.localCopy(w.id, p); got == nil || got.Counter != 2 {
			t.Errorf("local copy %+v", got)
		}
		got, ok := w.k.Get(w.id, p)
		if !ok || !reflect.DeepEqual(got.Items, w.on(0, w.id, p).Items) {
			t.Errorf("Get gives %v, the cluster %v", got.Items, w.on(0, w.id, p).Items)
		}
		pass(time.Minute)
		if inv := w.on(0, w.id, p); inv.Counter != 2 {
			t.Errorf("counter %d without a change", inv.Counter)
		}
		w.k.Put(p, file(3, "n1", catalog.StateSealed))
		pass(time.Minute)
		if inv := w.on(0, w.id, p); inv.Counter != 2 {
			t.Errorf("counter %d after an equal Put", inv.Counter)
		}
	})
}

func TestPartsOfOneSegmentAreItemsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		p := hour(time.Now())
		for chain, category := range map[uint32]catalog.Text{1: "a", 2: "b", 3: "\xff"} {
			w.k.Put(p, catalog.Item{Category: category, Chain: chain, Place: "buffer", Path: "seg1", State: catalog.StateSegment})
		}
		w.k.Put(p, catalog.Item{Category: "a", Chain: 1, Place: "buffer", Path: "seg2", State: catalog.StateSegment})
		pass(writeEvery)
		if n := len(w.on(1, w.id, p).Items); n != 4 {
			t.Fatalf("%d items, want 4", n)
		}
		w.k.Drop(p, "buffer", "seg1")
		pass(writeEvery)
		if inv := w.on(1, w.id, p); len(inv.Items) != 1 || inv.Items[0].Path != "seg2" {
			t.Fatalf("items %+v, want that of seg2", inv.Items)
		}
	})
}

func TestAnItemThatContradictsItselfDoesNotSpoilTheInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		core, logs := observer.New(zap.ErrorLevel)
		w.log = zap.New(core)
		w.start()
		defer w.stop()
		p := hour(time.Now())
		bad := file(1, "n1", catalog.StateOpen)
		bad.Ranges[0].First = 0
		w.k.Put(p, bad)
		w.k.Put("dt=today", file(1, "n1", catalog.StateOpen))
		w.k.Put(p, file(2, "n1", catalog.StateOpen))
		pass(writeEvery)
		if s := states(w.on(0, w.id, p)); len(s) != 1 {
			t.Errorf("n1 holds %v", s)
		}
		if s := w.k.Stats(); s.Refused != 2 || logs.Len() != 2 {
			t.Errorf("%d refused, %d lines", s.Refused, logs.Len())
		}
	})
}

func TestAClusterThatWasAwayIsCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.health[1].Set(false, false)
		w.c[1].SetDown(true)
		w.start()
		defer w.stop()
		first := hour(time.Now())
		w.k.Put(first, file(1, "n1", catalog.StateSealed))
		pass(3 * time.Hour)
		if got := w.c[1].Paths(); len(got) != 0 {
			t.Fatalf("the cluster that is away got %v", got)
		}
		// What is settled is not kept in memory meanwhile.
		if s := w.k.Stats(); s.Items != 0 || s.Behind["n2"] < 4 {
			t.Fatalf("stats %+v", s)
		}
		w.c[1].SetDown(false)
		w.health[1].Set(true, false)
		pass(5 * time.Second)
		for _, path := range w.c[0].Paths() {
			a, _ := w.c[0].Has(path)
			b, _ := w.c[1].Has(path)
			if strings.HasPrefix(path, catalog.InventoryFolder) && string(a) != string(b) {
				t.Errorf("%s differs:\n%s\n%s", path, a, b)
			}
		}
		if s := states(w.on(1, w.id, first)); len(s) != 1 {
			t.Fatalf("n2 holds %v", s)
		}
		if m := w.member(1, w.id); m == nil {
			t.Fatal("no member file on n2")
		}
	})
}

func TestADrainedClusterIsNotWrittenToUnlessItsDrainIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.health[0].Set(true, true)
		var draining atomic.Bool
		w.targets[0].Draining = draining.Load
		w.start()
		defer w.stop()
		pass(time.Minute)
		if got := w.c[0].Paths(); len(got) != 0 {
			t.Fatalf("drained, and it got %v", got)
		}
		draining.Store(true)
		pass(3 * time.Second)
		if got := w.c[0].Paths(); len(got) == 0 {
			t.Fatal("its drain is under way, and it got nothing")
		}
	})
}

func TestAClusterIsNotBehindBecauseOfFilesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		p := hour(time.Now())
		pass(5 * time.Second)
		if b := w.k.Stats().Behind; len(b) != 0 {
			t.Fatalf("behind: %v", b)
		}
		w.k.Put(p, file(1, "n2", catalog.StateOpen))
		if b := w.k.Stats().Behind; b["n1"] != 0 || b["n2"] != 1 {
			t.Errorf("behind after a change on n2: %v", b)
		}
		pass(writeEvery)
		w.k.Drop(p, "n2", file(1, "", "").Path)
		w.k.Put(p, file(2, "n1", catalog.StateOpen))
		if b := w.k.Stats().Behind; b["n1"] != 1 || b["n2"] != 1 {
			t.Errorf("behind after a change on both: %v", b)
		}
		w.c[0].SetDown(true)
		pass(writeEvery)
		if b := w.k.Stats().Behind; b["n1"] != 1 || b["n2"] != 0 {
			t.Errorf("behind with n1 away: %v", b)
		}
	})
}

func TestAClusterThatHangsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c[0].CallDelay = time.Hour
		w.start()
		defer w.stop()
		p := hour(time.Now())
		w.k.Put(p, file(1, "n2", catalog.StateOpen))
		pass(writeEvery + localHead)
		if s := states(w.on(1, w.id, p)); len(s) != 1 {
			t.Fatalf("n2 holds %v", s)
		}
	})
}

// stuckFS fails everything that writes.
type stuckFS struct {
	vfs.FS
	bad bool
}

func (f *stuckFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if f.bad && flag&os.O_CREATE != 0 {
		return nil, errors.New("no space")
	}
	return f.FS.OpenFile(name, flag, perm)
}

func TestALocalDiskThatFailsDoesNotStopTheClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		core, logs := observer.New(zap.ErrorLevel)
		w.fs, w.log = &stuckFS{w.fs, true}, zap.New(core)
		w.start()
		defer w.stop()
		p := hour(time.Now())
		for n := range 10 {
			w.k.Put(p, file(n+1, "n1", catalog.StateOpen))
			pass(10 * time.Second)
		}
		if s := states(w.on(0, w.id, p)); len(s) != 10 {
			t.Fatalf("n1 holds %v", s)
		}
		if s := w.k.Stats(); s.LocalFailed < 10 || logs.Len() != 1 {
			t.Fatalf("%d failures, %d lines; want each counted and one line", s.LocalFailed, logs.Len())
		}
	})
}

func TestAPartitionEndsWhenNoFileOfItIsOpenAndNoChainIsInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var gone atomic.Bool
		w.left = func(catalog.Partition) bool { return gone.Load() }
		w.start()
		defer w.stop()
		p := hour(time.Now())
		end, _ := p.End()
		w.k.Put(p, file(1, "n1", catalog.StateOpen))
		pass(time.Until(end.Add(2 * time.Minute)))
		if inv := w.on(0, w.id, p); inv.Ended {
			t.Fatal("it ended with an open file")
		}
		w.k.Put(p, file(1, "n1", catalog.StateSealed))
		pass(time.Minute)
		if inv := w.on(0, w.id, p); inv.Ended {
			t.Fatal("it ended with a chain that may still write")
		}
		gone.Store(true)
		pass(writeEvery)
		if inv := w.on(0, w.id, p); !inv.Ended {
			t.Fatal("it did not end")
		}
		if inv := w.on(0, w.id, hour(end)); inv == nil || inv.Ended {
			t.Fatalf("the next hour has %+v", inv)
		}
		if inv := w.on(0, w.id, day(end)); inv == nil || inv.Ended {
			t.Fatalf("the day has %+v", inv)
		}
		// A file that is begun in it after all takes the end back.
		w.k.Put(p, file(2, "n1", catalog.StateOpen))
		pass(2 * writeEvery)
		if inv := w.on(0, w.id, p); inv.Ended || len(inv.Items) != 2 {
			t.Fatalf("a late file: %+v", inv)
		}
	})
}

func TestEveryHourThatAStartLivedInHasAnInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		pass(22*time.Hour + 10*time.Second) // shortly after an hour: a chain may still be in the one before
		began := time.Now()
		w.start()
		defer w.stop()
		pass(4*time.Hour + time.Minute)
		for at := began.Add(-time.Hour); !at.After(time.Now()); at = at.Add(time.Hour) {
			if inv := w.on(0, w.id, hour(at)); inv == nil {
				t.Errorf("no inventory for %s", hour(at))
			} else if ended := hour(at) != hour(time.Now()); inv.Ended != ended {
				t.Errorf("%s: ended %v", hour(at), inv.Ended)
			}
			if w.on(0, w.id, day(at)) == nil {
				t.Errorf("no inventory for %s", day(at))
			}
		}
		if s := w.k.Stats(); s.Inventories > 3 {
			t.Errorf("%d inventories are still in memory", s.Inventories)
		}
		if names := w.k.localFiles(w.id); len(names) > 4 {
			t.Errorf("local copies that nobody needs stay: %v", names)
		}
		if d := w.on(0, w.id, day(began)); !d.Ended {
			t.Error("the first day has not ended")
		}
	})
}

func TestFlushWaitsForWhatCanBeReachedAndNamesWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c[0].CallDelay = 300 * time.Millisecond
		w.start()
		defer w.stop()
		pass(5 * time.Second)
		p := hour(time.Now())
		w.k.Put(p, file(1, "n1", catalog.StateSealed))
		w.k.End(w.id)
		if err := w.k.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range w.c {
			if inv := w.on(i, w.id, p); !inv.Ended || len(inv.Items) != 1 {
				t.Errorf("n%d after the flush: %+v", i+1, inv)
			}
			if m := w.member(i, w.id); !m.Ended {
				t.Errorf("n%d: the member has not ended", i+1)
			}
		}
		w.c[0].SetDown(true)
		w.k.Put(p, file(2, "n1", catalog.StateOpen))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := w.k.Flush(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "n1: 1 inventories") {
			t.Fatalf("flush: %v", err)
		}
		w.health[0].Set(false, false)
		if err := w.k.Flush(t.Context()); err != nil {
			t.Fatalf("a cluster that cannot be reached is not waited for: %v", err)
		}
		if m := w.member(1, w.id); m.Ended {
			t.Fatal("the member has ended with an open file")
		}
	})
}

func TestFlushDoesNotRestAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop()
		w.c[0].SetDown(true)
		pass(5 * time.Minute)
		w.c[0].SetDown(false)
		began := time.Now()
		if err := w.k.Flush(t.Context()); err != nil || time.Since(began) > 2*writeEvery {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestAFailedWriteIsTriedAgainAndNotTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		core, logs := observer.New(zap.WarnLevel)
		w.log = zap.New(core)
		w.start()
		defer w.stop()
		pass(5 * time.Second)
		p := hour(time.Now())
		quota := errors.New("quota")
		w.c[0].SetFault(func(op, path string, _ bool) error {
			if op == "replace" && strings.HasPrefix(path, catalog.InventoryFolder) {
				return quota
			}
			return nil
		})
		w.k.Put(p, file(1, "n1", catalog.StateOpen))
		pass(10 * time.Minute)
		if n := logs.Len(); n < 5 || n > 40 {
			t.Errorf("%d lines in ten minutes", n)
		}
		if s := states(w.on(1, w.id, p)); len(s) != 1 {
			t.Errorf("n2 holds %v", s)
		}
		if m := w.member(0, w.id); time.Since(time.Unix(0, m.Touched)) > 2*touchEvery {
			t.Errorf("the member file of n1 was touched %v ago: an error about one path stopped another", time.Since(time.Unix(0, m.Touched)))
		}
		w.c[0].SetFault(nil)
		pass(maxBackoff + writeEvery)
		if s := states(w.on(0, w.id, p)); len(s) != 1 {
			t.Errorf("n1 holds %v", s)
		}
	})
}
