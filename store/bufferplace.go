package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
)

// Segments is the part of buffer.Buffer that a Buffer writes to.
type Segments interface {
	Append(ctx context.Context, reason buffer.Reason, r *buffer.Record) error
}

// BufferOptions of NewBuffer.
type BufferOptions struct {
	// AnyUsable says whether any cluster that the chain writes to takes files
	// now: a batch is then a spill, else it belongs to an outage. It is asked at
	// each Append. Nil: the reason is always Reason.
	AnyUsable func() bool
	Reason    buffer.Reason

	Place string // what the books call it; "buffer" if empty
}

// Buffer is the local segments as a Place: the last one of a failover, or a
// store of its own for what no other may take. All chains write to the same
// buffer.Buffer; it is not closed with a chain.
//
// Beyond what a Store promises, Append may be called by many goroutines.
type Buffer struct {
	to     Segments
	o      BufferOptions
	closed atomic.Bool
}

// NewBuffer makes the Place of one chain in b.
func NewBuffer(b Segments, o BufferOptions) *Buffer {
	if o.Place == "" {
		o.Place = "buffer"
	}
	if o.AnyUsable == nil && o.Reason == 0 {
		panic("store: a buffer without a reason")
	}
	return &Buffer{to: b, o: o}
}

var records = sync.Pool{New: func() any { return new(buffer.Record) }}

// Append implements Store. A refusal at a limit is ErrFull; ErrBroken says that
// the buffer is closed or that this batch can never be stored in it.
func (s *Buffer) Append(ctx context.Context, b *Batch) (*Batch, error) {
	if s.closed.Load() {
		return b, fmt.Errorf("%s: closed: %w", s.o.Place, ErrBroken)
	}
	if b.Len() == 0 {
		return nil, nil
	}
	r := records.Get().(*buffer.Record)
	defer func() {
		clear(r.IDs)
		*r = buffer.Record{IDs: r.IDs[:0]}
		records.Put(r)
	}()
	fill(r, b)
	if err := s.to.Append(ctx, s.reason(), r); err != nil {
		return b, s.refusal(err)
	}
	b.Taken = append(b.Taken, Taken{Place: s.o.Place, Messages: b.Len()})
	return nil, nil
}

func (s *Buffer) reason() buffer.Reason {
	switch {
	case s.o.AnyUsable == nil:
		return s.o.Reason
	case s.o.AnyUsable():
		return buffer.Spill
	default:
		return buffer.Outage
	}
}

// refusal sorts the buffer's errors.
func (s *Buffer) refusal(err error) error {
	switch {
	case errors.Is(err, buffer.ErrFull):
		return fmt.Errorf("%s: %w: %w", s.o.Place, ErrFull, err)
	case errors.Is(err, buffer.ErrClosed), errors.Is(err, buffer.ErrRecord):
		return fmt.Errorf("%s: %w: %w", s.o.Place, ErrBroken, err)
	default:
		return fmt.Errorf("%s: %w", s.o.Place, err)
	}
}

// fill makes r say what b says. It refers to the batch's own bytes, which the
// buffer has copied when its Append returns.
func fill(r *buffer.Record, b *Batch) {
	*r = buffer.Record{
		Category: b.Category, Chain: b.Chain, Partition: string(b.Partition),
		First: b.First, Arrived: b.Arrived, Senders: b.Senders, Note: b.Note,
		Ends: b.Ends, Data: b.Data, IDs: r.IDs[:0],
	}
	for _, id := range b.IDs {
		r.IDs = append(r.IDs, buffer.ID{
			Producer: string(id.Producer), Epoch: id.Epoch, Sequence: id.Sequence,
			From: id.From, First: id.First, Messages: id.Messages,
		})
	}
}

// Tick implements Store: the buffer itself does what is due.
func (s *Buffer) Tick(context.Context, time.Time) error { return nil }

// Close implements Store.
func (s *Buffer) Close(context.Context) error {
	s.closed.Store(true)
	return nil
}

// Warm implements Place.
func (s *Buffer) Warm(catalog.Partition) bool { return true }

// Rest implements Place.
func (s *Buffer) Rest() {}
