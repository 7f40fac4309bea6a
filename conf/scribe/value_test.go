package scribe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// read is a value as one of the readers has it, and what is wrong with it.
func read[T any](text string, of func(*Section, string, T) T, otherwise T) (T, string) {
	f := Parse("x", []byte("<s>\nk="+text+"\n</s>\n"))
	got := of(f.Root.Section("s"), "k", otherwise)
	return got, strings.TrimSuffix(strings.TrimPrefix(said(f), "2: s: k: "), "\n")
}

func TestWholeNumbers(t *testing.T) {
	const garbage = "write the digits alone, without a unit or a separator"
	for _, c := range []struct {
		text        string
		uint        uint64 // 7: the default, for there is an error
		wrong       string
		decimal     uint64
		wrongInBase string // 10
	}{
		{text: "0", uint: 0, decimal: 0},
		{text: "5000", uint: 5000, decimal: 5000},
		{text: "+5", uint: 5, decimal: 5},
		{text: "00", uint: 0, decimal: 0},
		{text: "05", uint: 5, decimal: 5},
		{text: "18446744073709551615", uint: 1<<64 - 1, decimal: 1<<64 - 1},
		{text: "010", uint: 8, wrong: `warning: "010" is octal, for it begins with a 0: write 8`, decimal: 10},
		{text: "0x1F", uint: 31, decimal: 7, wrongInBase: `"0x1F" is no whole number, and Scribe reads 0: the number is read in base 10: write 31`},
		{text: "0Xff", uint: 255, decimal: 7, wrongInBase: `"0Xff" is no whole number, and Scribe reads 0: the number is read in base 10: write 255`},
		{text: "08", uint: 7, wrong: `"08" is no whole number, and Scribe reads 0: a 0 in front makes it octal: write 8`, decimal: 8},
		{text: "019", uint: 7, wrong: `"019" is no whole number, and Scribe reads 1: a 0 in front makes it octal: write 19`, decimal: 19},
		{
			text: "0x", uint: 7, wrong: `"0x" is no whole number, and Scribe reads 0: ` + garbage,
			decimal: 7, wrongInBase: `"0x" is no whole number, and Scribe reads 0: ` + garbage,
		},
		{
			text: "0xg", uint: 7, wrong: `"0xg" is no whole number, and Scribe reads 0: ` + garbage,
			decimal: 7, wrongInBase: `"0xg" is no whole number, and Scribe reads 0: ` + garbage,
		},
		{
			text: "", uint: 7, wrong: "there is no number, and Scribe reads 0: write one, or remove the key",
			decimal: 7, wrongInBase: "there is no number, and Scribe reads 0: write one, or remove the key",
		},
		{
			text: "many", uint: 7, wrong: `"many" is no number, and Scribe reads 0: write a whole number, such as 5000`,
			decimal: 7, wrongInBase: `"many" is no number, and Scribe reads 0: write a whole number, such as 5000`,
		},
		{
			text: "-", uint: 7, wrong: `"-" is no number, and Scribe reads 0: write a whole number, such as 5000`,
			decimal: 7, wrongInBase: `"-" is no number, and Scribe reads 0: write a whole number, such as 5000`,
		},
		{
			text: "5000 ms", uint: 7, wrong: `"5000 ms" is no whole number, and Scribe reads 5000: ` + garbage,
			decimal: 7, wrongInBase: `"5000 ms" is no whole number, and Scribe reads 5000: ` + garbage,
		},
		{
			text: "1.5", uint: 7, wrong: `"1.5" is no whole number, and Scribe reads 1: ` + garbage,
			decimal: 7, wrongInBase: `"1.5" is no whole number, and Scribe reads 1: ` + garbage,
		},
		{
			text: "1_000", uint: 7, wrong: `"1_000" is no whole number, and Scribe reads 1: ` + garbage,
			decimal: 7, wrongInBase: `"1_000" is no whole number, and Scribe reads 1: ` + garbage,
		},
		{
			text: "0b11", uint: 7, wrong: `"0b11" is no whole number, and Scribe reads 0: ` + garbage,
			decimal: 7, wrongInBase: `"0b11" is no whole number, and Scribe reads 0: ` + garbage,
		},
		{
			text: "-1", uint: 7, wrong: `"-1" is negative, and Scribe reads 18446744073709551615: write 0 or more`,
			decimal: 7, wrongInBase: `"-1" is negative, and Scribe reads 18446744073709551615: write 0 or more`,
		},
		{
			text: "18446744073709551616", uint: 7, wrong: `"18446744073709551616" is more than 64 bits hold, and Scribe reads 18446744073709551615: write 18446744073709551615 at most`,
			decimal: 7, wrongInBase: `"18446744073709551616" is more than 64 bits hold, and Scribe reads 18446744073709551615: write 18446744073709551615 at most`,
		},
		{
			text: "5\u00a0", uint: 7, wrong: `"5\u00a0" is no whole number, and Scribe reads 5: ` + garbage,
			decimal: 7, wrongInBase: `"5\u00a0" is no whole number, and Scribe reads 5: ` + garbage,
		},
	} {
		if got, wrong := read(c.text, (*Section).Uint, 7); got != c.uint || wrong != c.wrong {
			t.Errorf("%q: %d, %q; want %d, %q", c.text, got, wrong, c.uint, c.wrong)
		}
		if got, wrong := read(c.text, (*Section).Decimal, 7); got != c.decimal || wrong != c.wrongInBase {
			t.Errorf("%q in base 10: %d, %q; want %d, %q", c.text, got, wrong, c.decimal, c.wrongInBase)
		}
	}
}

