package hdfs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

// steady is an open file on real sockets to DataNodes that keep nothing and
// allocate nothing.
func steady(tb testing.TB, replication int) *File {
	tb.Helper()
	l := newLab(tb, hdfstest.Options{TCP: true, Forget: true, Replication: replication}, Options{NodeTimeout: time.Minute})
	l.ob.calm = true
	return l.create("_f", cluster.FileOptions{BlockSize: 1 << 40, Begin: true})
}

func TestSteadyAppendAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, test := range []struct{ pieces, size int }{{1, 1000}, {1, 1024}, {30, 300}, {1, 64 << 10}, {3, 1 << 20}} {
		f := steady(t, 3)
		p := make([][]byte, test.pieces)
		for i := range p {
			p[i] = make([]byte, test.size)
		}
		step := func() {
			if err := f.Append(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 { // the sockets' and the windows' own
			step()
		}
		if n := testing.AllocsPerRun(200, step); n != 0 {
			t.Errorf("%d pieces of %d bytes: %v allocations for an Append", test.pieces, test.size, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		for _, size := range []int{1000, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("replicas=%d/bytes=%d", replicas, size), func(b *testing.B) {
				f := steady(b, replicas)
				p := [][]byte{make([]byte, size)}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := f.Append(b.Context(), p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPackets(b *testing.B) {
	for _, size := range []int{1000, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			w, p := &window{}, &pipe{}
			data := [][]byte{make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				cur := cursor{p: data}
				w.fill(p, 0, nil, &cur, int64(size), false)
				p.first, p.count = 0, 0
			}
		})
	}
}

func BenchmarkNameNodeCall(b *testing.B) {
	l := newLab(b, hdfstest.Options{TCP: true}, Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.c.Ping(l.ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
