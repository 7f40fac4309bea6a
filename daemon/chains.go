package daemon

import (
	"encoding/json"
	"fmt"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/files"
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
		key, err := json.Marshal(c.Store) // a reload keeps a queue whose store is written the same
		if err != nil {
			return nil, fmt.Errorf("categories[%d]: %w", i, err)
		}
		rules = append(rules, aggregator.Rule{
			Match:  c.Match,
			Ack:    c.Ack,
			Period: periodOf(&c.Store),
			Key:    fmt.Sprintf("%s write %v", key, cfg.Timeouts.Write),
			Open: func(category string, number uint32) (aggregator.Chain, error) {
				return s.chain(cfg, &c.Store, category, number)
			},
		})
	}
	return rules, nil
}

// periodOf is the partition of the files in a chain.
func periodOf(st *conf.Store) catalog.Period {
	switch {
	case st.Files != nil:
		return catalog.Period(st.Files.Partition)
	case st.Failover != nil:
		for i := range st.Failover.Places {
			if p := periodOf(&st.Failover.Places[i]); p != "" {
				return p
			}
		}
	}
	return ""
}

// chain builds the chain of one category. A store of files or a buffer that
// stands alone is a failover with one place: it has the same budget.
func (s *Server) chain(cfg *conf.Config, st *conf.Store, category string, number uint32) (aggregator.Chain, error) {
	if st.Null != nil {
		return aggregator.Chain{Store: store.NewNull(), Active: func() string { return "null" }}, nil
	}
	places, prefer := []conf.Store{*st}, "none"
	if st.Failover != nil {
		places, prefer = st.Failover.Places, st.Failover.Prefer
	}
	var used []*site
	for i := range places {
		if places[i].Files != nil {
			used = append(used, siteNamed(s.sites, places[i].Files.Cluster))
		}
	}
	var to []store.FailoverPlace
	for i := range places {
		switch p := &places[i]; {
		case p.Files != nil:
			at := siteNamed(s.sites, p.Files.Cluster)
			to = append(to, store.FailoverPlace{Name: at.conf.Name, Health: at.health, Place: at.root.Chain(files.ChainSpec{
				Category: category, Chain: number, Period: catalog.Period(p.Files.Partition),
				MaxSize: int64(p.Files.MaxSize), Idle: p.Files.Idle,
			})})
		case p.Buffer != nil:
			to = append(to, store.FailoverPlace{Name: placeBuffer, Place: store.NewBuffer(s.buffer, store.BufferOptions{
				AnyUsable: func() bool { return anyUsable(used) }, Place: placeBuffer,
			})})
		}
	}
	f := store.NewFailover(to, store.FailoverOptions{Prefer: prefer, WriteTimeout: cfg.Timeouts.Write, Log: s.chainLog})
	return aggregator.Chain{Store: f, Active: f.Active}, nil
}

// keepChain is where messages go that no rule routes and that no store could
// take: the buffer, with the reason.
func (s *Server) keepChain(reason buffer.Reason, place string) func(string, uint32) (aggregator.Chain, error) {
	return func(string, uint32) (aggregator.Chain, error) {
		b := store.NewBuffer(s.buffer, store.BufferOptions{Reason: reason, Place: place})
		return aggregator.Chain{Store: b, Active: func() string { return place }}, nil
	}
}
