package conf

import (
	"cmp"
	"path/filepath"
	"strings"
)

// sameFiles warns where two stores of one rule write to the same local files:
// each takes every message. Parts of one store share them without harm.
func (k check) sameFiles(p string, c *Category) {
	type names struct{ folder, base string }
	first := map[names]int{} // the store
	own := c.Match
	if strings.HasSuffix(own, "*") {
		own = "<category>"
	}
	for i := range c.Stores {
		at := nth(join(p, "stores"), i)
		eachLeaf(at, &c.Stores[i], func(_ string, l leaf) bool {
			f := l.ScribeFiles
			if f == nil || f.FilePath == "" {
				return true
			}
			n := names{filepath.Join(f.FilePath, f.SubDirectory), cmp.Or(f.BaseFilename, own)}
			if f.PerCategory {
				n = names{filepath.Join(f.FilePath, own, f.SubDirectory), own}
			}
			switch before, twice := first[n]; {
			case !twice:
				first[n] = i
			case before != i:
				k.warn(at, "category %q has another store with the files %s_NNNNN in %s: each message stands twice in them, as with Scribe; give each a file_path of its own",
					c.Match, n.base, n.folder)
				return false
			}
			return true
		})
	}
}
