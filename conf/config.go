// Package conf reads the configuration: YAML, JSON and TOML by the same keys,
// strictly, with every mistake of a file in one run; its defaults; and the
// reference that docs/configuration is generated from.
//
//	cfg, warnings, err := conf.Load("/etc/twinscribe.yaml")
//
// The smallest file there is:
//
//	categories: [{match: "*", store: {buffer: {}}}]
//
// The other examples beside this file are commented, and tests load them.
//
// It leaves to others: what a store is. The result is plain data, read-only
// once it is loaded, and viper does not leave the package.
package conf

import "time"

// Config is a whole configuration, resolved: every default is filled in.
type Config struct {
	ID        string // aggregator id; empty: the host's name and four hex digits kept in the state directory
	Listen    Listen
	Ack       string // stored | received
	State     string // folder: journal, epoch, flags, lock
	Unrouted  string // keep | refuse
	Limits    Limits
	Timeouts  Timeouts
	Queue     Queue
	Buffer    Buffer
	Clusters  []Cluster
	Category  []Category `mapstructure:"categories"`
	Log       Log
	VisibleIn time.Duration `mapstructure:"visible_within"`
	Seals     int           `mapstructure:"visibility_seals"` // per category and hour
	Retention Retention
}

// Listen is where the server listens.
type Listen struct {
	Thrift string // host:port
	HTTP   string // host:port; loopback unless said otherwise
}

// Limits bound what clients and categories can take.
type Limits struct {
	Connections      int
	ConnectionsPerIP int  `mapstructure:"connections_per_ip"` // 0: none
	Frame            Size // largest Thrift frame
	FrameMemory      Size `mapstructure:"frame_memory"` // of all frames being read or handled
	Entries          int  // of one call
	Message          Size // larger ones are dead letters
	Memory           Size // bytes of messages in all queues together, in flight included
	Queue            Size // the same of one category
	Categories       int  // live queues
}

// Timeouts of the way of a message.
type Timeouts struct {
	Ack   time.Duration // a waiter hears within it
	Write time.Duration // one Append at one place
	Stop  time.Duration
	Frame time.Duration // from a frame's first byte to its last
	Idle  time.Duration // between frames
	Reply time.Duration // writing one reply
}

// Queue is how batches are cut.
type Queue struct {
	MaxBatch   Size          `mapstructure:"max_batch"`
	BatchBytes Size          `mapstructure:"batch_bytes"` // ack: received only
	BatchWait  time.Duration `mapstructure:"batch_wait"`  // ack: received only
}

// Buffer is the one directory of local segments that all chains share.
type Buffer struct {
	Path        string        // empty: "buffer" below the state folder
	MaxBytes    Size          `mapstructure:"max_bytes"`
	Segment     Size          // size at which a segment is sealed
	Sync        string        // group | each | none
	DeadLetters Size          `mapstructure:"dead_letters"` // of max_bytes at most, for dead letters
	Unrouted    Size          // of max_bytes at most, for categories without a route
	Replay      string        // never | auto: outages. Spills are always shipped
	Keep        time.Duration // a shipped segment stays this long
}

// Retention of small files of our own.
type Retention struct {
	Inventory time.Duration // 0: kept for ever
}

// Cluster is one of the equal clusters: exactly one of HDFS and Dir is set.
type Cluster struct {
	Name  string
	HDFS  *HDFS
	Dir   *Dir
	Drain bool // start drained; ctl drain is the usual way

	Probe  Probe
	Limits ClusterLimits
}

// HDFS is a cluster of kind hdfs.
type HDFS struct {
	NameNodes   []string `mapstructure:"namenodes"` // host:port; two for an HA pair
	User        string
	Root        string
	Replication int           // 0: the cluster's default
	MinReplicas int           `mapstructure:"min_replicas"` // 0: min(2, replication)
	Sync        string        // hflush | hsync
	NodeTimeout time.Duration `mapstructure:"node_timeout"`
	Connect     time.Duration `mapstructure:"connect_timeout"`
	RPC         time.Duration `mapstructure:"rpc_timeout"`
}

// Dir is a cluster of kind dir: a local directory, every append fsynced.
type Dir struct {
	Path string
}

// Probe is how the health of a cluster is found out.
type Probe struct {
	Every   time.Duration // between pings
	HoldOff time.Duration `mapstructure:"hold_off"`     // good probes before the way back; doubles per flap
	HoldMax time.Duration `mapstructure:"hold_off_max"` // up to this
}

// ClusterLimits protect a cluster from us.
type ClusterLimits struct {
	OpenFiles   int `mapstructure:"max_open_files"`
	BlockStarts int `mapstructure:"block_starts"`
	Appends     int // in flight
}

// Category routes categories to a chain. The first exact match counts, else
// the first prefix in byte order, else "*".
type Category struct {
	Match string // exact name, prefix*, or *
	Ack   string // stored | received
	Store Store
}

// Store is a node of a chain: exactly one kind is set.
type Store struct {
	Failover *Failover
	Files    *Files
	Buffer   *BufferPlace
	Null     *Null
}

// Kind is the name of the kind that is set.
func (s Store) Kind() string {
	switch {
	case s.Failover != nil:
		return "failover"
	case s.Files != nil:
		return "files"
	case s.Buffer != nil:
		return "buffer"
	case s.Null != nil:
		return "null"
	}
	return ""
}

// Failover writes to the first place that can take a batch.
type Failover struct {
	Prefer string // none | first
	Places []Store
}

// Files are files on a cluster.
type Files struct {
	Cluster   string
	Partition string // hour | day
	MaxSize   Size   `mapstructure:"max_size"`
	Idle      time.Duration
}

// BufferPlace is the buffer as the last place of a failover, or alone. There is
// one buffer for all chains: what is said here is what Buffer says, in each.
type BufferPlace struct {
	MaxBytes Size `mapstructure:"max_bytes"`
	Replay   string
}

// Null throws batches away, counted.
type Null struct{}

// Log is how the program logs.
type Log struct {
	Level  string // debug | info | warn | error
	Format string // json | console
}
