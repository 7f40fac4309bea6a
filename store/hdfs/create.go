package hdfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"time"

	"twinscribe/failpoint"
	"twinscribe/store/cluster"
)

// replicas is the replication of new files and the least number of nodes for an
// acknowledgement.
func (c *Cluster) replicas(ctx context.Context) (replication, least int, err error) {
	if replication = c.o.Replication; replication == 0 {
		if replication = int(c.replication.Load()); replication == 0 {
			if replication, err = c.nn.replication(ctx); err != nil {
				return 0, 0, err
			}
			c.replication.Store(int32(replication))
		}
	}
	if least = c.o.MinReplicas; least == 0 {
		least = min(2, replication)
	}
	if least > replication {
		return 0, 0, fmt.Errorf("min_replicas %d with the cluster's replication of %d: set replication", least, replication)
	}
	return replication, least, nil
}

// Create implements cluster.Cluster.
func (c *Cluster) Create(ctx context.Context, p string, o cluster.FileOptions) (cluster.File, error) {
	p, err := c.abs(p)
	if err != nil {
		return nil, err
	}
	f, err := c.create(ctx, p, o, false)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", p, err)
	}
	return f, nil
}

// create makes a file at an absolute path.
func (c *Cluster) create(ctx context.Context, p string, o cluster.FileOptions, probe bool) (*File, error) {
	begun := time.Now()
	if o.Begin && !probe && !c.ob.MayBegin() {
		return nil, cluster.ErrHeld
	}
	def(&o.BlockSize, c.o.BlockSize)
	f, err := c.createEmpty(ctx, p, o.BlockSize)
	if err == nil {
		f.probe = probe
		if err = f.open(ctx, o.Begin); err != nil {
			f.Abort()
			c.discard(ctx, p)
		}
	}
	if err != nil {
		if !probe {
			c.report(err, begun)
		}
		return nil, err
	}
	return f, nil
}

// open makes the file known and begins its first block if it shall. The keepers
// find it as soon as it is known, so it has the turn from before.
func (f *File) open(ctx context.Context, begin bool) error {
	if err := f.hold(ctx); err != nil {
		return err
	}
	defer f.release()
	if err := f.c.remember(f); err != nil || !begin {
		return err
	}
	return f.guarded(ctx, false, func(ctx context.Context) error { return f.begin(ctx, brisk) })
}

func (c *Cluster) createEmpty(ctx context.Context, p string, blockSize int64) (*File, error) {
	replication, least, err := c.replicas(ctx)
	if err != nil {
		return nil, err
	}
	blockSize = (blockSize + chunkBytes - 1) / chunkBytes * chunkBytes // a block is whole chunks
	id, err := c.nn.create(ctx, p, replication, blockSize)
	if err != nil {
		return nil, err
	}
	failpoint.Here("begin.name-made")
	c.count.files.Add(1)
	return newFile(c, p, id, replication, least, blockSize), nil
}

