//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"strings"

	"twinscribe/integration/lab"
)

// forged is what stands in every message that must never be stored: its call was not sent whole.
const forged = "FORGED"

// The parts of a call, as package lab has them.
var (
	framed = lab.Framed
	be32   = lab.Int32
	method = lab.OldHeader
	strict = lab.StrictHeader
	text   = lab.TextField
	list   = lab.EntryList
	entry  = lab.EntryBytes
	call   = lab.LogBody
)

// forgery is a well-formed frame of a call that nobody makes: it stands where a client's text stands.
func forgery() []byte {
	return framed(call(1, lab.Entry{Category: []byte("good"), Message: []byte(forged + " frame")}))
}

// A form is bytes that are no call. The server counts the connection that sends
// them under kind, and closes it.
type form struct {
	name, kind string
	bytes      []byte
	cut        bool // the client closes first
}

// forms are all forms of bytes that are no call; wherever a text can stand it holds a forged frame.
func forms() []form {
	log := method("Log", 1)
	long := append(text(1, "good"), append([]byte{11, 0, 2}, be32(1<<20)...)...)
	deep := func(unit string) []byte { return bytes.Repeat([]byte(unit), 10_000) }
	whole := call(1, lab.Entry{Category: []byte("good"), Message: []byte(forged + " in a bad call")})
	name := strings.Repeat("L", 1<<20)
	http := fmt.Sprintf("POST /v1/stop HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(forgery()), forgery())
	tls := append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, bytes.Repeat([]byte{0xa5}, 500)...)
	return []form{
		{name: "frame of 17 MiB", kind: "too_large", bytes: append(be32(17<<20), forgery()...)},
		{name: "negative frame length", kind: "garbage", bytes: append(be32(-8), forgery()...)},
		{name: "frame of 0 bytes, a frame behind", kind: "empty", bytes: append(be32(0), forgery()...)},
		{name: "text, not Thrift", kind: "garbage", bytes: append([]byte("hello?\x1b[31m\r\n"), forgery()...)},
		{name: "TLS hello", kind: "tls", bytes: append(tls, forgery()...)},
		{name: "HTTP POST with a frame as body", kind: "http", bytes: []byte(http)},
		{name: "Thrift without frames, strict", kind: "unframed", bytes: append(append(strict("Log", 1), list(1)...), append(entry("good", forged), 0)...)},
		{name: "Thrift without frames, old", kind: "unframed", bytes: append(whole, forgery()...)},
		{name: "cut inside the length", kind: "cut", bytes: []byte{0, 0}, cut: true},
		{name: "cut inside a call", kind: "cut", bytes: framed(whole)[:len(whole)-1], cut: true},
		{name: "string beyond its frame", kind: "length", bytes: append(framed(log, list(1), long, []byte(forged)), forgery()...)},
		{name: "string of negative length", kind: "length", bytes: append(framed(log, list(1), []byte{11, 0, 1}, be32(-1), whole), forgery()...)},
		{name: "category 1 byte beyond its frame", kind: "length", bytes: append(framed(log, list(1), []byte{11, 0, 1}, be32(5), []byte("good")), forgery()...)},
		{name: "list of 2^31-1 entries", kind: "length", bytes: append(framed(log, list(1<<31-1), entry("good", forged)), forgery()...)},
		{name: "list of -1 entries", kind: "length", bytes: append(framed(log, list(-1), entry("good", forged)), forgery()...)},
		{name: "a second entry that is not there", kind: "length", bytes: append(framed(log, list(2), entry("good", forged)), forgery()...)},
		{name: "2,000,000 empty structs as entries", kind: "entries", bytes: append(framed(log, list(2_000_000), make([]byte, 2_000_001)), forgery()...)},
		{name: "structs nested 10,000 deep", kind: "depth", bytes: framed(log, list(1), entry("good", forged), deep("\x0c\x00\x07"), make([]byte, 10_001))},
		{name: "lists nested 10,000 deep", kind: "depth", bytes: framed(log, list(1), entry("good", forged), []byte{15, 0, 7}, deep("\x0f\x00\x00\x00\x01"), []byte{3, 0, 0, 0, 0, 0})},
		{name: "maps nested 10,000 deep in fb303", kind: "depth", bytes: append(framed(method("getOption", 1), []byte{13, 0, 7}, deep("\x03\x0d\x00\x00\x00\x01\x01"), make([]byte, 10)), forgery()...)},
		{name: "method name of 1 MB", kind: "header", bytes: append(framed(method(name, 1), list(1), entry("good", forged), []byte{0}), forgery()...)},
		{name: "method name of 1 MB, strict, oneway", kind: "header", bytes: append(framed(strict(name, 4), []byte{0}), forgery()...)},
		{name: "a reply, not a call", kind: "message", bytes: append(framed(call(2, lab.Entry{Category: []byte("good"), Message: []byte(forged)})), forgery()...)},
		{name: "an exception to fb303", kind: "message", bytes: append(framed(method("shutdown", 3), []byte{0}), forgery()...)},
		{name: "a string for the list of entries", kind: "type", bytes: append(framed(log, text(1, string(whole)), []byte{0}), forgery()...)},
		{name: "a frame behind the call in its frame", kind: "trailing", bytes: append(framed(whole, forgery()), forgery()...)},
		{name: "fb303 with a frame behind in its frame", kind: "trailing", bytes: append(framed(method("getName", 1), []byte{0}, forgery()), forgery()...)},
		{name: "oneway fb303 beyond its frame", kind: "length", bytes: append(framed(method("shutdown", 4), []byte{11, 0, 1}, be32(100), []byte{0}), forgery()...)},
		{name: "batch id with a producer of 300 bytes", kind: "producer", bytes: append(framed(whole[:len(whole)-1], []byte{12, 0, 2}, text(1, strings.Repeat("p", 300)), []byte{0, 0}), forgery()...)},
	}
}
