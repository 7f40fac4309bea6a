// Package store holds the contract between a queue and whatever takes its
// batches, and the combinators that are built on the contract alone: failover
// over several places, and null.
//
// It leaves to others: where batches come from (package aggregator), what a
// cluster can do (store/cluster and its kinds store/hdfs and store/dir), files
// on a cluster (store/files) and segments on the local disk (package buffer).
package store

import (
	"context"
	"errors"
	"time"

	"twinscribe/store/catalog"
)

// A Batch is a run of messages of one category, chain and partition, in
// arrival order. It is read-only from the moment it is handed to a Store, with
// the one exception of Taken.
//
// The messages lie one after another in Data, each in the form in which a text
// file holds it: the message and exactly one line feed (none is added where
// the message brought its own, unless the category's rule wants messages exactly
// as they came). Ends[i] is the end of message i in Data.
type Batch struct {
	Category  string
	Chain     uint32            // number of the chain within this start
	Partition catalog.Partition // fixed when the batch is cut, kept through every retry
	First     uint64            // sequence of message 0; the others follow without a gap
	Arrived   int64             // wall clock of message 0, nanoseconds since 1970 UTC
	Data      []byte
	Ends      []uint32
	Senders   []string            // distinct senders, in no order; shared, never changed
	IDs       []catalog.BatchSpan // what of it came with a batch id, in order
	Note      string              // why these are dead letters; empty for all others

	// Origin is the start that Chain and First belong to. Nil: the one that
	// runs. Whoever sends what an earlier start has left says which one it was.
	Origin *catalog.Identity

	// Since is when the budget of the batch began: the arrival of the oldest
	// message that a client waits for. The zero time means: at Append.
	Since time.Time

	// Taken is filled in by the leaf that stored the batch, before its Append
	// returns: who took how many messages. The books count from it and from
	// nothing else.
	Taken []Taken
}

// Taken says that a place took a number of messages of a batch.
type Taken struct {
	Place    string // the cluster's name, "buffer", "dead-letter", "unrouted", "null", ...
	Messages int
}

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.Ends) }

// Last is the sequence of the last message. An empty batch has none: First-1.
func (b *Batch) Last() uint64 { return b.First + uint64(len(b.Ends)) - 1 }

// Message returns message i without its terminating line feed. It is a part of Data.
func (b *Batch) Message(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = b.Ends[i-1]
	}
	return b.Data[from : b.Ends[i]-1]
}

// After is what is left of b when its first n messages are taken, all of b for
// 0. It shares the bytes of b and says nothing of who took the others.
func (b *Batch) After(n int) *Batch {
	if n == 0 {
		return b
	}
	rest := *b
	rest.Taken = nil
	rest.First += uint64(n)
	from := b.Ends[n-1]
	rest.Data = b.Data[from:]
	rest.Ends = make([]uint32, 0, b.Len()-n)
	for _, end := range b.Ends[n:] {
		rest.Ends = append(rest.Ends, end-from)
	}
	rest.IDs = nil
	for _, id := range b.IDs {
		if end := id.First + uint64(id.Messages); end <= rest.First {
			continue
		}
		if id.First < rest.First {
			gone := uint32(rest.First - id.First)
			id.First, id.From, id.Messages = rest.First, id.From+gone, id.Messages-gone
		}
		rest.IDs = append(rest.IDs, id)
	}
	return &rest
}

// A Store takes responsibility for batches. One goroutine drives a chain of
// stores: no method is called while another one is running.
type Store interface {
	// Append takes b, or as much of it as it can, and returns the rest. The
	// rest is nil if and only if err is nil. What it took is as durable as this
	// kind of store promises. Files on a cluster and the buffer take a batch
	// whole or not at all; only network and scribefile return a part. The arena
	// is the caller's again after the return, so a Store never walks away from a
	// write that still reads it. When ctx ends, Append returns soon.
	Append(ctx context.Context, b *Batch) (unsent *Batch, err error)

	// Tick does what is due at now (rotation, the way back, the partition's
	// edge), a bounded amount for each call and nothing that waits for a
	// cluster: that is for the background.
	Tick(ctx context.Context, now time.Time) error

	// Close gives up nothing silently: it finishes what Append took, or says
	// what it could not. Afterwards Append fails with ErrBroken. A second Close
	// does nothing.
	Close(ctx context.Context) error
}

// A Place is what a failover can write to. Its methods belong to the goroutine
// that drives the chain, like those of every Store.
type Place interface {
	Store

	// Warm asks for what the next Append of partition p needs (a file and its
	// first block), to be made in the background, and says whether it is there.
	// It never waits. A place that needs nothing is always warm.
	Warm(p catalog.Partition) bool

	// Rest says that the chain writes elsewhere from now on: what is open is
	// sealed in the background. The next Append or Warm ends the rest.
	Rest()
}

var (
	// ErrBroken marks errors that waiting does not cure: nothing retries by timer.
	ErrBroken = errors.New("broken")

	// ErrFull marks the refusal of a place that has reached a limit of its own
	// (the buffer's bytes): it can pass later, without any fault being mended.
	ErrFull = errors.New("full")

	// ErrLater marks the refusal of a place that works and took nothing: the
	// server behind it has asked for a pause (Scribe's TRY_LATER). It is held
	// against nobody; the place itself says when it may be asked again.
	ErrLater = errors.New("asked to try later")
)
