package reader

import (
	"bytes"
	"time"

	"twinscribe/store/catalog"
)

// A Run is a piece of the answer: messages of one chain that follow one
// another in one file or segment. It and all that it refers to belong to the
// reader: they are valid until the function that got the run returns.
type Run struct {
	Category  string
	Partition catalog.Partition
	Identity  catalog.Identity // who took the messages
	Chain     uint32
	// First is the sequence of the first message, the others follow without a
	// gap. 0: not known, because the file has no manifest or lines could not be
	// placed.
	First    uint64
	Messages int
	Place    string // the cluster's name, or the buffer's
	Path     string // below the cluster's root, or the segment's name

	// Data holds the messages as a text file does, each with one line feed
	// behind it. A sink that wants text writes it as it is.
	Data []byte
	// LineFeeds are the messages with line feeds inside, with their terminator,
	// by offsets in Data: all others are exactly one line.
	LineFeeds []catalog.Span

	arrivals []catalog.Arrival // from the one that holds First on
}

// A Message is one message of a Run. It is valid as long as the run, and until
// the function that got it returns.
type Message struct {
	Category  string
	Partition catalog.Partition
	Identity  catalog.Identity
	Chain     uint32
	Sequence  uint64    // 0: not known
	Arrived   time.Time // to the second or so, see catalog.Arrival; zero: not known
	Senders   []string  // who it can be from; none: not known
	Place     string
	Path      string
	Data      []byte // without its terminating line feed
}

// Each calls f for the run's messages in order and ends at its first error,
// which it returns. The Message is the same one each time.
func (r *Run) Each(f func(*Message) error) error {
	m := Message{Category: r.Category, Partition: r.Partition, Identity: r.Identity, Chain: r.Chain, Place: r.Place, Path: r.Path}
	arrivals := r.arrivals
	s := splitter{data: r.Data, feeds: r.LineFeeds}
	for i := uint64(0); ; i++ {
		data, ok := s.next()
		if !ok {
			return nil
		}
		m.Data = data[:len(data)-1]
		if r.First != 0 {
			m.Sequence = r.First + i
			for len(arrivals) > 1 && arrivals[1].First <= m.Sequence {
				arrivals = arrivals[1:]
			}
			if len(arrivals) > 0 && arrivals[0].First <= m.Sequence {
				m.Arrived, m.Senders = time.UnixMilli(arrivals[0].Millis).UTC(), arrivals[0].Senders
			}
		}
		if err := f(&m); err != nil {
			return err
		}
	}
}

// A splitter finds messages in data that begins and ends at a message's edge.
type splitter struct {
	data  []byte
	feeds []catalog.Span // of data, in order
	at    int
}

// next gives the next message with its terminator; false at the end, and where
// the rest holds no whole message.
func (s *splitter) next() ([]byte, bool) {
	from := s.at
	for len(s.feeds) > 0 && s.feeds[0].Offset < int64(from) {
		s.feeds = s.feeds[1:]
	}
	if len(s.feeds) > 0 && s.feeds[0].Offset == int64(from) {
		end := from + int(s.feeds[0].Length)
		if end > len(s.data) || s.data[end-1] != '\n' {
			return nil, false
		}
		s.at = end
		return s.data[from:end], true
	}
	n := bytes.IndexByte(s.data[from:], '\n')
	if n < 0 {
		return nil, false
	}
	s.at = from + n + 1
	return s.data[from:s.at], true
}

// skip moves on by n messages, or as many as there are.
func (s *splitter) skip(n uint64) {
	for range n {
		if _, ok := s.next(); !ok {
			return
		}
	}
}

// whole is the length of the part of data that holds whole messages only, and
// how many. The spans are those of data by offsets in it; the last one may
// reach over its end.
func whole(data []byte, feeds []catalog.Span) (length, messages int) {
	at := 0
	for _, s := range feeds {
		// Lines up to the span.
		if int(s.Offset) > len(data) {
			break
		}
		messages += bytes.Count(data[at:s.Offset], newline)
		length = lineEnd(data[:s.Offset], at, length)
		end := int(s.Offset + s.Length)
		if end > len(data) {
			return length, messages
		}
		messages++
		length, at = end, end
	}
	messages += bytes.Count(data[at:], newline)
	return lineEnd(data, at, length), messages
}

var newline = []byte{'\n'}

// lineEnd is the end of the last line of data[at:], or length if there is none.
func lineEnd(data []byte, at, length int) int {
	if n := bytes.LastIndexByte(data[at:], '\n'); n >= 0 {
		return at + n + 1
	}
	return length
}

// feedsWithin cuts spans of a file to those that overlap [from, to), by offsets
// from from. The result lies in dst.
func feedsWithin(dst, feeds []catalog.Span, from, to int64) []catalog.Span {
	dst = dst[:0]
	for _, s := range feedsFrom(feeds, from) {
		if s.Offset >= to {
			break
		}
		dst = append(dst, catalog.Span{Offset: s.Offset - from, Length: s.Length})
	}
	return dst
}

// feedsFrom is the part of spans that begins at offset or behind it.
func feedsFrom(feeds []catalog.Span, offset int64) []catalog.Span {
	lo, hi := 0, len(feeds)
	for lo < hi {
		if mid := (lo + hi) / 2; feeds[mid].Offset < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return feeds[lo:]
}

// arrivalsFrom is the part of arrivals from the one that holds sequence on.
func arrivalsFrom(arrivals []catalog.Arrival, sequence uint64) []catalog.Arrival {
	lo, hi := 0, len(arrivals)
	for lo < hi {
		if mid := (lo + hi) / 2; arrivals[mid].First <= sequence {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return arrivals[max(0, lo-1):]
}
