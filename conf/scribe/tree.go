// Package scribe reads the configuration files of the original Scribe server:
// its grammar, into a tree in which everything has its line; the value of a
// key, inherited where Scribe inherits it; numbers, words and lists as their
// keys hold them; and all that is wrong, in one run.
//
//	port=1463                # a key of the server
//	file::fs_type=std        # of every store of type file that does not say fs_type itself
//	<store>                  # the first of its name: store0
//	  category=default
//	  type=buffer
//	  <primary>
//	    type=file
//	    file_path=/data/scribe
//	  </primary>
//	</store>
//
// A reader asks for what it knows, and then for what is wrong:
//
//	f := scribe.Parse("scribe.conf", content)
//	for _, s := range f.Root.ByName() {
//		wait := s.Uint("retry_interval", 300)
//	}
//	f.WarnUnread()
//	if f.Err() != nil {
//		return f.Mistakes() // warnings too
//	}
//
// A file without a mistake is read as Scribe reads it. What Scribe drops or
// mangles without a word is read as it is meant, with a warning, where it can
// mean one thing only, and is an error otherwise: diagnostics.go says so case
// by case.
//
// It leaves to others: what a store is, which sections and keys it has and
// needs, and in which range; to get the file; to run anything. It imports
// nothing of ours, so that conf can import it.
package scribe

import (
	"slices"
	"strings"
)

const (
	// MaxSize bounds a file in bytes.
	MaxSize = 4 << 20
	// MaxDepth bounds how deep sections are nested.
	MaxDepth = 64
)

// A File is what one file says. One goroutine uses it at a time: looking a key
// up notes that it was.
type File struct {
	Root *Section // what stands outside of all sections; each section of it is a store

	report report
}

// A Section is a named part of a file, and the keys and sections in it.
type Section struct {
	Name string // store0 for the first <store>, and so on
	Line int    // of its opening tag; 0: the top level

	file     *File
	parent   *Section // nil: the top level
	values   []*entry
	byKey    map[string]*entry
	sections []*Section
	byName   map[string]*Section
	last     int  // line of its closing tag, or of the end of the file
	replaced bool // by a later one of its name
	read     bool // something asked for it, or for something in it
	torn     bool // its opening tag, or one in it, has no >: what it lacks may be behind that
}

// A Value is what a file says of a key.
type Value struct {
	Key       string   // as it is written, such as file::fs_type
	Text      string   // without the blanks around it
	Line      int      // where it stands
	Section   *Section // the one it stands in
	Inherited bool     // asked for as fs_type, found as file::fs_type
}

// entry is a value in its section.
type entry struct {
	Value
	replaced bool // by a later one of its key
	read     bool // something asked for it, or would have without a nearer one
}

// Parent is the section around this one, nil for the top level.
func (s *Section) Parent() *Section { return s.parent }

// Path is where the section is, such as store1/primary, with long names cut
// short; empty for the top level.
func (s *Section) Path() string {
	var names []string
	for ; s.parent != nil; s = s.parent {
		names = append(names, short(s.Name))
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// Values are the keys that stand in the section itself, in the order of their
// lines.
func (s *Section) Values() []Value {
	all := make([]Value, len(s.values))
	for i, e := range s.values {
		all[i] = e.Value
	}
	return all
}

// Sections are the sections in this one, in the order of their lines.
func (s *Section) Sections() []*Section { return slices.Clone(s.sections) }

// ByName are the sections in this one in the byte order of their names, store10
// before store2: the order in which Scribe sets up its stores.
func (s *Section) ByName() []*Section {
	all := s.Sections()
	slices.SortFunc(all, func(a, b *Section) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Section is the section of this name in this one, nil if there is none. It
// counts as read.
func (s *Section) Section(name string) *Section {
	inner := s.byName[name]
	if inner != nil {
		inner.markRead()
	}
	return inner
}

// Mistakes are all that were found so far, by line.
func (f *File) Mistakes() Mistakes { return f.report.sorted() }

// Err is all mistakes that are errors as Mistakes, or nil. With one of them
// the file is not to be used: it may mean something else than the tree says.
func (f *File) Err() error {
	var errs Mistakes
	for _, m := range f.report.sorted() {
		if m.Severity == Error {
			errs = append(errs, m)
		}
	}
	if errs == nil {
		return nil
	}
	return errs
}
