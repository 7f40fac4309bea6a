package aggregator

import (
	"fmt"
	"iter"
	"time"

	"twinscribe/thrift"
)

// A Lane is one account and queue of a category beside its own: a further route
// of its rule, or a part of a route that is split. The category's own queue is
// route 0, unless that is split.
type Lane struct {
	Route int `json:"route"` // its number in the rule, from 0
	Part  int `json:"part"`  // Whole where the route is not split
}

// own is the lane of a category that is none.
var own = Lane{Route: 0, Part: Whole}

func (l Lane) String() string {
	if l.Part == Whole {
		return fmt.Sprintf("route %d", l.Route)
	}
	return fmt.Sprintf("route %d part %d", l.Route, l.Part)
}

// String names a category or a lane for people.
func (c *category) String() string {
	if c.lane == own {
		return fmt.Sprintf("category %q", c.name)
	}
	return fmt.Sprintf("category %q %v", c.name, c.lane)
}

// before is the order of accounts: by name in byte order, route and part.
func (c *category) before(o *category) bool {
	switch {
	case c.name != o.name:
		return c.name < o.name
	case c.lane.Route != o.lane.Route:
		return c.lane.Route < o.lane.Route
	}
	return c.lane.Part < o.lane.Part
}

// follow makes a rule count for a category or lane. Needs mu (write) and c.mu,
// or that nobody else knows c yet.
func (c *category) follow(k kind, rule *Rule) {
	c.kind, c.rule = k, rule
	route := rule.route(c.lane)
	c.exact = route != nil && route.Exact
	c.fans = rule != nil && c.lane == own && !rule.plain()
}

// at returns a lane of the category, or nil where there is none yet. Needs mu.
func (c *category) at(l Lane) *category {
	if l == own {
		return c
	}
	return c.lanes[l]
}

// head is the account of a lane's whole route: the category itself, or the lane
// of the route that is not split. What parts had when they were forgotten goes
// there. Needs mu.
func (c *category) head() *category {
	if c.parent == nil {
		return c
	}
	return c.parent.at(Lane{c.lane.Route, Whole})
}

// all are the category and its lanes, in no order. Needs mu.
func (c *category) all() iter.Seq[*category] {
	return func(yield func(*category) bool) {
		if !yield(c) {
			return
		}
		for _, lane := range c.lanes {
			if !yield(lane) {
				return
			}
		}
	}
}

// accounts are all categories and lanes, in no order. Needs mu.
func (a *Aggregator) accounts() iter.Seq[*category] {
	return func(yield func(*category) bool) {
		for _, c := range a.categories {
			for one := range c.all() {
				if !yield(one) {
					return
				}
			}
		}
	}
}

// account returns the account of a name and lane. Needs mu.
func (a *Aggregator) account(name string, l Lane) *category {
	c := a.categories[name]
	if c == nil {
		return nil
	}
	return c.at(l)
}

// open makes the account of a name, or of a lane whose category there is, and
// of its route with it. Needs mu (write).
func (a *Aggregator) open(name string, l Lane, now time.Duration) *category {
	c := &category{name: name, lane: l, slot: int32(a.newSlot()), used: now}
	if l == own {
		a.categories[name] = c
		return c
	}
	c.parent = a.categories[name]
	if c.parent.lanes == nil {
		c.parent.lanes = make(map[Lane]*category)
	}
	c.parent.lanes[l] = c
	if c.head() == nil {
		h := a.open(name, Lane{l.Route, Whole}, now)
		h.follow(c.parent.kind, c.parent.rule)
	}
	return c
}

// pinned says that an account cannot be forgotten yet: that of a category while
// it has lanes, that of a route while it has parts. Needs mu.
func (c *category) pinned() bool {
	switch {
	case c.lane.Part != Whole:
		return false
	case c.parent == nil:
		return len(c.lanes) > 0
	}
	for l := range c.parent.lanes {
		if l.Route == c.lane.Route && l.Part != Whole {
			return true
		}
	}
	return false
}

// root is the category that a lane is of.
func (c *category) root() *category {
	if c.parent != nil {
		return c.parent
	}
	return c
}

// Begin has the chain of a category opened though no message has come for it: an
// earlier start may have left some there. The queue's own goroutine opens it
// within a second or two, and tries again where that fails; until then the queue
// is not closed for being idle. An error says that the configuration in force has
// no such lane, or no room for it.
func (a *Aggregator) Begin(category string, l Lane) error {
	a.mu.Lock()
	defer a.wake()
	defer a.mu.Unlock()
	if a.halted {
		return fmt.Errorf("category %q: its chain is not opened: the server stops", category)
	}
	set := a.set.Load()
	if _, rule := set.classify([]byte(category)); rule.route(l) == nil || set.roleOf(rule) != messages {
		return fmt.Errorf("category %q: the configuration has no store for it (%v)", category, l)
	}
	now := time.Since(a.base)
	for _, at := range []Lane{own, l} { // a lane is of a category that there is
		if why, ok := a.enter([]byte(category), at, at == l, false, now); !ok {
			return fmt.Errorf("category %q: no room for its queue (%s)", category, reasonNames[why])
		}
	}
	c := a.account(category, l)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.main.open {
		c.main.eager.Store(true)
	}
	return nil
}

