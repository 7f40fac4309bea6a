package buffer

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strconv"
	"testing"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

// written makes a buffer of records with one message each and returns its only
// segment: sealed, or as a kill leaves it.
func written(t testing.TB, records int, sealed bool) (disk *memfs.FS, path string, content []byte) {
	t.Helper()
	disk = memfs.New()
	b, err := Open(disk, "/b", options())
	must(t, err)
	for i := range records {
		r := batch("web", uint64(i+1), 1)
		r.Partition, r.Category = "d", "web"
		add(t, b, Outage, r)
	}
	if sealed {
		must(t, b.Seal(context.Background(), Outage))
	}
	path = b.Segments()[0].Path
	content, err = vfs.ReadFile(disk, path)
	must(t, err)
	must(t, b.Close(context.Background()))
	return disk, path, content
}

// put gives a file another content.
func put(t testing.TB, fsys vfs.FS, path string, content []byte) {
	t.Helper()
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

// numbers are the sequences in a segment whose records have one message each.
// Each must be one that was written.
func numbers(t testing.TB, fsys vfs.FS, path string) (all []uint64, report Report) {
	t.Helper()
	text := []byte("web message ")
	report, err := ReadSegment(fsys, path, func(r *Record) error {
		want := strconv.AppendUint(text, r.First, 10)
		if r.Len() != 1 || !bytes.Equal(r.Message(0), want) || r.Number != r.First {
			t.Fatalf("record %d is none that was written: %+v", r.Number, r)
		}
		all = append(all, r.First)
		return nil
	})
	must(t, err)
	return all, report
}

// TestEveryCutOfASegmentKeepsItsWholeRecords cuts a segment of 50 records,
// with and without a footer, at every offset.
func TestEveryCutOfASegmentKeepsItsWholeRecords(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		disk, path, content := written(t, 50, sealed)
		all, _ := read(t, disk, path)
		for cut := range content {
			put(t, disk, path, content[:cut])
			got, report := numbers(t, disk, path)
			whole := 0
			for whole < 50 && all[whole].Offset+24+int64(all[whole].bodySize()) <= int64(cut) {
				whole++
			}
			if !slices.Equal(got, upTo(uint64(whole))) || report.Damaged() {
				t.Fatalf("cut at %d: %v, %+v", cut, got, report)
			}
		}
	}
}

// TestEveryFlippedBitOfASegmentIsToldOrHarmless flips every bit of a sealed
// segment and of one without a footer: one record at most is missing, and then
// that is said; nothing appears that was not written.
func TestEveryFlippedBitOfASegmentIsToldOrHarmless(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		disk, path, content := written(t, 50, sealed)
		f, err := disk.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		silent := 0
		for at := range content {
			for bit := range 8 {
				_, err := f.WriteAt([]byte{content[at] ^ 1<<bit}, int64(at))
				must(t, err)
				got, report := numbers(t, disk, path)
				lost := 50 - len(got)
				told := report.Damaged() || report.Tail > 0
				switch {
				case lost > 1, lost == 1 && !told, lost == 1 && !report.Damaged() && (sealed || got[len(got)-1] == 50):
					t.Fatalf("sealed=%v, bit %d of byte %d: %d records are missing: %+v", sealed, bit, at, lost, report)
				case sealed && report.MissingRecords != int64(lost):
					t.Fatalf("bit %d of byte %d: %d records are missing: %+v", bit, at, lost, report)
				case at < record.FileHeaderSize && (lost > 0 || report.Segment.Problem == ""):
					t.Fatalf("header, byte %d: %+v", at, report)
				case !told:
					silent++ // padding
				}
			}
			_, err := f.WriteAt(content[at:at+1], int64(at))
			must(t, err)
		}
		if silent > len(content) {
			t.Fatalf("%d flips of %d were not noticed", silent, 8*len(content))
		}
		must(t, f.Close())
		t.Logf("sealed=%v flips=%d not_noticed=%d (padding)", sealed, 8*len(content), silent)
	}
}

// TestEveryZeroedBlockOfASegmentIsTold zeroes each block of 512 bytes, and lets
// the next start at what is left.
func TestEveryZeroedBlockOfASegmentIsTold(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		disk, path, content := written(t, 50, sealed)
		before, _ := read(t, disk, path)
		for from := 0; from < len(content); from += 512 {
			hurt := bytes.Clone(content)
			to := min(from+512, len(hurt))
			clear(hurt[from:to])
			image := memfs.New()
			must(t, image.MkdirAll("/b", 0o700))
			put(t, image, path, hurt)
			var want []uint64
			for i := range before {
				if before[i].End() <= int64(from) || before[i].Offset >= int64(to) {
					want = append(want, before[i].First)
				}
			}
			got, report := numbers(t, image, path)
			if !slices.Equal(got, want) || !report.Damaged() && report.Tail == 0 {
				t.Fatalf("sealed=%v, block at %d: %v, want %v: %+v", sealed, from, got, want, report)
			}
			b := open(t, image, "/b", next)
			b.verifyOne(t.Context())
			must(t, b.Close(t.Context()))
			got, _ = numbers(t, image, path)
			if !slices.Equal(got, want) {
				t.Fatalf("sealed=%v, block at %d: after a start %v, want %v", sealed, from, got, want)
			}
			kept, err := image.ReadDir("/b/quarantine")
			must(t, err)
			if len(kept) == 0 && len(got) < 50 {
				t.Fatalf("sealed=%v, block at %d: nothing is in quarantine", sealed, from)
			}
		}
	}
}
