package inventory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

// runLane keeps the copies on one cluster up to date.
func (k *Keeper) runLane(ctx context.Context, i int) {
	t := &k.o.Targets[i]
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	var (
		backoff  time.Duration
		until    time.Time
		retained time.Time
		first    = true
	)
	for {
		changed := t.Health.Changed()
		if t.Usable() && (!time.Now().Before(until) || k.flushing.Load() > 0) {
			if first {
				first = k.watchTwin(ctx, i) != nil
			}
			err := k.lanePass(ctx, i)
			if err == nil && k.o.Retention > 0 && time.Since(retained) >= retainEvery {
				retained = time.Now()
				err = k.retain(ctx, i)
			}
			switch {
			case err == nil:
				backoff = 0
			case ctx.Err() == nil:
				backoff = min(max(2*backoff, writeEvery), maxBackoff)
				until = time.Now().Add(backoff)
				k.laneFailed(t.Cluster.Name(), backoff, err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.lanes[i]:
		case <-changed:
			backoff, until = 0, time.Time{}
		}
	}
}

// laneFailed counts, and says it where it has not failed before: the backoff
// keeps the lines few.
func (k *Keeper) laneFailed(name string, wait time.Duration, err error) {
	k.mu.Lock()
	k.stats.Failed++
	k.mu.Unlock()
	k.o.Log.Warn("an inventory or member file could not be written, it is tried again",
		zap.String("cluster", name), zap.Duration("in", wait), zap.Error(err))
}

// lanePass brings one cluster as far as it gets. An error about one path does
// not keep the others from being tried; one of the cluster ends the pass.
func (k *Keeper) lanePass(ctx context.Context, i int) error {
	t := &k.o.Targets[i]
	failed := k.memberPass(ctx, i)
	if failed != nil && ofCluster(failed) {
		return failed
	}
	for _, b := range k.laneWork(i) {
		if !t.Usable() || ctx.Err() != nil {
			return ctx.Err()
		}
		wait, err := k.deliver(ctx, i, b)
		if err != nil {
			err = fmt.Errorf("%s: %w", b.path(), err)
			if ofCluster(err) {
				return err
			}
			failed = err
		}
		if wait {
			break
		}
	}
	return failed
}

// ofCluster says whether the next path would fail too.
func ofCluster(err error) bool {
	return errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// laneWork is what target i lacks, the newest partitions first: readers wait
// for those.
func (k *Keeper) laneWork(i int) []*book {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*book
	for _, b := range k.books {
		// A busy book is dirty most of the time: its last content goes out all the same.
		if !b.seen[i] || b.loaded && b.counter > 0 && b.at[i] != b.counter {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b *book) int {
		if c := strings.Compare(string(b.partition), string(a.partition)); c != 0 {
			return c
		}
		return strings.Compare(a.id.String(), b.id.String())
	})
	return list
}

// deliver compares a book with its copy on target i, where that was not done,
// and writes it there if it is newer. wait: its content must be fetched first,
// and only one at a time is.
func (k *Keeper) deliver(ctx context.Context, i int, b *book) (wait bool, err error) {
	k.mu.Lock()
	seen, ready := b.seen[i], k.mayWrite(b)
	k.mu.Unlock()
	if !seen {
		if err := k.compare(ctx, i, b); err != nil {
			return false, err
		}
		k.mu.Lock()
		ready = k.mayWrite(b) && b.at[i] != b.counter
		k.mu.Unlock()
	}
	if !ready {
		return false, nil
	}
	counter, raw := k.content(b)
	if len(raw) >= catalog.MaxInventory {
		return false, fmt.Errorf("%d bytes, readers take less than %d", len(raw), catalog.MaxInventory)
	}
	if raw == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if b.away {
			b.wanted = true
			k.wake(k.local)
		}
		return b.away, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := k.o.Targets[i].Cluster.Replace(ctx, b.path(), raw); err != nil {
		return false, err
	}
	failpoint.Here("inventory.copied")
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stats.Written++
	b.at[i] = counter
	k.delivered()
	return false, nil
}

// mayWrite says whether the clusters' turn has come: the local copy is first,
// unless the local disk does not get on.
func (k *Keeper) mayWrite(b *book) bool {
	return b.loaded && b.counter > 0 && (b.localAt == b.counter || k.localBad || time.Since(b.snapAt) >= localHead)
}

// compare looks at the copy on target i of a book that somebody else may have
// written there, and takes it in if it is newer than all that were.
func (k *Keeper) compare(ctx context.Context, i int, b *book) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := k.o.Targets[i].Cluster.Open(ctx, b.path())
	if errors.Is(err, fs.ErrNotExist) {
		k.compared(i, b, 0)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	file := k.o.Targets[i].Cluster.Name() + ":" + b.path()
	head, err := readHead(file, io.NewSectionReader(r, 0, catalog.MaxInventory))
	var c *content
	if err == nil && k.wants(b, head.Counter) {
		var raw []byte
		if raw, err = io.ReadAll(io.NewSectionReader(r, 0, catalog.MaxInventory+1)); err == nil {
			c, err = decode(b.bookID, file, raw)
		}
	}
	if err != nil && !errors.Is(err, catalog.ErrMalformed) {
		return err // a newer one is left alone: readers of that format rely on it
	}
	if err != nil {
		k.o.Log.Warn("a copy of an inventory is damaged and will be replaced",
			zap.String("cluster", k.o.Targets[i].Cluster.Name()), zap.String("path", b.path()), zap.Error(err))
		k.compared(i, b, 0)
		return nil
	}
	k.mu.Lock()
	if c != nil && !b.away {
		b.take(c)
	}
	k.mu.Unlock()
	k.compared(i, b, head.Counter)
	return nil
}

// wants says whether a copy with this counter is newer than all that were taken in.
func (k *Keeper) wants(b *book, counter uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if counter <= b.base {
		return false
	}
	b.wakeUp()
	return true
}

func (k *Keeper) compared(i int, b *book, counter uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b.seen[i] = true
	b.at[i] = counter
	k.delivered()
}
