package repair

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"twinscribe/store/catalog"
	"twinscribe/store/journal"
)

func withScribesNames(t *testing.T) {
	scribesNames = true
	t.Cleanup(func() { scribesNames = false })
}

func TestTheSameHoldsUnderTheNamesOfAScribe(t *testing.T) {
	withScribesNames(t)
	for name, test := range map[string]func(*testing.T){
		"kill":        TestRepairMayBeKilledAtEachStep,
		"lost answer": TestALostAnswerIsSettledByLooking,
		"property":    TestRepairKeepsWhatWasAcknowledgedAndNothingThatWentElsewhere,
		"stays":       TestWhatStaysInAFileOfADeadWriter,
		"kept":        TestLineFeedsIdsAndArrivalsOfWhatStaysAreKept,
		"counted":     TestCountedMessagesNeverReachIntoTheSequencesBehindThem,
		"no message":  TestBytesThatAreNoMessageStandInNoRange,
		"repair died": TestAnOrphanWhoseRepairDiedIsNotCutToWhatWasPublished,
		"inventory":   TestTheInventoryTellsWhatTheJournalMissed,
		"gone":        TestAFileThatIsGoneIsAnAlarmOnlyIfSomethingHadToBeInIt,
		"many":        TestThreeHundredTornFilesAreSealedWithinAMinuteOfTheClustersReturn,
	} {
		t.Run(name, test)
	}
}

const theirs = "a Scribe's, longer than any of ours\n"

// scribe takes the name that an original would take now.
func (w *world) scribe() {
	target := begin(1).Target
	for {
		next := uint32(0)
		for _, p := range w.c.Paths() {
			if n, ok := target.NumberOf(p); ok {
				next = n + 1
			}
		}
		if w.c.Add(target.Path(next), []byte(theirs)) {
			return
		}
	}
}

// Before each call somebody else takes the next name.
func TestNoFileOfAScribeIsReplacedAtAnyStep(t *testing.T) {
	withScribesNames(t)
	eachStep(t, func(w *world, at int, after bool) {
		var n atomic.Int32
		var taken atomic.Int32
		w.c.SetFault(func(_, _ string, done bool) error {
			if done == after {
				if n := int(n.Add(1)); n == at || n == at+3 {
					taken.Add(1)
					w.scribe()
				}
			}
			return nil
		})
		w.repair()
		w.c.SetFault(nil)
		left := 0
		for _, p := range w.c.Paths() {
			if data, _ := w.c.Has(p); string(data) == theirs {
				left++
				w.c.Drop(p)
			}
		}
		if want := int(taken.Load()); left != want {
			w.t.Errorf("step %d: %d of %d files of a Scribe are left", at, left, want)
		}
	})
}

// written leaves the file and the manifest of a start that died behind its last
// rename, or before it.
func (w *world) written(n, messages int, at string) {
	b := catalog.NewBuilder(catalog.Head{File: strings.TrimPrefix(begin(n).Path, "web/"+string(hour00)+"/"), Identity: dead, Chain: 3,
		Category: "web", Partition: hour00, Target: begin(n).Target})
	l := line(1, messages)
	b.Sum(text(1, messages))
	b.Add(&l)
	m := b.Manifest("size", w.starts[0].Since)
	m.SetTarget(m.Target, at)
	raw, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.c.Put(manifestPath(n), raw)
	w.states = append(w.states, journal.FileState{Begin: begin(n), Lines: []catalog.Line{line(1, messages)}})
}

func TestAFileThatHasItsNameIsFoundWhereverARenameTookIt(t *testing.T) {
	withScribesNames(t)
	for _, c := range []struct {
		name    string
		says    int    // the manifest's number
		at      int    // where the file is; -1: nowhere
		there   string // what else is at the manifest's number
		want    Action
		calls   int // renames
		missing int64
	}{
		{"where its manifest says", 4, 4, "", Present, 0, 0},
		{"a late rename took it elsewhere", 4, 2, "", Present, 0, 0},
		{"and somebody else is where its manifest says", 4, 2, strings.Repeat("x", 50*size1), Present, 0, 0},
		{"nowhere", 4, -1, "", Lost, 0, int64(50 * size1)},
		{"nowhere, and somebody else is there", 4, -1, strings.Repeat("x", 50*size1), Lost, 0, int64(50 * size1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				target := begin(1).Target
				w.c.Put(target.Path(1), text(1, 50)) // the same content: another file's, as its manifest says
				w.written(2, 50, target.Path(1))
				w.written(1, 50, target.Path(uint32(c.says)))
				if c.there != "" {
					w.c.Put(target.Path(uint32(c.says)), []byte(c.there))
				}
				if c.at >= 0 {
					w.c.Put(target.Path(uint32(c.at)), text(1, 50))
				}
				w.repair()
				s := w.r.Stats()
				if w.c.Calls("rename") != c.calls || s.MissingBytes != c.missing {
					t.Errorf("%d renames, stats %+v", w.c.Calls("rename"), s)
				}
				if c.want == Lost {
					if it, _ := w.keeper.item("n1", begin(1).Path); it.State == catalog.StateSealed {
						t.Errorf("the inventory says %+v", it)
					}
					return
				}
				if _, m := w.sealed(1); m.At != target.Path(uint32(c.at)) {
					t.Errorf("the manifest says %q", m.At)
				}
				if _, m := w.sealed(2); m.At != target.Path(1) {
					t.Errorf("the other one's manifest says %q", m.At)
				}
			})
		})
	}
}

// A rename that its sender gave up for lost arrives before each call of repair.
func TestALateRenameOfADeadWriterLeadsToNoSecondFile(t *testing.T) {
	withScribesNames(t)
	for at := 1; ; at++ {
		over := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			target := begin(1).Target
			w.written(1, 50, target.Path(7))
			w.c.Leave(begin(1).OpenPath, text(1, 50), 0)
			var calls atomic.Int32
			w.c.SetFault(func(_, _ string, done bool) error {
				if !done && int(calls.Add(1)) == at {
					w.c.Move(begin(1).OpenPath, target.Path(7))
				}
				return nil
			})
			w.repair()
			w.c.SetFault(nil)
			if _, m := w.sealed(1); m.At != target.Path(7) || m.Messages != 50 {
				t.Errorf("call %d: the manifest says %q, %d messages", at, m.At, m.Messages)
			}
			if got := fmt.Sprint(w.c.Paths()); strings.Count(got, "scribe/web/web_0") != 1 {
				t.Errorf("call %d: there are %s", at, got)
			}
			over = int(calls.Load()) < at
		})
		if over {
			return
		}
	}
}
