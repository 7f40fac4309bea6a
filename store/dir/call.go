package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"twinscribe/store/cluster"
)

// call runs do in a goroutine of its own and leaves it there where ctx ends
// first. late, which may be nil, gets the result that nobody waited for.
func call[T any](ctx context.Context, c *Cluster, op, path string, do func() (T, error), late func(T)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, c.wrap(op, path, err)
	}
	select {
	case c.calls <- struct{}{}:
	case <-ctx.Done():
		return none, c.wrap(op, path, ctx.Err())
	}
	if !c.start() {
		<-c.calls
		return none, c.wrap(op, path, errClosed)
	}
	type result struct {
		value T
		err   error
	}
	var mu sync.Mutex
	left := false
	done := make(chan result, 1)
	go func() {
		defer c.running.Done()
		value, err := do()
		mu.Lock()
		gone := left
		if !gone {
			done <- result{value, err}
		}
		mu.Unlock()
		if gone && err == nil && late != nil {
			late(value)
		}
		<-c.calls
	}()
	select {
	case r := <-done:
		return r.value, c.wrap(op, path, r.err)
	case <-ctx.Done():
	}
	mu.Lock()
	left = true
	mu.Unlock()
	select {
	case r := <-done: // it came just now
		return r.value, c.wrap(op, path, r.err)
	default:
		c.count.lefts.Add(1)
		return none, c.wrap(op, path, ctx.Err())
	}
}

// run is call for what has no result but its error.
func (c *Cluster) run(ctx context.Context, op, path string, do func() error) error {
	_, err := call(ctx, c, op, path, func() (struct{}, error) { return struct{}{}, do() }, nil)
	return err
}

var (
	errClosed = errors.New("the cluster is closed")
	errRoot   = errors.New("the root is not there")
	errFree   = errors.New("too little space is free")
)

// wrap says where an error happened and sorts it: what concerns the root or
// the disk as a whole is ErrUnavailable and is no longer anything about a
// path (a root that is gone must not look like a file that is missing).
func (c *Cluster) wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	late, all := errors.Is(err, context.DeadlineExceeded), c.concernsAll(err)
	if !late && !all {
		return fmt.Errorf("directory cluster %s: %s %q: %w", c.o.Name, op, path, err)
	}
	c.count.unavailable.Add(1)
	text := fmt.Errorf("directory cluster %s: %s %q: %v", c.o.Name, op, path, err)
	causes := []error{cluster.ErrUnavailable}
	for _, also := range []error{context.DeadlineExceeded, cluster.ErrNotTried} {
		if errors.Is(err, also) {
			causes = append(causes, also)
		}
	}
	return &unavailable{text: text.Error(), causes: causes}
}

// unavailable is an error of the cluster as a whole. It has the text of what
// happened, and of its causes only those that hold for the whole.
type unavailable struct {
	text   string
	causes []error
}

func (u *unavailable) Error() string   { return u.text }
func (u *unavailable) Unwrap() []error { return u.causes }

// concernsAll says whether an error is the cluster's as a whole. Quotas of a
// local file system belong to a user, so they are.
func (c *Cluster) concernsAll(err error) bool {
	for _, all := range []error{
		errRoot, errFree, syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS,
		syscall.ENODEV, syscall.ENXIO, syscall.ESTALE, syscall.ENOTCONN, syscall.ETIMEDOUT,
	} {
		if errors.Is(err, all) {
			return true
		}
	}
	return false
}

// failed tells the observer of an error that is the cluster's.
func (c *Cluster) failed(err error) {
	if errors.Is(err, cluster.ErrUnavailable) {
		c.o.Observer.Failed(err)
	}
}

// settled gives an error about a missing path its right meaning: where the
// root went meanwhile, nothing is known of the path.
func (c *Cluster) settled(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if e := c.checkRoot(); e != nil {
			return e
		}
	}
	return err
}

// turns lets one goroutine at a time work on a name.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{}
}

// take waits for the name, as long as ctx lasts.
func (t *turns) take(ctx context.Context, name string) error {
	for {
		t.mu.Lock()
		before, busy := t.taken[name]
		if !busy {
			t.taken[name] = make(chan struct{})
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *turns) give(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.taken[name])
	delete(t.taken, name)
}
