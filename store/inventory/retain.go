package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/catalog"
)

const (
	retainEvery = time.Hour
	retainMost  = 500 // files removed from a cluster in one pass
)

// retain removes from target i what this aggregator's starts wrote about
// partitions that ended longer ago than the retention, and the member files of
// starts that ended before that. What is not settled stays. Folders stay too.
func (k *Keeper) retain(ctx context.Context, i int) error {
	before := k.o.Now().Add(-k.o.Retention)
	old, err := k.oldInventories(ctx, i, before)
	if err != nil {
		return err
	}
	members, err := k.oldMembers(ctx, i, before)
	if err != nil {
		return err
	}
	removed := 0
	for _, p := range append(old, members...) {
		if removed >= retainMost || !k.o.Targets[i].Usable() {
			break
		}
		if err := k.removeFrom(ctx, i, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		removed++
	}
	if removed > 0 {
		k.o.Log.Info("inventories and member files beyond the retention are removed",
			zap.String("cluster", k.o.Targets[i].Cluster.Name()), zap.Int("files", removed), zap.Int("left", len(old)+len(members)-removed))
	}
	return nil
}

func (k *Keeper) removeFrom(ctx context.Context, i int, p string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return k.o.Targets[i].Cluster.Remove(ctx, p)
}

// oldInventories are paths of inventories of partitions that ended before.
func (k *Keeper) oldInventories(ctx context.Context, i int, before time.Time) (paths []string, err error) {
	days, err := k.entries(ctx, i, catalog.InventoryFolder)
	if err != nil {
		return nil, err
	}
	for _, day := range days {
		if len(paths) >= retainMost {
			return paths, nil
		}
		p := catalog.Partition(day)
		if end, err := p.End(); err != nil || p.Period() != catalog.Day || end.After(before) {
			continue
		}
		inside, err := k.entries(ctx, i, path.Join(catalog.InventoryFolder, day))
		if err != nil {
			return nil, err
		}
		paths = k.pickOwn(paths, p, inside)
		for _, hour := range inside {
			hp := catalog.Partition(day + "/" + hour)
			if _, err := hp.Start(); err != nil || hp.Period() != catalog.Hour {
				continue
			}
			names, err := k.entries(ctx, i, path.Join(catalog.InventoryFolder, string(hp)))
			if err != nil {
				return nil, err
			}
			paths = k.pickOwn(paths, hp, names)
		}
	}
	return paths, nil
}

// entries are the names in a folder.
func (k *Keeper) entries(ctx context.Context, i int, folder string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := k.o.Targets[i].Cluster.List(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	names := make([]string, len(list))
	for n, f := range list {
		names[n] = f.Name
	}
	return names, nil
}

// pickOwn appends the paths of inventories of this aggregator that nobody works on.
func (k *Keeper) pickOwn(paths []string, p catalog.Partition, names []string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	busy := make(map[string]bool)
	for key := range k.books {
		if key.partition == p {
			busy[path.Base(key.path())] = true
		}
	}
	for _, name := range names {
		if _, own := k.startOf(name); own && !busy[name] {
			paths = append(paths, path.Join(catalog.InventoryFolder, string(p), name))
		}
	}
	return paths
}

// oldMembers are paths of member files of this aggregator's starts that ended,
// and were written last before.
func (k *Keeper) oldMembers(ctx context.Context, i int, before time.Time) (paths []string, err error) {
	c := k.o.Targets[i].Cluster
	lctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := c.List(lctx, catalog.MembersFolder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", catalog.MembersFolder, err)
	}
	for _, f := range list {
		start, own := k.startOf(f.Name)
		if f.Folder || !own || f.Modified.After(before) || k.knows(start) || len(paths) >= retainMost {
			continue
		}
		ended, err := k.hasEnded(lctx, c, f.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if ended {
			paths = append(paths, path.Join(catalog.MembersFolder, f.Name))
		}
	}
	return paths, nil
}

// knows says whether a start of this aggregator is still looked after.
func (k *Keeper) knows(start uint32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.members {
		if id.Aggregator == k.o.Identity.Aggregator && id.Start == start {
			return true
		}
	}
	return false
}

// startOf reads the name of an inventory or member file of this aggregator.
func (k *Keeper) startOf(name string) (uint32, bool) {
	start, ok := strings.CutPrefix(name, k.o.Identity.Aggregator+".")
	if !ok {
		return 0, false
	}
	start, ok = strings.CutSuffix(start, jsonSuffix)
	if !ok || len(start) != 8 {
		return 0, false // another aggregator, whose id begins with ours and a dot
	}
	n, err := strconv.ParseUint(start, 16, 32)
	return uint32(n), err == nil
}
