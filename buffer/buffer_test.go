package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var me = Identity{Aggregator: "ag1", Epoch: 42, Start: 0x7f3c91d2}

func options() Options {
	return Options{Identity: me, MinFree: -1, Log: zap.NewNop(), Now: func() time.Time { return time.Unix(1763800000, 0) }}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, fsys vfs.FS, dir string, change ...func(*Options)) *Buffer {
	t.Helper()
	o := options()
	for _, f := range change {
		f(&o)
	}
	b, err := Open(fsys, dir, o)
	must(t, err)
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// next is the identity of a later start.
func next(o *Options) { o.Identity.Epoch++; o.Identity.Start++ }

// batch is a record of n messages from a sequence on.
func batch(category string, first uint64, n int) *Record {
	r := &Record{Category: category, Chain: 7, Partition: "dt=2026-11-22/hr=10", First: first, Arrived: 1763800000000000000 + int64(first)}
	for i := range n {
		r.Data = fmt.Appendf(r.Data, "%s message %d\n", category, first+uint64(i))
		r.Ends = append(r.Ends, uint32(len(r.Data)))
	}
	return r
}

func add(t testing.TB, b *Buffer, reason Reason, r *Record) {
	t.Helper()
	must(t, b.Append(context.Background(), reason, r))
}

// clone keeps a record that ReadSegment gave.
func clone(r *Record) Record {
	c := *r
	c.Senders, c.IDs, c.Ends, c.Data = slices.Clone(r.Senders), slices.Clone(r.IDs), slices.Clone(r.Ends), bytes.Clone(r.Data)
	return c
}

// read gives all records of a segment.
func read(t testing.TB, fsys vfs.FS, path string) (list []Record, report Report) {
	t.Helper()
	report, err := ReadSegment(fsys, path, func(r *Record) error {
		list = append(list, clone(r))
		return nil
	})
	must(t, err)
	return list, report
}

// sequences are the messages of one category in all segments of a directory,
// by what List finds.
func sequences(t testing.TB, fsys vfs.FS, dir, category string) (all []uint64, reports []Report) {
	t.Helper()
	list, err := List(fsys, dir)
	must(t, err)
	for _, s := range list {
		records, report := read(t, fsys, s.Path)
		reports = append(reports, report)
		for _, r := range records {
			if r.Category != category {
				continue
			}
			for i := range r.Ends {
				n := r.First + uint64(i)
				if got, want := string(r.Message(i)), fmt.Sprintf("%s message %d", category, n); got != want {
					t.Fatalf("sequence %d holds %q", n, got)
				}
				all = append(all, n)
			}
		}
	}
	return all, reports
}

func TestRecordsComeBackWhole(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS(), "memfs": memfs.New()} {
		t.Run("fs="+name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "buffer")
			b := open(t, fsys, dir)
			full := &Record{
				Category: "web/äccess\x00\xff", Chain: 1<<32 - 1, Partition: "dt=2026-11-22", First: 1 << 60, Arrived: -5,
				Senders: []string{"10.0.0.1", "", "::1"},
				IDs:     []ID{{Producer: "p\n1", Epoch: 1 << 63, Sequence: 9, From: 3, First: 1 << 60, Messages: 2}, {Producer: ""}},
				Note:    "too long",
				Data:    []byte("\nwith\nlines inside\n\x00\xff\n\n"), Ends: []uint32{1, 19, 22, 23},
			}
			add(t, b, Spill, full)
			add(t, b, Spill, batch("web", 1, 3))
			list := b.Segments()
			if len(list) != 1 || list[0].Sealed || list[0].Records != 2 || list[0].Messages != 7 {
				t.Fatalf("%+v", list)
			}
			for _, path := range []string{list[0].Path, filepath.Join(dir, list[0].Name)} {
				got, report := read(t, fsys, path)
				want := []Record{*full, *batch("web", 1, 3)}
				for i := range want {
					want[i].Number = uint64(i + 1)
					want[i].Offset = 64
					if i > 0 {
						want[i].Offset = got[i-1].End()
					}
					got[i].Senders, got[i].IDs = append([]string(nil), got[i].Senders...), append([]ID(nil), got[i].IDs...)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("read %+v\nwant %+v", got, want)
				}
				if report.Damaged() || report.Tail != 0 || report.Segment.Identity != me || report.Segment.Reason != Spill {
					t.Fatalf("%+v", report)
				}
			}
			if got := string(full.Message(1)); got != "with\nlines inside" {
				t.Fatalf("message 1 is %q", got)
			}
		})
	}
}

