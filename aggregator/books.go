package aggregator

import (
	"errors"
	"fmt"
	"sort"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

// A Count is a number of messages and their bytes in the form in which they
// are stored: each with its one line feed.
type Count struct {
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
}

func (c *Count) add(o Count)        { c.Messages += o.Messages; c.Bytes += o.Bytes }
func (c Count) times(n int64) Count { return Count{c.Messages * n, c.Bytes * n} }
func (c *Count) sub(o Count)        { c.Messages -= o.Messages; c.Bytes -= o.Bytes }

// A Book is the account of one category, or of one lane of it, since the start,
// taken at one moment:
//
//	offered  = accepted + refused
//	accepted = stored + dropped + withdrawn + queued + in flight
//
// Dead letters and unrouted messages are stored at places of these names. Where
// a rule has several routes, or one that is split, each lane has a book beside
// the category's own, in which stand route 0, unless it is split, and the dead
// letters. A message stands in the books of all lanes that take it. One that is
// refused before there is such a lane stands in the category's own book for route
// 0, and nowhere for a further route.
type Book struct {
	Category catalog.Text `json:"category"`
	Lane     *Lane        `json:"lane,omitempty"` // nil: the category's own book

	Offered  Count            `json:"offered"`
	Accepted Count            `json:"accepted"`
	Refused  map[string]Count `json:"refused,omitempty"` // by reason

	Stored    map[string]Count `json:"stored,omitempty"` // by place, from what the places answered
	Dropped   Count            `json:"dropped"`          // by an operator's order, or because a chain refused them and its route is lossy, or an optional route had no room
	Withdrawn Count            `json:"withdrawn"`        // no place took them and the client was told so
	Queued    Count            `json:"queued"`
	InFlight  Count            `json:"in_flight"` // with the chain, or waiting for another attempt

	// Unaccounted is what a chain took without saying where: a fault of the
	// program. It is a term of the balance and always zero.
	Unaccounted Count `json:"unaccounted"`

	// What follows is no term of the balance.

	// Unknown were answered TRY_LATER by the clock: they may still be stored,
	// and stand in one of the terms above.
	Unknown Count `json:"unknown"`
	// Retried counts a message once for each attempt that failed.
	Retried int64 `json:"retried"`
	// Denied is how many calls this category's full queue refused.
	Denied int64 `json:"denied"`
	// Unrouted is how many of the accepted came without a rule for their category.
	Unrouted int64 `json:"unrouted"`
}

// Check says whether the book balances, and which line does not.
func (b *Book) Check() error {
	refused, stored := sum(b.Refused), sum(b.Stored)
	var errs []error
	want := b.Accepted
	want.add(refused)
	if b.Offered != want {
		errs = append(errs, fmt.Errorf("%s: offered %v is not accepted %v + refused %v", b.title(), b.Offered, b.Accepted, refused))
	}
	want = stored
	for _, c := range []Count{b.Dropped, b.Withdrawn, b.Queued, b.InFlight, b.Unaccounted} {
		want.add(c)
	}
	if b.Accepted != want {
		errs = append(errs, fmt.Errorf("%s: accepted %v is not stored %v + dropped %v + withdrawn %v + queued %v + in flight %v + unaccounted %v",
			b.title(), b.Accepted, stored, b.Dropped, b.Withdrawn, b.Queued, b.InFlight, b.Unaccounted))
	}
	return errors.Join(errs...)
}

// title names the book in errors.
func (b *Book) title() string {
	if b.Lane == nil {
		return fmt.Sprintf("category %q", b.Category)
	}
	return fmt.Sprintf("category %q %v", b.Category, b.Lane)
}

func sum(m map[string]Count) (total Count) {
	for _, c := range m {
		total.add(c)
	}
	return total
}

// add puts o's figures on top of b's, for totals.
func (b *Book) add(o *Book) {
	for _, p := range []struct{ to, from *Count }{
		{&b.Offered, &o.Offered}, {&b.Accepted, &o.Accepted}, {&b.Dropped, &o.Dropped},
		{&b.Withdrawn, &o.Withdrawn}, {&b.Queued, &o.Queued}, {&b.InFlight, &o.InFlight},
		{&b.Unaccounted, &o.Unaccounted}, {&b.Unknown, &o.Unknown},
	} {
		p.to.add(*p.from)
	}
	b.Retried += o.Retried
	b.Denied += o.Denied
	b.Unrouted += o.Unrouted
	b.Refused = addCounts(b.Refused, o.Refused)
	b.Stored = addCounts(b.Stored, o.Stored)
}

func addCounts(to, from map[string]Count) map[string]Count {
	if to == nil && len(from) > 0 {
		to = make(map[string]Count, len(from))
	}
	for k, c := range from {
		t := to[k]
		t.add(c)
		to[k] = t
	}
	return to
}

// reason is why a call, or a category's part of one, was refused.
type reason uint8

const (
	refusedStopping    reason = iota
	refusedMemory             // the limit over all queues
	refusedQueue              // the limit of the category
	refusedCategories         // no room for another live category
	refusedUnrouted           // no rule, and the configuration refuses those
	refusedStore              // its chain has just failed
	refusedDeadLetters        // the dead letters' chain has just failed
	refusedRate               // too many messages in this second
	refusedWithCall           // another category of the same call was refused
	reasons
)

var reasonNames = [reasons]string{
	"stopping", "memory", "queue", "categories", "unrouted", "store", "dead-letters", "rate", "call",
}

// ledger is the book of one category as it is written. Whoever holds the lock
// it lies under moves messages from one line to another within one critical
// section, so that every snapshot balances.
type ledger struct {
	accepted, queued Count // first: the lines of every message
	inFlight         Count
	refused          [reasons]Count
	stored           []placeCount // a handful
	writtenOff       []placeCount // of them, by an operator's order
	dropped          Count        // those, what lossy chains refused, and what was left out of optional routes
	withdrawn        Count
	unaccounted      Count
	unknown          Count
	retried, denied  int64
	unrouted         int64
	copies           int64 // of accepted: on further routes, so that they stand on the first one too
}

type placeCount struct {
	place string
	Count
}

func (l *ledger) refuse(why reason, n Count) { l.refused[why].add(n) }

func (l *ledger) offered() Count {
	n := l.accepted
	for _, r := range l.refused {
		n.add(r)
	}
	return n
}

func (l *ledger) accept(n Count) {
	l.accepted.add(n)
	l.queued.add(n)
}

func (l *ledger) cut(n Count) {
	l.queued.sub(n)
	l.inFlight.add(n)
}

// leaveOut books messages that are taken elsewhere, and not here.
func (l *ledger) leaveOut(n Count) {
	l.accepted.add(n)
	l.dropped.add(n)
}

func (l *ledger) withdraw(n Count) {
	l.inFlight.sub(n)
	l.withdrawn.add(n)
}

func (l *ledger) drop(n Count) {
	l.inFlight.sub(n)
	l.dropped.add(n)
}

// store books what places took of a batch: sent are the messages that are no
// longer with us, taken who says to have them.
func (l *ledger) store(sent Count, taken []store.Taken) {
	l.inFlight.sub(sent)
	said := int64(0)
	for _, t := range taken {
		said += int64(t.Messages)
	}
	left := sent
	for i, t := range taken {
		n := Count{Messages: int64(t.Messages)}
		if n.Bytes = left.Bytes; i < len(taken)-1 {
			n.Bytes = sent.Bytes * n.Messages / max(said, 1)
		}
		at(&l.stored, t.Place).add(n)
		left.sub(n)
	}
	l.unaccounted.add(left)
}

// at finds the figure of a place, or makes it.
func at(places *[]placeCount, place string) *Count {
	for i := range *places {
		if p := &(*places)[i]; p.place == place {
			return &p.Count
		}
	}
	*places = append(*places, placeCount{place: place})
	return &(*places)[len(*places)-1].Count
}

// holds is what a place has of what it was given.
func (l *ledger) holds(place string) (n Count) {
	for _, p := range l.stored {
		if p.place == place {
			n.add(p.Count)
		}
	}
	for _, p := range l.writtenOff {
		if p.place == place {
			n.sub(p.Count)
		}
	}
	return n
}

// book is the account as others see it; c: whose it is, nil: nobody's own.
func (l *ledger) book(c *category) Book {
	b := Book{
		Offered: l.offered(), Accepted: l.accepted,
		Dropped: l.dropped, Withdrawn: l.withdrawn, Queued: l.queued, InFlight: l.inFlight,
		Unaccounted: l.unaccounted, Unknown: l.unknown,
		Retried: l.retried, Denied: l.denied, Unrouted: l.unrouted,
	}
	if c != nil {
		b.Category = catalog.Text(c.name)
		if c.lane != own {
			lane := c.lane
			b.Lane = &lane
		}
	}
	for why, n := range l.refused {
		if n != (Count{}) {
			b.Refused = addCounts(b.Refused, map[string]Count{reasonNames[why]: n})
		}
	}
	for _, p := range l.stored {
		if n := l.holds(p.place); n != (Count{}) {
			b.Stored = addCounts(b.Stored, map[string]Count{p.place: n})
		}
	}
	return b
}

// fold adds o's figures times sign to l's.
func (l *ledger) fold(o *ledger, sign int64) {
	for _, p := range []struct {
		to   *Count
		from Count
	}{
		{&l.accepted, o.accepted}, {&l.dropped, o.dropped},
		{&l.withdrawn, o.withdrawn}, {&l.queued, o.queued}, {&l.inFlight, o.inFlight},
		{&l.unaccounted, o.unaccounted}, {&l.unknown, o.unknown},
	} {
		p.to.add(p.from.times(sign))
	}
	for why := range o.refused {
		l.refused[why].add(o.refused[why].times(sign))
	}
	for _, p := range o.stored {
		at(&l.stored, p.place).add(p.Count.times(sign))
	}
	for _, p := range o.writtenOff {
		at(&l.writtenOff, p.place).add(p.Count.times(sign))
	}
	l.retried += sign * o.retried
	l.denied += sign * o.denied
	l.unrouted += sign * o.unrouted
	l.copies += sign * o.copies
}

// Books are the accounts of all categories and their lanes. In the sums a
// message counts once for each route that takes it.
type Books struct {
	// Categories by name in byte order, the lanes of each behind it by route and
	// part. Each is a snapshot of one moment.
	Categories []Book `json:"categories"`
	// Other holds what has no account of its own: categories forgotten after
	// long silence, and names refused because there were too many.
	Other Book `json:"other"`
	Total Book `json:"total"`
}

// Books returns the accounts as they are now. Every one of them balances, and
// so do the sums.
func (a *Aggregator) Books() Books {
	a.folding.RLock()
	defer a.folding.RUnlock()
	all, other := a.snapshot()
	b := Books{Categories: make([]Book, 0, len(all)), Other: other.book(nil)}
	b.Total.add(&b.Other)
	for _, c := range all {
		c.mu.Lock()
		book := c.book.book(c)
		c.mu.Unlock()
		b.Categories = append(b.Categories, book)
		b.Total.add(&book)
	}
	return b
}

// snapshot returns the categories and lanes there are, in order, and the account
// of the rest as of the same moment: a category that is folded into the rest
// later is not counted twice. Needs folding until their books are read: a part
// of a split is folded into another account of these.
func (a *Aggregator) snapshot() ([]*category, ledger) {
	a.mu.RLock()
	all := make([]*category, 0, len(a.categories))
	for c := range a.accounts() {
		all = append(all, c)
	}
	var other ledger
	a.otherMu.Lock()
	other.fold(&a.other, 1)
	a.otherMu.Unlock()
	a.mu.RUnlock()
	sort.Slice(all, func(i, j int) bool { return all[i].before(all[j]) })
	return all, other
}

// Dropped books that an operator wrote off messages which this start had
// stored at a place, at whichever lanes of the category hold them. It reports
// false, and books nothing, where they hold less than that: then another start
// stored them.
func (a *Aggregator) Dropped(category, place string, n Count) bool {
	a.mu.Lock() // so that nobody else writes off between the look and the entry
	defer a.mu.Unlock()
	c := a.categories[category]
	if c == nil {
		return false
	}
	var held Count
	for one := range c.all() {
		one.mu.Lock()
		held.add(one.book.holds(place))
		one.mu.Unlock()
	}
	if held.Messages < n.Messages || held.Bytes < n.Bytes {
		return false
	}
	for one := range c.all() {
		one.mu.Lock()
		held := one.book.holds(place)
		part := Count{Messages: min(n.Messages, held.Messages), Bytes: min(n.Bytes, held.Bytes)}
		if part != (Count{}) {
			at(&one.book.writtenOff, place).add(part)
			one.book.dropped.add(part)
			n.sub(part)
		}
		one.mu.Unlock()
	}
	return true
}
