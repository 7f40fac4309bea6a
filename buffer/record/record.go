// Package record is the framing that the buffer's segments and the journal
// share: a file begins with a header of 64 bytes, and then comes one record
// after another, each with a checksum for its header and one for its body.
//
// Both checksums cover the file's salt, a random number: blocks of another
// file, and bytes inside a message that look like a record, never verify. The
// two are apart so that a flipped bit in a length makes no reader allocate or
// jump: a length is used only after its own checksum was right.
//
// It leaves to others: what a body means, when a file is synced, and what is
// done about damage. docs/formats describes the layout byte by byte.
//
// All numbers are little endian, all checksums CRC32C (Castagnoli).
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderSize is the length of the header that a record begins with.
	HeaderSize = 24
	// Align is what every record's offset and length are multiples of.
	Align = 8
	// MaxBody is the longest body there can be, in bytes: the largest message
	// or batch with its end offsets, and room to spare.
	MaxBody = 64 << 20

	magic = 0x52435331 // "1SCR" on disk
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC32C of b.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, table) }

// SaltedChecksum is the CRC32C of the salt (8 bytes) and b: what the parts of
// a file that are not records carry.
func SaltedChecksum(salt uint64, b []byte) uint32 {
	return crc32.Update(saltSum(salt), table, b)
}

// saltSum is the state of a checksum that has seen the salt.
func saltSum(salt uint64) uint32 { return update64(0, salt) }

// bodySum is the state of a body's checksum before the body.
func bodySum(salted uint32, number uint64) uint32 { return update64(salted, number) }

// update64 is crc32.Update for the eight bytes of n, without a slice that
// would have to be allocated.
func update64(sum uint32, n uint64) uint32 {
	return update32(update32(sum, uint32(n)), uint32(n>>32))
}

func update32(sum, n uint32) uint32 {
	sum = ^sum
	for range 4 {
		sum = table[byte(sum)^byte(n)] ^ sum>>8
		n >>= 8
	}
	return ^sum
}

// Size is how many bytes a record with a body of n bytes takes in a file.
func Size(n int) int64 { return int64(HeaderSize) + int64(n) + int64(padding(n)) }

func padding(n int) int { return -(HeaderSize + n) & (Align - 1) }

var zeros [Align]byte

// Padding is what follows a body of n bytes: zero to seven zero bytes, shared
// by everybody and never changed.
func Padding(n int) []byte { return zeros[:padding(n)] }

// PutHeader fills the first HeaderSize bytes of dst with the header of the
// record that has this number and body. A writer that does not want to copy
// the body writes dst, the body's parts and Padding in one call. The result is
// the body's checksum.
func PutHeader(dst []byte, salt, number uint64, body ...[]byte) uint32 {
	salted := saltSum(salt)
	sum, n := bodySum(salted, number), 0
	for _, p := range body {
		sum = crc32.Update(sum, table, p)
		n += len(p)
	}
	if n == 0 || n > MaxBody {
		panic(fmt.Sprintf("record: body of %d bytes, want 1 to %d", n, MaxBody)) // the caller has checked it
	}
	binary.LittleEndian.PutUint32(dst, magic)
	binary.LittleEndian.PutUint32(dst[4:], uint32(n))
	binary.LittleEndian.PutUint64(dst[8:], number)
	binary.LittleEndian.PutUint32(dst[16:], crc32.Update(salted, table, dst[:16]))
	binary.LittleEndian.PutUint32(dst[20:], sum)
	return sum
}

// AddSum adds a record's body checksum to the checksum over all of a file, as
// Report.Sums has it.
func AddSum(sums, sum uint32) uint32 { return update32(sums, sum) }

// AppendRecord appends a whole record to dst: header, body, padding. The body
// is 1 to MaxBody bytes.
func AppendRecord(dst []byte, salt, number uint64, body ...[]byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	PutHeader(dst[at:], salt, number, body...)
	n := 0
	for _, p := range body {
		dst = append(dst, p...)
		n += len(p)
	}
	return append(dst, Padding(n)...)
}

