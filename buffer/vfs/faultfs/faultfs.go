// Package faultfs wraps a file system and lets a function decide which calls
// fail, stall or stop half way.
//
// It leaves to others: what a crash forgets (vfs/memfs).
package faultfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"

	"twinscribe/buffer/vfs"
)

// A Kind is what a call does.
type Kind string

// The kinds of calls.
const (
	Open     Kind = "open"
	Create   Kind = "create" // OpenFile with O_CREATE
	Read     Kind = "read"
	Write    Kind = "write" // Write, WriteAt, Writev
	Sync     Kind = "sync"  // Sync, Datasync
	Truncate Kind = "truncate"
	Close    Kind = "close"
	Lock     Kind = "lock"
	Rename   Kind = "rename" // Rename, RenameNoReplace
	Remove   Kind = "remove"
	Symlink  Kind = "symlink"
	Readlink Kind = "readlink"
	Mkdir    Kind = "mkdir"
	ReadDir  Kind = "readdir"
	Stat     Kind = "stat"
	SyncDir  Kind = "syncdir"
	Free     Kind = "free"
)

// An Op is one call.
type Op struct {
	Kind  Kind
	Path  string
	Bytes int64 // of a write
}

// An Inject is asked before each call, by the goroutine that makes it: it may
// block. The call is made where it returns nil and fails with what it returns
// otherwise. A Short error lets a write begin.
type Inject func(Op) error

// Short makes a write stop after Bytes, with Err.
type Short struct {
	Bytes int64
	Err   error
}

func (s *Short) Error() string { return s.Err.Error() }
func (s *Short) Unwrap() error { return s.Err }

// FS is the wrapper. Set changes what goes wrong at any time.
type FS struct {
	vfs.FS
	mu     sync.Mutex
	inject Inject
}

// New wraps inner; inject may be nil.
func New(inner vfs.FS, inject Inject) *FS { return &FS{FS: inner, inject: inject} }

// Set replaces the function that decides; nil lets every call through.
func (f *FS) Set(inject Inject) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inject = inject
}

func (f *FS) ask(op Op) error {
	f.mu.Lock()
	inject := f.inject
	f.mu.Unlock()
	if inject == nil {
		return nil
	}
	err := inject(op)
	if err == nil {
		return nil
	}
	var short *Short
	if errors.As(err, &short) {
		return err
	}
	return &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: err}
}

// On makes calls of a kind fail with err. A pattern that is not empty is
// matched with the base name, as by filepath.Match.
func On(kind Kind, pattern string, err error) Inject {
	return func(op Op) error {
		if op.Kind != kind {
			return nil
		}
		if ok, e := filepath.Match(pattern, filepath.Base(op.Path)); pattern != "" && (!ok || e != nil) {
			return e
		}
		return err
	}
}

// Nth lets only the n-th of the calls fail that inner makes fail, from 1.
func Nth(n int, inner Inject) Inject { return From(n, 1, inner) }

// From lets the n-th failure of inner and count-1 after it be; all before and
// after go through.
func From(n, count int, inner Inject) Inject {
	var mu sync.Mutex
	seen := 0
	return func(op Op) error {
		err := inner(op)
		if err == nil {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		if seen < n || seen >= n+count {
			return nil
		}
		return err
	}
}

// NoSpace lets writes go on for so many bytes in all; the one that crosses
// the limit is short, and all after it write nothing.
func NoSpace(bytes int64) Inject {
	var mu sync.Mutex
	return func(op Op) error {
		if op.Kind != Write {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if op.Bytes <= bytes {
			bytes -= op.Bytes
			return nil
		}
		short := &Short{Bytes: bytes, Err: syscall.ENOSPC}
		bytes = 0
		return short
	}
}

// Stall blocks calls of a kind until release is closed. Each one that comes is
// told to entered, which may be nil.
func Stall(kind Kind, pattern string, entered chan<- Op, release <-chan struct{}) Inject {
	hit := On(kind, pattern, errors.New("stalled"))
	return func(op Op) error {
		if hit(op) == nil {
			return nil
		}
		if entered != nil {
			entered <- op
		}
		<-release
		return nil
	}
}

// Any asks one after another until one makes the call fail.
func Any(all ...Inject) Inject {
	return func(op Op) error {
		for _, inject := range all {
			if err := inject(op); err != nil {
				return err
			}
		}
		return nil
	}
}
