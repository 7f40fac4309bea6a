package conf

import (
	"io/fs"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	clusterForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	userForm    = regexp.MustCompile(`^[^\s/\x00-\x1f]{1,128}$`)
)

// otherPlaces are the names that the books use for what is no cluster.
var otherPlaces = []string{"buffer", "dead-letter", "unrouted", "null"}

func (k check) clusters() {
	names, nodes := map[string]int{}, map[string]int{}
	for i := range k.c.Clusters {
		cl, p := &k.c.Clusters[i], nth("clusters", i)
		k.clusterName(join(p, "name"), cl.Name)
		if first, twice := names[cl.Name]; twice && cl.Name != "" {
			k.add(join(p, "name"), "%q is the name of clusters[%d] already", cl.Name, first)
		} else {
			names[cl.Name] = i
		}
		switch {
		case cl.HDFS == nil && cl.Dir == nil:
			k.add(p, "no kind: want hdfs or dir")
		case cl.HDFS != nil && cl.Dir != nil:
			k.add(p, "both hdfs and dir: want one of them")
		case cl.Dir != nil:
			k.dir(join(p, "dir.path"), i)
		default:
			k.hdfs(join(p, "hdfs"), cl.HDFS, nodes, i)
		}
		k.clusterFolder(p, cl)
		const day = 24 * time.Hour
		if k.time(join(p, "probe.every"), cl.Probe.Every, 50*time.Millisecond, time.Minute) &&
			k.time(join(p, "probe.hold_off"), cl.Probe.HoldOff, cl.Probe.Every, day) {
			k.time(join(p, "probe.hold_off_max"), cl.Probe.HoldMax, cl.Probe.HoldOff, 7*day)
		}
		k.count(join(p, "limits.max_open_files"), cl.Limits.OpenFiles, 1, 100_000)
		k.count(join(p, "limits.block_starts"), cl.Limits.BlockStarts, 1, 10_000)
		k.count(join(p, "limits.appends"), cl.Limits.Appends, 1, 100_000)
		if cl.Name != "" && !k.used(cl.Name) {
			k.warn(p, "no category writes to cluster %s", cl.Name)
		}
	}
}

func (k check) clusterName(path, name string) {
	switch {
	case name == "":
		k.add(path, "missing: want small letters, digits and '-', such as n1")
	case !clusterForm.MatchString(name):
		k.add(path, "%q: want up to 32 small letters, digits and '-'", name)
	case slices.Contains(otherPlaces, name):
		k.add(path, "%q is what the books call something else: want another name", name)
	}
}

// clusterFolder wants what is ours out of the way of Scribe's readers.
func (k check) clusterFolder(p string, c *Cluster) {
	p = join(p, "folder")
	const example = "write folder: " + EngineFolder
	switch v := c.Folder; {
	case v == "" && k.c.ScribeNamed(c.Name):
		k.add(p, "files get Scribe's names on %s, and nothing else may lie where their readers look: %s", c.Name, example)
	case v != "" && (!fs.ValidPath(v) || path.Base(v) != EngineFolder || slices.Contains(strings.Split(path.Dir(v), "/"), EngineFolder)):
		k.add(p, "%q: want a folder below the root whose last part is %s: %s, or logs/%s", v, EngineFolder, example, EngineFolder)
	}
}

// used says whether a category's store names the cluster.
func (k check) used(name string) bool {
	for _, l := range k.c.leaves() {
		if l.Files != nil && l.Files.Cluster == name {
			return true
		}
	}
	return false
}

// dir wants a folder that no other part of the program writes into.
func (k check) dir(p string, i int) {
	own := k.c.Clusters[i].Dir.Path
	if !k.folder(p, own, "/data/n1") {
		return
	}
	others := map[string]string{"state": k.c.State}
	if k.c.Buffer.Path != "" {
		others["buffer.path"] = k.c.Buffer.Path
	}
	for j := range i {
		if d := k.c.Clusters[j].Dir; d != nil && d.Path != "" {
			others[join(nth("clusters", j), "dir.path")] = d.Path
		}
	}
	for _, name := range sortedKeys(others) {
		if inside(own, others[name]) || inside(others[name], own) {
			k.add(p, "%s and %s, %s, lie one in the other: each needs a folder of its own", own, name, others[name])
		}
	}
}