// The header of a file.
const (
	FileHeaderSize = 64
	// Version is the version of the layout that this program writes, and the
	// newest that it reads.
	Version = 1
)

// FileHeader stands at the beginning of a file of records and is synced, and
// the file's entry in its folder too, before the first record is written.
type FileHeader struct {
	Magic   string // eight bytes: what kind of file it is
	Flags   uint32 // meaning belongs to the kind
	Salt    uint64
	Start   uint32 // the start id of its writer
	Number  uint32 // of the file within the start
	Epoch   uint64
	First   uint64 // number of the first record
	Created int64  // nanoseconds since 1970 UTC
	Owner   string // the writer's aggregator id: only its checksum is stored
}

var (
	// ErrDamaged marks a file header that does not verify.
	ErrDamaged = errors.New("damaged")
	// ErrNewer marks a file of a newer version than this program reads.
	ErrNewer = errors.New("written by a newer version of the program")
)

// Append appends the 64 bytes of the header to dst.
func (h FileHeader) Append(dst []byte) []byte {
	if len(h.Magic) != 8 {
		panic(fmt.Sprintf("record: magic %q is not eight bytes", h.Magic))
	}
	var b [FileHeaderSize]byte
	le := binary.LittleEndian
	copy(b[:], h.Magic)
	le.PutUint16(b[8:], Version)
	le.PutUint16(b[10:], FileHeaderSize)
	le.PutUint32(b[12:], h.Flags)
	le.PutUint64(b[16:], h.Salt)
	le.PutUint32(b[24:], h.Start)
	le.PutUint32(b[28:], h.Number)
	le.PutUint64(b[32:], h.Epoch)
	le.PutUint64(b[40:], h.First)
	le.PutUint64(b[48:], uint64(h.Created))
	le.PutUint32(b[56:], Checksum([]byte(h.Owner)))
	le.PutUint32(b[60:], Checksum(b[:60]))
	return append(dst, b[:]...)
}

// ParseFileHeader reads a header of the given magic. Its Owner is not stored:
// OwnedBy tells whether it is a given one. The error is ErrNewer where the
// checksum is right and the version is not known, ErrDamaged otherwise.
func ParseFileHeader(b []byte, magic string) (FileHeader, OwnedBy, error) {
	if len(b) < FileHeaderSize {
		return FileHeader{}, 0, fmt.Errorf("header of %d bytes, want %d: %w", len(b), FileHeaderSize, ErrDamaged)
	}
	le := binary.LittleEndian
	switch version := le.Uint16(b[8:]); {
	case le.Uint32(b[60:]) != Checksum(b[:60]):
		return FileHeader{}, 0, fmt.Errorf("header's checksum is wrong: %w", ErrDamaged)
	case string(b[:8]) != magic:
		return FileHeader{}, 0, fmt.Errorf("header begins with %q, want %q: %w", b[:8], magic, ErrDamaged)
	case version > Version:
		return FileHeader{}, 0, fmt.Errorf("version %d, this program knows %d: %w", version, Version, ErrNewer)
	case version == 0 || le.Uint16(b[10:]) != FileHeaderSize:
		return FileHeader{}, 0, fmt.Errorf("version %d with a header of %d bytes: %w", version, le.Uint16(b[10:]), ErrDamaged)
	}
	return FileHeader{
		Magic:   magic,
		Flags:   le.Uint32(b[12:]),
		Salt:    le.Uint64(b[16:]),
		Start:   le.Uint32(b[24:]),
		Number:  le.Uint32(b[28:]),
		Epoch:   le.Uint64(b[32:]),
		First:   le.Uint64(b[40:]),
		Created: int64(le.Uint64(b[48:])),
	}, OwnedBy(le.Uint32(b[56:])), nil
}

// OwnedBy is the checksum of a file's owner.
type OwnedBy uint32

// Is says whether the owner can be this one.
func (o OwnedBy) Is(owner string) bool { return o == OwnedBy(Checksum([]byte(owner))) }
