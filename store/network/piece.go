package network

import (
	"fmt"
	"sync"

	"twinscribe/store"
	"twinscribe/thrift"
)

// maxEntries bounds a call, whatever its bytes: our servers take 100,000
// entries by default, and decode so many without taking memory anew.
const maxEntries = 16384

// A piece is one call: messages of one batch that follow one another.
type piece struct {
	entries []thrift.Entry  // they refer to the batch
	bytes   int             // of their messages
	id      *thrift.BatchID // nil: without
}

// A cutter makes the pieces of one batch. Where one ends depends on nothing but
// the messages from its beginning on and the remote's MaxFrame.
type cutter struct {
	r        *Remote
	b        *store.Batch
	category []byte
	producer string // of batch ids; empty: without
	epoch    uint64
	entries  *[]thrift.Entry
}

var entriesPool = sync.Pool{New: func() any { return new([]thrift.Entry) }}

func (r *Remote) newCutter(b *store.Batch) cutter {
	k := cutter{r: r, b: b, category: []byte(b.Category), entries: entriesPool.Get().(*[]thrift.Entry)}
	if r.spec.BatchIDs {
		start := &r.pool.o.Identity
		if b.Origin != nil {
			start = b.Origin
		}
		k.producer, k.epoch = fmt.Sprintf("%s.%s.%d", start.Aggregator, start.StartID(), b.Chain), uint64(start.Epoch)
	}
	return k
}

// cut makes the piece that begins with message from. It is valid until the next.
func (k *cutter) cut(from int) (piece, error) {
	p := piece{entries: (*k.entries)[:0]}
	if k.producer != "" {
		p.id = &thrift.BatchID{Producer: k.producer, Epoch: k.epoch, Sequence: k.b.First + uint64(from)}
	}
	room := k.r.spec.MaxFrame - thrift.LogSize(p.id)
	for i := from; i < k.b.Len() && len(p.entries) < maxEntries; i++ {
		m := k.b.Message(i)
		if room -= thrift.EntrySize(len(k.category), len(m)); room < 0 {
			break
		}
		p.entries = append(p.entries, thrift.Entry{Category: k.category, Message: m})
		p.bytes += len(m)
	}
	*k.entries = p.entries
	if len(p.entries) == 0 {
		return p, fmt.Errorf("message %d of %d bytes fits no call of %d bytes: raise the frame's limit here and at the server: %w",
			k.b.First+uint64(from), len(k.b.Message(from)), k.r.spec.MaxFrame, store.ErrBroken)
	}
	return p, nil
}

// end gives the memory back. Nothing refers to the batch any more.
func (k *cutter) end() {
	e := *k.entries
	clear(e[:cap(e)])
	*k.entries = e[:0]
	entriesPool.Put(k.entries)
}
