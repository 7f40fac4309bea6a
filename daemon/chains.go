package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/files"
	"twinscribe/store/replay"
)

// Places that are no clusters, as the books name them.
const (
	placeBuffer     = "buffer"
	placeDeadLetter = "dead-letter"
	placeUnrouted   = "unrouted"
)

// rules makes what the aggregator routes by.
func (s *Server) rules(cfg *conf.Config) ([]aggregator.Rule, error) {
	rules := make([]aggregator.Rule, 0, len(cfg.Category))
	for i := range cfg.Category {
		c := &cfg.Category[i]
		rule := aggregator.Rule{Match: c.Match, Ack: c.Ack}
		stores := c.Each()
		for n := range stores {
			route, err := s.route(cfg, c, &stores[n], n)
			if err != nil {
				return nil, fmt.Errorf("categories[%d]: %w", i, err)
			}
			rule.Routes = append(rule.Routes, route)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// route is one store of a rule.
func (s *Server) route(cfg *conf.Config, c *conf.Category, st *conf.Store, n int) (aggregator.Route, error) {
	key, err := json.Marshal(st) // a reload keeps a queue whose store is written the same
	if err != nil {
		return aggregator.Route{}, err
	}
	r := aggregator.Route{
		Period: periodOf(st), Key: fmt.Sprintf("%s write %v frame %d", key, cfg.Timeouts.Write, frameFor(cfg)),
		Lossy: st.Lossy, Exact: exact(st), Optional: st.Optional, Write: writeTime(st, cfg),
	}
	part := func(int) *conf.Store { return st }
	if b := st.Bucket; b != nil {
		by := &store.Buckets{By: b.By, N: len(b.Stores) - 1, Delimiter: byte(b.Delimiter), Range: uint64(b.Range), RemoveKey: b.RemoveKey}
		r.Split = &aggregator.Split{Key: fmt.Sprintf("%+v", *by), Parts: len(b.Stores), Of: by.Of}
		part = func(i int) *conf.Store { return &b.Stores[i] }
	}
	r.Open = func(category string, i int, number uint32) (aggregator.Chain, error) {
		return s.chain(cfg, c, part(i), berth{category, aggregator.Lane{Route: n, Part: i}}, number, &r)
	}
	r.Rescue = func(ctx context.Context, i int, b *store.Batch) error {
		return s.rescueOf(ctx, part(i), berth{b.Category, aggregator.Lane{Route: n, Part: i}}, &r, b)
	}
	return r, nil
}

// places are the stores that a chain writes to, in order.
func placesOf(st *conf.Store) []conf.Store {
	if st.Failover != nil {
		return st.Failover.Places
	}
	return []conf.Store{*st}
}

// exact says that a store needs messages exactly as they came: files of Scribe's
// that add no line feed, and other servers.
func exact(st *conf.Store) bool {
	if st.Bucket != nil {
		for i := range st.Bucket.Stores {
			if exact(&st.Bucket.Stores[i]) {
				return true
			}
		}
		return false
	}
	for _, p := range placesOf(st) {
		if p.ScribeFiles != nil || p.Network != nil || p.Files != nil && p.Files.Scribe != nil && p.Files.Scribe.AddNewlines {
			return true
		}
	}
	return false
}

// text gives a place that holds text its batches in that form, where those of
// its route have a line feed more.
func text(r *aggregator.Route, f *conf.Files, p store.Place) store.Place {
	if !r.Exact || f != nil && f.Scribe != nil && f.Scribe.AddNewlines {
		return p
	}
	return store.Text(p)
}

// writeTime is what one place of a store gets for a batch.
func writeTime(st *conf.Store, cfg *conf.Config) time.Duration {
	most := cfg.Timeouts.Write
	if st.Bucket != nil {
		for i := range st.Bucket.Stores {
			most = max(most, writeTime(&st.Bucket.Stores[i], cfg))
		}
		return most
	}
	for _, p := range placesOf(st) {
		if p.Network != nil {
			most = max(most, 2*p.Network.Timeout) // connecting, and the call
		}
	}
	return most
}

// periodOf is the partition of the files in a chain.
func periodOf(st *conf.Store) catalog.Period {
	if st.Bucket != nil {
		for i := range st.Bucket.Stores {
			if p := periodOf(&st.Bucket.Stores[i]); p != "" {
				return p
			}
		}
		return ""
	}
	for _, p := range placesOf(st) {
		if p.Files != nil {
			return catalog.Period(p.Files.Partition)
		}
	}
	return ""
}

// chain builds the chain of one category. A store of files or a buffer that
// stands alone is a failover with one place: it has the same budget.
func (s *Server) chain(cfg *conf.Config, c *conf.Category, st *conf.Store, at berth, number uint32, r *aggregator.Route) (aggregator.Chain, error) {
	if st.Null != nil {
		return aggregator.Chain{Store: store.NewNull(), Active: func() string { return "null" }}, nil
	}
	places, prefer := placesOf(st), "none"
	var retry *conf.Retry
	if st.Failover != nil {
		prefer, retry = st.Failover.Prefer, st.Failover.Retry
	}
	var spool, kept *replay.Spool
	var err error
	buffered := spoolOf(st)
	if buffered != nil {
		places = places[:len(places)-1]
		if spool, err = s.spool(buffered, s.moored(c, buffered, at), framedFor(cfg, c, buffered.Framed, at.category), c.Ack == aggregator.AckStored); err != nil {
			return aggregator.Chain{}, err
		}
	}
	to, err := s.placesOf(cfg, c, r, places, at, number, retryOf(retry))
	if err != nil {
		return aggregator.Chain{}, err
	}
	if apart(st) {
		kept = s.rescued(at)
	}
	chain, quiet := first(to), len(to) == 1 && to[0].Quiet
	if len(to) > 1 || spool == nil && kept == nil {
		f := store.NewFailover(to, store.FailoverOptions{Prefer: prefer, WriteTimeout: r.Write, Log: s.chainLog})
		chain = aggregator.Chain{Store: f, Active: f.Active, Problem: f.Problem}
	}
	if spool != nil {
		chain = s.replaying(chain, spool, buffered, at, retryOf(retry), r, quiet)
	}
	if kept != nil {
		if spool != nil { // which keeps what is of this start
			chain.Store = &renumbered{to: chain.Store, chain: s.aggregator.NextChain(), now: s.now, next: 1}
		}
		chain = s.replaying(chain, kept, s.rescueSpool(), at, retryOf(retry), r, quiet && spool == nil)
	}
	return chain, nil
}

// first is the chain of the one place that there is.
func first(to []store.FailoverPlace) aggregator.Chain {
	return aggregator.Chain{Store: to[0].Place, Active: func() string { return to[0].Name }, Problem: func() string { return "" }}
}

// replaying puts a spool behind a chain. quiet: that the chain fails is no problem.
func (s *Server) replaying(to aggregator.Chain, spool *replay.Spool, place *conf.BufferPlace, at berth, retry store.Retry, r *aggregator.Route, quiet bool) aggregator.Chain {
	kept := replay.New(to.Store, spool, replay.Options{
		LiveFirst: place.Order == "live-first", Retry: retry, Timeout: r.Write, Log: s.chainLog.Named("replay"),
		Pause: func() bool {
			return s.aggregator.QueueBytes(at.category, at.lane)*100 > int64(s.inForce().Limits.Queue)*int64(place.LiveBelow)
		},
	})
	return aggregator.Chain{
		Store: s.places.count(kept, at, s.spoolPath(place)),
		Active: func() string {
			if kept.Status().State == replay.Streaming {
				return to.Active()
			}
			return placeSpool
		},
		Problem: func() string {
			st := kept.Status()
			if quiet {
				return st.Problem
			}
			return cmp.Or(st.Problem, st.Text, to.Problem())
		},
		Busy: func() bool { return kept.Status().State != replay.Streaming || to.Busy != nil && to.Busy() },
	}
}

// placesOf makes the places of a chain.
func (s *Server) placesOf(cfg *conf.Config, c *conf.Category, r *aggregator.Route, places []conf.Store, at berth, number uint32, retry store.Retry) ([]store.FailoverPlace, error) {
	var used []*site
	var first *conf.Files
	for i := range places {
		if f := places[i].Files; f != nil {
			used = append(used, siteNamed(s.sites, f.Cluster))
			if first == nil {
				first = f
			}
		}
	}
	var to []store.FailoverPlace
	for i := range places {
		switch p := &places[i]; {
		case p.Files != nil:
			on := siteNamed(s.sites, p.Files.Cluster)
			names, err := layoutOf(p.Files, at.category)
			if err != nil {
				return nil, err
			}
			to = append(to, store.FailoverPlace{Name: on.conf.Name, Health: on.health, Place: text(r, p.Files, on.root.Chain(files.ChainSpec{
				Category: at.category, Chain: number, Period: catalog.Period(p.Files.Partition),
				MaxSize: int64(p.Files.MaxSize), Idle: p.Files.Idle, Layout: names,
			}))})
		case p.Buffer != nil:
			to = append(to, store.FailoverPlace{Name: placeBuffer, Place: text(r, first, store.NewBuffer(s.buffer, store.BufferOptions{
				AnyUsable: func() bool { return anyUsable(used) }, Place: placeBuffer,
			}))})
		case p.Network != nil:
			n, err := s.networkPlace(cfg, p.Network)
			if err != nil {
				return nil, err
			}
			to = append(to, store.FailoverPlace{Name: "network", Place: n, Health: n.Health(), Retry: retry, Quiet: p.Network.Quiet})
		case p.ScribeFiles != nil:
			f, err := s.scribePlace(p.ScribeFiles, at.category, c.Ack == aggregator.AckStored)
			if err != nil {
				return nil, err
			}
			on := store.FailoverPlace{Name: "files", Place: f, Retry: retry}
			if i < len(places)-1 { // the last one is what is left when all else has failed
				on.Health = store.NoHealth{}
			}
			to = append(to, on)
		}
	}
	return to, nil
}

// keep is where messages go that no rule routes and that no store could take:
// the buffer, with the reason.
func (s *Server) keep(reason buffer.Reason, place string) aggregator.Rule {
	return aggregator.Rule{Match: "*", Ack: aggregator.AckStored, Routes: []aggregator.Route{{
		Key: place,
		Open: func(string, int, uint32) (aggregator.Chain, error) {
			b := store.NewBuffer(s.buffer, store.BufferOptions{Reason: reason, Place: place})
			return aggregator.Chain{Store: b, Active: func() string { return place }}, nil
		},
	}}}
}
