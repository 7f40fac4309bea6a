package framed

import "encoding/binary"

// believed says whether the unit is a message, given that one may begin where
// it does.
func (s *scanner) believed(u unit) bool {
	if u.bad != 0 || !u.plain && s.hides(u) || s.alone(u) {
		return false
	}
	follows, zeros := s.follows(u.end)
	switch {
	case zeros && u.last == 0 && u.text.size() > 0: // they began within it
		return false
	case follows:
		return true
	}
	next := s.resume(u.at + 1)
	if s.form == TwoFrames && next == u.name.to { // its own second frame, which looks like a category
		next = s.resume(next + 1)
	}
	return next >= u.end && s.wasLength(u, next) && !s.heap(u)
}

// follows says whether something that can be a frame stands at an offset, or
// the end of the file; or zeros, with which nothing is wrong before them.
func (s *scanner) follows(at int64) (yes, zeros bool) {
	if at == s.size {
		return true, false
	}
	switch u := s.parse(at); u.bad {
	case 0:
		return u.plain || !s.hides(u), false
	case Cut: // unless frames begin right behind it: then it is no length
		next := s.resume(at + 1)
		return next == s.size || next >= at+headerSize, false
	case Zeros:
		return true, true
	case TooLarge:
		return s.oversized(u) > 0, false
	}
	return false, false
}

// wasLength says whether the bytes between u and the offset where frames begin
// again can be what is left of a frame, so that u ends where its length says.
// They can behind a line feed; otherwise they have a zero byte where a length
// has one, or are fewer bytes than a length. Those belong to u where they end
// its line as the next message ends its own.
func (s *scanner) wasLength(u unit, next int64) bool {
	switch {
	case u.last == '\n' || next == u.end:
		return true
	case next-u.end >= headerSize:
		return zero(s.look(u.end+1, headerSize-1)) >= 0
	}
	return next == s.size || s.look(next-1, 1)[0] != '\n' || s.parse(next).last != '\n'
}

// heap says whether u is what several torn messages left: it begins as text
// and holds a length.
func (s *scanner) heap(u unit) bool {
	if u.plain {
		return false
	}
	first := s.find(zero, u.text.from, u.end)
	n := first - (headerSize - 1) - u.text.from
	return first < u.end && n > 0 && isText(s.look(u.text.from, int(min(n, 64))))
}

// oversized is the end of a run of messages that are too large, or 0 where
// they are none: their lengths lead nowhere.
func (s *scanner) oversized(u unit) int64 {
	for u.bad == TooLarge && !s.hides(u) {
		end := u.end
		if end == s.size || s.trusted(end) {
			return end
		}
		if u = s.parse(end); u.bad == Cut {
			return end
		}
	}
	return 0
}

// hides says whether frames begin within a unit that do not belong to it.
func (s *scanner) hides(u unit) bool {
	if s.hidden.at != u.at {
		s.hidden.at, s.hidden.frames = u.at, s.hidesFrames(u)
	}
	return s.hidden.frames
}

func (s *scanner) hidesFrames(u unit) bool {
	text := s.find(zero, u.text.from, u.end) // the end of it
	for at := u.at + 1; s.err == nil; at++ {
		if at = s.candidate(at, u.end); at >= u.end {
			break
		}
		if s.form == TwoFrames && at == u.name.to { // its own second frame
			continue
		}
		// Only text is what is left of a torn message of text.
		through, last := s.plainThrough(at, u.end, at <= text)
		if through {
			return true
		}
		// What began behind at and came by last has ended there too.
		at = max(at, last)
	}
	return false
}

// plainThrough follows plain messages from an offset on to another one, and
// beyond it until they weigh enough. They must weigh something by then, and may
// come to it exactly where exact says so; where that is the end of the file, a
// line is enough. last is the last one that it came to.
func (s *scanner) plainThrough(at, to int64, exact bool) (through bool, last int64) {
	for first, sum := at, 0; s.err == nil; {
		u := s.parse(at)
		if u.bad != 0 || !u.plain || u.empty() && at == first {
			return false, last
		}
		last, at = at, u.end
		sum += s.weight(u)
		switch {
		case at < to:
		case last < to && sum < enoughAtEnd, at == to && !exact:
			return false, last
		case sum >= enough:
			return true, last
		case at == s.size:
			return sum >= headerSize+2 || to < s.size, last
		}
	}
	return false, last
}

