package scribefile

import (
	"twinscribe/store"
)

// A piece is what one write call takes of a batch.
type piece struct {
	data []byte
	n    int   // messages in it
	ends []int // where each ends in data; nil: as in the batch, from its first on
}

// scratch is room for a piece that is no part of its batch.
type scratch struct {
	data []byte
	ends []int
}

// cut gives the next piece of b, from message i on, for a file that is size
// bytes long. data is a part of b where that is what the file has to hold, and
// otherwise made in room.
func (s *Spec) cut(b *store.Batch, i int, size int64, room *scratch) piece {
	limit := s.MaxWriteSize
	if s.MaxSize > 0 {
		limit = min(limit, s.MaxSize)
	}
	if s.AddNewlines && !s.WriteCategory && s.ChunkSize == 0 {
		from, n := start(b, i), 0
		for n < b.Len()-i && (n == 0 || start(b, i+n)-from <= limit) {
			n++
		}
		return piece{data: b.Data[from:start(b, i+n)], n: n}
	}
	p := piece{data: room.data[:0], ends: room.ends[:0]}
	for ; i < b.Len() && (p.n == 0 || int64(len(p.data)) <= limit); i++ {
		p.add(s, b.Category, b.Message(i), size)
	}
	room.data, room.ends = p.data, p.ends
	return p
}

// start is where message i begins in the batch.
func start(b *store.Batch, i int) int64 {
	if i == 0 {
		return 0
	}
	return int64(b.Ends[i-1])
}

// add puts one message at the end of a piece that will stand behind size bytes.
func (p *piece) add(s *Spec, category string, message []byte, size int64) {
	length := int64(len(message))
	if s.AddNewlines {
		length++
	}
	if s.WriteCategory {
		length += int64(len(category)) + 1
	}
	p.data = append(p.data, make([]byte, s.padding(size+int64(len(p.data)), length))...)
	if s.WriteCategory {
		p.data = append(append(p.data, category...), '\n')
	}
	p.data = append(p.data, message...)
	if s.AddNewlines {
		p.data = append(p.data, '\n')
	}
	p.n++
	p.ends = append(p.ends, len(p.data))
}

// padding is how many NULs stand before what is length bytes long, at an
// offset of the file, so that it crosses no multiple of the chunk size. What is
// longer than a chunk begins with one.
func (s *Spec) padding(offset, length int64) int64 {
	if s.ChunkSize == 0 {
		return 0
	}
	used := offset % s.ChunkSize
	if used == 0 || length <= s.ChunkSize-used {
		return 0
	}
	return s.ChunkSize - used
}

// whole is how many messages stand in the first bytes of the piece, which
// begins with message i of b, and where the last of them ends.
func (p *piece) whole(b *store.Batch, i int, bytes int64) (n int, end int64) {
	for ; n < p.n; n++ {
		to := start(b, i+n+1) - start(b, i)
		if p.ends != nil {
			to = int64(p.ends[n])
		}
		if to > bytes {
			break
		}
		end = to
	}
	return n, end
}

// after is what is left of b without its first n messages.
func after(b *store.Batch, n int) *store.Batch {
	rest := *b
	rest.Taken = nil
	rest.First += uint64(n)
	from := start(b, n)
	rest.Data = b.Data[from:]
	rest.Ends = make([]uint32, 0, b.Len()-n)
	for _, end := range b.Ends[n:] {
		rest.Ends = append(rest.Ends, end-uint32(from))
	}
	return &rest
}
