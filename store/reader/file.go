package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/layout"
)

// A source is a file or a segment that pieces lie in. It belongs to the
// goroutine that reads.
type source interface {
	// where names it: place and path.
	where() (place, path string)
	// emit hands out the sequences of w in order and says which one would be
	// the next. The error is the sink's (kept in e.failed), the context's, or
	// why the source ended too early.
	emit(ctx context.Context, e *emitter, w winner) (next uint64, err error)
	// close lets go of what emit opened; it may be called at any time.
	close()
}

// maxGrow is how large a chunk may grow for one message, in bytes. What is
// longer is no message of ours.
const maxGrow = 1 << 30

// A file is one of our files on a cluster.
type file struct {
	site      *site
	path      string // its final path below the root, or what it would be without a target
	at        string // where it lies instead, if its target's name is known; below the cluster's own root
	openPath  string // where it is now, if not there yet
	name      catalog.Name
	category  string
	partition catalog.Partition
	chain     uint32
	state     string // sealed, open, sealing, torn
	size      int64  // as listed
	// manifest tells what is in it: its own, or the acknowledged and published
	// part that an inventory tells. nil: nothing does, it is read by lines.
	manifest *catalog.Manifest

	reader cluster.Reader
	pos    int64 // of the reader's next byte
}

func (f *file) where() (place, path string) {
	if f.openPath != "" {
		return f.site.name, f.openPath
	}
	return f.site.name, f.named()
}

// named is the final path as people know it.
func (f *file) named() string {
	if f.at != "" {
		return f.at
	}
	return f.path
}

func (f *file) close() {
	if f.reader != nil {
		f.reader.Close()
		f.reader, f.pos = nil, 0
	}
}

// open opens it where it is. A file that was open when its folder was listed
// may have been sealed since.
func (f *file) open(ctx context.Context) error {
	if f.reader != nil {
		return nil
	}
	var r cluster.Reader
	err := fs.ErrNotExist
	if f.openPath != "" {
		r, err = f.site.open(ctx, f.openPath)
	}
	if errors.Is(err, fs.ErrNotExist) && f.at == "" {
		r, err = f.site.open(ctx, f.path)
	}
	if errors.Is(err, fs.ErrNotExist) && f.at == "" && f.openPath != "" {
		f.at = f.target(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) && f.at != "" {
		r, err = f.site.open(ctx, layout.Outside(f.at))
	}
	if err != nil {
		return err
	}
	f.reader, f.pos = r, 0
	return nil
}

// target is where the manifest of a file that was open says that it lies now;
// empty: it says nothing, or there is none.
func (f *file) target(ctx context.Context) string {
	file := f.manifestPath()
	b, err := f.site.load(ctx, file, catalog.MaxManifest)
	if err != nil {
		return ""
	}
	m, err := catalog.DecodeManifest(f.site.name+":"+file, b)
	if err != nil || f.belongs(m) != nil {
		return ""
	}
	return m.At
}

func (f *file) manifestPath() string { return path.Join(path.Dir(f.path), f.name.Manifest()) }

// read fills p from offset at on: one stream where that is possible.
func (f *file) read(p []byte, at int64) (n int, err error) {
	if at == f.pos {
		n, err = io.ReadFull(f.reader, p)
		f.pos += int64(n)
		return n, err
	}
	n, err = f.reader.ReadAt(p, at)
	if err != nil && n == len(p) {
		err = nil
	}
	return n, err
}

// errShort is why a file ended too early.
var errShort = errors.New("it ends too early")

func (f *file) emit(ctx context.Context, e *emitter, w winner) (next uint64, err error) {
	if err := f.open(ctx); err != nil {
		return w.from, err
	}
	var spans []catalog.BatchSpan
	var feeds []catalog.Span
	if f.manifest != nil {
		spans, feeds = f.manifest.IDs, f.manifest.LineFeeds
	}
	e.begin(w, spans)
	c := chunks{f: f, feeds: feeds, at: w.offset, end: w.end, buf: e.buf}
	next, end, err := f.emitChunks(ctx, e, w, &c)
	e.buf = c.buf
	e.end(next, w.to)
	switch {
	case err != nil || w.to < w.last || w.cut != nil || end >= w.end:
	case f.state == catalog.StateSealed && end == f.size:
		e.report.problem("%s:%s: it has %d bytes, and its manifest says %d", f.site.name, f.named(), f.size, f.manifest.Bytes)
	default:
		e.report.uncounted("%s:%s: bytes %d to %d hold more messages than its manifest says: the last %d bytes are left out", f.site.name, f.named(), w.offset, w.end, w.end-end)
	}
	return next, err
}

// emitLines hands out messages without sequences: bytes at to end, line by line.
func (f *file) emitLines(ctx context.Context, e *emitter, at, end int64) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	c := chunks{f: f, at: at, end: end, buf: e.buf}
	defer func() { e.buf = c.buf }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, messages, err := c.next(e)
		if messages == 0 {
			return err
		}
		f.fill(&e.run, 0, messages, data, nil)
		if err := e.give(&e.run); err != nil {
			return err
		}
	}
}

