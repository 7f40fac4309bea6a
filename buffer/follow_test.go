package buffer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"twinscribe/buffer/vfs/memfs"
)

// withRecords is a buffer with some records in one segment, and that segment.
func withRecords(t *testing.T, fsys *memfs.FS, o Options, records int) (*Buffer, Segment) {
	t.Helper()
	all := options()
	all.NoLock = o.NoLock
	b, err := Open(fsys, "/b", all)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		m := fmt.Sprintf("message %d\n", i)
		r := Record{Category: "web", Chain: 1, Partition: "p", First: uint64(i + 1), Ends: []uint32{uint32(len(m))}, Data: []byte(m)}
		if err := b.Append(t.Context(), Outage, &r); err != nil {
			t.Fatal(err)
		}
	}
	return b, b.Segments()[0]
}

// follow reads on from a record that was read before, and gives the numbers of
// the messages.
func follow(t *testing.T, fsys *memfs.FS, seg Segment, from int64, number uint64) (got []uint64, next int64, report Report) {
	t.Helper()
	f, err := OpenSegment(fsys, seg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next = from
	report, err = f.Follow(from, number, seg.Bytes, func(r *Record) error {
		got, next = append(got, r.First), r.End()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, next, report
}

func TestFollowReadsWhatIsAcknowledgedAndGoesOn(t *testing.T) {
	fsys := memfs.New()
	b, seg := withRecords(t, fsys, Options{NoLock: true}, 3)
	defer b.Close(t.Context())
	got, next, _ := follow(t, fsys, seg, 0, 0)
	if !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Fatalf("records %v", got)
	}
	m := "one more\n"
	if err := b.Append(t.Context(), Outage, &Record{Category: "web", Chain: 1, Partition: "p", First: 4, Ends: []uint32{9}, Data: []byte(m)}); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := follow(t, fsys, seg, next, 4); got != nil {
		t.Errorf("beyond what the caller says is acknowledged: %v", got)
	}
	if err := b.Seal(t.Context(), Outage); err != nil {
		t.Fatal(err)
	}
	got, next, report := follow(t, fsys, seg, next, 4) // to the end, as it is sealed
	if !slices.Equal(got, []uint64{4}) || report.Damaged() {
		t.Errorf("records %v, %+v", got, report)
	}
	if got, _, report := follow(t, fsys, seg, next, 5); got != nil || report.Damaged() {
		t.Errorf("behind the last record: %v, %+v", got, report)
	}
	if _, err := fsys.Stat("/b/lock"); err == nil {
		t.Error("there is a lock")
	}
}

func TestFollowSaysWhatIsDamagedAndRemoveKeepsIt(t *testing.T) {
	fsys := memfs.New()
	b, seg := withRecords(t, fsys, Options{}, 5)
	if err := b.Remove(seg.Name, false); !errors.Is(err, ErrWriting) {
		t.Errorf("a segment that is written is removed: %v", err)
	}
	if err := b.Seal(t.Context(), Outage); err != nil {
		t.Fatal(err)
	}
	flip := func(at int64) {
		f, err := fsys.OpenFile(seg.Path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{0xff}, at); err != nil {
			t.Fatal(err)
		}
	}
	_, end, _ := follow(t, fsys, seg, 0, 0)
	flip(64 + 130)
	flip(end - 20)
	got, next, report := follow(t, fsys, seg, 0, 0)
	if !slices.Equal(got, []uint64{1, 3, 4}) || len(report.Damage) != 2 || report.MissingRecords != 2 {
		t.Errorf("records %v, damage %v", got, report.Damage)
	}
	if got, _, report := follow(t, fsys, seg, next, 5); got != nil || len(report.Damage) != 1 {
		t.Errorf("the damaged end again: %v, %v", got, report.Damage)
	}
	if err := b.Remove(seg.Name, true); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(seg.Name, true); !errors.Is(err, ErrMissing) {
		t.Errorf("a second time: %v", err)
	}
	var names []string
	for _, name := range fsys.Files() {
		if strings.Contains(name, ".seg") || strings.HasSuffix(name, ".damaged") {
			names = append(names, name)
		}
	}
	if len(names) != 1 || !strings.HasPrefix(names[0], "/b/quarantine/") {
		t.Errorf("files: %v", names)
	}
	if s := b.Stats(); s.Quarantined == 0 || s.Bytes != s.Quarantined || s.Segments != 0 {
		t.Errorf("stats: %+v", s)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
