package reader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

func TestReadMergesClustersAndBufferInOrderOfSequence(t *testing.T) {
	w := testWorld(t)
	a, b, c, d, e := numbered("m", 1, 3), numbered("m", 4, 2), numbered("m", 6, 4), numbered("m", 10, 1), numbered("m", 13, 2)
	w.sealed(web("n1", 1, a, d))
	w.sealed(web("n2", 2, b))
	w.segmentItems(ag1, w.segmentOf(ag1, buffer.Spill, stored{"web", 3, hour10, c}), catalog.StateSegment)
	w.unsealed(web("n2", 3, e), catalog.StateOpen)
	w.member(ag1, 0)
	w.inventories("n1", "n2")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, a, b, c, d, e)
	w.wantUncounted(report)
	w.wantProblems(report)
	var places []string
	for _, l := range got {
		places = append(places, l.place)
	}
	if want := strings.Fields("n1 n1 n1 n2 n2 buffer buffer buffer buffer n1 n2 n2"); !slices.Equal(places, want) {
		t.Errorf("places are %v, want %v", places, want)
	}
}

func TestReadGoesByPartitionThenCategoryThenChain(t *testing.T) {
	w := testWorld(t)
	put := func(category string, p catalog.Partition, id catalog.Identity, chain, number uint32, what string) {
		w.sealed(spec{cluster: "n1", category: category, partition: p, id: id, chain: chain, number: number, batches: []batch{numbered(what, 1, 1)}})
	}
	put("web", hour11, ag1, 1, 1, "8")
	put("web", hour10, ag2, 1, 1, "7")
	put("web", hour10, catalog.Identity{Aggregator: "ag1", Epoch: 43, Start: 1}, 1, 1, "6")
	put("web", hour10, ag1, 10, 3, "5")
	put("web", hour10, ag1, 9, 4, "4")
	put("api", hour10, ag2, 9, 5, "3")
	put("api", "dt=2026-11-22", ag2, 9, 6, "2")
	put("api", "dt=2026-11-21", ag2, 9, 7, "1")
	w.inventories("n1")
	got, report := w.read(Query{})
	if text := texts(got); text != "1 1\n2 1\n3 1\n4 1\n5 1\n6 1\n7 1\n8 1\n" {
		t.Errorf("read gives\n%s", text)
	}
	w.wantUncounted(report)
	w.wantProblems(report)
}

func TestReadTakesThePartitionsThatOverlapItsTime(t *testing.T) {
	w := testWorld(t)
	for i, p := range []catalog.Partition{"dt=2026-11-21/hr=23", "dt=2026-11-22", hour10, hour11, "dt=2026-11-23/hr=00"} {
		w.sealed(spec{cluster: "n2", category: "web", partition: p, id: ag1, chain: 1, number: uint32(i), batches: []batch{numbered(string(p), uint64(i+1), 1)}})
	}
	w.segmentOf(ag1, buffer.Outage, stored{"web", 1, "dt=2026-11-22/hr=12", numbered("segment", 100, 1)})
	w.inventories("n1")
	at := func(s string) time.Time {
		moment, err := time.Parse("2006-01-02T15:04", s)
		w.must(err)
		return moment
	}
	for _, c := range []struct {
		from, to time.Time
		want     string
	}{
		{at("2026-11-22T10:30"), at("2026-11-22T11:00"), "day 10"},
		{at("2026-11-22T10:30"), at("2026-11-22T11:01"), "day 10 11"},
		{at("2026-11-22T11:00"), at("2026-11-22T11:01"), "day 11"},
		{at("2026-11-22T12:00"), time.Time{}, "day 12 23"},
		{time.Time{}, at("2026-11-22T00:00"), "21"},
		{at("2027-01-01T00:00"), time.Time{}, ""},
		{time.Time{}, time.Time{}, "21 day 10 11 12 23"},
	} {
		got, _ := w.read(Query{Category: "web", From: c.from, To: c.to})
		var words []string
		for _, l := range got {
			words = append(words, map[catalog.Partition]string{"dt=2026-11-21/hr=23": "21", "dt=2026-11-22": "day", hour10: "10", hour11: "11",
				"dt=2026-11-22/hr=12": "12", "dt=2026-11-23/hr=00": "23"}[l.partition])
		}
		if text := strings.Join(words, " "); text != c.want {
			t.Errorf("from %s to %s: %q, want %q", c.from, c.to, text, c.want)
		}
	}
}

