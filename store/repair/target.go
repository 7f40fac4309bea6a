package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/layout"
)

// placedManifest is the manifest that lies on the cluster for a file with a
// target; nil if there is none that makes sense. It says where the file went,
// or was to go: whoever wrote it.
func (l *lane) placedManifest(ctx context.Context, j *job) (*catalog.Manifest, error) {
	m, err := l.readManifest(ctx, j.manifestPath())
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, catalog.ErrMalformed):
		return nil, nil // what to do about that is for the caller
	case err != nil:
		return nil, err
	case m.File != path.Base(j.final) || m.Target == nil:
		return nil, nil
	}
	return m, nil
}

// aim finds the target of a file of which neither journal nor writer tell, nor
// a manifest in an inventory: in the file's own manifest, if that was written,
// or by what the layout is now.
func (l *lane) aim(ctx context.Context, j *job) error {
	if j.aimed || j.target != nil || j.manifest != nil || j.from >= byJournal {
		j.aimed = true
		return nil
	}
	m, err := l.placedManifest(ctx, j)
	switch {
	case err != nil:
		return err
	case m != nil:
		j.target = m.Target
	case l.r.o.Layout != nil && j.category != nil:
		if lay := l.r.o.Layout(l.name, string(*j.category)); lay != nil {
			name, _ := catalog.ParseName(path.Base(j.final))
			j.target = lay.Target(name, j.partition)
		}
	}
	j.aimed = true
	return nil
}

// file is what store/layout needs of a job whose manifest is m.
func (l *lane) file(j *job, m *catalog.Manifest) *layout.File {
	return &layout.File{
		Cluster: l.t.Cluster, Open: j.open, Manifest: m, Call: l.call,
		Put: func(ctx context.Context) error { return l.place(ctx, j, m) },
	}
}

// sealAt is the rest of seal for a file with a target. A name that the manifest
// on the cluster tells is kept: a rename of who wrote it may still be on its way.
func (l *lane) sealAt(ctx context.Context, j *job, m *catalog.Manifest) error {
	if m.At == "" {
		placed, err := l.placedManifest(ctx, j)
		if err != nil {
			return err
		}
		if placed != nil && placed.At != "" {
			m.SetTarget(placed.Target, placed.At)
		}
	}
	f := l.file(j, m)
	if err := l.names.Seal(ctx, f); err != nil {
		return err // where it went astray, the next try finds the open name gone
	}
	l.link(ctx, f)
	return nil
}

// link is not waited for: the next file's seal sets it right.
func (l *lane) link(ctx context.Context, f *layout.File) {
	if err := f.Link(ctx); err != nil {
		if held, ok := l.r.say.now(); ok {
			l.r.o.Log.Warn("the link to the newest file is behind until the next one is sealed", zap.String("cluster", l.name),
				zap.String("file", f.Manifest.At), zap.Int("not_told", held), zap.Error(err))
		}
	}
}

// absentAt is for a file with a target that has neither its open name nor our
// own final one: it went where its manifest says, or where a rename took it
// that the manifest does not tell of. Without a manifest the writer's words
// tell what to look for.
func (l *lane) absentAt(ctx context.Context, j *job) (*outcome, error) {
	m, err := l.placedManifest(ctx, j)
	if err != nil {
		return nil, err
	}
	placed := m != nil
	if !placed && j.manifest != nil && j.manifest.Bytes > 0 {
		remade := *j.manifest
		remade.Reason, remade.Sealed = Reason, l.r.o.Now().UnixNano()
		remade.SetTarget(j.target, "")
		m = &remade
	}
	if m == nil {
		return nil, nil
	}
	f := l.file(j, m)
	if done, err := f.Done(ctx); err != nil {
		return nil, err
	} else if !done {
		others, err := l.claims(ctx, j)
		if err != nil {
			return nil, err
		}
		at, err := f.Find(ctx, others)
		if err != nil {
			return nil, fmt.Errorf("look for the file's content: %w", err)
		}
		if at == "" {
			if missing := max(j.acked, m.Bytes); missing > 0 {
				return &outcome{action: Lost, missing: missing}, nil
			}
			return nil, nil
		}
		l.r.o.Log.Warn("a file was found by its content, not where its manifest says: the manifest is made again",
			zap.String("cluster", l.name), zap.String("path", j.final), zap.String("at", at))
		m.SetTarget(m.Target, at)
		if err := l.place(ctx, j, m); err != nil {
			return nil, err
		}
	}
	failpoint.Here("repair.found-at")
	o := &outcome{action: Present, manifest: m, missing: max(0, j.acked-m.Bytes)}
	if j.built != nil { // this was our own rename, whose answer was lost
		o.action, o.cut = Sealed, max(0, j.size-m.Bytes)
	}
	return o, nil
}

// claims are the names that the manifests beside the job's tell: those are
// other files, also where their content is the same.
func (l *lane) claims(ctx context.Context, j *job) (map[string]bool, error) {
	folder := path.Dir(j.final)
	list, err := l.folder(ctx, folder)
	if err != nil {
		return nil, err
	}
	claimed := make(map[string]bool)
	for _, i := range list {
		p := path.Join(folder, i.Name)
		if _, form := catalog.ParseName(i.Name); form != catalog.FormManifest || p == j.manifestPath() {
			continue
		}
		m, err := l.readManifest(ctx, p)
		switch {
		case err == nil:
			claimed[m.At] = true
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, catalog.ErrMalformed):
			return nil, err
		}
	}
	return claimed, nil
}
