package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"twinscribe/buffer/record"
)

// A Part is what a segment holds of one category, chain and partition.
type Part struct {
	Category  string
	Chain     uint32
	Partition string
	Messages  int64
	Bytes     int64 // of messages, each with its line feed
	Ranges    []Range
}

// A Range is a run of sequences, both ends included.
type Range struct{ First, Last uint64 }

type partKey struct {
	category  string
	chain     uint32
	partition string
}

// index gathers the parts of a segment.
type index struct {
	parts    map[partKey]int // place in list
	list     []Part
	messages int64
}

// add counts a record in.
func (x *index) add(k partKey, first uint64, messages int, bytes int64) {
	at, ok := x.parts[k]
	if !ok {
		if x.parts == nil {
			x.parts = map[partKey]int{}
		}
		// The caller's strings may lie in something large.
		k = partKey{category: strings.Clone(k.category), chain: k.chain, partition: strings.Clone(k.partition)}
		at = len(x.list)
		x.parts[k] = at
		x.list = append(x.list, Part{Category: k.category, Chain: k.chain, Partition: k.partition})
	}
	p := &x.list[at]
	p.Messages += int64(messages)
	p.Bytes += bytes
	x.messages += int64(messages)
	last := first + uint64(messages) - 1
	if n := len(p.Ranges); n > 0 && p.Ranges[n-1].Last+1 == first {
		p.Ranges[n-1].Last = last
		return
	}
	p.Ranges = append(p.Ranges, Range{First: first, Last: last})
}

// addRecord counts a decoded record in.
func (x *index) addRecord(r *Record) {
	x.add(partKey{r.Category, r.Chain, r.Partition}, r.First, len(r.Ends), int64(len(r.Data)))
}

// copied is the list, for somebody else.
func copied(list []Part) []Part {
	list = append([]Part(nil), list...)
	for i := range list {
		list[i].Ranges = append([]Range(nil), list[i].Ranges...)
	}
	return list
}

// The footer of a sealed segment is the index and, at the very end of the
// file, a trailer of 64 bytes.
const (
	trailerMagic   = "SCRBEND1"
	trailerSize    = 64
	trailerVersion = 1
	partFixed      = 4 + 2 + 4 + 8 + 8 + 4
)

// trailer says what a sealed segment must hold.
type trailer struct {
	records     uint64
	first, last uint64 // numbers of records
	end         int64  // of the records: where the index begins
	sums        uint32 // as record.Report has it
	indexBytes  uint32
	indexSum    uint32
}

// appendFooter appends index and trailer.
func appendFooter(dst []byte, salt uint64, reason Reason, parts []Part, t trailer) []byte {
	le := binary.LittleEndian
	at := len(dst)
	dst = append(dst, trailerVersion, byte(reason), 0, 0)
	dst = le.AppendUint32(dst, uint32(len(parts)))
	for i := range parts {
		p := &parts[i]
		dst = le.AppendUint32(dst, uint32(len(p.Category)))
		dst = le.AppendUint16(dst, uint16(len(p.Partition)))
		dst = le.AppendUint32(dst, p.Chain)
		dst = le.AppendUint64(dst, uint64(p.Messages))
		dst = le.AppendUint64(dst, uint64(p.Bytes))
		dst = le.AppendUint32(dst, uint32(len(p.Ranges)))
		dst = append(dst, p.Category...)
		dst = append(dst, p.Partition...)
		for _, r := range p.Ranges {
			dst = le.AppendUint64(dst, r.First)
			dst = le.AppendUint64(dst, r.Last)
		}
	}
	for (len(dst)-at)%record.Align != 0 {
		dst = append(dst, 0)
	}
	t.indexBytes, t.indexSum = uint32(len(dst)-at), record.SaltedChecksum(salt, dst[at:])

	var b [trailerSize]byte
	copy(b[:], trailerMagic)
	le.PutUint16(b[8:], trailerVersion)
	le.PutUint16(b[10:], trailerSize)
	le.PutUint32(b[12:], t.indexBytes)
	le.PutUint64(b[16:], t.records)
	le.PutUint64(b[24:], t.first)
	le.PutUint64(b[32:], t.last)
	le.PutUint64(b[40:], uint64(t.end))
	le.PutUint32(b[48:], t.sums)
	le.PutUint32(b[52:], t.indexSum)
	le.PutUint32(b[60:], record.SaltedChecksum(salt, b[:60]))
	return append(dst, b[:]...)
}

// parseTrailer reads the last bytes of a file of that size. ok is false where
// they are no trailer: the segment is not sealed, or its end is damaged.
func parseTrailer(b []byte, salt uint64, size int64) (t trailer, ok bool, err error) {
	le := binary.LittleEndian
	if len(b) < trailerSize || string(b[:8]) != trailerMagic ||
		le.Uint32(b[60:]) != record.SaltedChecksum(salt, b[:60]) {
		return t, false, nil
	}
	if v := le.Uint16(b[8:]); v > trailerVersion {
		return t, false, fmt.Errorf("footer of version %d, this program knows %d: %w", v, trailerVersion, record.ErrNewer)
	}
	t = trailer{
		indexBytes: le.Uint32(b[12:]),
		records:    le.Uint64(b[16:]),
		first:      le.Uint64(b[24:]),
		last:       le.Uint64(b[32:]),
		end:        int64(le.Uint64(b[40:])),
		sums:       le.Uint32(b[48:]),
		indexSum:   le.Uint32(b[52:]),
	}
	ok = t.end >= record.FileHeaderSize && t.end <= size && t.end+int64(t.indexBytes)+trailerSize == size
	return t, ok, nil
}

var errIndex = errors.New("the index of the footer is damaged")

// parseIndex reads the index of a footer.
func parseIndex(b []byte, salt uint64, t trailer) (x index, reason Reason, err error) {
	if len(b) != int(t.indexBytes) || record.SaltedChecksum(salt, b) != t.indexSum {
		return x, 0, errIndex
	}
	p := &parser{b: b}
	head := p.take(4)
	parts := p.bound(int(p.u32()), partFixed)
	if p.bad || head[0] != trailerVersion {
		return x, 0, errIndex
	}
	reason = Reason(head[1])
	x.parts = make(map[partKey]int, parts)
	x.list = make([]Part, 0, parts)
	for range parts {
		category, partition := int(p.u32()), int(p.u16())
		q := Part{Chain: p.u32(), Messages: int64(p.u64()), Bytes: int64(p.u64())}
		ranges := int(p.u32())
		q.Category, q.Partition = string(p.take(category)), string(p.take(partition))
		for range p.bound(ranges, 16) {
			q.Ranges = append(q.Ranges, Range{First: p.u64(), Last: p.u64()})
		}
		if p.bad || q.Messages < 0 || x.messages > math.MaxInt64-q.Messages {
			return index{}, 0, errIndex
		}
		x.parts[partKey{q.Category, q.Chain, q.Partition}] = len(x.list)
		x.list = append(x.list, q)
		x.messages += q.Messages
	}
	return x, reason, nil
}
