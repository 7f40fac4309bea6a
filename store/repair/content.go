package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"go.uber.org/zap"

	"twinscribe/store/catalog"
)

// chunk is how much of a file is read at once.
const chunk = 256 << 10

// ownChain marks the chain of a file of which nobody knows a single sequence:
// its messages get a chain of their own, numbered like the file, so that they
// never hide those of another file and are never hidden by them.
const ownChain = 1 << 31

// lastLine is the end of the last line feed in bytes from to size, or from if
// there is none.
func (l *lane) lastLine(ctx context.Context, p string, from, size int64) (int64, error) {
	end := from
	err := l.read(ctx, p, from, size, func(at int64, b []byte) {
		if n := bytes.LastIndexByte(b, '\n'); n >= 0 {
			end = at + int64(n) + 1
		}
	})
	return end, err
}

// read hands out bytes from to end of a file that is closed, chunk by chunk.
func (l *lane) read(ctx context.Context, p string, from, end int64, f func(at int64, b []byte)) error {
	if from >= end {
		return nil
	}
	// The context bounds the opening; each read has the cluster's own bound.
	r, err := l.t.Cluster.Open(ctx, p)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer r.Close()
	buf := make([]byte, min(chunk, end-from))
	for at := from; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if n > 0 {
			f(at, buf[:n])
			at += int64(n)
			continue
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %s at byte %d of %d: %w", p, at, end, err)
	}
	return nil
}

// manifest says what the first size bytes of a file hold, which is all of it.
// Where its writer has said so already, the file is not read again.
func (l *lane) manifest(ctx context.Context, j *job, p string, size int64) (*catalog.Manifest, error) {
	if m := j.manifest; m != nil && m.Bytes == size && m.File == path.Base(j.final) {
		sealed := *m
		sealed.Reason, sealed.Sealed = Reason, l.r.o.Now().UnixNano()
		sealed.SetTarget(j.target, "")
		return &sealed, nil
	}
	category, err := l.category(ctx, j)
	if err != nil {
		return nil, err
	}
	s := newSurvey(j.lines, size)
	head := catalog.Head{File: path.Base(j.final), Identity: j.id, Chain: j.chain, Category: category, Partition: j.partition, Target: j.target}
	if len(s.exact) == 0 {
		head.Chain = ownChain | j.number()
	}
	b := catalog.NewBuilder(head)
	err = l.read(ctx, p, 0, size, func(at int64, data []byte) {
		b.Sum(data)
		s.take(at, data)
	})
	if err != nil {
		return nil, err
	}
	s.build(b)
	return b.Manifest(Reason, l.r.o.Now()), nil
}

// category finds the name behind a folder that only has its hash: any manifest
// below it tells. The folder's own name stands in where there is none.
func (l *lane) category(ctx context.Context, j *job) (catalog.Text, error) {
	if j.category != nil {
		return *j.category, nil
	}
	list, err := l.folder(ctx, path.Dir(j.final))
	if err != nil {
		return "", err
	}
	for _, f := range list {
		if _, form := catalog.ParseName(f.Name); form != catalog.FormManifest {
			continue
		}
		m, err := l.readManifest(ctx, path.Join(path.Dir(j.final), f.Name))
		if err == nil && catalog.Folder(string(m.Category)) == string(j.text()) {
			return m.Category, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, catalog.ErrMalformed) {
			return "", err
		}
	}
	l.r.o.Log.Warn("the category of a file is known by its folder only",
		zap.String("cluster", l.name), zap.String("path", j.open))
	return j.text(), nil
}

func (l *lane) readManifest(ctx context.Context, p string) (*catalog.Manifest, error) {
	raw, err := l.load(ctx, p, catalog.MaxManifest)
	if err != nil {
		return nil, err
	}
	return catalog.DecodeManifest(l.name+":"+p, raw)
}

// load reads a small file whole.
func (l *lane) load(ctx context.Context, p string, limit int64) (raw []byte, err error) {
	err = l.call(ctx, func(ctx context.Context) error {
		r, err := l.t.Cluster.Open(ctx, p)
		if err != nil {
			return err
		}
		defer r.Close()
		raw, err = io.ReadAll(io.LimitReader(r, limit+1))
		return err
	})
	return raw, err
}

