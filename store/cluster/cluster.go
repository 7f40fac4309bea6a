// Package cluster says what one of the equal clusters must be able to do
// (Cluster, File) and keeps what is known of its health (Health), which all
// chains share. Whatever else is probed and shared so, the servers behind a
// network store, has a Health too.
//
// It leaves to others: the two kinds (store/hdfs, store/dir), which file is
// written when (store/files), and where a batch goes next (store).
// clustertest is the suite that every kind passes.
package cluster

import (
	"context"
	"errors"
	"io"
	"time"
)

// A Cluster is one of the equal places: an HDFS or a local directory. All
// methods may be called by many goroutines at once. Paths are relative to the
// cluster's root, with slashes; a path that leaves the root is refused. Every
// call ends soon after its ctx does.
//
// Errors: errors.Is(err, fs.ErrNotExist), fs.ErrExist and fs.ErrPermission
// hold where they apply; ErrUnavailable where the cluster as a whole did not
// answer or is in safe mode; anything else is about the path (quota, lease).
type Cluster interface {
	// Name is the cluster's name in the configuration.
	Name() string

	// Create makes a file, its folders if need be, and, with o.Begin, its first
	// block on o.MinReplicas nodes at least, so that the first Append waits for
	// nothing but the data. fs.ErrExist if there is one.
	Create(ctx context.Context, path string, o FileOptions) (File, error)

	// Rename never replaces: fs.ErrExist. Folders of the new name are made. The
	// caller settles a lost answer by looking.
	Rename(ctx context.Context, from, to string) error

	// Replace writes a small file whole: a reader sees the old or the new
	// content, never a part. Folders are made.
	Replace(ctx context.Context, path string, content []byte) error

	// Recover makes the file of a dead or aborted writer readable and final in
	// length, at least what was acknowledged. closed=false: it has begun, ask
	// again in half a second or so. It fences a writer that still lives.
	Recover(ctx context.Context, path string) (closed bool, err error)

	// Truncate cuts a closed file to size, durably. done=false: it has begun,
	// ask Recover until it says closed.
	Truncate(ctx context.Context, path string, size int64) (done bool, err error)

	// Remove deletes a file; one that is not there is no error.
	Remove(ctx context.Context, path string) error

	Stat(ctx context.Context, path string) (Info, error)

	// List gives the entries of a folder, by name in byte order. A folder that
	// is not there is empty.
	List(ctx context.Context, folder string) ([]Info, error)

	// Open reads a file: a closed one whole, an open one up to what its writer
	// has published at least.
	Open(ctx context.Context, path string) (Reader, error)

	// Ping asks for a sign of life without writing (the NameNode's; the root of
	// a directory), ProbeBlock writes and removes a small file, which proves
	// that blocks can be written. Both are for Health.
	Ping(ctx context.Context) error
	ProbeBlock(ctx context.Context) error

	// Counters are figures of this kind for the metrics, such as NameNode calls
	// by method, by name.
	Counters() map[string]int64

	// Close ends connections. Files not sealed stay as they are.
	Close() error
}

// FileOptions of Create. Zero fields take the cluster's defaults.
type FileOptions struct {
	BlockSize int64 // bytes; a file below it is one block
	Begin     bool  // begin the first block now
}

// A File is being written. One goroutine at a time calls its methods; only
// Abort, Acked and Publish may be called by any, beside whatever runs.
type File interface {
	// Append returns nil when p is as durable as the cluster promises (every
	// DataNode of a pipeline of at least the configured min_replicas has all of
	// it; it is fsynced on the local disk). It neither keeps nor changes p or
	// what it holds. Any error is final for the file, with one exception:
	// ErrNotTried says that not a byte of p was sent and the file is intact.
	Append(ctx context.Context, p [][]byte) error

	// Acked is how many bytes Append has answered nil for. It never shrinks; a
	// recovered file has at least this.
	Acked() int64

	// Replicas is how many nodes hold the block being written; 0 before the first.
	Replicas() int

	// Publish makes what is acknowledged when it is called visible to Stat and
	// Open. It neither waits for an Append that is under way nor delays one: a
	// NameNode that does not answer must not stand between a batch and its OK.
	// One goroutine at a time publishes a file, and none while Seal runs. An
	// error is not final for the file.
	Publish(ctx context.Context) error

	// Seal ends the file: its length is final and it is readable by everybody.
	// An error that is ErrUnavailable may be met by calling it again: all bytes
	// are acknowledged and only the cluster's own record is missing.
	Seal(ctx context.Context) error

	// Abort ends writing at once and commits nothing. Recover comes after.
	Abort()
}

// Reader reads a file.
type Reader interface {
	io.Reader
	io.ReaderAt
	io.Closer
}

// Info is one entry of a folder.
type Info struct {
	Name     string // base name
	Size     int64  // of an open file: what the cluster knows of it
	Folder   bool
	Modified time.Time
}

var (
	// ErrUnavailable marks errors that concern the cluster as a whole.
	ErrUnavailable = errors.New("cluster unavailable")

	// ErrNotTried marks an Append that left while it waited for its turn.
	ErrNotTried = errors.New("not tried")

	// ErrHeld is the refusal to begin a block on a cluster that is suspect,
	// down or drained: there only the probe begins blocks.
	ErrHeld = errors.New("cluster is held off")
)

// An Observer hears what a kind of cluster notices. Its methods return at once
// and may be called by any goroutine. Health is the one that counts.
type Observer interface {
	// Acknowledged: real traffic was stored just now.
	Acknowledged()
	// Failed: an append missed its deadline, or a block could not be begun, for
	// a reason that is the cluster's.
	Failed(err error)
	// MayBegin says whether blocks may be begun: the cluster is healthy or
	// returning (repair writes there), and not drained. The probe does not ask.
	MayBegin() bool
	// Doubtful says that the cluster is suspect or down: an Append there
	// without an acknowledgement for node_timeout + 500 ms ends itself.
	Doubtful() bool
}
