package conf

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// chain looks at the stores of one rule.
type chain struct {
	check
	clusters  map[string]string // those used, and where
	partition string            // of the first files, and where
	first     string
	at        string // the store of the rule that is looked at
	exact     bool   // the rule is for one category
}

// stores looks at what a rule does with its messages.
func (k check) stores(p string, c *Category) {
	s := &chain{check: k, clusters: map[string]string{}, at: join(p, "store"), exact: !strings.HasSuffix(c.Match, "*")}
	switch {
	case c.Stores == nil:
		s.store(s.at, &c.Store, true)
	case k.r.said[join(p, "store")]:
		k.add(join(p, "stores"), "store and stores: want one of them")
	case len(c.Stores) == 0:
		k.add(join(p, "stores"), "empty: want a store at least")
	default:
		for i := range c.Stores {
			s.at, s.partition, s.first = nth(join(p, "stores"), i), "", "" // each has batches of its own
			s.store(s.at, &c.Stores[i], true)
		}
		k.sameFiles(p, c)
	}
}

// store looks at one; outer says that it is not inside a bucket.
func (s *chain) store(p string, st *Store, outer bool) {
	allowed := []string{"failover", "files", "scribe_files", "network", "bucket", "buffer", "null"}
	if !s.oneKind(p, st, allowed...) {
		return
	}
	if !outer {
		s.noPart(p, st)
	}
	switch {
	case st.Failover != nil:
		s.failover(join(p, "failover"), st.Failover)
	case st.Bucket != nil && !outer:
		s.add(p, "a bucket inside a bucket: want a store that takes all of its messages")
	case st.Bucket != nil:
		s.bucket(join(p, "bucket"), st.Bucket)
	default:
		s.leaf(p, st)
	}
	if st.Buffer != nil {
		s.noSpool(join(p, "buffer"), st.Buffer, "a buffer that stands alone")
		if st.Buffer.Framed != nil {
			s.add(join(p, "buffer.framed"), "a buffer that stands alone sends nothing on: drop the key")
		}
	}
}

// noPart refuses what is said of a whole store.
func (s *chain) noPart(p string, st *Store) {
	if st.Lossy {
		s.add(join(p, "lossy"), "a part of a store is not lossy by itself: say it of the whole")
	}
	if st.Optional {
		s.add(join(p, "optional"), "a part of a store is not optional by itself: say it of the whole")
	}
}

// leaf looks at a store that holds no others.
func (s *chain) leaf(p string, st *Store) {
	switch {
	case st.Files != nil:
		s.files(join(p, "files"), st.Files)
	case st.ScribeFiles != nil:
		s.scribeFiles(join(p, "scribe_files"), st.ScribeFiles)
	case st.Network != nil:
		s.network(join(p, "network"), st.Network)
	}
}

// oneKind wants exactly one kind to be set, of those that may stand here.
func (s *chain) oneKind(p string, st *Store, allowed ...string) bool {
	var set []string
	for _, k := range storeKinds {
		if k.set(st) {
			set = append(set, k.name)
		}
	}
	slices.Sort(set)
	switch {
	case len(set) == 0:
		s.add(p, "no kind of store: want one of %s", strings.Join(allowed, ", "))
	case len(set) > 1:
		s.add(p, "%s: want one kind of store", strings.Join(set, " and "))
	case slices.Contains(allowed, set[0]):
		return true
	case set[0] == "null":
		s.add(p, "null throws messages away and is no place of a failover")
	case set[0] == "bucket":
		s.add(p, "a bucket inside a failover: want a bucket whose stores are failovers")
	default:
		s.add(p, "a %s inside a failover: list its places in the outer one", set[0])
	}
	return false
}

