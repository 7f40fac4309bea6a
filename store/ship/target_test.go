package ship

import (
	"testing"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/layout"
)

func TestTheSameHoldsUnderTheNamesOfAScribe(t *testing.T) {
	scribesNames = true
	t.Cleanup(func() { scribesNames = false })
	for name, test := range map[string]func(*testing.T){
		"kill":        TestAKillAtEachStepLeavesEveryMessageOnce,
		"lost answer": TestALostAnswerIsSettledByLooking,
		"many":        TestManyAndLargePartsAreShippedAtOnce,
		"lost state":  TestAfterALostStateFolderEveryClusterIsAsked,
	} {
		t.Run(name, test)
	}
}

// While a part is shipped somebody else takes the name that it was to have.
func TestAFileOfAScribeIsNeverReplaced(t *testing.T) {
	scribesNames = true
	t.Cleanup(func() { scribesNames = false })
	for _, op := range []clustertest.Op{clustertest.OpReplace, clustertest.OpRename} {
		w := testWorld(t)
		w.put(buffer.Spill, "web", 1, hour10, 1, 3)
		w.seal(buffer.Spill)
		_, want := w.final()
		target := (&layout.Layout{Folder: scribes + "web", Base: "base"}).Target(catalog.Name{Time: now}, hour10)
		theirs := "\x01a Scribe's"
		c := w.clusters["n1"]
		end := c.Add(clustertest.Rule{Op: op, Times: 1})
		if _, _, err := New(w.options).Ship(t.Context(), w.segments(), nil); err == nil {
			t.Fatal("no error")
		}
		end()
		w.must(c.Replace(t.Context(), layout.Outside(target.Path(0)), []byte(theirs)))
		_, _, err := New(w.options).Ship(t.Context(), w.segments(), nil)
		w.must(err)
		if got := w.content("/n1/" + target.Path(0)); got != theirs {
			t.Errorf("the file of a Scribe holds %q", got)
		}
		w.must(c.Remove(t.Context(), layout.Outside(target.Path(0))))
		w.wantOnce(want)
		w.wantTidy()
		if it := w.keeper.one(catalog.StateSealed); it.At != target.Path(1) {
			t.Errorf("inventory %+v", it)
		}
	}
}

// one is the item of a state.
func (k *keeper) one(state string) (item catalog.Item) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, it := range k.items {
		if it.State == state {
			item = it
		}
	}
	return item
}
