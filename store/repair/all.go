package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"twinscribe/store/catalog"
)

// allTries is how often a file may fail before RepairAll gives it up.
const allTries = 5

// RepairAll repairs what there is now, in place of Run, and returns when
// nothing is left to do or ctx ends; report is called for each file, by one
// goroutine at a time. A dry run changes nothing, on no cluster: it tells what
// would be done, as far as that can be seen before a recovery. The error says
// how many files are left, and which clusters could not be looked into.
func (r *Repairer) RepairAll(ctx context.Context, dryRun bool, report func(Report)) error {
	var mu sync.Mutex
	failed := 0
	tell := func(rep Report) {
		mu.Lock()
		defer mu.Unlock()
		if rep.Action == Failed || rep.Action == Unknown || rep.Action == Lost {
			failed++
		}
		report(rep)
	}
	var errs []error
	if dryRun {
		errs = r.dryRun(ctx, tell)
	} else {
		errs = r.repairAll(ctx, tell)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed > 0 {
		errs = append(errs, fmt.Errorf("%d files are not repaired", failed))
	}
	r.mu.Lock()
	for name, n := range r.strays {
		errs = append(errs, fmt.Errorf("%s is not configured: %d files there await repair", name, n))
	}
	r.mu.Unlock()
	return errors.Join(errs...)
}

func (r *Repairer) repairAll(ctx context.Context, tell func(Report)) []error {
	r.mu.Lock()
	r.report, r.tries = tell, allTries
	r.mu.Unlock()
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); r.Run(run) }()
	var errs []error
	for _, l := range r.clusters() {
		if err := l.waitAll(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	cancel()
	<-done
	return errs
}

// waitAll is Wait for RepairAll: it gives up a cluster that cannot be used.
func (l *lane) waitAll(ctx context.Context) error {
	for {
		l.r.mu.Lock()
		changed := l.r.changed
		l.r.mu.Unlock()
		health := l.t.Health.Changed()
		l.mu.Lock()
		left, listed, lists, err := len(l.jobs), l.listed, l.lists, l.listErr
		l.mu.Unlock()
		switch {
		case left == 0 && listed:
			return nil
		case !l.t.Usable():
			return fmt.Errorf("%s cannot be used now (away or drained): %d known files await repair", l.name, left)
		case lists >= allTries:
			return fmt.Errorf("%s: open files cannot be looked for: %w", l.name, err)
		}
		select {
		case <-changed:
		case <-health:
		case <-ctx.Done():
			return fmt.Errorf("%s: %d files await repair: %w", l.name, left, ctx.Err())
		}
	}
}

func (r *Repairer) dryRun(ctx context.Context, tell func(Report)) []error {
	var errs []error
	for _, l := range r.clusters() {
		if !l.t.Usable() {
			errs = append(errs, fmt.Errorf("%s cannot be used now (away or drained): %d known files await repair", l.name, l.len()))
			continue
		}
		found, err := l.orphans(ctx)
		if err == nil {
			err = l.consult(ctx, found)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: open files cannot be looked for: %w", l.name, err))
		}
		for _, j := range found {
			l.add(j)
		}
		l.mu.Lock()
		list := make([]*job, 0, len(l.jobs))
		for _, j := range l.jobs {
			list = append(list, j)
		}
		l.mu.Unlock()
		slices.SortFunc(list, func(a, b *job) int { return strings.Compare(a.final, b.final) })
		for _, j := range list {
			tell(l.inspect(ctx, j))
		}
	}
	return errs
}

// inspect says what mend would do.
func (l *lane) inspect(ctx context.Context, j *job) Report {
	rep := Report{Cluster: l.name, Path: j.final}
	if err := l.aim(ctx, j); err != nil {
		rep.Action, rep.Err = Unknown, err
		return rep
	}
	size, err := l.size(ctx, j.open)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.inspectFinal(ctx, j, rep)
	case err != nil:
		rep.Action, rep.Err = Unknown, err
		return rep
	}
	if _, err := l.size(ctx, j.final); err == nil {
		rep.Action, rep.Err = Failed, fmt.Errorf("%w: %s", errConflict, j.final)
		return rep
	}
	// The length of a file that was not recovered may be anything from here on.
	rep.Bytes = size
	if size < j.acked || size < j.end() {
		rep.Action = Recover
		return rep
	}
	keep, err := l.keep(ctx, j, size)
	if err != nil {
		rep.Action, rep.Err = Unknown, err
		return rep
	}
	rep.Action, rep.Bytes, rep.Cut = Sealed, keep, size-keep
	if keep == 0 {
		rep.Action = Removed
		return rep
	}
	if m, err := l.manifest(ctx, j, j.open, keep); err == nil {
		rep.Messages = m.Messages
		rep.Counted = countedIn(m)
	}
	return rep
}

func (l *lane) inspectFinal(ctx context.Context, j *job, rep Report) Report {
	size, err := l.size(ctx, j.final)
	switch {
	case err == nil:
		rep.Action, rep.Bytes = Present, size
		if m, err := l.readManifest(ctx, j.manifestPath()); err == nil {
			rep.Messages = m.Messages
		}
	case !errors.Is(err, fs.ErrNotExist):
		rep.Action, rep.Err = Unknown, err
	case j.target != nil && l.inspectAt(ctx, j, &rep):
	case j.acked > 0:
		rep.Action, rep.Missing = Lost, j.acked
	default:
		rep.Action = Gone
	}
	return rep
}

// inspectAt says what became of a file that has its target's name; false if it
// does not.
func (l *lane) inspectAt(ctx context.Context, j *job, rep *Report) bool {
	m, err := l.placedManifest(ctx, j)
	if err == nil && m != nil {
		var done bool
		if done, err = l.file(j, m).Done(ctx); done {
			rep.Action, rep.Path, rep.Bytes, rep.Messages = Present, m.At, m.Bytes, m.Messages
			return true
		}
	}
	if err != nil {
		rep.Action, rep.Err = Unknown, err
	}
	return err != nil
}

func countedIn(m *catalog.Manifest) (n int64) {
	for _, r := range m.Ranges {
		if r.Counted {
			n += int64(r.Last - r.First + 1)
		}
	}
	return n
}
