package cluster

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// A Prober gives signs of life of what a Health watches: a Cluster, or the
// servers that a network store forwards to.
type Prober interface {
	Ping(ctx context.Context) error       // cheap, may prove little
	ProbeBlock(ctx context.Context) error // proves that it can be written to
}

// Run probes c until ctx ends, one probe at a time, the first one at once. A
// probe that does not return when its time is over counts as missed, again and
// again while it hangs, and no other is begun beside it. After the end of ctx
// Run waits for a probe under way, at most ProbeTimeout.
//
// The time from one probe to the next is drawn anew for each, between half of
// Every or SickEvery and all of it: a cluster that comes and goes in step with
// the probes would look good to all of them and fail all else.
//
// One Run at a time; after a reload the next one may come with another Prober.
func (h *Health) Run(ctx context.Context, c Prober) {
	p := prober{h: h, c: c, results: make(chan result, 1)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			p.leave()
			return
		case r := <-p.results:
			p.returned(ctx, r)
		case <-h.wake:
		case <-timer.C:
		}
		timer.Reset(time.Until(p.step(ctx)))
	}
}

// prober is the schedule of one Run. It belongs to Run's goroutine.
type prober struct {
	h       *Health
	c       Prober
	results chan result // of one slot: the one probe never waits to deliver

	busy     bool
	block    bool          // the probe under way writes a block
	evidence uint64        // bad signs when it began
	began    time.Time     // the last probe of either kind
	wrote    time.Time     // the last block probe
	pause    time.Duration // from began to the next probe
	sick     time.Duration // from wrote to the next block probe while the cluster is not healthy
	due      time.Time     // of the verdict on the probe under way
	overdue  bool          // it has been counted as missed
}

type result struct{ err error }

// step does what is due and says when it wants to be called again.
func (p *prober) step(ctx context.Context) time.Time {
	now := time.Now()
	if ctx.Err() != nil {
		return now.Add(p.h.o.Every)
	}
	if p.busy {
		if !now.Before(p.due) {
			p.missed(now)
		}
		return p.due
	}
	next, block := p.schedule(now)
	if now.Before(next) {
		return next
	}
	p.begin(ctx, now, block)
	return p.due
}

// schedule says when the next probe is to begin, and of what kind it is.
func (p *prober) schedule(now time.Time) (next time.Time, block bool) {
	ping := p.began.Add(p.pause)
	if p.h.Drained() {
		return ping, false
	}
	write := p.wrote.Add(p.sick)
	if p.h.State() == Healthy {
		proven := p.wrote
		if acked := p.h.lastAcked(); acked.After(proven) {
			proven = acked
		}
		write = proven.Add(p.h.o.BlockEvery)
	}
	return earlier(write, ping), !now.Before(write) || write.Before(ping)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (p *prober) begin(ctx context.Context, now time.Time, block bool) {
	p.busy, p.overdue, p.block = true, false, block
	p.began, p.due = now, now.Add(p.h.o.ProbeTimeout)
	p.pause = p.h.uneven(p.h.o.Every)
	if block {
		p.wrote, p.sick = now, p.h.uneven(p.h.o.SickEvery)
	}
	p.evidence = p.h.evidence()
	call := p.c.Ping
	if block {
		call = p.c.ProbeBlock
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, p.h.o.ProbeTimeout)
		defer cancel()
		p.results <- result{call(ctx)}
	}()
}

// uneven is a part of d between the half and all of it.
func (h *Health) uneven(d time.Duration) time.Duration {
	return d - time.Duration(h.o.Rand()*float64(d)/2)
}

// missed counts the probe under way as failed. While it hangs it stands for
// every probe that would have been due, block probes too.
func (p *prober) missed(now time.Time) {
	block := p.block
	if p.overdue && !p.h.Drained() {
		block = true
	}
	p.h.probed(block, p.evidence, fmt.Errorf("%s has not returned for %v: %w", p.kind(), now.Sub(p.began), context.DeadlineExceeded))
	p.overdue = true
	p.due = now.Add(p.h.o.SickEvery)
}

func (p *prober) returned(ctx context.Context, r result) {
	p.busy = false
	if p.overdue || ctx.Err() != nil {
		return
	}
	err := r.err
	if err != nil {
		err = fmt.Errorf("%s: %w", p.kind(), err)
	}
	p.h.probed(p.block, p.evidence, err)
}

func (p *prober) kind() string {
	if p.block {
		return "block probe"
	}
	return "ping"
}

// leave waits for the probe under way, whose context has ended. One that hangs
// in the kernel (a dead disk below a directory cluster) must not hold up a stop.
func (p *prober) leave() {
	if !p.busy {
		return
	}
	timer := time.NewTimer(p.h.o.ProbeTimeout)
	defer timer.Stop()
	select {
	case <-p.results:
	case <-timer.C:
		p.h.o.Log.Warn("a probe still hangs at the end", zap.String("probe", p.kind()), zap.Duration("for", time.Since(p.began)))
	}
}

func (h *Health) evidence() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.c.evidence
}

// lastAcked is when real traffic was acknowledged last; the zero time if never.
func (h *Health) lastAcked() time.Time {
	after := h.acked.Load()
	if after == 0 {
		return time.Time{}
	}
	return h.born.Add(time.Duration(after))
}
