package conf

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longText is the longest text of a file that a message repeats whole.
const longText = 200

// short is a text as messages repeat it: nobody reads a line of a megabyte.
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

// oneLineOf is a text with what would end a line, or colour it, made visible.
func oneLineOf(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plainText takes the mark off that some editors put in front of UTF-8, and
// says where a file is no text at all: the libraries say that without a line,
// or take it.
func plainText(content []byte) ([]byte, *syntaxError) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")) {
		return nil, &syntaxError{1, "the file is UTF-16: save it as UTF-8"}
	}
	for at := 0; at < len(content); {
		r, n := utf8.DecodeRune(content[at:])
		line := func() int { return 1 + bytes.Count(content[:at], []byte{'\n'}) }
		switch {
		case r == utf8.RuneError && n == 1:
			return nil, &syntaxError{line(), fmt.Sprintf("the byte 0x%02x is no UTF-8: save the file as UTF-8", content[at])}
		case r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f:
			return nil, &syntaxError{line(), fmt.Sprintf("the control character 0x%02x: a configuration is text", r)}
		}
		at += n
	}
	return content, nil
}

// wanted is a hint for what people do to YAML, seen in the line that its
// library complains about, or "".
func wanted(line, complaint string) string {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "; indent with blanks, not with tabs"
	case strings.Contains(line, ": *") && strings.Contains(complaint, "alphabetic"):
		return `; a star stands in quotes: "*"`
	case strings.HasPrefix(complaint, "mapping values"):
		return "; is the line before it indented as it should be, does a blank stand behind its colon, and is a text with a colon in quotes?"
	case strings.HasPrefix(complaint, "unknown anchor") && strings.Contains(line, "*"):
		return `; a text that begins with a star stands in quotes`
	}
	return ""
}
