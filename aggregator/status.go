package aggregator

import (
	"fmt"
	"time"

	"twinscribe/thrift"
)

// A Status is the state of the aggregator as /v1/status shows it.
type Status struct {
	State         string           `json:"state"` // starting, alive, warning, stopping, stopped
	Warning       string           `json:"warning,omitempty"`
	AliveSince    int64            `json:"alive_since"`  // seconds since 1970 UTC
	MemoryBytes   int64            `json:"memory_bytes"` // held by all queues, overhead included
	MemoryLimit   int64            `json:"memory_limit"`
	Live          int              `json:"live_categories"` // of those that the limit counts
	LiveLimit     int              `json:"live_categories_limit"`
	UnroutedNames int              `json:"unrouted_names"` // live categories without a rule
	Calls         Calls            `json:"calls"`
	Total         Book             `json:"total"`
	Other         Book             `json:"other"`
	Categories    []CategoryStatus `json:"categories"` // in the order of Books
}

// Calls counts Log calls by their end. All but OK were answered TRY_LATER.
type Calls struct {
	OK        int64 `json:"ok"`
	Refused   int64 `json:"refused"`   // at admission
	Withdrawn int64 `json:"withdrawn"` // nothing of them was stored
	Partial   int64 `json:"partial"`   // a part of them was stored
	Unknown   int64 `json:"unknown"`   // the time was over
}

// A CategoryStatus is one category, or one lane of it: its book and what its
// queues do.
type CategoryStatus struct {
	Book
	QueueBytes int64         `json:"queue_bytes"` // overhead included
	Unrouted   bool          `json:"unrouted"`    // no rule matches it
	Queues     []QueueStatus `json:"queues,omitempty"`
}

// A QueueStatus is one queue of a category.
type QueueStatus struct {
	Chain       uint32 `json:"chain"`
	Match       string `json:"match,omitempty"`
	Holds       string `json:"holds"` // messages, unrouted, dead-letters
	Ack         string `json:"ack"`
	Messages    int64  `json:"messages"`         // not settled
	Active      string `json:"active,omitempty"` // place that is written to
	Fault       string `json:"fault,omitempty"`
	Problem     string `json:"problem,omitempty"`      // though batches are taken
	FaultMillis int64  `json:"fault_millis,omitempty"` // for how long
	Closing     bool   `json:"closing,omitempty"`      // it drains, and another one has taken over or none is needed
}

var roleNames = [...]string{messages: "messages", unroutedMessages: "unrouted", deadLetters: "dead-letters"}

// Snapshot returns the whole state. Each category is a snapshot of one moment.
func (a *Aggregator) Snapshot() Status {
	a.folding.RLock()
	defer a.folding.RUnlock()
	all, other := a.snapshot()
	set := a.set.Load()
	s := Status{
		AliveSince: a.since, MemoryBytes: a.memory.Load(), MemoryLimit: int64(set.Limits.Memory),
		LiveLimit: set.Limits.Categories, Calls: a.calls.read(), Other: other.book(nil),
		Categories: make([]CategoryStatus, 0, len(all)),
	}
	a.mu.RLock()
	s.Live, s.UnroutedNames = a.lives[byPattern], a.lives[unrouted]+a.lives[refused]
	queues := make(map[*category][]*queue, len(a.queues))
	for q := range a.queues {
		queues[q.c] = append(queues[q.c], q)
	}
	a.mu.RUnlock()
	status, text := a.Status()
	s.State, s.Warning = stateNames[status], text

	s.Total.add(&s.Other)
	for _, c := range all {
		one := c.status(queues[c])
		s.Total.add(&one.Book)
		s.Categories = append(s.Categories, one)
	}
	return s
}

func (c *callCounters) read() Calls {
	return Calls{
		OK: c.ok.Load(), Refused: c.refused.Load(), Withdrawn: c.withdrawn.Load(),
		Partial: c.partial.Load(), Unknown: c.unknown.Load(),
	}
}

func (c *category) status(queues []*queue) CategoryStatus {
	s := CategoryStatus{QueueBytes: c.bytes.Load()}
	active, problem := make([]func() string, len(queues)), make([]func() string, len(queues))
	c.mu.Lock()
	s.Book = c.book.book(c)
	s.Unrouted = c.kind == unrouted || c.kind == refused
	for i, q := range queues {
		s.Queues = append(s.Queues, q.status())
		active[i], problem[i] = q.active, q.problem
	}
	c.mu.Unlock()
	for i := range queues {
		if f := active[i]; f != nil {
			s.Queues[i].Active = f()
		}
		if f := problem[i]; f != nil {
			s.Queues[i].Problem = f()
		}
	}
	return s
}

