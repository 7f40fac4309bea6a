package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/layout"
)

// A leaving is a file that its chain has given up: to be sealed, to be removed
// because nothing is in it, or torn.
type leaving struct {
	f        *file
	reason   string // of the seal; empty: nothing is in it
	torn     error  // why it failed for ever
	manifest *catalog.Manifest

	told   bool      // the inventory knows that it is left
	closed bool      // its length is final
	placed bool      // its manifest is written
	since  time.Time // the first failure of a step on a reachable cluster; zero: none
	tries  int
}

const (
	minRetry = 250 * time.Millisecond
	maxRetry = 5 * time.Second
	awayWait = time.Second // until a cluster that is away is looked at again

	// sealPatience is how long a cluster that seems well may refuse a step
	// before the file becomes repair's, which begins with a recovery.
	sealPatience = time.Minute
	// pathTries is the same for errors that concern the path.
	pathTries = 3
)

// errConflict says that both names of a file are there, or neither.
var errConflict = errors.New("the final name is there beside the open one, or neither is")

// leave takes a file that its chain has given up. An empty reason is for one
// in which nothing is.
func (r *Root) leave(f *file, reason string) {
	l := &leaving{f: f, reason: reason}
	if f.size == 0 {
		l.reason = ""
	} else {
		l.manifest = f.held.Manifest(reason, r.o.Now())
	}
	r.hand(l)
}

// hand passes a file to the leavers.
func (r *Root) hand(l *leaving) {
	f := l.f
	f.used.Store(0)
	f.mu.Lock()
	f.left = true
	f.mu.Unlock()
	r.mu.Lock()
	delete(r.open, f)
	r.left++
	r.mu.Unlock()
	r.leavers.put(l)
}

// forget removes what a Create that failed may have left behind.
func (r *Root) forget(f *file, err error) {
	if errors.Is(err, cluster.ErrHeld) || errors.Is(err, fs.ErrExist) {
		return // it made nothing, or the file is not ours
	}
	r.mu.Lock()
	r.left++
	r.mu.Unlock()
	r.leavers.put(&leaving{f: f})
}

// leaveOne is a leaver's work: one try.
func (r *Root) leaveOne(ctx context.Context, l *leaving) {
	f := l.f
	if err := f.whenPublished(ctx); err != nil {
		r.leavers.put(l)
		return
	}
	if l.torn != nil {
		r.handOver(l)
		return
	}
	if !l.told {
		l.told = true
		if l.manifest != nil {
			f.record(catalog.StateSealing, l.manifest)
			failpoint.Here("seal.told")
		}
	}
	if !r.o.Health.Reachable() {
		l.since = time.Time{}
		r.leavers.putLater(l, awayWait)
		return
	}
	tctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	err := r.end(tctx, l)
	switch {
	case err == nil:
		if l.manifest != nil && l.manifest.At != "" {
			r.link(tctx, l)
		}
		r.ended(l)
	case ctx.Err() != nil:
		r.leavers.put(l) // we stop; Close may go on with it
	default:
		r.again(ctx, l, err)
	}
}

// end does the steps that are left. Each can be done again.
func (r *Root) end(ctx context.Context, l *leaving) error {
	f, c := l.f, r.o.Cluster
	if l.reason == "" {
		if f.w != nil {
			f.w.Abort()
		}
		failpoint.Here("discard.aborted")
		err := c.Remove(ctx, f.begin.OpenPath)
		failpoint.Here("discard.removed")
		return err
	}
	if !l.closed {
		if err := f.w.Seal(ctx); err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		failpoint.Here("seal.closed")
		l.closed = true
	}
	if f.begin.Target != nil {
		return r.endAt(ctx, l)
	}
	if !l.placed {
		if err := r.putManifest(ctx, l); err != nil {
			return err
		}
		failpoint.Here("seal.manifest-placed")
		l.placed = true
	}
	// The answer of an earlier try may be the only thing that is missing.
	if done, err := r.renamed(ctx, f); done || err != nil {
		return err
	}
	failpoint.Here("seal.name-free")
	if err := c.Rename(ctx, f.begin.OpenPath, f.begin.Path); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	failpoint.Here("seal.renamed")
	return nil
}

