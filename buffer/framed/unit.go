package framed

import (
	"encoding/binary"
	"io"
)

const (
	// maxName is the longest category, with its line feed, by which frames are
	// trusted. A longer one is read where it is in its place.
	maxName = 1 << 10
	// longestName is the longest one that is read, where messages may not be longer.
	longestName = 1 << 16
)

// zeroRun is how many zeros in a row are no longer empty messages.
const zeroRun = 16 * headerSize

// span is a range of the file.
type span struct{ from, to int64 }

func (s span) size() int { return int(s.to - s.from) }

// unit is a message with all its frames, as the lengths at an offset tell it.
type unit struct {
	at, end    int64
	name, text span   // of the category with its line feed, and of the message
	bad        Reason // why there is none; end is right for TooLarge too
	named      bool   // its category is one by which frames are trusted; true in the form of one frame
	plain      bool   // named, and the message holds no zero byte
	last       byte   // of the message; 0 where it is empty
}

// empty says whether the unit is no more than a length of zero.
func (u unit) empty() bool { return u.end == u.at+headerSize }

// scanner is a file and what is known of it. Every question is answered from
// the bytes alone, so that it does not matter where a scan began.
type scanner struct {
	size int64
	form Form
	max  int64
	err  error // the first one of reading: answers are worthless then

	// One window each for what is handed over, for looking ahead frame by
	// frame, and for running through damage.
	body, ahead, run window

	clear  span // the last range that was found to hold no zero byte
	hidden struct {
		at     int64
		frames bool
	} // the last answer of hides
	resumed span           // the last answer of resume
	known   map[string]int // categories at the head of the file, each with its line feed; nil: not read
}

func newScanner(r io.ReaderAt, size int64, form Form, limit int) *scanner {
	if limit <= 0 || limit > MaxMessage {
		limit = MaxMessage
	}
	s := &scanner{size: size, form: form, max: int64(limit)}
	s.body = window{r: r, size: size, room: 256 << 10}
	s.ahead = window{r: r, size: size, room: 4 << 10}
	s.run = window{r: r, size: size, room: 64 << 10}
	s.hidden.at, s.resumed.from = -1, -1
	return s
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// look gives n bytes at an offset, for a short time.
func (s *scanner) look(at int64, n int) []byte {
	b, err := s.ahead.from(at, n)
	if err != nil {
		s.fail(err)
		return make([]byte, n)
	}
	return b[:n]
}

// find is search, running through the file.
func (s *scanner) find(kind func([]byte) int, from, to int64) int64 {
	at, err := s.run.search(kind, from, to)
	if err != nil {
		s.fail(err)
	}
	return at
}

// hasZero says whether a range holds a zero byte. It remembers the last run of
// bytes without one, so that ranges that overlap are read once.
func (s *scanner) hasZero(from, to int64) bool {
	c := &s.clear
	if from < c.from || from > c.to {
		*c = span{from, from}
	}
	if c.to < to {
		at, err := s.ahead.search(zero, c.to, to)
		if err != nil {
			s.fail(err)
		}
		c.to = at
	}
	return c.to < to
}

// frame is what a frame at an offset holds, as its length tells, if that is no
// more than most.
func (s *scanner) frame(at, most int64) (body span, bad Reason) {
	if s.size-at < headerSize {
		return span{at, at}, Cut
	}
	n := int64(binary.LittleEndian.Uint32(s.look(at, headerSize)))
	body = span{at + headerSize, at + headerSize + n}
	switch fits := body.to <= s.size; {
	case n >= topBit, n > most && !fits:
		return body, BadLength
	case n > most:
		return body, TooLarge
	case !fits:
		return body, Cut
	}
	return body, 0
}

// parse reads the unit at an offset.
func (s *scanner) parse(at int64) unit {
	u := unit{at: at, named: s.form == OneFrame}
	if s.form == TwoFrames {
		if u.name, u.bad = s.frame(at, max(s.max, longestName)); u.bad != 0 {
			if u.bad == TooLarge {
				u.bad = NoCategory
			}
			return u
		}
		if u.bad = s.parseName(&u); u.bad != 0 {
			return u
		}
		at = u.name.to
	}
	u.text, u.bad = s.frame(at, s.max)
	u.end = u.text.to
	if u.bad != 0 {
		return u
	}
	if u.text.size() == 0 {
		u.plain = u.named
		u.bad = s.zeros(at)
		return u
	}
	u.last = s.look(u.end-1, 1)[0]
	u.plain = u.named && u.last != 0 && !s.hasZero(u.text.from, u.text.to)
	return u
}

// parseName judges the bytes that stand for a category. Any that end in a line
// feed are one, as the original writes it; those by which frames are trusted
// have no other line feed and no zero byte.
func (s *scanner) parseName(u *unit) Reason {
	n := u.name.size()
	switch {
	case n == 0:
		return Zeros
	case s.look(u.name.to-1, 1)[0] != '\n':
		return NoCategory
	}
	u.named = n > 1 && n <= maxName
	if u.named {
		for _, c := range s.look(u.name.from, n-1) {
			u.named = u.named && c != 0 && c != '\n'
		}
	}
	return 0
}

// zeros says whether the length of zero at an offset is one of too many. No
// frame of a category begins with a zero length.
func (s *scanner) zeros(at int64) Reason {
	run := int64(zeroRun)
	if s.form == TwoFrames {
		run = 2 * headerSize
	}
	if s.size-at < run || notZero(s.look(at, int(run))) >= 0 {
		return 0
	}
	return Zeros
}
