package conf

import "slices"

// Elsewhere is what stores write to beside clusters and the buffer that all
// chains share: nothing of it is in the data set that these hold.
type Elsewhere struct {
	Folders []string // of local files under Scribe's names, in order
	Servers []string // that messages are forwarded to, in order
	// Only says that messages of some rule are nowhere else: it has no store that
	// clusters and the buffer hold by themselves.
	Only bool
}

// Elsewhere is what messages of a category go to, or those of all where it is empty.
func (c *Config) Elsewhere(category string) Elsewhere {
	var e Elsewhere
	if category == "" {
		for i := range c.Category {
			e.add(&c.Category[i])
		}
	} else if rule := c.RuleOf(category); rule != nil {
		e.add(rule)
	}
	slices.Sort(e.Folders)
	slices.Sort(e.Servers)
	e.Folders, e.Servers = slices.Compact(e.Folders), slices.Compact(e.Servers)
	return e
}

func (e *Elsewhere) add(rule *Category) {
	only := true
	for i, st := range rule.Each() {
		held := true
		eachLeaf(nth("", i), &st, func(_ string, l leaf) bool {
			switch {
			case l.ScribeFiles != nil:
				held, e.Folders = false, append(e.Folders, l.ScribeFiles.FilePath)
			case l.Network != nil:
				held, e.Servers = false, append(e.Servers, l.Network.Servers...)
			}
			return true
		})
		only = only && !held
	}
	e.Only = e.Only || only
}
