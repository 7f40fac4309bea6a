package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"twinscribe/buffer/vfs"
	"twinscribe/store/cluster"
)

// Create implements cluster.Cluster. A file is one block of any size, and
// beginning it is making its name durable.
func (c *Cluster) Create(ctx context.Context, p string, _ cluster.FileOptions) (cluster.File, error) {
	full, err := c.fullFile(p)
	if err != nil {
		return nil, c.wrap("create", p, err)
	}
	if !c.o.Observer.MayBegin() {
		return nil, c.wrap("create", p, cluster.ErrHeld)
	}
	f, err := call(ctx, c, "create", p, func() (*file, error) { return c.create(p, full) }, (*file).forget)
	if err != nil {
		c.failed(err)
		return nil, err
	}
	c.count.creates.Add(1)
	return f, nil
}

func (c *Cluster) create(p, full string) (*file, error) {
	if err := c.checkRoot(); err != nil {
		return nil, err
	}
	if err := c.checkFree(); err != nil {
		return nil, err
	}
	if err := c.makeFolder(path.Dir(p)); err != nil {
		return nil, c.settled(err)
	}
	inner, err := c.fs.OpenFile(full, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, c.settled(err)
	}
	f := &file{c: c, path: p, full: full, inner: inner, aborted: make(chan struct{}), idle: make(chan struct{})}
	close(f.idle)
	if err := f.begin(); err != nil {
		return nil, errors.Join(err, inner.Close(), c.fs.Remove(full))
	}
	c.mu.Lock()
	c.living[p] = f
	closed := c.closed
	c.mu.Unlock()
	if closed {
		f.Abort()
		return nil, errClosed
	}
	return f, nil
}

// begin makes the name durable and takes the lock by which another process
// sees that the writer lives. A file system without locks does without.
func (f *file) begin() (err error) {
	if f.info, err = f.inner.Stat(); err != nil {
		return err
	}
	if err := f.inner.TryLock(); errors.Is(err, vfs.ErrLocked) {
		return err
	}
	return f.c.fs.SyncDir(filepath.Dir(f.full))
}

// file is being written. At most one goroutine works on the descriptor: it is
// busy. Who ends the file while it is busy leaves the closing to it.
type file struct {
	c     *Cluster
	path  string
	full  string
	inner vfs.File
	info  fs.FileInfo // tells which file it is

	mu      sync.Mutex
	busy    bool
	idle    chan struct{} // closed while nobody is busy
	dead    error         // the final error
	aborted chan struct{} // closed with dead
	sealed  bool
	closed  bool
	acked   int64
}

var errAborted = errors.New("aborted")

// take makes the caller the one who is busy, once the one before is done.
func (f *file) take(ctx context.Context) error {
	for {
		f.mu.Lock()
		switch {
		case f.dead != nil:
			defer f.mu.Unlock()
			return f.dead
		case f.sealed:
			defer f.mu.Unlock()
			return fmt.Errorf("sealed: %w", fs.ErrClosed)
		case !f.busy:
			defer f.mu.Unlock()
			f.busy, f.idle = true, make(chan struct{})
			return nil
		}
		idle := f.idle
		f.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// give ends being busy. acked more bytes are acknowledged, unless the file is
// dead meanwhile or dies by err; the result is what the caller hears.
func (f *file) give(acked int64, err error) error {
	f.mu.Lock()
	if err != nil && f.dead == nil {
		f.die(err)
	}
	if f.dead == nil {
		f.acked += acked
	} else {
		err = f.dead
	}
	f.busy = false
	if f.closes() {
		f.busy = true // nobody begins anything before the descriptor is closed
		f.mu.Unlock()
		f.closeInner()
		f.mu.Lock()
		f.busy = false
	}
	close(f.idle)
	f.mu.Unlock()
	return err
}

// die makes err final; with the mutex held.
func (f *file) die(err error) {
	f.dead = err
	close(f.aborted)
}

// closes says whether the caller has to close the descriptor; with the mutex held.
func (f *file) closes() bool {
	if f.busy || f.closed || (f.dead == nil && !f.sealed) {
		return false
	}
	f.closed = true
	return true
}

// closeInner gives the descriptor back and takes the file out of the living
// ones. Everything acknowledged is synced, so the result of close is nothing.
func (f *file) closeInner() {
	_ = f.inner.Close()
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.living[f.path] == f {
		delete(f.c.living, f.path)
	}
}

// Append implements cluster.File.
func (f *file) Append(ctx context.Context, p [][]byte) error {
	c := f.c
	n := size(p)
	if err := f.alive(); err != nil {
		return c.wrap("append", f.path, err)
	}
	if n == 0 {
		return nil
	}
	if err := f.slot(ctx); err != nil {
		c.count.notTried.Add(1)
		return c.wrap("append", f.path, err)
	}
	if !c.start() {
		<-c.appends
		return c.wrap("append", f.path, errClosed)
	}
	if err := f.take(ctx); err != nil {
		<-c.appends
		c.running.Done()
		return c.wrap("append", f.path, err)
	}
	own := gather(p, n)
	done := make(chan error, 1)
	go func() {
		defer c.running.Done()
		err := f.store(*own)
		if cap(*own) <= maxPooled {
			pool.Put(own)
		}
		if errors.Is(err, cluster.ErrNotTried) { // the file is as it was
			_ = f.give(0, nil)
		} else {
			err = f.give(int64(n), err)
		}
		<-c.appends
		done <- err
	}()
	err := c.wrap("append", f.path, f.await(ctx, done))
	if err != nil {
		c.failed(err)
		return err
	}
	c.count.appends.Add(1)
	c.count.bytes.Add(int64(n))
	c.o.Observer.Acknowledged()
	return nil
}

// store is one Append's work on the disk.
func (f *file) store(p []byte) error {
	switch err := f.c.checkFree(); {
	case errors.Is(err, errFree):
		return fmt.Errorf("%w: %w", cluster.ErrNotTried, err)
	case err != nil:
		return err
	}
	if _, err := f.inner.Write(p); err != nil {
		return err
	}
	if err := f.inner.Datasync(); err != nil {
		return err
	}
	return f.reachable()
}

// reachable says whether the file is still the one under its name: bytes of a
// file that was unlinked, or whose root was moved away, are lost to everybody.
func (f *file) reachable() error {
	info, err := f.c.fs.Stat(f.full)
	if err != nil {
		return f.c.settled(err)
	}
	if !f.c.fs.SameFile(f.info, info) {
		return fmt.Errorf("another file has its name: %w", fs.ErrNotExist)
	}
	return nil
}

// await waits for the goroutine that stores. Where the context, the file or
// the cluster's doubt ends the wait first, the file is dead.
func (f *file) await(ctx context.Context, done <-chan error) error {
	patience := time.NewTimer(f.c.o.NodeTimeout + doubtfulGrace)
	defer patience.Stop()
	var why error
	for why == nil {
		select {
		case err := <-done:
			return err
		case <-f.aborted:
			why = errAborted
		case <-ctx.Done():
			why = ctx.Err()
		case <-patience.C:
			if f.c.o.Observer.Doubtful() {
				why = fmt.Errorf("no answer on a doubtful cluster: %w", context.DeadlineExceeded)
			}
			patience.Reset(doubtTick)
		}
	}
	if err := f.kill(why); err != nil {
		return err
	}
	return <-done // the answer was there before the end
}

// doubtTick is how often the doubt about a cluster is looked at during a wait.
const doubtTick = 100 * time.Millisecond

// kill makes the file dead while an Append is under way. nil: that one has
// ended, and the file lives.
func (f *file) kill(why error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead == nil && f.busy {
		f.die(why)
		f.c.count.lefts.Add(1)
	}
	return f.dead
}

// slot waits for a place among the appends in flight. It leaves with the file
// intact when the context ends or the cluster is doubtful.
func (f *file) slot(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", cluster.ErrNotTried, err)
	}
	select {
	case f.c.appends <- struct{}{}:
		return nil
	default:
	}
	tick := time.NewTicker(doubtTick)
	defer tick.Stop()
	for {
		select {
		case f.c.appends <- struct{}{}:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%w: all %d appends are in flight: %w", cluster.ErrNotTried, cap(f.c.appends), ctx.Err())
		case <-f.aborted:
			return f.alive()
		case <-tick.C:
			if f.c.o.Observer.Doubtful() {
				return fmt.Errorf("%w: all %d appends are in flight on a doubtful cluster", cluster.ErrNotTried, cap(f.c.appends))
			}
		}
	}
}

func (f *file) alive() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead == nil && f.sealed {
		return fmt.Errorf("sealed: %w", fs.ErrClosed)
	}
	return f.dead
}

