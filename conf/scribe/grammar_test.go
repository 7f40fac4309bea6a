package scribe

import (
	"fmt"
	"strings"
	"testing"
)

// printed is a section as Print writes it.
func printed(t testing.TB, s *Section) string {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// said is all that is wrong in a file, without its name.
func said(f *File) string {
	var b strings.Builder
	for _, m := range f.Mistakes() {
		fmt.Fprintln(&b, strings.TrimPrefix(m.String(), m.File+":"))
	}
	return b.String()
}

// Lines of a configuration, of what Print makes of it, and of what is wrong,
// each without the newline that ends it.
type grammarCase struct{ name, text, tree, wrong string }

func TestTheGrammar(t *testing.T) {
	for _, c := range []grammarCase{
		{"an empty file", "", "", ""},
		{"blanks and comments are nothing", "\n  \t \n# a=1\n  # <store>\n", "", ""},
		{"blanks around a line, a key and a value", " \tport \t=\t 1463 \t\n", "port=1463", ""},
		{"a comment ends a line anywhere", "a=1#2\n<store># x > y\n</store># z\n", "a=1\n\n<store>\n</store>", ""},
		{"the first = divides", "a=b=c\n", "a=b=c", ""},
		{"an empty value", "a=\n", "a=", ""},
		{"quotes and blanks within are a part of it", "my key=\"a  b\"\n", `my key="a  b"`, ""},
		{"the last line without an end", "a=1", "a=1", ""},
		{"bytes that are no UTF-8", "category=caf\xe9\n", "category=caf\xe9", ""},
		{"a name ends at the first >", "<a b>\n</a b>\n", "<a b>\n</a b>", ""},
		{"sections in sections", "<store>\n<primary>\na=1\n</primary>\nb=2\n</store>\n", "<store>\n  b=2\n  <primary>\n    a=1\n  </primary>\n</store>", ""},
		{"keys behind sections are the server's", "<store>\n</store>\nport=1\n", "port=1\n\n<store>\n</store>", ""},
		{
			"sections called store are numbered per parent",
			"<store>\n<store>\n</store>\n<store>\n</store>\n</store>\n<x>\n</x>\n<store>\n</store>\n",
			"<store>\n  <store>\n  </store>\n  <store>\n  </store>\n</store>\n\n<x>\n</x>\n\n<store>\n</store>", "",
		},
		{"a number in the name is left as it is", "<store7>\n</store7>\n<store>\n</store>\n", "<store7>\n</store7>\n\n<store>\n</store>", ""},
		{"STORE is another name", "<STORE>\n</STORE>\n<Store>\n</Store>\n", "<STORE>\n</STORE>\n\n<Store>\n</Store>", ""},
	} {
		checkGrammar(t, c)
	}
}

func TestWhatScribeManglesIsReadAsItIsMeantWithAWarning(t *testing.T) {
	for _, c := range []grammarCase{
		{
			"a stray closing tag does not end the file",
			"a=1\n</store>\n<store>\n</store>\n", "a=1\n\n<store>\n</store>",
			"2: warning: </store> closes nothing, and Scribe reads nothing behind it: remove it: the rest is read",
		},
		{
			"a closing tag of another name",
			"<bucket3>\na=1\n</bucket2>\n", "<bucket3>\n  a=1\n</bucket3>",
			"3: bucket3: warning: </bucket2> closes <bucket3> of line 1: write </bucket3>",
		},
		{
			"closing tags of each other's names",
			"<store>\n<primary>\n</store>\n</primary>\n", "<store>\n  <primary>\n  </primary>\n</store>",
			"3: store0/primary: warning: </store> closes <primary> of line 2: write </primary>\n" +
				"4: store0: warning: </primary> closes <store> of line 1: write </store>",
		},
		{
			"a closing tag with the number",
			"<store>\n</store0>\n", "<store>\n</store>",
			"2: store0: warning: </store0> closes <store> of line 1: write </store>",
		},
		{
			"a closing tag without a name",
			"<store>\n</>\n", "<store>\n</store>",
			"2: store0: warning: </> closes <store> of line 1: write </store>",
		},
		{
			"a closing tag without >",
			"<store>\n</store\n", "<store>\n</store>",
			`2: store0: warning: "</store" has no >: write </name>`,
		},
		{
			"blanks in a closing tag are nothing",
			"<store>\n</ store >\n", "<store>\n</store>", "",
		},
		{
			"line ends of Windows, said once",
			"a=1\r\n# x\r\n<store>\r\n  type=file\r\n</store>\r\n", "a=1\n\n<store>\n  type=file\n</store>",
			"1: warning: the lines end in CR LF, and to Scribe the CR belongs to the value: end them in LF, as they are read",
		},
		{
			"one line end of Windows, and the last one without LF",
			"a=1\n<store>\n</store>\nb=2\r", "a=1\nb=2\n\n<store>\n</store>",
			"4: warning: the lines end in CR LF, and to Scribe the CR belongs to the value: end them in LF, as they are read",
		},
		{
			"a byte order mark",
			"\xef\xbb\xbfport=1463\n", "port=1463",
			"1: warning: a byte order mark stands in front, which is a part of the line to Scribe: save the file without it",
		},
		{
			"byte order marks where files were joined",
			"a=1\n \xef\xbb\xbf \xef\xbb\xbf<store>\n</store>\n", "a=1\n\n<store>\n</store>",
			"2: warning: a byte order mark stands in front, which is a part of the line to Scribe: save the file without it",
		},
		{
			"a key twice",
			"<store>\nmax_size=1\nother=2\nmax_size=3\nmax_size=4\n</store>\n", "<store>\n  other=2\n  max_size=4\n</store>",
			"2: store0: max_size: warning: stands again in line 4, and that one counts: keep one of them\n" +
				"4: store0: max_size: warning: stands again in line 5, and that one counts: keep one of them",
		},
		{
			"a key in two sections is no such thing",
			"a=1\n<x>\na=1\n</x>\n", "a=1\n\n<x>\n  a=1\n</x>", "",
		},
		{
			"a section twice",
			"<a>\n</a>\n<x>\nb=1\n<y>\n</y>\n</x>\n<x>\nc=2\n</x>\n", "<a>\n</a>\n\n<x>\n  c=2\n</x>",
			"3: x: warning: the section opens again in line 8, and that one counts: lines 3 to 7 are not used: rename or remove one of them",
		},
		{
			"a section called as a numbered one",
			"<store>\n</store>\n<store0>\na=1\n</store0>\n", "<store>\n  a=1\n</store>",
			"1: store0: warning: the section opens again in line 3, and that one counts: lines 1 to 2 are not used: rename or remove one of them",
		},
		{
			"words behind a tag",
			"<store> the first\n</store> its end\n", "<store>\n</store>",
			"1: store0: warning: \"the first\" behind the tag is not read: put a # in front of a comment\n" +
				"2: warning: \"its end\" behind the tag is not read: put a # in front of a comment",
		},
		{
			"blanks around a name",
			"< store\t>\n</store>\n", "<store>\n</store>",
			`1: warning: blanks around the name of < store\t>, which belong to it in Scribe: write it without them`,
		},
		{
			"sections open at the end",
			"<store>\na=1\n<primary>\nb=2\n", "<store>\n  a=1\n  <primary>\n    b=2\n  </primary>\n</store>",
			"1: store0: warning: the section is open at the end of the file: write </store> where it ends\n" +
				"3: store0/primary: warning: the section is open at the end of the file: write </primary> where it ends",
		},
	} {
		checkGrammar(t, c)
		if err := Parse("x", []byte(c.text)).Err(); err != nil {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

func TestWhatIsAmbiguousIsAnError(t *testing.T) {
	for _, c := range []grammarCase{
		{"a line without =", "port: 1463\n", "", `1: "port: 1463" is neither key=value nor a section: put a = behind the key, or a # in front of a comment`},
		{"a line without a key", "<s>\n  =1\n</s>\n", "<s>\n</s>", `2: s: there is no key in front of the =: write key=value, or put a # in front of a comment`},
		{"a tag without >", "<store\na=1\n</store>\n", "<store>\n  a=1\n</store>", `1: "<store" has no >: write <name> on a line of its own`},
		{"a tag without > that nothing closes", "<s>\n<t\na=1\n</s>\n", "<s>\n  <t>\n    a=1\n  </t>\n</s>", `2: s: "<t" has no >: write <name> on a line of its own`},
		{"a tag whose > is a comment", "<st#ore>\n</st>\n", "<st>\n</st>", `1: "<st" has no >: write <name> on a line of its own`},
		{"a section without a name", "<>\na=1\n</>\n", "<>\n  a=1\n</>", "1: a section without a name: write <name>"},
		{"a section with a blank for a name", "< >\n</>\n", "<>\n</>", "1: a section without a name: write <name>"},
		{
			"a blank in front of the slash", "<s>\n< /s>\nb=1\n", "b=1\n\n<s>\n</s>",
			"2: s: < /s> opens a section in Scribe, and has a / in its name: write </s> to close one, <s> and </s> on two lines for an empty one",
		},
		{
			"an empty section as XML has it", "<s>\n<null/>\na=1\n</s>\n", "<s>\n  a=1\n  <null>\n  </null>\n</s>",
			"2: s: <null/> opens a section in Scribe, and has a / in its name: write </null> to close one, <null> and </null> on two lines for an empty one",
		},
		{
			"two tags in one line", "<s></s>\na=1\n", "a=1\n\n<s>\n</s>",
			"1: s: a key or a tag behind the tag, which Scribe drops: give each a line of its own",
		},
		{
			"a key behind a tag", "<s> type=file\n</s> a=1\n", "<s>\n</s>",
			"1: s: a key or a tag behind the tag, which Scribe drops: give each a line of its own\n" +
				"2: a key or a tag behind the tag, which Scribe drops: give each a line of its own",
		},
		{"a NUL in a value", "a=b\x00\nc=d\n", "c=d", "1: the control character 0x00: remove it: a configuration is text"},
		{"a control character in a tag", "<s\x07>\na=1\n</s\x07>\n", "<s?>\n  a=1\n</s?>", "1: the control character 0x07: remove it: a configuration is text\n3: s?: the control character 0x07: remove it: a configuration is text"},
		{"CR as the end of a line", "a=1\rb=2\n", "", "1: the control character 0x0d: remove it: a configuration is text"},
		{"DEL", "a\x7f=1\n", "", "1: the control character 0x7f: remove it: a configuration is text"},
		{"control characters in a comment are none", "a=1 # \x00\x0c\n\x01# b\n", "a=1", "2: the control character 0x01: remove it: a configuration is text"},
		{"UTF-16", "\xff\xfea\x00=\x001\x00\n\x00", "", "1: the file is UTF-16: save it as UTF-8"},
		{"UTF-16, the other way round", "\xfe\xff\x00a\x00=\x001\x00\n", "", "1: the file is UTF-16: save it as UTF-8"},
		{
			"an inner closing tag is missing", "<store>\n<primary>\na=1\n</store>\n", "<store>\n  <primary>\n    a=1\n  </primary>\n</store>",
			"1: store0: warning: the section is open at the end of the file: write </store> where it ends\n" +
				"4: store0/primary: </store> closes <primary> of line 2, and the tags of the file do not match up: see which tag is missing, misspelt or too many",
		},
		{
			"a closing tag too many", "<store>\n</primary>\ntype=file\n</store>\n", "type=file\n\n<store>\n</store>",
			"2: store0: </primary> closes <store> of line 1, and the tags of the file do not match up: see which tag is missing, misspelt or too many\n" +
				"4: warning: </store> closes nothing, and Scribe reads nothing behind it: remove it: the rest is read",
		},
		{
			"a store open at the end, with another one in it", "<store>\na=1\n<store>\nb=1\n</store>\n", "<store>\n  a=1\n  <store>\n    b=1\n  </store>\n</store>",
			"1: store0: the section is open at the end of the file, and a section in it may be meant to stand behind it: write </store> where it ends",
		},
		{
			"a section open at the end, with one for a category in it", "<web>\n<api>\ncategories=a b\n</api>\n", "<web>\n  <api>\n    categories=a b\n  </api>\n</web>",
			"1: web: the section is open at the end of the file, and a section in it may be meant to stand behind it: write </web> where it ends",
		},
	} {
		checkGrammar(t, c)
		if Parse("x", []byte(c.text)).Err() == nil {
			t.Errorf("%s: there is no error", c.name)
		}
	}
}

func checkGrammar(t *testing.T, c grammarCase) {
	t.Helper()
	f := Parse("x", []byte(c.text))
	if got := strings.TrimSuffix(printed(t, f.Root), "\n"); got != c.tree {
		t.Errorf("%s: the tree is\n%s\nwant\n%s", c.name, got, c.tree)
	}
	if got := strings.TrimSuffix(said(f), "\n"); got != c.wrong {
		t.Errorf("%s: it says\n%s\nwant\n%s", c.name, got, c.wrong)
	}
}

func TestNestingHasALimit(t *testing.T) {
	nested := func(depth int) *File {
		return Parse("x", []byte(strings.Repeat("<a>\n", depth)+"b=1\n"+strings.Repeat("</a>\n", depth)))
	}
	if f := nested(64); len(f.Mistakes()) > 0 || !strings.Contains(printed(t, f.Root), "b=1") {
		t.Errorf("64 deep: %s", f.Mistakes())
	}
	f := nested(65)
	if got := f.Err(); got == nil || !strings.HasSuffix(got.Error(), ": sections nested more than 64 deep: nothing is read from here on: want that many at most") ||
		!strings.HasPrefix(got.Error(), "x:65: a/a/") || len(f.Mistakes()) != 1 {
		t.Errorf("65 deep: %v", f.Mistakes())
	}
}

func TestAFileHasALimit(t *testing.T) {
	text := []byte("a=1\n" + strings.Repeat("#", MaxSize-4))
	if f := Parse("x", text); len(f.Mistakes()) > 0 || len(f.Root.Values()) != 1 {
		t.Errorf("%d bytes: %v", len(text), f.Mistakes())
	}
	f := Parse("x", append(text, '#'))
	if got := f.Mistakes().Error(); got != "x: the file has more than 4194304 bytes: want that many at most" || f.Err() == nil || len(f.Root.Values()) != 0 {
		t.Errorf("a byte more: %s", got)
	}
}

func TestWarningsWithoutEndAreCutShortAndHideNoError(t *testing.T) {
	f := Parse("x", []byte(strings.Repeat("a=1\n", 5000)+strings.Repeat("b\n", 5000)))
	ms := f.Mistakes()
	if len(ms) != 2002 {
		t.Fatalf("%d mistakes", len(ms))
	}
	if got := ms[2000].String() + "\n" + ms[2001].String(); got != "x: warning: there are more than 1000 warnings: mend these first\nx: there are more than 1000 errors: mend these first" {
		t.Errorf("the last ones are\n%s", got)
	}
	if ms[1000].String() != `x:5001: "b" is neither key=value nor a section: put a = behind the key, or a # in front of a comment` {
		t.Errorf("the first error is %s", ms[1000])
	}
}

// What would be slow or large if every line cost a search, a copy or a path.
func TestHugeFilesOfEveryKindAreRead(t *testing.T) {
	var keys strings.Builder
	for i := 0; keys.Len() < MaxSize/2; i++ {
		fmt.Fprintf(&keys, "k%d=\n", i)
	}
	for keys.Len() < MaxSize-20 {
		keys.WriteString("k0=\n")
	}
	long := strings.Repeat("x", MaxSize/70)
	for name, text := range map[string]string{
		"a key again and again":      keys.String(),
		"a section again and again":  strings.Repeat("<a>\n</\n", MaxSize/7),
		"tags in one line":           strings.Repeat("<a></a>", MaxSize/7),
		"wrong closing tags":         strings.Repeat("<a>\n</b>\n", MaxSize/9),
		"long names, nested":         strings.Repeat("<"+long+">\n", 64) + strings.Repeat("a=\n", 50_000),
		"byte order marks in a line": strings.Repeat(mark+" ", MaxSize/4),
	} {
		f := Parse("x", []byte(text))
		total := 0
		for _, m := range f.Mistakes() {
			total += len(m.String())
		}
		if n := len(f.Mistakes()); n > 2002 || total > 2002*4096 {
			t.Errorf("%s: %d mistakes in %d bytes", name, n, total)
		}
	}
}

func TestSectionsHaveTwoOrders(t *testing.T) {
	f := Parse("x", []byte(strings.Repeat("<store>\n</store>\n", 11)+"<A>\n</A>\n"))
	names := func(all []*Section) string {
		var b strings.Builder
		for _, s := range all {
			b.WriteString(" " + s.Name)
		}
		return b.String()
	}
	if got, want := names(f.Root.Sections()), " store0 store1 store2 store3 store4 store5 store6 store7 store8 store9 store10 A"; got != want {
		t.Errorf("in the order of their lines:%s", got)
	}
	if got, want := names(f.Root.ByName()), " A store0 store1 store10 store2 store3 store4 store5 store6 store7 store8 store9"; got != want {
		t.Errorf("by name:%s", got)
	}
}

func TestEverythingHasItsPlace(t *testing.T) {
	f := Parse("x", []byte("# first\nport=1\n<store>\n</store>\n<store>\n  <primary>\n\n  type=file\n</primary>\n</store>\n"))
	primary := f.Root.Section("store1").Section("primary")
	if primary.Line != 6 || primary.Path() != "store1/primary" || primary.Parent().Line != 5 || primary.Parent().Parent() != f.Root || f.Root.Parent() != nil {
		t.Errorf("%s in line %d, in %s of line %d", primary.Path(), primary.Line, primary.Parent().Path(), primary.Parent().Line)
	}
	want := Value{Key: "type", Text: "file", Line: 8, Section: primary}
	if got := primary.Values(); len(got) != 1 || got[0] != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if f.Root.Path() != "" || f.Root.Line != 0 || f.Root.Section("store2") != nil {
		t.Errorf("top level %q in line %d, %v", f.Root.Path(), f.Root.Line, f.Root.Section("store2"))
	}
}

func TestAMistakeIsALineToPrint(t *testing.T) {
	for _, c := range []struct {
		m    Mistake
		want string
	}{
		{Mistake{"a.conf", 7, "store1/primary", "max_size", Error, "is wrong", "do right"}, "a.conf:7: store1/primary: max_size: is wrong: do right"},
		{Mistake{"a.conf", 7, "", "port", Warning, "is wrong", "do right"}, "a.conf:7: port: warning: is wrong: do right"},
		{Mistake{"a.conf", 0, "", "", Error, "is wrong", "do right"}, "a.conf: is wrong: do right"},
		{Mistake{"a\n.conf", 1, "s\x1b[1m", "\xff", Error, "is wrong", "do right"}, `a\n.conf:1: s\x1b[1m: \xff: is wrong: do right`},
	} {
		if got := c.m.String(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	if Warning.String() != "warning" || Error.String() != "error" {
		t.Errorf("severities %v and %v", Warning, Error)
	}
	long := Parse("x", []byte(strings.Repeat("é", 5000)+"\n"))
	if got := long.Mistakes().Error(); !strings.HasPrefix(got, `x:1: "éé`) || !strings.Contains(got, `é... (10000 bytes)" is neither`) || len(got) > 400 {
		t.Errorf("a long line: %s", got)
	}
}
