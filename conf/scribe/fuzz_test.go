package scribe

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzParse: whatever a file holds, its mistakes are lines to print that say
// where; no key=value line is lost without a word; what is printed is read as
// the same tree; and a file without a mistake is what it is to Scribe.
func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) == 0 {
		f.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(mustHold)
}

// TestTextsAtRandomHoldToo: the same for files made of what files are made of,
// which bytes at random seldom are.
func TestTextsAtRandomHoldToo(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{
		"<store>", "<store>", "</store>", "</store>", "<primary>", "</primary>", "<store0>", "</store0>", "<store1>", "<a b>", "<>", "< x >", "<x", "<x/>", "<x/ />",
		"</x", "< /x>", "<a><b>", "<a></a>", "<a> b", "<a> b=c", "type=file", "type=buffer", "category=a", "file::a=1", "a=1", "a=2", "b = x y ",
		"=", "=1", "word", "#", "a=1#2", "  ", "\t<y>\t", "\t</y>", mark + "a=3", mark, "c=\x00", "<\x01>", "d=\xff", "e=1\r", "\r", "\xff\xfe=1", "g=\r\r",
	}
	for range 3000 {
		var b strings.Builder
		for range random.IntN(30) {
			b.WriteString(pieces[random.IntN(len(pieces))])
			if random.IntN(50) > 0 {
				b.WriteByte('\n')
			}
		}
		if mustHold(t, []byte(b.String())); t.Failed() {
			t.Fatalf("seed %d:\n%q", seed, b.String())
		}
	}
}

// TestAFileWithoutAMistakeIsWhatItIsToScribe writes trees at random as people
// write them, with comments, blanks and sections of many names.
func TestAFileWithoutAMistakeIsWhatItIsToScribe(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	line := func(text string) {
		b.WriteString(pick("", "", "  ", "\t ") + text + pick("", "", " ", "\t") + pick("", "", "# a <b> c=d") + "\n" + pick("", "", "\n", " # x\n"))
	}
	var section func(depth int)
	section = func(depth int) {
		for i := range random.IntN(4) {
			line(fmt.Sprintf("%s%d%s=%s%s", pick("key", "file::key", "a b", "\xff"), i, pick("", " "), pick("", " "), pick("", "x", "x y", "a=b", "<c>", "\"q\"", "</d>")))
		}
		for i := range random.IntN(4) {
			if depth > 4 {
				return
			}
			name := pick("store", "store", fmt.Sprintf("store%d", 10+i), fmt.Sprintf("primary%d", i), fmt.Sprintf("a b%d", i), fmt.Sprintf("=%d", i))
			line("<" + name + ">")
			section(depth + 1)
			line("</" + name + pick(">", " >"))
		}
	}
	for range 1000 {
		b.Reset()
		section(0)
		if ms := Parse("x", []byte(b.String())).Mistakes(); len(ms) > 0 {
			t.Errorf("it has mistakes:\n%s", ms)
		}
		if mustHold(t, []byte(b.String())); t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, b.String())
		}
	}
}

func mustHold(t *testing.T, content []byte) {
	f := Parse("fuzz", content)
	lines := bytes.Count(content, []byte{'\n'})
	if len(content) > 0 && content[len(content)-1] != '\n' {
		lines++
	}
	before := 0
	for _, m := range f.Mistakes() {
		mustTellWhere(t, m, lines)
		if m.Line < before {
			t.Errorf("line %d after line %d", m.Line, before)
		}
		before = m.Line
	}
	mustLoseNothing(t, content, f)
	text := printed(t, f.Root)
	again := Parse("fuzz", []byte(text))
	if want, got := shape(f.Root), shape(again.Root); want != got {
		t.Errorf("printed as\n%s\nit is\n%s\nwas\n%s", text, got, want)
	}
	if f.Err() == nil && len(again.Mistakes()) > 0 {
		t.Errorf("printed as\n%s\nit has mistakes:\n%s", text, again.Mistakes())
	}
	if len(f.Mistakes()) > 0 {
		return
	}
	m := model{lines: strings.Split(string(content), "\n")}
	if want, got := m.section(), shape(f.Root); want != got {
		t.Errorf("it has no mistake, and is\n%s\nto Scribe it is\n%s", got, want)
	}
}

