package hdfstest

import (
	"fmt"
	"path"
	"strings"
	"time"
)

const (
	hdfsPackage = "org.apache.hadoop.hdfs."
	pool        = "BP-1"
)

type callKey struct {
	client string
	call   int32
}

// A namespace is what NameNodes know.
type namespace struct {
	files   map[string]*file
	folders map[string]bool
	ids     uint64
	gens    uint64
	safe    bool
	turn    int // whom the next block goes to first
	done    map[callKey][]byte
}

type file struct {
	id          uint64
	holder      string // of the lease; "": closed
	replication int
	blockSize   int64
	blocks      []*blk
	modified    time.Time
	recovering  bool
}

// A blk is a block as NameNodes see it.
type blk struct {
	id, gen  uint64
	size     int64
	settled  bool         // its writer, or a recovery, has said its size for good
	expected []int        // DataNodes of its pipeline
	reported map[int]bool // those that finished their replica under gen
}

func (ns *namespace) init() {
	ns.files, ns.folders, ns.done = map[string]*file{}, map[string]bool{"/": true}, map[callKey][]byte{}
	ns.ids, ns.gens = 1000, 1000
}

func (f *file) length() (n int64) {
	for _, b := range f.blocks {
		n += b.size
	}
	return n
}

func (f *file) last() *blk {
	if len(f.blocks) == 0 {
		return nil
	}
	return f.blocks[len(f.blocks)-1]
}

// do is every method. The cluster's mu is held.
func (ns *namespace) do(c *Cluster, method string, q fields) (m, *exception) {
	if ns.safe {
		switch method {
		case "getFileInfo", "getListing", "getBlockLocations", "getServerDefaults", "isFileClosed", "renewLease":
		default:
			return nil, &exception{hdfsPackage + "server.namenode.SafeModeException", "Cannot " + method + ". Name node is in safe mode."}
		}
	}
	switch method {
	case "create":
		return ns.create(q)
	case "addBlock":
		return ns.addBlock(c, q)
	case "abandonBlock":
		return ns.abandonBlock(q)
	case "complete":
		return ns.complete(q)
	case "updateBlockForPipeline":
		return ns.updateBlock(c, q)
	case "updatePipeline":
		return ns.updatePipeline(c, q)
	case "getAdditionalDatanode":
		return ns.additional(c, q)
	case "fsync":
		f, e := ns.lease(q.str(1), q.str(2), q.num(4))
		if e == nil && f.last() != nil {
			f.last().size = int64(q.num(3) >> 1)
		}
		return nil, e
	case "renewLease":
		return nil, nil
	case "recoverLease":
		return ns.recoverLease(c, q)
	case "isFileClosed":
		f := ns.files[q.str(1)]
		if f == nil {
			return nil, notFound(q.str(1))
		}
		return m(nil).bool(1, f.holder == ""), nil
	case "truncate":
		return ns.truncate(c, q)
	case "rename2":
		return ns.rename(q)
	case "mkdirs":
		return ns.mkdirs(q)
	case "delete":
		return ns.remove(q)
	case "getServerDefaults":
		d := m(nil).uint(1, 128<<20).uint(2, 512).uint(3, 65536).uint(4, uint64(c.o.Replication)).uint(5, 4096).uint(8, 2)
		return m(nil).bytes(1, d), nil
	case "getFileInfo":
		if s := ns.status(q.str(1), ""); s != nil {
			return m(nil).bytes(1, s), nil
		}
		return nil, nil
	case "getListing":
		return ns.listing(q)
	case "getBlockLocations":
		return ns.locations(c, q)
	}
	return nil, &exception{"org.apache.hadoop.ipc.RpcNoSuchMethodException", "Unknown method " + method}
}

func notFound(p string) *exception {
	return &exception{"java.io.FileNotFoundException", "File does not exist: " + p}
}

