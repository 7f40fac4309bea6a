package aggregator

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

// Acknowledgement levels, as the configuration spells them.
const (
	AckStored   = "stored"   // OK once the chain has stored every message of the call
	AckReceived = "received" // OK once the call is in memory
)

// A Rule says which categories a chain is for and how it is made. Each category
// gets a chain of its own.
type Rule struct {
	// Match is an exact name, a prefix with a star at its end, or a star alone.
	Match string

	// Ack is AckStored or AckReceived.
	Ack string

	// Period of the partitions that the chain writes; empty: an hour.
	Period catalog.Period

	// Key describes all that Open builds. Where it is the same before and after
	// a reload, and Ack and Period are, the category keeps its queue and chain.
	Key string

	// Open builds the chain of one category. It checks, allocates and returns:
	// it dials nobody and waits for nothing. number is the chain's number, never
	// given twice within a start. Called by many goroutines at once.
	Open func(category string, number uint32) (Chain, error)
}

// A Chain is what one queue drives.
type Chain struct {
	Store store.Store

	// Active names the place that is written to, for the status. Any goroutine
	// may call it, and it returns at once. nil: nothing to tell.
	Active func() string
}

func (r *Rule) period() catalog.Period {
	if r.Period == "" {
		return catalog.Hour
	}
	return r.Period
}

// same says whether a queue made by r may go on under o.
func (r *Rule) same(o *Rule) bool {
	return r.Key == o.Key && r.Ack == o.Ack && r.period() == o.period()
}

func (r *Rule) check() error {
	switch {
	case r.Open == nil:
		return errors.New("no way to open a chain")
	case r.Ack != AckStored && r.Ack != AckReceived:
		return fmt.Errorf("ack %q: want %q or %q", r.Ack, AckStored, AckReceived)
	case r.period() != catalog.Hour && r.period() != catalog.Day:
		return fmt.Errorf("period %q: want %q or %q", r.Period, catalog.Hour, catalog.Day)
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
