package reader

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/store/catalog"
)

func withScribesNames(t *testing.T) {
	scribesNames = true
	t.Cleanup(func() { scribesNames = false })
}

func TestTheSameHoldsUnderTheNamesOfAScribe(t *testing.T) {
	withScribesNames(t)
	for name, test := range map[string]func(*testing.T){
		"merged":    TestReadMergesClustersAndBufferInOrderOfSequence,
		"order":     TestReadGoesByPartitionThenCategoryThenChain,
		"any bytes": TestMessagesOfAnyBytesComeBackAsTheyWere,
		"partly":    TestAFileWhoseRangeIsPartlyElsewhereIsCutAtMessages,
		"rank":      TestASealedFileGoesBeforeASegmentAndASegmentBeforeAnOpenFile,
		"inventory": TestTheInventoryWithTheHighestCounterCounts,
		"open":      TestAnOpenFileOfALivingStartIsReadUpToItsPublishedPart,
		"torn":      TestATornFileThatIsTooShortIsReadAsFarAsItGoes,
		"shipped":   TestAShippedSegmentAndItsCopiesCountOnce,
		"removed":   TestASegmentThatIsShippedAndRemovedWhileItIsReadCountsOnce,
		"batch ids": TestBatchIDsLeaveOutWhatAClientSentTwice,
		"retry":     TestARetryCountsWhereItsFirstTryCannotBeRead,
		"away":      TestAClusterThatIsAwayIsToldAndTheOtherRead,
		"hangs":     TestAClusterThatHangsCostsOneTimeout,
		"check":     TestCheckFindsNothingWhereNothingIsWrong,
		"history":   TestEveryAcknowledgedMessageIsReadOnceAndInOrder,
		"overlap":   TestACountedRangeNeverHidesAnExactOne,
		"sinks":     TestReadEndsAtTheSinksErrorAndWithItsContext,
	} {
		t.Run(name, test)
	}
}

func TestListShowsTheNamesOfAScribe(t *testing.T) {
	withScribesNames(t)
	w := testWorld(t)
	w.sealed(web("n1", 1, numbered("m", 1, 3)))
	w.member(ag1, 0)
	w.inventories("n1", "n2")
	var items []Item
	report, err := New(w.options()).List(t.Context(), Query{}, func(i *Item) error { items = append(items, *i); return nil })
	w.must(err)
	w.wantUncounted(report)
	if len(items) != 1 || items[0].Path != "scribe/web/base_00000" || items[0].Messages != 3 || items[0].State != catalog.StateSealed {
		t.Errorf("items %+v", items)
	}
	got, _ := w.read(Query{})
	w.wantText(got, numbered("m", 1, 3))
}

func TestAFileThatWasNamedSinceItWasListedIsRead(t *testing.T) {
	w := testWorld(t)
	s := web("n1", 1, numbered("m", 1, 4))
	w.unsealed(s, catalog.StateOpen)
	w.member(ag1, 0)
	w.inventories("n1")
	o := w.options()
	named := false
	o.Clusters[0] = &hooked{Cluster: o.Clusters[0], open: func(p string) {
		if p == s.openPath() && !named {
			named = true
			s.kept = -1
			_, m := s.content("size")
			target := &catalog.Target{Folder: "scribe/web", Stem: "base"}
			m.SetTarget(target, target.Path(7))
			w.manifest(s, m)
			final := filepath.Join(w.root, "n1", target.Path(7))
			w.must(os.MkdirAll(filepath.Dir(final), 0o755))
			w.must(os.Rename(filepath.Join(w.root, "n1", s.openPath()), final))
		}
	}}
	got, report := w.readWith(o, Query{Category: "web"})
	w.wantText(got, numbered("m", 1, 4))
	w.wantUncounted(report)
	if !named {
		t.Error("the file was never opened")
	}
}

func TestManyFilesOfAScribeInOneFolderAreRead(t *testing.T) {
	withScribesNames(t)
	w := testWorld(t)
	var all []batch
	for i := range uint32(40 * parallel) {
		all = append(all, numbered("m", uint64(i)+1, 1))
		w.sealed(web("n1", i+1, all[i]))
	}
	w.member(ag1, 0)
	w.inventories("n1")
	got, report := w.read(Query{})
	w.wantText(got, all...)
	w.wantUncounted(report)
}

func TestAFileOfAScribeIsNotTakenForOneOfOurs(t *testing.T) {
	withScribesNames(t)
	for content, want := range map[string]string{
		"": "it is not there",
		"somebody else's, longer than ours by far\n": "it is somebody else's, and ours is missing",
	} {
		w := testWorld(t)
		w.sealed(web("n1", 1, numbered("m", 1, 3)))
		w.sealed(web("n1", 2, numbered("m", 4, 2)))
		w.member(ag1, time.Minute)
		w.inventories("n1", "n2")
		if w.remove("n1", "scribe/web/base_00000"); content != "" {
			w.write("n1", "scribe/web/base_00000", []byte(content))
		}
		got, report := w.read(Query{})
		w.wantText(got, numbered("m", 4, 2))
		if !slices.ContainsFunc(report.Uncounted, func(l string) bool {
			return strings.Contains(l, want) && strings.Contains(l, "scribe/web/base_00000")
		}) {
			t.Errorf("told: %q", report.Uncounted)
		}
	}
}

func TestCheckComparesWhereInventoryAndManifestSayThatAFileLies(t *testing.T) {
	withScribesNames(t)
	w := testWorld(t)
	m := w.sealed(web("n1", 1, numbered("m", 1, 3)))
	w.member(ag1, 0)
	items := w.items[ag1][hour10]
	items[0].At = m.Target.Path(9)
	w.inventories("n1", "n2")
	r := w.checked()
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "scribe/web/base_00009") {
		t.Errorf("problems %q, not counted %q", r.Problems, r.Uncounted)
	}
}
