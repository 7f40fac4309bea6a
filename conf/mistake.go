package conf

import (
	"fmt"
	"slices"
	"strings"
)

// A Mistake is one thing that is wrong in a file.
type Mistake struct {
	File string
	Line int    // 0 where it cannot be told
	Path string // of the key, such as categories[2].store.failover.prefer; empty: the file as a whole
	Text string // what is wrong, and what would be right
}

// String is the mistake in one line.
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	b.WriteString(": ")
	if m.Path != "" {
		b.WriteString(oneLineOf(short(m.Path)))
		b.WriteString(": ")
	}
	b.WriteString(oneLineOf(m.Text))
	return b.String()
}

// Mistakes is the error of Load for a file that could be read: all that is
// wrong in it, in the order of its lines.
type Mistakes []Mistake

// Error has a line for each mistake.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// maxMistakes bounds what is said about one file: nobody reads on.
const maxMistakes = 1000

// report gathers what is known about one file.
type report struct {
	file     string
	lines    map[string]int  // of each path, where they can be told
	said     map[string]bool // the paths that have a value in the file
	mistakes Mistakes
	warnings []string
	// suspects are the paths of mistakes found before the values are looked at
	// together, and of the keys that mistyped ones probably mean.
	suspects []string
}

func newReport(file string) *report {
	return &report{file: file, lines: map[string]int{}, said: map[string]bool{}}
}

func (r *report) add(path, format string, args ...any) {
	r.at(r.line(path), path, format, args...)
}

func (r *report) at(line int, path, format string, args ...any) {
	if r.full() {
		return
	}
	for i, a := range args {
		if s, is := a.(string); is && len(s) > 5*longText {
			args[i] = short(s)
		}
	}
	r.mistakes = append(r.mistakes, Mistake{r.file, line, path, fmt.Sprintf(format, args...)})
}

func (r *report) full() bool { return len(r.mistakes) >= maxMistakes }

func (r *report) warn(path, format string, args ...any) {
	m := Mistake{r.file, r.line(path), path, "warning: " + fmt.Sprintf(format, args...)}
	r.warnings = append(r.warnings, m.String())
}

// line is that of the path, or of the nearest thing around it that has one.
func (r *report) line(path string) int {
	for path != "" {
		if l, ok := r.lines[path]; ok {
			return l
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return r.lines[""] // that of a key without a name, if there is one
}

// suspect says whether something at the path, around it or below it is wrong
// already: what else seems wrong there may only follow from that.
func (r *report) suspect(path string) bool {
	return slices.ContainsFunc(r.suspects, func(s string) bool { return within(s, path) || within(path, s) })
}

// within says whether a path is outer or lies below it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// err is all mistakes in the order of their lines, or nil.
func (r *report) err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(r.mistakes, func(a, b Mistake) int { return a.Line - b.Line })
	if r.full() {
		return append(r.mistakes, Mistake{File: r.file, Text: "there may be more mistakes: mend these first"})
	}
	return r.mistakes
}

// join is the path of a key.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// nth is the path of an element.
func nth(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// nearest is the known word that a mistyped one most likely means, or "".
func nearest(word string, known []string) string {
	best, distance := "", max(2, (len(word)+2)/3)+1
	if len(word) < 4 {
		distance = 2
	}
	for _, k := range known {
		if d := edits(word, k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// edits is the number of letters to change, add, drop or swap with their
// neighbour to get from one word to another.
func edits(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, above[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
