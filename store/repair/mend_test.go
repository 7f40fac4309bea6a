package repair

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/store/catalog"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
)

// exact and counted are ranges of text(1, ...).
func exact(first, last int) catalog.Range {
	return catalog.Range{First: uint64(first), Last: uint64(last), Offset: int64((first - 1) * size1), End: int64(last * size1)}
}

func counted(first, last int) catalog.Range {
	r := exact(first, last)
	r.Counted = true
	return r
}

func TestWhatStaysInAFileOfADeadWriter(t *testing.T) {
	whole := text(1, 100)
	at := func(n int) int64 { return int64(n * size1) }
	for _, c := range []struct {
		name    string
		data    []byte
		lines   []catalog.Line
		torn    *int64
		keep    int64 // bytes; -1: the file is removed
		ranges  []catalog.Range
		own     bool  // the messages have a chain of their own
		missing int64 // bytes
	}{
		{name: "all batches whole", data: whole, lines: []catalog.Line{line(1, 60), line(61, 100)}, keep: at(100), ranges: []catalog.Range{exact(1, 100)}},
		{name: "the last batch half there", data: whole[:at(80)+3], lines: []catalog.Line{line(1, 60), line(61, 100)}, keep: at(60), ranges: []catalog.Range{exact(1, 60)}},
		{name: "the last batch not there at all", data: whole[:at(60)], lines: []catalog.Line{line(1, 60), line(61, 100)}, keep: at(60), ranges: []catalog.Range{exact(1, 60)}},
		{name: "the only batch half there", data: whole[:at(10)], lines: []catalog.Line{line(1, 60)}, keep: -1},
		{name: "torn: what was not acknowledged goes", data: whole, lines: []catalog.Line{line(1, 60), line(61, 100)}, torn: length(at(60)), keep: at(60), ranges: []catalog.Range{exact(1, 60)}},
		{name: "torn: nothing goes", data: whole[:at(60)], lines: []catalog.Line{line(1, 60)}, torn: length(at(60)), keep: at(60), ranges: []catalog.Range{exact(1, 60)}},
		{name: "torn before the first acknowledgement", data: whole, lines: []catalog.Line{line(1, 60)}, torn: length(0), keep: -1},
		{name: "torn without lines", data: whole, torn: length(at(60)), keep: at(60), ranges: []catalog.Range{counted(1, 60)}, own: true},
		{name: "torn with a line missing", data: whole, lines: []catalog.Line{line(1, 40)}, torn: length(at(60)), keep: at(60), ranges: []catalog.Range{exact(1, 40), counted(41, 60)}},
		{name: "no lines: a message without its line feed goes", data: whole[:at(30)+5], keep: at(30), ranges: []catalog.Range{counted(1, 30)}, own: true},
		{name: "no lines, no line feed", data: whole[:5], keep: -1},
		{name: "no lines, nothing", keep: -1},
		{name: "more than the lines tell", data: whole[:at(30)+5], lines: []catalog.Line{line(1, 10)}, keep: at(30), ranges: []catalog.Range{exact(1, 10), counted(11, 30)}},
		{name: "more than the lines tell, and no line feed in it", data: whole[:at(10)+5], lines: []catalog.Line{line(1, 10)}, keep: at(10), ranges: []catalog.Range{exact(1, 10)}},
		{name: "a line missing between two", data: whole, lines: []catalog.Line{line(1, 10), line(31, 100)}, keep: at(100), ranges: []catalog.Range{exact(1, 10), counted(11, 30), exact(31, 100)}},
		{name: "the first line missing", data: whole, lines: []catalog.Line{line(31, 100)}, keep: at(100), ranges: []catalog.Range{counted(1, 30), exact(31, 100)}},
		{name: "a line of an append that was not tried", data: whole[:at(60)], lines: []catalog.Line{line(1, 50), line(51, 90), line(51, 60)}, keep: at(60), ranges: []catalog.Range{exact(1, 60)}},
		{name: "shorter than it was torn at", data: whole[:at(30)+5], lines: []catalog.Line{line(1, 60)}, torn: length(at(60)), keep: at(30) + 5, ranges: []catalog.Range{counted(1, 30)}, own: true, missing: at(30) - 5},
		{name: "shorter than its last line begins", data: whole[:at(30)+5], lines: []catalog.Line{line(1, 20), line(21, 60), line(61, 90)}, keep: at(30) + 5,
			ranges: []catalog.Range{exact(1, 20), counted(21, 30)}, missing: at(30) - 5},
		{name: "empty, and torn at more", lines: []catalog.Line{line(1, 60)}, torn: length(at(60)), keep: -1, missing: at(60)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				core, logs := observer.New(zap.ErrorLevel)
				w.log = zap.New(core)
				done := 0
				w.c.Leave(begin(1).OpenPath, c.data, 0)
				w.states = []journal.FileState{{Begin: begin(1), Lines: c.lines, Torn: c.torn}}
				w.open()
				w.r.lanes["n1"].jobs[begin(1).Path].done = []func(){func() { done++ }}
				w.run()
				if err := w.r.Wait(t.Context(), "n1"); err != nil {
					t.Fatal(err)
				}
				w.stop()
				s := w.r.Stats()
				if s.MissingBytes != c.missing || (logs.Len() == 1) != (c.missing > 0) {
					t.Errorf("missing %d with %d alarms, want %d", s.MissingBytes, logs.Len(), c.missing)
				}
				if c.keep < 0 && c.missing > 0 { // all of it: readers and journal go on telling of it
					if it, ok := w.keeper.item("n1", begin(1).Path); len(w.c.Paths()) != 0 || !ok || it.Bytes != c.missing || done != 0 {
						t.Errorf("left: %v; the inventory has %+v, the journal was told %d times", w.c.Paths(), it, done)
					}
					return
				}
				if done != 1 {
					t.Errorf("the journal was told %d times", done)
				}
				if c.keep < 0 {
					if left := w.c.Paths(); len(left) != 0 || s.Removed != 1 {
						t.Errorf("left: %v, removed %d", left, s.Removed)
					}
					if it, ok := w.keeper.item("n1", begin(1).Path); ok {
						t.Errorf("the inventory still has %+v", it)
					}
					return
				}
				data, m := w.sealed(1)
				if string(data) != string(c.data[:c.keep]) {
					t.Errorf("%d bytes are left, want %d", len(data), c.keep)
				}
				if !reflect.DeepEqual(m.Ranges, c.ranges) {
					t.Errorf("ranges %+v, want %+v", m.Ranges, c.ranges)
				}
				chain := uint32(3)
				if c.own {
					chain = ownChain | 1
				}
				if m.Chain != chain || m.Reason != Reason || m.Category != "web" || m.Partition != hour00 || m.Sealed == 0 || m.Missing != c.missing {
					t.Errorf("manifest %+v, want %d bytes missing", m, c.missing)
				}
				if want := int64(len(c.data)) - c.keep; s.CutBytes != want || s.Repaired != 1 {
					t.Errorf("stats %+v, want %d bytes cut", s, want)
				}
			})
		})
	}
}

