package conf

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
)

// usualSpool is the limit of a folder with spools for which none is given
// (package store/replay).
const usualSpool = 50 * GiB

// spools wants the stores that have one folder for their spools to say the same
// of it, and the files that an original has left to be sent by one store.
func (k check) spools() {
	limits := map[string]struct {
		at   string
		most Size
	}{}
	left := map[string]string{}
	for p, l := range k.c.leaves() {
		b := l.Buffer
		if b == nil {
			continue
		}
		p = join(p, "buffer")
		if f := b.Framed; f != nil && f.Path != "" {
			k.framed(p, f, left)
		}
		if !l.spool {
			continue // the one buffer of all chains: buffer looks at it
		}
		folder := b.Path
		if folder == "" {
			folder = filepath.Join(k.c.State, "spool")
		}
		folder = absolute(filepath.Clean(folder))
		most := cmp.Or(b.MaxBytes, usualSpool)
		largest := max(k.c.Queue.MaxBatch, k.c.Limits.Message)
		k.least(join(p, "max_bytes"), most, "the largest batch + 1MiB", largest+MiB, "it could never be kept")
		first, shared := limits[folder]
		switch {
		case !shared:
			first.at, first.most = p, most
			limits[folder] = first
		case first.most != most:
			k.add(join(p, "max_bytes"), "%v here and %v in %s, and both have the folder %s: its spools share one limit, so say the same, or name another path",
				most, first.most, k.place(first.at), folder)
		}
	}
}

// framed wants no other store to send the same files: both would send all of them.
func (k check) framed(p string, f *Framed, left map[string]string) {
	files := fmt.Sprintf("%q in %s", f.Base+"_NNNNN", f.Path)
	key := absolute(filepath.Clean(f.Path)) + "\x00" + f.Base
	if f.Base == "" { // a folder for each category, and each category has one rule
		files = "the folders of its categories in " + f.Path
		rule, _, _ := strings.Cut(p, "]")
		key += "\x00" + rule
	}
	if first, twice := left[key]; twice {
		k.add(join(p, "framed"), "%s are those of %s already: both would send every message that is left there; keep one of the two", files, k.place(first))
		return
	}
	left[key] = p
}

// place is a path for a mistake at another one: with the category of its rule,
// and its line where that can be told.
func (k check) place(p string) string {
	var i int
	text := p
	if _, err := fmt.Sscanf(p, "categories[%d]", &i); err == nil && i < len(k.c.Category) {
		text = fmt.Sprintf("%s (category %q", p, k.c.Category[i].Match)
		if line := k.r.line(p); line > 0 {
			text += fmt.Sprintf(", line %d", line)
		}
		text += ")"
	}
	return text
}
