package network

import (
	"slices"
	"sync/atomic"
	"time"

	"twinscribe/store/cluster"
)

// Figures are what is known of one Remote since its first chain was made, and
// the ones marked "now" at this moment. They are read one after another.
type Figures struct {
	Servers []ServerFigures // in the order of the configuration
	Chains  int             // now
	Health  cluster.HealthStatus
}

// ServerFigures are those of one server of a Remote.
type ServerFigures struct {
	Addr string
	Sick bool // now: the last call or probe failed

	Sent     int64 // messages answered OK
	Tries    int64 // calls with messages
	OK       int64 // of these
	Failed   int64 // of these: without an answer
	Checks   int64 // empty calls before one with messages
	TryLater int64 // of tries and checks: refused by the server
	Connects int64 // connections begun, those of probes left out

	// Answers is the time that the calls answered OK took together, Slowest the
	// longest of them.
	Answers, Slowest time.Duration
}

// add puts o's figures on top.
func (f *ServerFigures) add(o ServerFigures) {
	f.Sick = f.Sick || o.Sick
	f.Sent += o.Sent
	f.Tries += o.Tries
	f.OK += o.OK
	f.Failed += o.Failed
	f.Checks += o.Checks
	f.TryLater += o.TryLater
	f.Connects += o.Connects
	f.Answers += o.Answers
	f.Slowest = max(f.Slowest, o.Slowest)
}

// server is one address of a Remote.
type server struct {
	addr string
	sick atomic.Bool

	sent, tries, ok, later, failed, checks, connects atomic.Int64
	answers, slowest                                 atomic.Int64 // nanoseconds
}

// answered notes a call of n messages that was answered OK.
func (s *server) answered(n int, took time.Duration) {
	s.sent.Add(int64(n))
	s.ok.Add(1)
	s.answers.Add(int64(took))
	for {
		most := s.slowest.Load()
		if int64(took) <= most || s.slowest.CompareAndSwap(most, int64(took)) {
			return
		}
	}
}

func (s *server) figures() ServerFigures {
	return ServerFigures{
		Addr: s.addr, Sick: s.sick.Load(),
		Sent: s.sent.Load(), Tries: s.tries.Load(), OK: s.ok.Load(), TryLater: s.later.Load(),
		Failed: s.failed.Load(), Checks: s.checks.Load(), Connects: s.connects.Load(),
		Answers: time.Duration(s.answers.Load()), Slowest: time.Duration(s.slowest.Load()),
	}
}

func (r *Remote) figures() Figures {
	r.pool.mu.Lock()
	f := Figures{Chains: r.chains}
	r.pool.mu.Unlock()
	f.Health = r.health.Status()
	f.Servers = slices.Grow(f.Servers, len(r.servers))
	for _, s := range r.servers {
		f.Servers = append(f.Servers, s.figures())
	}
	return f
}
