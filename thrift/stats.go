package thrift

import "sync/atomic"

// ServerStats are the figures of a server since it was made, and the ones
// marked "now" at this moment. The maps have every key from the beginning.
type ServerStats struct {
	Connections  int64            // now
	MostAtOnce   int64            // connections: the limit
	Accepted     int64            // connections
	Refused      map[string]int64 // connections, by limit: "connections", "connections_per_ip"
	AcceptErrors int64            // failed accepts; the loop goes on

	Frames      int64 // read whole
	FrameBytes  int64 // of these, with their lengths
	FrameMemory int64 // now: bytes of frames and entries of calls under way
	FrameLimit  int64 // of them
	LogCalls    int64 // answered by the handler
	TryLater    int64 // of these
	Entries     int64 // of these calls
	Busy        int64 // calls refused because the memory for frames was used up: TRY_LATER for Log
	OtherCalls  int64 // fb303 and unknown methods
	Unknown     int64 // of these, unknown methods

	Bad      map[string]int64 // connections closed for bytes that are no call, by kind
	Timeouts map[string]int64 // connections closed at a deadline: "idle", "frame", "reply"
	Panics   int64            // connections closed by a panic
}

type deadline int

const (
	idleDeadline deadline = iota
	frameDeadline
	replyDeadline
	deadlines
)

var deadlineNames = [deadlines]string{"idle", "frame", "reply"}

type stats struct {
	accepted, refusedAll, refusedPeer, acceptErrors     atomic.Int64
	frames, frameBytes                                  atomic.Int64
	logCalls, tryLater, entries, busy, others, unknowns atomic.Int64
	bad                                                 [badKinds]atomic.Int64
	timeouts                                            [deadlines]atomic.Int64
	panics                                              atomic.Int64
}

// Stats may be called at any time. Its figures are read one after another.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	now := len(s.conns)
	s.mu.Unlock()
	n := &s.stats
	r := ServerStats{
		Connections:  int64(now),
		MostAtOnce:   int64(s.o.MaxConnections),
		Accepted:     n.accepted.Load(),
		Refused:      map[string]int64{"connections": n.refusedAll.Load(), "connections_per_ip": n.refusedPeer.Load()},
		AcceptErrors: n.acceptErrors.Load(),
		Frames:       n.frames.Load(),
		FrameBytes:   n.frameBytes.Load(),
		FrameMemory:  s.memory.used.Load(),
		FrameLimit:   s.memory.limit,
		LogCalls:     n.logCalls.Load(),
		TryLater:     n.tryLater.Load(),
		Entries:      n.entries.Load(),
		Busy:         n.busy.Load(),
		OtherCalls:   n.others.Load(),
		Unknown:      n.unknowns.Load(),
		Bad:          make(map[string]int64, badKinds),
		Timeouts:     make(map[string]int64, deadlines),
		Panics:       n.panics.Load(),
	}
	for k := range n.bad {
		r.Bad[badNames[k]] = n.bad[k].Load()
	}
	for k := range n.timeouts {
		r.Timeouts[deadlineNames[k]] = n.timeouts[k].Load()
	}
	return r
}
