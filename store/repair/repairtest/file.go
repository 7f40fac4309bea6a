package repairtest

import (
	"context"
	"errors"
	"slices"
	"sync"
)

var errBroken = errors.New("file is broken")

// writer implements cluster.File.
type writer struct {
	c    *Cluster
	path string
	f    *file
}

// Append implements cluster.File.
func (w *writer) Append(ctx context.Context, p [][]byte) error {
	return w.c.do(ctx, "append", w.path, func() error {
		if w.f.writer != w || !w.f.open {
			return errBroken
		}
		w.f.data = append(w.f.data, slices.Concat(p...)...)
		w.f.acked = int64(len(w.f.data))
		return nil
	})
}

// Acked implements cluster.File.
func (w *writer) Acked() int64 {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	return w.f.acked
}

// Replicas implements cluster.File.
func (w *writer) Replicas() int { return 1 }

// Publish implements cluster.File.
func (w *writer) Publish(ctx context.Context) error {
	return w.c.do(ctx, "publish", w.path, func() error {
		w.f.published = int(w.f.acked)
		return nil
	})
}

// Seal implements cluster.File.
func (w *writer) Seal(ctx context.Context) error {
	return w.c.do(ctx, "seal", w.path, func() error {
		if w.f.writer != w && w.f.open {
			return errBroken
		}
		w.f.open = false
		return nil
	})
}

// Abort implements cluster.File.
func (w *writer) Abort() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.f.writer == w {
		w.f.writer = nil
	}
}

// A Health is a cluster's health in the hands of a test.
type Health struct {
	mu        sync.Mutex
	reachable bool
	drained   bool
	changed   chan struct{}
}

// NewHealth makes one that is reachable.
func NewHealth() *Health {
	return &Health{reachable: true, changed: make(chan struct{})}
}

// Set changes it and tells those who wait.
func (h *Health) Set(reachable, drained bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reachable, h.drained = reachable, drained
	close(h.changed)
	h.changed = make(chan struct{})
}

// Reachable is as of cluster.Health.
func (h *Health) Reachable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reachable
}

// Drained is as of cluster.Health.
func (h *Health) Drained() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drained
}

// Changed is as of cluster.Health.
func (h *Health) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// Usable is as of cluster.Health.
func (h *Health) Usable() bool { return h.Reachable() && !h.Drained() }
