package buffer

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

// fuzzName is a segment's name with a salt that the corpus is written with.
const fuzzName = "ag1-0000002a.7f3c91d2-00000001.0123456789abcdef.seg"

// fuzzSegment is a segment of that name: header, records, footer.
func fuzzSegment(t testing.TB, records int, sealed bool) []byte {
	t.Helper()
	n, _, ok := parseName(fuzzName)
	if !ok {
		t.Fatal(fuzzName)
	}
	seg := segment{name: n, identity: n.identity, number: n.number, reason: Outage, created: 1}
	b := seg.header()
	for i := range records {
		r := batch("web", uint64(i+1), 1)
		r.Senders, r.IDs = []string{"10.0.0.1"}, []ID{{Producer: "p", Messages: 1}}
		b = record.AppendRecord(b, n.salt, uint64(i+1), r.appendBody(nil, Outage))
		seg.index.addRecord(r)
	}
	if !sealed {
		return b
	}
	found, err := record.Scan(bytes.NewReader(b), int64(len(b)), record.ScanOptions{Salt: n.salt, From: 64, First: 1}, func(record.Record) error { return nil })
	must(t, err)
	return appendFooter(b, n.salt, Outage, seg.index.list, trailer{
		records: found.Records, first: found.First, last: found.Next - 1, end: found.End, sums: found.Sums})
}

// FuzzReadSegment reads any bytes as a segment, and lets a start recover them:
// what could be read before can be read after, and nothing else.
func FuzzReadSegment(f *testing.F) {
	sealed, open := fuzzSegment(f, 5, true), fuzzSegment(f, 5, false)
	f.Add(sealed)
	f.Add(open)
	f.Add(open[:len(open)-7])
	f.Add(append(bytes.Clone(open), "torn"...))
	f.Add(append(bytes.Clone(open[:200]), open[208:]...))
	f.Add(sealed[64:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		disk := memfs.New()
		must(t, disk.MkdirAll("/b", 0o700))
		path := filepath.Join("/b", fuzzName)
		put(t, disk, path, content)
		gather := func(fsys vfs.FS) (all []Record, report Report, err error) {
			report, err = ReadSegment(fsys, path, func(r *Record) error {
				if r.check() != nil || r.Last() < r.First {
					t.Fatalf("a record that no writer writes: %+v", r)
				}
				all = append(all, clone(r))
				return nil
			})
			return all, report, err
		}
		before, report, err := gather(disk)
		if err != nil {
			return // another aggregator's header, a newer version
		}
		if report.Records != int64(len(before)) {
			t.Fatalf("%+v for %d records", report, len(before))
		}
		o := options()
		next(&o)
		b, err := Open(disk, "/b", o)
		if errors.Is(err, record.ErrNewer) {
			return
		}
		must(t, err)
		b.verifyOne(context.Background())
		must(t, b.Close(context.Background()))
		after, _, err := gather(disk)
		if len(before) == 0 {
			return // the file may be gone
		}
		must(t, err)
		if len(after) != len(before) {
			t.Fatalf("%d records before the start, %d after it", len(before), len(after))
		}
		for i := range after {
			if !bytes.Equal(after[i].Data, before[i].Data) || after[i].First != before[i].First {
				t.Fatalf("record %d changed", i)
			}
		}
	})
}

// FuzzDecodeBody decodes any bytes as a body whose checksum was right.
func FuzzDecodeBody(f *testing.F) {
	full := batch("web", 7, 3)
	full.Senders, full.Note = []string{"10.0.0.1", ""}, "note"
	full.IDs = []ID{{Producer: "p", Epoch: 1, Sequence: 2, From: 3, First: 7, Messages: 1}}
	f.Add(full.appendBody(nil, DeadLetter))
	f.Add(batch("", 1, 1).appendBody(nil, Spill))
	f.Add(make([]byte, bodyFixed))
	huge := full.appendBody(nil, Spill)
	for i := 24; i < 48; i++ {
		huge[i] = 0xff
	}
	f.Add(huge)
	f.Fuzz(func(t *testing.T, body []byte) {
		var d decoder
		if err := d.decode(body); err != nil {
			return
		}
		again := d.r.appendBody(nil, d.reason)
		if copy(again[48:56], body[48:56]); !bytes.Equal(again, body) { // reserved bytes may be anything
			t.Fatalf("%d bytes were decoded and became %d others", len(body), len(again))
		}
	})
}

// FuzzParseIndex reads any bytes as the footer's index, under a right checksum.
func FuzzParseIndex(f *testing.F) {
	sealed := fuzzSegment(f, 5, true)
	f.Add(sealed[len(sealed)-200 : len(sealed)-trailerSize])
	f.Add([]byte{1, 2, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := trailer{indexBytes: uint32(len(b)), indexSum: record.SaltedChecksum(5, b)}
		x, _, err := parseIndex(b, 5, tr)
		if err != nil {
			return
		}
		var sum int64
		for _, p := range x.list {
			sum += p.Messages
		}
		if sum != x.messages || sum < 0 {
			t.Fatalf("%d messages in parts, %d in all", sum, x.messages)
		}
	})
}