func (s *chain) failover(p string, f *Failover) {
	s.oneOf(join(p, "prefer"), f.Prefer, "none", "first")
	if len(f.Places) == 0 {
		s.add(join(p, "places"), "missing: want one place at least")
	}
	clusters, others := 0, 0
	for i := range f.Places {
		place, at := &f.Places[i], nth(join(p, "places"), i)
		if !s.oneKind(at, place, "files", "scribe_files", "network", "buffer") {
			continue
		}
		s.noPart(at, place)
		switch {
		case place.Buffer == nil:
			s.leaf(at, place)
		case i < len(f.Places)-1:
			s.add(at, "the buffer takes what nobody else does: it has to be the last place")
		case others > 0 && clusters == 0:
			s.spool(join(at, "buffer"), place.Buffer)
		default:
			s.noSpool(join(at, "buffer"), place.Buffer, "a buffer behind clusters")
		}
		if place.Buffer != nil && place.Buffer.Framed != nil {
			f := place.Buffer.Framed
			s.folder(join(at, "buffer.framed.path"), f.Path, "/var/spool/scribe")
			s.oneOf(join(at, "buffer.framed.form"), f.Form, "one", "two")
		}
		if place.Files != nil {
			clusters++
		} else {
			others++
		}
	}
	if f.Retry != nil {
		s.retry(join(p, "retry"), f.Retry)
	}
}

func (s *chain) retry(p string, r *Retry) {
	const day = 24 * time.Hour
	s.time(join(p, "interval"), r.Interval, 0, day)
	s.time(join(p, "range"), r.Range, 0, r.Interval)
	if s.time(join(p, "max"), r.Max, 0, day) {
		s.time(join(p, "min"), r.Min, 0, r.Max)
		s.time(join(p, "offset"), r.Offset, 0, r.Max)
	}
}

// spool looks at a buffer of which each category has its own.
func (s *chain) spool(p string, b *BufferPlace) {
	if b.Path != "" {
		s.folder(join(p, "path"), b.Path, "/var/spool/twinscribe")
	}
	s.oneOf(join(p, "order"), b.Order, "keep", "live-first")
	s.count(join(p, "live_below"), b.LiveBelow, 1, 100)
	if s.r.said[join(p, "replay")] && b.Replay != "auto" {
		s.add(join(p, "replay"), "%q: a spool always goes on to the first place that can take it: drop the key", b.Replay)
	}
}

// noSpool refuses the keys of a spool elsewhere.
func (s *chain) noSpool(p string, b *BufferPlace, where string) {
	usual := elementOf[BufferPlace]()
	for _, k := range []struct {
		key string
		is  bool
	}{{"path", b.Path != usual.Path}, {"order", b.Order != usual.Order}, {"live_below", b.LiveBelow != usual.LiveBelow}} {
		if k.is {
			s.add(join(p, k.key), "%s has no spool of its own: drop the key", where)
		}
	}
}

func (s *chain) bucket(p string, b *Bucket) {
	s.oneOf(join(p, "by"), b.By, "key_hash", "key_modulo", "key_range", "context_log", "random")
	s.count(join(p, "delimiter"), b.Delimiter, 1, 255)
	s.count(join(p, "range"), b.Range, 0, 1<<31-1)
	if b.RemoveKey && b.By == "context_log" {
		s.add(join(p, "remove_key"), "a message of context_log has no key that could be removed")
	}
	switch {
	case len(b.Stores) == 0:
		s.add(join(p, "stores"), "missing: want a store for messages without a key, and one for each bucket")
	case len(b.Stores) == 1:
		s.add(join(p, "stores"), "one: want it for messages without a key, and one more for each bucket")
	}
	for i := range b.Stores {
		one := *s
		one.clusters = maps.Clone(s.clusters) // a message goes to one bucket
		one.store(nth(join(p, "stores"), i), &b.Stores[i], false)
	}
}

// mostServers is how many one store sends to at most: store/network has no more.
const mostServers = 256

func (s *chain) network(p string, n *Network) {
	if len(n.Servers) == 0 {
		s.add(join(p, "servers"), "missing: want [HOST:PORT] at least")
	}
	if len(n.Servers) > mostServers {
		s.add(join(p, "servers"), "%d of them: want %d at most", len(n.Servers), mostServers)
	}
	for i, server := range n.Servers {
		at := nth(join(p, "servers"), i)
		if s.address(at, server, true, "aggregator:1463") && slices.Contains(n.Servers[:i], server) {
			s.add(at, "%s stands twice in this list", server)
		}
	}
	s.time(join(p, "timeout"), n.Timeout, 10*time.Millisecond, 10*time.Minute)
}

