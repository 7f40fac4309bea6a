package buffer

import (
	"errors"
	"testing"

	"twinscribe/buffer/vfs/memfs"
)

func TestLimitsRefuseWholeRecords(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options)
	}{
		{"max_bytes", func(o *Options) { o.MaxBytes = 20_000 }},
		{"of the reason", func(o *Options) { o.ReasonLimit = map[Reason]int64{Outage: 19_000} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			fsys := memfs.New()
			b := open(t, fsys, "/b", test.change, func(o *Options) { o.SegmentBytes = 4096 })
			n := uint64(0)
			var err error
			for err == nil {
				if err = b.Append(t.Context(), Outage, batch("web", n+1, 1)); err == nil {
					n++
				}
			}
			if !errors.Is(err, ErrFull) || n < 50 {
				t.Fatalf("after %d records: %v", n, err)
			}
			s := b.Stats()
			if s.Bytes > 20_000 || s.Refused != 1 || s.Records != int64(n) {
				t.Fatalf("%+v", s)
			}
			if test.name == "of the reason" {
				add(t, b, Spill, batch("web", 1, 1)) // another reason does not notice
			}
			first := b.Segments()[0]
			if _, err := b.Forget(first.Name); err != nil {
				t.Fatal(err)
			}
			add(t, b, Outage, batch("web", n+1, 1))
			var onDisk int64
			for _, f := range fsys.Files() {
				info, err := fsys.Stat(f)
				must(t, err)
				onDisk += info.Size()
			}
			if s := b.Stats(); s.Bytes != onDisk {
				t.Fatalf("%d bytes are counted, %d are on the disk", s.Bytes, onDisk)
			}
		})
	}
}

func TestSpaceOfTheFileSystemIsKept(t *testing.T) {
	disk := memfs.New()
	disk.SetCapacity(100_000)
	b := open(t, disk, "/b", func(o *Options) { o.MinFree = 0 }) // 5 % of the disk
	var err error
	n := 0
	for ; err == nil; n++ {
		err = b.Append(t.Context(), Outage, batch("web", uint64(n+1), 10))
	}
	if free, _, _ := disk.Free("/"); !errors.Is(err, ErrFull) || free < 5_000 || free > 6_000 {
		t.Fatalf("after %d records, %d bytes free: %v", n, free, err)
	}
	must(t, b.Seal(t.Context(), Outage)) // the footer comes out of what is kept
	if list := b.Segments(); !list[0].Sealed {
		t.Fatalf("%+v", list)
	}
}

func TestFullDiskCostsNoSegment(t *testing.T) {
	disk := memfs.New()
	b := open(t, disk, "/b")
	add(t, b, Outage, batch("web", 1, 10))
	disk.SetCapacity(b.Stats().Bytes + 700)
	for range 3 {
		if err := b.Append(t.Context(), Outage, batch("web", 11, 100)); !errors.Is(err, ErrFull) {
			t.Fatalf("append: %v", err)
		}
	}
	add(t, b, Outage, batch("web", 11, 10)) // a smaller one fits
	disk.SetCapacity(0)
	add(t, b, Outage, batch("web", 21, 100))
	if s := b.Stats(); s.Segments != 1 || s.Poisoned != 0 || s.Refused != 3 {
		t.Fatalf("%+v", s)
	}
	all, reports := sequences(t, disk, "/b", "web")
	if len(all) != 120 || reports[0].Damaged() || reports[0].Tail > 0 {
		t.Fatalf("%d messages, %+v", len(all), reports[0])
	}
}
