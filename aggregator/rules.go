package aggregator

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

// Acknowledgement levels, as the configuration spells them.
const (
	AckStored   = "stored"   // OK once the chain has stored every message of the call
	AckReceived = "received" // OK once the call is in memory
)

// A Rule says which categories it is for, what OK means to them, and where each
// of their messages goes.
type Rule struct {
	// Match is an exact name, a prefix with a star at its end, or a star alone.
	Match string

	// Ack is AckStored or AckReceived.
	Ack string

	// Routes are where messages go: each one takes every message. Several are
	// copies, and OK under AckStored waits for all of them.
	Routes []Route
}

// A Route is one copy of every message of a category. Each category has a chain
// of its own on each route, and on a route that is split one for each part.
type Route struct {
	// Period of the partitions that the chain writes; empty: an hour.
	Period catalog.Period

	// Key describes all that Open builds. Where it is the same before and after
	// a reload, and the rule's Ack and all else of the Route are, the category
	// keeps its queue and chain.
	Key string

	// Split divides the messages; nil: the route has one chain.
	Split *Split

	// Open builds the chain of one category, and of one part where the route is
	// split; otherwise part is Whole. It checks, allocates and returns: it dials
	// nobody and waits for nothing. number is the chain's number, never given
	// twice within a start. Called by many goroutines at once.
	Open func(category string, part int, number uint32) (Chain, error)

	// Lossy: what the chain refuses, by any error but the end of a stop's time, is
	// dropped at once and counted as dropped. It is never tried again, and the
	// clients hear OK, as under AckReceived: nobody is told of the loss but the
	// books. This is Scribe's must_succeed=no. It is about this route alone: what
	// another one refuses is tried again, or told to the clients.
	Lossy bool

	// Exact: every message is followed by one line feed in a batch, also one that
	// ends in a line feed of its own, so that Batch.Message is the message exactly
	// as it came. Without it a message's own line feed counts as the one.
	Exact bool

	// Optional leaves a message out here, as dropped, while the queue is full or
	// its chain has just failed, if another route of the rule takes it.
	Optional bool

	// Write is how long one place of the chain may take for a batch; 0: what
	// Config.Timeouts says.
	Write time.Duration

	// Rescue keeps a batch that the chain does not take at a stop; nil:
	// Options.Rescue does. Called by many goroutines at once.
	Rescue func(ctx context.Context, part int, b *store.Batch) error
}

// Whole is the part of a route that is not split.
const Whole = -1

// A Split divides the messages of a category by what they are, as Scribe's
// buckets do.
type Split struct {
	// Key says how: the same Key and Parts are the same Split before and after a reload.
	Key string

	// Parts is how many there are, from 1 to MaxParts.
	Parts int

	// Of says which part a message belongs to, from 0 to Parts-1, and how many
	// of its leading bytes are not stored. An answer out of these bounds counts
	// as part 0 with nothing left out. Of is asked once for each message of a
	// call, computes and returns, and does not keep the message. Called by many
	// goroutines at once.
	Of func(message []byte) (part, skip int)
}

const (
	// MaxParts is the most parts that a route can be split into.
	MaxParts = 1 << 16
	// maxRoutes is the most routes of a rule.
	maxRoutes = 64
)

// A Chain is what one queue drives.
type Chain struct {
	Store store.Store

	// Active names the place that is written to, for the status. Any goroutine
	// may call it, and it returns at once. nil: nothing to tell.
	Active func() string

	// Busy says that the chain has messages of its own to send: it is not closed
	// for want of new ones. As Active; nil: it never has.
	Busy func() bool

	// Problem is what is wrong though batches are taken, in the words that
	// operators know; empty: nothing. As Active.
	Problem func() string
}

func (r *Route) period() catalog.Period {
	if r.Period == "" {
		return catalog.Hour
	}
	return r.Period
}

// same says whether what r and o build, and which messages it gets, is the same.
func (r *Route) same(o *Route) bool {
	return r.Key == o.Key && r.period() == o.period() && r.Split.same(o.Split) &&
		r.Lossy == o.Lossy && r.Exact == o.Exact && r.Optional == o.Optional && r.Write == o.Write
}

