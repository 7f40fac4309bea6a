package daemon

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/buffer/framed"
	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/replay"
)

const (
	// takeOverAgain is when what could not be taken over is tried again.
	takeOverAgain = time.Minute
	takeOverTick  = 100 * time.Millisecond
	// takeOverIdle is after how many ticks without a message the others have
	// their turn.
	takeOverIdle = 20
)

// A legacy is the files of one base name that an original Scribe has left.
type legacy struct {
	category string      // of its messages, where they do not say so themselves
	files    conf.Framed // with their own folder and base name
	exact    bool        // a line feed stands behind every message, also one that brings its own
}

// takeOver puts what an original Scribe has left in the buffers of chains that
// write to clusters into the one buffer that all of these share, from which it
// is shipped: at the start, and what a reload brings. A file is removed once all
// of it is synced there; a kill before that takes it over again, from its
// beginning at the worst. What fails is told, keeps nothing else waiting, and is
// tried again.
func (s *Server) takeOver(ctx context.Context) {
	for {
		failed := s.takeOverAll(ctx, s.inForce())
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		before := s.notTaken
		s.notTaken = failed
		s.mu.Unlock()
		var again <-chan time.Time
		for path, text := range failed {
			again = time.After(takeOverAgain)
			if before[path] != text {
				s.log.Error("what Scribe has left in a buffer is not taken over; it stays there and is tried again", zap.String("path", path), zap.String("error", text))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.brought:
		case <-again:
		}
	}
}

// takeOverAll takes over all that there is for a configuration, and says what
// failed, by path. It ends early where another configuration is in force.
func (s *Server) takeOverAll(ctx context.Context, cfg *conf.Config) (failed map[string]string) {
	failed = make(map[string]string)
	legacies := s.legacies(cfg, failed)
	for i := range legacies {
		if ctx.Err() != nil || s.inForce() != cfg {
			break
		}
		l := &legacies[i]
		if err := s.takeOverOne(ctx, cfg, l); err != nil {
			failed[filepath.Join(l.files.Path, l.files.Base)] = err.Error()
		}
	}
	return failed
}

// legacies are those that a configuration names, whether or not there is any
// such file. What cannot be looked for goes into failed.
func (s *Server) legacies(cfg *conf.Config, failed map[string]string) (all []legacy) {
	for i := range cfg.Category {
		rule := &cfg.Category[i]
		for _, st := range rule.Each() {
			stores := []conf.Store{st}
			if st.Bucket != nil {
				stores = st.Bucket.Stores
			}
			for j := range stores {
				f := framedBefore(&stores[j])
				if f == nil {
					continue
				}
				some, err := []legacy{{category: named(cfg, rule, f), files: *f}}, error(nil)
				if f.Base == "" {
					if some, err = s.legaciesIn(cfg, rule, f); err != nil {
						failed[f.Path] = err.Error()
					}
				}
				for _, l := range some {
					to := filesOf(&stores[j])
					l.exact = to != nil && to.Scribe != nil && to.Scribe.AddNewlines
					all = append(all, l)
				}
			}
		}
	}
	return all
}

// framedBefore is where an original has left files for a store of clusters; nil: nowhere.
func framedBefore(st *conf.Store) *conf.Framed {
	if f := st.Failover; f != nil && !f.Spooled() {
		if p := f.Places[len(f.Places)-1].Buffer; p != nil {
			return p.Framed
		}
	}
	return nil
}

// legaciesIn looks for folders of categories that the rule gets.
func (s *Server) legaciesIn(cfg *conf.Config, rule *conf.Category, f *conf.Framed) (all []legacy, err error) {
	entries, err := s.fs.ReadDir(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.IsDir() && cfg.RuleOf(e.Name()) == rule {
			own := *f
			own.Path, own.Base = filepath.Join(f.Path, e.Name()), e.Name()
			all = append(all, legacy{category: e.Name(), files: own})
		}
	}
	return all, err
}

// takeOverOne takes over the files of one base name.
func (s *Server) takeOverOne(ctx context.Context, cfg *conf.Config, l *legacy) error {
	list, _, err := framed.List(s.fs, l.files.Path, l.files.Base)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	at := berth{l.category, aggregator.Lane{Part: aggregator.Whole}}
	in, err := s.rescues()
	if err != nil {
		return err
	}
	from := framedOf(&l.files, l.category)
	from.Exact = l.exact // as the chain's own batches in the buffer are
	spool, err := in.Spool(replay.SpoolOptions{Dir: filepath.Join(framedFolder, at.spoolDir()), Place: placeSpool, Framed: from})
	if err != nil {
		return err
	}
	to := &renumbered{to: store.NewBuffer(s.buffer, store.BufferOptions{Reason: buffer.Outage, Place: placeBuffer}), chain: s.aggregator.NextChain(), now: s.now, next: 1}
	r := replay.New(to, spool, replay.Options{Log: s.chainLog.Named("replay")})
	every := time.NewTicker(takeOverTick)
	defer every.Stop()
	st := r.Status()
	for idle := 0; st.State != replay.Streaming && idle < takeOverIdle && ctx.Err() == nil && s.inForce() == cfg; {
		if err := r.Tick(ctx, s.now()); err != nil {
			s.log.Warn("taking over what Scribe has left", zap.String("path", l.files.Path), zap.Error(err))
		}
		select {
		case <-every.C:
		case <-ctx.Done():
		}
		before := st
		st = r.Status()
		if idle++; st.Replayed != before.Replayed || st.Problem+st.Text == "" {
			idle = 0
		}
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Timeouts.Stop)
	defer cancel()
	err = r.Close(end)
	if to.messages > 0 {
		s.log.Info("messages that Scribe has left are in the buffer", zap.String("path", l.files.Path), zap.String("category", l.category), zap.Int64("messages", to.messages))
	}
	st = r.Status()
	if why := cmp.Or(st.Problem, st.Text); err == nil && why != "" {
		err = errors.New(why)
	}
	return err
}

// renumbered gives what an earlier start, or an original, has left to a store
// that keeps messages of this start alone: under a chain and sequences of its
// own. The batches of this start go through as they are.
type renumbered struct {
	to       store.Store
	chain    uint32
	now      func() time.Time
	next     uint64
	messages int64
}

// Append implements store.Store.
func (t *renumbered) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	if b.Origin == nil {
		return t.to.Append(ctx, b)
	}
	own := *b
	own.Chain, own.First, own.Origin = t.chain, t.next, nil
	own.Partition = catalog.Hour.At(t.now())
	own.IDs = slices.Clone(b.IDs)
	for i := range own.IDs {
		own.IDs[i].First += own.First - b.First
	}
	rest, err := t.to.Append(ctx, &own)
	b.Taken = own.Taken
	taken := b.Len()
	if err != nil {
		taken = 0 // unless it says what it took
		if rest != nil {
			taken = b.Len() - rest.Len()
		}
	}
	t.next += uint64(taken)
	t.messages += int64(taken)
	if err != nil {
		return b.After(taken), err
	}
	return nil, nil
}

// Tick implements store.Store.
func (t *renumbered) Tick(ctx context.Context, now time.Time) error { return t.to.Tick(ctx, now) }

// Close implements store.Store.
func (t *renumbered) Close(ctx context.Context) error { return t.to.Close(ctx) }