// candidate is the first offset from an offset on where the length of a frame
// may stand that is not empty, or to.
func (s *scanner) candidate(from, to int64) int64 {
	const top = headerSize - 1
	for at := from + top; s.err == nil && at < s.size; {
		at = s.find(zero, at, min(to+top, s.size))
		if at-top >= to || at >= s.size {
			break
		}
		b, err := s.run.from(at-top, headerSize)
		if err != nil {
			s.fail(err)
			break
		}
		if notZero(b[:headerSize]) >= 0 {
			return at - top
		}
		at = s.find(notZero, at, s.size) + 1 // whose byte is not the top of a length
	}
	return to
}

// resume is the first offset from an offset on where frames are trusted, or
// the end of the file.
func (s *scanner) resume(from int64) int64 {
	if s.resumed.from < 0 || from < s.resumed.from || from > s.resumed.to {
		at := s.candidate(from, s.size)
		for at < s.size && s.err == nil && !s.trusted(at) {
			at = s.candidate(at+1, s.size)
		}
		s.resumed = span{from, at}
	}
	return s.resumed.to
}

// trusted says whether frames begin at an offset of which nothing else is
// known.
func (s *scanner) trusted(at int64) bool {
	first := s.parse(at)
	if first.bad != 0 || first.empty() || s.form == TwoFrames && !(first.named && s.likely(first.name)) {
		return false
	}
	u, sum := first, s.breaksText(first)
	for sum += s.weight(u); sum < enough; sum += s.weight(u) {
		if u.end == s.size {
			if sum < enoughAtEnd {
				return false
			}
			break
		}
		if u = s.parse(u.end); u.bad != 0 || s.err != nil {
			return false
		}
	}
	return (first.plain || !s.hides(first)) && !s.shifted(first)
}

// breaksText is the weight that the first message behind damage has more where
// its length breaks off text: text has no zero byte, so the message before is
// torn. The more text the length leads through, the more it weighs; a single
// byte is enough at the end of the file.
func (s *scanner) breaksText(first unit) int {
	n := first.text.size()
	if s.form != OneFrame || !first.plain || n == 0 || !isText(s.look(first.text.from, min(n, 64))) || !s.brokenOff(first.at) {
		return 0
	}
	return min(n+1, enough-1)
}

// brokenOff says whether the bytes before an offset are ASCII text: so many
// that they are no accident, or all there is of what a length before them
// announces more of.
func (s *scanner) brokenOff(at int64) bool {
	const many = 12
	b := s.look(max(at-many-headerSize, 0), int(min(at, many+headerSize)))
	head := len(b)
	for head > 0 && b[head-1] < 0x7f && isText(b[head-1:head]) {
		head--
	}
	n := len(b) - head
	return n >= many || n > 0 && head >= headerSize && int64(n) < min(int64(binary.LittleEndian.Uint32(b[head-headerSize:])), s.max)
}

// The weight of messages behind damage, from which on they are trusted.
const (
	enough      = 8
	enoughAtEnd = 3 // where they end with the file
)

// weight is how much a unit tells that frames stand where it does. A line feed
// at the end of text tells most.
func (s *scanner) weight(u unit) (sum int) {
	if s.form == TwoFrames {
		sum = 1
		if u.named {
			sum = min(headerSize+u.name.size(), enough)
		}
	}
	n := u.text.size()
	switch {
	case n == 0:
		return sum
	case u.plain && u.last == '\n' && n > 1: // a number 1 and a line feed look like a line of one
		return sum + min(headerSize+n, enough)
	case u.plain && n >= 12 && isText(s.look(u.text.from, min(n, 64))):
		return sum + 3
	}
	return sum + 1
}

// isText says whether bytes are none of those that control a terminal, except
// white space.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && (c < '\t' || c > '\r') {
			return false
		}
	}
	return true
}
