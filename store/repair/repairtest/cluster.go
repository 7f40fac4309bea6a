// Package repairtest is a cluster in memory for tests of what comes after a
// failure: files whose writer died keep their length to themselves until their
// lease is recovered, recovery and cutting take time, and any call can be made
// to fail before it is done or after it.
//
// It leaves to others: a cluster that tests can rely on for durability (none is
// here), and faults of real ones (clustertest.Fault, integration).
package repairtest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"twinscribe/store/cluster"
)

// Cluster implements cluster.Cluster. Its exported fields are set before use.
type Cluster struct {
	ID            string
	RecoverDelay  time.Duration // from the first Recover to closed
	TruncateDelay time.Duration // of a cut, during which Recover says "not closed"; 0: at once
	CallDelay     time.Duration // of each call

	// Fault, if not nil, is asked about each call: before it is done and, with
	// done true, after it. An error is the call's answer.
	Fault func(op, path string, done bool) error

	// Slow is for single paths, in place of RecoverDelay.
	Slow map[string]time.Duration

	// Skew is how far the cluster's clock is ahead of ours.
	Skew time.Duration

	mu    sync.Mutex
	files map[string]*file
	down  bool
	calls map[string]int
	busy  int // calls under way
	most  int // most of them at once
}

// file is one file. Every byte of an open one is on the nodes; published is
// what others see of it.
type file struct {
	data      []byte
	open      bool
	published int
	acked     int64
	writer    *writer
	modified  time.Time
	closedAt  time.Time // recovery or cut: closed from then on; zero: nobody asked
}

// New makes an empty cluster.
func New(id string) *Cluster {
	return &Cluster{ID: id, files: make(map[string]*file), calls: make(map[string]int)}
}

// SetDown makes every call fail with cluster.ErrUnavailable, or ends that.
func (c *Cluster) SetDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// SetFault sets Fault while the cluster is in use.
func (c *Cluster) SetFault(f func(op, path string, done bool) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Fault = f
}

// Leave puts a file there whose writer died: data is on the nodes, nobody sees
// more than published of it before it is recovered.
func (c *Cluster) Leave(p string, data []byte, published int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[p] = &file{data: bytes.Clone(data), open: true, published: published, modified: c.now()}
}

// Put puts a closed file there.
func (c *Cluster) Put(p string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[p] = &file{data: bytes.Clone(data), modified: c.now()}
}

// Add is Put for a name that nobody has; false: somebody has it.
func (c *Cluster) Add(p string, data []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[p] != nil {
		return false
	}
	c.files[p] = &file{data: bytes.Clone(data), modified: c.now()}
	return true
}

// Move renames a file and closes it, as somebody else would; false: it is not
// there, or its new name is taken.
func (c *Cluster) Move(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[from]
	if f == nil || c.files[to] != nil {
		return false
	}
	delete(c.files, from)
	c.files[to] = &file{data: f.data, modified: c.now()}
	return true
}

// Drop takes a file away, as somebody else would.
func (c *Cluster) Drop(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.files, p)
}

// Has says whether there is a file, and what its nodes hold.
func (c *Cluster) Has(p string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[p]
	if f == nil {
		return nil, false
	}
	return bytes.Clone(f.data), true
}

// Paths are all files, in byte order.
func (c *Cluster) Paths() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.files))
}

// Calls is how often an operation was called, by name of the method in lower
// case; Most is how many calls were under way at once.
func (c *Cluster) Calls(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// Most is how many calls were under way at once.
func (c *Cluster) Most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

func (c *Cluster) now() time.Time { return time.Now().Add(c.Skew) }

// do runs one call under the cluster's lock, with its faults.
func (c *Cluster) do(ctx context.Context, op, p string, call func() error) error {
	if err := inside(op, p); err != nil {
		return err
	}
	c.mu.Lock()
	c.calls[op]++
	c.busy++
	c.most = max(c.most, c.busy)
	down, fault := c.down, c.Fault
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.busy--
		c.mu.Unlock()
	}()
	if c.CallDelay > 0 {
		select {
		case <-time.After(c.CallDelay):
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, p, err)
	}
	if down {
		return fmt.Errorf("%s %s: %w", op, p, cluster.ErrUnavailable)
	}
	if fault != nil {
		if err := fault(op, p, false); err != nil {
			return err
		}
	}
	c.mu.Lock()
	err := call()
	c.mu.Unlock()
	if err == nil && fault != nil {
		err = fault(op, p, true)
	}
	return err
}

func inside(op, p string) error {
	if strings.HasPrefix(p, "/") || slices.Contains(strings.Split(p, "/"), "..") {
		return fmt.Errorf("%s %s: outside of the root: %w", op, p, fs.ErrInvalid)
	}
	return nil
}

func missing(op, p string) error { return fmt.Errorf("%s %s: %w", op, p, fs.ErrNotExist) }

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.ID }

