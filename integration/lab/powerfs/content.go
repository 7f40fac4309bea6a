package powerfs

import (
	"math/rand/v2"
	"syscall"
	"time"
)

func (n *node) write(p []byte, at int64) {
	end := at + int64(len(p))
	if end > int64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[at:], p)
	n.writes++
	for b := at / block; b*block < end; b++ {
		n.dirty[b] = n.writes
	}
	n.modified = time.Now()
}

// resize also makes dirty the block that holds the old end: what lies behind it is zero now.
func (n *node) resize(size int64) {
	old := int64(len(n.data))
	n.writes++
	if n.resized == 0 {
		n.low = old
	}
	n.resized = n.writes
	n.low = min(n.low, size)
	n.data = resized(n.data, size)
	if size > old && old%block != 0 {
		n.dirty[old/block] = n.writes
	}
	n.modified = time.Now()
}

func resized(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// saving is what a sync has to make durable: what was there when it began.
type saving struct {
	blocks    map[int64]dirtyBlock
	resized   uint64
	low, size int64
}

type dirtyBlock struct {
	write   uint64
	content []byte
}

func (n *node) save() saving {
	s := saving{map[int64]dirtyBlock{}, n.resized, n.low, int64(len(n.data))}
	for b, write := range n.dirty {
		if from, to := b*block, min((b+1)*block, s.size); from < to {
			s.blocks[b] = dirtyBlock{write, append([]byte(nil), n.data[from:to]...)}
		}
	}
	return s
}

// done ends a sync. Where it failed the blocks count as clean all the same, as on Linux: they can
// be read until the power is cut, and a later sync that succeeds does not save them.
func (n *node) done(s saving, failed bool) {
	if s.resized > 0 && !failed {
		n.synced = resized(n.synced[:min(s.low, int64(len(n.synced)))], s.size)
	}
	for b, d := range s.blocks {
		from, to := b*block, b*block+int64(len(d.content))
		if !failed {
			if to > int64(len(n.synced)) {
				n.synced = resized(n.synced, to)
			}
			copy(n.synced[from:to], d.content)
		}
	}
	for b, write := range n.dirty {
		if d, ok := s.blocks[b]; ok && d.write == write || b*block >= int64(len(n.data)) {
			delete(n.dirty, b)
		}
	}
	if n.resized == s.resized {
		n.resized = 0
	}
}

func (d *disk) sync(n *node) syscall.Errno {
	n.syncing.Lock()
	defer n.syncing.Unlock()
	var s saving
	if e := d.do(true, func() syscall.Errno { s = n.save(); return 0 }); e != 0 {
		return e
	}
	time.Sleep(d.syncTime)
	return d.do(true, func() syscall.Errno {
		failed := d.fails(n)
		n.done(s, failed)
		if failed {
			return syscall.EIO
		}
		return 0
	})
}

// afterCut is what a power cut leaves of a file's content.
func (n *node) afterCut(r *rand.Rand) []byte {
	b := append([]byte(nil), n.synced...)
	if r == nil {
		return b
	}
	size := int64(len(n.data))
	if n.resized > 0 {
		if n.low < int64(len(b)) && r.IntN(2) == 0 {
			b = b[:n.low:n.low]
		}
		switch from := int64(len(b)); {
		case size > from:
			b = resized(b, from+r.Int64N(size-from+1))
		case r.IntN(2) == 0:
			b = b[:size]
		}
	}
	for at := int64(0); at < size; at += block {
		if _, dirty := n.dirty[at/block]; !dirty || r.IntN(2) == 0 {
			continue
		}
		if at < int64(len(b)) {
			copy(b[at:], n.data[at:min(at+block, size)])
		}
	}
	return b
}
