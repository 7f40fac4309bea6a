package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/framed"
	"twinscribe/buffer/record"
	"twinscribe/store"
	"twinscribe/store/catalog"
)

// SpoolOptions of Spools.Spool.
type SpoolOptions struct {
	// Dir is the spool's folder, relative to the path: catalog.Folder(category),
	// or up to three folders deep. No two chains share one.
	Dir string

	// Sync has each group of records synced before an Append returns: for chains
	// whose OK means stored. Without it only what is sealed is synced.
	Sync bool

	Place string // what the books call it; "spool" if empty

	Framed Framed // files of an original Scribe that are sent first
}

// Framed says where an original Scribe's buffer store has left files. With the
// zero value nothing is looked for.
type Framed struct {
	Folder   string      // absolute, or relative to the working directory
	Base     string      // the base name of the files: <Base>_NNNNN
	Form     framed.Form // OneFrame where a queue has one category, else TwoFrames
	Category string      // of the messages in the form of one frame
	// Exact: a line feed is put behind each message also where it brings one, as
	// the chain's own batches have it.
	Exact bool
}

// A Spool keeps the messages of one chain: segments in a folder of its own, and
// how far they were sent. Its folder is made, opened and locked when there is
// something to keep or to send, and closed when all of that is sent: an empty
// spool costs no descriptor and no goroutine. It is part of a Store.
type Spool struct {
	all  *Spools
	o    SpoolOptions
	dir  string
	log  *zap.Logger
	turn chan struct{} // holds one token: whoever has it opens, closes or writes to buf

	// What follows is set by open, and belongs to whoever replays then.
	pos        cursor
	book       cursorBook
	counted    int64           // of pos.file: damage before this offset is counted
	passed     map[string]bool // files that could not be read; until the next opening
	framedDone bool

	mu        sync.Mutex
	buf       *buffer.Buffer // nil: closed. Changed by whoever has the turn
	place     *store.Buffer  // writes to buf
	closed    bool
	waiting   int64 // messages; an estimate where a segment is damaged
	files     int   // of an original, that wait
	fileBytes int64
	seen      int64 // of Spools.leavings
	left      bool  // an earlier start, or somebody else, has left something
	lost      int64 // bytes that were no messages
	sent      int64 // messages
	problem   string
}

// Spool makes the spool of a chain. It looks into the folder, and changes
// nothing there.
func (s *Spools) Spool(o SpoolOptions) (*Spool, error) {
	dir := filepath.Clean(o.Dir)
	if !filepath.IsLocal(dir) || dir == "." || strings.Count(dir, string(filepath.Separator)) >= maxDepth {
		return nil, fmt.Errorf("spools %s: folder %q: want one below the path, %d deep at most", s.path, o.Dir, maxDepth)
	}
	if f := o.Framed; f.Folder != "" && (f.Base == "" || f.Form != framed.OneFrame && f.Form != framed.TwoFrames) {
		return nil, fmt.Errorf("spools %s: files of an original Scribe in %s: their base name and form are needed", s.path, f.Folder)
	}
	if o.Place == "" {
		o.Place = "spool"
	}
	p := &Spool{all: s, o: o, dir: filepath.Join(s.path, dir), turn: make(chan struct{}, 1)}
	p.o.Dir = dir
	p.log = s.o.Log.With(zap.String("spool", p.dir))
	p.book = cursorBook{fs: s.fs, path: filepath.Join(p.dir, cursorFile)}
	p.turn <- struct{}{}
	p.seen = s.leavings(dir)
	left, err := p.look()
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", p.dir, err)
	}
	p.left = left
	p.framedDone = o.Framed.Folder == ""
	return p, nil
}

// look says whether there is anything to send.
func (p *Spool) look() (bool, error) {
	p.all.mu.Lock()
	busy := p.all.open[p.o.Dir]
	p.all.mu.Unlock()
	if busy {
		return true, nil // nobody knows what the other one leaves
	}
	entries, err := p.all.fs.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	spooled := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), segmentExt) })
	if p.o.Framed.Folder == "" {
		return spooled, nil
	}
	files, _, err := framed.List(p.all.fs, p.o.Framed.Folder, p.o.Framed.Base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !spooled {
		return false, err // else it is told when it is opened
	}
	p.await(files)
	return spooled || len(files) > 0, nil
}

// await notes which files of an original wait.
func (p *Spool) await(files []framed.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files, p.fileBytes = len(files), 0
	for _, f := range files {
		p.fileBytes += f.Size
	}
}

