package memfs

import (
	"io/fs"
	"math/rand/v2"
	"syscall"
)

// block is what a disk writes whole: a crash leaves the old or the new content.
const block = 512

func (f *file) sync(op string) error {
	m := f.m
	m.mu.Lock()
	fail, hook := m.syncFail, m.onSync
	m.mu.Unlock()
	if err := f.isClosed(); err != nil {
		return f.fail(op, err)
	}
	if fail != nil {
		if err := fail(f.name); err != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			clear(f.n.dirty)
			f.n.resize = false
			return f.fail(op, err)
		}
	}
	m.mu.Lock()
	f.n.save()
	m.mu.Unlock()
	if hook != nil {
		hook()
	}
	return nil
}

// save makes what was written since the last sync durable, and nothing else:
// blocks that a failed sync has marked clean stay lost.
func (n *node) save() {
	if n.resize {
		n.synced = resized(n.synced[:min(n.low, int64(len(n.synced)))], int64(len(n.data)))
	}
	for b := range n.dirty {
		from, to := b*block, min((b+1)*block, int64(len(n.data)))
		if from >= to {
			continue
		}
		if to > int64(len(n.synced)) {
			n.synced = resized(n.synced, to)
		}
		copy(n.synced[from:to], n.data[from:to])
	}
	clear(n.dirty)
	n.resize = false
}

func resized(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// SyncDir implements vfs.FS.
func (m *FS) SyncDir(name string) error {
	m.mu.Lock()
	fail, hook := m.syncFail, m.onSync
	n, err := m.find(name)
	if err == nil && !n.folder {
		err = syscall.ENOTDIR
	}
	m.mu.Unlock()
	if err == nil && fail != nil {
		err = fail(name)
	}
	if err != nil {
		return &fs.PathError{Op: "sync folder", Path: name, Err: err}
	}
	m.mu.Lock()
	m.commit(n)
	m.mu.Unlock()
	if hook != nil {
		hook()
	}
	return nil
}

// commit makes the pending changes of a folder durable, and with them all that
// came before on the same names.
func (m *FS) commit(folder *node) {
	type key struct {
		folder *node
		name   string
	}
	chosen := make([]bool, len(m.pending))
	names := map[key]bool{}
	for i := len(m.pending) - 1; i >= 0; i-- {
		for _, e := range m.pending[i] {
			chosen[i] = chosen[i] || e.folder == folder || names[key{e.folder, e.name}]
		}
		if chosen[i] {
			for _, e := range m.pending[i] {
				names[key{e.folder, e.name}] = true
			}
		}
	}
	var rest []change
	for i, c := range m.pending {
		if !chosen[i] {
			rest = append(rest, c)
			continue
		}
		for _, e := range c {
			set(e.folder.durable, e)
		}
	}
	m.pending = rest
}

func set(entries map[string]*node, e entry) {
	if e.node == nil {
		delete(entries, e.name)
		return
	}
	entries[e.name] = e.node
}

// Crash gives the file system that the next start finds after a power cut at
// this moment; this one goes on as if nothing had been. With a nil r nothing
// survives that was not synced. Otherwise each block of 512 bytes, each change
// of a folder and each length that was not synced has reached the disk or not,
// by r's coin.
func (m *FS) Crash(r *rand.Rand) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := map[*node]map[string]*node{}
	entries := func(n *node) map[string]*node {
		if kept[n] == nil {
			kept[n] = map[string]*node{}
			for name, e := range n.durable {
				kept[n][name] = e
			}
		}
		return kept[n]
	}
	for _, c := range m.pending {
		if r == nil || r.IntN(2) == 0 {
			continue
		}
		for _, e := range c {
			set(entries(e.folder), e)
		}
	}
	image := &FS{capacity: m.capacity, numbers: m.numbers}
	copies := map[*node]*node{}
	var copied func(n *node) *node
	copied = func(n *node) *node {
		if c, ok := copies[n]; ok {
			return c
		}
		c := &node{number: n.number, folder: n.folder, mode: n.mode, modified: n.modified, target: n.target}
		copies[n] = c
		if !n.folder {
			c.data = n.afterCrash(r)
			c.synced = append([]byte(nil), c.data...)
			c.dirty = map[int64]struct{}{}
			image.used += int64(len(c.data))
			return c
		}
		c.entries, c.durable = map[string]*node{}, map[string]*node{}
		for name, e := range entries(n) {
			c.entries[name] = copied(e)
			c.durable[name] = c.entries[name]
		}
		return c
	}
	image.root = copied(m.root)
	return image
}

// afterCrash is what a crash leaves of a file's content.
func (n *node) afterCrash(r *rand.Rand) []byte {
	b := append([]byte(nil), n.synced...)
	if r == nil {
		return b
	}
	if n.resize {
		if n.low < int64(len(b)) && r.IntN(2) == 0 {
			b = b[:n.low:n.low]
		}
		switch from, to := int64(len(b)), int64(len(n.data)); {
		case to > from:
			b = resized(b, from+r.Int64N(to-from+1))
		case r.IntN(2) == 0:
			b = b[:to]
		}
	}
	for at := int64(0); at < int64(len(n.data)); at += block {
		if _, dirty := n.dirty[at/block]; !dirty || r.IntN(2) == 0 {
			continue
		}
		if at < int64(len(b)) {
			copy(b[at:], n.data[at:min(at+block, int64(len(n.data)))])
		}
	}
	return b
}
