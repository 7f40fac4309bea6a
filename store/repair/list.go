package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/inventory"
	"twinscribe/store/statedir"
)

const (
	// maxWindows bounds how many partitions are looked into beside those that
	// the inventories name, the newest ones.
	maxWindows = 1000

	// ahead is how long after a start was last seen a file of it may have been
	// begun in the partition of that time.
	ahead = time.Hour
)

// mayList says whether the open files are to be looked for now, and claims it.
func (l *lane) mayList() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listed || l.listing || time.Now().Before(l.listDue) {
		return false
	}
	l.listing, l.settled = true, make(map[string]bool)
	return true
}

// list looks for open files of earlier starts that nobody knows of. A listing
// that fails is repeated whole.
func (l *lane) list(ctx context.Context) {
	found, err := l.orphans(ctx)
	if err == nil {
		err = l.consult(ctx, found)
	}
	for _, j := range found {
		if err == nil && !l.knows(j.final) {
			l.add(j)
		}
	}
	l.mu.Lock()
	l.listing, l.listed, l.listErr = false, err == nil, err
	if err != nil {
		l.lists++
		l.listDue = time.Now().Add(min(minBackoff<<min(l.lists, 10), maxAway))
	}
	l.mu.Unlock()
	if err == nil {
		l.r.listed()
	} else if held, ok := l.r.say.now(); ok && ctx.Err() == nil {
		l.r.o.Log.Warn("open files of earlier starts cannot be looked for yet",
			zap.String("cluster", l.name), zap.Int("not_told", held), zap.Error(err))
	}
	l.r.notify()
	l.signal()
}

// folder lists one folder.
func (l *lane) folder(ctx context.Context, p string) (list []cluster.Info, err error) {
	err = l.call(ctx, func(ctx context.Context) error {
		list, err = l.t.Cluster.List(ctx, p)
		return err
	})
	return list, err
}

// orphans are the open files of earlier starts that await no repair yet.
func (l *lane) orphans(ctx context.Context) ([]*job, error) {
	wanted := l.r.windows()
	if len(wanted) == 0 {
		return nil, nil
	}
	top, err := l.folder(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list the root: %w", err)
	}
	var (
		mu    sync.Mutex
		found []*job
	)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(l.r.o.Listers)
	for _, category := range top {
		if !category.Folder || strings.HasPrefix(category.Name, "_") || strings.HasPrefix(category.Name, ".") {
			continue
		}
		g.Go(func() error {
			return l.search(gctx, category.Name, wanted, func(j *job) {
				mu.Lock()
				defer mu.Unlock()
				found = append(found, j)
			})
		})
	}
	return found, g.Wait()
}

// search goes through the wanted partitions of one category.
func (l *lane) search(ctx context.Context, category string, wanted map[string]map[string]bool, found func(*job)) error {
	days, err := l.folder(ctx, category)
	if err != nil {
		return fmt.Errorf("list %s: %w", category, err)
	}
	for _, day := range days {
		hours, ok := wanted[day.Name]
		if !ok || !day.Folder {
			continue
		}
		p := path.Join(category, day.Name)
		list, err := l.folder(ctx, p)
		if err != nil {
			return fmt.Errorf("list %s: %w", p, err)
		}
		l.pick(p, list, found)
		for _, hour := range list {
			if !hour.Folder || !hours[hour.Name] {
				continue
			}
			p := path.Join(p, hour.Name)
			list, err := l.folder(ctx, p)
			if err != nil {
				return fmt.Errorf("list %s: %w", p, err)
			}
			l.pick(p, list, found)
		}
	}
	return nil
}

// pick finds the open names of earlier starts in a folder.
func (l *lane) pick(folder string, list []cluster.Info, found func(*job)) {
	for _, f := range list {
		if f.Folder {
			continue
		}
		if j := jobOfName(path.Join(folder, f.Name)); j != nil && l.r.earlier(j.id) && !l.knows(j.final) {
			found(j)
		}
	}
}

