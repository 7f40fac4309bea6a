package conf

import (
	"strings"
	"time"
)

// Category routes categories to a chain, or to several. The first exact match
// counts, else the first prefix in byte order, else "*".
type Category struct {
	Match  string // exact name, prefix*, or *
	Ack    string // stored | received
	Store  Store
	Stores []Store // in place of Store: each of them gets every message
}

// Each is the stores of the rule.
func (c *Category) Each() []Store {
	if c.Stores != nil {
		return c.Stores
	}
	return []Store{c.Store}
}

// Store is a node of a chain: exactly one kind is set.
type Store struct {
	// Outermost only.
	Lossy    bool // what it refuses is thrown away and counted
	Optional bool // while its queue is full other stores of the rule take messages without it

	Failover    *Failover
	Files       *Files
	ScribeFiles *ScribeFiles `mapstructure:"scribe_files"`
	Network     *Network
	Bucket      *Bucket
	Buffer      *BufferPlace
	Null        *Null
}

// kinds are the kinds of a store, by their keys.
var storeKinds = []struct {
	name string
	set  func(*Store) bool
}{
	{"failover", func(s *Store) bool { return s.Failover != nil }},
	{"files", func(s *Store) bool { return s.Files != nil }},
	{"scribe_files", func(s *Store) bool { return s.ScribeFiles != nil }},
	{"network", func(s *Store) bool { return s.Network != nil }},
	{"bucket", func(s *Store) bool { return s.Bucket != nil }},
	{"buffer", func(s *Store) bool { return s.Buffer != nil }},
	{"null", func(s *Store) bool { return s.Null != nil }},
}

// Kind is the name of the kind that is set.
func (s Store) Kind() string {
	for _, k := range storeKinds {
		if k.set(&s) {
			return k.name
		}
	}
	return ""
}

// ScribeNamed says that a store writes files to a cluster under Scribe's names.
func (c *Config) ScribeNamed(cluster string) bool {
	for _, l := range c.leaves() {
		if l.Files != nil && l.Files.Cluster == cluster && l.Files.Scribe != nil {
			return true
		}
	}
	return false
}

// FilesOn are the stores of files on a cluster that a category's messages come to.
func (c *Config) FilesOn(cluster, category string) (files []*Files) {
	rule := c.RuleOf(category)
	if rule == nil {
		return nil
	}
	for i, s := range rule.Each() {
		eachLeaf(nth("", i), &s, func(_ string, l leaf) bool {
			if l.Files != nil && l.Files.Cluster == cluster {
				files = append(files, l.Files)
			}
			return true
		})
	}
	return files
}

// RuleOf is the rule of a category: its exact one, else the first prefix in byte
// order, else the star. nil: it has none.
func (c *Config) RuleOf(category string) (rule *Category) {
	for i := range c.Category {
		r := &c.Category[i]
		prefix, pattern := strings.CutSuffix(r.Match, "*")
		switch {
		case r.Match == category && !pattern:
			return r
		case !pattern || !strings.HasPrefix(category, prefix):
		case rule == nil || rule.Match == "*" || r.Match != "*" && r.Match < rule.Match:
			rule = r
		}
	}
	return rule
}

// LocalFiles says that a store writes local files under Scribe's names.
func (c *Config) LocalFiles() bool {
	for _, l := range c.leaves() {
		if l.ScribeFiles != nil {
			return true
		}
	}
	return false
}

// Failover writes to the first place that can take a batch.
type Failover struct {
	Prefer string // none | first
	Places []Store
	Retry  *Retry // of places that are no clusters; nil: after 2 s, doubling up to a minute
}

// Spooled says whether its buffer is a spool: none of its places is a cluster.
func (f *Failover) Spooled() bool {
	others := 0
	for i := range f.Places {
		switch p := &f.Places[i]; {
		case p.Files != nil:
			return false
		case p.Buffer == nil:
			others++
		}
	}
	return others > 0
}

// Retry is how long a place that has failed is left alone: for Interval, more
// or less by half of Range, or, where it is adaptive, for a time between Min
// and Max that grows with each failure by 1.414 and up to Offset, at random,
// and shrinks by 2 s with each success.
type Retry struct {
	Interval time.Duration
	Range    time.Duration
	Adaptive bool
	Min, Max time.Duration
	Offset   time.Duration
}

// Files are files on a cluster.
type Files struct {
	Cluster   string
	Partition string // hour | day
	MaxSize   Size   `mapstructure:"max_size"`
	Idle      time.Duration
	Scribe    *ScribeNames // nil: names of our own
}

// ScribeNames are where Scribe's files lie and when they are replaced. The keys
// are Scribe's own.
type ScribeNames struct {
	FilePath     string `mapstructure:"file_path"`     // folder; on a cluster below its root
	BaseFilename string `mapstructure:"base_filename"` // empty: the category
	SubDirectory string `mapstructure:"sub_directory"` // behind the folder of the category
	PerCategory  bool   `mapstructure:"per_category"`  // file_path/<category>/<category>_NNNNN
	RotatePeriod string `mapstructure:"rotate_period"` // never | hourly | daily | a duration
	RotateHour   int    `mapstructure:"rotate_hour"`
	RotateMinute int    `mapstructure:"rotate_minute"`
	Link         bool   `mapstructure:"create_symlink"`    // <name>_current names the newest file
	LinkName     string `mapstructure:"base_symlink_name"` // empty: as the files
	AddNewlines  bool   `mapstructure:"add_newlines"`      // a line feed behind every message
}

// ScribeFiles are Scribe's local files, written in place.
type ScribeFiles struct {
	ScribeNames    `mapstructure:",squash"`
	MaxSize        Size `mapstructure:"max_size"` // 0: none
	MaxWriteSize   Size `mapstructure:"max_write_size"`
	WriteMeta      bool `mapstructure:"write_meta"`
	WriteCategory  bool `mapstructure:"write_category"`
	WriteStats     bool `mapstructure:"write_stats"`
	ChunkSize      Size `mapstructure:"chunk_size"` // 0: none
	RotateOnReopen bool `mapstructure:"rotate_on_reopen"`
}

// Network forwards to another server of Scribe's interface.
type Network struct {
	Servers  []string // host:port; one of them is used, another one when it fails
	Timeout  time.Duration
	Shared   bool // one connection for all stores with the same server
	BatchIDs bool `mapstructure:"batch_ids"` // calls are numbered
	Quiet    bool // a server that cannot be reached does not show in the status
}

// Bucket divides messages among stores.
type Bucket struct {
	By        string // key_hash | key_modulo | key_range | context_log | random
	Delimiter int    // code of the character that ends a message's key
	Range     int    // key_range only
	RemoveKey bool   `mapstructure:"remove_key"`
	Stores    []Store
}

// BufferPlace is the buffer as the last place of a failover, or alone. Behind
// clusters, and alone, there is one buffer for all chains: what is said here is
// what Buffer says, in each. Behind other places each category has a spool of
// its own, from which messages go on to the first place.
type BufferPlace struct {
	MaxBytes Size `mapstructure:"max_bytes"`
	Replay   string

	// Of a spool only.
	Path      string // folder; empty: "spool" in the state folder
	Order     string // keep | live-first
	LiveBelow int    `mapstructure:"live_below"` // live-first only: percent of limits.queue above which the spool waits

	Framed *Framed // nil: none
}

// Framed are buffer files that an original Scribe has left: they are sent on
// before anything else of their categories.
type Framed struct {
	Path string
	Form string // one | two frames for a message
	Base string // what their names begin with, in Path itself; empty: a folder and a name for each category
}

// Null throws batches away, counted.
type Null struct{}
