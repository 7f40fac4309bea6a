package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"twinscribe/buffer/vfs"
)

// Rename implements cluster.Cluster. A writer that still has the file open
// under its old name is fenced by it.
func (c *Cluster) Rename(ctx context.Context, from, to string) error {
	fullFrom, err := c.fullFile(from)
	if err != nil {
		return c.wrap("rename", from, err)
	}
	fullTo, err := c.fullFile(to)
	if err != nil {
		return c.wrap("rename to", to, err)
	}
	c.count.renames.Add(1)
	return c.run(ctx, "rename", from, func() error {
		if err := c.checkRoot(); err != nil {
			return err
		}
		if path.Dir(from) != path.Dir(to) {
			if err := c.makeFolder(path.Dir(to)); err != nil {
				return c.settled(err)
			}
		}
		if err := c.fs.RenameNoReplace(fullFrom, fullTo); err != nil {
			return c.settled(err)
		}
		// The new name first: a crash between the two leaves the file somewhere.
		if err := c.fs.SyncDir(filepath.Dir(fullTo)); err != nil {
			return c.settled(err)
		}
		if filepath.Dir(fullTo) == filepath.Dir(fullFrom) {
			return nil
		}
		return c.settled(c.fs.SyncDir(filepath.Dir(fullFrom)))
	})
}

// Replace implements cluster.Cluster. The space kept free is for files such as these.
func (c *Cluster) Replace(ctx context.Context, p string, content []byte) error {
	full, err := c.fullFile(p)
	if err != nil {
		return c.wrap("replace", p, err)
	}
	c.count.replaces.Add(1)
	content = bytes.Clone(content) // a hanging disk reads it after the return
	return c.run(ctx, "replace", p, func() error {
		if err := c.names.take(ctx, p); err != nil {
			return err
		}
		defer c.names.give(p)
		if err := c.checkRoot(); err != nil {
			return err
		}
		if err := c.makeFolder(path.Dir(p)); err != nil {
			return c.settled(err)
		}
		return c.settled(vfs.ReplaceFileVia(c.fs, temporary(full, ""), full, content, filePerm))
	})
}

// temporary is the name beside full of what takes its place in a moment.
func temporary(full, kind string) string {
	return filepath.Join(filepath.Dir(full), tmpPrefix+kind+filepath.Base(full))
}

// Recover implements cluster.Cluster. A file that nobody writes is closed at
// once. A writer of this process is aborted. The writer of another process
// holds the file's lock: the file is copied, and the copy takes the name, so
// that the writer finds another file there and acknowledges nothing more.
func (c *Cluster) Recover(ctx context.Context, p string) (closed bool, err error) {
	full, err := c.fullFile(p)
	if err != nil {
		return false, c.wrap("recover", p, err)
	}
	c.count.recovers.Add(1)
	if !c.fence(ctx, p) {
		return false, nil
	}
	err = c.run(ctx, "recover", p, func() error {
		if err := c.names.take(ctx, p); err != nil {
			return err
		}
		defer c.names.give(p)
		return c.recover(full)
	})
	return err == nil, err
}

// fence aborts this process's writer of a file and waits until it no longer
// touches the file: what it had begun may still be on its way to the disk.
func (c *Cluster) fence(ctx context.Context, p string) (done bool) {
	c.mu.Lock()
	f := c.living[p]
	c.mu.Unlock()
	if f == nil {
		return true
	}
	f.Abort()
	c.count.fenced.Add(1)
	f.mu.Lock()
	idle := f.idle
	f.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Cluster) recover(full string) error {
	if err := c.checkRoot(); err != nil {
		return err
	}
	old := temporary(full, "fenced-")
	f, err := c.fs.OpenFile(full, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := c.fs.Stat(old); e == nil {
			return c.copyFenced(old, full) // a crash ended an earlier Recover here
		}
	}
	if err != nil {
		return c.settled(err)
	}
	locked := errors.Is(f.TryLock(), vfs.ErrLocked)
	if !locked {
		err = f.Sync() // bytes behind the acknowledged ones stay, or not, from now on
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if !locked {
		return c.endFence(full, old)
	}
	c.count.fenced.Add(1)
	// Once the name is gone the writer acknowledges nothing. What it has
	// acknowledged before was written before, so the copy has it.
	if err := c.fs.Rename(full, old); err != nil {
		return c.settled(err)
	}
	if err := c.fs.SyncDir(filepath.Dir(full)); err != nil {
		return err
	}
	return c.copyFenced(old, full)
}

// copyFenced puts a copy of old under the name full.
func (c *Cluster) copyFenced(old, full string) error {
	tmp := temporary(full, "copy-")
	if err := c.copyFile(old, tmp); err != nil {
		return err
	}
	if err := c.fs.RenameNoReplace(tmp, full); err != nil {
		return err
	}
	return c.endFence(full, old)
}

// endFence makes the file's name durable and only then removes what its copy
// was made from, where there is such a file: also the one of an earlier
// Recover that ended between the two.
func (c *Cluster) endFence(full, old string) error {
	if err := c.fs.SyncDir(filepath.Dir(full)); err != nil {
		return err
	}
	if err := c.fs.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *Cluster) copyFile(from, to string) error {
	in, err := c.fs.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.fs.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}

// Truncate implements cluster.Cluster. It only ever cuts.
func (c *Cluster) Truncate(ctx context.Context, p string, size int64) (done bool, err error) {
	full, err := c.fullFile(p)
	if err != nil {
		return false, c.wrap("truncate", p, err)
	}
	c.count.truncates.Add(1)
	c.mu.Lock()
	_, living := c.living[p]
	c.mu.Unlock()
	if living {
		return false, c.wrap("truncate", p, errors.New("it is being written: recover it first"))
	}
	err = c.run(ctx, "truncate", p, func() error {
		if err := c.checkRoot(); err != nil {
			return err
		}
		return c.settled(c.truncate(full, size))
	})
	return err == nil, err
}

func (c *Cluster) truncate(full string, size int64) error {
	f, err := c.fs.OpenFile(full, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && size > info.Size() {
		err = fmt.Errorf("it has %d bytes, which is less than %d: %w", info.Size(), size, fs.ErrInvalid)
	}
	if err == nil && size < info.Size() {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// Remove implements cluster.Cluster.
func (c *Cluster) Remove(ctx context.Context, p string) error {
	full, err := c.fullFile(p)
	if err != nil {
		return c.wrap("remove", p, err)
	}
	c.count.removes.Add(1)
	return c.run(ctx, "remove", p, func() error {
		if err := c.checkRoot(); err != nil {
			return err
		}
		info, err := c.fs.Stat(full)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return c.checkRoot()
		case err != nil:
			return err
		case info.IsDir():
			return fmt.Errorf("it is a folder: %w", fs.ErrInvalid)
		}
		if err := c.fs.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return c.settled(c.fs.SyncDir(filepath.Dir(full)))
	})
}
