package powerfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// mounted is a node as the kernel sees it. Files have no handle of their own and are opened for
// direct I/O: the kernel keeps none of their pages, so that every write comes here at once.
type mounted struct {
	fs.Inode
	d *disk
	n *node
}

var (
	_ fs.NodeLookuper  = (*mounted)(nil)
	_ fs.NodeReaddirer = (*mounted)(nil)
	_ fs.NodeCreater   = (*mounted)(nil)
	_ fs.NodeMkdirer   = (*mounted)(nil)
	_ fs.NodeUnlinker  = (*mounted)(nil)
	_ fs.NodeRmdirer   = (*mounted)(nil)
	_ fs.NodeRenamer   = (*mounted)(nil)
	_ fs.NodeOpener    = (*mounted)(nil)
	_ fs.NodeReader    = (*mounted)(nil)
	_ fs.NodeWriter    = (*mounted)(nil)
	_ fs.NodeFsyncer   = (*mounted)(nil)
	_ fs.NodeGetattrer = (*mounted)(nil)
	_ fs.NodeSetattrer = (*mounted)(nil)
	_ fs.NodeStatfser  = (*mounted)(nil)
)

const (
	blockSize = 4096
	blocks    = 16 << 20 // 64 GiB
)

func (m *mounted) inode(ctx context.Context, n *node, out *fuse.EntryOut) *fs.Inode {
	attributes(n, &out.Attr)
	return m.NewInode(ctx, &mounted{d: m.d, n: n}, fs.StableAttr{Mode: n.typ(), Ino: n.number})
}

func attributes(n *node, out *fuse.Attr) {
	out.Mode = n.typ() | n.mode
	out.Size = uint64(len(n.data))
	out.Blocks = (out.Size + block - 1) / block
	out.Ino = n.number
	out.SetTimes(nil, &n.modified, &n.modified)
}

func (m *mounted) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (i *fs.Inode, e syscall.Errno) {
	e = m.d.do(false, func() syscall.Errno {
		n, ok := m.n.entries[name]
		if !ok {
			return syscall.ENOENT
		}
		i = m.inode(ctx, n, out)
		return 0
	})
	return i, e
}

func (m *mounted) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var list []fuse.DirEntry
	e := m.d.do(false, func() syscall.Errno {
		for _, name := range sorted(m.n.entries) {
			n := m.n.entries[name]
			list = append(list, fuse.DirEntry{Name: name, Mode: n.typ(), Ino: n.number})
		}
		return 0
	})
	return fs.NewListDirStream(list), e
}

func (m *mounted) make(ctx context.Context, name string, mode uint32, folder bool, out *fuse.EntryOut) (i *fs.Inode, e syscall.Errno) {
	e = m.d.do(true, func() syscall.Errno {
		n, e := m.d.make(m.n, name, mode, folder)
		if e == 0 {
			i = m.inode(ctx, n, out)
		}
		return e
	})
	return i, e
}

func (m *mounted) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	i, e := m.make(ctx, name, mode, false, out)
	return i, nil, fuse.FOPEN_DIRECT_IO, e
}

func (m *mounted) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return m.make(ctx, name, mode, true, out)
}

func (m *mounted) Unlink(_ context.Context, name string) syscall.Errno {
	return m.d.do(true, func() syscall.Errno { return m.d.remove(m.n, name, false) })
}

func (m *mounted) Rmdir(_ context.Context, name string) syscall.Errno {
	return m.d.do(true, func() syscall.Errno { return m.d.remove(m.n, name, true) })
}

func (m *mounted) Rename(_ context.Context, name string, to fs.InodeEmbedder, target string, flags uint32) syscall.Errno {
	if flags&^uint32(unix.RENAME_NOREPLACE) != 0 {
		return syscall.EINVAL
	}
	parent, ok := to.(*mounted)
	if !ok {
		return syscall.EXDEV
	}
	return m.d.do(true, func() syscall.Errno {
		return m.d.rename(m.n, name, parent.n, target, flags&unix.RENAME_NOREPLACE != 0)
	})
}

func (m *mounted) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, m.d.do(false, func() syscall.Errno { return 0 })
}

func (m *mounted) Read(_ context.Context, _ fs.FileHandle, p []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	count := 0
	e := m.d.do(false, func() syscall.Errno {
		if at < int64(len(m.n.data)) {
			count = copy(p, m.n.data[at:])
		}
		return 0
	})
	return fuse.ReadResultData(p[:count]), e
}

func (m *mounted) Write(_ context.Context, _ fs.FileHandle, p []byte, at int64) (uint32, syscall.Errno) {
	e := m.d.do(true, func() syscall.Errno { m.n.write(p, at); return 0 })
	if e != 0 {
		return 0, e
	}
	return uint32(len(p)), 0
}

func (m *mounted) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if m.n.folder {
		return m.d.syncFolder(m.n)
	}
	return m.d.sync(m.n)
}

func (m *mounted) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return m.d.do(false, func() syscall.Errno { attributes(m.n, &out.Attr); return 0 })
}

func (m *mounted) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return m.d.do(true, func() syscall.Errno {
		if size, ok := in.GetSize(); ok && !m.n.folder {
			m.n.resize(int64(size))
		}
		if mode, ok := in.GetMode(); ok {
			m.n.mode = mode & 0o777
		}
		if at, ok := in.GetMTime(); ok {
			m.n.modified = at
		}
		attributes(m.n, &out.Attr)
		return 0
	})
}

func (m *mounted) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = blockSize, blockSize, 255
	out.Blocks, out.Bfree, out.Bavail = blocks, blocks, blocks
	return 0
}
