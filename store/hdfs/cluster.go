// Package hdfs is the cluster kind "hdfs": files on a Hadoop cluster. The write
// path is its own: calls to the NameNode on one connection (rpc.go), and
// pipelines of DataNodes in which each Append is acknowledged by every node
// (file.go), recovered without a node that fails (recover.go), and begun anew
// block by block (block.go). Reading, listing and file status are
// github.com/colinmarc/hdfs's (read.go).
//
// It leaves to others: which file is written when (store/files), when the
// cluster is healthy (store/cluster), and security: connections are made with
// simple authentication (dial.go).
package hdfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/cluster"
)

// Options of a Cluster. Name, NameNodes and User must be given; other zero
// fields take the default said.
type Options struct {
	Name      string   // in the configuration
	NameNodes []string // host:port; more than one: the same name space, one of them active
	User      string   // that the cluster sees
	Root      string   // folder that every path is below; default /
	Probes    string   // folder below Root in which ProbeBlock writes; default _probe

	Replication int   // of files; 0: the NameNode's default
	MinReplicas int   // nodes that an acknowledged byte is on, at least; default min(2, Replication)
	BlockSize   int64 // bytes, where FileOptions says nothing; default 128 MiB
	Sync        bool  // an acknowledged byte is on the nodes' disks (hsync), not only in their memory

	NodeTimeout    time.Duration // silence of a pipeline after which its nodes are asked; default 500 ms
	ConnectTimeout time.Duration // default 1.5 s
	RPCTimeout     time.Duration // of a call to the NameNode, and of a DataNode's silence while reading; default 2 s
	BlockStarts    int           // blocks begun and pipelines recovered at a time; default 32
	Appends        int           // Appends under way at a time; default 64

	Observer cluster.Observer // default: one that allows everything
	Log      *zap.Logger      // default: none

	// Dial makes connections; default: net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (o *Options) complete() error {
	var errs []error
	if o.Name == "" {
		errs = append(errs, errors.New("no name"))
	}
	if len(o.NameNodes) == 0 {
		errs = append(errs, errors.New("no NameNode: want host:port"))
	}
	for _, a := range o.NameNodes {
		if _, _, err := net.SplitHostPort(a); err != nil {
			errs = append(errs, fmt.Errorf("NameNode %q: want host:port: %w", a, err))
		}
	}
	if o.User == "" {
		errs = append(errs, errors.New("no user"))
	}
	if o.Replication < 0 || o.MinReplicas < 0 || o.Replication > 0 && o.MinReplicas > o.Replication {
		errs = append(errs, fmt.Errorf("replication %d with at least %d replicas: want 0 < min_replicas <= replication", o.Replication, o.MinReplicas))
	}
	if o.BlockSize < 0 || o.BlockStarts < 0 || o.Appends < 0 {
		errs = append(errs, errors.New("block size, block starts and appends: want more than 0"))
	}
	if o.NodeTimeout < 0 || o.ConnectTimeout < 0 || o.RPCTimeout < 0 {
		errs = append(errs, errors.New("timeouts: want more than 0"))
	}
	o.Root = path.Clean("/" + o.Root)
	def(&o.Probes, "_probe")
	def(&o.BlockSize, 128<<20)
	def(&o.NodeTimeout, 500*time.Millisecond)
	def(&o.ConnectTimeout, 1500*time.Millisecond)
	def(&o.RPCTimeout, 2*time.Second)
	def(&o.BlockStarts, 32)
	def(&o.Appends, 64)
	def(&o.Observer, cluster.Observer(indulgent{}))
	def(&o.Log, zap.NewNop())
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	return errors.Join(errs...)
}

// indulgent is the observer of a cluster that nobody observes.
type indulgent struct{}

func (indulgent) Acknowledged()  {}
func (indulgent) Failed(error)   {}
func (indulgent) MayBegin() bool { return true }
func (indulgent) Doubtful() bool { return false }

// life is the context of what a cluster does by itself. It ends at Close.
type life chan struct{}

// Deadline implements context.Context, as the methods below do.
func (l life) Deadline() (time.Time, bool) { return time.Time{}, false }
func (l life) Done() <-chan struct{}       { return l }
func (l life) Value(any) any               { return nil }
func (l life) Err() error {
	select {
	case <-l:
		return context.Canceled
	default:
		return nil
	}
}

// Cluster is one HDFS. It implements cluster.Cluster.
type Cluster struct {
	o       Options
	d       *dialer
	nn      *nameNode
	ob      cluster.Observer
	log     *zap.Logger
	nodes   *nodeHealth
	count   counters
	life    life
	starts  *places
	windows chan *window

	replication atomic.Int32 // the NameNode's default, 0 before it was asked
	plenty      plenty
	alive       atomic.Int64 // when a file last got on, nanoseconds since 1970
	gone        chan node    // nobody listens there any more

	sayLost, sayShort, sayLease sometimes

	wg     sync.WaitGroup // the keepers, probes, clean-ups
	mu     sync.Mutex
	closed bool
	files  map[*File]struct{} // open ones
}

