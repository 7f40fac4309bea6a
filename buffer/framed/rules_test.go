package framed_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
)

// one and two are the frames of a message in either form.
func one(text string) string {
	b, _ := build(framed.OneFrame, []message{{"", text}})
	return string(b)
}

func two(category, text string) string {
	b, _ := build(framed.TwoFrames, []message{{category, text}})
	return string(b)
}

func texts(all ...string) (m []message) {
	for _, text := range all {
		m = append(m, message{"", text})
	}
	return m
}

func repeated(m message, n int) []message { return slices.Repeat([]message{m}, n) }

const (
	a = "10.0.0.1 GET /a\n"
	b = "10.0.0.2 GET /b\n"
	c = "10.0.0.3 GET /c\n"
)

var (
	zeros    = func(n int) string { return strings.Repeat("\x00", n) }
	big      = strings.Repeat("x", 99) + "\n" // larger than the limit of the tests that set one
	tornText = strings.Repeat("a text that is torn ", 5)
	binary   = "\x08\x00\x01\x00\x00\x00\x07\x0b\x00\x02\x00\x00\x00\x05hello\x00"
)

// rule is a file and what a scan of it hands over. The damages are told by
// their bytes, in the order of the file.
type rule struct {
	name     string
	file     []string // parts, of which those that begin with bad are damage
	limit    int
	messages []message
	reasons  []framed.Reason
}

// bad marks a part of a file that is damage.
const bad = "\xff\xfebad\xfe\xff"

func (r rule) check(t *testing.T, form framed.Form) {
	t.Helper()
	var file []byte
	var want []framed.Damage
	for _, part := range r.file {
		s, damaged := strings.CutPrefix(part, bad)
		if damaged {
			want = append(want, framed.Damage{From: int64(len(file)), To: int64(len(file) + len(s)), Reason: r.reasons[len(want)]})
		}
		file = append(file, s...)
	}
	got := scan(t, file, framed.Options{Form: form, MaxMessage: r.limit})
	if !slices.Equal(got.messages, r.messages) {
		t.Errorf("messages %q,\nwant %q", got.messages, r.messages)
	}
	if !slices.Equal(got.damages, want) {
		t.Errorf("damages %v,\nwant %v", got.damages, want)
	}
}

