//go:build integration

package buffer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs/memfs"
)

// Each sync fails once: everything is acknowledged all the same, and a power cut takes none of it.
func TestProve4FailedSync(t *testing.T) {
	const records = 30
	syncs, refused, lost, images := 0, 0, 0, 0
	for nth := 1; ; nth++ {
		disk := memfs.New()
		o := options()
		o.SegmentBytes = 900
		b, err := Open(disk, "/b", o)
		must(t, err)
		at := 0
		disk.FailSync(func(string) error {
			if at++; at == nth {
				return syscall.EIO
			}
			return nil
		})
		acked := map[uint64]bool{}
		for i := range uint64(records) {
			r := batch("web", 10*i+1, 10)
			if err := b.Append(context.Background(), Outage, r); err != nil {
				refused++
				t.Errorf("sync %d fails: record %d is refused: %v", nth, i, err)
				continue
			}
			acked[r.First] = true
		}
		cuts := []*memfs.FS{disk.Crash(nil)}
		for seed := range uint64(4) {
			cuts = append(cuts, disk.Crash(rand.New(rand.NewPCG(seed, uint64(nth)))))
		}
		_ = b.Close(context.Background()) // the sync that fails may be one of the last
		if at < nth {
			break
		}
		syncs++
		for i, image := range append(cuts, disk.Crash(nil)) {
			images++
			for _, again := range []bool{false, true} {
				if again {
					o := options()
					next(&o)
					b, err := Open(image, "/b", o)
					must(t, err)
					must(t, b.Close(context.Background()))
				}
				got, _ := sequences(t, image, "/b", "web")
				for first := range acked {
					if !slices.Contains(got, first) {
						lost++
						t.Errorf("sync %d failed, cut %d: sequence %d is lost", nth, i, first)
					}
				}
			}
		}
	}
	t.Logf("table: 4 | each of %d syncs fails once (EIO), then a power cut (%d images) | refused %d, acknowledged lost %d", syncs, images, refused, lost)
	if syncs < records || images < records {
		t.Errorf("%d syncs failed: the hook does not work", syncs)
	}
}

// The disk is full at each size: what does not fit is refused, what was acknowledged stays, and the
// buffer goes on once there is space.
func TestProve4FullDisk(t *testing.T) {
	const records = 20
	tried, refusals, lost, stuck := 0, 0, 0, 0
	for space := int64(0); ; space += int64(stride(41)) {
		disk := memfs.New()
		o := options()
		o.SegmentBytes = 900
		b, err := Open(disk, "/b", o)
		must(t, err)
		disk.SetCapacity(max(1, space))
		acked, full := map[uint64]bool{}, 0
		offer := func(from, to uint64) {
			for i := from; i < to; i++ {
				r := batch("web", 10*i+1, 10)
				switch err := b.Append(context.Background(), Outage, r); {
				case err == nil:
					acked[r.First] = true
				case errors.Is(err, ErrFull):
					full++
				default:
					t.Errorf("%d bytes of space: %v", space, err)
				}
			}
		}
		offer(0, records)
		refused := full
		cut := disk.Crash(nil)
		before := len(acked)
		due(t, cut, acked, fmt.Sprintf("%d bytes of space", space))
		disk.SetCapacity(0)
		offer(records, records+5)
		if len(acked) != before+5 {
			stuck++
			t.Errorf("%d bytes of space: there is space again, and %d records of 5 are taken", space, len(acked)-before)
		}
		must(t, b.Close(context.Background()))
		for _, image := range []*memfs.FS{disk, disk.Crash(nil)} {
			got, reports := sequences(t, image, "/b", "web")
			for first := range acked {
				if !slices.Contains(got, first) {
					lost++
					t.Errorf("%d bytes of space: sequence %d is lost", space, first)
				}
			}
			for _, r := range reports {
				if r.Damaged() {
					t.Errorf("%d bytes of space: a full disk is no damage: %+v", space, r)
				}
			}
		}
		tried++
		refusals += refused
		if refused == 0 {
			break
		}
	}
	t.Logf("table: 4 | disk full at each size up to what %d records need | %d sizes, records refused %d; acknowledged lost %d, stuck %d", records, tried, refusals, lost, stuck)
	if tried < 10 || refusals < records {
		t.Errorf("%d sizes were tried, %d records refused", tried, refusals)
	}
}
