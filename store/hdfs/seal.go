package hdfs

import (
	"context"
	"errors"
	"fmt"

	"twinscribe/store/cluster"
)

// Publish implements cluster.File: the NameNode is told the length of the block
// being written.
func (f *File) Publish(ctx context.Context) error {
	if err := f.hold(ctx); err != nil {
		return fmt.Errorf("publish %s: %w", f.path, err)
	}
	defer f.release()
	if err := f.usable(); err != nil {
		return err
	}
	length := f.off
	if f.pipe == nil || f.off == 0 { // the last block is a finished one, or there is nothing
		if f.prev == nil || f.pipe != nil {
			return nil
		}
		length = f.prev.size
	}
	if err := f.c.nn.fsync(ctx, f, length); err != nil {
		return f.c.tell(fmt.Errorf("publish %s: %w", f.path, err))
	}
	return nil
}

// Seal implements cluster.File: the last block is finished on its DataNodes and
// the file closed at the NameNode. It goes on until ctx ends.
func (f *File) Seal(ctx context.Context) error {
	if err := f.hold(ctx); err != nil {
		return fmt.Errorf("seal %s: %w", f.path, err)
	}
	defer f.release()
	if f.sealed {
		return nil
	}
	if err := f.usable(); err != nil {
		return err
	}
	err := f.guarded(ctx, false, f.close)
	if err == nil {
		f.sealed = true
		f.c.forget(f)
		return nil
	}
	err = fmt.Errorf("seal %s: %w", f.path, err)
	if errors.Is(err, cluster.ErrUnavailable) && !f.isAborted() {
		return f.c.tell(err) // all is acknowledged: it may be called again
	}
	if errors.Is(err, context.Canceled) && !f.isAborted() {
		return err // the caller went away; so may this
	}
	return f.fail(err)
}

func (f *File) close(ctx context.Context) error {
	if f.pipe != nil {
		if err := f.end(ctx); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		ok, err := f.c.nn.complete(ctx, f, f.prev)
		if ok || err != nil {
			return err
		}
		if err = pause(ctx, try); err != nil {
			return fmt.Errorf("the last block is not on DataNodes enough yet: %w", err)
		}
	}
}
