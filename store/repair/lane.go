package repair

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/cluster"
	"twinscribe/store/inventory"
	"twinscribe/store/layout"
)

// Times of the schedule.
const (
	pollEvery   = 500 * time.Millisecond // until a recovery or a cut is done
	pollSlow    = 2 * time.Second        // the same, after slowAfter
	slowAfter   = 15 * time.Second
	adoptEvery  = 30 * time.Second // the inventories are asked for files that nobody told
	minBackoff  = time.Second
	maxAway     = 15 * time.Second // backoff while the cluster does not answer
	maxPath     = time.Minute      // the same for errors that concern the file
	conflictFor = 5 * time.Minute  // until a file that needs a human is looked at again
)

var (
	// errNotYet says that a recovery or a cut has begun.
	errNotYet = errors.New("not done yet")

	// errConflict says that both names of a file are there, which nothing of
	// ours brings about. Nothing is touched then.
	errConflict = errors.New("the final name is there beside the open one")
)

// A lane works on the files of one cluster. A file that waits, for a recovery
// or after a failure, holds no place: the others go on.
type lane struct {
	r    *Repairer
	t    *inventory.Target
	name string
	wake chan struct{}

	names layout.Numbers

	mu      sync.Mutex      // memory only
	jobs    map[string]*job // by final path
	lost    map[string]bool // the same: files that are not there, and should be
	running int
	listed  bool
	listing bool
	listDue time.Time
	settled map[string]bool // final paths of files that were done while a listing ran
	listErr error           // of the last listing
	lists   int             // listings that failed in a row
}

func newLane(r *Repairer, t *inventory.Target) *lane {
	return &lane{r: r, t: t, name: t.Cluster.Name(), wake: make(chan struct{}, 1), jobs: make(map[string]*job), lost: make(map[string]bool)}
}

func (l *lane) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs)
}

func (l *lane) isListed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listed
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// add takes a file over, or adds to what is known of it.
func (l *lane) add(j *job) {
	l.mu.Lock()
	switch old := l.jobs[j.final]; {
	case l.lost[j.final]: // told once
	case old == nil:
		l.jobs[j.final] = j
	case old.running:
		old.late = append(old.late, j)
	default:
		old.merge(j)
	}
	l.mu.Unlock()
	l.signal()
}

// knows says whether a file awaits repair, or was done since the listing began:
// the folder's entries may be older.
func (l *lane) knows(final string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jobs[final] != nil || l.settled[final]
}

// adopt takes over what inventories of earlier starts tell.
func (l *lane) adopt() {
	found := l.r.o.Keeper.Unsettled(l.name)
	for i := range found {
		if j := jobOfItem(&found[i]); j != nil && l.r.earlier(j.id) {
			l.add(j)
		}
	}
}

// declare puts every file of an earlier start that still waits into its
// inventory. Under the mutex, as finish: a file that is sealed meanwhile must
// not become torn again.
func (l *lane) declare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range l.jobs {
		if l.r.earlier(j.id) && !j.told {
			l.r.o.Keeper.PutAs(j.id, j.partition, j.item(l.name))
		}
	}
}

// run starts what is due, and waits.
func (l *lane) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	adopted := time.Now()
	usable, reachable := false, false
	for {
		changed := l.t.Health.Changed()
		wasUsable, wasReachable := usable, reachable
		usable, reachable = l.t.Usable(), l.t.Health.Reachable()
		if usable && !wasUsable || reachable && !wasReachable {
			l.hurry()
		}
		next := adopted.Add(adoptEvery)
		if usable {
			for _, j := range l.take() {
				wg.Go(func() { l.work(ctx, j) })
			}
			next = l.nextJob(next)
		}
		// Looking writes nothing: it goes on where the cluster is drained.
		if reachable {
			if l.mayList() {
				wg.Go(func() { l.list(ctx) })
			}
			next = l.nextList(next)
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-l.wake:
		case <-timer.C:
		}
		timer.Stop()
		if time.Since(adopted) >= adoptEvery {
			adopted = time.Now()
			l.adopt()
		}
	}
}

