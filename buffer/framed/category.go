package framed

// In the form of two frames a line of text can be taken for a category, and a
// category for a message. This file tells them apart, where damage hides which
// is which.

// The ranks of offsets by what stands there for a category.
const (
	unread   = iota // no message, or its category is odd
	named           // one that may be any line of text
	likely          // one that looks like a name
	known           // one that the head of the file has
	finished        // none, but the end of the file
)

// rank is that of an offset, and the offset behind the message there.
func (s *scanner) rank(at int64) (rank int, next int64) {
	if at == s.size {
		return finished, at
	}
	switch u := s.parse(at); {
	case u.bad != 0 || !u.named:
		return unread, at
	case s.isKnown(u.name):
		return known, u.end
	case isName(s.name(u.name)):
		return likely, u.end
	default:
		return named, u.end
	}
}

// alone says whether the category of u is one that a tear left alone, so that
// its message is the next category. That takes three messages from there on
// that have likely categories, or all to the end of the file, and none likely
// where categories are otherwise.
func (s *scanner) alone(u unit) bool {
	if s.form != TwoFrames || !s.likely(u.text) {
		return false
	}
	if next := s.parse(u.end); next.bad == Cut && (!next.named || s.likely(next.name)) {
		return false // a crash in the middle of a message
	}
	a, b := u.end, u.name.to
	for range 3 {
		var first, second int
		first, a = s.rank(a)
		second, b = s.rank(b)
		if first >= likely || second < likely {
			return false
		}
		if second == finished {
			break
		}
	}
	return true
}

// shifted says whether what stands at u are a message and the next category,
// rather than a category and its message. What comes first decides, as behind
// another tear all may be shifted again.
func (s *scanner) shifted(u unit) bool {
	if s.form != TwoFrames {
		return false
	}
	const window = 64
	a, b := u.at, u.name.to
	for range window {
		var first, second int
		first, a = s.rank(a)
		second, b = s.rank(b)
		if first != second || first == unread {
			return first < second
		}
	}
	return false
}

// name is a frame that is a category, or nothing if it is too long for one.
func (s *scanner) name(frame span) []byte {
	if frame.size() > maxName {
		return nil
	}
	return s.look(frame.from, frame.size())
}

// likely says whether a frame is a category, by the looks of it.
func (s *scanner) likely(frame span) bool { return isName(s.name(frame)) || s.isKnown(frame) }

// isKnown says whether a category is among those of the first messages of the
// file. One that does not look like a name must be there twice.
func (s *scanner) isKnown(frame span) bool {
	const most = 64
	if s.known == nil {
		s.known = map[string]int{}
		for at, n := int64(0), 0; at < s.size && n < most; n++ {
			u := s.parse(at)
			if u.bad != 0 || !u.named {
				break
			}
			name := s.name(u.name)
			if isName(name) {
				s.known[string(name)]++
			}
			s.known[string(name)]++
			at = u.end
		}
	}
	return s.known[string(s.name(frame))] > 1
}