func TestMessagesOfAnyBytesComeBackAsTheyWere(t *testing.T) {
	w := testWorld(t)
	b := batch{first: 1, messages: []string{"", "\n", "a\nb", "\r\n", "\x00", "\xff\xfe", strings.Repeat("long\n", 100), "end\n", "", strings.Repeat("x", 1000), "\n\n\n"}}
	c := b
	c.first = b.last() + 1
	category := "_gr\xf6\xdfe/.." + strings.Repeat("!", 100)
	w.sealed(spec{cluster: "n1", category: category, partition: hour10, id: ag1, chain: 3, number: 1, batches: []batch{b}})
	w.segmentOf(ag1, buffer.Spill, stored{category, 3, hour10, c})
	w.inventories("n1")
	for _, q := range []Query{{}, {Category: category}} {
		got, report := w.read(q)
		w.wantUncounted(report)
		if len(got) != 2*len(b.messages) {
			t.Fatalf("%d messages, want %d", len(got), 2*len(b.messages))
		}
		for i, l := range got {
			if want := b.messages[i%len(b.messages)]; l.data != want || l.category != category {
				t.Errorf("message %d is %q of %q, want %q", i, l.data, l.category, want)
			}
		}
	}
}

func TestAFileWhoseRangeIsPartlyElsewhereIsCutAtMessages(t *testing.T) {
	w := testWorld(t)
	all := numbered("m", 1, 100)
	all.messages[30], all.messages[31], all.messages[60] = "with\nline feed", "\n", "x\n"
	part := func(from, to int) batch {
		return batch{first: uint64(from), messages: all.messages[from-1 : to]}
	}
	w.sealed(web("n2", 5, part(1, 100)))
	w.sealed(web("n1", 1, part(10, 12), part(31, 31), part(60, 61)))
	w.sealed(web("n1", 2, part(32, 40)))
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, all)
	w.wantUncounted(report)
	if got[9].place != "n1" || got[12].place != "n2" || got[30].place != "n1" || got[40].place != "n2" || got[60].place != "n1" || got[61].place != "n2" {
		t.Errorf("lower file numbers do not go first: %v", got)
	}
}

func TestASealedFileGoesBeforeASegmentAndASegmentBeforeAnOpenFile(t *testing.T) {
	w := testWorld(t)
	b := numbered("m", 1, 6)
	w.unsealed(web("n1", 1, batch{first: 1, messages: b.messages[:4]}), catalog.StateTorn)
	w.segmentOf(ag1, buffer.Spill, stored{"web", 3, hour10, batch{first: 3, messages: b.messages[2:]}})
	s := web("n2", 3, batch{first: 5, messages: b.messages[4:]})
	s.segment = 1
	w.sealed(s)
	w.inventories("n2")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, b)
	w.wantUncounted(report)
	var places []string
	for _, l := range got {
		places = append(places, l.place)
	}
	if want := strings.Fields("n1 n1 buffer buffer n2 n2"); !slices.Equal(places, want) {
		t.Errorf("places are %v, want %v", places, want)
	}
}

func TestTheInventoryWithTheHighestCounterCounts(t *testing.T) {
	w := testWorld(t)
	b := numbered("m", 1, 4)
	s := web("n1", 1, batch{first: 1, messages: b.messages[:2]}, batch{first: 3, messages: b.messages[2:]})
	s.kept = 1
	w.unsealed(s, catalog.StateOpen)
	w.member(ag1, time.Second)
	w.inventories("n1", "n2")
	w.items = map[catalog.Identity]map[catalog.Partition][]catalog.Item{}
	s.kept = 2
	w.unsealed(s, catalog.StateOpen)
	w.inventories("n2")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, b)
	w.wantUncounted(report)
}

func TestAnOpenFileOfALivingStartIsReadUpToItsPublishedPart(t *testing.T) {
	w := testWorld(t)
	b, rest := numbered("m", 1, 4), numbered("m", 5, 4)
	s := web("n1", 1, b, rest)
	s.kept = 1
	w.unsealed(s, catalog.StateOpen)
	w.write("n1", web("n1", 2).openPath(), []byte("not in any inventory\n"))
	w.member(ag1, 10*time.Second)
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, b)
	w.wantUncounted(report)

	w.member(ag1, 2*time.Minute)
	got, report = w.read(Query{Category: "web"})
	w.wantText(got, b)
	w.wantUncounted(report, "00001.log.open is open and its writer is gone", "00002.log.open is open, its writer is gone and no inventory tells of it")
}

