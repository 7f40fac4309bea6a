package thrift

import (
	"encoding/binary"
)

// logReply is the whole answer to Log with its frame's length: the old form,
// whatever form the call had, as clients compare it byte by byte.
const (
	logReply       = "\x00\x00\x00\x14" + "\x00\x00\x00\x03Log\x02" + "....\x08\x00\x00" + "....\x00"
	logReplySeq    = 12
	logReplyResult = 19
)

// appendLogReply appends the answer to Log, a whole frame of 24 bytes.
func appendLogReply(dst []byte, seq int32, r Result) []byte {
	at := len(dst)
	dst = append(dst, logReply...)
	binary.BigEndian.PutUint32(dst[at+logReplySeq:], uint32(seq))
	binary.BigEndian.PutUint32(dst[at+logReplyResult:], uint32(r))
	return dst
}

// The types of application exceptions, from Thrift.
const (
	excUnknownMethod = 1
	excMessageType   = 2
	excInternal      = 6
	excProtocol      = 7
)

// exception is a whole frame: an application exception in the old form.
func exception(name []byte, seq int32, typ int32, text string) []byte {
	dst := make([]byte, 4, 64+len(name)+len(text))
	dst = appendString(dst, name)
	dst = append(dst, messageException)
	dst = binary.BigEndian.AppendUint32(dst, uint32(seq))
	dst = append(dst, typeString, 0, 1)
	dst = appendString(dst, text)
	dst = append(dst, typeI32, 0, 2)
	dst = binary.BigEndian.AppendUint32(dst, uint32(typ))
	dst = append(dst, typeStop)
	return closeFrame(dst, 0)
}

// AppendLog appends a whole frame: a Log call in the old form, which every
// server reads. A nil Category or Message is left out. batch may be nil. The
// frame is the caller's to measure against the server's limit.
func AppendLog(dst []byte, seq int32, entries []Entry, batch *BatchID) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, "\x00\x00\x00\x03Log\x01"...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(seq))
	dst = append(dst, typeList, 0, 1, typeStruct)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(entries)))
	for i := range entries {
		e := &entries[i]
		if e.Category != nil {
			dst = append(dst, typeString, 0, 1)
			dst = appendString(dst, e.Category)
		}
		if e.Message != nil {
			dst = append(dst, typeString, 0, 2)
			dst = appendString(dst, e.Message)
		}
		dst = append(dst, typeStop)
	}
	if batch != nil {
		dst = append(dst, typeStruct, 0, 2)
		dst = append(dst, typeString, 0, 1)
		dst = appendString(dst, batch.Producer)
		dst = append(dst, typeI64, 0, 2)
		dst = binary.BigEndian.AppendUint64(dst, batch.Epoch)
		dst = append(dst, typeI64, 0, 3)
		dst = binary.BigEndian.AppendUint64(dst, batch.Sequence)
		dst = append(dst, typeStop)
	}
	dst = append(dst, typeStop)
	return closeFrame(dst, at)
}

// What AppendLog makes of a call without an entry, of an entry but for its two
// texts, and of a batch id but for the producer, in bytes without the length
// of the frame.
const (
	callBytes    = 4 + len("Log") + 1 + 4 + 3 + 1 + 4 + 1
	wireEntry    = 3 + 4 + 3 + 4 + 1
	batchIDBytes = 3 + 3 + 4 + 3 + 8 + 3 + 8 + 1
)

// LogSize is what a Log call of no entries takes of a frame, in bytes, without
// the frame's length.
func LogSize(batch *BatchID) int {
	if batch == nil {
		return callBytes
	}
	return callBytes + batchIDBytes + len(batch.Producer)
}

// EntrySize is what an entry with texts of so many bytes adds to a Log call.
func EntrySize(category, message int) int { return wireEntry + category + message }

func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// closeFrame fills in the length of the frame that begins at dst[at:].
func closeFrame(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
