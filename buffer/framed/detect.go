package framed

import "io"

// Detect says in which form a file is, from its first 64 frames. In the form
// of two frames each odd one is a category: printable ASCII without a blank,
// 255 bytes at most, and a line feed. It is that form if all odd frames are
// names and not all even ones, and that of one frame if at most half the odd
// ones are names. Both are sure from four odd frames on.
//
// It is not sure, and says what is more likely, where
//
//   - more than half the odd frames are names, but not all: two frames;
//   - all frames are names, as where every message is a single word and a line
//     feed: two frames if odd ones repeat more than even ones do;
//   - there are fewer frames, as in a short file or one that is damaged there.
//
// It takes categories with blanks or letters beyond ASCII for messages, and
// says so with certainty. The configuration knows better than it: a queue of
// many categories (new_thread_per_category=no) writes two frames, any other one.
func Detect(r io.ReaderAt, size int64) (form Form, sure bool, err error) {
	const most, sureFrom = 64, 4
	s := newScanner(r, size, OneFrame, MaxMessage)
	var frames, names [2]int
	var distinct [2]map[string]bool
	for i := range distinct {
		distinct[i] = map[string]bool{}
	}
	at := int64(0)
	for n := range most {
		body, bad := s.frame(at, s.max)
		if bad != 0 || body.size() == 0 && s.zeros(at) != 0 {
			break
		}
		side := n % 2 // 0: odd, counted from one
		frames[side]++
		if body.size() <= maxNameLike {
			name := s.look(body.from, body.size())
			distinct[side][string(name)] = true
			if isName(name) {
				names[side]++
			}
		}
		at = body.to
	}
	sure = frames[0] >= sureFrom
	switch {
	case frames[1] == 0 || 2*names[0] <= frames[0]:
		form = OneFrame
	case names[0] < frames[0]:
		form, sure = TwoFrames, false
	case names[1] < frames[1]:
		form = TwoFrames
	default:
		form, sure = OneFrame, false
		if len(distinct[0]) < len(distinct[1]) {
			form = TwoFrames
		}
	}
	return form, sure, s.err
}

const maxNameLike = 256 // with the line feed: as long as a file's name may be

// isName says whether a frame looks like a category and its line feed.
func isName(b []byte) bool {
	n := len(b) - 1
	if n < 1 || n >= maxNameLike || b[n] != '\n' {
		return false
	}
	for _, c := range b[:n] {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