func TestYesAndNo(t *testing.T) {
	const either = " is neither yes nor no, and what Scribe takes it for depends on the key: write yes or no, in small letters"
	for text, wrong := range map[string]string{
		"yes": "", "no": "",
		"Yes": `"Yes"` + either, "NO": `"NO"` + either, "true": `"true"` + either, "1": `"1"` + either, "0": `"0"` + either,
		"": `""` + either, `"yes"`: `"\"yes\""` + either, "yes please": `"yes please"` + either,
	} {
		for _, otherwise := range []bool{false, true} {
			want := text == "yes" || wrong != "" && otherwise
			if got, said := read(text, (*Section).Bool, otherwise); got != want || said != wrong {
				t.Errorf("%q, else %v: %v, %q; want %v, %q", text, otherwise, got, said, want, wrong)
			}
		}
	}
}

func TestZeroAndOne(t *testing.T) {
	const neither = " is neither 0 nor 1: write 1 for yes, 0 for no"
	for _, c := range []struct {
		text, wrong  string
		want, failed bool
	}{
		{text: "0"}, {text: "1", want: true}, {text: "0x1", want: true},
		{text: "no", wrong: `warning: "no" is 0 to Scribe, which reads a number here: write 1 for yes, 0 for no`},
		{text: "yes", wrong: `"yes" is 0 to Scribe, which reads a number here: write 1 for yes, 0 for no`, failed: true},
		{text: "2", wrong: `"2"` + neither, failed: true},
		{text: "-1", wrong: `"-1"` + neither, failed: true},
		{text: "true", wrong: `"true"` + neither, failed: true},
		{text: "", wrong: `""` + neither, failed: true},
	} {
		for _, otherwise := range []bool{false, true} {
			want := c.want || c.failed && otherwise
			if got, wrong := read(c.text, (*Section).Flag, otherwise); got != want || wrong != c.wrong {
				t.Errorf("%q, else %v: %v, %q; want %v, %q", c.text, otherwise, got, wrong, want, c.wrong)
			}
		}
	}
}