// hurry makes everything due: the cluster has come back.
func (l *lane) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listDue, l.lists = time.Time{}, 0
	for _, j := range l.jobs {
		if !j.running {
			j.due, j.since, j.tries = time.Time{}, time.Time{}, 0
		}
	}
}

// take are the jobs to be started now, those that are due for longest first.
func (l *lane) take() []*job {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.r.o.Parallel - l.running
	if free <= 0 {
		return nil
	}
	now := time.Now()
	var list []*job
	for _, j := range l.jobs {
		if !j.running && !j.due.After(now) {
			list = append(list, j)
		}
	}
	slices.SortFunc(list, func(a, b *job) int { return a.due.Compare(b.due) })
	list = list[:min(len(list), free)]
	for _, j := range list {
		j.running = true
		if j.since.IsZero() {
			j.since = now
		}
	}
	l.running += len(list)
	return list
}

// nextList is when the next listing is due, if that is before at.
func (l *lane) nextList(at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.listed && !l.listing && l.listDue.Before(at) {
		return l.listDue
	}
	return at
}

// nextJob is when the next file is due, if that is before at. A place that gets
// free is signalled.
func (l *lane) nextJob(at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running >= l.r.o.Parallel {
		return at
	}
	for _, j := range l.jobs {
		if !j.running && j.due.Before(at) {
			at = j.due
		}
	}
	return at
}

// work is one try at one file.
func (l *lane) work(ctx context.Context, j *job) {
	defer l.signal()
	result, err := l.mend(ctx, j)
	switch {
	case err == nil:
		l.finish(j, result)
	case ctx.Err() != nil:
		l.putBack(j, 0)
	case errors.Is(err, errNotYet):
		wait := pollEvery
		if time.Since(j.since) > slowAfter {
			wait = pollSlow
		}
		l.putBack(j, wait)
	default:
		l.failed(j, err)
	}
}

func (l *lane) putBack(j *job, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	j.running = false
	j.due = time.Now().Add(wait)
	for _, late := range j.late {
		j.merge(late)
		j.built = nil
	}
	j.late = nil
}

// failed decides when a file is tried again.
func (l *lane) failed(j *job, err error) {
	j.tries++
	wait := minBackoff << min(j.tries-1, 10)
	var kind string
	switch {
	case errors.Is(err, cluster.ErrUnavailable), errors.Is(err, cluster.ErrHeld), errors.Is(err, context.DeadlineExceeded):
		kind, wait = "unavailable", min(wait, maxAway)
	case errors.Is(err, errConflict):
		kind, wait = "conflict", conflictFor
	default:
		kind, wait = "path", min(wait, maxPath)
	}
	l.r.mu.Lock()
	l.r.stats.Failures[kind]++
	giveUp := l.r.tries > 0 && j.tries >= l.r.tries
	l.r.mu.Unlock()
	if n, ok := l.r.say.now(); ok || kind == "conflict" {
		l.r.o.Log.Warn("a file is not repaired yet",
			zap.String("cluster", l.name), zap.String("path", j.open), zap.String("kind", kind),
			zap.Int("tries", j.tries), zap.Duration("again_in", wait), zap.Int("not_told", n), zap.Error(err))
	}
	if giveUp {
		l.forget(j)
		l.r.tell(Report{Cluster: l.name, Path: j.final, Action: Failed, Err: err})
		return
	}
	l.putBack(j, wait)
}

// forget takes a file off the backlog.
func (l *lane) forget(j *job) {
	l.mu.Lock()
	l.running--
	delete(l.jobs, j.final)
	if l.listing {
		l.settled[j.final] = true
	}
	late := j.late
	l.mu.Unlock()
	for _, other := range late {
		j.done = append(j.done, other.done...)
	}
	l.r.notify()
}
