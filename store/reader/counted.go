package reader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// maxTail bounds the memory for comparing the lines behind a cut, in bytes: a
// few of the largest batches.
const maxTail = 32 << 20

// A cut is the end of a counted piece where the next range of its chain begins.
type cut struct {
	at   uint64 // first sequence of that range
	from uint64 // first sequence of the piece
	done bool
}

// cutCounted ends each counted piece where the next one of its chain begins.
// Where it begins itself is known: behind what its journal tells. But counting
// by lines finds more messages than there are where some have line feeds
// inside, and those that a failed write left behind: what lies behind the cut
// is not known by its sequence. Of two counted pieces from one sequence on the
// better one stays.
func cutCounted(pieces []*piece) []*piece {
	if !slices.ContainsFunc(pieces, func(p *piece) bool { return p.counted }) {
		return pieces
	}
	out := slices.Clone(pieces)
	for i, p := range pieces {
		if !p.counted {
			continue
		}
		at := p.last + 1
		for _, q := range pieces {
			if q.first < at && (q.first > p.first || q.first == p.first && q.counted && q.better(p)) {
				at = q.first
			}
		}
		if at <= p.last {
			short := *p
			short.last, short.cut = at-1, &cut{at: at, from: p.first}
			out[i] = &short
		}
	}
	return out
}

// printCut gives out the lines behind a cut that are not what the next range
// begins with, without sequences.
func (p *pass) printCut(ctx context.Context, e *emitter, c *piece, pieces []*piece) error {
	f, ok := c.src.(*file)
	if !ok || c.cut.done {
		return nil // segments count nothing
	}
	c.cut.done = true
	defer f.close()
	begin, err := f.lineOffset(ctx, e, c.offset, c.end, c.cut.at-c.cut.from)
	if err == nil {
		err = p.printTail(ctx, e, f, tail{begin, c.end, c.cut.at}, pieces)
	}
	if e.failed != nil || ctx.Err() != nil {
		return err
	}
	if err != nil {
		p.report.uncounted("%s:%s: %v; the lines from byte %d on are missing", f.site.name, f.named(), err, c.offset)
	}
	return nil
}

// A tail is the part of a file behind a cut.
type tail struct {
	begin, end int64
	at         uint64 // the sequence that the next range begins with
}

func (p *pass) printTail(ctx context.Context, e *emitter, f *file, t tail, pieces []*piece) error {
	next := plan(pieces, t.at, math.MaxUint64-1)
	for i := 1; i < len(next); i++ { // behind a gap comes something else
		if next[i].from != next[i-1].to+1 {
			next = next[:i]
		}
	}
	same, err := p.compareTail(ctx, f, t, next)
	if err != nil {
		return err
	}
	from, end := t.begin+same, t.end
	if same == 0 && t.end-t.begin <= maxTail {
		// Messages with line feeds inside made the count too high; what was
		// written again elsewhere, if anything was, stands at the end.
		if end, err = p.knownFrom(ctx, f, t, next); err != nil {
			return err
		}
	}
	if from >= end {
		return nil
	}
	p.report.uncounted("%s:%s: bytes %d to %d were counted as sequences that stand elsewhere with other content: given out without sequences, perhaps a second time",
		f.site.name, f.named(), from, end)
	return f.emitLines(ctx, e, from, end)
}

// errStop ends an emission that has given enough.
var errStop = errors.New("enough")

// stream gives the content of winners to f until that is errStop.
func (p *pass) stream(ctx context.Context, winners []winner, f func(data []byte) error) error {
	e := &emitter{sink: func(r *Run) error { return f(r.Data) }, report: new(Report), buf: make([]byte, p.r.o.Chunk)}
	for _, w := range winners {
		_, err := w.src.emit(ctx, e, w)
		w.src.close()
		if errors.Is(e.failed, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compareTail says how much of the tail, from its beginning on, is what the
// winners hold: all of the tail, as many bytes as the winners have, or nothing.
func (p *pass) compareTail(ctx context.Context, f *file, t tail, next []winner) (same int64, err error) {
	if err := f.open(ctx); err != nil {
		return 0, err
	}
	mine := make([]byte, p.r.o.Chunk)
	differs := false
	err = p.stream(ctx, next, func(data []byte) error {
		for len(data) > 0 {
			n := int(min(int64(len(data)), int64(len(mine)), t.end-t.begin-same))
			if n == 0 {
				return errStop
			}
			if _, err := f.read(mine[:n], t.begin+same); err != nil {
				return err
			}
			if !bytes.Equal(mine[:n], data[:n]) {
				differs = true
				return errStop
			}
			same, data = same+int64(n), data[n:]
		}
		return nil
	})
	if differs {
		same = 0
	}
	return same, err
}

// knownFrom is the offset from which on the tail is what the winners begin
// with; its end if no part of it is.
func (p *pass) knownFrom(ctx context.Context, f *file, t tail, next []winner) (int64, error) {
	mine := make([]byte, t.end-t.begin)
	if err := f.open(ctx); err != nil {
		return 0, err
	}
	if n, err := f.read(mine, t.begin); err != nil {
		return 0, fmt.Errorf("%w: at byte %d of %d", errShort, t.begin+int64(n), t.end)
	}
	var theirs []byte
	err := p.stream(ctx, next, func(data []byte) error {
		theirs = append(theirs, data[:min(len(data), len(mine)-len(theirs))]...)
		if len(theirs) == len(mine) {
			return errStop
		}
		return nil
	})
	n := overlap(mine, theirs)
	// A message's edge: what is left out are whole messages.
	if at := len(mine) - n; n > 0 && at > 0 && mine[at-1] != '\n' {
		n = 0
	}
	return t.end - int64(n), err
}

// overlap is the length of the longest suffix of a that is a prefix of b, in
// time that grows with their lengths only.
func overlap(a, b []byte) int {
	if len(b) == 0 {
		return 0
	}
	// border[i] is the length of the longest proper suffix of b[:i+1] that is
	// also its prefix (Knuth, Morris, Pratt).
	border := make([]int32, len(b))
	k := int32(0)
	for i := 1; i < len(b); i++ {
		for k > 0 && b[i] != b[k] {
			k = border[k-1]
		}
		if b[i] == b[k] {
			k++
		}
		border[i] = k
	}
	k = 0
	for _, c := range a {
		for k > 0 && (int(k) == len(b) || c != b[k]) {
			k = border[k-1]
		}
		if c == b[k] {
			k++
		}
	}
	return int(k)
}

// lineOffset is the offset of line n, counted from 0, of the bytes at to end.
func (f *file) lineOffset(ctx context.Context, e *emitter, at, end int64, n uint64) (int64, error) {
	if err := f.open(ctx); err != nil {
		return 0, err
	}
	c := chunks{f: f, at: at, end: end, buf: e.buf}
	if f.manifest != nil {
		c.feeds = f.manifest.LineFeeds
	}
	defer func() { e.buf = c.buf }()
	for n > 0 {
		data, messages, err := c.next(e)
		if messages == 0 {
			if err == nil {
				err = errShort
			}
			return 0, err
		}
		if n >= uint64(messages) {
			n -= uint64(messages)
			at = c.start + int64(len(data))
			continue
		}
		s := splitter{data: data, feeds: e.feeds}
		s.skip(n)
		return c.start + int64(s.at), nil
	}
	return at, ctx.Err()
}
