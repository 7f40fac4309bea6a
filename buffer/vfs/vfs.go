// Package vfs is the file system as the buffer, the journal and the directory
// cluster use it, so that tests can make each call fail, stall or be forgotten
// by a power cut. OS is the real one.
//
// It leaves to others: formats, and what to do about an error. vfs/faultfs
// injects faults, vfs/memfs forgets what was not synced.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// FS is a file system. Paths are absolute or relative as for package os. All
// methods may be called by many goroutines at once.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	// RenameNoReplace is Rename, but fails with fs.ErrExist where to exists. On
	// a file system that cannot do it in one step it links and removes: a crash
	// between the two leaves the file under both names.
	RenameNoReplace(from, to string) error
	Remove(name string) error
	// Symlink is os.Symlink: name leads to target, which need not be there.
	Symlink(target, name string) error
	// Readlink is os.Readlink: it fails with EINVAL for what is no symbolic link.
	Readlink(name string) (string, error)
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SameFile is os.SameFile: whether two results of Stat are one file.
	SameFile(a, b fs.FileInfo) bool
	// SyncDir makes the entries of a folder durable.
	SyncDir(name string) error
	// MayMake says whether this process may make entries in a folder, as far as
	// the permissions of the folder and of its file system go. Where that cannot
	// be found out it is true.
	MayMake(folder string) bool
	// Free is how many bytes an unprivileged process may still write on the
	// file system of name, and how many it has in all.
	Free(name string) (free, total uint64, err error)
}

// File is an open file. The reading methods may be called by many goroutines
// at once, the writing ones by one at a time; Close may overlap any of them
// and lets them end first or makes them fail.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	// Writev writes the buffers one after another, in one call where the
	// system allows it, and changes neither p nor what it holds. The result is
	// what was written; less than everything comes with an error.
	Writev(p [][]byte) (int64, error)
	// Sync is fsync, Datasync fdatasync.
	Sync() error
	Datasync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	// TryLock takes flock's exclusive lock on the file, or ErrLocked. Close
	// gives it back, and so does the end of the process.
	TryLock() error
	// Fd is the descriptor; false where there is none.
	Fd() (uintptr, bool)
	Name() string
}

// ErrLocked is the answer of TryLock where another open file has the lock.
var ErrLocked = errors.New("locked by another process")

// OS is the operating system's file system.
func OS() FS { return osFS{} }
