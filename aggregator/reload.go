package aggregator

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// Reload replaces the configuration. Everything new is checked and built first;
// an error means that nothing has changed. A category whose rule is the same
// keeps its queue and its chain, and so does each lane whose route is. Where it
// is another one, new messages go to the new chain from the next call on, what
// is queued goes to the old one, which is then closed in the background. The
// books go on.
func (a *Aggregator) Reload(ctx context.Context, c Config) error {
	set, err := newSettings(c)
	if err != nil {
		return err
	}
	select {
	case a.reloading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.reloading }()

	built, err := a.build(set)
	if err == nil {
		err = a.swap(set, built)
	}
	// What nobody took: after an error all, else those of queues retired meanwhile.
	for _, chain := range built {
		err = errors.Join(err, chain.Store.Close(ctx))
	}
	return err
}

// a place for a new chain: main or dead queue of a category.
type berth struct {
	c    *category
	dead bool
}

type builtChain struct {
	Chain
	number uint32
}

// build opens the chains that live queues need under new settings.
func (a *Aggregator) build(set *settings) (map[berth]builtChain, error) {
	a.mu.RLock()
	needs := make(map[berth]*Route)
	for c := range a.accounts() {
		_, rule := set.classify([]byte(c.name))
		if route := rule.route(c.lane); c.main != nil && route != nil && !c.main.keeps(set, rule) {
			needs[berth{c, false}] = route
		}
		if c.dead != nil && !c.dead.keeps(set, &set.DeadLetters) {
			needs[berth{c, true}] = &set.DeadLetters.Routes[0]
		}
	}
	a.mu.RUnlock()

	built := make(map[berth]builtChain, len(needs))
	for at, route := range needs {
		number := a.chains.Add(1)
		chain, err := route.Open(at.c.name, at.c.lane.Part, number)
		if err != nil {
			return built, fmt.Errorf("%v: open its chain: %w", at.c, err)
		}
		built[at] = builtChain{chain, number}
	}
	return built, nil
}

// keeps says whether the queue goes on under a rule of new settings.
func (q *queue) keeps(set *settings, rule *Rule) bool {
	route := rule.route(q.c.lane)
	return route != nil && q.role == set.roleOf(rule) && q.rule.Ack == rule.Ack && q.route.same(route)
}

func (s *settings) roleOf(rule *Rule) role {
	switch rule {
	case &s.DeadLetters:
		return deadLetters
	case s.Unrouted:
		return unroutedMessages
	default:
		return messages
	}
}

// swap makes new settings count, and removes from built what it uses.
func (a *Aggregator) swap(set *settings, built map[berth]builtChain) error {
	var closed, kept, all []*queue
	a.gate.Lock()
	a.mu.Lock()
	if a.halted {
		a.mu.Unlock()
		a.gate.Unlock()
		return errors.New("stopping: the configuration stays as it is")
	}
	a.use(set)
	a.lives = [kinds]int{}
	for c := range a.accounts() {
		c.mu.Lock()
		c.follow(set.classify([]byte(c.name)))
		for _, at := range []berth{{c, false}, {c, true}} {
			old, now := a.reseat(set, at, built)
			if old != nil && old != now {
				closed = append(closed, old)
			} else if now != nil {
				kept = append(kept, now)
			}
		}
		c.live = c.main != nil || c.dead != nil || (c.live && c.lane == own && (c.kind == refused || c.fans))
		if c.live {
			a.lives[c.kind]++
		}
		c.mu.Unlock()
	}
	for q := range a.queues {
		all = append(all, q)
	}
	a.mu.Unlock()
	a.gate.Unlock()
	a.wake()

	for _, q := range closed {
		q.signal()
	}
	for _, q := range all { // what was broken may be mended now
		if q.until.CompareAndSwap(broken, 0) {
			q.again.Store(true)
			q.signal()
		}
	}
	a.log.Info("configuration replaced", zap.Int("queues_kept", len(kept)), zap.Int("queues_closed", len(closed)))
	return nil
}

// reseat gives one place of a category the queue that new settings ask for. A
// queue that came into being after build has no new chain yet: the category
// gets one with its next message. Needs gate, mu and the category's.
func (a *Aggregator) reseat(set *settings, at berth, built map[berth]builtChain) (old, now *queue) {
	seat, rule := &at.c.main, at.c.rule
	if at.dead {
		seat, rule = &at.c.dead, &set.DeadLetters
	}
	old = *seat
	if old == nil || old.keeps(set, rule) {
		return old, old
	}
	old.closing = true
	*seat = nil
	if b, ok := built[at]; ok {
		delete(built, at)
		q := a.newQueue(at.c, rule, rule.route(at.c.lane), set.roleOf(rule), b.number, old.used)
		q.opened, q.open = b.Chain, true
		q.active, q.problem, q.busy = b.Active, b.Problem, b.Busy
		a.begin(q)
		*seat = q
	}
	return old, *seat
}
