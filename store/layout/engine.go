package layout

import (
	"context"

	"twinscribe/store/cluster"
)

// outside begins a path that is relative to the cluster's own root.
const outside = "/"

// Outside is how the path of a file that lies outside of the engine's folder is
// given to a cluster that Engine made.
func Outside(p string) string { return outside + p }

// Engine makes a cluster whose root is a folder below that of c, whose last
// element is catalog.EngineFolder: everything of ours lies there, under the names
// that it has always, but for sealed files with a target, which are reached by
// Outside. It shares c and closes it.
func Engine(c cluster.Cluster, folder string) cluster.Cluster { return &engine{c, folder} }

type engine struct {
	cluster.Cluster
	folder string
}

func (e *engine) path(p string) string {
	switch {
	case len(p) > 0 && p[:1] == outside:
		return p[1:]
	case p == "" || p == ".":
		return e.folder
	}
	return e.folder + "/" + p // what leaves the root is for c to refuse
}

func (e *engine) Create(ctx context.Context, p string, o cluster.FileOptions) (cluster.File, error) {
	return e.Cluster.Create(ctx, e.path(p), o)
}

func (e *engine) Rename(ctx context.Context, from, to string) error {
	return e.Cluster.Rename(ctx, e.path(from), e.path(to))
}

func (e *engine) Replace(ctx context.Context, p string, content []byte) error {
	return e.Cluster.Replace(ctx, e.path(p), content)
}

func (e *engine) Recover(ctx context.Context, p string) (bool, error) {
	return e.Cluster.Recover(ctx, e.path(p))
}

func (e *engine) Truncate(ctx context.Context, p string, size int64) (bool, error) {
	return e.Cluster.Truncate(ctx, e.path(p), size)
}

func (e *engine) Remove(ctx context.Context, p string) error {
	return e.Cluster.Remove(ctx, e.path(p))
}

func (e *engine) Stat(ctx context.Context, p string) (cluster.Info, error) {
	return e.Cluster.Stat(ctx, e.path(p))
}

func (e *engine) List(ctx context.Context, folder string) ([]cluster.Info, error) {
	return e.Cluster.List(ctx, e.path(folder))
}

func (e *engine) Open(ctx context.Context, p string) (cluster.Reader, error) {
	return e.Cluster.Open(ctx, e.path(p))
}
