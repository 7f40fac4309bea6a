package layout

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const chunk = 256 << 10

// Holds says whether the file at a path outside of the engine's folder has what
// the manifest tells, by length and checksum.
func (f *File) Holds(ctx context.Context, at string) (bool, error) {
	size, there, err := f.stat(ctx, Outside(at))
	if err != nil || !there || size != f.Manifest.Bytes {
		return false, err
	}
	sum, err := f.sum(ctx, Outside(at), size)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil // it was taken away, or changed
	}
	return err == nil && sum == f.Manifest.CRC32C, err
}

// sum reads a file. The context bounds the opening; each read has the cluster's
// own bound.
func (f *File) sum(ctx context.Context, p string, size int64) (sum uint32, err error) {
	r, err := f.Cluster.Open(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", p, err)
	}
	defer r.Close()
	buf := make([]byte, min(chunk, size))
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		sum = crc32.Update(sum, castagnoli, buf[:n])
		at += int64(n)
		if n == 0 && (err == nil || errors.Is(err, io.EOF)) {
			err = io.ErrUnexpectedEOF
		}
		if n == 0 {
			return 0, fmt.Errorf("read %s at byte %d of %d: %w", p, at, size, err)
		}
	}
	return sum, nil
}

// Find looks for a file that went astray: among the target's names it has one
// if any, and its content tells it. Two processes that take each other for dead
// may each have told another name; whichever rename came first counts. Names
// that are another file's, as its manifest says, are left out. It returns ""
// where there is none.
func (f *File) Find(ctx context.Context, others map[string]bool) (at string, err error) {
	t := f.Manifest.Target
	list, err := f.list(ctx)
	if err != nil {
		return "", err
	}
	for i := len(list) - 1; i >= 0; i-- { // the newest is the likeliest
		if _, ok := t.Number(list[i].Name); !ok || list[i].Folder || list[i].Size != f.Manifest.Bytes {
			continue
		}
		p := path.Join(t.Folder, list[i].Name)
		if _, ours := t.NumberOf(p); !ours || others[p] {
			continue
		}
		ok, err := f.Holds(ctx, p)
		if err != nil {
			return "", err
		}
		if ok {
			return p, nil
		}
	}
	return "", nil
}
