package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

func TestWhatWasAcknowledgedStandsInASealedFileWithItsManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{Category: "web/errors", Chain: 3})
		p.append("one", "two")
		p.append("three\nin two lines", "four")
		p.append("")
		p.shut()
		files := r.sealedFiles("web/errors")
		p.wantAll(files)
		if len(files) != 1 {
			t.Fatalf("%d files", len(files))
		}
		m := files[0].manifest
		if want := "web%2Ferrors/dt=2000-01-01/hr=00/20000101T0010Z-ag1-0000002a.7f3c91d2-00001.log"; files[0].path != want {
			t.Errorf("path %s, want %s", files[0].path, want)
		}
		if len(m.Ranges) != 1 || m.Ranges[0].First != 1 || m.Ranges[0].Last != 5 || m.Reason != ReasonStop || m.Chain != 3 {
			t.Errorf("manifest %+v", m)
		}
		if len(m.LineFeeds) != 1 || m.LineFeeds[0] != (catalog.Span{Offset: 8, Length: 19}) {
			t.Errorf("messages with line feeds: %v", m.LineFeeds)
		}
		items := r.items.all()
		if len(items) != 1 || items[0].State != catalog.StateSealed || items[0].Messages != 5 || items[0].Manifest != nil || items[0].Path != files[0].path {
			t.Errorf("inventory %+v", items)
		}
		synctest.Wait()
		if s := r.root.Stats(); s.Open != 0 || s.Sealing != 0 || s.Sealed[ReasonStop] != 1 || s.Messages != 5 || s.Bytes != m.Bytes {
			t.Errorf("%+v", s)
		}
		if left := r.unfinished(r.disk); len(left) != 0 {
			t.Errorf("the journal still has %+v", left)
		}
	})
}

func TestABatchThatWasNotTriedLeavesTheFileIntact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		r.fault.Add(clustertest.Rule{Op: clustertest.OpAppend, Err: cluster.ErrNotTried, Times: 1})
		if err := p.try("a longer batch", "that goes", "elsewhere"); !errors.Is(err, cluster.ErrNotTried) {
			t.Fatal(err)
		}
		// A kill here must not let repair take the line for an incomplete batch
		// of a file that has more: the file ends where the line begins.
		state := r.unfinished(r.disk)[0]
		last := state.Lines[len(state.Lines)-1]
		if size := int64(len(r.content(state.Begin.OpenPath))); last.Offset != size || last.End <= size {
			t.Errorf("last line %+v of a file of %d bytes", last, size)
		}
		p.append("two")
		p.shut()
		files := r.sealedFiles("web")
		p.wantAll(files)
		if s := fmt.Sprint(files[0].manifest.Ranges); s != "[{1 1 0 4 false} {5 5 4 8 false}]" {
			t.Errorf("ranges %s", s)
		}
		if len(r.tears()) != 0 || r.spy.creates() != 1 {
			t.Errorf("%d torn, %d created", len(r.tears()), r.spy.creates())
		}
	})
}

func TestABatchThatRepairCouldTakeForAnOlderOneIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		r.fault.Add(clustertest.Rule{Op: clustertest.OpAppend, Err: cluster.ErrNotTried, Times: 1})
		_ = p.try("a longer batch", "that goes", "elsewhere")
		gate := make(chan struct{})
		r.jfs.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Sync || op.Kind == faultfs.Create {
				<-gate
			}
			return nil
		})
		if err := p.try("short"); !errors.Is(err, cluster.ErrNotTried) {
			t.Errorf("got %v", err)
		}
		p.append("in another file") // the journal is still away
		time.Sleep(time.Second)
		close(gate)
		p.shut()
		files := r.sealedFiles("web")
		p.wantAll(files)
		if len(files) != 2 || len(r.tears()) != 0 {
			t.Errorf("%d files, %d torn", len(files), len(r.tears()))
		}
	})
}

func TestATearIsInTheJournalBeforeTheErrorIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one", "two")
		r.fault.Add(clustertest.Rule{Op: clustertest.OpAppend, Bytes: 3, Times: 1})
		err := p.try("lost", "batch")
		if !errors.Is(err, cluster.ErrUnavailable) {
			t.Fatal(err)
		}
		state := r.unfinished(r.disk.Crash(nil)) // only what was synced
		if len(state) != 1 || state[0].Torn == nil || *state[0].Torn != 8 {
			t.Fatalf("after a power cut the journal has %+v", state)
		}
		synctest.Wait()
		tears := r.tears()
		if len(tears) != 1 {
			t.Fatalf("%d files handed to repair", len(tears))
		}
		torn := tears[0]
		if torn.L != 8 || torn.Cluster != "n1" || torn.Manifest.Bytes != 8 || torn.Manifest.Messages != 2 || len(torn.Lines) != 1 || torn.Lines[0].End != 8 {
			t.Errorf("torn %+v", torn)
		}
		if got := string(r.content(torn.OpenPath)); !strings.HasPrefix(got, "one\ntwo\n") || len(got) != 11 {
			t.Errorf("the file holds %q", got)
		}
		if items := r.items.all(); len(items) != 1 || items[0].State != catalog.StateTorn || items[0].Bytes != 8 || items[0].Manifest == nil {
			t.Errorf("inventory %+v", items)
		}
		p.append("three") // in a new file
		if torn.Begin.Path == r.items.all()[1].Path {
			t.Error("the torn file was written to")
		}
		torn.Done()
		synctest.Wait()
		if left := r.unfinished(r.disk); len(left) != 1 {
			t.Errorf("after repair the journal has %+v", left)
		}
	})
}

func TestATearWithADeadJournalIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		gate := make(chan struct{})
		defer close(gate)
		r.jfs.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Sync || op.Kind == faultfs.Create {
				<-gate
			}
			return nil
		})
		r.fault.Add(clustertest.Rule{Op: clustertest.OpAppend, Hang: true, Times: 1})
		start := time.Now()
		if err := p.try("lost"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > p.budget+200*time.Millisecond {
			t.Errorf("returned after %v", d)
		}
		p.append("two") // goes on without a journal
		synctest.Wait()
		if n := len(r.tears()); n != 1 {
			t.Errorf("%d files handed to repair", n)
		}
	})
}

func TestOpeningThatTakesLongerThanTheBudgetServesTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.spy.delay.Store(int64(3 * time.Second))
		p := r.producer(ChainSpec{})
		start := time.Now()
		if err := p.try("one"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if d := time.Since(start); d != p.budget {
			t.Errorf("waited %v", d)
		}
		p.append("two")
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("stored after %v", d)
		}
		if n := r.spy.creates(); n != 1 {
			t.Errorf("%d files created", n)
		}
	})
}

func TestABatchThatWaitsOvertakesOpeningsAheadOfNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Openers = 1 })
		r.spy.delay.Store(int64(100 * time.Millisecond))
		var all []*producer
		for n := range 10 {
			p := r.producer(ChainSpec{Category: fmt.Sprint("c", n)})
			p.chain.Warm(p.batch("x").Partition)
			all = append(all, p)
		}
		start := time.Now()
		all[9].append("asked for ahead too")
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("waited %v", d)
		}
		late := r.producer(ChainSpec{Category: "late"})
		start = time.Now()
		late.append("new")
		if d := time.Since(start); d > 200*time.Millisecond {
			t.Errorf("a new chain waited %v", d)
		}
	})
}

func TestAChainThatRestsWhileItsFileIsOpenedLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.spy.delay.Store(int64(3 * time.Second))
		p := r.producer(ChainSpec{})
		_ = p.try("one")
		p.chain.Rest()
		time.Sleep(10 * time.Second)
		if files := r.walk("web"); len(files) != 0 || !r.root.Idle() {
			t.Errorf("left: %v, %+v", files, r.root.Stats())
		}
		if left := r.unfinished(r.disk); len(left) != 0 {
			t.Errorf("the journal has %+v", left)
		}
		if items := r.items.all(); len(items) != 0 {
			t.Errorf("the inventory has %+v", items)
		}
	})
}

func TestWarmOpensAheadAndRestSealsWithTheReason(t *testing.T) {
	for _, c := range []struct {
		drained bool
		want    string
	}{{false, ReasonFailover}, {true, ReasonDrain}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.producer(ChainSpec{})
			part := p.batch("x").Partition
			if p.chain.Warm(part) {
				t.Error("warm without a file")
			}
			time.Sleep(time.Second)
			if !p.chain.Warm(part) {
				t.Error("not warm after a second")
			}
			start := time.Now()
			p.append("one")
			if time.Since(start) != 0 || r.spy.creates() != 1 {
				t.Errorf("the append took %v, %d files created", time.Since(start), r.spy.creates())
			}
			r.health.set(true, true, c.drained)
			p.chain.Rest()
			time.Sleep(time.Second)
			if got := reasons(r.sealedFiles("web")); len(got) != 1 || got[0] != c.want {
				t.Errorf("sealed for %v, want %s", got, c.want)
			}
			if p.chain.Warm(part) != false {
				t.Error("warm after the rest")
			}
		})
	}
}

func TestAClusterThatMayNotBeBegunOnIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		r.health.set(false, false, false)
		p.append("two") // an open writer goes on
		p.chain.Rest()
		start := time.Now()
		if err := p.try("three"); !errors.Is(err, cluster.ErrHeld) || time.Since(start) != 0 {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if n := r.spy.creates(); n != 1 {
			t.Errorf("%d files created", n)
		}
	})
}

func TestWhatAFailedCreateLeftBehindIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.fault.Add(clustertest.Rule{Op: clustertest.OpCreate, Do: true, Times: 1}) // only the answer is lost
		p := r.producer(ChainSpec{})
		if err := p.try("one"); !errors.Is(err, cluster.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if files := r.walk("web"); len(files) != 0 || !r.root.Idle() {
			t.Errorf("left: %v, %+v", files, r.root.Stats())
		}
		p.append("two")
		p.shut()
		p.wantAll(r.sealedFiles("web"))
	})
}

func TestAClosedChainIsBrokenAndClosesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		for range 2 {
			if err := p.chain.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := p.try("two"); !errors.Is(err, store.ErrBroken) {
			t.Errorf("got %v", err)
		}
		if p.chain.Warm(p.batch("x").Partition) || p.chain.Tick(t.Context(), time.Now()) != nil {
			t.Error("a closed chain does things")
		}
	})
}

func TestAnErrorOfThePathIsReturnedAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.fault.Add(clustertest.Rule{Op: clustertest.OpCreate, Err: fs.ErrPermission})
		p := r.producer(ChainSpec{})
		err := p.try("one")
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), `"web"`) || !strings.Contains(err.Error(), "n1") {
			t.Errorf("got %v", err)
		}
	})
}