func TestRatios(t *testing.T) {
	for text, want := range map[string]float64{"0.75": 0.75, "1": 1, "1.": 1, ".5": .5, "+0.5": .5, "5e-1": .5, "1.0": 1} {
		if got, wrong := read(text, (*Section).Ratio, 7); got != want || wrong != "" {
			t.Errorf("%q: %v, %q; want %v", text, got, wrong, want)
		}
	}
	for _, text := range []string{"0", "0.0", "1.01", "-0.5", "75%", "0,75", "0.5.5", "", ".", "e1", "inf", "nan", "0x1p-1", "0_1", "1e-999", "half"} {
		want := fmt.Sprintf("%q is no number above 0 and at most 1: write a fraction such as 0.75", text)
		if got, wrong := read(text, (*Section).Ratio, 7); got != 7 || wrong != want {
			t.Errorf("%q: %v, %q; want %q", text, got, wrong, want)
		}
	}
}

func TestRotations(t *testing.T) {
	for text, want := range map[string]Rotation{
		"never": {}, "hourly": {Kind: RotateHourly}, "daily": {Kind: RotateDaily},
		"90": {RotateEvery, 90 * time.Second}, "30s": {RotateEvery, 30 * time.Second}, "015m": {RotateEvery, 15 * time.Minute},
		"2h": {RotateEvery, 2 * time.Hour}, "3d": {RotateEvery, 72 * time.Hour}, "1w": {RotateEvery, 168 * time.Hour},
		"9223372036": {RotateEvery, 9223372036 * time.Second}, "15250w": {RotateEvery, 15250 * 7 * 24 * time.Hour},
	} {
		if got, wrong := read(text, (*Section).Rotation, Rotation{RotateEvery, 7}); got != want || wrong != "" {
			t.Errorf("%q: %v, %q; want %v", text, got, wrong, want)
		}
	}
	for _, text := range []string{"", "Daily", "weekly", "15 m", "15min", "m", "0", "0h", "-1h", "+1h", "1.5h", "9223372037", "15251w", "99999999999999999999"} {
		want := fmt.Sprintf("%q is no time to rotate at, and never to Scribe: write hourly, daily, never, or a number and one of s, m, h, d and w, such as 15m", text)
		if got, wrong := read(text, (*Section).Rotation, Rotation{RotateEvery, 7}); got != (Rotation{RotateEvery, 7}) || wrong != want {
			t.Errorf("%q: %v, %q; want %q", text, got, wrong, want)
		}
	}
}

func TestListsAndTexts(t *testing.T) {
	f := Parse("x", []byte("l=a\tb*   default c\u00a0d\nempty=\n"))
	if got, want := f.Root.List("l"), []string{"a", "b*", "default", "c\u00a0d"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := f.Root.List("empty"); got == nil || len(got) > 0 {
		t.Errorf("an empty list is %#v", got)
	}
	if got := f.Root.List("none"); got != nil {
		t.Errorf("no list is %#v", got)
	}
	if got := f.Root.Text("l", "x") + "|" + f.Root.Text("empty", "x") + "|" + f.Root.Text("none", "x"); got != "a\tb*   default c\u00a0d||x" {
		t.Errorf("texts %q", got)
	}
}

func TestAMissingKeyIsTheDefault(t *testing.T) {
	f := Parse("x", nil)
	s := f.Root
	if s.Uint("k", 7) != 7 || s.Decimal("k", 8) != 8 || !s.Bool("k", true) || s.Bool("k", false) || !s.Flag("k", true) || s.Ratio("k", .75) != .75 ||
		s.Rotation("k", Rotation{Kind: RotateDaily}) != (Rotation{Kind: RotateDaily}) {
		t.Error("another one")
	}
	if len(f.Mistakes()) > 0 {
		t.Errorf("it says %s", f.Mistakes())
	}
}

func TestAWrongValueThatManyInheritIsToldOnceWhereItStands(t *testing.T) {
	f := Parse("x", []byte("file::max_size=1 GB\n<store>\ntype=file\n</store>\n<store>\ntype=file\n</store>\n"))
	for _, s := range f.Root.ByName() {
		if got := s.Uint("max_size", 7); got != 7 {
			t.Errorf("%s: %d", s.Name, got)
		}
	}
	want := "1: file::max_size: \"1 GB\" is no whole number, and Scribe reads 1: write the digits alone, without a unit or a separator\n"
	if got := said(f); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