// NextChain draws the number of a chain that the aggregator does not drive.
func (a *Aggregator) NextChain() uint32 { return a.chains.Add(1) }

// QueueBytes is what waits for a chain, overhead included.
func (a *Aggregator) QueueBytes(category string, l Lane) int64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c := a.account(category, l)
	if c == nil {
		return 0
	}
	return c.bytes.Load()
}

// A division is how the split routes of one number, counted within each rule,
// divide the entries of a call. An entry belongs to one rule.
type division struct {
	next []int32 // as scratch.next, of these lists
	part []int32 // by entry; unasked: Split.Of was not asked yet
	skip []int32 // by entry: leading bytes that are not stored
}

const unasked = -1

// A want is a lane that a call needs and that has no account yet.
type want struct {
	c    *category
	lane Lane
	part int32 // the category's part of the call
}

// fan gives the lanes of the call's categories their parts. Needs mu.
func (a *Aggregator) fan(s *scratch, call *thrift.Call) {
	for i := range len(s.parts) { // what is added are lanes
		c, good := s.parts[i].c, s.parts[i].good
		if c == nil || !c.fans || good.empty() {
			continue
		}
		splits := 0
		for r := range c.rule.Routes {
			route := &c.rule.Routes[r]
			if route.Split != nil {
				a.divide(s, call, int32(i), good, r, splits)
				splits++
				continue
			}
			lane := c.at(Lane{r, Whole})
			switch lane {
			case c: // its part holds the messages already
			case nil:
				s.wants = append(s.wants, want{c, Lane{r, Whole}, int32(i)})
			default:
				p := &s.parts[s.newPart(lane)]
				if p.good = good; lane.exact != c.exact {
					p.good.size.Bytes = s.bytes(call, good, lane.exact)
				}
			}
		}
	}
}

// bytes is what the entries of a category's list take as they are stored.
func (s *scratch) bytes(call *thrift.Call, l list, exact bool) (n int64) {
	for i := l.first; i >= 0; i = s.next[i] {
		n += int64(storedSize(call.Entries[i].Message, exact))
	}
	return n
}

// divide gives the messages of a category to the parts of its route r. What
// belongs to a part without an account stays with the category on route 0: if
// the call is refused it is booked there. Needs mu.
func (a *Aggregator) divide(s *scratch, call *thrift.Call, at int32, good list, r, number int) {
	c := s.parts[at].c
	split, exact := c.rule.Routes[r].Split, c.rule.Routes[r].Exact
	d, via := s.division(number), uint8(number+1)
	if r == 0 {
		s.parts[at].good, s.parts[at].via = noEntries, via
	}
	for i := good.first; i >= 0; i = s.next[i] {
		m := call.Entries[i].Message
		if d.part[i] == unasked {
			d.ask(split, i, m)
		}
		to, size := at, storedSize(m[d.skip[i]:], exact)
		lane := Lane{r, int(d.part[i])}
		if l := c.at(lane); l != nil {
			to = a.partOf(s, l)
			s.parts[to].via = via
		} else {
			if last := len(s.wants) - 1; last < 0 || s.wants[last].lane != lane || s.wants[last].c != c {
				s.wants = append(s.wants, want{c, lane, at})
			}
			if r > 0 {
				continue
			}
		}
		s.parts[to].good.link(d.next, i, size)
	}
}

// ask has a message divided. The answer holds for all surveys of the call: a
// split may go by chance.
func (d *division) ask(split *Split, i int32, m []byte) {
	part, skip := split.Of(m)
	if part < 0 || part >= split.Parts || skip < 0 || skip > len(m) {
		part, skip = 0, 0
	}
	d.part[i], d.skip[i] = int32(part), int32(skip)
}

// division returns the working memory of the split routes of one number. It is
// empty when a call first asks for it.
func (s *scratch) division(number int) *division {
	for len(s.divisions) <= number {
		s.divisions = append(s.divisions, division{})
	}
	d := &s.divisions[number]
	if number < s.divided {
		return d
	}
	n := len(s.next)
	if cap(d.next) < n {
		d.next, d.part, d.skip = make([]int32, n), make([]int32, n), make([]int32, n)
	}
	d.next, d.part, d.skip = d.next[:n], d.part[:n], d.skip[:n]
	for i := range d.part {
		d.part[i] = unasked
	}
	s.divided = number + 1
	return d
}

// of returns what a part's good list is linked through, and how many leading
// bytes of each entry are left out; nil: none.
func (s *scratch) of(via uint8) (next, skip []int32) {
	if via == 0 {
		return s.next, nil
	}
	d := &s.divisions[via-1]
	return d.next, d.skip
}
