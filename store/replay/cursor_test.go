package replay

import (
	"bytes"
	"errors"
	"testing"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

func TestTheNewestCursorCounts(t *testing.T) {
	fsys := memfs.New()
	book := &cursorBook{fs: fsys, path: "/cursor"}
	if c, err := book.load(); err != nil || c != (cursor{}) {
		t.Fatalf("no file: %+v, %v", c, err)
	}
	var last cursor
	for i := range int64(5) {
		last = cursor{file: "web_00001", offset: 100 * i, number: 3, taken: 2, messages: 7 + i, start: 9, damaged: 1}
		if err := book.store(&last); err != nil {
			t.Fatal(err)
		}
		next := &cursorBook{fs: fsys, path: "/cursor"}
		if c, err := next.load(); err != nil || c != last || next.turn != book.turn {
			t.Errorf("%+v, %v; want %+v", c, err, last)
		}
	}
	book.close()
	// A slot that a crash tore is not there, and the one before it counts.
	content, err := vfs.ReadFile(fsys, "/cursor")
	if err != nil {
		t.Fatal(err)
	}
	content[slotSize*int(book.turn%2)+30] ^= 1
	if err := vfs.ReplaceFile(fsys, "/cursor", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := book.load(); err != nil || c.offset != last.offset-100 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestACursorOfANewerVersionIsRefusedByName(t *testing.T) {
	c := cursor{file: "f"}
	b := c.append(nil, 1)
	b[8] = cursorVersion + 1
	if _, _, ok, err := parseCursor(b); ok || err != nil {
		t.Errorf("with a wrong checksum: %v, %v", ok, err)
	}
	b = append(b[:slotSize-4], 0, 0, 0, 0)
	sum := record.Checksum(b[:slotSize-4])
	b[slotSize-4], b[slotSize-3], b[slotSize-2], b[slotSize-1] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	if _, _, _, err := parseCursor(b); !errors.Is(err, record.ErrNewer) {
		t.Errorf("%v, want record.ErrNewer", err)
	}
}

// FuzzCursor: what is read is what was written, and nothing is taken for a
// cursor that is not written back as it is.
func FuzzCursor(f *testing.F) {
	c := cursor{file: "leaf-00000001.00000001-00000001.0123456789abcdef.seg", offset: 64, number: 2, taken: 1, messages: 5}
	f.Add(c.append(nil, 7), "web_00000", int64(12), uint64(3))
	f.Add([]byte("SCRBCUR1"), "", int64(0), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, file string, offset int64, turn uint64) {
		if c, n, ok, err := parseCursor(b); ok && err == nil {
			if !bytes.Equal(c.append(nil, n)[:cursorFixed-4], b[:cursorFixed-4]) {
				t.Errorf("%+v is not what %x says", c, b[:cursorFixed])
			}
		}
		if len(file) > maxCursorName || offset < 0 {
			return
		}
		want := cursor{file: file, offset: offset, number: turn, taken: uint32(turn), messages: offset, start: uint32(offset), damaged: offset}
		got, n, ok, err := parseCursor(want.append(nil, turn))
		if !ok || err != nil || got != want || n != turn {
			t.Errorf("%+v, %d, %v, %v; want %+v", got, n, ok, err, want)
		}
	})
}
