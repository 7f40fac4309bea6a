package scribe

import (
	"bytes"
	"strconv"
	"strings"
)

// Parse reads a file. name stands in messages. The tree is always there: where
// something is wrong, it is what the file most likely says.
func Parse(name string, content []byte) *File {
	f := &File{report: report{file: name}}
	f.Root = &Section{file: f}
	switch {
	case len(content) > MaxSize:
		f.report.add(0, f.Root, "", tooLarge())
	case isUTF16(content):
		f.report.add(1, f.Root, "", utf16())
	default:
		p := parser{file: f, open: []*level{{Section: f.Root}}}
		p.all(string(content))
		f.Root.sweep()
	}
	return f
}

// isUTF16 knows it by its mark and by the NUL that is beside every letter.
func isUTF16(content []byte) bool {
	return (bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff"))) &&
		bytes.IndexByte(content, 0) >= 0
}

const (
	blanks = " \t"          // all that Scribe trims
	mark   = "\xef\xbb\xbf" // the byte order mark in UTF-8
)

func trim(s string) string { return strings.Trim(s, blanks) }

// parser takes a file line by line.
type parser struct {
	file  *File
	line  int
	open  []*level // around the line, the top level first
	crlf  bool     // said
	deep  bool     // too deep: nothing is read any more
	stray bool     // a closing tag closed nothing
	torn  bool     // an opening tag has no >, and so it may be why tags do not match up
	other []other
}

// level is an open section.
type level struct {
	*Section
	tag    string // its name as it is written
	stores int    // sections written <store> in it so far
	doubt  bool   // a section in it may be meant to stand behind it
}

// other is a closing tag of another name than that of the section it closes.
type other struct {
	line    int
	section *Section
	tag     string // as the closing tag says
	opened  string // as the opening tag says
}

func (p *parser) top() *level { return p.open[len(p.open)-1] }

// say notes what is wrong in this line.
func (p *parser) say(f finding) { p.file.report.add(p.line, p.top().Section, "", f) }

func (p *parser) all(text string) {
	for line := range strings.Lines(text) {
		p.line++
		p.take(line)
		if p.deep {
			return
		}
	}
	p.end()
}

// take is one line.
func (p *parser) take(line string) {
	line, had := strings.CutSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if had && !p.crlf {
		p.crlf = true
		p.file.report.add(p.line, p.file.Root, "", carriageReturns())
	}
	text := trim(line)
	if strings.HasPrefix(text, mark) {
		p.file.report.add(p.line, p.file.Root, "", byteOrderMark())
		for strings.HasPrefix(text, mark) {
			text = trim(text[len(mark):])
		}
	}
	text, _, _ = strings.Cut(text, "#")
	text = trim(text)
	isTag := strings.HasPrefix(text, "<")
	if at := strings.IndexFunc(text, isControl); at >= 0 {
		p.say(controlCharacter(text[at]))
		if !isTag {
			return
		}
		text = strings.Map(visible, text) // the lines below still belong to a section
	}
	if !isTag {
		p.key(text)
		return
	}
	for text != "" && !p.deep {
		text = p.tag(text)
	}
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func visible(r rune) rune {
	if isControl(r) {
		return '?'
	}
	return r
}

// key is a line that is no tag.
func (p *parser) key(text string) {
	if text == "" {
		return
	}
	key, value, found := strings.Cut(text, "=")
	key = trim(key)
	switch {
	case !found:
		p.say(noEquals(text))
		return
	case key == "":
		p.say(noKey())
		return
	}
	s := p.top()
	e := &entry{Value: Value{Key: key, Text: trim(value), Line: p.line, Section: s.Section}}
	if before := s.byKey[key]; before != nil {
		before.replaced = true
		p.file.report.add(before.Line, s.Section, key, keyAgain(p.line))
	}
	if s.byKey == nil {
		s.byKey = map[string]*entry{}
	}
	s.byKey[key] = e
	s.values = append(s.values, e)
	if outer := len(p.open) - 2; outer > 0 && (key == "category" || key == "categories") {
		p.open[outer].doubt = true
	}
}

// tag is a line, or the rest of one, that begins with <. What it returns is
// another one behind it.
func (p *parser) tag(text string) (more string) {
	if name, closes := strings.CutPrefix(text, "</"); closes {
		name, rest, ended := strings.Cut(name, ">")
		if !ended {
			p.say(endWithoutEnd(text))
		}
		p.closeSection(trim(name))
		return p.behind(rest)
	}
	written, rest, ended := strings.Cut(text[1:], ">")
	name := trim(written)
	switch {
	case !ended:
		p.say(tagWithoutEnd(text))
	case name == "":
		p.say(tagWithoutName())
	case strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/"):
		p.say(tagWithSlash(written))
	case name != written:
		p.say(tagWithBlanks(written))
	}
	plain := strings.Trim(name, "/"+blanks)
	closes := strings.HasPrefix(name, "/")
	if !closes {
		p.openSection(plain)
		if !ended {
			p.tear()
		}
	}
	if closes || strings.HasSuffix(name, "/") && !p.deep {
		p.closeSection(plain)
	}
	return p.behind(rest)
}

// behind is the rest of a line with a tag.
func (p *parser) behind(rest string) (more string) {
	rest = trim(rest)
	switch {
	case rest == "" || p.deep:
		return ""
	case !strings.ContainsAny(rest, "<="):
		p.say(textAfterTag(rest))
		return ""
	}
	p.say(moreAfterTag())
	if strings.HasPrefix(rest, "<") {
		return rest
	}
	return ""
}

func (p *parser) openSection(tag string) {
	if len(p.open) > MaxDepth {
		p.say(tooDeep())
		p.deep = true
		return
	}
	outer, name := p.top(), tag
	if tag == "store" {
		name += strconv.Itoa(outer.stores)
		outer.stores++
	}
	if tag == outer.tag {
		outer.doubt = true
	}
	s := &Section{Name: name, Line: p.line, file: p.file, parent: outer.Section}
	if before := outer.byName[name]; before != nil {
		before.replaced = true
		p.file.report.add(before.Line, before, "", sectionAgain(before.Line, before.last, p.line))
	}
	if outer.byName == nil {
		outer.byName = map[string]*Section{}
	}
	outer.byName[name] = s
	outer.sections = append(outer.sections, s)
	p.open = append(p.open, &level{Section: s, tag: tag})
}

// tear notes that the opening tag of this line has no >. Which section it was to
// open, and whether it was to open one, cannot be told: it is said once, and what
// only follows from it is not.
func (p *parser) tear() {
	p.torn = true
	for s := p.top().Section; s != nil; s = s.parent {
		s.torn = true
	}
}

func (p *parser) closeSection(tag string) {
	if len(p.open) == 1 {
		p.stray = true
		p.say(strayEnd(tag))
		return
	}
	s := p.top()
	s.last = p.line
	if tag != s.tag && len(p.other) <= maxMistakes {
		p.other = append(p.other, other{p.line, s.Section, tag, s.tag})
	}
	p.open = p.open[:len(p.open)-1]
}

// end is the end of the file, where it shows whether the tags match up.
func (p *parser) end() {
	if p.torn {
		return
	}
	for _, s := range p.open[1:] {
		s.last = p.line
		f := openAtEnd(s.tag)
		if s.doubt {
			f = openAtEndInDoubt(s.tag)
		}
		p.file.report.add(s.Line, s.Section, "", f)
	}
	for _, o := range p.other {
		f := otherEnd(o.tag, o.opened, o.section.Line)
		if p.stray || len(p.open) > 1 {
			f = otherEndInDoubt(o.tag, o.opened, o.section.Line)
		}
		p.file.report.add(o.line, o.section, "", f)
	}
}

// sweep takes out what was replaced. To do it at once would cost a search each
// time.
func (s *Section) sweep() {
	values := s.values[:0]
	for _, e := range s.values {
		if !e.replaced {
			values = append(values, e)
		}
	}
	s.values = values
	sections := s.sections[:0]
	for _, inner := range s.sections {
		if !inner.replaced {
			inner.sweep()
			sections = append(sections, inner)
		}
	}
	s.sections = sections
}