func TestRulesOfOneFrame(t *testing.T) {
	for _, r := range []rule{
		{name: "an empty file"},
		{name: "messages", file: []string{one(a), one("no line feed"), one(binary), one("\n")},
			messages: texts(a, "no line feed", binary, "\n")},

		// An empty message is not the end of the file.
		{name: "empty messages", file: []string{one(""), one(a), one(""), one(""), one(b), one("")},
			messages: texts("", a, "", "", b, "")},
		{name: "fifteen empty messages", file: []string{one(a), zeros(60), one(b)},
			messages: slices.Concat(texts(a), repeated(message{}, 15), texts(b))},
		{name: "only empty messages", file: []string{zeros(60)}, messages: repeated(message{}, 15)},

		// Zeros are told apart.
		{name: "sixteen empty messages", file: []string{one(a), bad + zeros(64), one(b)},
			messages: texts(a, b), reasons: []framed.Reason{framed.Zeros}},
		{name: "a file of zeros", file: []string{bad + zeros(1<<20)}, reasons: []framed.Reason{framed.Zeros}},
		{name: "a tail of zeros", file: []string{one(a), bad + zeros(5001)},
			messages: texts(a), reasons: []framed.Reason{framed.Zeros}},
		{name: "fewer zeros than a length", file: []string{one(a), bad + zeros(3)},
			messages: texts(a), reasons: []framed.Reason{framed.Zeros}},
		{name: "zeros between messages", file: []string{one(a), bad + zeros(4097), one(b), one(c)},
			messages: texts(a, b, c), reasons: []framed.Reason{framed.Zeros}},
		{name: "zeros before a length that begins with one", file: []string{one(a), bad + zeros(4096), one(strings.Repeat("y", 511) + "\n")},
			messages: texts(a, strings.Repeat("y", 511)+"\n"), reasons: []framed.Reason{framed.Zeros}},
		{name: "zeros that begin in a message", file: []string{one(a), bad + one(b)[:10] + zeros(10+500)},
			messages: texts(a), reasons: []framed.Reason{framed.Torn}},
		{name: "zeros that begin in a message that ends behind them", file: []string{one(a), bad + one(big)[:50] + zeros(20), one(b), one(c)},
			messages: texts(a, b, c), reasons: []framed.Reason{framed.Torn}},
		{name: "a message of zeros", file: []string{one(a), one(zeros(500)), one(b), one(zeros(500))},
			messages: texts(a, zeros(500), b, zeros(500))},

		// Lengths.
		{name: "the top bit", file: []string{one(a), bad + "\x10\x00\x00\x80" + b, one(c)},
			messages: texts(a, c), reasons: []framed.Reason{framed.BadLength}},
		{name: "the length that the original refuses", file: []string{one(a), bad + "\xff\xff\xff\x7f" + b, one(c)},
			messages: texts(a, c), reasons: []framed.Reason{framed.BadLength}},
		{name: "more than the file", file: []string{one(a), bad + "\x00\x10\x00\x00" + b},
			messages: texts(a), reasons: []framed.Reason{framed.Cut}},
		{name: "a length that is too small", file: []string{one(a), bad + "\x09\x00\x00\x00" + b, one(c)},
			messages: texts(a, c), reasons: []framed.Reason{framed.Torn}},
		{name: "a length that is too large", file: []string{one(a), bad + "\x19\x00\x00\x00" + b, one(c), one(a), one(b)},
			messages: texts(a, c, a, b), reasons: []framed.Reason{framed.Torn}},
		{name: "a length that is too small by one", file: []string{one(a), bad + "\x0f\x00\x00\x00" + b, one(c)},
			messages: texts(a, c), reasons: []framed.Reason{framed.Torn}},

		// Torn frames, of which TestTornFrames has many more.
		{name: "the end of the file in a message", file: []string{one(a), bad + one(b)[:9]},
			messages: texts(a), reasons: []framed.Reason{framed.Cut}},
		{name: "the end of the file in a length", file: []string{one(a), bad + one(b)[:2]},
			messages: texts(a), reasons: []framed.Reason{framed.Cut}},
		{name: "a torn message", file: []string{one(a), bad + one(big)[:30], one(b), one(c)},
			messages: texts(a, b, c), reasons: []framed.Reason{framed.Torn}},
		{name: "a torn message that ends with a good one", file: []string{one(a), bad + one(strings.Repeat("z", 34))[:18], one(b), one(c)},
			messages: texts(a, b, c), reasons: []framed.Reason{framed.Torn}},
		{name: "a torn length", file: []string{one(a), bad + "\x40", one(b), one(c)},
			messages: texts(a, b, c), reasons: []framed.Reason{framed.Torn}},
		{name: "short texts behind a torn one, at the end of the file", file: []string{one(a), bad + one(tornText)[:18], one("m8"), one("m9")},
			messages: texts(a, "m8", "m9"), reasons: []framed.Reason{framed.Torn}},
		{name: "a text of one byte behind a torn one, at the end of the file", file: []string{one(a), bad + one(tornText)[:18], one("x")},
			messages: texts(a, "x"), reasons: []framed.Reason{framed.Torn}},
		{name: "a short text between torn ones", file: []string{one(a), bad + one(tornText)[:18], one("user 7"), bad + one(tornText)[:20], one("user 8")},
			messages: texts(a, "user 7", "user 8"), reasons: []framed.Reason{framed.Torn, framed.Torn}},
		{name: "texts between torn ones", file: []string{one(a), bad + one(tornText)[:18], one("no line feed, 1"), one("no line feed, 2"), bad + one(tornText)[:20], one("no line feed, 3")},
			messages: texts(a, "no line feed, 1", "no line feed, 2", "no line feed, 3"), reasons: []framed.Reason{framed.Torn, framed.Torn}},
		{name: "short texts behind two bytes of a torn one", file: []string{one(a), bad + one(tornText)[:6], one("m8"), one("m9")},
			messages: texts(a, "m8", "m9"), reasons: []framed.Reason{framed.Torn}},

		{name: "a short text behind a torn length, at the end of the file: too little to tell", file: []string{one(a), bad + one(tornText)[:4] + one("m8")},
			messages: texts(a), reasons: []framed.Reason{framed.Cut}},
		{name: "a text between torn ones, where the first is torn in its length: too little to tell", file: []string{one(a), bad + one(tornText)[:4] + one("no line feed, 1") + one(tornText)[:20], one("user 8")},
			messages: texts(a, "user 8"), reasons: []framed.Reason{framed.Torn}},

		{name: "text behind the last frame", file: []string{one(a), bad + strings.Repeat("plain text\n", 20)},
			messages: texts(a), reasons: []framed.Reason{framed.BadLength}},

		// Messages that look like others.
		{name: "frames within a message", file: []string{one(a), one("x" + one(a) + one(b) + "x"), one(c)},
			messages: texts(a, "x"+one(a)+one(b)+"x", c)},
		{name: "a message that ends in a number and a line feed", file: []string{one("n=" + one("\n")), one(a)},
			messages: texts("n="+one("\n"), a)},
		{name: "a message that ends in frames of text: nobody can tell", file: []string{one(a), bad + one("seen: " + one(b))[:10], one(b), one(c)},
			messages: texts(a, b, c), reasons: []framed.Reason{framed.Torn}},
	} {
		t.Run(r.name, func(t *testing.T) { r.check(t, framed.OneFrame) })
	}
}

