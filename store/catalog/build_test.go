package catalog

import (
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newTestBuilder() *Builder {
	return NewBuilder(Head{
		File: "20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log", Identity: Identity{Aggregator: "ag1", Epoch: 42, Start: 0x7f3c91d2},
		Chain: 3, Category: "web", Partition: "dt=2026-11-22/hr=10",
	})
}

// at is a wall clock of so many seconds.
func at(seconds int64) int64 { return (1_800_000_000 + seconds) * int64(time.Second) }

func TestRangesAreJoinedWhereOffsetAndSequenceFollow(t *testing.T) {
	b := newTestBuilder()
	b.Add(&Line{Offset: 0, End: 100, First: 1, Last: 10})
	b.Add(&Line{Offset: 100, End: 150, First: 11, Last: 11})
	b.Add(&Line{Offset: 150, End: 200, First: 20, Last: 24}) // a batch went elsewhere
	b.Add(&Line{Offset: 200, End: 300, First: 25, Last: 30, Counted: true})
	b.Add(&Line{Offset: 300, End: 310, First: 31, Last: 31})
	b.Sum(make([]byte, 310))
	m := b.Snapshot()
	want := []Range{
		{First: 1, Last: 11, Offset: 0, End: 150},
		{First: 20, Last: 24, Offset: 150, End: 200},
		{First: 25, Last: 30, Offset: 200, End: 300, Counted: true},
		{First: 31, Last: 31, Offset: 300, End: 310},
	}
	if !slices.Equal(m.Ranges, want) || m.Messages != 23 || m.Bytes != 310 || b.Items() != 4 {
		t.Errorf("%d messages, %d bytes, %+v", m.Messages, m.Bytes, m.Ranges)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

func TestALineThatDoesNotFollowPanics(t *testing.T) {
	for _, l := range []Line{{Offset: 5, End: 10, First: 2, Last: 2}, {Offset: 15, End: 20, First: 2, Last: 2}, {Offset: 10, End: 9, First: 2, Last: 2}, {Offset: 10, End: 20, First: 2, Last: 1}} {
		b := newTestBuilder()
		b.Add(&Line{Offset: 0, End: 10, First: 1, Last: 1})
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was taken behind byte 10", l)
				}
			}()
			b.Add(&l)
		}()
	}
}

func TestChecksumIsThatOfTheBytesHoweverTheyCome(t *testing.T) {
	text := []byte(strings.Repeat("one\ntwo\nthree\n", 1000))
	b := newTestBuilder()
	b.Add(&Line{Offset: 0, End: int64(len(text)), First: 1, Last: 3000, Arrived: at(0)})
	for from := 0; from < len(text); {
		n := min(1+from*7%1013, len(text)-from)
		b.Sum(text[from : from+n])
		from += n
	}
	m := b.Manifest("size", time.Unix(5, 6))
	if want := crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)); m.CRC32C != want {
		t.Errorf("checksum %08x, want %08x", m.CRC32C, want)
	}
	if m.Reason != "size" || m.Sealed != 5_000_000_006 || m.Start != "7f3c91d2" || m.Version != Version {
		t.Errorf("%+v", m)
	}
	if _, err := m.Encode(); err != nil {
		t.Error(err)
	}
}

func TestAManifestOfBytesThatWereNotSummedPanics(t *testing.T) {
	b := newTestBuilder()
	b.Add(&Line{Offset: 0, End: 10, First: 1, Last: 1})
	b.Sum(make([]byte, 9))
	defer func() {
		if recover() == nil {
			t.Error("a manifest with a wrong checksum")
		}
	}()
	b.Snapshot()
}

func TestArrivalsAreOneASecondWithTheSendersOfIt(t *testing.T) {
	b := newTestBuilder()
	offset, seq := int64(0), uint64(1)
	add := func(arrived int64, senders ...string) {
		b.Add(&Line{Offset: offset, End: offset + 10, First: seq, Last: seq, Arrived: arrived, Senders: senders})
		b.Sum(make([]byte, 10))
		offset, seq = offset+10, seq+1
	}
	add(at(0), "a")
	add(at(0)+5e8, "b", "a")
	add(at(1), "a", "b")
	add(at(1)+9e8, "b")
	add(at(7), "c")
	add(at(3), "c") // the clock was set back
	want := []Arrival{
		{First: 1, Millis: 1_800_000_000_000, Senders: []string{"a", "b"}},
		{First: 3, Millis: 1_800_000_001_000, Senders: []string{"a", "b"}},
		{First: 5, Millis: 1_800_000_007_000, Senders: []string{"c"}},
		{First: 6, Millis: 1_800_000_003_000, Senders: []string{"c"}},
	}
	if got := b.Snapshot().Arrivals; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if a := b.Snapshot().Arrivals; &a[0].Senders[0] != &a[1].Senders[0] {
		t.Error("a steady set of senders is kept twice")
	}
}

