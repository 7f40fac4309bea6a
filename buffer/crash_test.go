package buffer

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

// TestAcknowledgedRecordsSurviveAPowerCutAnywhere takes images of the disk
// after every sync point: one in which nothing survives that was not synced,
// and some in which single blocks and entries of folders do. The next start
// must find every acknowledged record, and call nothing damaged.
func TestAcknowledgedRecordsSurviveAPowerCutAnywhere(t *testing.T) {
	disk := memfs.New()
	var acked sync.Map
	images, tails := 0, int64(0)
	check := func(what string, image *memfs.FS, want map[uint64]bool) {
		o := options()
		next(&o)
		b, err := Open(image, "/b", o)
		if err != nil {
			t.Fatalf("%s: the next start: %v", what, err)
		}
		due(t, image, want, what)
		s := b.Stats()
		if s.Damaged > 0 || s.DamagedBytes > 0 || s.MissingRecords > 0 {
			t.Fatalf("%s: a power cut is no damage: %+v", what, s)
		}
		tails += s.TornTails
		must(t, b.Append(t.Context(), Spill, batch("web", 5001, 10)))
		must(t, b.Close(t.Context()))
		// And once more: what the start has done is durable itself.
		again := image.Crash(nil)
		due(t, again, want, what+", then another")
		list, err := List(again, "/b")
		must(t, err)
		for _, seg := range list {
			if !seg.Sealed || seg.Problem != "" {
				t.Fatalf("%s: not sealed by the next start: %+v", what, seg)
			}
		}
	}
	type cut struct {
		what string
		disk *memfs.FS
		want map[uint64]bool
	}
	var cuts []cut
	take := func(when string) {
		images++
		want := snapshot(&acked) // before the image is taken
		cuts = append(cuts, cut{fmt.Sprintf("%s sync %d", when, images), disk.Crash(nil), want})
		for seed := range uint64(3) {
			r := rand.New(rand.NewPCG(uint64(images), seed))
			cuts = append(cuts, cut{fmt.Sprintf("%s sync %d, seed %d", when, images, seed), disk.Crash(r), want})
		}
	}
	// Before a sync single blocks of what was written are on the disk or not.
	disk.FailSync(func(string) error { take("before"); return nil })
	disk.OnSync(func() { take("after") })
	o := options()
	o.SegmentBytes = 900
	b, err := Open(disk, "/b", o)
	must(t, err)
	workload(t, b, &acked)
	must(t, b.Close(context.Background()))
	for _, c := range cuts {
		check(c.what, c.disk, c.want)
	}
	if images < 60 || tails < 10 {
		t.Fatalf("%d images with %d torn tails: the hooks do not work", images, tails)
	}
	t.Logf("images=%d torn_tails=%d", len(cuts), tails)
}

// TestPowerCutsInARowLoseNothing cuts the power at a random sync point of each
// of several starts, with writers of several chains at work.
func TestPowerCutsInARowLoseNothing(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 99))
		disk := memfs.New()
		acked := map[uint64]bool{} // first sequences, of ten messages each
		o := options()
		o.SegmentBytes = 2000
		for start := range uint64(4) {
			next(&o)
			b, err := Open(disk, "/b", o)
			must(t, err)
			points, at := 0, 3+r.IntN(25)
			var image *memfs.FS
			var then []uint64
			var mu sync.Mutex
			var done []uint64
			disk.FailSync(func(string) error {
				mu.Lock()
				defer mu.Unlock()
				if points++; points == at {
					then = slices.Clone(done) // before the image: what is acknowledged must be in it
					image = disk.Crash(rand.New(rand.NewPCG(seed, start)))
				}
				return nil
			})
			var wait sync.WaitGroup
			for c := range uint64(4) {
				wait.Go(func() {
					for i := range uint64(8) {
						rec := batch("web", 1+10*(i+8*c+32*start), 10)
						if b.Append(t.Context(), Reason(1+c%3), rec) == nil {
							mu.Lock()
							done = append(done, rec.First)
							mu.Unlock()
						}
					}
				})
			}
			wait.Wait()
			must(t, b.Close(t.Context()))
			if image == nil {
				then, image = done, disk.Crash(nil)
			}
			for _, first := range then {
				acked[first] = true
			}
			disk = image
			due(t, disk, acked, fmt.Sprintf("seed %d, start %d", seed, start))
		}
	}
}

