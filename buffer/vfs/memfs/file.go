package memfs

import (
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"
	"time"

	"twinscribe/buffer/vfs"
)

// file is an open file.
type file struct {
	m       *FS
	n       *node
	name    string
	writes  bool
	appends bool
	at      int64
	holds   bool // the lock
	closed  atomic.Bool
}

func (f *file) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// lock takes the file system's mutex, or says why the call cannot be.
func (f *file) lock(write bool) error {
	f.m.mu.Lock()
	var err error
	switch {
	case f.closed.Load():
		err = fs.ErrClosed
	case f.n.folder:
		err = syscall.EISDIR
	case write && !f.writes:
		err = syscall.EBADF
	}
	if err != nil {
		f.m.mu.Unlock()
	}
	return err
}

func (f *file) Name() string        { return f.name }
func (f *file) Fd() (uintptr, bool) { return 0, false }
func (f *file) Sync() error         { return f.sync("fsync") }
func (f *file) Datasync() error     { return f.sync("fdatasync") }
func (f *file) String() string      { return f.name }
func (f *file) isClosed() (err error) {
	if f.closed.Load() {
		err = fs.ErrClosed
	}
	return err
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if err := f.lock(false); err != nil {
		return 0, f.fail("read", err)
	}
	defer f.m.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if at >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	if err := f.lock(true); err != nil {
		return 0, f.fail("write", err)
	}
	defer f.m.mu.Unlock()
	n, err := f.write(p)
	return n, f.fail("write", err)
}

// write is Write with the mutex held.
func (f *file) write(p []byte) (int, error) {
	if f.appends {
		f.at = int64(len(f.n.data))
	}
	n, err := f.m.writeAt(f.n, p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	if err := f.lock(true); err != nil {
		return 0, f.fail("write", err)
	}
	defer f.m.mu.Unlock()
	n, err := f.m.writeAt(f.n, p, at)
	return n, f.fail("write", err)
}

func (f *file) Writev(p [][]byte) (int64, error) {
	if err := f.lock(true); err != nil {
		return 0, f.fail("writev", err)
	}
	defer f.m.mu.Unlock()
	var written int64
	for _, b := range p {
		n, err := f.write(b)
		written += int64(n)
		if err != nil {
			return written, f.fail("writev", err)
		}
	}
	return written, nil
}

func (f *file) Truncate(size int64) error {
	if err := f.lock(true); err != nil {
		return f.fail("truncate", err)
	}
	defer f.m.mu.Unlock()
	if size < 0 {
		return f.fail("truncate", syscall.EINVAL)
	}
	f.m.truncate(f.n, size)
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.isClosed(); err != nil {
		return nil, f.fail("stat", err)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.n.info(f.name), nil
}

func (f *file) TryLock() error {
	if err := f.lock(false); err != nil {
		return f.fail("flock", err)
	}
	defer f.m.mu.Unlock()
	if f.n.locked && !f.holds {
		return f.fail("flock", vfs.ErrLocked)
	}
	f.n.locked, f.holds = true, true
	return nil
}

func (f *file) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.holds {
		f.n.locked = false
	}
	return nil
}

// writeAt writes as much of p as there is space for.
func (m *FS) writeAt(n *node, p []byte, at int64) (int, error) {
	grow := max(0, at+int64(len(p))-int64(len(n.data)))
	var err error
	if m.capacity > 0 && m.used+grow > m.capacity {
		fits := max(0, int64(len(p))-(m.used+grow-m.capacity))
		p, err = p[:fits], syscall.ENOSPC
	}
	if len(p) == 0 {
		return 0, err
	}
	end := at + int64(len(p))
	if end > int64(len(n.data)) {
		m.truncate(n, end)
	}
	copy(n.data[at:], p)
	for b := at / block; b*block < end; b++ {
		n.dirty[b] = struct{}{}
	}
	n.modified = time.Now()
	return len(p), err
}

func (m *FS) truncate(n *node, size int64) {
	if size == int64(len(n.data)) {
		return
	}
	m.used += size - int64(len(n.data))
	if !n.resize {
		n.low = int64(len(n.data))
	}
	n.low = min(n.low, size)
	if size < int64(len(n.data)) {
		clear(n.data[size:])
		n.data = n.data[:size]
	} else {
		n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
	}
	n.resize, n.modified = true, time.Now()
}