func TestLineFeedsIdsAndArrivalsOfWhatStaysAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := []byte("one\ntwo\nstill two\nthree\nfour\nlost\nits second line\n")
		id := catalog.BatchID{Producer: "p", Epoch: 1, Sequence: 7}
		w.c.Leave(begin(1).OpenPath, data, 0)
		w.states = []journal.FileState{{Begin: begin(1), Torn: length(29), Lines: []catalog.Line{
			{Offset: 0, End: 24, First: 5, Last: 7, Arrived: 1e9, Senders: []string{"a"},
				LineFeeds: []catalog.Span{{Offset: 4, Length: 14}}, IDs: []catalog.BatchSpan{{BatchID: id, First: 5, Messages: 3}}},
			{Offset: 24, End: 29, First: 8, Last: 8, Arrived: 5e9, Senders: []string{"b"}},
			{Offset: 29, End: 50, First: 9, Last: 9, LineFeeds: []catalog.Span{{Offset: 29, Length: 21}}},
		}}}
		w.repair()
		got, m := w.sealed(1)
		if string(got) != string(data[:29]) {
			t.Fatalf("left: %q", got)
		}
		byNumber, err := messages(got, m)
		if err != nil {
			t.Fatal(err)
		}
		want := map[uint64]string{5: "one", 6: "two\nstill two", 7: "three", 8: "four"}
		if !reflect.DeepEqual(byNumber, want) {
			t.Errorf("messages %v, want %v", byNumber, want)
		}
		if len(m.LineFeeds) != 1 || len(m.IDs) != 1 || m.IDs[0].BatchID != id {
			t.Errorf("line feeds %v, ids %v", m.LineFeeds, m.IDs)
		}
		arrivals := []catalog.Arrival{{First: 5, Millis: 1000, Senders: []string{"a"}}, {First: 8, Millis: 5000, Senders: []string{"b"}}}
		if !reflect.DeepEqual(m.Arrivals, arrivals) {
			t.Errorf("arrivals %+v, want %+v", m.Arrivals, arrivals)
		}
	})
}

