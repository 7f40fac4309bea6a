package files

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/journal"
)

// nothing is a cluster that acknowledges and forgets. What it is not asked for
// here panics.
type nothing struct{ cluster.Cluster }

type nothingFile struct {
	cluster.File
	acked int64
}

func (nothing) Name() string { return "n1" }
func (nothing) Create(context.Context, string, cluster.FileOptions) (cluster.File, error) {
	return &nothingFile{}, nil
}
func (f *nothingFile) Append(_ context.Context, p [][]byte) error {
	for _, b := range p {
		f.acked += int64(len(b))
	}
	return nil
}
func (f *nothingFile) Abort() {}

// BenchmarkAppend is what a batch costs above the cluster's own work: the
// journal's line, checksum, manifest.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("batch=%dKiB/msg=200B", size>>10), func(b *testing.B) {
			c := benchChain(b)
			batch := &store.Batch{Category: "web", Partition: catalog.Hour.At(time.Now()), Senders: []string{"10.0.0.1", "10.0.0.2"}}
			for len(batch.Data) < size {
				line := make([]byte, 200)
				line[199] = '\n'
				batch.Data = append(batch.Data, line...)
				batch.Ends = append(batch.Ends, uint32(len(batch.Data)))
			}
			batch.First = 1
			b.SetBytes(int64(len(batch.Data)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Arrived = time.Now().UnixNano()
				batch.Taken = batch.Taken[:0]
				if _, err := c.Append(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				batch.First += uint64(batch.Len())
			}
		})
	}
}

func benchChain(b *testing.B) *Chain {
	j, _, err := journal.Open(vfs.OS(), b.TempDir(), journal.Options{Identity: ag1, Now: time.Now, Log: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	var number atomic.Uint32
	r := NewRoot(Options{
		Identity: ag1, Cluster: nothing{}, Health: newHealth(), Journal: j, Numbers: func() uint32 { return number.Add(1) },
		Inventory: &recorder{items: map[string]catalog.Item{}}, Repair: func(Torn) {}, Now: time.Now, Log: zap.NewNop(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done
		if err := j.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return r.Chain(ChainSpec{Category: "web", MaxSize: 1 << 60})
}
