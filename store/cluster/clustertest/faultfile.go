package clustertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"twinscribe/store/cluster"
)

// faultFile is a file of a Fault. What is acknowledged is its own count: the
// inner file may have more.
type faultFile struct {
	f     *Fault
	path  string
	inner cluster.File

	mu    sync.Mutex
	acked int64
	dead  error // the final error
}

func (f *faultFile) Append(ctx context.Context, p [][]byte) error {
	if err := f.final(); err != nil {
		return fmt.Errorf("append %q after a final error: %w", f.path, err)
	}
	r, hit := f.f.match(OpAppend, f.path)
	if !hit {
		return f.settle(p, f.inner.Append(ctx, p))
	}
	if errors.Is(r.Err, cluster.ErrNotTried) {
		return fmt.Errorf("injected fault: append %q: %w", f.path, r.Err)
	}
	err := f.broken(ctx, r, p)
	if err != nil {
		f.f.tell(err)
	}
	return f.settle(p, err)
}

// broken is an Append that a rule hits.
func (f *faultFile) broken(ctx context.Context, r Rule, p [][]byte) error {
	switch {
	case r.Do:
		if err := f.inner.Append(ctx, p); err != nil {
			return err
		}
	case r.Bytes > 0:
		if err := f.inner.Append(ctx, head(p, r.Bytes)); err != nil {
			return err
		}
	}
	released, err := r.wait(ctx)
	switch {
	case !released:
		return fmt.Errorf("injected fault: append %q: %w", f.path, err)
	case r.Do:
		return nil
	}
	return f.inner.Append(ctx, tail(p, r.Bytes))
}

// settle counts a stored p, or makes the file final.
func (f *faultFile) settle(p [][]byte, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		for _, b := range p {
			f.acked += int64(len(b))
		}
	case !errors.Is(err, cluster.ErrNotTried) && f.dead == nil:
		f.dead = err
	}
	return err
}

func (f *faultFile) final() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

func (f *faultFile) Acked() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked
}

func (f *faultFile) Replicas() int { return f.inner.Replicas() }

func (f *faultFile) Publish(ctx context.Context) error {
	_, err := f.f.call(ctx, OpPublish, f.path, func() error { return f.inner.Publish(ctx) })
	return err
}

func (f *faultFile) Seal(ctx context.Context) error {
	if err := f.final(); err != nil {
		return fmt.Errorf("seal %q after a final error: %w", f.path, err)
	}
	_, err := f.f.call(ctx, OpSeal, f.path, func() error { return f.inner.Seal(ctx) })
	return err
}

func (f *faultFile) Abort() { f.inner.Abort() }

// head is the first n bytes of p, tail what follows them.
func head(p [][]byte, n int) [][]byte {
	var h [][]byte
	for _, b := range p {
		k := min(n, len(b))
		h, n = append(h, b[:k]), n-k
	}
	return h
}

func tail(p [][]byte, n int) [][]byte {
	var t [][]byte
	for _, b := range p {
		k := min(n, len(b))
		t, n = append(t, b[k:]), n-k
	}
	return t
}
