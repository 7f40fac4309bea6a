package conf

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinscribe/conf/scribe"
)

// ruleOf is what a store at the top level takes.
type ruleOf struct {
	section *scribe.Section
	matches []string // as Scribe has them
	lossy   bool
	plans   []plan
}

// topStore reads one store of the top level.
func (g *migration) topStore(s *scribe.Section) {
	rule := &ruleOf{section: s}
	one, list := s.Text("category", ""), s.List("categories")
	if one != "" {
		rule.matches = append(rule.matches, one)
	}
	for _, m := range list {
		if !slices.Contains(rule.matches, m) {
			rule.matches = append(rule.matches, m)
		}
	}
	if len(rule.matches) == 0 {
		s.AddError("category", "a store without category: Scribe passes over it and throws its messages away", "write category=default, a name, or a prefix and *")
		return
	}
	pattern := strings.HasSuffix(one, "*") || one == "default"
	many := len(list) > 0 || pattern
	g.several, g.base = many && !g.perThread, strings.TrimSuffix(one, "*")
	if len(list) > 0 {
		g.base = s.Text("categories", "")
	}
	rule.plans = g.expand(s, many && g.perThread)
	rule.lossy = !s.Bool("must_succeed", true)
	if wake := size(s.Decimal("target_write_size", 16_384)); g.wake == 0 || wake < g.wake {
		g.wake = max(1, wake)
	}
	if wait := max(time.Second, seconds(s.Uint("max_write_interval", 1))); g.wait == 0 || wait < g.wait {
		g.wait = wait
	}
	g.rules = append(g.rules, rule)
}

// route makes the rules. Where Scribe's order hides a pattern behind another
// one it is left out, with a warning.
func (g *migration) route() {
	type target struct {
		section *scribe.Section
		stores  []Store
		lines   []int // of the stores at the top level that they come from
	}
	by := map[string]*target{}
	for _, r := range g.rules {
		for _, m := range r.matches {
			if strings.Contains(strings.TrimSuffix(m, "*"), "*") {
				r.section.AddError("category", fmt.Sprintf("%q: * may stand only at the end", short(m)), "write the names in a list, categories=")
				continue
			}
			at := by[m]
			if at == nil {
				at = &target{section: r.section}
				by[m] = at
			}
			for _, p := range r.plans {
				one := p.store()
				one.Lossy = r.lossy
				r.ownFolder(m, at.stores, &one)
				at.stores = append(at.stores, one)
				at.lines = append(at.lines, r.section.Line)
			}
		}
	}
	var patterns []string // with a star, in Scribe's order
	for _, m := range slices.Sorted(maps.Keys(by)) {
		if strings.HasSuffix(m, "*") {
			for _, before := range patterns {
				if strings.HasPrefix(m, strings.TrimSuffix(before, "*")) {
					by[m].section.AddWarning("category", fmt.Sprintf("%q is never reached: %q comes first and takes all of it", short(m), short(before)), "remove it, or write its categories in full")
					delete(by, m)
					break
				}
			}
			patterns = append(patterns, m)
		}
	}
	if all, is := by["default"]; is && by["*"] != nil {
		all.section.AddWarning("category", `default is never reached: category=* takes everything`, "remove one of the two")
		delete(by, "default")
	}
	var sections []*scribe.Section // of g.c.Category
	for _, m := range slices.Sorted(maps.Keys(by)) {
		c := Category{Match: m}
		if m == "default" {
			c.Match = "*"
		}
		at := by[m]
		if len(at.stores) == 0 { // what is wrong with them is told
			continue
		}
		if len(at.stores) == 1 {
			c.Store = at.stores[0]
		} else {
			c.Stores = at.stores
		}
		p := nth("categories", len(g.c.Category))
		g.r.lines[p] = at.section.Line
		for i, line := range at.lines {
			g.r.lines[nth(join(p, "stores"), i)] = line
		}
		g.c.Category = append(g.c.Category, c)
		sections = append(sections, at.section)
	}
	g.takeOnce(sections)
	if len(g.rules) == 0 && g.f.Err() == nil {
		g.f.Root.AddError("", "there is no store in it", "write <store> with a category and a type")
	}
}

