package reader

import (
	"cmp"
	"slices"

	"twinscribe/store/catalog"
)

// An emitter hands runs to the sink: whole ones where nothing of them is left
// out, pieces of them otherwise.
type emitter struct {
	sink   func(*Run) error
	failed error // what the sink said
	report *Report
	calls  *seenCalls // of the category and partition; nil: batch ids do not count

	left   []interval // sequences that are left out of the winner, in order, apart from one another
	skip   []interval // those of them that are still to come
	marked []*catalog.BatchSpan
	buf    []byte // chunks of files
	feeds  []catalog.Span
	run    Run
}

// begin prepares for the sequences of w, which the spans belong to: those that
// were printed before are left out.
func (e *emitter) begin(w winner, spans []catalog.BatchSpan) {
	e.left, e.skip, e.marked = e.left[:0], nil, e.marked[:0]
	if e.calls == nil {
		return
	}
	for i := range spans {
		s := &spans[i]
		if s.First > w.to || s.First+uint64(s.Messages) <= w.from {
			continue
		}
		e.left = e.calls.take(e.left, s, w.from, w.to)
		e.marked = append(e.marked, s)
	}
	e.left = join(e.left)
	e.skip = e.left
}

// end takes back the marks of what was not given out, from next on. What was
// left out was marked by somebody else.
func (e *emitter) end(next, to uint64) {
	if next > to || len(e.marked) == 0 {
		return
	}
	from := next
	for _, v := range append(e.left, interval{to + 1, to + 1}) {
		if from < v.first {
			for _, s := range e.marked {
				e.calls.forget(s, from, v.first-1)
			}
		}
		from = max(from, v.last+1)
	}
}

// join sorts intervals and makes one of those that touch.
func join(list []interval) []interval {
	slices.SortFunc(list, func(a, b interval) int { return cmp.Compare(a.first, b.first) })
	out := list[:0]
	for _, v := range list {
		if n := len(out); n > 0 && v.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, v.last)
			continue
		}
		out = append(out, v)
	}
	return out
}

// give hands out a run without the sequences in e.skip.
func (e *emitter) give(r *Run) error {
	first, last := r.First, r.First+uint64(r.Messages)-1
	for len(e.skip) > 0 && e.skip[0].last < first {
		e.skip = e.skip[1:]
	}
	if r.First == 0 || len(e.skip) == 0 || e.skip[0].first > last {
		return e.hand(r)
	}
	s := splitter{data: r.Data, feeds: r.LineFeeds}
	at := first
	for _, v := range e.skip {
		if v.first > last {
			break
		}
		if at < v.first {
			if err := e.hand(cutRun(r, &s, at, v.first)); err != nil {
				return err
			}
			at = v.first
		}
		end := min(v.last, last) + 1
		s.skip(end - at)
		e.report.Duplicates += int64(end - at)
		at = end
	}
	if at <= last {
		return e.hand(cutRun(r, &s, at, last+1))
	}
	return nil
}

// cutRun is the part [from, end) of a run, where s stands at from.
func cutRun(r *Run, s *splitter, from, end uint64) *Run {
	begin := s.at
	s.skip(end - from)
	part := *r
	part.First, part.Messages, part.Data = from, int(end-from), r.Data[begin:s.at]
	part.LineFeeds = feedsWithin(nil, r.LineFeeds, int64(begin), int64(s.at))
	part.arrivals = arrivalsFrom(r.arrivals, from)
	return &part
}

func (e *emitter) hand(r *Run) error {
	if err := e.sink(r); err != nil {
		e.failed = err
		return err
	}
	e.report.Messages += int64(r.Messages)
	e.report.Bytes += int64(len(r.Data))
	return nil
}
