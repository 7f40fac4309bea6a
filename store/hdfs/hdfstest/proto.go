package hdfstest

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// An m is a message being built.
type m []byte

func (b m) bytes(n protowire.Number, v []byte) m {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func (b m) str(n protowire.Number, v string) m { return b.bytes(n, []byte(v)) }

func (b m) uint(n protowire.Number, v uint64) m {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func (b m) bool(n protowire.Number, v bool) m { return b.uint(n, protowire.EncodeBool(v)) }

// fields is a message read: every value of each field.
type fields struct {
	u map[protowire.Number][]uint64
	s map[protowire.Number][][]byte
}

var errProto = errors.New("not a message")

func read(b []byte) (fields, error) {
	f := fields{map[protowire.Number][]uint64{}, map[protowire.Number][][]byte{}}
	for len(b) > 0 {
		n, t, k := protowire.ConsumeTag(b)
		if k < 0 {
			return f, errProto
		}
		b = b[k:]
		switch t {
		case protowire.VarintType:
			var u uint64
			u, k = protowire.ConsumeVarint(b)
			f.u[n] = append(f.u[n], u)
		case protowire.BytesType:
			var s []byte
			s, k = protowire.ConsumeBytes(b)
			f.s[n] = append(f.s[n], s)
		default:
			k = protowire.ConsumeFieldValue(n, t, b)
		}
		if k < 0 {
			return f, errProto
		}
		b = b[k:]
	}
	return f, nil
}

func (f fields) num(n protowire.Number) uint64 {
	if v := f.u[n]; len(v) > 0 {
		return v[len(v)-1]
	}
	return 0
}

func (f fields) raw(n protowire.Number) []byte {
	if v := f.s[n]; len(v) > 0 {
		return v[len(v)-1]
	}
	return nil
}

func (f fields) str(n protowire.Number) string { return string(f.raw(n)) }

// sub reads the message in field n; an empty one if it is not there.
func (f fields) sub(n protowire.Number) fields {
	r, err := read(f.raw(n))
	if err != nil {
		return fields{}
	}
	return r
}

// framed is what follows a frame's length: delimited parts.
func framed(parts ...[]byte) []byte {
	b := make([]byte, 4)
	for _, p := range parts {
		b = append(protowire.AppendVarint(b, uint64(len(p))), p...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// unframe splits delimited parts.
func unframe(b []byte) (parts [][]byte, err error) {
	for len(b) > 0 {
		p, k := protowire.ConsumeBytes(b)
		if k < 0 {
			return nil, errProto
		}
		parts, b = append(parts, p), b[k:]
	}
	return parts, nil
}
