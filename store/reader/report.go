package reader

import "fmt"

// maxLines bounds each list of a Report.
const maxLines = 1000

// A Report says what an answer is worth.
type Report struct {
	Messages   int64 // given out
	Bytes      int64 // of them, with their terminators
	Duplicates int64 // left out because a client had sent them twice

	// Uncounted says what could not be counted: messages that are, or may be,
	// missing from the answer or stand twice in it. One line each, for people.
	// An empty list means that everything acknowledged that the inventories
	// tell of is there, once.
	Uncounted []string
	// Problems is what else is not as it should be.
	Problems []string
}

func (r *Report) uncounted(format string, args ...any) {
	r.Uncounted = addLine(r.Uncounted, format, args...)
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = addLine(r.Problems, format, args...)
}

func addLine(lines []string, format string, args ...any) []string {
	switch {
	case len(lines) < maxLines:
		return append(lines, fmt.Sprintf(format, args...))
	case len(lines) == maxLines:
		return append(lines, "and more of the kind")
	}
	return lines
}

// A lack is something that the inventories tell of and that the answer does
// not have. Lacks of one kind are told in one line.
type lack struct {
	text     string // begins the line
	files    int
	messages uint64
}

// lacks in order of their first mention.
type lacks struct {
	list  []*lack
	index map[string]*lack
}

// add counts an item under a line.
func (l *lacks) add(text string, messages uint64) {
	k := l.index[text]
	if k == nil {
		if l.index == nil {
			l.index = make(map[string]*lack)
		}
		k = &lack{text: text}
		l.index[text] = k
		l.list = append(l.list, k)
	}
	k.files++
	k.messages += messages
}

// tell writes the lines into a report.
func (l *lacks) tell(r *Report) {
	for _, k := range l.list {
		r.uncounted("%s: %d messages in %d files or segments", k.text, k.messages, k.files)
	}
}