func TestMessagesThatAreTooLarge(t *testing.T) {
	for _, r := range []rule{
		{name: "one", file: []string{one(a), bad + one(big), one(b)}, limit: 50,
			messages: texts(a, b), reasons: []framed.Reason{framed.TooLarge}},
		{name: "as long as the limit", file: []string{one(a), one(big), one(b)}, limit: len(big),
			messages: texts(a, big, b)},
		{name: "several", file: []string{bad + one(big), bad + one(big), bad + one(big+big), one(b)}, limit: 50,
			messages: texts(b), reasons: []framed.Reason{framed.TooLarge, framed.TooLarge, framed.TooLarge}},
		{name: "the last of the file", file: []string{one(a), bad + one(big)}, limit: 50,
			messages: texts(a), reasons: []framed.Reason{framed.TooLarge}},
		{name: "the last but a torn one", file: []string{one(a), bad + one(big), bad + one(b)[:12]}, limit: 50,
			messages: texts(a), reasons: []framed.Reason{framed.TooLarge, framed.Cut}},
		{name: "a torn one", file: []string{one(a), bad + one(big)[:40], one(b), one(c), one(a), one(b)}, limit: 50,
			messages: texts(a, b, c, a, b), reasons: []framed.Reason{framed.BadLength}},
		{name: "beyond what can be set", file: []string{one(a), bad + one(strings.Repeat("x", framed.MaxMessage+1)), one(b)}, limit: 1 << 30,
			messages: texts(a, b), reasons: []framed.Reason{framed.TooLarge}},
	} {
		t.Run(r.name, func(t *testing.T) { r.check(t, framed.OneFrame) })
	}
	long := strings.Repeat("long.", 30)
	r := rule{name: "two frames", file: []string{two(long, a), bad + two("web", big), two("api", b)}, limit: 50,
		messages: []message{{long, a}, {"api", b}}, reasons: []framed.Reason{framed.TooLarge}}
	t.Run(r.name, func(t *testing.T) { r.check(t, framed.TwoFrames) })
}

