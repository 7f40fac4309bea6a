package daemon

import (
	"errors"
	"net/http"
	"sync"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/store/catalog"
)

// segmentItems tells the inventories what lies in the buffer's segments.
type segmentItems struct {
	b     *base
	mu    sync.Mutex // held for memory only
	known map[itemKey]catalog.Item
}

type itemKey struct {
	identity  catalog.Identity
	partition catalog.Partition
	segment   string
	category  string
	chain     uint32
}

func newSegmentItems(b *base) *segmentItems {
	return &segmentItems{b: b, known: map[itemKey]catalog.Item{}}
}

// update puts what has changed since the last one. It does no I/O.
func (s *segmentItems) update() {
	now := map[itemKey]catalog.Item{}
	for _, seg := range s.b.buffer.Segments() {
		if seg.Reason == buffer.DeadLetter {
			continue // no reader counts them
		}
		state := catalog.StateSegment
		if seg.Shipped {
			state = catalog.StateShipped
		}
		id := catalog.Identity{Aggregator: seg.Identity.Aggregator, Epoch: seg.Identity.Epoch, Start: seg.Identity.Start}
		for _, p := range seg.Parts {
			now[itemKey{id, catalog.Partition(p.Partition), seg.Name, p.Category, p.Chain}] = catalog.Item{
				Category: catalog.Text(p.Category), Chain: p.Chain, Place: placeBuffer, Path: seg.Name,
				State: state, Bytes: p.Bytes, Messages: p.Messages, Ranges: rangesOf(p.Ranges),
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, item := range now {
		if old, ok := s.known[k]; !ok || old.Messages != item.Messages || old.State != item.State || old.Bytes != item.Bytes {
			s.b.keeper.PutAs(k.identity, k.partition, item)
		}
	}
	for k, item := range s.known {
		if _, ok := now[k]; !ok {
			s.b.keeper.DropAs(k.identity, k.partition, placeBuffer, item.Path)
		}
	}
	s.known = now
}

func rangesOf(list []buffer.Range) []catalog.Range {
	ranges := make([]catalog.Range, 0, len(list))
	for _, r := range list {
		ranges = append(ranges, catalog.Range{First: r.First, Last: r.Last})
	}
	return ranges
}

// bookDropped moves in the books what this start had stored in a segment that
// an operator has written off.
func (s *Server) bookDropped(seg *buffer.Segment) {
	if seg.Identity != (buffer.Identity{Aggregator: s.identity.Aggregator, Epoch: s.identity.Epoch, Start: s.identity.Start}) {
		return // an earlier start's books went with it
	}
	place := placeBuffer
	switch seg.Reason {
	case buffer.DeadLetter:
		place = placeDeadLetter
	case buffer.Unrouted:
		place = placeUnrouted
	}
	for _, p := range seg.Parts {
		s.aggregator.Dropped(p.Category, place, aggregator.Count{Messages: p.Messages, Bytes: p.Bytes})
	}
}

// serveSegments lists the buffer, so that a reader elsewhere can count it.
func (s *Server) serveSegments(w http.ResponseWriter, _ *http.Request) {
	reply(w, s.buffer.Segments())
}

// serveSegment gives one segment as it lies on the disk, for a reader elsewhere.
func (s *Server) serveSegment(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	for _, seg := range s.buffer.Segments() {
		if seg.Name == name {
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeFile(w, r, seg.Path)
			return
		}
	}
	fail(w, http.StatusNotFound, errors.New("no such segment"))
}