func (k check) hdfs(p string, h *HDFS, nodes map[string]int, i int) {
	switch n := len(h.NameNodes); {
	case n == 0:
		k.add(join(p, "namenodes"), `missing: want [HOST:PORT], or both NameNodes of an HA pair`)
	case n > 5:
		k.add(join(p, "namenodes"), "%d of them: want one, or the NameNodes of one HA group, 5 at most", n)
	}
	for j, node := range h.NameNodes {
		at := nth(join(p, "namenodes"), j)
		if !k.address(at, node, true, "nn1:8020") {
			continue
		}
		host, port, _ := net.SplitHostPort(node)
		if port == "9870" || port == "50070" {
			k.warn(at, "%s is usually the port of the NameNode's web page: want that of fs.defaultFS, usually 8020", port)
		}
		key := net.JoinHostPort(hostKey(host), port)
		if first, twice := nodes[key]; twice {
			if first == i {
				k.add(at, "%s stands twice in this list", node)
			} else {
				k.add(at, "%s belongs to clusters[%d] already: two clusters on one NameNode fail together", node, first)
			}
			continue
		}
		nodes[key] = i
	}
	if !userForm.MatchString(h.User) || expandForm.MatchString(h.User) {
		k.add(join(p, "user"), "%q: want the name of an HDFS user, such as scribe", h.User)
	}
	if h.Root != "/" || k.c.Clusters[i].Folder == "" { // all that is ours is then in a folder of its own
		k.root(join(p, "root"), h.Root)
	}
	k.count(join(p, "replication"), h.Replication, 0, 512)
	k.count(join(p, "min_replicas"), h.MinReplicas, 0, 512)
	if h.Replication > 0 && h.MinReplicas > h.Replication {
		k.add(join(p, "min_replicas"), "%d is more than replication, %d: no block could ever have as many", h.MinReplicas, h.Replication)
	}
	k.oneOf(join(p, "sync"), h.Sync, "hflush", "hsync")
	write := k.c.Timeouts.Write
	if k.time(join(p, "node_timeout"), h.NodeTimeout, 10*time.Millisecond, time.Minute) && h.NodeTimeout >= write && write >= leastWrite {
		k.add(join(p, "node_timeout"), "%s: want less than timeouts.write, %s, or no pipeline could be recovered within it",
			durationText(h.NodeTimeout), durationText(write))
	}
	k.time(join(p, "connect_timeout"), h.Connect, 10*time.Millisecond, time.Minute)
	k.time(join(p, "rpc_timeout"), h.RPC, 10*time.Millisecond, time.Minute)
}

func (k check) categories() {
	if len(k.c.Category) == 0 {
		k.add("categories", `missing: want a rule at least, such as {match: "*", store: ...}`)
	}
	k.drained()
	seen := map[string]int{}
	for i := range k.c.Category {
		cat, p := &k.c.Category[i], nth("categories", i)
		switch {
		case cat.Match == "":
			k.add(join(p, "match"), `missing: want a category's name, a prefix with * at its end, or "*" for all others`)
		case strings.Contains(strings.TrimSuffix(cat.Match, "*"), "*"):
			k.add(join(p, "match"), "%q: * may stand only at the end", cat.Match)
		case len(cat.Match) > 65535:
			k.add(join(p, "match"), "it has %d bytes: a category's name has 65535 at most", len(cat.Match))
		default:
			k.oddMatch(join(p, "match"), cat.Match)
		}
		if first, twice := seen[cat.Match]; twice && cat.Match != "" {
			k.add(join(p, "match"), "%q is the match of categories[%d] already: a message goes one way", cat.Match, first)
		} else {
			seen[cat.Match] = i
		}
		k.reached(i)
		if k.r.said[join(p, "ack")] {
			k.oneOf(join(p, "ack"), cat.Ack, "stored", "received")
		}
		k.stores(p, cat)
	}
}

// reached wants a rule that some category can come to: the first prefix in byte
// order counts, so "web_*" takes all that "web_debug*" is written for.
func (k check) reached(i int) {
	match := k.c.Category[i].Match
	for j, other := range k.c.Category {
		prefix, is := strings.CutSuffix(other.Match, "*")
		if is && prefix != "" && other.Match < match && strings.HasSuffix(match, "*") && strings.HasPrefix(match, prefix) {
			k.add(join(nth("categories", i), "match"), "%q is never reached: %q of categories[%d] comes first and takes all of it; name the categories in full",
				match, other.Match, j)
			return
		}
	}
}

// oddMatch warns of what is a name as it stands there, and hardly meant as one.
func (k check) oddMatch(p, match string) {
	switch {
	case strings.TrimSpace(match) != match || strings.ContainsFunc(match, func(r rune) bool { return r < ' ' }):
		k.warn(p, "%q is taken with its blanks and control characters: categories are seldom called so", match)
	case strings.ContainsAny(match, "^$?[]|\\\"") || strings.Contains(match, ".*"):
		k.warn(p, "%q is taken letter by letter: a star at the end is the only pattern there is", match)
	case match == "default":
		k.warn(p, `it means the category of that name: write "*" for all that no other rule matches`)
	}
}

// drained warns when no cluster is there at the start.
func (k check) drained() {
	if len(k.c.Clusters) > 0 && !slices.ContainsFunc(k.c.Clusters, func(c Cluster) bool { return !c.Drain }) {
		k.warn("clusters", "every cluster starts drained: all messages stay here until `ctl undrain`")
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
