package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return newOSFile(f)
}

func (osFS) Rename(from, to string) error                 { return os.Rename(from, to) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) Symlink(target, name string) error            { return os.Symlink(target, name) }
func (osFS) Readlink(name string) (string, error)         { return os.Readlink(name) }
func (osFS) Mkdir(name string, perm fs.FileMode) error    { return os.Mkdir(name, perm) }
func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (osFS) SameFile(a, b fs.FileInfo) bool               { return os.SameFile(a, b) }

func (osFS) RenameNoReplace(from, to string) error {
	err := again(func() error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return linkAndRemove(from, to) // NFS and some FUSE file systems
	}
	return &os.LinkError{Op: "rename without replacing", Old: from, New: to, Err: err}
}

func linkAndRemove(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

func (osFS) MayMake(folder string) bool {
	err := again(func() error {
		return unix.Faccessat(unix.AT_FDCWD, folder, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	})
	return !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS)
}

func (osFS) Free(name string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := again(func() error { return unix.Statfs(name, &s) }); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// iovMax is how many buffers one writev takes (IOV_MAX on Linux).
const iovMax = 1024

// osFile adds writev, fdatasync and flock to os.File. The calls go through
// SyscallConn, which keeps the descriptor from being closed, and its number
// from being given to another file, while a call is under way.
type osFile struct {
	*os.File
	raw syscall.RawConn
}

func newOSFile(f *os.File) (File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f, raw: raw}, nil
}

func (f *osFile) Writev(p [][]byte) (int64, error) {
	var written int64
	from := 0 // bytes of p[0] that are written
	for {
		for len(p) > 0 && from == len(p[0]) {
			p, from = p[1:], 0
		}
		if len(p) == 0 {
			return written, nil
		}
		n, err := f.writeSome(p, from)
		written += int64(n)
		if err != nil {
			return written, &fs.PathError{Op: "writev", Path: f.Name(), Err: err}
		}
		for n > 0 {
			k := min(n, len(p[0])-from)
			n, from = n-k, from+k
			if from == len(p[0]) {
				p, from = p[1:], 0
			}
		}
	}
}

// writeSome is one system call that begins at byte from of p[0].
func (f *osFile) writeSome(p [][]byte, from int) (n int, err error) {
	p = p[:min(len(p), iovMax)]
	if from > 0 || len(p) == 1 {
		n, err = f.File.Write(p[0][from:])
		return n, cause(err)
	}
	e := f.raw.Write(func(fd uintptr) bool {
		err = again(func() error { n, err = unix.Writev(int(fd), p); return err })
		return true
	})
	switch {
	case e != nil:
		return 0, fs.ErrClosed // the one error of a RawConn itself
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.ErrShortWrite
	}
	return n, nil
}

// cause strips the path that the caller adds itself.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (f *osFile) Datasync() error {
	return f.control("fdatasync", unix.Fdatasync)
}

func (f *osFile) TryLock() error {
	err := f.control("flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &fs.PathError{Op: "flock", Path: f.Name(), Err: ErrLocked}
	}
	return err
}

func (f *osFile) Fd() (uintptr, bool) { return f.File.Fd(), true }

func (f *osFile) control(op string, call func(fd int) error) error {
	var err error
	e := f.raw.Control(func(fd uintptr) {
		err = again(func() error { return call(int(fd)) })
	})
	if e != nil {
		err = fs.ErrClosed // the one error of a RawConn itself
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: err}
	}
	return nil
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
