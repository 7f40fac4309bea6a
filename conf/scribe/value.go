package scribe

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The readers below find the value of a key for this section as Lookup does. They
// return what they are given instead where the key is missing, and where its
// value is an error, which is then among the file's mistakes.

// Text is a value as it is written.
func (s *Section) Text(key, otherwise string) string {
	return typed(s, key, otherwise, func(text string) (string, *finding) { return text, nil })
}

// List is the words of a value, with blanks between them; nil if it is missing.
func (s *Section) List(key string) []string {
	return typed(s, key, nil, func(text string) ([]string, *finding) {
		return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(blanks, r) }), nil
	})
}

// Uint is a whole number as C writes it: 5000, 0x1388, 011610.
func (s *Section) Uint(key string, otherwise uint64) uint64 {
	return typed(s, key, otherwise, func(text string) (uint64, *finding) { return whole(text, 0) })
}

// Decimal is a whole number in base 10, which max_queue_size and
// target_write_size are.
func (s *Section) Decimal(key string, otherwise uint64) uint64 {
	return typed(s, key, otherwise, func(text string) (uint64, *finding) { return whole(text, 10) })
}

// Bool is yes or no.
func (s *Section) Bool(key string, otherwise bool) bool { return typed(s, key, otherwise, yesOrNo) }

// Flag is 0 or 1, which add_newlines is.
func (s *Section) Flag(key string, otherwise bool) bool { return typed(s, key, otherwise, zeroOrOne) }

// Ratio is above 0 and at most 1.
func (s *Section) Ratio(key string, otherwise float64) float64 {
	return typed(s, key, otherwise, ratio)
}

// Rotation is when a file is rotated.
func (s *Section) Rotation(key string, otherwise Rotation) Rotation {
	return typed(s, key, otherwise, rotation)
}

func typed[T any](s *Section, key string, otherwise T, read func(string) (T, *finding)) T {
	v, found := s.Lookup(key)
	if !found {
		return otherwise
	}
	t, wrong := read(v.Text)
	if wrong == nil {
		return t
	}
	s.add(key, *wrong)
	if wrong.severity == Error {
		return otherwise
	}
	return t
}

// yesOrNo: Scribe asks of one key whether it is yes, of another whether it is no,
// and takes every other word for the opposite: "True" for replay_buffer is no to
// it, "No" for must_succeed is yes. A server that runs with such a word does
// what its file does not say, so that neither reading is safe.
func yesOrNo(text string) (bool, *finding) {
	if text != "yes" && text != "no" {
		f := failure(quoted(text)+" is neither yes nor no, and what Scribe takes it for depends on the key", "write yes or no, in small letters")
		return false, &f
	}
	return text == "yes", nil
}

// zeroOrOne: to Scribe every word is 0, also yes: the file says one thing and
// the server does another. With no both are the same. A number above 1 is 1 to
// Scribe, where somebody may mean two of something.
func zeroOrOne(text string) (bool, *finding) {
	f := failure(quoted(text)+" is neither 0 nor 1", "write 1 for yes, 0 for no")
	switch text {
	case "yes":
		f.wrong = `"yes" is 0 to Scribe, which reads a number here`
		return false, &f
	case "no":
		f.severity = Warning
		f.wrong = `"no" is 0 to Scribe, which reads a number here`
		return false, &f
	}
	n, wrong := whole(text, 0)
	if wrong != nil || n > 1 {
		return false, &f
	}
	return n == 1, nil
}

var fraction = regexp.MustCompile(`^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// ratio: Scribe takes the default for a number out of range and drops what
// stands behind one, so that 75% is the default and 0.5.5 is 0.5.
func ratio(text string) (float64, *finding) {
	r, err := strconv.ParseFloat(text, 64)
	if !fraction.MatchString(text) || err != nil || r <= 0 || r > 1 {
		f := failure(quoted(text)+" is no number above 0 and at most 1", "write a fraction such as 0.75")
		return 0, &f
	}
	return r, nil
}

// whole reads a number as Scribe does, in base 10, or by its prefix in base 16,
// 8 or 10 where base is 0. To Scribe what is no number is 0, what stands behind
// one is nothing, and one below 0 is a huge one: a value of which only a part is
// read is an error, for what the rest was to say cannot be told.
func whole(text string, base int) (uint64, *finding) {
	c := scan(text, base)
	var f finding
	switch {
	case text == "":
		f = failure("there is no number, and Scribe reads 0", "write one, or remove the key")
	case c.digits == 0:
		f = failure(quoted(text)+" is no number, and Scribe reads 0", "write a whole number, such as 5000")
	case c.rest != "":
		f = failure(fmt.Sprintf("%s is no whole number, and Scribe reads %d", quoted(text), c.n), remedyForRest(text, base))
	case c.negative:
		f = failure(fmt.Sprintf("%s is negative, and Scribe reads %d", quoted(text), c.n), "write 0 or more")
	case c.overflow:
		f = failure(fmt.Sprintf("%s is more than 64 bits hold, and Scribe reads %d", quoted(text), c.n), fmt.Sprintf("write %d at most", c.n))
	case c.base == 8 && c.n != scan(text, 10).n:
		f = warning(fmt.Sprintf("%s is octal, for it begins with a 0", quoted(text)), fmt.Sprintf("write %d", c.n))
	default:
		return c.n, nil
	}
	return c.n, &f
}

// remedyForRest says what would be right where something stands behind a number.
func remedyForRest(text string, base int) string {
	if other := scan(text, 10-base); other.rest == "" && !other.negative && !other.overflow {
		if base == 0 {
			return fmt.Sprintf("a 0 in front makes it octal: write %d", other.n)
		}
		return fmt.Sprintf("the number is read in base 10: write %d", other.n)
	}
	return "write the digits alone, without a unit or a separator"
}

// scanned is what C's strtoul makes of a text.
type scanned struct {
	n                  uint64
	base, digits       int
	rest               string // what it leaves
	negative, overflow bool
}

// scan is strtoul on a machine whose long has 64 bits.
func scan(text string, base int) (c scanned) {
	rest := text
	if strings.HasPrefix(rest, "+") || strings.HasPrefix(rest, "-") {
		c.negative = rest[0] == '-'
		rest = rest[1:]
	}
	c.base = base
	if base == 0 {
		c.base = 10
		if strings.HasPrefix(rest, "0") {
			c.base = 8
		}
		if len(rest) > 2 && (rest[:2] == "0x" || rest[:2] == "0X") && digit(rest[2]) < 16 {
			c.base, rest = 16, rest[2:]
		}
	}
	for ; rest != "" && digit(rest[0]) < uint64(c.base); rest = rest[1:] {
		next := c.n*uint64(c.base) + digit(rest[0])
		if c.n > (1<<64-1-digit(rest[0]))/uint64(c.base) {
			c.overflow = true
		}
		c.n = next
		c.digits++
	}
	switch {
	case c.overflow:
		c.n = 1<<64 - 1
	case c.negative:
		c.n = -c.n
	}
	c.rest = rest
	return c
}

// digit is the worth of a digit, or more than any base has.
func digit(c byte) uint64 {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0')
	case c >= 'a' && c <= 'f':
		return uint64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return uint64(c-'A') + 10
	}
	return 1 << 8
}