func (s *Split) same(o *Split) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Key == o.Key && s.Parts == o.Parts
}

// route is the one that a lane's queue serves; nil: there is none.
func (r *Rule) route(l Lane) *Route {
	if r == nil || l.Route < 0 || l.Route >= len(r.Routes) {
		return nil
	}
	route := &r.Routes[l.Route]
	if route.Split == nil && l.Part == Whole || route.Split != nil && l.Part >= 0 && l.Part < route.Split.Parts {
		return route
	}
	return nil
}

// plain says that a category's own queue is all it has.
func (r *Rule) plain() bool { return len(r.Routes) == 1 && r.Routes[0].Split == nil }

func (r *Rule) check() error {
	switch {
	case r.Ack != AckStored && r.Ack != AckReceived:
		return fmt.Errorf("ack %q: want %q or %q", r.Ack, AckStored, AckReceived)
	case len(r.Routes) == 0:
		return errors.New("no route: messages would have nowhere to go")
	case len(r.Routes) > maxRoutes:
		return fmt.Errorf("%d routes: want at most %d", len(r.Routes), maxRoutes)
	}
	var errs []error
	for i := range r.Routes {
		if err := r.Routes[i].check(); err != nil {
			errs = append(errs, fmt.Errorf("route %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// checkKept is check for a rule of what is kept apart: dead letters, messages
// without a rule of their own. Its clients hear OK only when it is stored.
func (r *Rule) checkKept() error {
	r.Ack = AckStored
	if err := r.check(); err != nil {
		return err
	}
	if !r.plain() {
		return errors.New("want one route that is not split")
	}
	return nil
}

func (r *Route) check() error {
	switch {
	case r.Open == nil:
		return errors.New("no way to open a chain")
	case r.period() != catalog.Hour && r.period() != catalog.Day:
		return fmt.Errorf("period %q: want %q or %q", r.Period, catalog.Hour, catalog.Day)
	case r.Split == nil:
		return nil
	case r.Split.Of == nil:
		return errors.New("split: no way to divide messages")
	case r.Split.Parts < 1 || r.Split.Parts > MaxParts:
		return fmt.Errorf("split into %d parts: want 1 to %d", r.Split.Parts, MaxParts)
	}
	return nil
}

// router finds the rule of a category: its exact one, else the first prefix in
// byte order of the pattern (so that foo* hides foobar*), else the star. That
// is Scribe's order. It is never changed once it is built.
type router struct {
	exact    map[string]*Rule
	prefixes []*Rule
	rest     *Rule
}

func newRouter(rules []Rule) (*router, error) {
	r := &router{exact: make(map[string]*Rule)}
	var errs []error
	for i := range rules {
		rule := &rules[i]
		if err := rule.check(); err != nil {
			errs = append(errs, fmt.Errorf("rule %d (%q): %w", i+1, rule.Match, err))
		}
		switch {
		case rule.Match == "":
			errs = append(errs, fmt.Errorf("rule %d: empty match: name a category, or * for all", i+1))
		case rule.Match == "*":
			if r.rest == nil {
				r.rest = rule
			}
		case strings.HasSuffix(rule.Match, "*"):
			r.prefixes = append(r.prefixes, rule)
		case r.exact[rule.Match] == nil:
			r.exact[rule.Match] = rule
		}
	}
	sort.SliceStable(r.prefixes, func(i, j int) bool { return r.prefixes[i].Match < r.prefixes[j].Match })
	return r, errors.Join(errs...)
}

// find returns nil where no rule matches.
func (r *router) find(category []byte) (rule *Rule, exact bool) {
	if rule := r.exact[string(category)]; rule != nil {
		return rule, true
	}
	for _, rule := range r.prefixes {
		prefix := rule.Match[:len(rule.Match)-1]
		if len(category) >= len(prefix) && string(category[:len(prefix)]) == prefix {
			return rule, false
		}
	}
	return r.rest, false
}
