package scribefile

import (
	"context"
	"fmt"
	"time"

	"twinscribe/store"
	"twinscribe/store/catalog"
)

// Place is the store.Place of one chain. Its batches must have exactly one line
// feed behind each message, also behind one that ends with a line feed.
//
// Append may take a part: what stands whole in the file when something fails.
// A local disk that hangs holds Append up, whatever ctx says: a write cannot be
// taken back, and to walk away from it would store its messages twice.
type Place struct {
	w      *writer
	spec   Spec
	name   string
	closed bool
	rested int64 // wall clock at which the chain went elsewhere; 0: it did not
}

var _ store.Place = (*Place)(nil)

// Append implements store.Store. With Spec.Sync a nil means that the messages
// are on the disk, without that the operating system has them. A full disk is
// store.ErrFull.
func (p *Place) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	if p.closed {
		return b, fmt.Errorf("%s: closed: %w", p.name, store.ErrBroken)
	}
	if b.Len() == 0 {
		return nil, nil
	}
	if err := p.w.take(ctx); err != nil {
		return b, fmt.Errorf("%s: %w", p.name, err)
	}
	defer p.w.give()
	p.rested = 0
	room := p.w.files.scratch.Get().(*scratch)
	j := job{w: p.w, spec: &p.spec, b: b, room: room}
	err := j.run(ctx)
	if cap(room.data) <= maxScratch {
		p.w.files.scratch.Put(room)
	}
	if j.done > 0 {
		p.w.files.messages.Add(int64(j.done))
		b.Taken = append(b.Taken, store.Taken{Place: p.name, Messages: j.done})
	}
	switch {
	case j.done == b.Len(): // whatever else went wrong, all of it is stored
		return nil, nil
	case j.done > 0:
		b = after(b, j.done)
	}
	return b, fmt.Errorf("%s: %w", p.name, err)
}

// Tick implements store.Store: rotation by time, the file that was removed
// under us, and descriptors that nobody needs. It waits for no other chain: one
// that is appending looks at all of this itself.
func (p *Place) Tick(_ context.Context, now time.Time) error {
	if p.closed || !p.w.tryTake() {
		return nil
	}
	defer p.w.give()
	if p.rested != 0 {
		p.w.rest(p.rested)
	}
	if err := p.w.tick(&p.spec, now); err != nil {
		return fmt.Errorf("%s: rotate, and meanwhile write on to the file before: %w", p.name, err)
	}
	return nil
}

// Close implements store.Store. The last Place of a writer closes its file.
func (p *Place) Close(context.Context) error {
	if p.closed {
		return nil
	}
	p.closed = true
	w, s := p.w, p.w.files
	s.mu.Lock()
	w.places--
	last := w.places == 0
	s.mu.Unlock()
	if !last {
		return nil
	}
	// Nobody appends any more; at most another writer closes the descriptor.
	w.turn <- struct{}{}
	var err error
	if w.cur != nil {
		err = w.cur.close()
		s.letGo(w)
		w.cur = nil
	}
	w.give()
	if err != nil {
		s.writeErrors.Add(1)
		err = fmt.Errorf("%s: close: its last lines may be missing: %w", p.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{folder: w.folder, base: w.base}
	if w.places == 0 && s.writers[k] == w { // not opened again meanwhile
		delete(s.writers, k)
	}
	return err
}

// Warm implements store.Place: a local file needs nothing made before.
func (p *Place) Warm(catalog.Partition) bool { return true }

// Rest implements store.Place: the next Tick closes the file, as the original
// closes a store that is not written to, and the next Append opens one anew.
func (p *Place) Rest() { p.rested = p.w.files.o.Now().UnixNano() }

// maxScratch is the largest scratch that is kept: the usual largest write, and
// room for the message that passes it.
const maxScratch = 2 << 20
