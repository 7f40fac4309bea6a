package reader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
)

// Limits of reading a buffer by HTTP.
const (
	dialTimeout   = 3 * time.Second
	answerTimeout = 10 * time.Second // for the header of an answer
	listTimeout   = 60 * time.Second
	pieceTimeout  = 60 * time.Second // for one piece of a segment
	maxSegments   = 256 << 20        // bytes of the list
)

type remoteBuffer struct {
	addr   string
	client *http.Client
}

// RemoteBuffer reads the buffer of another aggregator through its HTTP side,
// host:port: GET /v1/segments lists it as a JSON array of buffer.Segment, GET
// /v1/segments/NAME gives a segment's file, in pieces (Range).
func RemoteBuffer(addr string) BufferSource {
	return &remoteBuffer{addr: addr, client: &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		ResponseHeaderTimeout: answerTimeout,
		MaxIdleConnsPerHost:   1,
		IdleConnTimeout:       30 * time.Second,
		DisableCompression:    true,
	}}}
}

func (b *remoteBuffer) Name() string { return "buffer@" + b.addr }

func (b *remoteBuffer) url(name string) string {
	u := url.URL{Scheme: "http", Host: b.addr, Path: "/v1/segments"}
	if name != "" {
		u = *u.JoinPath(name)
	}
	return u.String()
}

func (b *remoteBuffer) Segments(ctx context.Context) ([]buffer.Segment, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r, err := b.get(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	var list []buffer.Segment
	if err := json.NewDecoder(io.LimitReader(r.Body, maxSegments)).Decode(&list); err != nil {
		return nil, fmt.Errorf("list of segments: %w", err)
	}
	return list, nil
}

// get asks for a path below /v1/segments; bytes is a Range or empty.
func (b *remoteBuffer) get(ctx context.Context, name, bytes string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url(name), nil)
	if err != nil {
		return nil, err
	}
	if bytes != "" {
		q.Header.Set("Range", "bytes="+bytes)
	}
	r, err := b.client.Do(q)
	if err != nil {
		return nil, err
	}
	switch {
	case r.StatusCode == http.StatusOK && bytes == "", r.StatusCode == http.StatusPartialContent && bytes != "":
		return r, nil
	case r.StatusCode == http.StatusNotFound:
		err = fs.ErrNotExist
	default:
		err = errors.New(r.Status)
	}
	r.Body.Close()
	return nil, fmt.Errorf("GET %s: %w", q.URL, err)
}

// Open asks for the size; what is read later comes in pieces. Reads end with ctx.
func (b *remoteBuffer) Open(ctx context.Context, s *buffer.Segment) (*buffer.SegmentFile, error) {
	return buffer.OpenSegment(remoteFS{b: b, ctx: ctx}, s.Name)
}

// remoteFS shows a remote buffer as a file system from which segments can be
// opened, and nothing else.
type remoteFS struct {
	vfs.FS // nil: nothing but OpenFile is called
	b      *remoteBuffer
	ctx    context.Context //nolint:containedctx // reading a file has no context of its own
}

// OpenFile implements vfs.FS.
func (f remoteFS) OpenFile(name string, _ int, _ fs.FileMode) (vfs.File, error) {
	r, err := f.b.get(f.ctx, name, "0-0")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	var size int64
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes 0-0/%d", &size); err != nil {
		return nil, fmt.Errorf("segment %s: its size %q cannot be read: %w", name, r.Header.Get("Content-Range"), err)
	}
	return &remoteFile{fs: f, name: name, size: size}, nil
}

// remoteFile is a segment's file as it was when it was opened.
type remoteFile struct {
	vfs.File // nil: it is only read at offsets
	fs       remoteFS
	name     string
	size     int64
}

func (f *remoteFile) Close() error { return nil }

func (f *remoteFile) Stat() (fs.FileInfo, error) { return remoteInfo{f}, nil }

// ReadAt implements io.ReaderAt.
func (f *remoteFile) ReadAt(p []byte, at int64) (int, error) {
	want := min(int64(len(p)), f.size-at)
	if want <= 0 {
		return 0, io.EOF
	}
	ctx, cancel := context.WithTimeout(f.fs.ctx, pieceTimeout)
	defer cancel()
	r, err := f.fs.b.get(ctx, f.name, fmt.Sprintf("%d-%d", at, at+want-1))
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	n, err := io.ReadFull(r.Body, p[:want])
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

type remoteInfo struct{ f *remoteFile }

func (i remoteInfo) Name() string       { return i.f.name }
func (i remoteInfo) Size() int64        { return i.f.size }
func (i remoteInfo) Mode() fs.FileMode  { return 0o400 }
func (i remoteInfo) ModTime() time.Time { return time.Time{} }
func (i remoteInfo) IsDir() bool        { return false }
func (i remoteInfo) Sys() any           { return nil }
