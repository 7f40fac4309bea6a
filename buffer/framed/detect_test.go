package framed_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
)

func TestDetect(t *testing.T) {
	lines, words, twice := "", "", ""
	for i := range 20 {
		lines += one(fmt.Sprintf("A line of text, number %d.\n", i))
		words += one(fmt.Sprintf("word-%d\n", i))
		twice += two([]string{"web", "api"}[i%2], fmt.Sprintf("word-%d\n", i))
	}
	mixed := two("web", a) + two("api", binary) + two("web", "") + two("web", "word\n")
	for _, test := range []struct {
		name string
		file string
		form framed.Form
		sure bool
	}{
		{"nothing", "", framed.OneFrame, false},
		{"lines", lines, framed.OneFrame, true},
		{"binary messages", strings.Repeat(one(binary), 10), framed.OneFrame, true},
		{"empty messages", zeros(60), framed.OneFrame, true},
		{"one line", one(a), framed.OneFrame, false},
		{"six lines", strings.Repeat(one(a), 6), framed.OneFrame, false},
		{"a word and a line", one("word\n") + one(a), framed.TwoFrames, false},
		{"categories", mixed, framed.TwoFrames, true},
		{"few categories", two("web", a) + two("api", b), framed.TwoFrames, false},
		{"one category", two("web", a), framed.TwoFrames, false},
		{"one category without its message", one("web\n"), framed.OneFrame, false},
		{"categories before damage", mixed + zeros(100) + lines, framed.TwoFrames, true},
		{"categories of which one is damaged", mixed + two("we\x00b", a) + mixed, framed.TwoFrames, false},
		{"categories most of which have blanks", strings.Repeat(two("two words", a), 9) + mixed, framed.OneFrame, true},
		{"words", words, framed.OneFrame, false},
		{"words in categories", twice, framed.TwoFrames, false},
		{"the same word", strings.Repeat(one("tick\n"), 40), framed.OneFrame, false},
		{"a torn head", "\x40" + mixed, framed.OneFrame, false},
		{"only the head counts", strings.Repeat(two("web", a), 32) + strings.Repeat(one(a), 1000), framed.TwoFrames, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			form, sure, err := framed.Detect(strings.NewReader(test.file), int64(len(test.file)))
			if err != nil || form != test.form || sure != test.sure {
				t.Fatalf("%v, sure %v, %v; want %v, sure %v", form, sure, err, test.form, test.sure)
			}
			got := scan(t, []byte(test.file), framed.Options{})
			if got.report.Form != form || got.report.Sure != sure {
				t.Errorf("Scan reads %+v", got.report)
			}
			other := framed.OneFrame + framed.TwoFrames - form
			if got := scan(t, []byte(test.file), framed.Options{Form: other}); got.report.Form != other || !got.report.Sure {
				t.Errorf("forced to %v Scan reads %+v", other, got.report)
			}
		})
	}
	boom := errors.New("boom")
	if _, _, err := framed.Detect(failing{nil, 0, boom}, 100); !errors.Is(err, boom) {
		t.Errorf("of a file that cannot be read: %v", err)
	}
	if _, _, err := framed.Detect(bytes.NewReader(nil), 100); err == nil {
		t.Error("a file that is shorter than it was is detected")
	}
	for form, want := range map[framed.Form]string{0: "unknown form", framed.OneFrame: "one frame", framed.TwoFrames: "two frames"} {
		if form.String() != want {
			t.Errorf("%q, want %q", form, want)
		}
	}
}