// New makes a cluster. It connects to nothing. Two goroutines serve it until Close.
func New(o Options) (*Cluster, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", o.Name, err)
	}
	c := &Cluster{
		o:       o,
		d:       &dialer{dial: o.Dial, user: o.User, timeout: o.ConnectTimeout},
		ob:      o.Observer,
		log:     o.Log.With(zap.String("cluster", o.Name)),
		life:    make(life),
		gone:    make(chan node),
		starts:  newPlaces(o.BlockStarts),
		windows: make(chan *window, o.Appends),
		files:   map[*File]struct{}{},
	}
	for range o.Appends {
		c.windows <- &window{}
	}
	for _, s := range []*sometimes{&c.sayLost, &c.sayShort, &c.sayLease} {
		s.every = 10 * time.Second
	}
	c.nodes = newNodeHealth(c)
	c.nn = &nameNode{
		rpc:  newRPC(o.NameNodes, c.d, c.life, o.RPCTimeout, &c.count),
		name: "twinscribe-" + o.Name + "-" + rand.Text(),
	}
	c.wg.Go(c.keepLease)
	c.wg.Go(c.keepPipelines)
	return c, nil
}

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.o.Name }

// Counters implements cluster.Cluster: NameNode calls as "nn_calls." and the
// method, and the fields of counters.
func (c *Cluster) Counters() map[string]int64 { return c.count.snapshot() }

// Close implements cluster.Cluster. Files still open are aborted. A second
// Close does nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	close(c.life)
	for _, f := range c.openFiles() {
		f.Abort()
	}
	c.nn.close()
	c.wg.Wait()
	return nil
}

// spawn runs f in a goroutine that Close waits for, or says that it is too late.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// remember enters an open file for the keepers.
func (c *Cluster) remember(f *File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.files[f] = struct{}{}
	return nil
}

func (c *Cluster) forget(f *File) {
	c.mu.Lock()
	delete(c.files, f)
	c.mu.Unlock()
}

func (c *Cluster) openFiles() []*File {
	c.mu.Lock()
	defer c.mu.Unlock()
	fs := make([]*File, 0, len(c.files))
	for f := range c.files {
		fs = append(fs, f)
	}
	return fs
}

// doubtful is how much longer than node_timeout an Append waits for an
// acknowledgement on a cluster that is suspect or down.
const doubtful = 500 * time.Millisecond

// lives notes that a file of the cluster got on.
func (c *Cluster) lives(at time.Time) { c.alive.Store(at.UnixNano()) }

// still says that no file of the cluster got on for so long.
func (c *Cluster) still(d time.Duration) bool {
	return time.Since(time.Unix(0, c.alive.Load())) >= d
}

// hangs says that the cluster is suspect or down and that none of its files got
// on for as long as an Append may wait there. Where only some do not, because
// their nodes failed or their recoveries queue, each has all of its own time.
func (c *Cluster) hangs() bool {
	return c.ob.Doubtful() && c.still(c.o.NodeTimeout+doubtful)
}

// takeWindow waits for one of the Appends' places. On a cluster that hangs those
// that have to wait leave: the ones before them wait for acknowledgements.
func (c *Cluster) takeWindow(ctx context.Context, f *File) error {
	select {
	case f.w = <-c.windows:
		return nil
	default:
	}
	t := time.NewTicker(slice)
	defer t.Stop()
	for {
		select {
		case f.w = <-c.windows:
			return nil
		case <-ctx.Done():
			return crowded(over(ctx, "waiting for a place to append"))
		case <-f.aborted:
			return errAborted
		case <-t.C:
			if !f.probe && c.hangs() {
				return unavailable(fmt.Errorf("waiting for a place to append %w", errDoubt))
			}
		}
	}
}

// giveWindow gives the place of f's Append back, if it has one.
func (c *Cluster) giveWindow(f *File) {
	if w := f.w; w != nil {
		f.w = nil
		w.reset()
		c.windows <- w
	}
}

// report tells the observer of an error of an Append or a block start that
// began at since, if it is the cluster's. A deadline that left no time to hear
// anything proves nothing, and one that passed in a queue of our own neither:
// those who have the places tell what there is to be told. Nor does what DataNodes
// did to one file while others got on: it is those nodes' fault, and the file's loss.
func (c *Cluster) report(err error, since time.Time) {
	if !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, errClosed) || errors.Is(err, errCrowded) {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) && time.Since(since) < c.o.NodeTimeout {
		return
	}
	if errors.Is(err, errNodes) && !c.still(c.o.NodeTimeout) {
		return
	}
	c.ob.Failed(err)
}

// tell reports safe mode, whatever call met it, and returns err.
func (c *Cluster) tell(err error) error {
	if isClass(err, "SafeModeException") {
		c.ob.Failed(err)
	}
	return err
}

// abs is the path that the cluster knows a path below the root by.
func (c *Cluster) abs(p string) (string, error) {
	if strings.HasPrefix(p, "/") {
		return "", fmt.Errorf("path %q: want one relative to the cluster's root", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("path %q leaves the cluster's root", p)
		}
	}
	if strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("path %q holds a NUL", p)
	}
	return path.Join(c.o.Root, path.Clean("/"+p)), nil
}
