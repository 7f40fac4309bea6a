package scribe

import (
	"iter"
	"strings"
)

// Lookup is the value of a key for this section: its own, else the nearest
// type::key for the section's type, in the section itself, around it, and at
// the top level. type, category and categories are never inherited. The key
// counts as read, here and wherever it could be inherited from.
func (s *Section) Lookup(key string) (v Value, found bool) {
	s.markRead()
	for e := range s.places(key) {
		e.read = true
		if !found {
			v, found = e.Value, true
			v.Inherited = v.Key != key
		}
	}
	return v, found
}

// places are where a value of the key stands for this section, nearest first.
// There is none for the empty key.
func (s *Section) places(key string) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		if key == "" {
			return
		}
		if e := s.byKey[key]; e != nil && !yield(e) {
			return
		}
		kind := s.byKey["type"]
		if kind == nil || kind.Text == "" || key == "type" || key == "category" || key == "categories" {
			return
		}
		inherited := kind.Text + "::" + key
		for at := s; at != nil; at = at.parent {
			if e := at.byKey[inherited]; e != nil && !yield(e) {
				return
			}
		}
	}
}

// markRead notes that something in the section was asked for.
func (s *Section) markRead() {
	for at := s; at != nil && !at.read; at = at.parent {
		at.read = true
	}
}

// WarnUnread adds a warning for every key that nothing asked for, and one for
// each section of which nothing did.
func (f *File) WarnUnread() { f.Root.warnUnread(nil) }

// WarnUnknown is WarnUnread for a file with errors, which may be why nothing
// asked for a key or a section: it warns of those whose name means nothing
// anywhere. known gets the name of a key without the type in front of it, or that
// of a section.
func (f *File) WarnUnknown(known func(name string) bool) { f.Root.warnUnread(known) }

// warnUnread is both: known is nil where all is told that nothing asked for.
func (s *Section) warnUnread(known func(name string) bool) {
	for _, e := range s.values {
		if !e.read && (known == nil || !known(e.Key[strings.LastIndexByte(e.Key, ':')+1:])) {
			s.file.report.add(e.Line, s, e.Key, unreadKey(e.Key))
		}
	}
	for _, inner := range s.sections {
		switch {
		case inner.read || known != nil && (inner.torn || known(inner.Name)):
			inner.warnUnread(known)
		default:
			s.file.report.add(inner.Line, inner, "", unreadSection())
		}
	}
}
