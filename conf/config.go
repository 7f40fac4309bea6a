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

	FB303Version string `mapstructure:"fb303_version"` // what getVersion answers; empty: the program's
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

	QueueAdmits       string `mapstructure:"queue_admits"`        // fits | below
	MessagesPerSecond int    `mapstructure:"messages_per_second"` // 0: no limit
}

// Which calls a queue takes, as the configuration spells it.
const (
	QueueAdmitsFits  = "fits"  // those that fit into what is left of its limit
	QueueAdmitsBelow = "below" // of any size, while it holds less than its limit
)

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

// EngineFolder is the name of a cluster's folder for what is ours beside files
// with Scribe's names, as store/catalog has it.
const EngineFolder = "_twinscribe"

// Cluster is one of the equal clusters: exactly one of HDFS and Dir is set.
type Cluster struct {
	Name   string
	HDFS   *HDFS
	Dir    *Dir
	Folder string // below the root: all that is ours but files with Scribe's names; empty: the root
	Drain  bool   // start drained; ctl drain is the usual way

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

// Log is how the program logs.
type Log struct {
	Level  string // debug | info | warn | error
	Format string // json | console
}
