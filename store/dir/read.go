package dir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"twinscribe/buffer/vfs"
	"twinscribe/store/cluster"
)

// Stat implements cluster.Cluster.
func (c *Cluster) Stat(ctx context.Context, p string) (cluster.Info, error) {
	full, err := c.full(p)
	if err != nil {
		return cluster.Info{}, c.wrap("stat", p, err)
	}
	c.count.stats.Add(1)
	return call(ctx, c, "stat", p, func() (cluster.Info, error) {
		if err := c.checkRoot(); err != nil {
			return cluster.Info{}, err
		}
		info, err := c.fs.Stat(full)
		if err != nil {
			return cluster.Info{}, c.settled(err)
		}
		return entry(info), nil
	}, nil)
}

func entry(i fs.FileInfo) cluster.Info {
	e := cluster.Info{Name: i.Name(), Size: i.Size(), Folder: i.IsDir(), Modified: i.ModTime()}
	if e.Folder {
		e.Size = 0
	}
	return e
}

// List implements cluster.Cluster. The empty path and "." are the root.
func (c *Cluster) List(ctx context.Context, folder string) ([]cluster.Info, error) {
	full, err := c.full(folder)
	if err != nil {
		return nil, c.wrap("list", folder, err)
	}
	c.count.lists.Add(1)
	return call(ctx, c, "list", folder, func() ([]cluster.Info, error) {
		if err := c.checkRoot(); err != nil {
			return nil, err
		}
		entries, err := c.fs.ReadDir(full) // by name, in byte order
		if errors.Is(err, fs.ErrNotExist) {
			return nil, c.checkRoot()
		}
		if err != nil {
			return nil, err
		}
		list := make([]cluster.Info, 0, len(entries))
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tmpPrefix) {
				continue
			}
			info, err := c.fs.Stat(filepath.Join(full, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed or renamed since
			}
			if err != nil {
				return nil, err
			}
			list = append(list, entry(info))
		}
		return list, nil
	}, nil)
}

// Open implements cluster.Cluster. Reads of a disk that hangs, hang.
func (c *Cluster) Open(ctx context.Context, p string) (cluster.Reader, error) {
	full, err := c.fullFile(p)
	if err != nil {
		return nil, c.wrap("open", p, err)
	}
	c.count.opens.Add(1)
	f, err := call(ctx, c, "open", p, func() (vfs.File, error) {
		if err := c.checkRoot(); err != nil {
			return nil, err
		}
		f, err := c.fs.OpenFile(full, os.O_RDONLY, 0)
		if err != nil {
			return nil, c.settled(err)
		}
		return f, nil
	}, func(f vfs.File) { _ = f.Close() })
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Ping implements cluster.Cluster.
func (c *Cluster) Ping(ctx context.Context) error {
	c.count.pings.Add(1)
	return c.run(ctx, "ping", "", c.checkMarker)
}

// ProbeBlock implements cluster.Cluster.
func (c *Cluster) ProbeBlock(ctx context.Context) error {
	c.count.probes.Add(1)
	return c.run(ctx, "probe", "", func() error {
		const name = tmpPrefix + "probe"
		if err := c.names.take(ctx, name); err != nil {
			return err
		}
		defer c.names.give(name)
		if err := c.checkMarker(); err != nil {
			return err
		}
		if err := c.checkFree(); err != nil {
			return err
		}
		return c.settled(c.probe(filepath.Join(c.o.Path, name)))
	})
}

func (c *Cluster) probe(full string) error {
	f, err := c.fs.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	if err == nil {
		err = f.Datasync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if e := c.fs.Remove(full); err == nil {
		err = e
	}
	return err
}
