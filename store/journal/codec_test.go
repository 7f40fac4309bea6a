package journal

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

func drawLine(t *rapid.T) Line {
	l := Line{
		Offset:  rapid.Int64Range(0, 1<<40).Draw(t, "offset"),
		First:   rapid.Uint64Range(1, 1<<60).Draw(t, "first"),
		Counted: rapid.Bool().Draw(t, "counted"),
	}
	l.End = l.Offset + rapid.Int64Range(1, 1<<30).Draw(t, "bytes")
	l.Last = l.First + rapid.Uint64Range(0, 1<<20).Draw(t, "more")
	sender := rapid.StringN(0, 20, 40)
	if rapid.Bool().Draw(t, "run") {
		for range rapid.IntRange(1, 5).Draw(t, "arrivals") {
			l.Arrivals = append(l.Arrivals, catalog.Arrival{
				First: rapid.Uint64().Draw(t, "arrival"), Millis: rapid.Int64().Draw(t, "millis"),
				Senders: orNil(rapid.SliceOfN(sender, 0, 4).Draw(t, "senders")),
			})
		}
	} else {
		l.Arrived = rapid.Int64().Draw(t, "arrived")
		l.Senders = orNil(rapid.SliceOfN(sender, 0, 4).Draw(t, "senders"))
	}
	for range rapid.IntRange(0, 6).Draw(t, "ids") {
		l.IDs = append(l.IDs, catalog.BatchSpan{
			BatchID: catalog.BatchID{
				Producer: catalog.Text(rapid.SampledFrom([]string{"", "a", "b", "\xff\x00"}).Draw(t, "producer")),
				Epoch:    rapid.Uint64().Draw(t, "epoch"), Sequence: rapid.Uint64().Draw(t, "sequence"),
			},
			From: rapid.Uint32().Draw(t, "from"), First: rapid.Uint64().Draw(t, "id first"), Messages: rapid.Uint32().Draw(t, "messages"),
		})
	}
	for range rapid.IntRange(0, 6).Draw(t, "feeds") {
		l.LineFeeds = append(l.LineFeeds, catalog.Span{
			Offset: rapid.Int64().Draw(t, "feed"), Length: rapid.Int64Range(1, 1<<30).Draw(t, "length"),
		})
	}
	return l
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// decoded reads the bodies as the records of one file.
func decoded(b *bodies) (*reading, error) {
	r := &reading{names: make(names), of: make(map[uint64]*statement)}
	from := 0
	for _, end := range b.ends {
		p := &body{b: b.b[from:end]}
		from = end
		if err := r.apply(p.byte(), p.uint(), p); err != nil {
			return r, err
		}
		if p.bad || len(p.b) != 0 {
			return r, fmt.Errorf("%d bytes left, bad %v", len(p.b), p.bad)
		}
	}
	return r, nil
}

func TestEveryLineComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawLine(t)
		var b bodies
		encodeBegin(&b, 9, &Begin{Cluster: "n1"}, false)
		encodeLine(&b, 9, &want)
		r, err := decoded(&b)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.statements[0].lines[0]; !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestALongLineIsSeveralRecords(t *testing.T) {
	want := Line{End: 1 << 22, First: 1, Last: 100_000}
	for n := range 100_000 {
		want.IDs = append(want.IDs, catalog.BatchSpan{
			BatchID: catalog.BatchID{Producer: catalog.Text(fmt.Sprint("p", n%3)), Epoch: 4, Sequence: uint64(n)},
			First:   uint64(n + 1), Messages: 1,
		})
		want.LineFeeds = append(want.LineFeeds, catalog.Span{Offset: int64(n) * 40, Length: 40})
	}
	want.Arrivals = []catalog.Arrival{{First: 1, Millis: 5, Senders: []string{"a", "b"}}, {First: 70, Millis: 3000, Senders: []string{"a"}}}
	var b bodies
	encodeBegin(&b, 9, &Begin{Cluster: "n1"}, false)
	encodeLine(&b, 9, &want)
	from := 0
	for _, end := range b.ends {
		if end-from > chunk+100 {
			t.Errorf("a record of %d bytes", end-from)
		}
		from = end
	}
	r, err := decoded(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.ends) < 5 || !reflect.DeepEqual(r.statements[0].lines[0], want) {
		t.Errorf("%d records do not give the line back", len(b.ends))
	}
}

func FuzzApplyNeverPanics(f *testing.F) {
	var b bodies
	encodeBegin(&b, 1, &Begin{Cluster: "n1", Path: "p", OpenPath: "o", Identity: ag1}, true)
	line := Line{Offset: 0, End: 10, First: 1, Last: 2, Arrived: 5, Senders: []string{"s"},
		IDs:       []catalog.BatchSpan{{BatchID: catalog.BatchID{Producer: "p", Epoch: 1, Sequence: 2}, First: 1, Messages: 2}},
		LineFeeds: []catalog.Span{{Offset: 1, Length: 4}}}
	encodeLine(&b, 1, &line)
	encodeTorn(&b, 1, 10)
	encodeMark(&b, kindStated, 1)
	encodeMark(&b, kindSealed, 1)
	from := 0
	for _, end := range b.ends {
		f.Add(b.b[from:end])
		from = end
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := reading{names: make(names), of: make(map[uint64]*statement)}
		s := &statement{lines: []Line{{Offset: 0, End: 1, First: 1, Last: 1}}}
		r.of[1] = s
		p := &body{b: in}
		_ = r.apply(p.byte(), p.uint(), p)
		for _, l := range s.lines {
			if l.End < l.Offset || l.Last < l.First {
				t.Errorf("line %+v", l)
			}
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	j, _, err := Open(vfs.OS(), b.TempDir(), options())
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close(b.Context())
	held := newBuilder()
	e, err := j.Begin(b.Context(), beginOf(1), held)
	if err != nil {
		b.Fatal(err)
	}
	l := Line{First: 1, Last: 100, End: 20_000, Arrived: time.Now().UnixNano(), Senders: []string{"10.1.2.3", "10.1.2.4"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Batch(&l); err != nil {
			b.Fatal(err)
		}
	}
}