func TestRulesOfTwoFrames(t *testing.T) {
	web, api := message{"web", a}, message{"api", b}
	for _, r := range []rule{
		{name: "an empty file"},
		{name: "messages", file: []string{two("web", a), two("api", b), two("web", binary)},
			messages: []message{web, api, {"web", binary}}},
		{name: "empty messages", file: []string{two("web", ""), two("web", ""), two("web", a), two("api", "")},
			messages: []message{{"web", ""}, {"web", ""}, web, {"api", ""}}},
		{name: "odd categories in their places", file: []string{two("", a), two("two words", a), two("a\nb", b), two("a\x00b", b), two(strings.Repeat("x", 2000), a)},
			messages: []message{{"", a}, {"two words", a}, {"a\nb", b}, {"a\x00b", b}, {strings.Repeat("x", 2000), a}}},
		{name: "a message that is a category", file: []string{two("web", "web\n"), two("web", "api\n"), two("api", "web\n")},
			messages: []message{{"web", "web\n"}, {"web", "api\n"}, {"api", "web\n"}}},

		{name: "a tail of zeros", file: []string{two("web", a), bad + zeros(9)},
			messages: []message{web}, reasons: []framed.Reason{framed.Zeros}},
		{name: "zeros behind a category", file: []string{two("web", a), bad + one("web\n") + zeros(8), two("api", b)},
			messages: []message{web, api}, reasons: []framed.Reason{framed.Torn}},
		{name: "no category", file: []string{two("web", a), bad + one("no line feed") + one(a), two("api", b)},
			messages: []message{web, api}, reasons: []framed.Reason{framed.NoCategory}},
		{name: "a message without a category", file: []string{two("web", a), bad + one("A line of text.\n"), two("api", b), two("web", a)},
			messages: []message{web, api, web}, reasons: []framed.Reason{framed.Torn}},
		{name: "a word without a category", file: []string{two("web", a), two("api", "tick\n"), bad + "\x40" + one("word\n"), two("api", "tick\n"), two("web", a)},
			messages: []message{web, {"api", "tick\n"}, {"api", "tick\n"}, web}, reasons: []framed.Reason{framed.Torn}},
		{name: "categories with blanks behind a torn one", file: []string{two("two words", a), two("two words", b), bad + "\x40", two("two words", a)},
			messages: []message{{"two words", a}, {"two words", b}, {"two words", a}}, reasons: []framed.Reason{framed.Torn}},
		{name: "a category without a message", file: []string{two("web", a), bad + one("web\n"), two("api", b), two("web", a)},
			messages: []message{web, api, web}, reasons: []framed.Reason{framed.Torn}},
		{name: "a category without a message, last", file: []string{two("web", a), bad + one("web\n")},
			messages: []message{web}, reasons: []framed.Reason{framed.Cut}},
		{name: "a torn category", file: []string{two("web", a), bad + one("web\n")[:6], two("api", b)},
			messages: []message{web, api}, reasons: []framed.Reason{framed.NoCategory}},
		{name: "a torn message", file: []string{two("web", a), bad + two("web", big)[:40], two("api", b)},
			messages: []message{web, api}, reasons: []framed.Reason{framed.Torn}},
	} {
		t.Run(r.name, func(t *testing.T) { r.check(t, framed.TwoFrames) })
	}
}

func TestEveryReasonHasAName(t *testing.T) {
	seen := map[string]bool{}
	for r := framed.Torn; r <= framed.NoCategory; r++ {
		seen[r.String()] = true
	}
	if len(seen) != int(framed.NoCategory) || seen[framed.Reason(0).String()] {
		t.Fatal(seen)
	}
	if got := fmt.Sprint(framed.Damage{From: 3, To: 9, Reason: framed.Zeros}); got != "bytes 3 to 9: nothing but zeros" {
		t.Error(got)
	}
}