// discard deletes a file that holds nothing, if the NameNode answers. ctx may
// be over: then it goes on without the caller.
func (c *Cluster) discard(ctx context.Context, p string) {
	done := make(chan struct{})
	ok := c.spawn(func() { //nolint:contextcheck // it goes on when the caller's is over, and ends with the cluster
		defer close(done)
		c.nn.remove(c.life, p) //nolint:errcheck // an empty file that stays is found by whoever looks for open ones
	})
	if ok {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// smallBlock is the block size of files that are written in one piece. The
// NameNode accepts no less by default, and reserves as much.
const smallBlock = 1 << 20

// Replace implements cluster.Cluster: the content is written beside the file
// and renamed over it.
func (c *Cluster) Replace(ctx context.Context, p string, content []byte) error {
	p, err := c.abs(p)
	if err != nil {
		return err
	}
	tmp := path.Join(path.Dir(p), "_tmp."+rand.Text())
	if err = c.writeWhole(ctx, tmp, content, false); err == nil {
		failpoint.Here("replace.cluster-written")
		if err = c.nn.rename(ctx, tmp, p, true); err != nil {
			c.discard(ctx, tmp)
		}
	}
	if err != nil {
		return c.tell(fmt.Errorf("replace %s: %w", p, err))
	}
	return nil
}

// writeWhole makes a file of content at an absolute path, sealed, or none.
func (c *Cluster) writeWhole(ctx context.Context, p string, content []byte, probe bool) error {
	size := max(smallBlock, (int64(len(content))+smallBlock-1)/smallBlock*smallBlock)
	f, err := c.create(ctx, p, cluster.FileOptions{BlockSize: size, Begin: len(content) > 0}, probe)
	if err != nil {
		return err
	}
	if err = f.Append(ctx, [][]byte{content}); err == nil {
		err = f.Seal(ctx)
	}
	if err != nil {
		f.Abort()
		c.discard(ctx, p)
	}
	return err
}

// ProbeBlock implements cluster.Cluster. Nodes that failed are avoided as they
// are for every block: what is proved is that a pipeline can be made.
func (c *Cluster) ProbeBlock(ctx context.Context) error {
	p := path.Join(c.o.Root, c.o.Probes, rand.Text())
	if err := c.writeWhole(ctx, p, []byte("twinscribe writes this to see whether blocks can be written, and deletes it\n"), true); err != nil {
		return fmt.Errorf("probe %s: %w", p, err)
	}
	if _, err := c.nn.remove(ctx, p); err != nil {
		return fmt.Errorf("probe %s: %w", p, err)
	}
	_, err := c.nn.remove(ctx, path.Dir(p))
	if err != nil && errors.Is(err, cluster.ErrUnavailable) {
		return fmt.Errorf("probe: %w", err)
	}
	return nil // the folder may hold another server's probe
}

// Ping implements cluster.Cluster: the NameNode is asked for the root, which
// need not be there.
func (c *Cluster) Ping(ctx context.Context) error {
	if err := c.nn.ping(ctx, c.o.Root); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return nil
}

// Rename implements cluster.Cluster. Where the file or the new name's folder is
// not there the NameNode's answer is the same, so the folder is made then.
func (c *Cluster) Rename(ctx context.Context, from, to string) error {
	from, err1 := c.abs(from)
	to, err2 := c.abs(to)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	err := c.nn.rename(ctx, from, to, false)
	if isClass(err, "FileNotFoundException") && path.Dir(from) != path.Dir(to) {
		if err = c.nn.mkdirs(ctx, path.Dir(to)); err == nil {
			err = c.nn.rename(ctx, from, to, false)
		}
	}
	if err != nil {
		return c.tell(fmt.Errorf("rename %s to %s: %w", from, to, err))
	}
	return nil
}

// Recover implements cluster.Cluster: the lease is taken from whoever has it,
// also from an open file of this process.
func (c *Cluster) Recover(ctx context.Context, p string) (closed bool, err error) {
	p, err = c.abs(p)
	if err != nil {
		return false, err
	}
	closed, err = c.nn.recoverLease(ctx, p)
	if isClass(err, "AlreadyBeingCreatedException") || isClass(err, "RecoveryInProgressException") {
		closed, err = false, nil // it is under way, or waits for a DataNode's report
	}
	if err == nil && !closed {
		closed, err = c.nn.isFileClosed(ctx, p)
	}
	if err != nil {
		return false, c.tell(fmt.Errorf("recover %s: %w", p, err))
	}
	return closed, nil
}

// Truncate implements cluster.Cluster.
func (c *Cluster) Truncate(ctx context.Context, p string, size int64) (done bool, err error) {
	p, err = c.abs(p)
	if err != nil {
		return false, err
	}
	if done, err = c.nn.truncate(ctx, p, size); err != nil {
		return false, c.tell(fmt.Errorf("truncate %s to %d: %w", p, size, err))
	}
	return done, nil
}

// Remove implements cluster.Cluster.
func (c *Cluster) Remove(ctx context.Context, p string) error {
	p, err := c.abs(p)
	if err != nil {
		return err
	}
	if _, err = c.nn.remove(ctx, p); err != nil {
		return c.tell(fmt.Errorf("remove %s: %w", p, err))
	}
	return nil
}
