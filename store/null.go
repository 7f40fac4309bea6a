package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"twinscribe/store/catalog"
)

// Null throws batches away and counts them. Its Append always succeeds, so the
// books say what is gone: Taken names the place "null".
//
// One goroutine drives it; Counts may be called by any.
type Null struct {
	closed                   bool
	batches, messages, bytes atomic.Int64
}

// NewNull makes one.
func NewNull() *Null { return &Null{} }

// Counts is what was thrown away so far. Bytes have a line feed per message.
func (n *Null) Counts() (batches, messages, bytes int64) {
	return n.batches.Load(), n.messages.Load(), n.bytes.Load()
}

// Append implements Store.
func (n *Null) Append(ctx context.Context, b *Batch) (*Batch, error) {
	if n.closed {
		return b, fmt.Errorf("null: closed: %w", ErrBroken)
	}
	if err := ctx.Err(); err != nil {
		return b, fmt.Errorf("null: %w", err)
	}
	if b.Len() == 0 {
		return nil, nil
	}
	n.batches.Add(1)
	n.messages.Add(int64(b.Len()))
	n.bytes.Add(int64(len(b.Data)))
	b.Taken = append(b.Taken, Taken{Place: "null", Messages: b.Len()})
	return nil, nil
}

// Tick implements Store.
func (n *Null) Tick(context.Context, time.Time) error { return nil }

// Close implements Store.
func (n *Null) Close(context.Context) error {
	n.closed = true
	return nil
}

// Warm implements Place.
func (n *Null) Warm(catalog.Partition) bool { return true }

// Rest implements Place.
func (n *Null) Rest() {}