func (r *Root) putManifest(ctx context.Context, l *leaving) error {
	content, err := l.manifest.Encode()
	if err != nil {
		return err
	}
	if err := r.o.Cluster.Replace(ctx, l.f.manifest, content); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// endAt is the rest of end for a file that takes its target's name.
func (r *Root) endAt(ctx context.Context, l *leaving) error {
	f := &layout.File{
		Cluster: r.o.Cluster, Open: l.f.begin.OpenPath, Manifest: l.manifest,
		Put: func(ctx context.Context) error { return r.putManifest(ctx, l) },
	}
	if l.manifest.At != "" { // the answer of an earlier try may be the only thing that is missing
		if done, err := f.Done(ctx); done || err != nil {
			return err
		}
	}
	err := r.names.Seal(ctx, f)
	if errors.Is(err, layout.ErrAstray) {
		return fmt.Errorf("%w: %w", errConflict, err)
	}
	return err
}

// link has the target's link tell of a file that has its name. That it fails
// costs no message.
func (r *Root) link(ctx context.Context, l *leaving) {
	f := &layout.File{Cluster: r.o.Cluster, Manifest: l.manifest}
	if err := f.Link(ctx); err != nil && r.sayLink.now() {
		r.log.Warn("the link to the newest file is behind until the next one is sealed", zap.String("file", l.manifest.At), zap.Error(err))
	}
}

// renamed looks whether the file has its final name. Nothing but this file
// can have it, and nothing is ever renamed onto it.
func (r *Root) renamed(ctx context.Context, f *file) (bool, error) {
	final, err := r.o.Cluster.Stat(ctx, f.begin.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the final name: %w", err)
	}
	_, err = r.o.Cluster.Stat(ctx, f.begin.OpenPath)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist) && final.Size != f.size:
		return false, fmt.Errorf("%w: %s, %d bytes, want %d", errConflict, f.begin.Path, final.Size, f.size)
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	}
	return false, fmt.Errorf("look for the open name: %w", err)
}

// ended notes a file that is done.
func (r *Root) ended(l *leaving) {
	f := l.f
	if l.reason == "" {
		r.discarded.Add(1)
		r.o.Inventory.Drop(f.begin.Partition, r.place, f.begin.Path)
	} else {
		f.record(catalog.StateSealed, l.manifest)
		failpoint.Here("seal.recorded")
		r.log.Debug("sealed", zap.String("file", f.begin.Path), zap.String("at", l.manifest.At), zap.String("reason", l.reason),
			zap.Int64("bytes", l.manifest.Bytes), zap.Int64("messages", l.manifest.Messages))
	}
	if f.entry != nil {
		f.entry.Sealed()
	}
	failpoint.Here("seal.journalled")
	r.gone(func() {
		if l.reason != "" {
			r.sealed[l.reason]++
		}
	})
}

// gone takes a file out of the count of those given up.
func (r *Root) gone(also func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left--
	also()
	r.settle()
}

// again decides about a step that failed.
func (r *Root) again(ctx context.Context, l *leaving, err error) {
	if l.since.IsZero() {
		l.since = time.Now()
	}
	away := errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
	l.tries++
	final := errors.Is(err, errConflict) || away && time.Since(l.since) > sealPatience || !away && l.tries >= pathTries
	switch {
	case !final || away && l.reason == "":
		r.retries.Add(1)
		if r.sayRetry.now() {
			r.log.Warn("a file could not be sealed yet, trying again", zap.String("file", l.f.begin.Path), zap.Int("tries", l.tries), zap.Error(err))
		}
		r.leavers.putLater(l, min(minRetry<<min(l.tries, 10), maxRetry))
		return
	case l.reason == "":
		// Nothing is in it; its journal entry stays, so the next start finds it.
		r.log.Warn("an empty file cannot be removed", zap.String("file", l.f.begin.OpenPath), zap.Error(err))
		r.gone(func() {})
		return
	}
	l.torn = err
	// All of it is acknowledged, so nothing was sent again elsewhere.
	r.noteTear(ctx, l.f)
	l.f.w.Abort()
	r.handOver(l)
}

// noteTear puts the tear into the journal before anybody else acknowledges or
// withdraws what the file may have beyond it. It waits a bounded time, also
// where ctx is over; the journal says again what it could not write.
func (r *Root) noteTear(ctx context.Context, f *file) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.WriteTimeout/10)
	defer cancel()
	if err := f.entry.Torn(ctx, f.size); err != nil {
		if r.sayTear.now() {
			r.log.Error("the tear of a file is not in the journal yet", zap.String("file", f.begin.OpenPath), zap.Error(err))
		}
	}
}

// handOver gives a torn file to repair.
func (r *Root) handOver(l *leaving) {
	f := l.f
	m := f.held.Snapshot()
	f.record(catalog.StateTorn, m)
	failpoint.Here("tear.recorded")
	r.torn.Add(1)
	if r.sayTear.now() {
		r.log.Warn("a file is torn", zap.String("file", f.begin.OpenPath), zap.Int64("acknowledged", f.size),
			zap.Int64("torn so far", r.torn.Load()), zap.Error(l.torn))
	}
	r.o.Repair(Torn{
		Cluster:  r.place,
		OpenPath: f.begin.OpenPath,
		Path:     f.begin.Path,
		Begin:    f.begin,
		Lines:    f.held.Lines(),
		L:        f.size,
		Manifest: m,
		Done:     f.entry.Sealed,
	})
	failpoint.Here("tear.handed-over")
	r.gone(func() {})
}