func TestATornFileThatIsTooShortIsReadAsFarAsItGoes(t *testing.T) {
	w := testWorld(t)
	b, c := numbered("m", 1, 50), numbered("m", 51, 10)
	s := web("n1", 1, b)
	w.unsealed(s, catalog.StateTorn)
	data, _ := s.content("")
	w.write("n1", s.openPath(), data[:len(data)/2])
	w.sealed(web("n2", 2, c))
	w.member(ag1, 0)
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	whole := strings.Count(string(data[:len(data)/2]), "\n")
	w.wantText(got, batch{messages: b.messages[:whole]}, c)
	w.wantUncounted(report, "it ends too early")

	// What the file does not have is taken from whoever has it.
	w.segmentOf(ag1, buffer.Spill, stored{"web", 3, hour10, batch{first: 40, messages: b.messages[39:]}})
	w.sealed(web("n2", 9, batch{first: 10, messages: b.messages[9:45], counted: true}))
	w.inventories("n1")
	got, report = w.read(Query{Category: "web"})
	w.wantText(got, b, c)
	w.wantUncounted(report)
}

func TestAFileThatWasSealedSinceItWasListedIsRead(t *testing.T) {
	w := testWorld(t)
	s := web("n1", 1, numbered("m", 1, 4))
	w.unsealed(s, catalog.StateOpen)
	w.sealed(web("n1", 0, numbered("m", 9, 1)))
	w.member(ag1, 0)
	w.inventories("n1")
	// The rename happens between listing and reading.
	renamed := false
	o := w.options()
	o.Clusters[0] = &hooked{Cluster: o.Clusters[0], open: func(p string) {
		if p == s.openPath() && !renamed {
			renamed = true
			w.must(os.Rename(filepath.Join(w.root, "n1", s.openPath()), filepath.Join(w.root, "n1", s.path())))
		}
	}}
	got, report := w.readWith(o, Query{Category: "web"})
	w.wantText(got, numbered("m", 1, 4), numbered("m", 9, 1))
	w.wantUncounted(report)
	if !renamed {
		t.Error("the file was never opened")
	}
}

// hooked calls a function before each Open.
type hooked struct {
	cluster.Cluster
	open func(path string)
}

func (h *hooked) Open(ctx context.Context, path string) (cluster.Reader, error) {
	h.open(path)
	return h.Cluster.Open(ctx, path)
}

func TestASegmentThatIsShippedAndRemovedWhileItIsReadCountsOnce(t *testing.T) {
	w := testWorld(t)
	b, c := numbered("m", 1, 4), numbered("m", 5, 4)
	name := w.segmentOf(ag1, buffer.Outage, stored{"web", 3, hour10, b}, stored{"web", 3, hour11, c})
	w.segmentItems(ag1, name, catalog.StateSegment)
	w.sealed(spec{cluster: "n1", category: "aaa", partition: hour10, id: ag1, chain: 1, number: 1, batches: []batch{numbered("first", 1, 1)}})
	w.inventories("n1")
	o := w.options()
	done := false
	o.Clusters[0] = &hooked{Cluster: o.Clusters[0], open: func(p string) {
		if strings.HasPrefix(p, "aaa/") && !done { // the segments of hour10 are open by now
			done = true
			s := web("n2", 3, b)
			s.segment = 1
			w.sealed(s)
			s.partition, s.batches = hour11, []batch{c}
			w.sealed(s)
			w.must(os.Remove(filepath.Join(w.bufferDir(), name)))
		}
	}}
	got, report := w.readWith(o, Query{})
	w.wantText(got, numbered("first", 1, 1), b, c)
	w.wantUncounted(report)
}

func TestAShippedSegmentAndItsCopiesCountOnce(t *testing.T) {
	w := testWorld(t)
	b := numbered("m", 1, 8)
	name := w.segmentOf(ag1, buffer.Spill, stored{"web", 3, hour10, b})
	s := web("n2", 3, b)
	s.segment = 1
	w.sealed(s)
	w.must(os.Rename(filepath.Join(w.bufferDir(), name), filepath.Join(w.bufferDir(), strings.TrimSuffix(name, ".seg")+".shipped")))
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, b)
	w.wantUncounted(report)
	if got[0].place != "n2" {
		t.Errorf("the copy is not preferred: %v", got[0])
	}
}

