package repair

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"twinscribe/store/catalog"
	"twinscribe/store/journal"
)

// leaveMany leaves a file of each kind.
func leaveMany(w *world) {
	at := func(n int) int64 { return int64(n * size1) }
	w.c.Leave(begin(1).OpenPath, text(1, 100), int(at(100))) // torn
	w.c.Leave(begin(2).OpenPath, text(1, 50), 0)             // not recovered: its length is not known
	w.c.Put(begin(3).Path, text(1, 10))                      // sealed, and the journal does not know
	w.c.Leave(begin(5).OpenPath, text(1, 7), int(at(7)))     // only listing tells
	w.c.Leave(begin(6).OpenPath, nil, 0)                     // nothing in it
	w.states = []journal.FileState{
		{Begin: begin(1), Lines: []catalog.Line{line(1, 60), line(61, 100)}, Torn: length(at(60))},
		{Begin: begin(2), Lines: []catalog.Line{line(1, 50)}},
		{Begin: begin(3), Lines: []catalog.Line{line(1, 10)}},
		{Begin: begin(4), Lines: []catalog.Line{line(1, 30), line(31, 40)}}, // gone
		{Begin: begin(6)},
	}
}

func actions(list []Report) map[string]Report {
	m := make(map[string]Report)
	for _, r := range list {
		m[r.Path] = r
	}
	return m
}

func TestADryRunTellsWhatWouldBeDoneAndDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		leaveMany(w)
		before := w.c.Paths()
		w.open()
		var got []Report
		err := w.r.RepairAll(t.Context(), true, func(r Report) { got = append(got, r) })
		if err == nil || !strings.Contains(err.Error(), "1 files are not repaired") {
			t.Errorf("the lost file is not in the error: %v", err)
		}
		at := func(n int) int64 { return int64(n * size1) }
		want := map[string]Report{
			begin(1).Path: {Action: Sealed, Bytes: at(60), Messages: 60, Cut: at(40)},
			begin(2).Path: {Action: Recover},
			begin(3).Path: {Action: Present, Bytes: at(10)},
			begin(4).Path: {Action: Lost, Missing: at(30)},
			begin(5).Path: {Action: Sealed, Bytes: at(7), Messages: 7, Counted: 7},
			begin(6).Path: {Action: Removed},
		}
		for p, r := range want {
			r.Cluster, r.Path = "n1", p
			want[p] = r
		}
		if fmt.Sprint(actions(got)) != fmt.Sprint(want) {
			t.Errorf("reports\n%+v\nwant\n%+v", actions(got), want)
		}
		if !reflect.DeepEqual(w.c.Paths(), before) {
			t.Errorf("files %v became %v", before, w.c.Paths())
		}
		for _, op := range []string{"recover", "truncate", "rename", "replace", "remove", "create"} {
			if n := w.c.Calls(op); n != 0 {
				t.Errorf("%d calls to %s", n, op)
			}
		}
		if len(w.keeper.items)+len(w.keeper.ended) != 0 {
			t.Error("the inventories were changed")
		}
	})
}

func TestRepairByHandDoesAllAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		leaveMany(w)
		w.open()
		var got []Report
		err := w.r.RepairAll(t.Context(), false, func(r Report) { got = append(got, r) })
		if err == nil || !strings.Contains(err.Error(), "1 files are not repaired") {
			t.Errorf("error %v", err)
		}
		a := actions(got)
		for n, want := range map[int]Action{1: Sealed, 2: Sealed, 3: Present, 4: Lost, 5: Sealed, 6: Removed} {
			if a[begin(n).Path].Action != want {
				t.Errorf("file %d: %+v, want %s", n, a[begin(n).Path], want)
			}
		}
		for _, n := range []int{1, 2, 3, 5} {
			w.sealed(n)
		}
		// A second time there is nothing to do but to tell of what is lost.
		w.open()
		got = nil
		if err := w.r.RepairAll(t.Context(), false, func(r Report) { got = append(got, r) }); err == nil || len(got) != 5 {
			t.Errorf("again: %v, %+v", err, got)
		}
	})
}

func TestRepairByHandGivesUpAClusterThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		leaveMany(w)
		w.c.SetDown(true)
		w.open()
		var got []Report
		err := w.r.RepairAll(t.Context(), false, func(r Report) { got = append(got, r) })
		if err == nil || len(got) == 0 || got[0].Action != Failed || got[0].Err == nil {
			t.Errorf("error %v, reports %+v", err, got)
		}
		w.health.Set(false, false)
		w.open()
		for _, dry := range []bool{true, false} {
			err = w.r.RepairAll(t.Context(), dry, func(r Report) { t.Errorf("report %+v", r) })
			if err == nil || !strings.Contains(err.Error(), "n1 cannot be used now (away or drained): 5 known files await repair") {
				t.Errorf("dry %v: error %v", dry, err)
			}
		}
	})
}
