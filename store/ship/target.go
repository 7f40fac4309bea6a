package ship

import (
	"context"
	"errors"
	"io/fs"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/layout"
)

// layout is how the part's file is named on a cluster; nil: by our own name.
func (s *Shipper) layout(to *Target, p *part) *layout.Layout {
	if s.o.Layout == nil {
		return nil
	}
	return s.o.Layout(to.Cluster.Name(), &p.head)
}

// file is what store/layout needs of a part whose manifest is m.
func (s *Shipper) file(to *Target, p *part, m *catalog.Manifest) *layout.File {
	return &layout.File{Cluster: to.Cluster, Open: p.open(), Manifest: m, Call: s.call}
}

// shippedAt says whether the part's file has a target's name, by its manifest on
// the cluster, which it gives; nil where there is none with a target. That the
// open name is gone proves little here, because each ship begins with removing
// it; that the content is the manifest's does.
func (s *Shipper) shippedAt(ctx context.Context, to *Target, p *part) (*catalog.Manifest, bool, error) {
	if s.o.Layout == nil {
		return nil, false, nil // no file has one
	}
	m, err := s.loadManifest(ctx, to, p)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, catalog.ErrMalformed):
		return nil, false, nil // it is written again
	case err != nil:
		return nil, false, err
	case m.At == "":
		return nil, false, nil
	}
	done, err := s.file(to, p, m).Done(ctx)
	return m, done, err
}

// name gives the part's file, which is written, its target's name. The one that
// an earlier try chose is kept as long as it is free.
func (w *copier) name(ctx context.Context, p *part, m *catalog.Manifest, l *layout.Layout, before *catalog.Manifest) error {
	if before != nil {
		m.SetTarget(before.Target, before.At)
	} else {
		m.SetTarget(l.Target(p.name, p.head.Partition), "")
	}
	f := w.s.file(w.to, p, m)
	f.Put = func(ctx context.Context) error { return w.putManifest(ctx, p, m) }
	if err := w.s.names.Seal(ctx, f); err != nil {
		return err
	}
	failpoint.Here("ship.named")
	if err := f.Link(ctx); err != nil {
		w.s.o.Log.Warn("ship: the link to the newest file is behind until the next one is sealed",
			zap.String("cluster", w.to.Cluster.Name()), zap.String("file", m.At), zap.Error(err))
	}
	return w.readBack(ctx, p, m)
}
