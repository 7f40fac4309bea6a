package buffer

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

// sized is a batch of about so many bytes in messages of 200.
func sized(bytes int) *Record {
	r := &Record{Category: "web", Chain: 1, Partition: "dt=2026-11-22/hr=10", First: 1, Senders: []string{"10.0.0.1"}}
	for len(r.Data) < bytes {
		r.Data = append(r.Data, make([]byte, 199)...)
		r.Data = append(r.Data, '\n')
		r.Ends = append(r.Ends, uint32(len(r.Data)))
	}
	return r
}

func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 16} {
		for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
			for _, how := range []Sync{SyncGroup, SyncNone} {
				b.Run(fmt.Sprintf("clients=%d/batch=%dKiB/sync=%s", clients, size>>10, how), func(b *testing.B) {
					buf := open(b, vfs.OS(), filepath.Join(b.TempDir(), "buffer"), func(o *Options) { o.Sync = how })
					b.SetBytes(int64(size))
					b.ReportAllocs()
					b.SetParallelism(clients)
					if clients == 1 {
						r := sized(size)
						for b.Loop() {
							if err := buf.Append(context.Background(), Spill, r); err != nil {
								b.Fatal(err)
							}
						}
						return
					}
					b.RunParallel(func(pb *testing.PB) {
						r := sized(size)
						for pb.Next() {
							if err := buf.Append(context.Background(), Spill, r); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	disk := memfs.New()
	buf, err := Open(disk, "/b", options())
	must(b, err)
	r := sized(1 << 20)
	for range 300 {
		r.First += uint64(r.Len())
		must(b, buf.Append(context.Background(), Outage, r))
	}
	must(b, buf.Close(context.Background()))
	b.ReportAllocs()
	for b.Loop() {
		o := options()
		next(&o)
		buf, err := Open(disk, "/b", o)
		must(b, err)
		must(b, buf.Close(context.Background()))
	}
}

func BenchmarkReadSegment(b *testing.B) {
	disk := memfs.New()
	buf := open(b, disk, "/b")
	for range 60 {
		must(b, buf.Append(context.Background(), Outage, sized(1<<20)))
	}
	seg := buf.Segments()[0]
	b.SetBytes(seg.Bytes)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadSegment(disk, seg.Path, func(*Record) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