// TestHeaderAndNameAreDurableBeforeTheFirstRecord looks at the order of calls.
func TestHeaderAndNameAreDurableBeforeTheFirstRecord(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	fsys := faultfs.New(memfs.New(), nil)
	b := open(t, fsys, "/b")
	fsys.Set(func(op faultfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch op.Kind {
		case faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir:
			calls = append(calls, string(op.Kind))
		}
		return nil
	})
	add(t, b, Outage, batch("web", 1, 1))
	add(t, b, Outage, batch("web", 2, 1))
	mu.Lock()
	defer mu.Unlock()
	want := []string{"create", "write", "sync", "syncdir", "write", "sync", "write", "sync"}
	if !slices.Equal(calls, want) {
		t.Fatalf("calls: %q, want %q", calls, want)
	}
}

// TestOpenReadsOnlyEndsOfSealedSegments counts the bytes that a start reads.
func TestOpenReadsOnlyEndsOfSealedSegments(t *testing.T) {
	disk := memfs.New()
	o := options()
	o.SegmentBytes = 64 << 10
	b, err := Open(disk, "/b", o)
	must(t, err)
	for i := range 100 {
		add(t, b, Outage, batch("web", uint64(500*i+1), 500))
	}
	must(t, b.Close(t.Context()))
	meter := &readMeter{FS: disk}
	later := open(t, meter, "/b", next)
	s := later.Stats()
	if s.Segments < 10 || s.ToVerify != s.Segments {
		t.Fatalf("%+v", s)
	}
	if read := meter.bytes.Load(); read > int64(s.Segments)*1024 || read < int64(s.Segments)*128 {
		t.Fatalf("%d bytes were read of %d segments with %d bytes", read, s.Segments, s.Bytes)
	}
}

// TestTornTailIsNeverNowhere cuts the power at every sync point of a recovery:
// what is cut off stands in the segment or in quarantine, whole.
func TestTornTailIsNeverNowhere(t *testing.T) {
	disk, path, content := written(t, 5, false)
	tail := strings.Repeat("half a record", 100)
	put(t, disk, path, append(bytes.Clone(content), tail...))
	var images []*memfs.FS
	take := func() {
		images = append(images, disk.Crash(nil))
		for seed := range uint64(10) {
			images = append(images, disk.Crash(rand.New(rand.NewPCG(seed, uint64(len(images))))))
		}
	}
	disk.FailSync(func(string) error { take(); return nil })
	disk.OnSync(take)
	b := open(t, disk, "/b", next)
	disk.FailSync(nil)
	disk.OnSync(nil)
	if s := b.Stats(); s.TornBytes != int64(len(tail)) {
		t.Fatalf("%+v", s)
	}
	for i, image := range images {
		tailIsKept(t, image, path, tail, fmt.Sprintf("image %d of %d", i, len(images)))
		// The next start takes no half copy for a whole one, and overwrites none with what a start
		// that was cut off has left behind the same record.
		open(t, image, "/b", next, next)
		tailIsKept(t, image.Crash(nil), path, tail, fmt.Sprintf("image %d of %d, started again", i, len(images)))
	}
	if len(images) < 100 {
		t.Fatalf("%d images: the hooks do not work", len(images))
	}
}

func tailIsKept(t *testing.T, image *memfs.FS, path, tail, what string) {
	t.Helper()
	found := false
	for _, name := range image.Files() {
		now, err := vfs.ReadFile(image, name)
		must(t, err)
		found = found || bytes.Contains(now, []byte(tail))
	}
	if !found {
		t.Fatalf("%s: the tail is gone: %q", what, image.Files())
	}
	if got, _ := numbers(t, image, path); len(got) != 5 {
		t.Fatalf("%s: %v", what, got)
	}
}