func mustTellWhere(t *testing.T, m Mistake, lines int) {
	t.Helper()
	whole := strings.HasPrefix(m.Wrong, "the file has more") || strings.HasPrefix(m.Wrong, "there are more than")
	if m.Wrong == "" || m.Right == "" || m.File != "fuzz" || m.Line > lines || (m.Line < 1) != whole {
		t.Errorf("mistake %#v in a file of %d lines", m, lines)
	}
	line := m.String()
	if len(line) > 4096 || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("mistake of %d bytes is no line to print: %.200q", len(line), line)
	}
}

var notUsed = regexp.MustCompile(`lines (\d+) to (\d+) are not used`)

// mustLoseNothing: every line that looks like key=value is in the tree or below
// a mistake, unless there is one that says that there is no end of them.
func mustLoseNothing(t *testing.T, content []byte, f *File) {
	t.Helper()
	named := map[int]bool{}
	for _, m := range f.Mistakes() {
		if m.Line == 0 || strings.Contains(m.Wrong, "UTF-16") || strings.Contains(m.Wrong, "nothing is read from here on") {
			return
		}
		named[m.Line] = true
		if lines := notUsed.FindStringSubmatch(m.Wrong); lines != nil {
			first, _ := strconv.Atoi(lines[1])
			last, _ := strconv.Atoi(lines[2])
			for ; first <= last; first++ {
				named[first] = true
			}
		}
	}
	kept := map[int]Value{}
	var keep func(*Section)
	keep = func(s *Section) {
		for _, v := range s.Values() {
			kept[v.Line] = v
		}
		for _, inner := range s.Sections() {
			keep(inner)
		}
	}
	keep(f.Root)
	for i, line := range strings.Split(string(content), "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.Trim(line, " \t\r")
		key, value, is := strings.Cut(line, "=")
		if !is || strings.HasPrefix(line, "<") || named[i+1] {
			continue
		}
		if v, found := kept[i+1]; !found || v.Key != strings.Trim(key, " \t") || v.Text != strings.Trim(value, " \t") {
			t.Errorf("line %d, %q, is %+v, %v, and no mistake names it", i+1, line, v, found)
		}
	}
}

// shape is a tree as model has it.
func shape(s *Section) string {
	var b strings.Builder
	for _, v := range s.Values() {
		fmt.Fprintf(&b, "%q=%q ", v.Key, v.Text)
	}
	for _, inner := range s.Sections() {
		fmt.Fprintf(&b, "%q{%s} ", inner.Name, shape(inner))
	}
	return b.String()
}

// model reads a file as Scribe does, by its rules: one function that calls
// itself for a section, without a word about what it drops.
type model struct{ lines []string }

func (m *model) section() string {
	var keys, sections []string
	values, bodies, stores := map[string]string{}, map[string]string{}, 0
	put := func(order *[]string, in map[string]string, name, what string) {
		if at := slices.Index(*order, name); at >= 0 {
			*order = slices.Delete(*order, at, at+1)
		}
		*order, in[name] = append(*order, name), what
	}
	for len(m.lines) > 0 {
		line := strings.Trim(m.lines[0], " \t")
		m.lines = m.lines[1:]
		line, _, _ = strings.Cut(line, "#")
		if strings.HasPrefix(line, "</") {
			break
		}
		if name, is := strings.CutPrefix(line, "<"); is {
			if name, _, is = strings.Cut(name, ">"); is {
				body := m.section()
				if name == "store" {
					name += strconv.Itoa(stores)
					stores++
				}
				put(&sections, bodies, name, body)
			}
			continue
		}
		if key, value, is := strings.Cut(line, "="); is {
			put(&keys, values, strings.Trim(key, " \t"), strings.Trim(value, " \t"))
		}
	}
	var b strings.Builder
	for _, key := range keys {
		fmt.Fprintf(&b, "%q=%q ", key, values[key])
	}
	for _, name := range sections {
		fmt.Fprintf(&b, "%q{%s} ", name, bodies[name])
	}
	return b.String()
}
