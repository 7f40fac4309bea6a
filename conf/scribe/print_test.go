package scribe

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// Print writes what is in a section, without comments: its keys, then its
// sections, each in the order of their lines. Parse makes an equal tree of it,
// as long as the indented text is not larger than MaxSize.
func Print(w io.Writer, s *Section) error {
	b := bufio.NewWriter(w)
	printSection(b, s, "")
	return b.Flush()
}

// printSection leaves errors to the writer, which keeps the first one.
func printSection(b *bufio.Writer, s *Section, indent string) {
	for _, e := range s.values {
		fmt.Fprintf(b, "%s%s=%s\n", indent, e.Key, e.Text)
	}
	stores := 0
	for i, inner := range s.sections {
		tag := inner.Name
		if tag == "store"+strconv.Itoa(stores) { // so it is called as the next <store>
			tag = "store"
			stores++
		}
		if s.parent == nil && (i > 0 || len(s.values) > 0) {
			fmt.Fprintln(b)
		}
		fmt.Fprintf(b, "%s<%s>\n", indent, tag)
		printSection(b, inner, indent+"  ")
		fmt.Fprintf(b, "%s</%s>\n", indent, tag)
	}
}