// status needs c.mu.
func (q *queue) status() QueueStatus {
	s := QueueStatus{
		Chain: q.number, Holds: roleNames[q.role], Ack: AckReceived, Messages: q.unsettled.Messages,
		Fault: q.fault, Closing: q.closing,
	}
	if q.role == messages {
		s.Match = q.rule.Match
	}
	if q.stored {
		s.Ack = AckStored
	}
	if q.fault != "" {
		s.FaultMillis = time.Since(q.faultSince).Milliseconds()
	}
	return s
}

var stateNames = map[thrift.Status]string{
	thrift.Dead: "dead", thrift.Starting: "starting", thrift.Alive: "alive",
	thrift.Stopping: "stopping", thrift.Stopped: "stopped", thrift.Warning: "warning",
}

// Status implements thrift.Handler. As in Scribe, it is Warning as long as any
// chain has something to complain of; the text is the complaint of the first
// one by name, route and part. What is wrong beside the chains comes first.
func (a *Aggregator) Status() (thrift.Status, string) {
	beside := ""
	if a.problem != nil {
		beside = a.problem()
	}
	select {
	case <-a.done:
		return thrift.Stopped, ""
	default:
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	switch {
	case a.halted:
		return thrift.Stopping, ""
	case !a.started:
		return thrift.Starting, ""
	}
	faults, text := 0, ""
	var first *category // nil: text is from beside the chains
	if beside != "" {
		faults, text = 1, beside
	}
	for q := range a.queues {
		q.c.mu.Lock()
		fault, problem := q.fault, q.problem
		q.c.mu.Unlock()
		if fault == "" && problem != nil {
			fault = problem()
		}
		if fault == "" {
			continue
		}
		if faults++; beside == "" && (faults == 1 || q.c.before(first)) {
			first, text = q.c, fault
		}
	}
	if first != nil {
		text = fmt.Sprintf("%v: %s", first, text)
	}
	switch faults {
	case 0:
		return thrift.Alive, ""
	case 1:
		return thrift.Warning, text
	default:
		return thrift.Warning, fmt.Sprintf("%s (and %d more)", text, faults-1)
	}
}

// Name implements thrift.Handler.
func (a *Aggregator) Name() string { return a.name }

// Version implements thrift.Handler.
func (a *Aggregator) Version() string { return a.version }

// AliveSince implements thrift.Handler.
func (a *Aggregator) AliveSince() int64 { return a.since }

// Reinitialize implements thrift.Handler.
func (a *Aggregator) Reinitialize() {
	if a.reinitialize != nil {
		a.reinitialize()
	}
}

// Shutdown implements thrift.Handler.
func (a *Aggregator) Shutdown() {
	if a.shutdown != nil {
		a.shutdown()
	}
}

// Counters implements thrift.Handler with Scribe's names, as far as they have a
// meaning here. Like Scribe's they are there once they have been counted. A
// message is received once, however many routes take it; what happens to it then
// counts on each.
func (a *Aggregator) Counters() map[string]int64 {
	a.folding.RLock()
	defer a.folding.RUnlock()
	all, other := a.snapshot()
	counters := make(map[string]int64)
	count := func(c *ledger, name string) {
		denied := c.denied
		for _, n := range []struct {
			name  string
			value int64
		}{
			{"received good", c.accepted.Messages - c.unrouted - c.copies},
			{"received bad", c.unrouted + c.refused[refusedUnrouted].Messages},
			{"denied for queue size", denied},
			{"requeue", c.retried},
			{"ignored", ignored(c)},
			{"lost", c.dropped.Messages},
		} {
			if n.value == 0 {
				continue
			}
			if name != "" {
				counters[name+":"+n.name] += n.value
			}
			counters["scribe_overall:"+n.name] += n.value
		}
	}
	if n := a.calls.deniedForRate.Load(); n > 0 {
		counters["scribe_overall:denied for rate"] = n
	}
	count(&other, "")
	for _, c := range all {
		var l ledger
		c.mu.Lock()
		l.fold(&c.book, 1)
		c.mu.Unlock()
		if c.name != "" {
			count(&l, c.name)
		} else if l.offered().Messages > 0 {
			counters["scribe_overall:received blank category"] += l.accepted.Messages
		}
	}
	if a.counters != nil {
		a.counters(counters)
	}
	return counters
}

// nullPlace is how store.Null calls itself in what it took.
const nullPlace = "null"

func ignored(l *ledger) int64 {
	for _, p := range l.stored {
		if p.place == nullPlace {
			return p.Messages
		}
	}
	return 0
}
