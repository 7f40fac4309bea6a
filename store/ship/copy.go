package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"twinscribe/buffer"
	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/layout"
)

const (
	// appendBytes is how much goes into one Append.
	appendBytes = 4 << 20
	blockUnit   = 1 << 20 // block sizes are multiples of it
)

// A copier brings parts of one segment to a cluster, one at a time.
type copier struct {
	s      *Shipper
	f      *buffer.SegmentFile
	to     *Target
	commit *commit
	buf    []byte
	spans  []catalog.Span
	ids    []catalog.BatchSpan
}

// ship makes the part's file and its manifest, or finds them there. When it
// returns nil the manifest was read back and tells of all that the part has.
func (w *copier) ship(ctx context.Context, p *part) error {
	size, there, err := w.s.stat(ctx, w.to, p.final())
	if err != nil {
		return err
	}
	if there {
		return w.settle(ctx, p, size)
	}
	at, there, err := w.s.shippedAt(ctx, w.to, p)
	if err != nil {
		return err
	}
	if there {
		return w.settle(ctx, p, at.Bytes)
	}
	m, err := w.write(ctx, p)
	if err != nil {
		return err
	}
	failpoint.Here("ship.written")
	if err := w.commit.now(); err != nil {
		return err
	}
	failpoint.Here("ship.committed")
	if l := w.s.layout(w.to, p); l != nil || at != nil {
		return w.name(ctx, p, m, l, at)
	}
	if err := w.putManifest(ctx, p, m); err != nil {
		return err
	}
	failpoint.Here("ship.manifest-placed")
	if err := w.rename(ctx, p); err != nil {
		return err
	}
	failpoint.Here("ship.renamed")
	return w.readBack(ctx, p, m)
}

// settle looks whether a file that is there is the part's.
func (w *copier) settle(ctx context.Context, p *part, size int64) error {
	want, err := w.build(p, nil)
	if err != nil {
		return err
	}
	m, err := w.loadManifest(ctx, p)
	if errors.Is(err, fs.ErrNotExist) && size == want.Bytes {
		// Nobody makes a final name before the manifest: it was removed since.
		if err := w.putManifest(ctx, p, want); err != nil {
			return err
		}
		return w.readBack(ctx, p, want)
	}
	if err != nil {
		return err
	}
	if size != m.Bytes {
		return fmt.Errorf("%w: it has %d bytes, and its manifest says %d", ErrConflict, size, m.Bytes)
	}
	// A segment whose last write failed may have lost records since; it never
	// gains any.
	if m.CRC32C != want.CRC32C && !covers(m.Ranges, want.Ranges) {
		return fmt.Errorf("%w: it holds %s, and the segment %s", ErrConflict, sequences(m.Ranges), sequences(want.Ranges))
	}
	p.told = m
	failpoint.Here("ship.found")
	// A rename whose answer was lost may have come behind a second writing.
	return w.call(ctx, func(ctx context.Context) error { return w.to.Cluster.Remove(ctx, p.open()) })
}

// covers says whether every sequence of want is in have.
func covers(have, want []catalog.Range) bool {
	for _, r := range want {
		for at := r.First; at <= r.Last; {
			i := slices.IndexFunc(have, func(h catalog.Range) bool { return h.First <= at && at <= h.Last })
			if i < 0 {
				return false
			}
			at = have[i].Last + 1
		}
	}
	return true
}

func sequences(list []catalog.Range) string {
	if len(list) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("sequences %d to %d in %d ranges", list[0].First, list[len(list)-1].Last, len(list))
}

// write makes the file under its open name and seals it. What a dead ship left
// there is removed.
func (w *copier) write(ctx context.Context, p *part) (m *catalog.Manifest, err error) {
	if err := w.call(ctx, func(ctx context.Context) error { return w.to.Cluster.Remove(ctx, p.open()) }); err != nil {
		return nil, err
	}
	failpoint.Here("ship.cleared")
	var f cluster.File
	err = w.call(ctx, func(ctx context.Context) (err error) {
		f, err = w.to.Cluster.Create(ctx, p.open(), cluster.FileOptions{Begin: true, BlockSize: (p.bytes + blockUnit) / blockUnit * blockUnit})
		return err
	})
	if err != nil {
		return nil, err
	}
	failpoint.Here("ship.created")
	defer func() {
		if err != nil {
			f.Abort()
		}
	}()
	m, err = w.build(p, func(b []byte) error {
		return w.call(ctx, func(ctx context.Context) error { return f.Append(ctx, [][]byte{b}) })
	})
	if err != nil {
		return nil, err
	}
	failpoint.Here("ship.appended")
	return m, w.call(ctx, f.Seal)
}

func (w *copier) call(ctx context.Context, f func(context.Context) error) error {
	return w.s.call(ctx, f)
}

func (s *Shipper) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	return f(ctx)
}

