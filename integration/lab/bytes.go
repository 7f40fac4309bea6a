package lab

import (
	"bytes"
	"encoding/binary"
)

// Framed puts the length before a body.
func Framed(body ...[]byte) []byte {
	b := bytes.Join(body, nil)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// Int32 is a number as Thrift's binary protocol has it.
func Int32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// OldHeader is the header of a message in the old form: kind 1 is a call, 4 a oneway call. The
// sequence number is 7.
func OldHeader(name string, kind byte) []byte {
	return append(append(append(Int32(len(name)), name...), kind), 0, 0, 0, 7)
}

// StrictHeader is the header in the strict form.
func StrictHeader(name string, kind byte) []byte {
	return append(append(append([]byte{0x80, 1, 0, kind}, Int32(len(name))...), name...), 0, 0, 0, 7)
}

// TextField is a field that holds a string.
func TextField(id int, s string) []byte {
	return append(append([]byte{11, 0, byte(id)}, Int32(len(s))...), s...)
}

// EntryList begins the field of a Log call that holds n entries.
func EntryList(n int) []byte { return append([]byte{15, 0, 1, 12}, Int32(n)...) }

// EntryBytes is a whole LogEntry.
func EntryBytes(category, message string) []byte {
	return append(append(TextField(1, category), TextField(2, message)...), 0)
}

// LogBody is the body of a whole Log call in the old form.
func LogBody(kind byte, entries ...Entry) []byte {
	b := append(OldHeader("Log", kind), EntryList(len(entries))...)
	for _, e := range entries {
		b = append(b, EntryBytes(string(e.Category), string(e.Message))...)
	}
	return append(b, 0)
}