func TestReasonsNeverShareASegment(t *testing.T) {
	b := open(t, memfs.New(), "/b")
	for i, r := range []Reason{Spill, Outage, Unrouted, DeadLetter, Outage, Spill} {
		add(t, b, r, batch(r.String(), uint64(i+1), 1))
	}
	list := b.Segments()
	if len(list) != 4 {
		t.Fatalf("%d segments", len(list))
	}
	for _, s := range list {
		for _, p := range s.Parts {
			if p.Category != s.Reason.String() {
				t.Errorf("%v holds %s", s.Reason, p.Category)
			}
		}
	}
}

func TestRecordsThatContradictThemselvesAreRefused(t *testing.T) {
	b := open(t, memfs.New(), "/b")
	for name, spoil := range map[string]func(*Record){
		"no messages":              func(r *Record) { r.Ends, r.Data = nil, nil },
		"an end behind the data":   func(r *Record) { r.Ends[2]++ },
		"bytes behind the ends":    func(r *Record) { r.Data = append(r.Data, "x\n"...) },
		"ends that go back":        func(r *Record) { r.Ends[1] = r.Ends[0] },
		"a message without its LF": func(r *Record) { r.Data[r.Ends[0]-1] = ' ' },
		"sequence 0":               func(r *Record) { r.First = 0 },
		"sequences over the end":   func(r *Record) { r.First = 1<<64 - 2 },
		"a long partition":         func(r *Record) { r.Partition = strings.Repeat("x", 1<<16) },
		"a long sender":            func(r *Record) { r.Senders = []string{strings.Repeat("x", 1<<16)} },
		"a long producer":          func(r *Record) { r.IDs = []ID{{Producer: strings.Repeat("x", 1<<16)}} },
		"too many bytes":           func(r *Record) { r.Note = strings.Repeat("x", 64<<20) },
	} {
		r := batch("web", 1, 3)
		spoil(r)
		if err := b.Append(t.Context(), Spill, r); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Append(t.Context(), 9, batch("web", 1, 1)); !errors.Is(err, ErrRecord) {
		t.Errorf("reason 9: %v", err)
	}
	if err := b.Seal(t.Context(), 0); err == nil {
		t.Error("reason 0 can be sealed")
	}
	if s := b.Stats(); s.Segments != 0 || s.Records != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSegmentsAreSealedAtTheirSize(t *testing.T) {
	fsys := memfs.New()
	b := open(t, fsys, "/b", func(o *Options) { o.SegmentBytes = 4096 })
	for i := range 100 {
		add(t, b, Outage, batch("web", uint64(3*i+1), 3))
	}
	big := batch("big", 1, 1000) // larger than a segment: has one of its own
	add(t, b, Outage, big)
	add(t, b, Outage, batch("web", 301, 3))
	list := b.Segments()
	if len(list) < 5 {
		t.Fatalf("%d segments", len(list))
	}
	for i, s := range list {
		last := i == len(list)-1
		if s.Sealed == last || s.Number != uint32(i+1) {
			t.Errorf("segment %d of %d: %+v", i, len(list), s)
		}
		if alone := s.Records == 1 && s.Parts[0].Category == "big"; s.Bytes > 4096+1024 && !alone {
			t.Errorf("segment %d has %d bytes and %d records", i, s.Bytes, s.Records)
		}
		info, err := fsys.Stat(s.Path)
		must(t, err)
		if info.Size() != s.Bytes {
			t.Errorf("segment %d has %d bytes, and is said to have %d", i, info.Size(), s.Bytes)
		}
	}
	all, reports := sequences(t, fsys, "/b", "web")
	if len(all) != 303 || !slices.IsSorted(all) {
		t.Fatalf("%d messages came back", len(all))
	}
	for i := range reports {
		if reports[i].Damaged() || reports[i].Tail > 0 {
			t.Errorf("%+v", reports[i])
		}
	}
}

func TestPartsTellWhatASegmentHolds(t *testing.T) {
	fsys := memfs.New()
	b := open(t, fsys, "/b")
	for _, r := range []*Record{
		batch("web", 1, 10), batch("web", 11, 5), batch("web", 20, 1), batch("db", 1, 2), batch("web", 21, 4),
	} {
		add(t, b, Spill, r)
	}
	other := batch("web", 100, 1)
	other.Partition = "dt=2026-11-22/hr=11"
	add(t, b, Spill, other)
	want := []Part{
		{"web", 7, "dt=2026-11-22/hr=10", 20, 0, []Range{{1, 15}, {20, 24}}},
		{"db", 7, "dt=2026-11-22/hr=10", 2, 0, []Range{{1, 2}}},
		{"web", 7, "dt=2026-11-22/hr=11", 1, 0, []Range{{100, 100}}},
	}
	check := func(what string, s Segment) {
		t.Helper()
		got := copied(s.Parts)
		var bytes int64
		for i := range got {
			bytes += got[i].Bytes
			got[i].Bytes = 0
		}
		if !reflect.DeepEqual(got, want) || s.Messages != 23 || s.Records != 6 || bytes < 23*10 {
			t.Errorf("%s: %+v", what, s)
		}
	}
	check("open", b.Segments()[0])
	listed, err := List(fsys, "/b")
	must(t, err)
	check("open, listed", listed[0])
	must(t, b.Seal(t.Context(), Spill))
	must(t, b.Seal(t.Context(), Spill))
	check("sealed", b.Segments()[0])
	listed, err = List(fsys, "/b")
	must(t, err)
	check("sealed, listed", listed[0])
	must(t, b.Close(t.Context()))
	check("after a restart", open(t, fsys, "/b", next).Segments()[0])
}

func TestSealOfNothingDoesNothing(t *testing.T) {
	fsys := memfs.New()
	b := open(t, fsys, "/b")
	for range 3 {
		must(t, b.Seal(t.Context(), Outage))
	}
	if got := fsys.Files(); !slices.Equal(got, []string{"/b/lock"}) {
		t.Fatalf("files: %q", got)
	}
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS(), "memfs": memfs.New()} {
		t.Run("fs="+name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "buffer")
			b := open(t, fsys, dir)
			add(t, b, Spill, batch("web", 1, 1))
			if _, err := Open(fsys, dir, options()); !errors.Is(err, ErrLocked) {
				t.Fatalf("second Open: %v", err)
			}
			list, err := List(fsys, dir) // needs no lock
			must(t, err)
			if len(list) != 1 || list[0].Sealed {
				t.Fatalf("%+v", list)
			}
			must(t, b.Close(t.Context()))
			must(t, b.Close(t.Context()))
			if err := b.Append(t.Context(), Spill, batch("web", 2, 1)); !errors.Is(err, ErrClosed) {
				t.Fatalf("append after Close: %v", err)
			}
			again := open(t, fsys, dir, next)
			if list := again.Segments(); len(list) != 1 || !list[0].Sealed || list[0].Messages != 1 {
				t.Fatalf("after Close and Open: %+v", list)
			}
		})
	}
}

func TestOpenRefusesOptionsThatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no log":       func(o *Options) { o.Log = nil },
		"no clock":     func(o *Options) { o.Now = nil },
		"no id":        func(o *Options) { o.Identity.Aggregator = "" },
		"id is a path": func(o *Options) { o.Identity.Aggregator = "../ag1" },
		"unknown sync": func(o *Options) { o.Sync = "sometimes" },
	} {
		o := options()
		change(&o)
		if _, err := Open(memfs.New(), "/b", o); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

func TestManyCallersShareTheirSyncs(t *testing.T) {
	fsys := vfs.OS()
	dir := filepath.Join(t.TempDir(), "buffer")
	b := open(t, fsys, dir, func(o *Options) { o.SegmentBytes = 64 << 10 })
	const callers, each = 16, 40
	var wait sync.WaitGroup
	for c := range callers {
		wait.Go(func() {
			for i := range each {
				r := batch(fmt.Sprint("web", c%4), uint64(c*1000+i+1), 1+i%3)
				if err := b.Append(t.Context(), Reason(1+c%2), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	s := b.Stats()
	if s.Records != callers*each || s.Syncs != s.Commits || s.Syncs > s.Records {
		t.Fatalf("%+v", s)
	}
	total := 0
	for c := range 4 {
		all, _ := sequences(t, fsys, dir, fmt.Sprint("web", c))
		total += len(all)
	}
	if int64(total) != s.Messages {
		t.Fatalf("%d messages came back of %d", total, s.Messages)
	}
	t.Logf("records=%d syncs=%d", s.Records, s.Syncs)
}

// TestReadingWhileItIsWrittenSeesNoDamage reads a segment over and over while
// records are appended, segments end and begin.
func TestReadingWhileItIsWrittenSeesNoDamage(t *testing.T) {
	fsys := vfs.OS()
	dir := filepath.Join(t.TempDir(), "buffer")
	b := open(t, fsys, dir, func(o *Options) { o.SegmentBytes = 32 << 10; o.Sync = SyncNone })
	stop, stopped := make(chan struct{}), make(chan struct{})
	reads := 0
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			acked := b.Stats().Messages
			all, reports := sequences(t, fsys, dir, "web")
			if int64(len(all)) < acked {
				t.Errorf("%d messages are read of %d acknowledged", len(all), acked)
			}
			for i := range reports {
				if reports[i].Damaged() {
					t.Errorf("damage: %+v", reports[i])
				}
			}
			reads++
		}
	}()
	for i := range 400 {
		add(t, b, Spill, batch("web", uint64(i*20+1), 20))
	}
	close(stop)
	<-stopped
	if reads < 2 {
		t.Skipf("only %d reads beside the writing: nothing was shown", reads)
	}
}