// build reads the part's records, hands their bytes to each (nil: to nobody)
// and makes the manifest.
func (w *copier) build(p *part, each func([]byte) error) (*catalog.Manifest, error) {
	b := catalog.NewBuilder(p.head)
	w.buf = w.buf[:0]
	hand := func() error {
		if each == nil || len(w.buf) == 0 {
			return nil
		}
		err := each(w.buf)
		w.buf = w.buf[:0]
		return err
	}
	for _, ref := range p.refs {
		err := w.f.At(ref.from, ref.end, func(r *buffer.Record) error {
			w.addLine(b, r)
			if each == nil {
				return nil
			}
			if len(w.buf)+len(r.Data) > appendBytes {
				if err := hand(); err != nil {
					return err
				}
			}
			w.buf = append(w.buf, r.Data...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := hand(); err != nil {
		return nil, err
	}
	if b.Bytes() != p.bytes || b.Messages() != p.messages {
		return nil, fmt.Errorf("the segment changed: %d messages in %d bytes, %d in %d when it was opened", b.Messages(), b.Bytes(), p.messages, p.bytes)
	}
	return b.Manifest("ship", w.s.o.Now()), nil
}

func (w *copier) addLine(b *catalog.Builder, r *buffer.Record) {
	w.spans = catalog.LineFeeds(w.spans[:0], r.Data, r.Ends, b.Bytes())
	w.ids = w.ids[:0]
	for _, id := range r.IDs {
		w.ids = append(w.ids, catalog.BatchSpan{
			BatchID: catalog.BatchID{Producer: catalog.Text(id.Producer), Epoch: id.Epoch, Sequence: id.Sequence},
			From:    id.From, First: id.First, Messages: id.Messages})
	}
	b.Add(&catalog.Line{Offset: b.Bytes(), End: b.Bytes() + int64(len(r.Data)), First: r.First, Last: r.Last(),
		Arrived: r.Arrived, Senders: r.Senders, IDs: w.ids, LineFeeds: w.spans})
	b.Sum(r.Data)
}

func (w *copier) putManifest(ctx context.Context, p *part, m *catalog.Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	return w.call(ctx, func(ctx context.Context) error { return w.to.Cluster.Replace(ctx, p.manifest(), b) })
}

// rename gives the final name, and settles a lost answer by looking.
func (w *copier) rename(ctx context.Context, p *part) error {
	err := w.call(ctx, func(ctx context.Context) error { return w.to.Cluster.Rename(ctx, p.open(), p.final()) })
	if err == nil {
		return nil
	}
	_, done, e := w.s.stat(ctx, w.to, p.final())
	if e != nil || !done {
		return err
	}
	_, left, e := w.s.stat(ctx, w.to, p.open())
	if e != nil || left {
		return err
	}
	return nil
}

// readBack makes sure that the manifest on the cluster is the one that was
// written, and that the file has its length.
func (w *copier) readBack(ctx context.Context, p *part, want *catalog.Manifest) error {
	m, err := w.loadManifest(ctx, p)
	if err != nil {
		return fmt.Errorf("read the manifest back: %w", err)
	}
	final := p.final()
	if want.At != "" {
		final = layout.Outside(want.At)
	}
	size, there, err := w.s.stat(ctx, w.to, final)
	if err != nil {
		return err
	}
	if !there || m.At != want.At || size != want.Bytes || m.Bytes != want.Bytes || m.Messages != want.Messages || m.CRC32C != want.CRC32C || !slices.Equal(m.Ranges, want.Ranges) {
		return fmt.Errorf("%w: read back were %d messages in %d bytes of a file of %d, written %d in %d", ErrConflict, m.Messages, m.Bytes, size, want.Messages, want.Bytes)
	}
	p.told = m
	failpoint.Here("ship.read-back")
	return nil
}

func (w *copier) loadManifest(ctx context.Context, p *part) (m *catalog.Manifest, err error) {
	return w.s.loadManifest(ctx, w.to, p)
}

func (s *Shipper) loadManifest(ctx context.Context, to *Target, p *part) (m *catalog.Manifest, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		r, err := to.Cluster.Open(ctx, p.manifest())
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.LimitReader(r, catalog.MaxManifest+1))
		if e := r.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		m, err = catalog.DecodeManifest(to.Cluster.Name()+":"+p.manifest(), b)
		return err
	})
	if err == nil && (m.File != p.head.File || m.Category != p.head.Category || m.Partition != p.head.Partition || m.Chain != p.head.Chain) {
		err = fmt.Errorf("%w: its manifest is of %s", ErrConflict, m.File)
	}
	return m, err
}

// stat says whether a file is there, and its length.
func (s *Shipper) stat(ctx context.Context, t *Target, p string) (size int64, there bool, err error) {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	info, err := t.Cluster.Stat(ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	return info.Size, err == nil, err
}
