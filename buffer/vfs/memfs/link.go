package memfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxLinks is how many symbolic links a path may lead through, as on Linux.
const maxLinks = 40

// find is the node of a path, behind all symbolic links.
func (m *FS) find(name string) (*node, error) {
	for range maxLinks + 1 {
		n, to, err := m.step(name)
		if err != nil || to == "" {
			return n, err
		}
		name = to
	}
	return nil, syscall.ELOOP
}

// step is the node of a path, or where the first symbolic link on it leads.
func (m *FS) step(name string) (n *node, to string, err error) {
	n = m.root
	parts := split(name)
	for i, part := range parts {
		if !n.folder {
			return nil, "", syscall.ENOTDIR
		}
		next, ok := n.entries[part]
		if !ok {
			return nil, "", syscall.ENOENT
		}
		if next.target != "" {
			to := next.target
			if !filepath.IsAbs(to) {
				to = filepath.Join("/", filepath.Join(parts[:i]...), to)
			}
			return nil, filepath.Join(to, filepath.Join(parts[i+1:]...)), nil
		}
		n = next
	}
	return n, "", nil
}

// lookup is the node that stands under a name, which may be a symbolic link.
func (m *FS) lookup(name string) (*node, error) {
	folder, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	n, ok := folder.entries[base]
	if !ok {
		return nil, syscall.ENOENT
	}
	return n, nil
}

// Symlink implements vfs.FS.
func (m *FS) Symlink(target, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	folder, base, err := m.parent(name)
	switch {
	case err == nil && target == "":
		err = syscall.ENOENT
	case err == nil && folder.entries[base] != nil:
		err = syscall.EEXIST
	}
	if err != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: name, Err: err}
	}
	m.numbers++
	n := &node{number: m.numbers, mode: fs.ModeSymlink | 0o777, modified: time.Now(), dirty: map[int64]struct{}{}, target: target}
	m.apply(change{{folder, base, n}})
	return nil
}

// Readlink implements vfs.FS.
func (m *FS) Readlink(name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookup(name)
	if err == nil && n.target == "" {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return n.target, nil
}