// ownFolder refuses a buffer that is another one's of the same category too: in
// Scribe either store sends what both have put there.
func (r *ruleOf) ownFolder(match string, others []Store, one *Store) {
	of := func(st *Store) (b *BufferPlace) {
		eachLeaf("", st, func(_ string, l leaf) bool {
			if l.Buffer != nil && l.Buffer.Framed != nil && l.Buffer.Path != "" {
				b = l.Buffer
			}
			return b == nil
		})
		return b
	}
	mine := of(one)
	if mine == nil {
		return
	}
	for i := range others {
		switch b := of(&others[i]); {
		case b == nil || b.Path != mine.Path:
			continue
		case b.Framed.Base == mine.Framed.Base:
			r.section.AddError("", fmt.Sprintf("two buffers of category %q in %s: each would send what the other one keeps there, and Scribe mixes them too", short(match), mine.Path),
				"give each a folder of its own")
		default:
			r.section.AddWarning("", fmt.Sprintf("two buffers of category %q in %s: whoever removes the first of these stores while messages wait there gives them to the other one", short(match), mine.Path),
				"give each a folder of its own")
		}
		return
	}
}

// takeOnce has one chain take each file that an original has left: the first of
// those whose secondaries are the same, or of one bucket. Where each category
// has files of its own, all categories keep theirs. sections are those that the
// rules come from.
func (g *migration) takeOnce(sections []*scribe.Section) {
	type taker struct {
		of       *Framed
		category string
	}
	taken := map[Framed]taker{}
	for i := range g.c.Category {
		c := &g.c.Category[i]
		own := map[Framed]bool{}
		for _, st := range c.Each() {
			eachLeaf("", &st, func(_ string, l leaf) bool {
				if l.Buffer == nil || l.Buffer.Framed == nil {
					return true
				}
				f := l.Buffer.Framed
				first, is := taken[*f]
				switch {
				case own[*f]:
				case f.Base == "" || !is:
					own[*f], taken[*f] = true, taker{f, c.Match}
					return true
				case first.of != f:
					sections[i].AddWarning("", fmt.Sprintf("the files %s_NNNNN that Scribe has left in %s are another store's too: that of category %q sends them", f.Base, f.Path, first.category),
						"wait until the original has sent them before it is stopped")
				}
				l.Buffer.Framed = nil // store has made the place one of its own
				return true
			})
		}
	}
}

// store is the plan as our configuration has it.
func (p *plan) store() Store {
	if p.bucket != nil {
		b := *p.bucket
		for i := range p.parts {
			b.Stores = append(b.Stores, p.parts[i].store())
		}
		return Store{Optional: p.optional, Bucket: &b}
	}
	if len(p.places) == 1 {
		one := p.places[0]
		one.Optional = p.optional
		return one
	}
	f := &Failover{Prefer: "first", Places: slices.Clone(p.places)}
	for i := range f.Places {
		switch at := &f.Places[i]; {
		case at.Buffer != nil && f.Spooled():
			b := *at.Buffer
			at.Buffer = &b
		case at.Buffer != nil: // the one buffer of all chains
			b := elementOf[BufferPlace]()
			b.Replay, b.Framed = at.Buffer.Replay, at.Buffer.Framed
			at.Buffer = &b
		case at.Files == nil:
			f.Retry = p.retry
		}
	}
	return Store{Optional: p.optional, Failover: f}
}

// clusterOf is one HDFS that file stores write to.
type clusterOf struct {
	section *scribe.Section // that names it first
	folders []folder        // of its stores
	addr    string
	files   []*Files // their Scribe.FilePath is absolute
	hold    time.Duration
}

