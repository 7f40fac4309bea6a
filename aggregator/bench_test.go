package aggregator

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/thrift"
)

// null takes everything at once.
type null struct{}

func (null) Append(_ context.Context, b *store.Batch) (*store.Batch, error) {
	b.Taken = append(b.Taken, store.Taken{Place: nullPlace, Messages: b.Len()})
	return nil, nil
}
func (null) Tick(context.Context, time.Time) error { return nil }
func (null) Close(context.Context) error           { return nil }

func benchAggregator(b *testing.B, ack string) *Aggregator {
	b.Helper()
	open := []Route{{Open: func(string, int, uint32) (Chain, error) { return Chain{Store: null{}}, nil }}}
	a, err := New(Options{
		Config: Config{
			Rules:       []Rule{{Match: "*", Ack: ack, Routes: open}},
			DeadLetters: Rule{Routes: open},
			Limits:      conf.Limits{Message: 8 << 20, Memory: 512 << 20, Queue: 256 << 20, Categories: 10000},
			Timeouts:    conf.Timeouts{Ack: 10 * time.Second, Write: 2 * time.Second, Stop: 20 * time.Second},
			Queue:       conf.Queue{MaxBatch: 4 << 20, BatchBytes: 1 << 20, BatchWait: 5 * time.Millisecond},
		},
		Log: nop,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() { a.Run(ctx) })
	b.Cleanup(func() {
		if left, err := a.Stop(ctx); left != 0 || err != nil {
			b.Error(left, err)
		}
		cancel()
		ran.Wait()
	})
	return a
}

func benchCall(n, size, categories, offset int) *thrift.Call {
	c := &thrift.Call{Sender: "10.0.0.1"}
	for i := range n {
		c.Entries = append(c.Entries, thrift.Entry{
			Category: fmt.Appendf(nil, "category%d", (i+offset)%categories),
			Message:  bytes.Repeat([]byte{'x'}, size),
		})
		c.Bytes += size
	}
	return c
}

// logUntil sends a call until it is taken: a refused one would cost nothing.
func logUntil(ctx context.Context, a *Aggregator, c *thrift.Call) {
	for a.Log(ctx, c) != thrift.OK {
		time.Sleep(100 * time.Microsecond)
	}
}

func BenchmarkLog(b *testing.B) {
	for _, ack := range []string{AckReceived, AckStored} {
		for _, batch := range []int{1, 100, 1000} {
			for _, categories := range []int{1, 1000} {
				if categories > batch {
					continue
				}
				b.Run(fmt.Sprintf("batch=%d/size=200/ack=%s/categories=%d", batch, ack, categories), func(b *testing.B) {
					a := benchAggregator(b, ack)
					c := benchCall(batch, 200, categories, 0)
					b.SetBytes(int64(c.Bytes))
					b.ReportAllocs()
					for b.Loop() {
						logUntil(b.Context(), a, c)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
				})
			}
		}
	}
}

func BenchmarkLogManyConnections(b *testing.B) {
	for _, ack := range []string{AckReceived, AckStored} {
		for _, categories := range []int{1, 64} {
			b.Run(fmt.Sprintf("connections=64/batch=1/size=200/ack=%s/categories=%d", ack, categories), func(b *testing.B) {
				a := benchAggregator(b, ack)
				b.SetBytes(200)
				b.ReportAllocs()
				b.ResetTimer()
				var connections sync.WaitGroup
				each := b.N/64 + 1
				for i := range 64 {
					connections.Go(func() {
						c := benchCall(1, 200, categories, i)
						for range each {
							logUntil(context.Background(), a, c)
						}
					})
				}
				connections.Wait()
			})
		}
	}
}
