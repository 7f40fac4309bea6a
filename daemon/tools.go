package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/store/repair"
	"twinscribe/store/ship"
	"twinscribe/store/statedir"
)

// ErrServed says that a server holds the state folder: it does by itself, or
// when it is asked over HTTP, what a tool would do.
var ErrServed = statedir.ErrLocked

// Tools repair and ship without a server, under the state folder's lock. They
// are for one goroutine.
type Tools struct {
	*base
	life   context.Context //nolint:containedctx // of the goroutines in wg, which Close ends
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wrote  bool // inventories, or is about to
}

// OpenTools takes the state folder. With ErrServed a server has it.
func OpenTools(ctx context.Context, cfg *conf.Config, log *zap.Logger, version string) (*Tools, error) {
	b, err := openBase(ctx, cfg, vfs.OS(), log, version)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &Tools{base: b, life: life, cancel: cancel}
	probe(life, b.sites, &t.wg)
	return t, nil
}

// write has the inventories written from here on. Without it this start leaves
// nothing on any cluster.
func (t *Tools) write() {
	if !t.wrote {
		t.wrote = true
		t.wg.Go(func() { t.keeper.Run(t.life) })
	}
}

// Close writes what the inventories have to say and gives the state folder back.
func (t *Tools) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	var err error
	if t.wrote {
		t.segments.update()
		t.keeper.End(t.identity)
		err = t.keeper.Flush(ctx)
	}
	t.cancel()
	t.wg.Wait()
	return errors.Join(err, t.close(ctx))
}

// Repair is repair.RepairAll. A dry run changes nothing on the clusters.
func (t *Tools) Repair(ctx context.Context, dryRun bool, report func(repair.Report)) error {
	if !dryRun {
		t.write()
	}
	return t.repairer.RepairAll(ctx, dryRun, report)
}

// Ship uploads segments as sealed files. It can be called again after any end.
func (t *Tools) Ship(ctx context.Context, c Choice, progress func(ship.Progress)) (Done, error) {
	t.write()
	return t.base.Ship(ctx, c, progress)
}

// Forget writes segments off: their messages are dropped by order.
func (t *Tools) Forget(ctx context.Context, c Choice) (Done, error) {
	t.write()
	return t.base.Forget(ctx, c)
}

// A Choice says which segments are meant: those named, or those of a reason.
type Choice struct {
	Reason   string
	Segments []string
}

// find gives the segments of a choice that are not on a cluster yet. Without a
// reason and names these are the outages and spills.
func (b *base) find(c Choice) (list []buffer.Segment, err error) {
	var wanted []buffer.Reason
	switch {
	case c.Reason == "all":
		wanted = reasons
	case c.Reason != "":
		for _, r := range reasons {
			if r.String() == c.Reason {
				wanted = []buffer.Reason{r}
			}
		}
		if wanted == nil {
			return nil, fmt.Errorf("%w reason %q: want spill, outage, unrouted, dead-letter or all", errUnknown, c.Reason)
		}
	case len(c.Segments) == 0:
		wanted = []buffer.Reason{buffer.Spill, buffer.Outage}
	default:
		wanted = reasons
	}
	missing := slices.Clone(c.Segments)
	for _, seg := range b.buffer.Segments() {
		named := len(c.Segments) == 0 || slices.Contains(c.Segments, seg.Name)
		missing = slices.DeleteFunc(missing, func(n string) bool { return n == seg.Name })
		if named && !seg.Shipped && slices.Contains(wanted, seg.Reason) {
			list = append(list, seg)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w segments: %s", errUnknown, strings.Join(missing, ", "))
	}
	return list, nil
}

// Done is what a ship or a forget did.
type Done struct {
	Segments int   `json:"segments"`
	Messages int64 `json:"messages"`
}

// Ship uploads segments as sealed files. It can be called again after any end.
func (b *base) Ship(ctx context.Context, c Choice, progress func(ship.Progress)) (Done, error) {
	if err := b.sealOpen(ctx); err != nil {
		return Done{}, err
	}
	list, err := b.find(c)
	if err != nil {
		return Done{}, err
	}
	return b.ship(ctx, list, progress)
}

// Forget writes segments off: their messages are dropped by order.
func (b *base) Forget(ctx context.Context, c Choice) (d Done, err error) {
	if c.Reason == "" && len(c.Segments) == 0 {
		return d, errors.New("say which segments, or --reason")
	}
	if err := b.sealOpen(ctx); err != nil {
		return d, err
	}
	list, err := b.find(c)
	if err != nil {
		return d, err
	}
	for _, seg := range list {
		n, err := b.buffer.Forget(seg.Name)
		if err != nil {
			return d, err
		}
		b.log.Warn("a segment was written off by order", zap.String("segment", seg.Name), zap.Int64("messages", n))
		if b.dropped != nil {
			b.dropped(&seg)
		}
		d.Segments++
		d.Messages += n
	}
	b.segments.update()
	return d, nil
}

// sealOpen ends the segments being written, so that they can be moved.
func (b *base) sealOpen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs []error
	for _, r := range reasons {
		errs = append(errs, b.buffer.Seal(ctx, r))
	}
	return errors.Join(errs...)
}
