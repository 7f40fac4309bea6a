package hdfstest

import (
	"fmt"
	"path"
	"slices"
)

// status is an HdfsFileStatusProto, nil if there is nothing.
func (ns *namespace) status(p, name string) m {
	s := m(nil)
	f := ns.files[p]
	switch {
	case f != nil:
		s = s.uint(1, 2).str(2, name).uint(3, uint64(f.length()))
	case ns.folders[p]:
		s = s.uint(1, 1).str(2, name).uint(3, 0)
	default:
		return nil
	}
	s = s.bytes(4, m(nil).uint(1, 0o644)).str(5, "scribe").str(6, "users")
	if f == nil {
		return s.uint(7, 0).uint(8, 0)
	}
	at := uint64(f.modified.UnixMilli())
	return s.uint(7, at).uint(8, at).uint(10, uint64(f.replication)).uint(11, uint64(f.blockSize)).uint(13, f.id)
}

// pageEntries is how many entries a getListing answers.
const pageEntries = 5

func (ns *namespace) listing(q fields) (m, *exception) {
	folder, after := q.str(1), q.str(2)
	if !ns.folders[folder] {
		return nil, nil
	}
	var names []string
	for p := range ns.files {
		if path.Dir(p) == folder {
			names = append(names, path.Base(p))
		}
	}
	for p := range ns.folders {
		if p != "/" && path.Dir(p) == folder {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(n string) bool { return n <= after })
	page := names[:min(pageEntries, len(names))]
	d := m(nil)
	for _, n := range page {
		d = d.bytes(1, ns.status(path.Join(folder, n), n))
	}
	return m(nil).bytes(1, d.uint(2, uint64(len(names)-len(page)))), nil
}

func (ns *namespace) locations(c *Cluster, q fields) (m, *exception) {
	f := ns.files[q.str(1)]
	if f == nil {
		return nil, notFound(q.str(1))
	}
	l := m(nil).uint(1, uint64(f.length()))
	var at int64
	for _, b := range f.blocks {
		l = l.bytes(2, c.located(b, at))
		at += b.size
	}
	l = l.bool(3, f.holder != "").bool(5, f.holder == "")
	return m(nil).bytes(1, l), nil
}

// located is a LocatedBlockProto.
func (c *Cluster) located(b *blk, offset int64) m {
	id := m(nil).str(1, pool).uint(2, b.id).uint(3, b.gen).uint(4, uint64(b.size))
	l := m(nil).bytes(1, id).uint(2, uint64(offset))
	for _, i := range b.expected {
		l = l.bytes(3, c.dns[i].info())
	}
	l = l.bool(4, false).bytes(5, m(nil).str(1, token(b.id)).str(2, "").str(3, "").str(4, ""))
	for range b.expected {
		l = l.uint(7, 1)
	}
	for _, i := range b.expected {
		l = l.str(8, fmt.Sprintf("DS-%d", i))
	}
	return l
}

// token is what lets a client use a block.
func token(id uint64) string { return fmt.Sprintf("token-%d", id) }
