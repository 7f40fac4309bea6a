package faultfs

import (
	"errors"
	"io/fs"
	"os"

	"twinscribe/buffer/vfs"
)

// OpenFile implements vfs.FS.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	kind := Open
	if flag&os.O_CREATE != 0 {
		kind = Create
	}
	if err := f.ask(Op{Kind: kind, Path: name}); err != nil {
		return nil, err
	}
	inner, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &file{File: inner, f: f}, nil
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	if err := f.ask(Op{Kind: Rename, Path: from}); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// RenameNoReplace implements vfs.FS.
func (f *FS) RenameNoReplace(from, to string) error {
	if err := f.ask(Op{Kind: Rename, Path: from}); err != nil {
		return err
	}
	return f.FS.RenameNoReplace(from, to)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	if err := f.ask(Op{Kind: Remove, Path: name}); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// Symlink implements vfs.FS.
func (f *FS) Symlink(target, name string) error {
	if err := f.ask(Op{Kind: Symlink, Path: name}); err != nil {
		return err
	}
	return f.FS.Symlink(target, name)
}

// Readlink implements vfs.FS.
func (f *FS) Readlink(name string) (string, error) {
	if err := f.ask(Op{Kind: Readlink, Path: name}); err != nil {
		return "", err
	}
	return f.FS.Readlink(name)
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.ask(Op{Kind: Mkdir, Path: name}); err != nil {
		return err
	}
	return f.FS.Mkdir(name, perm)
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(name string, perm fs.FileMode) error {
	if err := f.ask(Op{Kind: Mkdir, Path: name}); err != nil {
		return err
	}
	return f.FS.MkdirAll(name, perm)
}

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.ask(Op{Kind: ReadDir, Path: name}); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(name)
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	if err := f.ask(Op{Kind: Stat, Path: name}); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(name string) error {
	if err := f.ask(Op{Kind: SyncDir, Path: name}); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

// Free implements vfs.FS.
func (f *FS) Free(name string) (free, total uint64, err error) {
	if err := f.ask(Op{Kind: Free, Path: name}); err != nil {
		return 0, 0, err
	}
	return f.FS.Free(name)
}

type file struct {
	vfs.File
	f *FS
}

func (f *file) ask(kind Kind) error { return f.f.ask(Op{Kind: kind, Path: f.Name()}) }

func (f *file) Read(p []byte) (int, error) {
	if err := f.ask(Read); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if err := f.ask(Read); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, at)
}

// begin asks about a write and says how many of its bytes are written.
func (f *file) begin(bytes int64) (int64, error) {
	err := f.f.ask(Op{Kind: Write, Path: f.Name(), Bytes: bytes})
	var short *Short
	switch {
	case err == nil:
		return bytes, nil
	case errors.As(err, &short):
		return min(short.Bytes, bytes), &fs.PathError{Op: "write", Path: f.Name(), Err: short.Err}
	}
	return 0, err
}

func (f *file) Write(p []byte) (int, error) {
	n, failure := f.begin(int64(len(p)))
	if n == 0 && failure != nil {
		return 0, failure
	}
	done, err := f.File.Write(p[:n])
	if err == nil {
		err = failure
	}
	return done, err
}

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	n, failure := f.begin(int64(len(p)))
	if n == 0 && failure != nil {
		return 0, failure
	}
	done, err := f.File.WriteAt(p[:n], at)
	if err == nil {
		err = failure
	}
	return done, err
}

func (f *file) Writev(p [][]byte) (int64, error) {
	var bytes int64
	for _, b := range p {
		bytes += int64(len(b))
	}
	n, failure := f.begin(bytes)
	if n == 0 && failure != nil {
		return 0, failure
	}
	var some [][]byte
	for _, b := range p {
		k := min(n, int64(len(b)))
		some, n = append(some, b[:k]), n-k
	}
	done, err := f.File.Writev(some)
	if err == nil {
		err = failure
	}
	return done, err
}

func (f *file) Sync() error {
	if err := f.ask(Sync); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *file) Datasync() error {
	if err := f.ask(Sync); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f *file) Truncate(size int64) error {
	if err := f.ask(Truncate); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) TryLock() error {
	if err := f.ask(Lock); err != nil {
		return err
	}
	return f.File.TryLock()
}

// Close closes in any case, and reports the fault.
func (f *file) Close() error {
	failure := f.ask(Close)
	err := f.File.Close()
	if failure != nil {
		return failure
	}
	return err
}
