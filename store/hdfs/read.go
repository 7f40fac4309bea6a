package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/colinmarc/hdfs/v2"

	"twinscribe/store/cluster"
)

// Stat implements cluster.Cluster.
func (c *Cluster) Stat(ctx context.Context, p string) (cluster.Info, error) {
	p, err := c.abs(p)
	if err != nil {
		return cluster.Info{}, err
	}
	l, err := c.library(ctx)
	if err != nil {
		return cluster.Info{}, err
	}
	defer l.Close()
	i, err := l.Stat(p)
	if err != nil {
		return cluster.Info{}, fmt.Errorf("stat %s: %w", p, l.bridge.cause(err))
	}
	return info(i), nil
}

func info(i fs.FileInfo) cluster.Info {
	return cluster.Info{Name: i.Name(), Size: i.Size(), Folder: i.IsDir(), Modified: i.ModTime()}
}

// List implements cluster.Cluster.
func (c *Cluster) List(ctx context.Context, folder string) ([]cluster.Info, error) {
	p, err := c.abs(folder)
	if err != nil {
		return nil, err
	}
	l, err := c.library(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	entries, err := l.ReadDir(p)
	if err != nil {
		if err = l.bridge.cause(err); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list %s: %w", p, err)
	}
	infos := make([]cluster.Info, len(entries))
	for i, e := range entries {
		infos[i] = info(e)
	}
	slices.SortFunc(infos, func(a, b cluster.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos, nil
}

// Open implements cluster.Cluster. ctx bounds the opening; afterwards each
// silence of the NameNode or of a DataNode is bounded by the cluster's timeouts.
// What is read is what the NameNode knew of the file then: of one being
// written, what its writer had published.
func (c *Cluster) Open(ctx context.Context, p string) (cluster.Reader, error) {
	p, err := c.abs(p)
	if err != nil {
		return nil, err
	}
	l, err := c.library(ctx)
	if err != nil {
		return nil, err
	}
	f, err := l.Open(p)
	if err == nil && f.Stat().IsDir() {
		err = errors.New("it is a folder")
	}
	if err != nil {
		err = l.bridge.cause(err)
		l.Close()
		return nil, fmt.Errorf("open %s: %w", p, err)
	}
	l.bridge.use(c.life, c.nn) //nolint:contextcheck // the places of its blocks are asked for later, when the caller's may be over
	r := &reader{path: p, l: l, f: f, size: f.Stat().Size(), turn: make(chan struct{}, 1), closed: make(chan struct{})}
	r.turn <- struct{}{}
	return r, nil
}

// A reader reads one file through the library. Its methods may be called by
// many goroutines; they take turns.
type reader struct {
	path   string
	l      *library
	size   int64
	once   sync.Once
	closed chan struct{}

	turn chan struct{} // holds one token: who has it owns what is below
	f    *hdfs.FileReader
	at   int64 // where f is
	off  int64 // of Read
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.hold(); err != nil {
		return 0, err
	}
	defer r.release()
	n, err := r.read(p, r.off)
	r.off += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: offset %d", r.path, off)
	}
	if err := r.hold(); err != nil {
		return 0, err
	}
	defer r.release()
	n := 0
	for n < len(p) {
		k, err := r.read(p[n:], off+int64(n))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *reader) hold() error {
	select {
	case <-r.closed:
		return fmt.Errorf("read %s: %w", r.path, fs.ErrClosed)
	case <-r.turn:
		return nil
	}
}

func (r *reader) release() { r.turn <- struct{}{} }

// read gives some bytes at off. The library moves only if it must, since each
// move is a new connection; and it never sees a buffer beyond the size that
// the file had, since a DataNode sends the last chunk whole, with what was
// written after that.
func (r *reader) read(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	if int64(len(p)) > r.size-off {
		p = p[:r.size-off]
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off != r.at {
		if _, err := r.f.Seek(off, io.SeekStart); err != nil {
			return 0, fmt.Errorf("read %s: %w", r.path, err)
		}
		r.at = off
	}
	n, err := r.f.Read(p)
	r.at += int64(n)
	if n > 0 {
		return n, nil // an error is met again
	}
	if errors.Is(err, io.EOF) || err == nil {
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("read %s at %d of %d: %w", r.path, off, r.size, r.l.bridge.cause(err))
}

// Close implements io.Closer. It ends reads that are under way.
func (r *reader) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.l.Close()
	})
	return nil
}