// Create implements cluster.Cluster.
func (c *Cluster) Create(ctx context.Context, p string, _ cluster.FileOptions) (cluster.File, error) {
	w := &writer{c: c, path: p}
	err := c.do(ctx, "create", p, func() error {
		if c.files[p] != nil {
			return fmt.Errorf("create %s: %w", p, fs.ErrExist)
		}
		w.f = &file{open: true, writer: w, modified: c.now()}
		c.files[p] = w.f
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Rename implements cluster.Cluster.
func (c *Cluster) Rename(ctx context.Context, from, to string) error {
	if err := inside("rename", to); err != nil {
		return err
	}
	return c.do(ctx, "rename", from, func() error {
		f := c.files[from]
		if f == nil {
			return missing("rename", from)
		}
		if c.files[to] != nil {
			return fmt.Errorf("rename %s to %s: %w", from, to, fs.ErrExist)
		}
		delete(c.files, from)
		c.files[to] = f
		return nil
	})
}

// Replace implements cluster.Cluster.
func (c *Cluster) Replace(ctx context.Context, p string, content []byte) error {
	return c.do(ctx, "replace", p, func() error {
		c.files[p] = &file{data: bytes.Clone(content), modified: c.now()}
		return nil
	})
}

// settle closes what had to wait until now.
func (f *file) settle() {
	if f.open && !f.closedAt.IsZero() && !time.Now().Before(f.closedAt) {
		f.open, f.closedAt = false, time.Time{}
	}
}

// Recover implements cluster.Cluster.
func (c *Cluster) Recover(ctx context.Context, p string) (closed bool, err error) {
	err = c.do(ctx, "recover", p, func() error {
		f := c.files[p]
		if f == nil {
			return missing("recover", p)
		}
		if f.open && f.closedAt.IsZero() {
			f.writer = nil // fenced
			wait, slow := c.Slow[p]
			if !slow {
				wait = c.RecoverDelay
			}
			f.closedAt = time.Now().Add(wait)
		}
		f.settle()
		closed = !f.open
		return nil
	})
	return closed && err == nil, err
}

// Truncate implements cluster.Cluster.
func (c *Cluster) Truncate(ctx context.Context, p string, size int64) (done bool, err error) {
	err = c.do(ctx, "truncate", p, func() error {
		f := c.files[p]
		if f == nil {
			return missing("truncate", p)
		}
		if f.settle(); f.open || size > int64(len(f.data)) {
			return fmt.Errorf("truncate %s to %d of %d, open %v: %w", p, size, len(f.data), f.open, fs.ErrInvalid)
		}
		f.data = f.data[:size]
		if done = c.TruncateDelay == 0; !done {
			f.open, f.published = true, 0
			f.closedAt = time.Now().Add(c.TruncateDelay)
		}
		return nil
	})
	return done && err == nil, err
}

// Remove implements cluster.Cluster.
func (c *Cluster) Remove(ctx context.Context, p string) error {
	return c.do(ctx, "remove", p, func() error {
		delete(c.files, p)
		return nil
	})
}

func (f *file) info(name string) cluster.Info {
	f.settle()
	size := len(f.data)
	if f.open {
		size = f.published
	}
	return cluster.Info{Name: name, Size: int64(size), Modified: f.modified}
}

// Stat implements cluster.Cluster.
func (c *Cluster) Stat(ctx context.Context, p string) (info cluster.Info, err error) {
	err = c.do(ctx, "stat", p, func() error {
		if f := c.files[p]; f != nil {
			info = f.info(path.Base(p))
			return nil
		}
		if len(c.list(p)) > 0 {
			info = cluster.Info{Name: path.Base(p), Folder: true}
			return nil
		}
		return missing("stat", p)
	})
	return info, err
}

// list gives the entries of a folder.
func (c *Cluster) list(folder string) []cluster.Info {
	found := make(map[string]cluster.Info)
	for p, f := range c.files {
		rest := p
		if folder != "" && folder != "." {
			var below bool
			if rest, below = strings.CutPrefix(p, folder+"/"); !below {
				continue
			}
		}
		name, _, sub := strings.Cut(rest, "/")
		if sub {
			found[name] = cluster.Info{Name: name, Folder: true, Modified: f.modified}
		} else {
			found[name] = f.info(name)
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b cluster.Info) int { return strings.Compare(a.Name, b.Name) })
}

// List implements cluster.Cluster.
func (c *Cluster) List(ctx context.Context, folder string) (list []cluster.Info, err error) {
	err = c.do(ctx, "list", folder, func() error {
		list = c.list(folder)
		return nil
	})
	return list, err
}

// Open implements cluster.Cluster.
func (c *Cluster) Open(ctx context.Context, p string) (cluster.Reader, error) {
	var r *reader
	err := c.do(ctx, "open", p, func() error {
		f := c.files[p]
		if f == nil {
			return missing("open", p)
		}
		data := f.data[:f.info("").Size]
		r = &reader{Reader: bytes.NewReader(bytes.Clone(data))}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Ping implements cluster.Cluster.
func (c *Cluster) Ping(ctx context.Context) error {
	return c.do(ctx, "ping", "", func() error { return nil })
}

// ProbeBlock implements cluster.Cluster.
func (c *Cluster) ProbeBlock(ctx context.Context) error {
	return c.do(ctx, "probeblock", "", func() error { return nil })
}

// Counters implements cluster.Cluster.
func (c *Cluster) Counters() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counters := make(map[string]int64)
	for op, n := range c.calls {
		counters[op] = int64(n)
	}
	return counters
}

// Close implements cluster.Cluster.
func (c *Cluster) Close() error { return nil }

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }
