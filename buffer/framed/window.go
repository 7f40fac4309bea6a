package framed

import (
	"bytes"
	"fmt"
	"io"
)

// window reads ahead through one buffer.
type window struct {
	r    io.ReaderAt
	size int64 // of the file
	room int   // how much is read at a time where no more is asked for
	at   int64 // offset of buf
	buf  []byte
}

// from gives n bytes and more from an offset on, which the file has. They are
// valid until the next call.
func (w *window) from(at int64, n int) ([]byte, error) {
	if at >= w.at && at+int64(n) <= w.at+int64(len(w.buf)) {
		return w.buf[at-w.at:], nil
	}
	want := int(min(int64(max(n, w.room)), w.size-at))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.at, w.buf = at, w.buf[:want]
	got, err := w.r.ReadAt(w.buf, at)
	w.buf = w.buf[:got]
	if got < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, at, err)
	}
	return w.buf, nil
}

// What find looks for.
func zero(b []byte) int { return bytes.IndexByte(b, 0) }

func notZero(b []byte) int {
	for i, c := range b {
		if c != 0 {
			return i
		}
	}
	return -1
}

// search is the offset of the first byte from an offset on that is of a kind,
// or to where there is none.
func (w *window) search(kind func([]byte) int, from, to int64) (int64, error) {
	for from < to {
		b, err := w.from(from, 1)
		if err != nil {
			return to, err
		}
		b = b[:min(int64(len(b)), to-from)]
		if i := kind(b); i >= 0 {
			return from + int64(i), nil
		}
		from += int64(len(b))
	}
	return to, nil
}
