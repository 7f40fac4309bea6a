package aggregator

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/thrift"
)

// maxName is the longest category name that is taken as a name. A message under
// a longer one is a dead letter.
const maxName = 1<<16 - 1

// kind is by what right a category lives.
type kind uint8

const (
	byExact   kind = iota // its name stands in the configuration, or it is the blank one
	byPattern             // by a prefix or the star: counted against Limits.Categories
	unrouted              // without a rule, kept: counted apart
	refused               // without a rule, and those are refused: there to be named
	kinds
)

// A category is one name with its account and its queues, or one lane of it
// with an account and a queue of its own. It outlives them: a silent category
// loses its queues first and is forgotten much later.
//
// What every message needs comes first: with a thousand categories in a call
// the lines of memory that each of them touches are the cost.
type category struct {
	mu sync.Mutex

	// bytes is what calls have reserved and batches hold, overhead included. It
	// grows only under Aggregator.mu (read) and shrinks at any time.
	bytes atomic.Int64

	main, dead *queue // changed under Aggregator.mu (write) and mu; either is enough to read

	slot  int32         // dense number, for tables by category; used again once it is forgotten
	fans  bool          // messages go to lanes too; changed with rule
	exact bool          // Route.Exact of its lane; changed with rule
	used  time.Duration // since Aggregator.base; under mu
	book  ledger        // under mu

	name string

	// Changed under Aggregator.mu (write) and mu; either is enough to read.
	rule *Rule // nil for refused
	kind kind
	live bool // has queues, or refuses or fans out and was heard of lately

	lane   Lane               // own: a category as a whole
	parent *category          // of a lane
	lanes  map[Lane]*category // of a category; under Aggregator.mu
}

// room says whether one more category under this name may live now. Needs mu.
func (a *Aggregator) room(name []byte) (why reason, ok bool) {
	set := a.set.Load()
	k, _ := set.classify(name)
	switch k {
	case byPattern:
		return refusedCategories, a.lives[byPattern] < set.Limits.Categories
	case unrouted, refused:
		why = refusedCategories
		if k == refused {
			why = refusedUnrouted
		}
		return why, a.lives[unrouted]+a.lives[refused] < set.strangers
	default:
		return 0, true
	}
}

// classify says by what right, and under which rule, a category lives. The
// blank one has no rule: it is there for its dead letters.
func (s *settings) classify(name []byte) (kind, *Rule) {
	if len(name) == 0 {
		return byExact, nil
	}
	rule, exact := s.routes.find(name)
	switch {
	case exact:
		return byExact, rule
	case rule != nil:
		return byPattern, rule
	case s.Unrouted != nil:
		return unrouted, s.Unrouted
	default:
		return refused, nil
	}
}

// nameOf is the name under which an entry is booked.
func nameOf(e *thrift.Entry) []byte {
	if len(e.Category) > maxName {
		return nil
	}
	return e.Category
}

// ensure makes the categories and queues that a call lacks. ok=false: there is
// no room for one of them, and why; some of the others may have been made.
func (a *Aggregator) ensure(s *scratch, call *thrift.Call) (why reason, ok bool) {
	defer a.wake()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range s.missing {
		e := &call.Entries[i]
		name := nameOf(e)
		dead := len(name) == 0 || len(e.Message) > a.set.Load().maxMessage
		if why, ok := a.enter(name, own, !dead, dead, s.since); !ok {
			return why, false
		}
	}
	for i := range s.parts {
		// By name: the category may have been forgotten since the survey.
		if p := &s.parts[i]; p.c != nil {
			if why, ok := a.enter([]byte(p.c.name), p.c.lane, !p.good.empty(), !p.dead.empty(), s.since); !ok {
				return why, false
			}
		}
	}
	for _, w := range s.wants { // their categories' parts came before
		if why, ok := a.enter([]byte(w.c.name), w.lane, true, false, s.since); !ok {
			return why, false
		}
	}
	return 0, true
}

