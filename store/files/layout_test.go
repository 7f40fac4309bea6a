package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/layout"
)

func TestTheSameHoldsUnderTheNamesOfAScribe(t *testing.T) {
	scribesNames = true
	defer func() { scribesNames = false }()
	for name, test := range map[string]func(*testing.T){
		"place":         TestAChainIsAPlace,
		"not tried":     TestABatchThatWasNotTriedLeavesTheFileIntact,
		"tear":          TestATearIsInTheJournalBeforeTheErrorIsReturned,
		"rest":          TestAChainThatRestsWhileItsFileIsOpenedLeavesNothing,
		"kill":          TestAKillAtEachStepOfASealLeavesWhatRepairNeeds,
		"lost answer":   TestALostAnswerAtAnyStepIsSettledByLooking,
		"away":          TestASealWaitsForAClusterThatIsAway,
		"for ever":      TestASealThatFailsForEverIsRepairs,
		"close, away":   TestCloseLeavesFilesOfAClusterThatIsAwayToRepair,
		"close":         TestCloseSealsWithoutRunToo,
		"side by side":  TestManyFilesAreSealedSideBySide,
		"full":          TestAFullFileIsReplacedWithoutABatchThatWaits,
		"partition":     TestAFileIsSealedWhenItsPartitionIsOverAndNothingComes,
		"idle":          TestAnIdleFileIsSealed,
		"random":        TestRandomTrafficComesBack,
		"visible":       TestEveryMessageIsVisibleInTimeAndNotAtAnyPrice,
		"seal all":      TestSealAllWaitsForAPauseAndNotForEver,
		"longest idle":  TestTheLongestIdleFileIsSealedWhenTooManyAreOpen,
		"lists too big": TestAFileWithTooLongListsIsReplaced,
	} {
		t.Run(name, test)
	}
}

// outside lists a folder that others read.
func (r *rig) outside(folder string) (names []string) {
	r.t.Helper()
	list, err := r.fault.List(context.Background(), layout.Outside(folder))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}

func TestReadersOfAScribeFindTheirNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{Category: "we/b", Layout: scribesLayout("web")})
		for n := range 3 {
			p.append(fmt.Sprint("file ", n))
			p.chain.Rest()
			time.Sleep(time.Second)
		}
		time.Sleep(50 * time.Minute) // the partition's edge
		p.append("the next hour")
		p.shut()
		want := []string{"base-2000-01-01_00000", "base-2000-01-01_00001", "base-2000-01-01_00002", "base-2000-01-01_00003", "base_current"}
		if got := r.outside("scribe/web"); !slices.Equal(got, want) {
			t.Errorf("names %q", got)
		}
		if got := string(r.content("/scribe/web/base-2000-01-01_00003")); got != "the next hour\n" {
			t.Errorf("the last file holds %q", got)
		}
		if got := string(r.content("/scribe/web/base_current")); got != "base-2000-01-01_00003" {
			t.Errorf("the link says %q", got)
		}
		if got := r.outside("."); !slices.Equal(got, []string{"_root.json", "_twinscribe", "scribe"}) {
			t.Errorf("the root holds %q", got)
		}
		for _, it := range r.items.all() {
			if name, form := catalog.ParseName(path.Base(it.Path)); form != catalog.FormSealed || name.Identity != ag1 || it.State != catalog.StateSealed ||
				!strings.HasPrefix(it.At, "scribe/web/base-2000-01-01_0000") || it.Needs() != catalog.TargetVersion {
				t.Errorf("inventory %+v", it)
			}
		}
		synctest.Wait()
		if s := r.unfinished(r.disk); len(s) != 0 {
			t.Errorf("the journal has %+v", s)
		}
	})
}

func TestALayoutReplacesFilesByItsOwnTimeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		l := scribesLayout("web")
		l.Rotate = layout.Rotation{Kind: layout.Every, Every: 5 * time.Minute}
		p := r.producer(ChainSpec{Layout: l})
		for range 20 {
			p.append("message")
			p.wait(time.Minute)
		}
		p.shut()
		scribesNames = true
		defer func() { scribesNames = false }()
		files := r.sealedFiles("web")
		p.wantAll(files)
		if got := reasons(files); len(files) < 4 || got[0] != ReasonRotate {
			t.Errorf("%d files: %q", len(files), got)
		}
	})
}

func TestTheJournalTellsWhereAFileIsToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{Layout: scribesLayout("web")})
		p.append("one")
		s := r.unfinished(r.disk.Crash(nil))
		want := catalog.Target{Folder: "scribe/web", Stem: "base-2000-01-01", Link: "base_current"}
		if len(s) != 1 || s[0].Begin.Target == nil || *s[0].Begin.Target != want || len(s[0].Lines) != 0 && s[0].Lines[0].End != 4 {
			t.Errorf("the journal has %+v", s)
		}
		if it := r.items.all()[0]; it.Manifest == nil || it.Manifest.Target == nil || *it.Manifest.Target != want {
			t.Errorf("inventory %+v", it)
		}
	})
}

// Somebody else takes the next name before each call of a seal.
func TestAFileOfAScribeIsNeverReplaced(t *testing.T) {
	for _, op := range []clustertest.Op{clustertest.OpSeal, clustertest.OpList, clustertest.OpReplace, clustertest.OpStat, clustertest.OpRename} {
		for skip := range 3 {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.producer(ChainSpec{Layout: scribesLayout("web")})
				p.append("one")
				release := make(chan struct{})
				r.fault.Add(clustertest.Rule{Op: op, Skip: skip, Times: 1, Release: release})
				p.chain.Rest()
				time.Sleep(time.Second)
				foreign := func() int {
					for n := 0; ; n++ {
						name := fmt.Sprintf("/scribe/web/base-2000-01-01_%05d", n)
						if _, err := r.raw.Stat(context.Background(), name); errors.Is(err, fs.ErrNotExist) {
							if err := r.raw.Replace(context.Background(), name, []byte("a Scribe's")); err != nil {
								t.Fatal(err)
							}
							return n
						}
					}
				}()
				close(release)
				p.shut()
				if got := string(r.content(fmt.Sprintf("/scribe/web/base-2000-01-01_%05d", foreign))); got != "a Scribe's" {
					t.Errorf("before %s %d: %q", op, skip, got)
				}
				scribesNames = true
				defer func() { scribesNames = false }()
				p.wantAll(r.sealedFiles("web"))
				if len(r.tears()) != 0 {
					t.Errorf("before %s %d: torn", op, skip)
				}
			})
		}
	}
}