func TestBatchIDsLeaveOutWhatAClientSentTwice(t *testing.T) {
	w := testWorld(t)
	with := func(b batch, sequence uint64, from uint32) batch {
		b.ids = []catalog.BatchSpan{{BatchID: catalog.BatchID{Producer: "client", Epoch: 7, Sequence: sequence}, From: from, First: b.first, Messages: uint32(len(b.messages))}}
		return b
	}
	call1 := with(numbered("call1", 1, 6), 1, 0)
	again := with(batch{first: 20, messages: call1.messages[2:]}, 1, 2) // a part of it, to another chain
	call2 := with(numbered("call2", 30, 3), 2, 0)
	late := with(batch{first: 40, messages: call2.messages}, 2, 0) // into the next hour, into a segment
	other := with(batch{first: 1, messages: call1.messages}, 1, 0) // of another category: counts by itself
	same := numbered("plain", 50, 2)                               // without an id
	w.sealed(web("n1", 1, call1))
	s := web("n2", 1, again, call2)
	s.id = ag2
	w.sealed(s)
	s = web("n2", 2, same)
	s.id, s.partition = ag2, hour11
	w.sealed(s)
	w.segmentOf(ag1, buffer.Spill, stored{"web", 3, hour11, late})
	s = web("n1", 3, other)
	s.category, s.chain = "zzz", 4
	w.sealed(s)
	w.inventories("n1")
	got, report := w.read(Query{})
	w.wantText(got, call1, call2, other, same)
	w.wantUncounted(report)
	if report.Duplicates != 7 {
		t.Errorf("%d duplicates, want 7", report.Duplicates)
	}
}

func TestARetryCountsWhereItsFirstTryCannotBeRead(t *testing.T) {
	w := testWorld(t)
	with := func(b batch) batch {
		b.ids = []catalog.BatchSpan{{BatchID: catalog.BatchID{Producer: "client", Epoch: 7, Sequence: 1}, First: b.first, Messages: uint32(len(b.messages))}}
		return b
	}
	call := with(numbered("call", 1, 6))
	s := web("n1", 1, call)
	w.unsealed(s, catalog.StateTorn)
	data, _ := s.content("")
	w.write("n1", s.openPath(), data[:len("call 1\ncall 2\n")])
	retry := web("n2", 1, with(batch{first: 9, messages: call.messages}))
	retry.id = ag2
	w.sealed(retry)
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, call)
	w.wantUncounted(report, "4 messages of sequences 3 to 6 are missing")
}

func TestReadEndsAtTheSinksErrorAndWithItsContext(t *testing.T) {
	w := testWorld(t)
	w.sealed(web("n1", 1, numbered("m", 1, 400)))
	w.segmentOf(ag1, buffer.Outage, stored{"web", 3, hour10, numbered("s", 1000, 200)}, stored{"web", 3, hour10, numbered("s", 2000, 200)})
	w.inventories("n1")
	stop := errors.New("no more")
	total := 0
	_, err := New(w.options()).Read(context.Background(), Query{}, func(*Run) error {
		total++
		return nil
	})
	w.must(err)
	for _, skip := range []int{0, 1, total / 2, total - 2, total - 1} { // the last two are from the segment
		runs := 0
		report, err := New(w.options()).Read(context.Background(), Query{}, func(r *Run) error {
			if runs++; runs > skip {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || runs != skip+1 || len(report.Uncounted) > 0 {
			t.Errorf("error %v after %d runs, %q", err, runs, report.Uncounted)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	runs := 0
	_, err = New(w.options()).Read(ctx, Query{}, func(*Run) error {
		runs++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || runs != 1 {
		t.Errorf("error %v after %d runs", err, runs)
	}
}

func TestDeadLettersAreReadOnRequest(t *testing.T) {
	w := testWorld(t)
	name := w.segmentOf(ag1, buffer.DeadLetter, stored{"web", 9, hour10, numbered("dead", 1, 2)})
	w.segmentItems(ag1, name, catalog.StateSegment)
	w.segmentOf(ag1, buffer.Unrouted, stored{"web", 8, hour10, numbered("unrouted", 1, 2)})
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, numbered("unrouted", 1, 2))
	w.wantUncounted(report)
	o := w.options()
	o.DeadLetters = true
	got, report = w.readWith(o, Query{Category: "web"})
	w.wantText(got, numbered("unrouted", 1, 2), numbered("dead", 1, 2))
	w.wantUncounted(report)
}