func (s *chain) scribeFiles(p string, f *ScribeFiles) {
	s.folder(join(p, "file_path"), f.FilePath, "/var/log/scribe")
	s.scribeNames(p, &f.ScribeNames)
	s.size(join(p, "max_size"), f.MaxSize, 0, 1<<50)
	s.size(join(p, "max_write_size"), f.MaxWriteSize, 0, GiB)
	s.size(join(p, "chunk_size"), f.ChunkSize, 0, TiB)
}

// scribeNames looks at what files of Scribe's have on a cluster and elsewhere.
func (s *chain) scribeNames(p string, n *ScribeNames) {
	switch n.RotatePeriod {
	case "never", "hourly", "daily":
	default:
		if d, err := parseDuration(n.RotatePeriod); err != nil || d < time.Second {
			s.add(join(p, "rotate_period"), "%q: want never, hourly, daily or a duration of a second at least", n.RotatePeriod)
		}
	}
	s.count(join(p, "rotate_hour"), n.RotateHour, 0, 23)
	s.count(join(p, "rotate_minute"), n.RotateMinute, 0, 59)
	for _, name := range []struct{ key, value string }{
		{"base_filename", n.BaseFilename}, {"sub_directory", n.SubDirectory}, {"base_symlink_name", n.LinkName},
	} {
		if strings.ContainsAny(name.value, "\x00") || name.key != "sub_directory" && strings.Contains(name.value, "/") ||
			slices.Contains(strings.Split(name.value, "/"), "..") {
			s.add(join(p, name.key), "%q: want a name without '/', \"..\" and NUL", name.value)
		}
	}
	if n.BaseFilename == "" && !n.PerCategory && !s.exact {
		s.add(join(p, "base_filename"), "missing: want the name that the files of all categories of this rule begin with")
	}
}

func (s *chain) files(p string, f *Files) {
	s.cluster(join(p, "cluster"), f.Cluster)
	if s.oneOf(join(p, "partition"), f.Partition, "hour", "day") {
		if s.first == "" {
			s.first, s.partition = join(p, "partition"), f.Partition
		} else if f.Partition != s.partition {
			s.add(join(p, "partition"), "%s here and %s in %s: a batch keeps its partition wherever it goes", f.Partition, s.partition, s.first)
		}
	}
	s.size(join(p, "max_size"), f.MaxSize, MiB, TiB)
	s.time(join(p, "idle"), f.Idle, time.Second, 24*time.Hour)
	if f.Scribe != nil {
		if at := f.Scribe.FilePath; path.IsAbs(at) || path.Clean("/"+at) != "/"+strings.TrimSuffix(at, "/") {
			s.add(join(p, "scribe.file_path"), "%q: want a folder below the cluster's root, such as web", at)
		} else if slices.Contains(strings.Split(path.Join(at, f.Scribe.SubDirectory), "/"), EngineFolder) {
			s.add(join(p, "scribe.file_path"), "%q: %s is for what is ours: want a folder outside of it, such as web", at, EngineFolder)
		}
		s.scribeNames(join(p, "scribe"), f.Scribe)
	}
}

func (s *chain) cluster(p, name string) {
	if name == "" {
		s.add(p, "missing: name one of the clusters")
		return
	}
	if first, twice := s.clusters[name]; twice {
		why := "two places on one cluster fail together"
		if !within(first, s.at) {
			why = "whoever reads the cluster would find every message twice"
		}
		s.add(p, "%s is the cluster of %s already: %s", name, first, why)
	}
	s.clusters[name] = p
	names := make([]string, 0, len(s.c.Clusters))
	for _, c := range s.c.Clusters {
		if !clusterForm.MatchString(c.Name) {
			return // the name that is meant may be the one that is wrong there
		}
		names = append(names, c.Name)
	}
	if slices.Contains(names, name) || s.r.suspect("clusters") {
		return
	}
	remedy := "there are " + strings.Join(names, ", ")
	if len(names) == 0 {
		remedy = fmt.Sprintf("there is none: add clusters: [{name: %s, ...}]", name)
	}
	s.add(p, "no cluster is called %s; %s", name, remedy)
}
