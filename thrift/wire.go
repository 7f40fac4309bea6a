package thrift

import (
	"encoding/binary"
	"fmt"
)

// Types of values on the wire, from Thrift's binary protocol.
const (
	typeStop   = 0
	typeBool   = 2
	typeByte   = 3
	typeDouble = 4
	typeI16    = 6
	typeI32    = 8
	typeI64    = 10
	typeString = 11
	typeStruct = 12
	typeMap    = 13
	typeSet    = 14
	typeList   = 15
	typeUUID   = 16
)

// Kinds of messages on the wire.
const (
	messageCall      = 1
	messageReply     = 2
	messageException = 3
	messageOneway    = 4
)

const (
	// strictVersion stands in the first word of a message of the strict form,
	// whose last byte is the message's kind.
	strictVersion = 0x80010000
	strictMask    = 0xffff0000

	// maxName bounds the name of a method. The longest one there is has 16 bytes.
	maxName = 64

	// maxHeader is the longest header of a message: the strict form with a name
	// of maxName bytes.
	maxHeader = 4 + 4 + maxName + 4

	// maxDepth bounds how deep the values of unknown fields nest.
	maxDepth = 64
)

// A bad kind says what is wrong with bytes that are no call. The kinds are the
// label of a metric.
type badKind int

const (
	badHTTP     badKind = iota // a plain HTTP request
	badTLS                     // a TLS hello
	badUnframed                // Thrift without frames
	badGarbage                 // a frame length that nobody means
	badTooLarge                // a frame over the limit
	badEmpty                   // a frame of 0 bytes
	badCut                     // the connection ended inside a frame
	badHeader                  // no header of a message
	badMessage                 // neither a call nor a oneway call
	badLength                  // a length that goes beyond the frame, or a negative one
	badType                    // a field or an element of another type than it should be, or of none there is
	badDepth                   // unknown fields nested too deep
	badTrailing                // bytes behind the call
	badEntries                 // more entries than a call may have
	badProducer                // a batch id with an over-long producer
	badKinds                   // how many there are
)

var badNames = [badKinds]string{
	"http", "tls", "unframed", "garbage", "too_large", "empty", "cut", "header", "message",
	"length", "type", "depth", "trailing", "entries", "producer",
}

func (k badKind) String() string { return badNames[k] }

// badFrame is the error for bytes that are no call.
type badFrame struct {
	kind badKind
	text string
}

func (e *badFrame) Error() string { return e.kind.String() + ": " + e.text }

