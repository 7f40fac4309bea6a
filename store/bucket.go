package store

import (
	"bytes"
	"math/rand/v2"
)

// Buckets divide messages by a key in them, with the numbers that Scribe's
// bucket stores have (bucketize in its src/store.cpp): whoever reads one bucket
// of a fleet that moves over finds the same messages in it.
type Buckets struct {
	By        string // ByHash, ByModulo, ByRange, ByContext or ByRandom
	N         int    // buckets 1 to N; 0 is for messages without a key
	Delimiter byte   // ends the key; not for ByContext
	Range     uint64 // ByRange only: keys from 0 up to it are spread
	RemoveKey bool   // key and delimiter are not stored
}

// The values of Buckets.By.
const (
	ByHash    = "key_hash"    // of the key
	ByModulo  = "key_modulo"  // the key as a number
	ByRange   = "key_range"   // the key as a number, by its part of Range
	ByContext = "context_log" // the number behind the third byte 1
	ByRandom  = "random"
)

// contextMark stands before each field of a line of the context log.
const contextMark = 1

// Of is the bucket of a message, and how many of its first bytes are not stored.
// Any goroutine may call it.
func (b *Buckets) Of(message []byte) (bucket, skip int) {
	end := bytes.IndexByte(message, b.Delimiter)
	if b.RemoveKey && end >= 0 {
		skip = end + 1
	}
	n := uint64(b.N)
	switch b.By {
	case ByContext:
		if id := contextID(message); id != 0 {
			return int(uint64(id)%n) + 1, 0
		}
		return 0, 0
	case ByRandom:
		return rand.IntN(b.N) + 1, skip
	}
	if end < 0 {
		return 0, skip
	}
	key := message[:end]
	if cut := bytes.IndexByte(key, 0); cut >= 0 { // the key is a text of C
		key = key[:cut]
	}
	switch {
	case len(key) == 0:
		return 0, skip
	case b.By == ByModulo:
		return int(number(key)%n) + 1, skip
	case b.By == ByRange && b.Range == 0:
		return 0, skip
	case b.By == ByRange:
		part := float64(number(key)%b.Range) / float64(b.Range)
		return min(int(part*float64(b.N)), b.N-1) + 1, skip // a part of a huge range rounds up to all of it
	}
	return int(uint64(djb2(key))%n) + 1, skip
}

// contextID is the number behind the third mark; 0: there is none.
func contextID(message []byte) uint32 {
	rest := message
	for range 3 {
		at := bytes.IndexByte(rest, contextMark)
		if at < 0 || at+1 >= len(rest) {
			return 0
		}
		rest = rest[at+1:]
	}
	return uint32(number(rest))
}

// number is what atol and strtoul make of the decimal number at the beginning of
// a text, as 64 bits: one below 0 wraps around, one that is too large stays at
// the largest of a long.
func number(text []byte) uint64 {
	text = bytes.TrimLeft(text, " \t\n\v\f\r")
	negative := false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		negative = text[0] == '-'
		text = text[1:]
	}
	const most = 1<<63 - 1
	n := uint64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		if n > (most-uint64(c-'0'))/10 {
			n = most
			break
		}
		n = 10*n + uint64(c-'0')
	}
	if negative {
		return -n
	}
	return n
}

// djb2 is Bernstein's hash of a text of C, whose characters have a sign.
func djb2(key []byte) uint32 {
	h := uint32(5381)
	for _, c := range key {
		h = h*33 + uint32(int32(int8(c)))
	}
	return h
}