// windows are the partitions in which earlier starts may have left open files:
// by day, the hours in it.
func (r *Repairer) windows() map[string]map[string]bool {
	wanted := make(map[string]map[string]bool)
	add := func(p catalog.Partition) {
		day, hour, _ := strings.Cut(string(p), "/")
		if wanted[day] == nil {
			wanted[day] = make(map[string]bool)
		}
		if hour != "" {
			wanted[day][hour] = true
		}
	}
	var hours []catalog.Partition
	seen := make(map[catalog.Partition]bool)
	for i, s := range r.o.Starts {
		for _, p := range r.o.Keeper.Living(s.Identity) {
			add(p)
		}
		for _, w := range r.lives(i, s) {
			for t := w[0].Truncate(time.Hour); !t.After(w[1]); t = t.Add(time.Hour) {
				if p := catalog.Hour.At(t); !seen[p] {
					seen[p] = true
					hours = append(hours, p)
				}
			}
		}
	}
	slices.Sort(hours)
	if over := len(hours) - maxWindows; over > 0 {
		r.o.Log.Warn("too many hours to look for open files in: the oldest are left out",
			zap.Int("left_out", over), zap.Int("looked_into", maxWindows))
		hours = hours[over:]
	}
	for _, p := range hours {
		add(p)
	}
	return wanted
}

// lives are the times around which a start may have begun its last files:
// before it was last seen, or, where nothing tells, at its beginning and before
// the next start.
func (r *Repairer) lives(i int, s statedir.Start) [][2]time.Time {
	begin, end := s.Since.Add(-ahead), r.o.Now()
	if i+1 < len(r.o.Starts) {
		end = r.o.Starts[i+1].Since
	}
	back := r.o.LookBack
	if seen := r.o.Keeper.LastSeen(s.Identity); !seen.IsZero() {
		return [][2]time.Time{{later(begin, seen.Add(-back)), earlier(later(end, seen), seen.Add(ahead))}}
	}
	return [][2]time.Time{{begin, earlier(end, begin.Add(back))}, {later(begin, end.Add(-back)), end}}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// consult asks the inventories on the clusters about files that only their
// names tell of: the local copies may be lost.
func (l *lane) consult(ctx context.Context, found []*job) error {
	type key struct {
		id        catalog.Identity
		partition catalog.Partition
	}
	by := make(map[key][]*job)
	for _, j := range found {
		k := key{j.id, j.partition}
		by[k] = append(by[k], j)
	}
	for _, k := range slices.SortedFunc(maps.Keys(by), func(a, b key) int { return strings.Compare(string(a.partition), string(b.partition)) }) {
		inv, err := l.r.inventory(ctx, l, k.id, k.partition)
		if err != nil {
			return err
		}
		if inv == nil {
			continue
		}
		items := make(map[string]*catalog.Item)
		for i := range inv.Items {
			if it := &inv.Items[i]; it.Place == l.name {
				items[it.Path] = it
			}
		}
		for _, j := range by[k] {
			if it := items[j.final]; it != nil && it.State != catalog.StateSealed {
				if other := jobOfItem(&inventory.Found{Identity: k.id, Partition: k.partition, Item: *it}); other != nil {
					j.merge(other)
				}
			}
		}
	}
	return nil
}

// inventory reads a start's inventory of a partition, the newest copy on the
// clusters that can be used; nil if there is none. Only l must answer.
func (r *Repairer) inventory(ctx context.Context, l *lane, id catalog.Identity, p catalog.Partition) (*catalog.Inventory, error) {
	var best *catalog.Inventory
	for _, other := range r.clusters() {
		if other != l && !other.t.Health.Reachable() {
			continue
		}
		file := catalog.InventoryPath(id, p)
		raw, err := other.load(ctx, file, catalog.MaxInventory)
		var inv *catalog.Inventory
		if err == nil {
			inv, err = catalog.DecodeInventory(other.name+":"+file, raw)
		}
		switch {
		case err == nil && (best == nil || best.Counter < inv.Counter):
			best = inv
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, catalog.ErrMalformed):
		case other == l:
			return nil, err
		}
	}
	return best, nil
}