func bad(kind badKind, format string, args ...any) error {
	return &badFrame{kind, fmt.Sprintf(format, args...)}
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// header is the beginning of a message. name lies in the frame.
type header struct {
	name []byte
	kind byte
	seq  int32
	args int // where the arguments begin
}

// parseHeader reads the header of a message in either form: the strict one
// (version and kind, name, sequence) or the old one (name, kind, sequence).
func parseHeader(b []byte) (header, error) {
	if len(b) < 4 {
		return header{}, bad(badHeader, "%d bytes hold no message", len(b))
	}
	var h header
	at := 4
	first := be32(b)
	strict := first&0x80000000 != 0
	length := first
	if strict {
		if first&strictMask != strictVersion {
			return header{}, bad(badHeader, "first word 0x%08x, want 0x8001.... or the length of a name", first)
		}
		h.kind = byte(first)
		if len(b) < 8 {
			return header{}, bad(badHeader, "the message ends in its header")
		}
		length, at = be32(b[4:]), 8
	}
	if length > maxName {
		return header{}, bad(badHeader, "a method's name of %d bytes, at most %d are taken", length, maxName)
	}
	tail := 4 // what follows the name: kind (old form only) and sequence
	if !strict {
		tail++
	}
	end := at + int(length)
	if end+tail > len(b) {
		return header{}, bad(badHeader, "the message ends in its header")
	}
	h.name = b[at:end:end]
	if !strict {
		h.kind = b[end]
		end++
	}
	h.seq = int32(be32(b[end:]))
	h.args = end + 4
	return h, nil
}

// short is the error for a value that the frame has no room for.
func short(at, want, have int) error {
	return bad(badLength, "at byte %d: %d bytes wanted, %d left in the frame", at, want, have)
}

// size reads the length of a string or the number of elements of a container
// at b[at:] and sees to it that as many bytes follow: every element has one byte at least.
func size(b []byte, at int) (n, next int, err error) {
	if len(b)-at < 4 {
		return 0, at, short(at, 4, len(b)-at)
	}
	u := be32(b[at:])
	if u > 0x7fffffff {
		return 0, at, bad(badLength, "at byte %d: length %d is negative", at, int32(u))
	}
	at += 4
	if uint(u) > uint(len(b)-at) {
		return 0, at, short(at, int(u), len(b)-at)
	}
	return int(u), at, nil
}

// str reads a string at b[at:]. It is never nil.
func str(b []byte, at int) (s []byte, next int, err error) {
	n, at, err := size(b, at)
	if err != nil {
		return nil, at, err
	}
	return b[at : at+n : at+n], at + n, nil
}

// field reads the header of a field of a struct at b[at:]: its type and id.
func field(b []byte, at int) (typ byte, id int16, next int, err error) {
	if at >= len(b) {
		return 0, 0, at, short(at, 1, 0)
	}
	typ = b[at]
	if typ == typeStop {
		return typ, 0, at + 1, nil
	}
	if len(b)-at < 3 {
		return 0, 0, at, short(at, 3, len(b)-at)
	}
	return typ, int16(be16(b[at+1:])), at + 3, nil
}

// fixed is the width of the types that have one, and 0 for the others.
func fixed(typ byte) int {
	switch typ {
	case typeBool, typeByte:
		return 1
	case typeI16:
		return 2
	case typeI32:
		return 4
	case typeI64, typeDouble:
		return 8
	case typeUUID:
		return 16
	}
	return 0
}

// skip walks over one value of type typ at b[at:], which may nest depth deep.
func skip(b []byte, at int, typ byte, depth int) (next int, err error) {
	if w := fixed(typ); w > 0 {
		if len(b)-at < w {
			return at, short(at, w, len(b)-at)
		}
		return at + w, nil
	}
	if depth == 0 {
		return at, bad(badDepth, "at byte %d: values nested more than %d deep", at, maxDepth)
	}
	switch typ {
	case typeString:
		_, at, err = str(b, at)
		return at, err
	case typeStruct:
		return skipStruct(b, at, depth)
	case typeList, typeSet:
		return skipElements(b, at, 1, depth)
	case typeMap:
		return skipElements(b, at, 2, depth)
	}
	return at, bad(badType, "at byte %d: there is no type %d", at, typ)
}

func skipStruct(b []byte, at, depth int) (int, error) {
	for {
		typ, _, next, err := field(b, at)
		if err != nil || typ == typeStop {
			return next, err
		}
		if at, err = skip(b, next, typ, depth-1); err != nil {
			return at, err
		}
	}
}

// skipElements walks over a list or a set (each element is one value) or a map
// (each is two): the types of the values, the number of elements, the elements.
func skipElements(b []byte, at, values, depth int) (int, error) {
	if len(b)-at < values {
		return at, short(at, values, len(b)-at)
	}
	types := b[at : at+values]
	n, at, err := size(b, at+values)
	if err != nil {
		return at, err
	}
	if w := fixed(types[0]); w > 0 && values == 1 { // no need to look at each
		if n > (len(b)-at)/w {
			return at, bad(badLength, "at byte %d: %d elements of %d bytes, %d left in the frame", at, n, w, len(b)-at)
		}
		return at + n*w, nil
	}
	for range n {
		for _, typ := range types {
			if at, err = skip(b, at, typ, depth-1); err != nil {
				return at, err
			}
		}
	}
	return at, nil
}