// Acked implements cluster.File.
func (f *file) Acked() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked
}

// Replicas implements cluster.File: a local file has one.
func (f *file) Replicas() int { return 1 }

// Publish implements cluster.File. What is appended can be read at once.
func (f *file) Publish(ctx context.Context) error {
	if err := f.alive(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return f.c.wrap("publish", f.path, err)
	}
	return f.c.wrap("publish", f.path, ctx.Err())
}

// Seal implements cluster.File. Every acknowledged byte is synced already, so
// an error here is about the disk, not about the bytes, and may be met by
// calling it again.
func (f *file) Seal(ctx context.Context) error {
	f.mu.Lock()
	sealed := f.sealed && f.dead == nil
	f.mu.Unlock()
	if sealed {
		return nil
	}
	err := f.c.run(ctx, "seal", f.path, func() error { return f.seal(ctx) })
	if err != nil {
		f.c.failed(err)
		return err
	}
	f.c.count.seals.Add(1)
	return nil
}

func (f *file) seal(ctx context.Context) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	err := f.inner.Sync()
	if err == nil {
		err = f.reachable()
	}
	if err != nil && !f.c.concernsAll(err) {
		return f.give(0, err)
	}
	if err == nil {
		f.mu.Lock()
		f.sealed = f.dead == nil
		f.mu.Unlock()
	}
	if e := f.give(0, nil); err == nil {
		err = e
	}
	return err
}

// Abort implements cluster.File.
func (f *file) Abort() {
	f.mu.Lock()
	if f.dead != nil || f.sealed {
		f.mu.Unlock()
		return
	}
	f.die(errAborted)
	closes := f.closes()
	f.mu.Unlock()
	f.c.count.aborts.Add(1)
	if closes {
		f.closeInner()
	}
}

// forget undoes a Create that nobody waited for.
func (f *file) forget() {
	f.Abort()
	_ = f.c.fs.Remove(f.full) // it is empty: who finds it loses nothing
}

func size(p [][]byte) (n int) {
	for _, b := range p {
		n += len(b)
	}
	return n
}

// maxPooled is the largest copy that is kept for the next append: a batch.
const maxPooled = 4 << 20

// pool holds the copies that appends write from.
var pool = sync.Pool{New: func() any { return new([]byte) }}

// gather copies p. The caller of Append gets its bytes back when it returns,
// also while the disk still hangs over them.
func gather(p [][]byte, n int) *[]byte {
	own := pool.Get().(*[]byte)
	if cap(*own) < n {
		*own = make([]byte, 0, n)
	}
	*own = (*own)[:0]
	for _, b := range p {
		*own = append(*own, b...)
	}
	return own
}
