package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/buffer/framed"
	"twinscribe/conf"
	"twinscribe/store/replay"
)

// A spooled is one store of a configuration whose chains have spools, or one
// part of a bucket.
type spooled struct {
	rule  *conf.Category
	lane  aggregator.Lane
	place *conf.BufferPlace
	berth aggregator.Lane // of its spools
}

// mostTold bounds the lines about what nobody sends.
const mostTold = 100

// beginLeftovers opens the chains for which earlier starts, or an original
// Scribe, have left messages in spools: nothing else may ever come for them. What
// no store of the configuration would send is told, in the log and the status.
func (s *Server) beginLeftovers(cfg *conf.Config) {
	told := s.stranded(cfg)
	byPath := map[string][]spooled{s.rescuePath(): nil} // also where no store has it any more
	for i := range cfg.Category {
		c := &cfg.Category[i]
		for n, st := range c.Each() {
			stores, first := partsOf(&st)
			for j := range stores {
				lane := aggregator.Lane{Route: n, Part: first + j}
				if p := spoolOf(&stores[j]); p != nil {
					at := spooled{c, lane, p, s.moored(c, p, berth{lane: lane}).lane}
					byPath[s.spoolPath(p)] = append(byPath[s.spoolPath(p)], at)
					told = append(told, s.beginFramed(cfg, &at)...)
				}
				if apart(&stores[j]) { // what a stop has kept
					byPath[s.rescuePath()] = append(byPath[s.rescuePath()], spooled{c, lane, s.rescueSpool(), lane})
				}
			}
		}
	}
	owned, paths := owners(cfg)
	s.noteUse(paths...)
	for _, path := range s.formerly(slices.AppendSeq(paths, maps.Keys(byPath))) {
		if _, has := byPath[path]; !has {
			byPath[path] = nil
		}
	}
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		stores := byPath[path]
		if _, err := s.fs.Stat(path); err != nil {
			continue // a chain that needs the folder makes it, or says why not
		}
		left, err := replay.Leftovers(s.fs, path)
		if err != nil {
			told = append(told, fmt.Sprintf("what earlier starts have left in spools in %s cannot be looked for: %v", path, err))
			continue
		}
		for _, l := range left {
			if err := s.begin(cfg, l, stores); err != nil {
				told = append(told, fmt.Sprintf("what an earlier start has left in a spool is not sent: %s, %d bytes: %v", filepath.Join(path, l.Dir), l.Bytes, err))
			}
		}
	}
	told = append(told, s.strays(owned, slices.AppendSeq(paths, maps.Keys(byPath)))...)
	if more := len(told) - mostTold; more > 0 {
		told = append(told[:mostTold:mostTold], fmt.Sprintf("%d more folders, or categories, have messages that are not sent: look after those above, and reload", more))
	}
	s.mu.Lock()
	before := s.notSent
	s.notSent = told
	s.mu.Unlock()
	for _, text := range told {
		if !slices.Contains(before, text) {
			s.log.Error(text)
		}
	}
}

// spoolOf is the buffer of a store whose chains have spools; nil: it has none.
func spoolOf(st *conf.Store) *conf.BufferPlace {
	if f := st.Failover; f != nil && f.Spooled() {
		return f.Places[len(f.Places)-1].Buffer
	}
	return nil
}

// begin opens the chain of what was left in a folder of these stores' path.
func (s *Server) begin(cfg *conf.Config, l replay.Leftover, stores []spooled) error {
	b, ok := berthOf(l)
	if !ok {
		return errors.New("its category cannot be told: move the folder away, or into the one of its category")
	}
	taken, rule := false, cfg.RuleOf(b.category)
	for i := range stores {
		at := &stores[i]
		own := l.Framed && at.place.Framed != nil && at.place.Framed.Base == "" // whichever lane the store is
		if rule != at.rule || !own && (!l.Spooled || at.berth != b.lane) {
			continue
		}
		taken = true
		if err := s.aggregator.Begin(b.category, at.lane); err != nil {
			return err
		}
	}
	if !taken && l.Spooled {
		return fmt.Errorf("no store of category %q has this folder (%v): put back the one that there was and reload;"+
			" or stop the server and move the folder's files into that of the store that shall send them, or away", b.category, b.lane)
	}
	return nil
}

// beginFramed opens the chains for which an original Scribe has left files, and
// tells which of them are not sent.
func (s *Server) beginFramed(cfg *conf.Config, at *spooled) (told []string) {
	f := at.place.Framed
	if f == nil {
		return nil
	}
	legacies, err := []legacy{{category: named(cfg, at.rule, f), files: *f}}, error(nil)
	if f.Base == "" {
		if legacies, err = s.legaciesIn(cfg, at.rule, f); err != nil {
			told = append(told, fmt.Sprintf("what Scribe has left in %s is not sent: %v", f.Path, err))
		}
	}
	for i := range legacies {
		l := &legacies[i]
		files, _, err := framed.List(s.fs, l.files.Path, l.files.Base)
		if err != nil || len(files) == 0 {
			continue // the chain says so when it is opened
		}
		if cfg.RuleOf(l.category) == at.rule {
			err = s.aggregator.Begin(l.category, at.lane)
		} else {
			err = fmt.Errorf("its chain would be that of category %q, which another rule has: give that rule the key framed", l.category)
		}
		if err != nil {
			told = append(told, fmt.Sprintf("what Scribe has left in %s is not sent: %v", filepath.Join(l.files.Path, l.files.Base), err))
		}
	}
	return told
}

// stranded tells of messages in the buffer of all chains whose categories go to
// no cluster: a stop has found no other place for them, or there was no store for
// them when they came, and nothing sends them.
func (s *Server) stranded(cfg *conf.Config) (told []string) {
	type kind struct {
		category string
		reason   buffer.Reason
	}
	held := make(map[kind]int64)
	for _, seg := range s.buffer.Segments() {
		if seg.Shipped || seg.Reason != buffer.Outage && seg.Reason != buffer.Unrouted {
			continue
		}
		for _, p := range seg.Parts {
			if rule := cfg.RuleOf(p.Category); rule != nil && allApart(rule) {
				held[kind{p.Category, seg.Reason}] += p.Messages
			}
		}
	}
	kinds := slices.SortedFunc(maps.Keys(held), func(a, b kind) int {
		return cmp.Or(cmp.Compare(a.category, b.category), cmp.Compare(a.reason, b.reason))
	})
	for _, k := range kinds {
		told = append(told, fmt.Sprintf("the buffer holds %d messages of category %q, which goes to no cluster: %s", held[k], k.category, strandedRemedy(k.reason)))
	}
	return told
}

// allApart says that no store of a rule has anything to do with clusters or with
// the buffer of all chains.
func allApart(rule *conf.Category) bool {
	for _, st := range rule.Each() {
		stores, _ := partsOf(&st)
		for i := range stores {
			if !apart(&stores[i]) && stores[i].Null == nil {
				return false
			}
		}
	}
	return true
}