// onCluster notes that files lie on an HDFS.
func (g *migration) onCluster(s *scribe.Section, f *Files) bool {
	u, err := url.Parse(f.Scribe.FilePath)
	if err != nil || u.Scheme != "hdfs" || u.Host == "" || u.Path == "" {
		s.AddError("file_path", fmt.Sprintf("%q does not name the NameNode", short(f.Scribe.FilePath)), "write hdfs://HOST:PORT/FOLDER")
		return false
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "8020")
	}
	for _, key := range []string{"write_meta", "write_category", "write_stats"} {
		if s.Bool(key, false) {
			s.AddWarning(key, "no such lines are written on HDFS", "remove the key: the manifest beside each file tells more")
		}
	}
	at := slices.IndexFunc(g.clusters, func(c *clusterOf) bool { return c.addr == addr })
	if at < 0 {
		at = len(g.clusters)
		g.clusters = append(g.clusters, &clusterOf{section: s, addr: addr})
	}
	c := g.clusters[at]
	f.Cluster = addr // until placeClusters names it
	f.Scribe.FilePath = path.Clean(u.Path)
	c.folders = append(c.folders, folder{f.Scribe.FilePath, s.Line})
	c.files = append(c.files, f)
	return true
}

// hold has the clusters of a line wait as long as the retry interval that the
// file gives before they are gone back to.
func (g *migration) hold(l *plan, r *Retry) {
	for _, at := range l.places {
		if at.Files == nil {
			continue
		}
		for _, c := range g.clusters {
			if c.addr == at.Files.Cluster {
				c.hold = max(c.hold, r.Interval)
			}
		}
	}
}

// placeClusters gives each HDFS its name, and the folder for what is ours: in
// that of the first store on it, so that it stays where it is when others come.
func (g *migration) placeClusters() {
	top := g.f.Root
	in := top.Text("hdfs_folder", "")
	if in != "" && (!path.IsAbs(in) || path.Clean(in) != in) {
		top.AddError("hdfs_folder", fmt.Sprintf("%q is no folder of an HDFS", short(in)), "write a whole path, such as /scribe")
	}
	taken := map[string]bool{}
	for i, of := range g.clusters {
		name := clusterName(of.addr, taken)
		for _, f := range of.files {
			f.Cluster = name
			f.Scribe.FilePath = strings.TrimPrefix(f.Scribe.FilePath, "/")
		}
		first := slices.MinFunc(of.folders, byLine)
		c := elementOf[Cluster]()
		h := elementOf[HDFS]()
		h.NameNodes, h.User, h.Root = []string{of.addr}, account(), "/"
		h.NodeTimeout = min(h.NodeTimeout, g.c.Timeouts.Write/4)
		c.Name, c.HDFS = name, &h
		c.Folder = strings.TrimPrefix(path.Join("/", cmp.Or(in, first.path), EngineFolder), "/")
		if of.hold > 0 {
			c.Probe.HoldOff, c.Probe.HoldMax = of.hold, max(of.hold, c.Probe.HoldMax)
		}
		g.r.lines[nth("clusters", i)] = of.section.Line
		g.c.Clusters = append(g.c.Clusters, c)
	}
}

// elementOf is elementDefault by its type.
func elementOf[T any]() T { return elementDefault(reflect.TypeFor[T]()).Interface().(T) }

// clusterName makes a name of a NameNode's address: the host's first label.
func clusterName(addr string, taken map[string]bool) string {
	host, port, _ := net.SplitHostPort(addr)
	name := strings.ToLower(host)
	if net.ParseIP(host) == nil {
		name, _, _ = strings.Cut(name, ".")
	}
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	name = name[:min(len(name), 24)]
	for _, try := range []string{name, name + "-" + port} {
		if !taken[try] && !slices.Contains(otherPlaces, try) {
			taken[try] = true
			return try
		}
	}
	for n := 2; ; n++ {
		if try := name + "-" + strconv.Itoa(n); !taken[try] {
			taken[try] = true
			return try
		}
	}
}