// A lost line of messages with line feeds inside: the sequences around it leave
// room for fewer messages than there are lines.
func TestCountedMessagesNeverReachIntoTheSequencesBehindThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := []byte("a\nb1\nb2\nc\nd1\nd2\nd3\ne\n")
		w.c.Leave(begin(1).OpenPath, data, 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{
			{Offset: 0, End: 2, First: 10, Last: 10},
			{Offset: 19, End: 21, First: 14, Last: 14},
		}}}
		w.repair()
		got, m := w.sealed(1)
		byNumber, err := messages(got, m)
		if err != nil {
			t.Fatal(err)
		}
		want := map[uint64]string{10: "a", 11: "b1", 12: "b2", 13: "c\nd1\nd2\nd3", 14: "e"}
		if !reflect.DeepEqual(byNumber, want) {
			t.Errorf("messages %v, want %v", byNumber, want)
		}
		if s := w.r.Stats(); s.Counted != 3 {
			t.Errorf("%d counted, want 3", s.Counted)
		}
	})
}

func TestTheWritersOwnSumsSpareReadingTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, state := range []string{catalog.StateTorn, catalog.StateSealing} {
			w := newWorld(t)
			data := text(1, 100)
			b := catalog.NewBuilder(catalog.Head{File: strings.TrimPrefix(begin(1).Path, "web/"+string(hour00)+"/"), Identity: dead, Chain: 3, Category: "web", Partition: hour00})
			b.Sum(data[:60*size1])
			l := line(1, 60)
			b.Add(&l)
			w.keeper.found = []inventory.Found{{Identity: dead, Partition: hour00, Item: catalog.Item{
				Category: "web", Chain: 3, Place: "n1", Path: begin(1).Path, State: state, Bytes: b.Bytes(), Manifest: b.Snapshot()}}}
			w.c.Leave(begin(1).OpenPath, data, 0)
			w.repair()
			got, m := w.sealed(1)
			if len(got) != 60*size1 || len(m.Ranges) != 1 || m.Ranges[0] != exact(1, 60) || m.Reason != Reason {
				t.Errorf("%s: %d bytes, manifest %+v", state, len(got), m)
			}
			if n := w.c.Calls("open"); n != 0 {
				t.Errorf("%s: the file was read %d times", state, n)
			}
		}
	})
}

func TestBytesThatAreNoMessageStandInNoRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := []byte("a\n?????b\nc\n")
		w.c.Leave(begin(1).OpenPath, data, 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{
			{Offset: 0, End: 2, First: 1, Last: 1}, {Offset: 7, End: 11, First: 2, Last: 3},
		}}}
		w.repair()
		got, m := w.sealed(1)
		byNumber, err := messages(got, m)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[uint64]string{1: "a", 2: "b", 3: "c"}; len(got) != len(data) || !reflect.DeepEqual(byNumber, want) {
			t.Errorf("%d bytes, messages %v, want %v", len(got), byNumber, want)
		}
	})
}

// A start that repairs an orphan is killed before it has done anything but say
// so in the inventory, and the next one has to repair it: what was published of
// the file is the least that it holds, not all of it.
func TestAnOrphanWhoseRepairDiedIsNotCutToWhatWasPublished(t *testing.T) {
	for name, published := range map[string]int{"nothing": 0, "a part": 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				data := text(1, 100)
				b := catalog.NewBuilder(catalog.Head{File: "x", Identity: dead, Chain: 3, Category: "web", Partition: hour00})
				if published > 0 {
					b.Sum(data[:published*size1])
					l := line(1, published)
					b.Add(&l)
				}
				w.keeper.found = []inventory.Found{{Identity: dead, Partition: hour00, Item: catalog.Item{
					Category: "web", Chain: 3, Place: "n1", Path: begin(1).Path, State: catalog.StateOpen, Bytes: b.Bytes(), Manifest: b.Snapshot()}}}
				w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 90), line(91, 100)}}}
				w.c.Leave(begin(1).OpenPath, data, 100*size1)
				w.open()
				for _, l := range w.r.lanes {
					l.declare() // and then it is killed
				}
				w.keeper.found = nil // the next one has the inventory as it was left
				w.repair()
				_, m := w.sealed(1)
				if want := []catalog.Range{exact(1, 100)}; !reflect.DeepEqual(m.Ranges, want) {
					t.Errorf("ranges %+v, want %+v", m.Ranges, want)
				}
			})
		})
	}
}

