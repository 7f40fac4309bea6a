// Package daemon assembles one running twinscribe from a configuration: state
// folder, clusters with their health, buffer, journal, repair, shipping,
// aggregator, the Thrift and the HTTP listener. It says in which order they
// start and stop, and gives the command line the same parts without a server.
//
// It leaves to others: what each part does. cmd/twinscribe has flags and signals.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/store/catalog"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
	"twinscribe/store/repair"
	"twinscribe/store/ship"
	"twinscribe/store/statedir"
)

// base is what a server and the tools that work without one have in common:
// everything that keeps acknowledged messages, without the way in.
type base struct {
	cfg      *conf.Config
	log      *zap.Logger
	now      func() time.Time
	fs       vfs.FS
	state    *statedir.Dir
	identity catalog.Identity
	sites    []*site
	buffer   *buffer.Buffer
	journal  *journal.Journal
	keeper   *inventory.Keeper
	repairer *repair.Repairer
	shipper  *ship.Shipper
	segments *segmentItems
	dropped  func(*buffer.Segment) // books what was written off; nil: there are no books

	numbers atomic.Uint32 // of files
}

// openBase takes the state folder's lock and opens everything below it. It
// dials nothing. What it opened before an error is closed again.
func openBase(ctx context.Context, cfg *conf.Config, fs vfs.FS, log *zap.Logger, version string) (b *base, err error) {
	b = &base{cfg: cfg, log: log, now: time.Now, fs: fs}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close(ctx))
			b = nil
		}
	}()
	host, err := os.Hostname()
	if err != nil {
		return b, fmt.Errorf("the host's name: %w", err)
	}
	if b.state, err = statedir.Open(b.fs, cfg.State, statedir.Options{ID: cfg.ID, Host: host, Now: b.now, Log: log}); err != nil {
		return b, err
	}
	b.identity = b.state.Identity()
	if b.sites, err = openSites(cfg, b.state, b.fs, log); err != nil {
		return b, err
	}
	var unfinished []journal.FileState
	if b.journal, unfinished, err = journal.Open(b.fs, b.state.Sub("journal"), journal.Options{Identity: b.identity, Now: b.now, Log: log.Named("journal")}); err != nil {
		return b, err
	}
	if b.buffer, err = buffer.Open(b.fs, BufferPath(cfg), bufferOptions(b, cfg)); err != nil {
		return b, err
	}
	if b.keeper, err = inventory.New(b.inventoryOptions(host, version)); err != nil {
		return b, err
	}
	b.repairer = repair.New(b.repairOptions(unfinished))
	b.shipper = ship.New(b.shipOptions())
	b.segments = newSegmentItems(b)
	b.segments.update() // before repair ends the inventories of earlier starts
	return b, nil
}

// BufferPath is the folder of a configuration's buffer.
func BufferPath(cfg *conf.Config) string {
	if cfg.Buffer.Path != "" {
		return cfg.Buffer.Path
	}
	return filepath.Join(cfg.State, "buffer")
}

func bufferOptions(b *base, cfg *conf.Config) buffer.Options {
	return buffer.Options{
		Identity: buffer.Identity{Aggregator: b.identity.Aggregator, Epoch: b.identity.Epoch, Start: b.identity.Start},
		MaxBytes: int64(cfg.Buffer.MaxBytes), SegmentBytes: int64(cfg.Buffer.Segment),
		ReasonLimit: map[buffer.Reason]int64{buffer.DeadLetter: int64(cfg.Buffer.DeadLetters), buffer.Unrouted: int64(cfg.Buffer.Unrouted)},
		Sync:        buffer.Sync(cfg.Buffer.Sync), Keep: cfg.Buffer.Keep, Now: b.now, Log: b.log.Named("buffer"),
	}
}

func (b *base) inventoryOptions(host, version string) inventory.Options {
	return inventory.Options{
		Identity: b.identity, Starts: b.state.Starts(), Targets: b.targets(), FS: b.fs, Dir: b.state.Sub("inventory"),
		Member: catalog.Member{Host: host, Program: version, HTTP: b.cfg.Listen.HTTP},
		Now:    b.now, Log: b.log.Named("inventory"), Forget: b.state.Forget,
		Retention: b.cfg.Retention.Inventory,
	}
}

// runBase starts what keeps acknowledged messages; it ends with ctx.
func (b *base) runBase(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() { b.buffer.Run(ctx) })
	wg.Go(func() { b.keeper.Run(ctx) })
	wg.Go(func() { b.repairer.Run(ctx) })
	wg.Go(func() { b.shipper.Run(ctx) })
}

// closePatience is for what is left to be synced when all else has ended.
const closePatience = 10 * time.Second

// close closes what is open, as far as it was opened.
func (b *base) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	var errs []error
	if b.buffer != nil {
		errs = append(errs, b.buffer.Close(ctx))
	}
	if b.journal != nil {
		errs = append(errs, b.journal.Close(ctx))
	}
	errs = append(errs, closeSites(b.sites))
	if b.state != nil {
		errs = append(errs, b.state.Close())
	}
	return errors.Join(errs...)
}

func (b *base) targets() []inventory.Target {
	var list []inventory.Target
	for _, s := range b.sites {
		list = append(list, inventory.Target{Cluster: s.cluster, Health: s.health, Draining: s.draining.is})
	}
	return list
}

func (b *base) repairOptions(unfinished []journal.FileState) repair.Options {
	names, _ := b.layouts()
	return repair.Options{
		Layout:   names,
		Identity: b.identity, Starts: b.state.Starts(), Targets: b.targets(), States: unfinished, Keeper: b.keeper,
		Now: b.now, Log: sparing(b.log).Named("repair"),
	}
}

func (b *base) shipOptions() ship.Options {
	var targets []ship.Target
	for _, s := range b.sites {
		targets = append(targets, ship.Target{Cluster: s.cluster, Health: s.health})
	}
	_, names := b.layouts()
	return ship.Options{
		Layout:   names,
		Identity: b.identity, Buffer: b.buffer, FS: b.fs, Dir: b.state.Sub("ship"), Targets: targets, Keeper: b.keeper,
		ReplayOutage: func() bool { return b.cfg.Buffer.Replay == "auto" },
		Log:          b.log.Named("ship"), Now: b.now,
	}
}

func (b *base) ship(ctx context.Context, list []buffer.Segment, progress func(ship.Progress)) (Done, error) {
	n, messages, err := b.shipper.Ship(ctx, list, progress)
	return Done{n, messages}, err
}
