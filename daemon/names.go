package daemon

import (
	"fmt"
	"path"
	"time"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/layout"
	"twinscribe/store/scribefile"
)

// engineOf is a cluster as the stores see it: all that is ours may lie in a
// folder of its own, beside files with Scribe's names.
func engineOf(conf *conf.Cluster, c cluster.Cluster) cluster.Cluster {
	if conf.Folder == "" {
		return c
	}
	return layout.Engine(c, conf.Folder)
}

// layoutOf is what files of a category are called; nil: names of our own.
func layoutOf(f *conf.Files, category string) (*layout.Layout, error) {
	n := f.Scribe
	if n == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	l := &layout.Layout{Folder: n.FilePath, Base: n.BaseFilename, Location: time.Local}
	if n.PerCategory || l.Base == "" {
		l.Base = scribefile.FileName(category)
	}
	if n.PerCategory {
		l.Folder = path.Join(l.Folder, l.Base)
	}
	l.Folder = path.Join(".", l.Folder, n.SubDirectory)
	if n.Link {
		l.Link = l.Base + "_current"
		if n.LinkName != "" {
			l.Link = n.LinkName + "_current"
		}
	}
	l.Rotate = layout.Rotation{Hour: n.RotateHour, Minute: n.RotateMinute}
	switch n.RotatePeriod {
	case "never":
	case "hourly":
		l.Rotate.Kind = layout.Hourly
	case "daily":
		l.Rotate.Kind = layout.Daily
	default:
		d, err := time.ParseDuration(n.RotatePeriod)
		if err != nil {
			return nil, fmt.Errorf("rotate_period %q: %w: %w", n.RotatePeriod, err, store.ErrBroken)
		}
		l.Rotate.Kind, l.Rotate.Every = layout.Every, d
	}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("category %q: %w: %w", category, err, store.ErrBroken)
	}
	return l, nil
}

// layoutOn is the layout of a category's files on a cluster as they are
// configured, where all of them have the same; nil: names of our own.
func layoutOn(cfg *conf.Config, on, category string) *layout.Layout {
	files := cfg.FilesOn(on, category)
	if len(files) != 1 {
		return nil // or several: which of them a file is for, its name does not tell
	}
	l, err := layoutOf(files[0], category)
	if err != nil {
		return nil
	}
	return l
}

// layouts give repair and shipping the names of a configuration that has any.
func (b *base) layouts() (repair func(cluster, category string) *layout.Layout, ship func(cluster string, h *catalog.Head) *layout.Layout) {
	for _, c := range b.cfg.Clusters {
		if b.cfg.ScribeNamed(c.Name) {
			return func(on, category string) *layout.Layout { return layoutOn(b.cfg, on, category) },
				func(on string, h *catalog.Head) *layout.Layout { return layoutOn(b.cfg, on, string(h.Category)) }
		}
	}
	return nil, nil
}
