package store

import (
	"context"
	"time"

	"twinscribe/store/catalog"
)

// Text gives an exact batch, in which each message is followed by a line feed
// of its own whether it brought one or not, to a place in the form of a text
// file: a message that ends in a line feed gets no other. Messages keep their
// sequences; one that brought a line feed is read back without it. The place
// takes batches whole or not at all. A buffer beside such a place gets the same
// form, so that what is shipped from it is no other text.
func Text(p Place) Place { return &text{place: p} }

type text struct {
	place Place
	data  []byte // of the last batch that had to be changed; used again
	ends  []uint32
}

// maxTextSpare is how much memory of a large batch is kept for the next one.
const maxTextSpare = 4 << 20

// Append implements Store.
func (t *text) Append(ctx context.Context, b *Batch) (*Batch, error) {
	if !doubled(b) {
		return t.place.Append(ctx, b)
	}
	plain := t.plain(b)
	unsent, err := t.place.Append(ctx, plain)
	b.Taken = plain.Taken
	if cap(t.data) > maxTextSpare {
		t.data, t.ends = nil, nil
	}
	if unsent != nil {
		return b, err
	}
	return nil, err
}

// doubled says whether a message of b brought a line feed of its own.
func doubled(b *Batch) bool {
	from := uint32(0)
	for _, end := range b.Ends {
		if end-from > 1 && b.Data[end-2] == '\n' {
			return true
		}
		from = end
	}
	return false
}

// plain is b with one line feed behind each message. It is valid until the next call.
func (t *text) plain(b *Batch) *Batch {
	t.data, t.ends = t.data[:0], t.ends[:0]
	from := uint32(0)
	for _, end := range b.Ends {
		m := b.Data[from:end]
		if len(m) > 1 && m[len(m)-2] == '\n' {
			m = m[:len(m)-1]
		}
		t.data = append(t.data, m...)
		t.ends = append(t.ends, uint32(len(t.data)))
		from = end
	}
	plain := *b
	plain.Data, plain.Ends = t.data, t.ends
	return &plain
}

// Tick implements Store.
func (t *text) Tick(ctx context.Context, now time.Time) error { return t.place.Tick(ctx, now) }

// Close implements Store.
func (t *text) Close(ctx context.Context) error { return t.place.Close(ctx) }

// Warm implements Place.
func (t *text) Warm(p catalog.Partition) bool { return t.place.Warm(p) }

// Rest implements Place.
func (t *text) Rest() { t.place.Rest() }
