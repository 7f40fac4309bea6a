// Package vfs is the file system as the buffer, the journal and the directory
// cluster use it, so that tests can make each call fail, stall or be forgotten
// by a power cut. OS is the real one.
//
// It leaves to others: formats, and what to do about an error. vfs/faultfs
// injects faults, vfs/memfs forgets what was not synced.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Paths are absolute or relative as for package os. All
// methods may be called by many goroutines at once.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the entries of a folder durable.
	SyncDir(name string) error
	// Free is how many bytes an unprivileged process may still write on the
	// file system of name, and how many it has in all.
	Free(name string) (free, total uint64, err error)
}

// File is an open file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	// Writev writes the buffers one after another, in one call where the
	// system allows it. A short write is an error.
	Writev(p [][]byte) (int64, error)
	// Sync is fsync, Datasync fdatasync.
	Sync() error
	Datasync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	// Fd is the descriptor, for flock; false where there is none.
	Fd() (uintptr, bool)
	Name() string
}

// OS is the operating system's file system.
func OS() FS { return osFS{} }
