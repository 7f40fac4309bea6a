package scribe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Severity says what a mistake means for the file.
type Severity int

const (
	// Warning: the file is read as it is meant, or as Scribe reads it.
	Warning Severity = iota
	// Error: what is meant cannot be told.
	Error
)

// String is the word for it.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// A Mistake is one thing that is wrong in a file.
type Mistake struct {
	File     string
	Line     int    // 0: the file as a whole
	Section  string // path of the section, such as store1/primary; empty: the top level
	Key      string // as it is written; empty: not about a key
	Severity Severity
	Wrong    string // what is wrong
	Right    string // what would be right
}

// String is the mistake in one line that can be printed.
func (m Mistake) String() string {
	var b strings.Builder
	b.WriteString(printable(m.File))
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	for _, place := range []string{m.Section, m.Key} {
		if place != "" {
			b.WriteString(": " + printable(place))
		}
	}
	if m.Severity == Warning {
		b.WriteString(": warning")
	}
	b.WriteString(": " + m.Wrong + ": " + m.Right)
	return b.String()
}

// Mistakes are mistakes in the order of their lines.
type Mistakes []Mistake

// Error has a line for each mistake.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// maxMistakes bounds what is said about one file, for each severity: nobody
// reads on, and warnings do not hide an error.
const maxMistakes = 1000

// report gathers what is wrong in one file.
type report struct {
	file     string
	mistakes Mistakes
	count    [Error + 1]int
	cut      [Error + 1]bool
	said     map[Mistake]bool // two stores that inherit one value say the same of it
}

func (r *report) add(line int, s *Section, key string, f finding) {
	if r.count[f.severity] >= maxMistakes {
		r.cut[f.severity] = true
		return
	}
	m := Mistake{r.file, line, s.Path(), short(key), f.severity, f.wrong, f.right}
	if r.said[m] {
		return
	}
	if r.said == nil {
		r.said = map[Mistake]bool{}
	}
	r.said[m] = true
	r.count[f.severity]++
	r.mistakes = append(r.mistakes, m)
}

func (r *report) sorted() Mistakes {
	all := slices.Clone(r.mistakes)
	slices.SortStableFunc(all, func(a, b Mistake) int { return a.Line - b.Line })
	for severity, cut := range r.cut {
		if cut {
			all = append(all, Mistake{
				File: r.file, Severity: Severity(severity),
				Wrong: fmt.Sprintf("there are more than %d %ss", maxMistakes, Severity(severity)), Right: "mend these first",
			})
		}
	}
	return all
}

// AddError notes that something is wrong with a key, where its value stands, or
// at the section if it has none. An empty key: with the section as a whole. Of
// one with an opening tag without > it notes nothing: what it seems to lack may
// be there, and the tag is an error already.
// What the texts repeat of the file is quoted by the caller.
func (s *Section) AddError(key, wrong, right string) {
	s.add(key, finding{Error, wrong, right})
}

// AddWarning is AddError for what does not keep the file from being used.
func (s *Section) AddWarning(key, wrong, right string) {
	s.add(key, finding{Warning, wrong, right})
}

func (s *Section) add(key string, f finding) {
	for e := range s.places(key) {
		s.file.report.add(e.Line, e.Section, e.Key, f)
		return
	}
	if !s.torn {
		s.file.report.add(s.Line, s, key, f)
	}
}

// longText is the longest text of a file that a message repeats whole.
const longText = 200

// short is a text as messages repeat it.
func short(s string) string {
	if len(s) <= longText {
		return s
	}
	cut := longText / 2
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:cut], len(s))
}

// quoted is a text of the file in quotes, with what cannot be seen made
// visible: a value may hold bytes that are no UTF-8, as in Scribe.
func quoted(s string) string { return strconv.Quote(short(s)) }

// printable is quoted without the quotes.
func printable(s string) string {
	q := quoted(s)
	return q[1 : len(q)-1]
}