func (f *file) emitChunks(ctx context.Context, e *emitter, w winner, c *chunks) (next uint64, end int64, err error) {
	next = w.from
	for skip := w.from - w.first; next <= w.to; {
		if err := ctx.Err(); err != nil {
			return next, end, err
		}
		data, messages, err := c.next(e)
		if messages == 0 {
			if err == nil {
				err = fmt.Errorf("%w: its manifest says that sequences %d to %d lie in bytes %d to %d, and there are fewer", errShort, w.first, w.last, w.offset, w.end)
			}
			return next, end, err
		}
		from, have := 0, uint64(messages)
		if skip >= have {
			skip -= have
			continue
		}
		take := min(have-skip, w.to-next+1)
		if take < have {
			s := splitter{data: data, feeds: e.feeds}
			s.skip(skip)
			from = s.at
			s.skip(take)
			data = data[from:s.at]
			e.feeds = feedsWithin(e.feeds, c.feeds, c.start+int64(from), c.start+int64(s.at))
			skip = 0
		}
		f.fill(&e.run, next, int(take), data, e.feeds)
		if err := e.give(&e.run); err != nil {
			return next, end, err
		}
		next += take
		end = c.start + int64(from+len(data))
	}
	return next, end, nil
}

// fill describes messages of the file.
func (f *file) fill(r *Run, first uint64, messages int, data []byte, feeds []catalog.Span) {
	*r = Run{Category: f.category, Partition: f.partition, Identity: f.name.Identity, Chain: f.chain,
		First: first, Messages: messages, Data: data, LineFeeds: feeds}
	r.Place, r.Path = f.where()
	if f.manifest != nil && first != 0 {
		r.arrivals = arrivalsFrom(f.manifest.Arrivals, first)
	}
}

// chunks cuts a part of a file into chunks of whole messages.
type chunks struct {
	f     *file
	feeds []catalog.Span // of the file
	at    int64          // of the next byte to be read
	end   int64
	buf   []byte
	start int64 // offset of the chunk that next gave
	used  int   // bytes of buf that it gave
	have  int   // bytes in buf
}

// next gives the next chunk and how many messages it holds; their line feeds
// stand in e.feeds. No messages: the end, or what keeps from going on. The
// chunk is valid until the next call.
func (c *chunks) next(e *emitter) (data []byte, messages int, err error) {
	copy(c.buf, c.buf[c.used:c.have])
	c.have -= c.used
	c.used = 0
	for {
		want := int(min(int64(len(c.buf)-c.have), c.end-c.at))
		if want == 0 && c.at < c.end {
			if err := c.grow(); err != nil {
				return nil, 0, err
			}
			continue
		}
		n := 0
		if want > 0 {
			n, err = c.f.read(c.buf[c.have:c.have+want], c.at)
		}
		c.at += int64(n)
		c.have += n
		c.start = c.at - int64(c.have)
		data = c.buf[:c.have]
		e.feeds = feedsWithin(e.feeds, c.feeds, c.start, c.at)
		if bad := wrongFeed(data, e.feeds); bad >= 0 {
			place, path := c.f.where()
			e.report.problem("%s:%s: its manifest says that a message of %d bytes stands at byte %d, and none does: read by lines from byte %d on",
				place, path, e.feeds[bad].Length, c.start+e.feeds[bad].Offset, c.start)
			c.feeds, e.feeds = nil, e.feeds[:0]
		}
		c.used, messages = whole(data, e.feeds)
		switch {
		case messages > 0:
			return data[:c.used], messages, nil // an error comes again with the next read
		case err != nil:
			return nil, 0, c.short(err)
		case c.at == c.end:
			return nil, 0, c.rest()
		}
	}
}

// wrongFeed finds a span that does not begin behind a message or does not end
// with a line feed.
func wrongFeed(data []byte, feeds []catalog.Span) int {
	for i, s := range feeds {
		if s.Offset > 0 && data[s.Offset-1] != '\n' {
			return i
		}
		if end := s.Offset + s.Length; end <= int64(len(data)) && data[end-1] != '\n' {
			return i
		}
	}
	return -1
}

func (c *chunks) grow() error {
	if len(c.buf) >= maxGrow {
		return fmt.Errorf("no message ends within %d bytes from byte %d on", len(c.buf), c.start)
	}
	bigger := make([]byte, 2*len(c.buf))
	copy(bigger, c.buf[:c.have])
	c.buf = bigger
	return nil
}

func (c *chunks) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: at byte %d of %d", errShort, c.at, c.end)
	}
	return fmt.Errorf("read at byte %d: %w", c.at, err)
}

func (c *chunks) rest() error {
	if c.have > 0 {
		return fmt.Errorf("%w: the last %d bytes before byte %d are no whole message", errShort, c.have, c.end)
	}
	return nil
}
