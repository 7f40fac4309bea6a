package scribe

import (
	"fmt"
	"strings"
)

// A finding is one thing that is wrong, without its place. The functions below
// are all that the grammar knows, each with the reason why it is a warning or
// an error.
type finding struct {
	severity     Severity
	wrong, right string
}

func warning(wrong, right string) finding { return finding{Warning, wrong, right} }

func failure(wrong, right string) finding { return finding{Error, wrong, right} }

// tooLarge: Scribe has no limit. A file of that size is none that anybody
// wrote, and what is in it would be held in memory several times.
func tooLarge() finding {
	return failure(fmt.Sprintf("the file has more than %d bytes", MaxSize), "want that many at most")
}

// utf16: to Scribe every character has a NUL byte beside it and no line means
// anything. It is plain what the file is, but not whether all of it survives.
func utf16() finding {
	return failure("the file is UTF-16", "save it as UTF-8")
}

// byteOrderMark: Scribe takes it for a part of the first word, so that the first
// key or section of the file is lost. It can mean nothing else, also where files
// were joined and it stands in the middle.
func byteOrderMark() finding {
	return warning("a byte order mark stands in front, which is a part of the line to Scribe", "save the file without it")
}

// carriageReturns: to Scribe the CR belongs to the value, so that no type of a
// store is known and nothing is configured. Nobody means that. It is said once,
// for it is about the file.
func carriageReturns() finding {
	return warning("the lines end in CR LF, and to Scribe the CR belongs to the value", "end them in LF, as they are read")
}

// controlCharacter: Scribe keeps it. In a value it cannot be seen, and what was
// to stand there cannot be told: a NUL is often a hole that a crash left in the
// file, a CR alone two lines in one. In a comment it does no harm.
func controlCharacter(c byte) finding {
	return failure(fmt.Sprintf("the control character 0x%02x", c), "remove it: a configuration is text")
}

// noEquals: Scribe drops the line and says so in its log. It may be a comment or
// a setting that somebody relies on.
func noEquals(text string) finding {
	return failure(quoted(text)+" is neither key=value nor a section", "put a = behind the key, or a # in front of a comment")
}

// noKey: Scribe keeps the value under a name that nothing asks for. The key may
// have been lost.
func noKey() finding {
	return failure("there is no key in front of the =", "write key=value, or put a # in front of a comment")
}

// keyAgain: Scribe logs it and goes by the last one. Servers run with that, so
// it is kept.
func keyAgain(line int) finding {
	return warning(fmt.Sprintf("stands again in line %d, and that one counts", line), "keep one of them")
}

// tagWithoutEnd: Scribe drops the line, so that the keys below land in the
// section around it and the closing tag ends that one. What the file says and
// what the server does are two configurations.
func tagWithoutEnd(text string) finding {
	return failure(quoted(text)+" has no >", "write <name> on a line of its own")
}

// tagWithBlanks: to Scribe the blanks belong to the name, so that a store in
// another one is not found. It can mean nothing else.
func tagWithBlanks(name string) finding {
	return warning("blanks around the name of <"+printable(name)+">, which belong to it in Scribe", "write it without them")
}

// tagWithoutName: in Scribe nothing finds the section, unless it is a store at
// the top level. Which one is meant cannot be told.
func tagWithoutName() finding {
	return failure("a section without a name", "write <name>")
}

// tagWithSlash: "< /store>" and "<null/>" open sections of such names in Scribe.
// The one is to close a section, the other is to be an empty one, and to read
// them so would change where every later section ends.
func tagWithSlash(name string) finding {
	plain := printable(strings.Trim(name, "/"+blanks))
	return failure("<"+printable(name)+"> opens a section in Scribe, and has a / in its name",
		"write </"+plain+"> to close one, <"+plain+"> and </"+plain+"> on two lines for an empty one")
}

// textAfterTag: Scribe drops the rest of the line. A few words there are a
// comment.
func textAfterTag(rest string) finding {
	return warning(quoted(rest)+" behind the tag is not read", "put a # in front of a comment")
}

// moreAfterTag: Scribe drops the rest of the line, and here it is a key or
// another tag, so that the file says one thing and the server does another.
func moreAfterTag() finding {
	return failure("a key or a tag behind the tag, which Scribe drops", "give each a line of its own")
}

// sectionAgain: Scribe logs it and goes by the last one, and what the first one
// holds is lost. Servers run with that, so it is kept. It is said where the one
// that is not used begins.
func sectionAgain(first, last, again int) finding {
	return warning(fmt.Sprintf("the section opens again in line %d, and that one counts: lines %d to %d are not used", again, first, last),
		"rename or remove one of them")
}

// strayEnd: Scribe ends reading here without a word, reports that it is alive,
// and throws away what is logged to the stores below. Nobody means that, so the
// file is read on.
func strayEnd(tag string) finding {
	return warning("</"+printable(tag)+"> closes nothing, and Scribe reads nothing behind it", "remove it: the rest is read")
}

// otherEnd: Scribe does not compare the names, and its own test has such a file.
// As long as every tag has its counterpart a wrong name is a slip of the pen.
func otherEnd(tag, open string, line int) finding {
	return warning(fmt.Sprintf("</%s> closes <%s> of line %d", printable(tag), printable(open), line), "write </"+printable(open)+">")
}

// otherEndInDoubt: where tags are left over, it may as well be that the one
// which belongs here is missing or that this one is too many, and then keys and
// stores are in another section than it seems.
func otherEndInDoubt(tag, open string, line int) finding {
	return failure(fmt.Sprintf("</%s> closes <%s> of line %d, and the tags of the file do not match up", printable(tag), printable(open), line),
		"see which tag is missing, misspelt or too many")
}

// endWithoutEnd: Scribe looks at the first two characters only.
func endWithoutEnd(text string) finding {
	return warning(quoted(text)+" has no >", "write </name>")
}

// openAtEnd: Scribe takes the end of the file for the closing tag, and so it is
// where only the last lines are missing.
func openAtEnd(tag string) finding {
	return warning("the section is open at the end of the file", "write </"+printable(tag)+"> where it ends")
}

// openAtEndInDoubt: what has a category of its own, or is called as the section
// around it, looks like a store that is to stand beside it. To Scribe it is a
// part of it, and what is logged there is thrown away.
func openAtEndInDoubt(tag string) finding {
	return failure("the section is open at the end of the file, and a section in it may be meant to stand behind it",
		"write </"+printable(tag)+"> where it ends")
}

// tooDeep: Scribe goes on until its stack is used up. No store needs it.
func tooDeep() finding {
	return failure(fmt.Sprintf("sections nested more than %d deep: nothing is read from here on", MaxDepth), "want that many at most")
}

// unreadKey: Scribe ignores a key that it does not know, and files carry keys of
// its forks and of other versions. It may also be a name that is misspelt.
func unreadKey(key string) finding {
	if kind, _, is := strings.Cut(key, "::"); is {
		return warning("no store of type "+quoted(kind)+" around here reads it", "correct its name, or remove it")
	}
	return warning("nothing reads this key here", "correct its name, or remove it")
}

// unreadSection: the same for a section and all that is in it.
func unreadSection() finding {
	return warning("nothing reads this section", "correct its name, or remove it")
}