// A survey goes through a file and counts the messages that no line tells of.
type survey struct {
	exact []catalog.Line // those that lie in the file whole
	gaps  []gap          // what is between them and behind
	size  int64
	at    int // the gap that the next byte is in or before
}

// A gap is a part of the file of which no line tells.
type gap struct {
	offset, end int64
	lines       int64 // line feeds in it
	last        int64 // the end of the last one
	// most is how many messages there can be at most in front of a line, by the
	// sequences around; lines beyond are line feeds inside of messages.
	most uint64
	tail int64 // where message number most begins, if there are more lines
}

func newSurvey(lines []catalog.Line, size int64) *survey {
	s := &survey{size: size}
	at := int64(0)
	add := func(end int64) {
		if at < end {
			s.gaps = append(s.gaps, gap{offset: at, end: end, last: at, tail: at})
		}
	}
	for _, line := range lines {
		if line.End > size {
			break
		}
		add(line.Offset)
		s.exact = append(s.exact, line)
		at = line.End
	}
	add(size)
	s.limit()
	return s
}

// limit finds out how many messages fit between the sequences around a gap.
func (s *survey) limit() {
	n := 0 // lines before the gap
	for i := range s.gaps {
		g := &s.gaps[i]
		for n < len(s.exact) && s.exact[n].End <= g.offset {
			n++
		}
		if n == len(s.exact) {
			continue // nothing behind it
		}
		before := uint64(0)
		if n > 0 {
			before = s.exact[n-1].Last
		}
		if first := s.exact[n].First; first > before {
			g.most = first - before - 1
		}
	}
}

// take goes through the next bytes.
func (s *survey) take(at int64, b []byte) {
	for s.at < len(s.gaps) {
		g := &s.gaps[s.at]
		from, to := max(g.offset, at), min(g.end, at+int64(len(b)))
		if from < to {
			g.count(from, b[from-at:to-at])
		}
		if g.end > at+int64(len(b)) {
			return
		}
		s.at++
	}
}

func (g *gap) count(at int64, b []byte) {
	for {
		n := bytes.IndexByte(b, '\n')
		if n < 0 {
			return
		}
		at, b = at+int64(n)+1, b[n+1:]
		g.lines++
		g.last = at
		if uint64(g.lines) < g.most {
			g.tail = at
		}
	}
}

// line is what a gap counts for; false where it holds no whole message, or no
// sequence is free for one.
func (g *gap) line(first uint64, bounded bool) (catalog.Line, bool) {
	if g.lines == 0 || bounded && g.most == 0 {
		return catalog.Line{}, false
	}
	line := catalog.Line{Offset: g.offset, End: g.last, First: first, Last: first + uint64(g.lines) - 1, Counted: true}
	if bounded && uint64(g.lines) > g.most {
		// The sequences leave room for fewer: some of the line feeds are inside
		// of messages. Which, nobody knows; the last one takes them all, so that
		// no byte is left out.
		line.Last = first + g.most - 1
		line.LineFeeds = []catalog.Span{{Offset: g.tail, Length: g.last - g.tail}}
	}
	return line, true
}

// build puts the lines and what was counted together. Bytes that are no whole
// message stand in no range.
func (s *survey) build(b *catalog.Builder) {
	add := func(line *catalog.Line) {
		b.Skip(line.Offset - b.Bytes())
		b.Add(line)
	}
	next, gaps := uint64(1), s.gaps
	for i := 0; i <= len(s.exact); i++ {
		more := i < len(s.exact)
		if len(gaps) > 0 && (!more || gaps[0].end <= s.exact[i].Offset) {
			g := &gaps[0]
			gaps = gaps[1:]
			if more && i == 0 { // its sequences end where the first line begins
				next = s.exact[0].First - min(uint64(g.lines), g.most)
			}
			if line, ok := g.line(next, more); ok {
				add(&line)
			}
		}
		if more {
			add(&s.exact[i])
			next = s.exact[i].Last + 1
		}
	}
	b.Skip(s.size - b.Bytes())
}
