// Package dir is the kind of cluster that is a local directory: every Append
// is fsynced before it is answered, names are durable before they are used.
//
//	clusters:
//	  - {name: n1, dir: {path: /var/lib/twinscribe/n1}}
//
// It leaves to others: which file is written when (store/files), and what
// follows from a fault (cluster.Health, store).
//
// The root is a folder with a marker file in it. A root without its marker is
// an empty mount point, or a root that somebody moved away: nothing is made
// there, nothing is found missing there, and every call says ErrUnavailable.
//
// A call to a disk may hang for ever. Each one runs in a goroutine of its own,
// with bytes of its own, so that the caller leaves when its context ends; what
// hangs keeps its slot, so that no more than the limits ever hang.
package dir

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/cluster"
)

// Options of a directory cluster.
type Options struct {
	Name string
	Path string // of the root; absolute, or relative to the working directory
	// Create lets New make the root and its marker where they are missing. It
	// is for the first start: at any later one a missing root means that the
	// disk is not there.
	Create   bool
	FS       vfs.FS
	Observer cluster.Observer
	Log      *zap.Logger
	// MinFree is how many bytes must be free on the file system for files to be
	// begun and appended to, so that seals and manifests still fit. 0:
	// 64 MiB, negative: none.
	MinFree int64
	// Appends is how many appends are in flight at most; 0: 64.
	Appends int
	// Calls is how many other calls are in flight at most; 0: 32.
	Calls int
	// NodeTimeout: where the cluster is doubtful, an Append without an answer
	// for this and 500 ms more ends. 0: 500 ms.
	NodeTimeout time.Duration
}

const (
	defaultMinFree     = 64 << 20
	defaultAppends     = 64
	defaultCalls       = 32
	defaultNodeTimeout = 500 * time.Millisecond

	doubtfulGrace = 500 * time.Millisecond // beyond the node timeout
	closePatience = 5 * time.Second        // for calls that hang, at Close

	filePerm   = 0o640
	folderPerm = 0o750
)

// Cluster is a directory as a cluster.
type Cluster struct {
	o       Options
	fs      vfs.FS
	log     *zap.Logger
	appends chan struct{} // slots of appends
	calls   chan struct{} // slots of everything else
	names   turns         // of names that are being replaced or recovered

	mu      sync.Mutex
	closed  bool
	living  map[string]*file    // files being written, by path
	durable map[string]struct{} // folders whose entry is synced
	running sync.WaitGroup      // calls under way, those that were left too

	count counters
}

var _ cluster.Cluster = (*Cluster)(nil)

// New checks the options and, with o.Create, makes the root. A root that is
// missing otherwise is no error: the cluster is unavailable until it is there.
func New(o Options) (*Cluster, error) {
	switch {
	case o.Name == "":
		return nil, errors.New("directory cluster: it has no name")
	case o.Path == "":
		return nil, fmt.Errorf("directory cluster %s: it has no path", o.Name)
	case o.FS == nil || o.Observer == nil || o.Log == nil:
		return nil, fmt.Errorf("directory cluster %s: file system, observer and log are needed", o.Name)
	}
	o.Path = filepath.Clean(o.Path)
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if o.Appends <= 0 {
		o.Appends = defaultAppends
	}
	if o.Calls <= 0 {
		o.Calls = defaultCalls
	}
	if o.NodeTimeout <= 0 {
		o.NodeTimeout = defaultNodeTimeout
	}
	c := &Cluster{
		o:       o,
		fs:      o.FS,
		log:     o.Log.With(zap.String("cluster", o.Name)),
		appends: make(chan struct{}, o.Appends),
		calls:   make(chan struct{}, o.Calls),
		names:   turns{taken: map[string]chan struct{}{}},
		living:  map[string]*file{},
		durable: map[string]struct{}{},
	}
	if o.Create {
		if err := c.createRoot(); err != nil {
			return nil, fmt.Errorf("directory cluster %s: make root %s: %w", o.Name, o.Path, err)
		}
	}
	return c, nil
}

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.o.Name }

// Close implements cluster.Cluster. It waits for calls under way, and says how
// many still hang after a few seconds.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	var living []*file
	for _, f := range c.living {
		living = append(living, f)
	}
	c.mu.Unlock()
	for _, f := range living {
		f.Abort()
	}
	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("directory cluster %s: %d calls to %s hang", c.o.Name, len(c.appends)+len(c.calls), c.o.Path)
	}
}

// start counts a call in; false after Close.
func (c *Cluster) start() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.running.Add(1)
	}
	return !c.closed
}

// counters are the figures of Counters.
type counters struct {
	creates, appends, bytes, seals, aborts      atomic.Int64
	renames, replaces, recovers, fenced         atomic.Int64
	truncates, removes, stats, lists, opens     atomic.Int64
	pings, probes, unavailable, notTried, lefts atomic.Int64
}

// Counters implements cluster.Cluster.
func (c *Cluster) Counters() map[string]int64 {
	n := &c.count
	c.mu.Lock()
	living := int64(len(c.living))
	c.mu.Unlock()
	return map[string]int64{
		"open_files":        living,
		"creates":           n.creates.Load(),
		"appends":           n.appends.Load(),
		"append_bytes":      n.bytes.Load(),
		"appends_in_flight": int64(len(c.appends)),
		"appends_not_tried": n.notTried.Load(),
		"seals":             n.seals.Load(),
		"aborts":            n.aborts.Load(),
		"renames":           n.renames.Load(),
		"replaces":          n.replaces.Load(),
		"recovers":          n.recovers.Load(),
		"writers_fenced":    n.fenced.Load(),
		"truncates":         n.truncates.Load(),
		"removes":           n.removes.Load(),
		"stats":             n.stats.Load(),
		"lists":             n.lists.Load(),
		"opens":             n.opens.Load(),
		"pings":             n.pings.Load(),
		"probes":            n.probes.Load(),
		"calls_in_flight":   int64(len(c.calls)),
		"calls_left":        n.lefts.Load(),
		"unavailable":       n.unavailable.Load(),
	}
}