// enter makes sure that a category, or a lane of one that there is, lives and
// has the queues asked for. Needs mu (write).
func (a *Aggregator) enter(name []byte, l Lane, good, dead bool, now time.Duration) (reason, bool) {
	set := a.set.Load()
	c := a.account(string(name), l)
	if c == nil || !c.live {
		if why, ok := a.room(name); !ok {
			return why, false
		}
	}
	if c == nil {
		c = a.open(string(name), l, now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live {
		c.follow(set.classify(name))
		c.live, c.used = true, now
		a.lives[c.kind]++
	}
	if route := c.rule.route(l); good && c.main == nil && route != nil {
		c.main = a.newQueue(c, c.rule, route, set.roleOf(c.rule), a.chains.Add(1), now)
		a.begin(c.main)
	}
	if dead && c.dead == nil {
		c.dead = a.newQueue(c, &set.DeadLetters, &set.DeadLetters.Routes[0], deadLetters, a.chains.Add(1), now)
		a.begin(c.dead)
	}
	return 0, true
}

// begin registers a queue, for which wake has Run start a driver. Needs mu (write).
func (a *Aggregator) begin(q *queue) {
	a.queues[q] = struct{}{}
	a.fresh = append(a.fresh, q)
}

// wake tells Run of fresh queues.
func (a *Aggregator) wake() {
	select {
	case a.freshSignal <- struct{}{}:
	default:
	}
}

func (a *Aggregator) newSlot() int {
	if last := len(a.freeSlots) - 1; last >= 0 {
		slot := a.freeSlots[last]
		a.freeSlots = a.freeSlots[:last]
		return slot
	}
	a.slots++
	return a.slots - 1
}

// retire closes queues that nobody used for IdleAfter, and forgets the longest
// silent categories where more than Limits.Categories are kept for their
// accounts alone.
func (a *Aggregator) retire(now time.Time) {
	var closed []*queue
	a.folding.Lock()
	defer a.folding.Unlock()
	a.mu.Lock()
	var dormant []*category
	for c := range a.accounts() {
		closed = append(closed, a.retireQueues(c, now.Sub(a.base))...)
		if !c.live && c.bytes.Load() == 0 && !c.pinned() {
			dormant = append(dormant, c)
		}
	}
	if more := len(dormant) - a.set.Load().Limits.Categories; more > 0 {
		sort.Slice(dormant, func(i, j int) bool { return dormant[i].used < dormant[j].used })
		for _, c := range dormant[:more] {
			a.forget(c)
		}
	}
	a.mu.Unlock()
	for _, q := range closed {
		q.signal()
	}
	if len(closed) > 0 {
		a.log.Debug("idle queues closed", zap.Int("queues", len(closed)))
	}
}

// retireQueues detaches the idle queues of c. Without a byte reserved nobody is
// between its admission and its copy, so no message can come to them. Needs mu (write).
func (a *Aggregator) retireQueues(c *category, now time.Duration) (closed []*queue) {
	if !c.live || c.bytes.Load() != 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range []**queue{&c.main, &c.dead} {
		if q := *at; q != nil && now-q.used >= a.idleAfter && !q.eager.Load() && (q.busy == nil || !q.busy()) {
			q.closing = true
			closed = append(closed, q)
			*at = nil
		}
	}
	if c.main == nil && c.dead == nil && now-c.used >= a.idleAfter {
		c.live = false
		a.lives[c.kind]--
	}
	return closed
}

// forget moves the account of a dormant category into the rest, and that of a
// part of a split into its route's, whose figures do not fall by it. Needs
// folding and mu (write).
func (a *Aggregator) forget(c *category) {
	head := c.head()
	if c.parent == nil {
		delete(a.categories, c.name)
	} else {
		delete(c.parent.lanes, c.lane)
	}
	a.freeSlots = append(a.freeSlots, int(c.slot))
	c.mu.Lock()
	defer c.mu.Unlock()
	if head != c {
		head.mu.Lock()
		defer head.mu.Unlock()
		head.book.fold(&c.book, 1)
		return
	}
	a.otherMu.Lock()
	defer a.otherMu.Unlock()
	a.other.fold(&c.book, 1)
}
