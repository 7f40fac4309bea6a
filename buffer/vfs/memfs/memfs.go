// Package memfs is a file system in memory that knows what a disk would still
// have after a power cut: bytes of a file only if they were synced, entries of
// a folder only if the folder was. Crash gives the file system as it is found
// at the next start.
//
// It leaves to others: calls that fail or stall (vfs/faultfs).
package memfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"twinscribe/buffer/vfs"
)

// FS is the file system. Relative paths begin at its root.
type FS struct {
	mu       sync.Mutex
	root     *node
	pending  []change // of folders, not yet durable, oldest first
	used     int64    // bytes in files
	capacity int64
	onSync   func()
	syncFail func(name string) error
	numbers  int
}

var _ vfs.FS = (*FS)(nil)

// New is an empty file system of unlimited size.
func New() *FS { return &FS{root: newFolder()} }

// node is a file or a folder.
type node struct {
	number   int
	folder   bool
	mode     fs.FileMode
	modified time.Time

	entries map[string]*node // of a folder
	durable map[string]*node // what a crash leaves of them

	data   []byte             // of a file
	synced []byte             // what a crash leaves of it
	dirty  map[int64]struct{} // blocks that were written since
	resize bool               // len(data) was changed since
	low    int64              // the smallest it was meanwhile
	locked bool

	target string // of a symbolic link
}

// change is one operation on folders: it is durable as a whole or not at all,
// as on a file system with a journal.
type change []entry

type entry struct {
	folder *node
	name   string
	node   *node // nil: the name is gone
}

func newFolder() *node {
	return &node{folder: true, mode: fs.ModeDir | 0o755, entries: map[string]*node{}, durable: map[string]*node{}, modified: time.Now()}
}

// OnSync has f called after each Sync, Datasync and SyncDir that succeeded,
// before its caller goes on. f may call Crash.
func (m *FS) OnSync(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onSync = f
}

// FailSync has f asked before each Sync and Datasync, and SyncDir. Where it
// returns an error the call fails, and what was written is marked clean all
// the same, as Linux does: it can be read until the crash, and a later Sync
// that succeeds does not save it.
func (m *FS) FailSync(f func(name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncFail = f
}

// SetCapacity limits the bytes in files: a write beyond it is short, with
// ENOSPC. 0 is no limit.
func (m *FS) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

func split(name string) []string {
	return strings.FieldsFunc(filepath.Clean("/"+name), func(r rune) bool { return r == '/' })
}

// parent is the folder of a path and the base name in it.
func (m *FS) parent(name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", syscall.EBUSY
	}
	n, err := m.find(strings.Join(parts[:len(parts)-1], "/"))
	if err == nil && !n.folder {
		err = syscall.ENOTDIR
	}
	return n, parts[len(parts)-1], err
}

// apply does a change and remembers that it is not durable.
func (m *FS) apply(c change) {
	for _, e := range c {
		if e.node == nil {
			delete(e.folder.entries, e.name)
		} else {
			e.folder.entries[e.name] = e.node
		}
		e.folder.modified = time.Now()
	}
	m.pending = append(m.pending, c)
}

// OpenFile implements vfs.FS.
func (m *FS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) (vfs.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	if l, err := m.lookup(name); err == nil && l.target != "" && flag&syscall.O_NOFOLLOW != 0 {
		return fail(syscall.ELOOP)
	}
	n, err := m.find(name)
	switch {
	case err == nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return fail(syscall.EEXIST)
	case err == nil && n.folder && writes:
		return fail(syscall.EISDIR)
	case errors.Is(err, syscall.ENOENT) && flag&os.O_CREATE != 0:
		folder, base, err := m.parent(name)
		if err == nil && folder.entries[base] != nil { // a link to what is not there: the file is not made behind it
			err = syscall.EEXIST
		}
		if err != nil {
			return fail(err)
		}
		m.numbers++
		n = &node{number: m.numbers, mode: perm.Perm(), modified: time.Now(), dirty: map[int64]struct{}{}}
		m.apply(change{{folder, base, n}})
	case err != nil:
		return fail(err)
	}
	if writes && flag&os.O_TRUNC != 0 {
		m.truncate(n, 0)
	}
	return &file{m: m, n: n, name: name, writes: writes, appends: flag&os.O_APPEND != 0}, nil
}

