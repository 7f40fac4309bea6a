package inventory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

// ErrTwin says that another start lives under our aggregator's id and is none
// of ours: two machines have one id, or a state folder was copied or lost.
var ErrTwin = errors.New("another aggregator lives under this id")

// CheckTwin looks on every cluster that is not drained for the member file of
// a start under our aggregator's id that was touched within 90 s, has not ended
// and is not among our own starts: ErrTwin. A cluster that does not answer has
// no say. It is called before Run, and writes this start's own member file: the
// time that the cluster gives it is what others are compared with, so that our
// clock does not matter.
func (k *Keeper) CheckTwin(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(k.o.Targets))
	for i := range k.o.Targets {
		t := &k.o.Targets[i]
		if t.Health.Drained() {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			now := k.clusterNow(ctx, i)
			twin, err := k.findTwin(ctx, t.Cluster, now)
			if err != nil {
				k.o.Log.Warn("it cannot be seen whether another aggregator has this id",
					zap.String("cluster", t.Cluster.Name()), zap.Error(err))
			}
			if twin != "" {
				errs[i] = fmt.Errorf("%w: %s on %s; give each aggregator an id of its own, or, if its state folder was lost, start again when that file is %v old",
					ErrTwin, twin, t.Cluster.Name(), twinWithin)
			}
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil {
		k.withdraw(ctx)
	}
	return err
}

// withdraw takes this start's member files away again: it does not begin.
func (k *Keeper) withdraw(ctx context.Context) {
	for i := range k.o.Targets {
		t := &k.o.Targets[i]
		if t.Health.Drained() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		if err := t.Cluster.Remove(ctx, catalog.MemberPath(k.o.Identity)); err != nil {
			k.o.Log.Warn("the member file of a start that does not begin stays", zap.String("cluster", t.Cluster.Name()), zap.Error(err))
		}
		cancel()
	}
}

// clusterNow is the cluster's own time, as far as it takes files at all; else ours.
func (k *Keeper) clusterNow(ctx context.Context, i int) time.Time {
	t := &k.o.Targets[i]
	k.mu.Lock()
	file := k.ownFile()
	k.mu.Unlock()
	if err := k.writeMemberTo(ctx, i, k.o.Identity, file); err != nil {
		return k.o.Now()
	}
	info, err := t.Cluster.Stat(ctx, catalog.MemberPath(k.o.Identity))
	if err != nil || info.Modified.IsZero() {
		return k.o.Now()
	}
	return info.Modified
}

// watchTwin is CheckTwin for a cluster that is reached for the first time while
// the server runs already: names stay unique by the start id, so nothing is
// lost, but the operator must know. nil: it was looked at.
func (k *Keeper) watchTwin(ctx context.Context, i int) error {
	c := k.o.Targets[i].Cluster
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	twin, err := k.findTwin(ctx, c, k.clusterNow(ctx, i))
	if err != nil || twin == "" {
		return err
	}
	k.mu.Lock()
	k.stats.Twin = twin
	k.mu.Unlock()
	k.o.Log.Error("another aggregator lives under this id: give each one of its own",
		zap.String("cluster", c.Name()), zap.String("member", twin))
	return nil
}

// findTwin names a living start under our id that is not ours.
func (k *Keeper) findTwin(ctx context.Context, c cluster.Cluster, now time.Time) (string, error) {
	list, err := c.List(ctx, catalog.MembersFolder)
	if err != nil {
		return "", err
	}
	for _, f := range list {
		if f.Folder || !k.strange(f.Name) || now.Sub(f.Modified) >= twinWithin {
			continue
		}
		ended, err := k.hasEnded(ctx, c, f.Name)
		if err != nil {
			return "", err
		}
		if !ended {
			return catalog.MembersFolder + "/" + f.Name, nil
		}
	}
	return "", nil
}

// strange says whether a member file is of our aggregator and of no start of ours.
func (k *Keeper) strange(name string) bool {
	start, own := k.startOf(name)
	if !own || start == k.o.Identity.Start {
		return false
	}
	for _, s := range k.o.Starts {
		if s.Aggregator == k.o.Identity.Aggregator && s.Start == start {
			return false
		}
	}
	return true
}

func (k *Keeper) hasEnded(ctx context.Context, c cluster.Cluster, name string) (bool, error) {
	r, err := c.Open(ctx, catalog.MembersFolder+"/"+name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // taken away meanwhile
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, catalog.MaxMember+1))
	if err != nil {
		return false, err
	}
	m, err := catalog.DecodeMember(c.Name()+":"+name, raw)
	return err == nil && m.Ended, nil // what cannot be read is not known to have ended
}