// hold waits for the turn.
func (p *Spool) hold(ctx context.Context) error {
	select {
	case <-p.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("spool %s: the disk did not answer: %w", p.dir, ctx.Err())
	}
}

func (p *Spool) release() { p.turn <- struct{}{} }

// opened returns with the turn and an open folder, or with an error and neither.
// A disk that hangs keeps the turn, not the caller: close waits for that.
func (p *Spool) opened(ctx context.Context) error {
	for {
		if err := p.hold(ctx); err != nil {
			return err
		}
		if p.buf != nil {
			return nil
		}
		result := make(chan error, 1)
		go func() {
			err := p.open()
			p.release()
			result <- err
		}()
		select {
		case err := <-result:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("spool %s: the disk did not answer: %w", p.dir, ctx.Err())
		}
	}
}

// open opens the folder, by whoever has the turn.
func (p *Spool) open() error {
	if p.closed {
		return fmt.Errorf("spool %s: closed: %w", p.dir, store.ErrBroken)
	}
	if err := p.all.claim(p.o.Dir); err != nil {
		return fmt.Errorf("spool %s: %w", p.dir, err)
	}
	buf, err := p.openBuffer()
	if err != nil {
		p.all.give(p.o.Dir)
		return fmt.Errorf("spool %s: %w", p.dir, err)
	}
	p.counted, p.passed = 0, map[string]bool{}
	var waiting int64
	for _, seg := range buf.Segments() {
		waiting += seg.Messages
		if seg.Name == p.pos.file {
			waiting -= p.pos.messages + int64(p.pos.taken)
		}
	}
	p.all.set(p.o.Dir, buf.Stats().Bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf, p.waiting = buf, max(waiting, 0)
	p.place = store.NewBuffer(buf, store.BufferOptions{Reason: buffer.Outage, Place: p.o.Place})
	return nil
}

// openBuffer reads the cursor and opens the segments. A cursor that cannot be
// read is one that is lost: what it told of is sent again.
func (p *Spool) openBuffer() (*buffer.Buffer, error) {
	pos, err := p.book.load()
	if errors.Is(err, record.ErrNewer) {
		return nil, err
	}
	if err != nil {
		p.fail(fmt.Errorf("spool %s: how far it was sent is not known, so all of it is sent: %w", p.dir, err))
	}
	p.pos = pos
	sync := buffer.SyncNone
	if p.o.Sync {
		sync = buffer.SyncGroup
	}
	g := &p.all.o
	return buffer.Open(p.all.fs, p.dir, buffer.Options{
		Identity: g.Identity, MaxBytes: g.MaxBytes, SegmentBytes: g.SegmentBytes, MinFree: g.MinFree,
		Sync: sync, NoLock: true, Log: p.log, Now: g.Now,
	})
}

// recordSlack is more than a record has beside its messages and their ends.
const recordSlack = 4 << 10

var errOrigin = errors.New("its messages belong to an earlier start, and a spool keeps only those of its own: do not put one spool behind another")

// append keeps b: whole, or not at all.
func (p *Spool) append(ctx context.Context, b *store.Batch) error {
	if b.Origin != nil {
		return fmt.Errorf("spool %s: %w", p.dir, errOrigin)
	}
	if err := p.opened(ctx); err != nil {
		return err
	}
	defer p.release()
	if err := p.all.take(p.o.Dir, int64(len(b.Data)+4*len(b.Ends)+recordSlack)); err != nil {
		return fmt.Errorf("spool %s: %w", p.dir, err)
	}
	_, err := p.place.Append(ctx, b)
	p.all.set(p.o.Dir, p.buf.Stats().Bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		return err
	}
	p.waiting += int64(b.Len())
	return nil
}

// idle says that there is nothing to send and nothing is open.
func (p *Spool) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf == nil && !p.left
}

// inherits says that another chain has left something in the folder of an idle
// spool, which then is not idle any more.
func (p *Spool) inherits() bool {
	n := p.all.leavings(p.o.Dir)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n == p.seen || p.buf != nil {
		return false
	}
	p.seen, p.left = n, true
	return true
}

// Left says whether there is anything to send, of an earlier start or of an
// original Scribe. Whoever asks has not given the spool to a Store yet.
func (p *Spool) Left() bool { return !p.idle() }

