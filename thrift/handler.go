package thrift

import (
	"context"

	"twinscribe/thrift/gen/fb303"
)

// Result of a Log call, with scribe.thrift's numbers.
type Result int32

// The results there are.
const (
	OK       Result = 0
	TryLater Result = 1
)

// Status of fb303.
type Status int32

// fb303's numbers.
const (
	Dead     Status = 0
	Starting Status = 1
	Alive    Status = 2
	Stopping Status = 3
	Stopped  Status = 4
	Warning  Status = 5
)

// Entry is one LogEntry of a call. Both slices lie in the frame. A missing
// field is nil, an empty one is not.
type Entry struct {
	Category, Message []byte
}

// BatchID is the optional second argument of Log, by which a client that
// numbers its calls makes its own retry recognisable. Servers that do not know
// it skip it as an unknown field.
type BatchID struct {
	Producer string
	Epoch    uint64
	Sequence uint64
}

// Call is one Log call. It and all it refers to belong to the server: they are
// valid until Release, or until Log returns, and must not be kept.
type Call struct {
	Entries []Entry
	Bytes   int      // of all messages together
	Sender  string   // the peer's address without its port; a shared string, may be kept
	Batch   *BatchID // nil: the client does not number its calls

	owner interface{ release() } // of the memory that it lies in; nil: nobody
}

// Release gives the call's memory back before Log returns. A handler that has
// copied the messages and waits until they are stored holds nothing of the
// account of frames while it does: otherwise a slow store would have it used
// up, and calls refused that go to another one.
func (c *Call) Release() {
	if o := c.owner; o != nil {
		*c = Call{}
		o.release()
	}
}

// String is the status as fb303 names it, such as ALIVE.
func (s Status) String() string { return fb303.FbStatus(s).String() }

// Handler is what the server calls. Its methods are called by many connections
// at once.
type Handler interface {
	// Log takes a call whole or refuses it whole. ctx ends when the server
	// gives up waiting (its own stop); a client that is gone does not end it.
	Log(ctx context.Context, call *Call) Result

	// The rest is fb303.
	Name() string
	Version() string
	Status() (Status, string)
	Counters() map[string]int64
	AliveSince() int64 // seconds since 1970 UTC
	Reinitialize()     // returns at once
	Shutdown()         // returns at once
}
