package reader

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
)

// A BufferSource is a buffer that is read: a directory of this host or, by
// HTTP, another aggregator's. Its methods may be called by many goroutines.
type BufferSource interface {
	// Name says which buffer it is, in reports and as the place of messages.
	Name() string
	// Segments lists it, shipped segments too. fs.ErrNotExist: there is none.
	Segments(ctx context.Context) ([]buffer.Segment, error)
	// Open opens a segment that Segments gave. fs.ErrNotExist: it was shipped
	// and is removed by now.
	Open(ctx context.Context, s *buffer.Segment) (*buffer.SegmentFile, error)
}

type localBuffer struct {
	fs  vfs.FS
	dir string
}

// LocalBuffer reads a buffer's directory, also while a server writes to it. It
// takes no lock and changes nothing.
func LocalBuffer(fsys vfs.FS, dir string) BufferSource { return localBuffer{fsys, dir} }

func (b localBuffer) Name() string { return "buffer" }

func (b localBuffer) Segments(context.Context) ([]buffer.Segment, error) {
	return buffer.List(b.fs, b.dir)
}

func (b localBuffer) Open(_ context.Context, s *buffer.Segment) (*buffer.SegmentFile, error) {
	f, err := buffer.OpenSegment(b.fs, s.Path)
	if errors.Is(err, fs.ErrNotExist) { // shipped since it was listed
		f, err = buffer.OpenSegment(b.fs, strings.TrimSuffix(s.Path, ".seg")+".shipped")
	}
	return f, err
}