// replay sends what waits, oldest first: the original's files, then the
// segments. send says how many messages of a batch the primary has, and an
// error unless that is all of them; it ends the replay and is returned. nil says
// that nothing is left, or what is left cannot be read.
func (p *Spool) replay(ctx context.Context, send func(*store.Batch) (int, error)) error {
	if err := p.opened(ctx); err != nil {
		if ctx.Err() == nil {
			p.fail(err)
		}
		return err
	}
	p.release()
	defer p.book.close()
	if !p.framedDone {
		if err := p.sendFramed(ctx, send); err != nil {
			return err
		}
	}
	return p.sendSegments(ctx, send)
}

// finish closes a spool of which replay has said that nothing is left. more
// says that there is something all the same: an Append that nobody waited for.
func (p *Spool) finish(ctx context.Context) (more bool, err error) {
	if err := p.hold(ctx); err != nil {
		return false, err
	}
	defer p.release()
	if p.buf == nil {
		return false, nil
	}
	if err := p.buf.Seal(ctx, buffer.Outage); err != nil {
		return false, err
	}
	for _, seg := range p.buf.Segments() {
		if p.passed[seg.Name] || seg.Shipped {
			continue
		}
		pending, err := p.pending(&seg)
		if err != nil || pending {
			return pending, err
		}
		if !seg.Sealed {
			continue // a write has failed before its first record
		}
		if err := p.remove(&seg); err != nil {
			return false, err
		}
	}
	if err := p.shut(ctx); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.waiting = false, 0
	if len(p.passed) == 0 && p.framedDone {
		p.problem = ""
	}
	return false, nil
}

// shut closes the folder, by whoever has the turn.
func (p *Spool) shut(ctx context.Context) error {
	err := p.buf.Close(ctx)
	if err != nil && ctx.Err() != nil {
		return err // the disk hangs: it is still being written to
	}
	p.book.close()
	p.all.set(p.o.Dir, p.buf.Stats().Bytes)
	p.all.give(p.o.Dir)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf, p.place = nil, nil
	return err
}

// close seals what is kept: it stays for the next start. Nobody replays any more.
func (p *Spool) close(ctx context.Context) error {
	if err := p.hold(ctx); err != nil {
		return err
	}
	defer p.release()
	p.closed = true
	if p.buf == nil {
		return nil
	}
	err := p.shut(ctx)
	if p.all.holds(p.o.Dir) {
		p.all.leave(p.o.Dir)
	}
	return err
}

// advance notes that the primary has n more messages.
func (p *Spool) advance(n int) {
	p.mu.Lock()
	p.sent += int64(n)
	p.waiting = max(p.waiting-int64(n), 0)
	p.mu.Unlock()
	p.note()
}

// note writes the cursor. Where that fails something is sent twice after a
// crash, and nothing is lost.
func (p *Spool) note() {
	if err := p.book.store(&p.pos); err != nil {
		p.fail(fmt.Errorf("spool %s: how far it was sent could not be noted: %w", p.dir, err))
	}
}

// at makes pos speak of a file.
func (p *Spool) at(file string) {
	if p.pos.file != file {
		p.pos, p.counted = cursor{file: file}, 0
	}
}

// back makes pos speak of the file before again, where one that could not be
// read had not moved it: how far that file was sent would be forgotten.
func (p *Spool) back(before cursor, counted int64) {
	if p.pos == (cursor{file: p.pos.file, start: p.pos.start}) {
		p.pos, p.counted = before, counted
	}
}

// pass leaves a file where it is, until the folder is opened again.
func (p *Spool) pass(file string, err error) {
	p.passed[file] = true
	p.fail(fmt.Errorf("spool %s: %s stays there and what comes after it is sent: %w", p.dir, file, err))
}

// lose counts bytes that are no messages.
func (p *Spool) lose(file string, bytes int64, what string) {
	p.mu.Lock()
	p.lost += bytes
	p.mu.Unlock()
	p.log.Error("replay: damaged bytes are kept aside; all other messages of the file are sent",
		zap.String("file", file), zap.Int64("bytes", bytes), zap.String("what", what))
}

// fail tells of a problem of the spool itself, once while it stays the same.
func (p *Spool) fail(err error) {
	text := err.Error()
	p.mu.Lock()
	again := p.problem == text
	p.problem = text
	p.mu.Unlock()
	if !again {
		p.log.Error("replay: the spool has a problem", zap.Error(err))
	}
}

// transient says that a file may be read a moment later.
func transient(err error) bool {
	for _, no := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// origin is the start that wrote a segment; nil for this one.
func (p *Spool) origin(id buffer.Identity) *catalog.Identity {
	if id == p.all.o.Identity {
		return nil
	}
	return &catalog.Identity{Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.Start}
}
