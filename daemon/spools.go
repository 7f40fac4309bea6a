package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/replay"
)

// spoolsIn opens the spools below a path, or gives those that are open.
func (s *Server) spoolsIn(path string, most conf.Size) (*replay.Spools, error) {
	p := s.places
	have, err := p.spoolsAt(path, nil)
	if have != nil || err != nil {
		return have, err
	}
	// Not under the places' lock: a disk that hangs must not hold up the status.
	opened, err, _ := p.opening.Do(path, func() (any, error) {
		if have, err := p.spoolsAt(path, nil); have != nil || err != nil {
			return have, err
		}
		opened, err := s.openSpools(path, most)
		if err != nil {
			return nil, err
		}
		if _, err := p.spoolsAt(path, opened); err != nil {
			return nil, errors.Join(err, opened.Close())
		}
		return opened, nil
	})
	if err != nil {
		return nil, err
	}
	return opened.(*replay.Spools), nil
}

func (s *Server) openSpools(path string, most conf.Size) (*replay.Spools, error) {
	if path != s.rescuePath() {
		s.noteUse(path) // a later start looks there, whatever its configuration says
	}
	id := s.identity
	opened, err := replay.OpenSpools(s.fs, path, replay.SpoolsOptions{
		Identity: buffer.Identity{Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.Start},
		MaxBytes: int64(most), Now: s.now, Log: sparing(s.log).Named("spool"),
	})
	if err != nil {
		return nil, fmt.Errorf("spools in %s: %w", path, err)
	}
	return opened, nil
}

// spoolPath is where the spools of a buffer are.
func (s *Server) spoolPath(p *conf.BufferPlace) string {
	if p.Path != "" {
		return filepath.Clean(p.Path)
	}
	return filepath.Join(s.cfg.State, "spool")
}

// spool is that of one chain: at is where it stands among the stores with this
// path, and from where an original has left files for it.
func (s *Server) spool(p *conf.BufferPlace, at berth, from replay.Framed, stored bool) (*replay.Spool, error) {
	in, err := s.spoolsIn(s.spoolPath(p), p.MaxBytes)
	if err != nil {
		return nil, err
	}
	return in.Spool(replay.SpoolOptions{Dir: at.spoolDir(), Sync: stored, Place: placeSpool, Framed: from})
}

// refuser is a primary that takes nothing: what comes goes to the spool.
type refuser struct{}

var errStopping = errors.New("the server stops")

func (refuser) Append(_ context.Context, b *store.Batch) (*store.Batch, error) { return b, errStopping }
func (refuser) Tick(context.Context, time.Time) error                          { return nil }
func (refuser) Close(context.Context) error                                    { return nil }

// rescueSpool is the spool of chains that write to no cluster, for a stop: it
// lies in the state folder, and the next start sends it. It holds what all queues
// can hold, twice.
func (s *Server) rescueSpool() *conf.BufferPlace {
	return &conf.BufferPlace{Path: s.rescuePath(), MaxBytes: max(conf.GiB, 2*s.cfg.Limits.Memory), Order: "keep", LiveBelow: 75}
}

func (s *Server) rescuePath() string { return filepath.Join(s.cfg.State, "rescued") }

// rescues are the spools of that path.
func (s *Server) rescues() (*replay.Spools, error) {
	return s.spoolsIn(s.rescuePath(), s.rescueSpool().MaxBytes)
}

// rescueOf keeps a batch that a chain does not take at a stop: for a store apart
// in a spool that the next start sends from, and where that fails, and for all
// others, in the buffer that all chains share.
func (s *Server) rescueOf(ctx context.Context, st *conf.Store, at berth, r *aggregator.Route, b *store.Batch) error {
	if !apart(st) {
		return s.share(ctx, r, filesOf(st), store.BufferOptions{AnyUsable: func() bool { return anyUsable(s.sites) }, Place: placeBuffer}, b)
	}
	err := errors.New("its spool of an earlier stop takes nothing")
	if s.mayRescue(at) {
		if err = s.rescue(ctx, at, b); err == nil {
			return nil
		}
	}
	if e := s.share(ctx, r, nil, store.BufferOptions{Reason: buffer.Outage, Place: placeBuffer}, b); e != nil {
		return errors.Join(err, e)
	}
	s.chainLog.Error("messages are in the buffer of all chains, which sends nothing to where they belong: "+strandedRemedy(buffer.Outage),
		zap.String("category", at.category), zap.Int("messages", b.Len()), zap.Error(err))
	return nil
}

// strandedRemedy is how messages in the buffer get to a place that is no cluster.
func strandedRemedy(why buffer.Reason) string {
	return fmt.Sprintf("`twinscribe buffer cat --reason %v --category CATEGORY | twinscribe cat CATEGORY` sends them to all stores of its rule;"+
		" afterwards `twinscribe buffer forget SEGMENT` deletes a segment that holds no others", why)
}

// share keeps a batch of a route in the buffer that all chains share, in the
// form in which its chain would.
func (s *Server) share(ctx context.Context, r *aggregator.Route, f *conf.Files, o store.BufferOptions, b *store.Batch) error {
	_, err := text(r, f, store.NewBuffer(s.buffer, o)).Append(ctx, b)
	return err
}

// filesOf are the first files of a store on a cluster; nil: it has none.
func filesOf(st *conf.Store) *conf.Files {
	for _, p := range placesOf(st) {
		if p.Files != nil {
			return p.Files
		}
	}
	return nil
}

// rescue keeps a batch in the chain's spool of rescued messages.
func (s *Server) rescue(ctx context.Context, at berth, b *store.Batch) error {
	spool, err := s.spool(s.rescueSpool(), at, replay.Framed{}, true)
	if err != nil {
		return err
	}
	r := replay.New(refuser{}, spool, replay.Options{Log: zap.NewNop()})
	_, err = r.Append(ctx, b)
	closed := r.Close(ctx)
	if err == nil && closed != nil { // the batch is synced: it must not go anywhere else
		s.log.Warn("the spool of a rescued batch was not closed", zap.String("folder", at.spoolDir()), zap.Error(closed))
		return nil
	}
	return errors.Join(err, closed)
}

// rescued is the spool in which an earlier stop has left something for a chain,
// which then has that spool until it is closed; nil: there is none.
func (s *Server) rescued(at berth) *replay.Spool {
	dir := at.spoolDir()
	var spool *replay.Spool
	_, err := s.fs.Stat(filepath.Join(s.rescuePath(), dir))
	if err == nil {
		spool, err = s.spool(s.rescueSpool(), at, replay.Framed{}, true)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("what an earlier stop has left is not sent by this start", zap.String("folder", dir), zap.Error(err))
	}
	if spool != nil && !spool.Left() {
		spool = nil
	}
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	delete(s.places.kept, dir)
	if spool != nil {
		s.places.kept[dir] = true
	}
	return spool
}

// mayRescue says that a chain has no spool of rescued messages open.
func (s *Server) mayRescue(at berth) bool {
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	return !s.places.kept[at.spoolDir()]
}
