package hdfs

import (
	"context"
	"errors"
	"fmt"

	"twinscribe/failpoint"
	"twinscribe/store/cluster"
)

// Publish implements cluster.File: the NameNode is told the length of the block
// being written.
func (f *File) Publish(ctx context.Context) error {
	length, err := f.publishable(ctx)
	if err != nil {
		return fmt.Errorf("publish %s: %w", f.path, err)
	}
	if length == 0 {
		return nil
	}
	if err := f.c.nn.fsync(ctx, f, length); err != nil {
		return f.c.tell(fmt.Errorf("publish %s: %w", f.path, err))
	}
	return nil
}

// publishable is the acknowledged length of the last block that the NameNode
// knows; 0: there is nothing to tell. The file is let go before the NameNode is
// called, so that a silent one holds up no Append. If the next block begins
// meanwhile the NameNode takes the length for that block's, until it is told
// the right one: a reader asks for no more than what is acknowledged.
func (f *File) publishable(ctx context.Context) (int64, error) {
	if err := f.hold(ctx); err != nil {
		return 0, err
	}
	defer f.release()
	if err := f.usable(); err != nil {
		return 0, err
	}
	switch {
	case f.pipe != nil:
		return f.off, nil
	case f.prev != nil:
		return f.prev.size, nil
	}
	return 0, nil
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
	if err := f.dropStray(ctx, patient); err != nil {
		return err
	}
	failpoint.Here("seal.block-ended")
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