// lease is the open file that a writer holds.
func (ns *namespace) lease(p, holder string, id uint64) (*file, *exception) {
	f := ns.files[p]
	if f == nil || id != 0 && f.id != id {
		f = nil
		for _, o := range ns.files { // by id: it may have been renamed
			if o.id == id {
				f = o
			}
		}
	}
	if f == nil {
		return nil, &exception{"java.io.FileNotFoundException", "File does not exist: " + p + " (inode " + fmt.Sprint(id) + ")"}
	}
	if f.holder != holder {
		return nil, &exception{hdfsPackage + "server.namenode.LeaseExpiredException", "Client " + holder + " does not hold a lease on " + p}
	}
	return f, nil
}

func (ns *namespace) create(q fields) (m, *exception) {
	p := q.str(1)
	if ns.files[p] != nil && ns.files[p].holder != "" {
		return nil, &exception{hdfsPackage + "protocol.AlreadyBeingCreatedException", "Failed to CREATE_FILE " + p}
	}
	if ns.files[p] != nil || ns.folders[p] {
		return nil, &exception{"org.apache.hadoop.fs.FileAlreadyExistsException", p + " for client 10.0.0.9 already exists"}
	}
	if q.num(4) != 0x81 {
		return nil, &exception{"java.io.IOException", fmt.Sprintf("create flags %#x: want CREATE and SHOULD_REPLICATE", q.num(4))}
	}
	if e := ns.makeFolders(path.Dir(p)); e != nil {
		return nil, e
	}
	ns.ids++
	ns.files[p] = &file{id: ns.ids, holder: q.str(3), replication: int(q.num(6)), blockSize: int64(q.num(7)), modified: time.Now()}
	return m(nil).bytes(1, ns.status(p, "")), nil
}

func (ns *namespace) makeFolders(p string) *exception {
	for d := p; d != "/"; d = path.Dir(d) {
		if ns.files[d] != nil {
			return &exception{"org.apache.hadoop.fs.ParentNotDirectoryException", d + " is not a directory"}
		}
		ns.folders[d] = true
	}
	return nil
}

func (ns *namespace) mkdirs(q fields) (m, *exception) {
	if e := ns.makeFolders(q.str(1)); e != nil {
		return nil, e
	}
	return m(nil).bool(1, true), nil
}

// choose finds n DataNodes that are not among avoid.
func (ns *namespace) choose(c *Cluster, n int, avoid map[string]bool) (ds []int) {
	ns.turn++
	for i := range c.dns {
		d := (ns.turn + i) % len(c.dns)
		if dn := c.dns[d]; !avoid[dn.addr()] && !dn.forgotten && len(ds) < n {
			ds = append(ds, d)
		}
	}
	return ds
}

func infoAddrs(infos [][]byte) map[string]bool {
	as := map[string]bool{}
	for _, b := range infos {
		f, _ := read(b)
		as[addrOf(f.sub(1))] = true
	}
	return as
}

func addrOf(id fields) string { return fmt.Sprintf("%s:%d", id.str(1), id.num(4)) }

func (ns *namespace) addBlock(c *Cluster, q fields) (m, *exception) {
	f, e := ns.lease(q.str(1), q.str(2), q.num(5))
	if e != nil {
		return nil, e
	}
	bad := func(s string) (m, *exception) { return nil, &exception{"java.io.IOException", "addBlock: " + s} }
	last := f.last()
	if prev := q.sub(3); q.raw(3) == nil {
		if last != nil && (len(f.blocks) > 1 || last.size > 0) {
			return bad("no previous block, yet there is one")
		}
		if last != nil { // asked for again
			return m(nil).bytes(1, c.located(last, 0)), nil
		}
	} else {
		if n := len(f.blocks); n > 1 && f.blocks[n-2].id == prev.num(2) && last.size == 0 {
			return m(nil).bytes(1, c.located(last, 0)), nil
		}
		if last == nil || last.id != prev.num(2) || last.gen != prev.num(3) {
			return bad("previous block is not the last one")
		}
		last.size, last.settled = int64(prev.num(4)), true
		if len(last.reported) == 0 {
			return nil, &exception{hdfsPackage + "server.namenode.NotReplicatedYetException", "Not replicated yet: " + q.str(1)}
		}
	}
	ds := ns.choose(c, f.replication, infoAddrs(q.s[4]))
	if len(ds) == 0 {
		return nil, &exception{"java.io.IOException", "File " + q.str(1) + " could only be written to 0 of the 1 minReplication nodes. There are 3 datanode(s) running"}
	}
	ns.ids++
	ns.gens++
	b := &blk{id: ns.ids, gen: ns.gens, expected: ds, reported: map[int]bool{}}
	f.blocks = append(f.blocks, b)
	return m(nil).bytes(1, c.located(b, 0)), nil
}