// Rename implements vfs.FS.
func (m *FS) Rename(from, to string) error { return m.rename("rename", from, to, true) }

// RenameNoReplace implements vfs.FS.
func (m *FS) RenameNoReplace(from, to string) error {
	return m.rename("rename without replacing", from, to, false)
}

func (m *FS) rename(op, from, to string, replace bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) error { return &os.LinkError{Op: op, Old: from, New: to, Err: err} }
	n, err := m.lookup(from)
	if err != nil {
		return fail(err)
	}
	fromFolder, fromBase, err := m.parent(from)
	if err != nil {
		return fail(err)
	}
	toFolder, toBase, err := m.parent(to)
	if err != nil {
		return fail(err)
	}
	old, exists := toFolder.entries[toBase]
	switch {
	case exists && !replace:
		return fail(syscall.EEXIST)
	case exists && old.folder:
		return fail(syscall.EISDIR)
	case old == n:
		return nil
	}
	if exists {
		m.used -= int64(len(old.data))
	}
	m.apply(change{{fromFolder, fromBase, nil}, {toFolder, toBase, n}})
	return nil
}

// Remove implements vfs.FS.
func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err == nil && n.folder && len(n.entries) > 0 {
		err = syscall.ENOTEMPTY
	}
	folder, base, e := m.parent(name)
	if err == nil {
		err = e
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	m.used -= int64(len(n.data))
	m.apply(change{{folder, base, nil}})
	return nil
}

// Mkdir implements vfs.FS.
func (m *FS) Mkdir(name string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	folder, base, err := m.parent(name)
	if err == nil && folder.entries[base] != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	m.numbers++
	n := newFolder()
	n.number = m.numbers
	m.apply(change{{folder, base, n}})
	return nil
}

// MkdirAll implements vfs.FS.
func (m *FS) MkdirAll(name string, perm fs.FileMode) error {
	at := ""
	for _, part := range split(name) {
		at += "/" + part
		info, err := m.Stat(at)
		switch {
		case err == nil && !info.IsDir():
			return &fs.PathError{Op: "mkdir", Path: at, Err: syscall.ENOTDIR}
		case err == nil:
			continue
		}
		if err := m.Mkdir(at, perm); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// ReadDir implements vfs.FS.
func (m *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && !n.folder {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var list []fs.DirEntry
	for base, e := range n.entries {
		list = append(list, fs.FileInfoToDirEntry(e.info(base)))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Stat implements vfs.FS.
func (m *FS) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.info(filepath.Base(filepath.Clean("/" + name))), nil
}

// SameFile implements vfs.FS.
func (m *FS) SameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

// MayMake implements vfs.FS: there are no permissions.
func (m *FS) MayMake(string) bool { return true }

// Free implements vfs.FS.
func (m *FS) Free(name string) (free, total uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find(name); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	if m.capacity == 0 {
		return 1 << 50, 1 << 50, nil
	}
	return uint64(max(0, m.capacity-m.used)), uint64(m.capacity), nil
}

// Files are the paths of all files, sorted, for tests. Symbolic links are none.
func (m *FS) Files() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	var walk func(at string, n *node)
	walk = func(at string, n *node) {
		for base, e := range n.entries {
			if e.folder {
				walk(at+"/"+base, e)
				continue
			}
			if e.target != "" {
				continue
			}
			list = append(list, at+"/"+base)
		}
	}
	walk("", m.root)
	slices.Sort(list)
	return list
}

type info struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
	n        *node
}

func (n *node) info(name string) fs.FileInfo {
	return info{name: name, size: int64(len(n.data)), mode: n.mode, modified: n.modified, n: n}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.modified }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return i.n }
func (i info) String() string     { return fmt.Sprintf("%s %d bytes", i.name, i.size) }
