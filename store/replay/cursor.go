package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
)

// A cursor says how far one file has been sent: a segment, or a file of an
// original Scribe.
type cursor struct {
	file     string // its base name, whatever its extension is now
	offset   int64  // behind what was sent whole: of the next record, or message
	number   uint64 // of the next record; of segments only
	taken    uint32 // messages of the record at offset that the primary has
	messages int64  // of the file that the primary has
	start    uint32 // the start id that its messages are sent under, which tells it from others of its name; of an original's file only
	damaged  int64  // bytes that are no messages, at least 1 where any are missing
}

// The file of a cursor has two slots that are written in turn, each in a sector
// of its own: a write that is cut off leaves the one before. docs/formats-buffer
// has the table.
const (
	cursorFile    = "cursor"
	cursorMagic   = "SCRBCUR1"
	cursorVersion = 1
	cursorFixed   = 64 // up to the name
	slotSize      = 512
	maxCursorName = slotSize - cursorFixed - 4
)

// append encodes a slot.
func (c *cursor) append(dst []byte, turn uint64) []byte {
	le := binary.LittleEndian
	at := len(dst)
	dst = append(dst, cursorMagic...)
	dst = le.AppendUint16(dst, cursorVersion)
	dst = le.AppendUint16(dst, uint16(len(c.file)))
	dst = le.AppendUint64(dst, turn)
	dst = le.AppendUint64(dst, uint64(c.offset))
	dst = le.AppendUint64(dst, c.number)
	dst = le.AppendUint32(dst, c.taken)
	dst = le.AppendUint64(dst, uint64(c.messages))
	dst = le.AppendUint32(dst, c.start)
	dst = le.AppendUint64(dst, uint64(c.damaged))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, c.file...)
	for len(dst)-at < slotSize-4 {
		dst = append(dst, 0)
	}
	return le.AppendUint32(dst, record.Checksum(dst[at:]))
}

// parseCursor decodes a slot. A slot that does not verify is none; one of a
// newer version is an error.
func parseCursor(b []byte) (c cursor, turn uint64, ok bool, err error) {
	le := binary.LittleEndian
	if len(b) < slotSize || string(b[:8]) != cursorMagic || le.Uint32(b[slotSize-4:]) != record.Checksum(b[:slotSize-4]) {
		return c, 0, false, nil
	}
	if v := le.Uint16(b[8:]); v != cursorVersion {
		return c, 0, false, fmt.Errorf("version %d, this program knows %d: %w", v, cursorVersion, record.ErrNewer)
	}
	n := int(le.Uint16(b[10:]))
	if n > maxCursorName {
		return c, 0, false, nil
	}
	c = cursor{
		file:   string(b[cursorFixed : cursorFixed+n]),
		offset: int64(le.Uint64(b[20:])), number: le.Uint64(b[28:]), taken: le.Uint32(b[36:]),
		messages: int64(le.Uint64(b[40:])), start: le.Uint32(b[48:]), damaged: int64(le.Uint64(b[52:])),
	}
	ok = c.offset >= 0 && c.messages >= 0 && c.damaged >= 0
	return c, le.Uint64(b[12:]), ok, nil
}

// cursorBook keeps the cursor of a folder in its file.
type cursorBook struct {
	fs   vfs.FS
	path string
	turn uint64   // of the last slot that was written
	f    vfs.File // nil: closed
	slot []byte
}

// load reads the newest cursor; the zero cursor where there is none.
func (b *cursorBook) load() (cursor, error) {
	b.turn = 0
	content, err := vfs.ReadFile(b.fs, b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return cursor{}, nil
	}
	if err != nil {
		return cursor{}, err
	}
	var newest cursor
	for at := 0; at < 2*slotSize && at < len(content); at += slotSize {
		c, turn, ok, err := parseCursor(content[at:])
		if err != nil {
			return cursor{}, fmt.Errorf("%s: %w", filepath.Base(b.path), err)
		}
		if ok && turn > b.turn {
			newest, b.turn = c, turn
		}
	}
	return newest, nil
}

// store writes a cursor, without a sync.
func (b *cursorBook) store(c *cursor) error {
	if b.f == nil {
		f, err := b.fs.OpenFile(b.path, os.O_RDWR|os.O_CREATE, filePerm)
		if err != nil {
			return err
		}
		b.f = f
	}
	b.turn++
	b.slot = c.append(b.slot[:0], b.turn)
	_, err := b.f.WriteAt(b.slot, int64(b.turn%2)*slotSize)
	return err
}

// close gives the descriptor back until the next store.
func (b *cursorBook) close() {
	if b.f != nil {
		_ = b.f.Close() // what it holds is worth no more than a write without a sync
		b.f = nil
	}
}