func (ns *namespace) abandonBlock(q fields) (m, *exception) {
	f, e := ns.lease(q.str(2), q.str(3), q.num(4))
	if e != nil {
		return nil, e
	}
	if l := f.last(); l != nil && l.id == q.sub(1).num(2) {
		f.blocks = f.blocks[:len(f.blocks)-1]
	}
	return nil, nil
}

func (ns *namespace) complete(q fields) (m, *exception) {
	f, e := ns.lease(q.str(1), q.str(2), q.num(4))
	prev := q.sub(3)
	if e != nil {
		for _, o := range ns.files { // a repeat of one that worked
			if l := o.last(); o.id == q.num(4) && o.holder == "" && (l == nil || l.id == prev.num(2) && l.gen == prev.num(3)) {
				return m(nil).bool(1, true), nil
			}
		}
		return nil, e
	}
	if l := f.last(); l != nil {
		if l.id != prev.num(2) || l.gen != prev.num(3) {
			return nil, &exception{"java.io.IOException", "complete: not the last block"}
		}
		l.size, l.settled = int64(prev.num(4)), true
		if len(l.reported) == 0 {
			return m(nil).bool(1, false), nil
		}
	}
	f.holder, f.modified = "", time.Now()
	return m(nil).bool(1, true), nil
}

// writing finds the open file whose last block is meant.
func (ns *namespace) writing(id uint64, holder string) (*blk, *exception) {
	for _, f := range ns.files {
		if l := f.last(); l != nil && l.id == id {
			if f.holder == "" {
				return nil, &exception{"java.io.IOException", fmt.Sprintf("blk_%d is COMPLETE but not UNDER_CONSTRUCTION", id)}
			}
			if f.holder != holder {
				return nil, &exception{hdfsPackage + "server.namenode.LeaseExpiredException", "lease mismatch"}
			}
			return l, nil
		}
	}
	return nil, &exception{"java.io.IOException", fmt.Sprintf("blk_%d does not exist or is not under Construction", id)}
}

func (ns *namespace) updateBlock(c *Cluster, q fields) (m, *exception) {
	b, e := ns.writing(q.sub(1).num(2), q.str(2))
	if e != nil {
		return nil, e
	}
	ns.gens++
	n := *b
	n.gen, n.expected = ns.gens, nil
	return m(nil).bytes(1, c.located(&n, 0)), nil
}

func (ns *namespace) updatePipeline(c *Cluster, q fields) (m, *exception) {
	from, to := q.sub(2), q.sub(3)
	b, e := ns.writing(from.num(2), q.str(1))
	if e != nil {
		return nil, e
	}
	if b.gen != from.num(3) || to.num(3) <= b.gen || int64(to.num(4)) < b.size || len(q.s[4]) != len(q.s[5]) {
		return nil, &exception{"java.io.IOException", fmt.Sprintf("Update %d to %d but the block is %d", from.num(3), to.num(3), b.gen)}
	}
	b.gen, b.expected, b.reported = to.num(3), nil, map[int]bool{}
	for _, id := range q.s[4] {
		f, _ := read(id)
		for i, d := range c.dns {
			if d.addr() == addrOf(f) {
				b.expected = append(b.expected, i)
				if r := d.replicas[b.id]; r != nil && r.final && r.gen == b.gen {
					b.reported[i] = true
				}
			}
		}
	}
	return nil, nil
}