func TestArrivalsOfALongLivedFileAreBounded(t *testing.T) {
	for _, senders := range []int{1, 300, 5000} {
		b := newTestBuilder()
		const seconds = 4000
		for n := range int64(seconds) {
			l := Line{Offset: n, End: n + 1, First: uint64(n + 1), Last: uint64(n + 1), Arrived: at(n)}
			for k := range min(senders, 50) {
				l.Senders = append(l.Senders, fmt.Sprint("s", (int(n)*17+k*7)%senders))
			}
			b.Add(&l)
		}
		b.Sum(make([]byte, seconds))
		got := b.Snapshot().Arrivals
		refs := 0
		for i, a := range got {
			refs += len(a.Senders)
			if i > 0 && (a.First <= got[i-1].First || a.Millis <= got[i-1].Millis) {
				t.Fatalf("arrival %d is %+v after %+v", i, a, got[i-1])
			}
			if len(a.Senders) > maxSenders+1 {
				t.Fatalf("arrival with %d senders", len(a.Senders))
			}
		}
		if len(got) > maxArrivals+1 || refs > maxSenderRefs+2*maxSenders || got[0].First != 1 {
			t.Errorf("%d senders: %d arrivals, %d references", senders, len(got), refs)
		}
		if len(got) < 16 {
			t.Errorf("%d senders: only %d arrivals are left", senders, len(got))
		}
	}
}

func TestMoreSendersThanAreKeptAreTold(t *testing.T) {
	b := newTestBuilder()
	l := Line{Offset: 0, End: 10, First: 1, Last: 10, Arrived: at(0)}
	for n := range 3000 {
		l.Senders = append(l.Senders, fmt.Sprint("s", n))
	}
	b.Add(&l)
	b.Sum(make([]byte, 10))
	got := b.Snapshot().Arrivals[0].Senders
	if len(got) != maxSenders+1 || got[maxSenders] != manySenders {
		t.Errorf("%d senders, the last is %q", len(got), got[len(got)-1])
	}
}

func TestWhatASnapshotHoldsDoesNotChangeLater(t *testing.T) {
	b := newTestBuilder()
	offset, seq := int64(0), uint64(1)
	grow := func(n int) {
		for range n {
			b.Add(&Line{
				Offset: offset, End: offset + 10, First: seq, Last: seq, Arrived: at(int64(seq)), Senders: []string{fmt.Sprint("s", seq%7)},
				IDs: []BatchSpan{{First: seq, Messages: 1}}, LineFeeds: []Span{{Offset: offset, Length: 10}},
			})
			b.Sum(make([]byte, 10))
			offset, seq = offset+10, seq+1
		}
	}
	var kept []*Manifest
	var before []string
	for range 50 {
		grow(37)
		m := b.Snapshot()
		kept = append(kept, m)
		before = append(before, fmt.Sprintf("%+v", *m))
	}
	for i, m := range kept {
		if fmt.Sprintf("%+v", *m) != before[i] {
			t.Fatalf("snapshot %d has changed", i)
		}
	}
}

func TestLinesGiveTheSameManifestAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newTestBuilder()
		offset, seq, clock := int64(0), uint64(1), int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "batches") {
			if rapid.IntRange(0, 5).Draw(t, "gap") == 0 {
				seq += rapid.Uint64Range(1, 9).Draw(t, "elsewhere")
			}
			n := rapid.Int64Range(1, 5).Draw(t, "messages")
			clock += rapid.Int64Range(0, 2500).Draw(t, "millis")
			l := Line{
				Offset: offset, End: offset + 10*n, First: seq, Last: seq + uint64(n) - 1,
				Arrived: at(0) + clock*int64(time.Millisecond),
				Senders: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID[string]).Draw(t, "senders"),
			}
			for i := range n {
				if rapid.IntRange(0, 3).Draw(t, "feeds") == 0 {
					l.LineFeeds = append(l.LineFeeds, Span{Offset: offset + 10*i, Length: 10})
				}
				if rapid.IntRange(0, 3).Draw(t, "id") == 0 {
					l.IDs = append(l.IDs, BatchSpan{BatchID: BatchID{Producer: "p", Sequence: seq}, First: seq + uint64(i), Messages: 1})
				}
			}
			b.Add(&l)
			offset, seq = l.End, l.Last+1
		}
		text := make([]byte, offset)
		b.Sum(text)
		again := newTestBuilder()
		lines := b.Lines()
		for i := range lines {
			again.Add(&lines[i])
		}
		again.Sum(text)
		want, got := b.Snapshot(), again.Snapshot()
		if fmt.Sprintf("%+v", *want) != fmt.Sprintf("%+v", *got) {
			t.Fatalf("got  %+v\nwant %+v", *got, *want)
		}
		if err := got.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLineFeedsInsideMessagesAreFound(t *testing.T) {
	for _, c := range []struct {
		messages []string
		want     []Span
	}{
		{nil, nil},
		{[]string{"one", "two"}, nil},
		{[]string{""}, nil},
		{[]string{"\n"}, []Span{{100, 2}}},
		{[]string{"one", "a\nb", "", "c\n\nd"}, []Span{{104, 4}, {109, 5}}},
	} {
		var data []byte
		var ends []uint32
		for _, m := range c.messages {
			data = append(append(data, m...), '\n')
			ends = append(ends, uint32(len(data)))
		}
		if got := LineFeeds(nil, data, ends, 100); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %v, want %v", c.messages, got, c.want)
		}
	}
}

func BenchmarkBuilderAdd(b *testing.B) {
	text := make([]byte, 64<<10)
	builder := newTestBuilder()
	l := Line{Senders: []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, First: 1, Last: 300}
	now := at(0)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		l.End = l.Offset + int64(len(text))
		l.Arrived = now
		builder.Add(&l)
		builder.Sum(text)
		now += int64(time.Millisecond)
		l.Offset, l.First, l.Last = l.End, l.Last+1, l.Last+300
	}
}
