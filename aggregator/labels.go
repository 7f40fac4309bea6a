package aggregator

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// maxLabels is how many categories have figures of their own in the metrics, a
// further route of a category counting as one. The others share otherLabel.
const (
	maxLabels  = 100
	otherLabel = "(other)"
)

// figures are what the metrics show under one label.
type figures struct {
	label string
	c     *category // the head of a route; nil: what has no account of its own
	live  bool
	bytes int64
	ledger
}

// figures returns the rest first, then every category, with one more for each
// further route. The parts of a split are told apart by the status alone: there
// may be thousands.
func (a *Aggregator) figures() []figures {
	a.folding.RLock()
	defer a.folding.RUnlock()
	all, other := a.snapshot()
	f := make([]figures, 1, len(all)+1)
	f[0].ledger = other
	for _, c := range all { // a head comes before the parts of its route
		if c.lane.Part == Whole {
			f = append(f, figures{c: c})
		}
		one := &f[len(f)-1]
		one.bytes += c.bytes.Load()
		c.mu.Lock()
		one.live = one.live || c.live
		one.fold(&c.book, 1)
		c.mu.Unlock()
	}
	return f
}

// labels decides which categories have figures of their own: the largest at
// the first look, later the largest without a label whenever one is free. A
// category keeps its label as long as it lives.
//
// No counter falls by that: a label begins at zero, so that what its category
// had before stays with the others, and what a label has shown when it is taken
// away is not shown again under another one.
type labels struct {
	mu     sync.Mutex
	before map[*category]*ledger // of each labelled category, what it does not show
	shown  map[*category]*ledger // and what it did, at the last look
	hidden ledger                // what labels that were taken away had shown
}

// share turns the figures of all into those that are shown.
func (l *labels) share(all []figures) []figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.before == nil
	if first {
		l.before, l.shown = make(map[*category]*ledger), make(map[*category]*ledger)
	}
	l.takeBack(all)
	l.giveOut(all, first)

	other := figures{label: otherLabel}
	other.fold(&l.hidden, -1)
	shown := make([]figures, 1, maxLabels+1)
	for i := range all {
		f := &all[i]
		other.fold(&f.ledger, 1)
		before := l.before[f.c]
		if before == nil {
			other.bytes += f.bytes
			continue
		}
		f.fold(before, -1)
		other.fold(&f.ledger, -1)
		now := &ledger{}
		now.fold(&f.ledger, 1)
		l.shown[f.c] = now
		f.label = labelOf(f.c.name, f.c.lane.Route)
		shown = append(shown, *f)
	}
	shown[0] = other
	return shown
}

// takeBack frees the labels of categories that no longer live.
func (l *labels) takeBack(all []figures) {
	live := make(map[*category]bool, len(all))
	for i := range all {
		live[all[i].c] = all[i].live
	}
	for c := range l.before {
		if live[c] {
			continue
		}
		if shown := l.shown[c]; shown != nil {
			l.hidden.fold(shown, 1)
		}
		delete(l.before, c)
		delete(l.shown, c)
	}
}

// giveOut gives the free labels to the largest categories without one. At the
// first look nothing was shown yet, and they show all they had.
func (l *labels) giveOut(all []figures, first bool) {
	free := maxLabels - len(l.before)
	if free <= 0 {
		return
	}
	var without []*figures
	for i := range all {
		if f := &all[i]; f.live && l.before[f.c] == nil {
			without = append(without, f)
		}
	}
	sort.SliceStable(without, func(i, j int) bool { return without[i].offered().Bytes > without[j].offered().Bytes })
	for _, f := range without[:min(free, len(without))] {
		before := &ledger{}
		if !first {
			before.fold(&f.ledger, 1)
		}
		l.before[f.c] = before
	}
}

// ofRoute is how the label of a further route ends.
var ofRoute = regexp.MustCompile(`\[[0-9]+\]$`)

// Label is how metrics call a category: valid text, of bounded length, another
// one for each.
func Label(category string) string { return labelOf(category, 0) }

// labelOf makes a label of a name and the number of a route, "web" and "web[1]":
// valid text, of bounded length, another one for each, and never otherLabel.
func labelOf(name string, route int) string {
	if route > 0 {
		return fmt.Sprintf("%s[%d]", labelOf(name, 0), route)
	}
	const longest = 200
	if len(name) > longest {
		h := fnv.New128a()
		h.Write([]byte(name)) // a hash never fails
		return strconv.Quote(fmt.Sprintf("%s...%x", name[:longest], h.Sum(nil)))
	}
	if name == "" || name == otherLabel || strings.HasPrefix(name, `"`) || ofRoute.MatchString(name) || !utf8.ValidString(name) {
		return strconv.Quote(name)
	}
	return name
}

func (f *figures) collect(out chan<- prometheus.Metric) {
	offered := f.offered()
	for _, m := range []struct {
		metric
		value int64
	}{
		{offeredMessages, offered.Messages}, {offeredBytes, offered.Bytes},
		{acceptedMessages, f.accepted.Messages}, {acceptedBytes, f.accepted.Bytes},
		{withdrawnMessages, f.withdrawn.Messages}, {unknownMessages, f.unknown.Messages},
		{retriedMessages, f.retried}, {droppedMessages, f.dropped.Messages},
		{unaccountedMessages, f.unaccounted.Messages}, {queueBytes, f.bytes},
	} {
		m.send(out, m.value, f.label)
	}
	for why, n := range f.refused {
		if n.Messages > 0 {
			refusedMessages.send(out, n.Messages, f.label, reasonNames[why])
		}
	}
	for _, p := range f.stored {
		storedMessages.send(out, p.Messages, f.label, p.place)
		storedBytes.send(out, p.Bytes, f.label, p.place)
	}
}
