package powerfs

import (
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// block is what a disk writes whole: a power cut leaves the old or the new content.
const block = 512

// disk is the tree, and what a power cut would leave of it. The calls of mounted nodes come
// through do.
type disk struct {
	mu      sync.Mutex
	changed sync.Cond // of what follows
	cut     bool      // the power is off: every call hangs
	over    bool      // what hangs fails with EIO
	stalled bool      // calls that write hang

	root    *node
	pending []change // of folders, not yet durable, oldest first
	number  uint64   // of the last node
	changes uint64   // made so far

	syncTime time.Duration
	failSync func(name string) bool
	syncs    int
}

// node is a file or a folder.
type node struct {
	number   uint64
	folder   bool
	name     string // under which it was made
	mode     uint32
	modified time.Time

	entries map[string]*node // of a folder
	durable map[string]*node // what a power cut leaves of them

	syncing sync.Mutex // one sync of a file at a time
	data    []byte
	synced  []byte           // what a power cut leaves of it
	dirty   map[int64]uint64 // blocks that were written since, by the write that was their last
	writes  uint64
	resized uint64 // the write that changed the length since; 0: none did
	low     int64  // the smallest length meanwhile
}

// change is one operation on folders. It is durable as a whole or not at all, as on a file system
// with a journal.
type change struct {
	nth     uint64
	entries []entry
}

type entry struct {
	folder *node
	name   string
	node   *node // nil: the name is gone
}

func newDisk() *disk {
	d := &disk{number: 1}
	d.changed.L = &d.mu
	d.root = &node{number: 1, folder: true, mode: 0o700, modified: time.Now(), entries: map[string]*node{}, durable: map[string]*node{}}
	return d
}

// do runs a call. While the power is off, and while the disk stalls for calls that write, it hangs.
func (d *disk) do(writes bool, call func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.cut || d.over || writes && d.stalled {
		if d.over {
			return syscall.EIO
		}
		d.changed.Wait()
	}
	return call()
}

func (d *disk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	d.changed.Broadcast()
}

func (d *disk) make(parent *node, name string, mode uint32, folder bool) (*node, syscall.Errno) {
	if _, ok := parent.entries[name]; ok {
		return nil, syscall.EEXIST
	}
	d.number++
	n := &node{number: d.number, folder: folder, name: name, mode: mode & 0o777, modified: time.Now()}
	if folder {
		n.entries, n.durable = map[string]*node{}, map[string]*node{}
	} else {
		n.dirty = map[int64]uint64{}
	}
	d.change(entry{parent, name, n})
	return n, 0
}

func (d *disk) remove(parent *node, name string, folder bool) syscall.Errno {
	n, ok := parent.entries[name]
	switch {
	case !ok:
		return syscall.ENOENT
	case folder && !n.folder:
		return syscall.ENOTDIR
	case folder && len(n.entries) > 0:
		return syscall.ENOTEMPTY
	case !folder && n.folder:
		return syscall.EISDIR
	}
	d.change(entry{parent, name, nil})
	return 0
}

func (d *disk) rename(from *node, name string, to *node, target string, noReplace bool) syscall.Errno {
	n, ok := from.entries[name]
	if !ok {
		return syscall.ENOENT
	}
	if old, ok := to.entries[target]; ok {
		switch {
		case noReplace:
			return syscall.EEXIST
		case old == n:
			return 0
		case old.folder != n.folder, len(old.entries) > 0:
			return syscall.ENOTEMPTY
		}
	}
	d.change(entry{from, name, nil}, entry{to, target, n})
	return 0
}

func (d *disk) change(entries ...entry) {
	d.changes++
	for _, e := range entries {
		set(e.folder.entries, e)
		e.folder.modified = time.Now()
	}
	d.pending = append(d.pending, change{d.changes, entries})
}

func set(entries map[string]*node, e entry) {
	if e.node == nil {
		delete(entries, e.name)
		return
	}
	entries[e.name] = e.node
}

// syncFolder makes durable what was changed in a folder before the call, and with it all that came
// before on the same names.
func (d *disk) syncFolder(folder *node) syscall.Errno {
	var upTo uint64
	if e := d.do(true, func() syscall.Errno { upTo = d.changes; return 0 }); e != 0 {
		return e
	}
	time.Sleep(d.syncTime)
	return d.do(true, func() syscall.Errno {
		if d.fails(folder) {
			return syscall.EIO
		}
		d.commit(folder, upTo)
		return 0
	})
}

func (d *disk) commit(folder *node, upTo uint64) {
	type key struct {
		folder *node
		name   string
	}
	names := map[key]bool{}
	chosen := make([]bool, len(d.pending))
	for i, c := range slices.Backward(d.pending) {
		if c.nth > upTo {
			continue
		}
		for _, e := range c.entries {
			chosen[i] = chosen[i] || e.folder == folder || names[key{e.folder, e.name}]
		}
		for _, e := range c.entries {
			if chosen[i] {
				names[key{e.folder, e.name}] = true
			}
		}
	}
	var rest []change
	for i, c := range d.pending {
		if !chosen[i] {
			rest = append(rest, c)
			continue
		}
		for _, e := range c.entries {
			set(e.folder.durable, e)
		}
	}
	d.pending = rest
}

func (d *disk) fails(n *node) bool {
	d.syncs++
	return d.failSync != nil && d.failSync(n.name)
}

// afterCut gives the disk that the next start finds. With a nil r nothing is left that was not
// synced; otherwise each block, each change of folders and each length that was not synced has
// reached the disk or not, by r's coin.
func (d *disk) afterCut(r *rand.Rand) *disk {
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
	for _, c := range d.pending {
		if r == nil || r.IntN(2) == 0 {
			continue
		}
		for _, e := range c.entries {
			set(entries(e.folder), e)
		}
	}
	image := newDisk()
	image.number, image.syncTime = d.number, d.syncTime
	copies := map[*node]*node{}
	var copied func(n *node) *node
	copied = func(n *node) *node {
		if c, ok := copies[n]; ok {
			return c
		}
		c := &node{number: n.number, folder: n.folder, name: n.name, mode: n.mode, modified: n.modified}
		copies[n] = c
		if !n.folder {
			c.data = n.afterCut(r)
			c.synced = slices.Clone(c.data)
			c.dirty = map[int64]uint64{}
			return c
		}
		c.entries, c.durable = map[string]*node{}, map[string]*node{}
		for _, name := range sorted(entries(n)) {
			c.entries[name] = copied(entries(n)[name])
			c.durable[name] = c.entries[name]
		}
		return c
	}
	image.root = copied(d.root)
	return image
}

// sorted are the names, in an order that a seed gives again.
func sorted(entries map[string]*node) []string {
	var names []string
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (n *node) typ() uint32 {
	if n.folder {
		return syscall.S_IFDIR
	}
	return syscall.S_IFREG
}