func (ns *namespace) additional(c *Cluster, q fields) (m, *exception) {
	b, e := ns.writing(q.sub(2).num(2), q.str(6))
	if e != nil {
		return nil, e
	}
	have := infoAddrs(q.s[3])
	avoid := infoAddrs(q.s[4])
	n := *b
	n.expected = nil
	for i, d := range c.dns {
		if have[d.addr()] {
			n.expected = append(n.expected, i)
			avoid[d.addr()] = true
		}
	}
	n.expected = append(n.expected, ns.choose(c, int(q.num(5)), avoid)...)
	return m(nil).bytes(1, c.located(&n, 0)), nil
}

func (ns *namespace) recoverLease(c *Cluster, q fields) (m, *exception) {
	f := ns.files[q.str(1)]
	if f == nil {
		return nil, notFound(q.str(1))
	}
	if f.holder == "" {
		return m(nil).bool(1, true), nil
	}
	if !f.recovering { // the work goes to a DataNode: it takes its time
		f.recovering, f.holder = true, "recovery"
		return m(nil).bool(1, false), nil
	}
	if b := f.last(); b != nil && !b.settled {
		size := int64(-1)
		var on []*replica
		for _, i := range b.expected {
			d := c.dns[i]
			if r := d.replicas[b.id]; r != nil && !d.dead && !d.frozen && r.gen >= b.gen {
				on = append(on, r)
				if size < 0 || r.size() < size {
					size = r.size()
				}
			}
		}
		if len(on) == 0 && len(b.expected) > 0 && b.size > 0 {
			return m(nil).bool(1, false), nil
		}
		if size <= 0 {
			f.blocks = f.blocks[:len(f.blocks)-1]
		} else {
			ns.gens++
			b.gen, b.size, b.settled = ns.gens, size, true
			for _, r := range on {
				r.cut(size)
				r.gen, r.final = b.gen, true
			}
		}
	}
	f.holder, f.recovering = "", false
	return m(nil).bool(1, true), nil
}

func (ns *namespace) truncate(c *Cluster, q fields) (m, *exception) {
	f := ns.files[q.str(1)]
	size := int64(q.num(2))
	switch {
	case f == nil:
		return nil, notFound(q.str(1))
	case f.holder != "":
		return nil, &exception{hdfsPackage + "protocol.AlreadyBeingCreatedException", "Failed to TRUNCATE_FILE"}
	case size > f.length():
		return nil, &exception{"org.apache.hadoop.HadoopIllegalArgumentException", "Cannot truncate to a larger file size"}
	case size == f.length():
		return m(nil).bool(1, true), nil
	}
	for len(f.blocks) > 0 && f.length()-f.last().size >= size {
		f.blocks = f.blocks[:len(f.blocks)-1]
	}
	if f.length() == size {
		return m(nil).bool(1, true), nil
	}
	b := f.last()
	b.size -= f.length() - size
	for _, d := range c.dns {
		if r := d.replicas[b.id]; r != nil {
			r.cut(b.size)
		}
	}
	f.holder, f.recovering = "truncate", true // until somebody asks for the lease
	return m(nil).bool(1, false), nil
}

func (ns *namespace) rename(q fields) (m, *exception) {
	from, to := q.str(1), q.str(2)
	f := ns.files[from]
	if f == nil {
		return nil, notFound(from)
	}
	if ns.files[to] != nil && q.num(3) == 0 {
		return nil, &exception{"org.apache.hadoop.fs.FileAlreadyExistsException", "rename destination " + to + " already exists"}
	}
	if !ns.folders[path.Dir(to)] {
		return nil, &exception{"java.io.FileNotFoundException", "rename destination parent " + to + " not found."}
	}
	delete(ns.files, from)
	ns.files[to] = f
	return nil, nil
}

func (ns *namespace) remove(q fields) (m, *exception) {
	p := q.str(1)
	if ns.folders[p] {
		for o := range ns.files {
			if strings.HasPrefix(o, p+"/") {
				return nil, &exception{"org.apache.hadoop.fs.PathIsNotEmptyDirectoryException", p + " is non empty': Directory is not empty"}
			}
		}
		delete(ns.folders, p)
		return m(nil).bool(1, true), nil
	}
	ok := ns.files[p] != nil
	delete(ns.files, p)
	return m(nil).bool(1, ok), nil
}