// The journal failed at message 40; the inventory tells up to 70, the file holds more.
func TestTheInventoryTellsWhatTheJournalMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := text(1, 100)
		b := catalog.NewBuilder(catalog.Head{File: "x", Identity: dead, Chain: 3, Category: "web", Partition: hour00})
		b.Sum(data[:70*size1])
		l := line(1, 70)
		b.Add(&l)
		w.keeper.found = []inventory.Found{{Identity: dead, Partition: hour00, Item: catalog.Item{
			Category: "web", Chain: 3, Place: "n1", Path: begin(1).Path, State: catalog.StateOpen, Bytes: b.Bytes(), Manifest: b.Snapshot()}}}
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 30), line(31, 40)}}}
		w.c.Leave(begin(1).OpenPath, data, 70*size1)
		w.repair()
		_, m := w.sealed(1)
		if want := []catalog.Range{exact(1, 70), counted(71, 100)}; !reflect.DeepEqual(m.Ranges, want) {
			t.Errorf("ranges %+v, want %+v", m.Ranges, want)
		}
	})
}

func TestAFileThatIsGoneIsAnAlarmOnlyIfSomethingHadToBeInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		core, logs := observer.New(zap.ErrorLevel)
		w.log = zap.New(core)
		w.states = []journal.FileState{
			{Begin: begin(1), Lines: []catalog.Line{line(1, 60)}}, // perhaps never acknowledged
			{Begin: begin(2), Lines: []catalog.Line{line(1, 60), line(61, 100)}},
			{Begin: begin(3)},
		}
		w.c.Put(manifestPath(3), []byte("left over"))
		w.open()
		w.run()
		defer w.stop()
		pass(5 * adoptEvery) // the inventories are asked again and again, the alarm is told once
		if s := w.r.Stats(); s.Missing != 1 || s.MissingBytes != int64(60*size1) || s.Removed != 2 || logs.Len() != 1 {
			t.Errorf("stats %+v, %d alarms", s, logs.Len())
		}
		if it, ok := w.keeper.item("n1", begin(2).Path); !ok || it.State != catalog.StateOpen || it.Bytes != int64(60*size1) {
			t.Errorf("the inventory must tell of the lost file, it has %+v", it)
		}
		if left := w.c.Paths(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestASealedFileIsDoneWhoeverSealedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := text(1, 50)
		b := catalog.NewBuilder(catalog.Head{File: "x", Identity: dead, Chain: 3, Category: "web", Partition: hour00})
		b.Sum(data)
		l := line(1, 50)
		b.Add(&l)
		raw, err := b.Manifest("size", w.starts[0].Since).Encode()
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 3; n++ {
			w.c.Put(begin(n).Path, data)
			w.states = append(w.states, journal.FileState{Begin: begin(n), Lines: []catalog.Line{line(1, 20), line(21, 50)}})
		}
		w.c.Put(manifestPath(3), raw)
		w.states[2].Torn = length(0)  // it makes no sense, and must not cost the manifest
		w.c.Put(manifestPath(1), raw) // the second one's was taken away
		w.repair()
		if got, _ := w.c.Has(manifestPath(1)); string(got) != string(raw) {
			t.Errorf("the manifest was changed to %s", got)
		}
		if _, m := w.sealed(2); len(m.Ranges) != 1 || m.Ranges[0] != exact(1, 50) {
			t.Errorf("ranges %+v", m.Ranges)
		}
		if it, _ := w.keeper.item("n1", begin(1).Path); it.State != catalog.StateSealed || it.Messages != 50 {
			t.Errorf("the inventory says %+v", it)
		}
		if got, _ := w.c.Has(manifestPath(3)); string(got) != string(raw) {
			t.Errorf("the manifest was changed to %s", got)
		}
		if s := w.r.Stats(); s.Found != 3 || s.Repaired != 0 || w.c.Calls("rename")+w.c.Calls("truncate") != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestAFileUnderBothNamesIsLeftToAHuman(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.c.Put(begin(1).Path, text(1, 10))
		w.c.Leave(begin(1).OpenPath, text(1, 20), 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 10)}}}
		w.open()
		w.run()
		defer w.stop()
		pass(2 * conflictFor)
		if s := w.r.Stats(); s.Failures["conflict"] < 2 || s.Backlog["n1"] != 1 {
			t.Errorf("stats %+v", s)
		}
		if w.c.Calls("recover")+w.c.Calls("truncate")+w.c.Calls("rename")+w.c.Calls("replace")+w.c.Calls("remove") != 0 {
			t.Error("something was touched")
		}
	})
}
