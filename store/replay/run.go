package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
)

// Tick implements store.Store: it lets the primary do what is due, ends the
// wait, and has what waits sent in the background.
func (s *Store) Tick(ctx context.Context, now time.Time) error {
	err := s.tickPrimary(ctx, now)
	paused := s.paused()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	at := time.Now()
	if s.state == Streaming && !s.replaying && s.spool.inherits() {
		s.enter(SendingBuffer, at)
	}
	if s.state == Disconnected && !s.waiting(at) {
		if s.spool.idle() {
			s.enter(Streaming, at) // nothing but the next batch can tell
		} else {
			s.enter(SendingBuffer, at)
		}
	}
	if s.state == SendingBuffer && !s.replaying && !paused {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		s.replaying, s.cancel, s.done = true, cancel, make(chan struct{})
		go s.run(own, s.done)
	}
	return err
}

// tickPrimary leaves it to the replay where that has the primary.
func (s *Store) tickPrimary(ctx context.Context, now time.Time) error {
	select {
	case <-s.use:
		defer func() { s.use <- struct{}{} }()
	default:
		s.mu.Lock()
		s.tickDue = true
		s.mu.Unlock()
		return nil
	}
	return s.primary.Tick(ctx, now)
}

func (s *Store) paused() bool { return s.o.LiveFirst && s.o.Pause != nil && s.o.Pause() }

// The ends of a replay that are no problem of the spool.
var (
	errFailed = errors.New("the primary has failed")
	errPaused = errors.New("new messages come first")
)

// run replays until nothing is left, the primary fails, or ctx ends.
func (s *Store) run(ctx context.Context, done chan struct{}) {
	defer func() {
		s.mu.Lock()
		s.replaying = false
		s.cancel()
		s.mu.Unlock()
		poke(s.gained)
		close(done)
	}()
	for {
		s.mu.Lock()
		seen := s.appends
		s.mu.Unlock()
		err := s.spool.replay(ctx, func(b *store.Batch) (int, error) { return s.send(ctx, b) })
		if err != nil {
			return // who is to hear of it has: failed, or the spool's status; the next Tick tries again
		}
		streams, err := s.settle(ctx, seen)
		if err != nil {
			return
		}
		if !streams {
			continue
		}
		more, err := s.spool.finish(ctx)
		if err != nil && ctx.Err() == nil {
			s.spool.fail(fmt.Errorf("spool %s: close it when all of it is sent: %w", s.spool.dir, err))
		}
		if err != nil || !more || !s.resume() {
			return
		}
	}
}

// send hands a batch of the spool to the primary, and says how many messages of
// it that has.
func (s *Store) send(ctx context.Context, b *store.Batch) (int, error) {
	select {
	case <-s.use:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { s.use <- struct{}{} }()
	if s.paused() {
		return 0, errPaused
	}
	s.mu.Lock()
	state, tick := s.state, s.tickDue
	s.tickDue = false
	s.mu.Unlock()
	if state != SendingBuffer { // a new batch has found out, in its turn
		return 0, errFailed
	}
	if tick {
		if err := s.primary.Tick(ctx, s.spool.all.o.Now()); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("replay: what was due at the primary failed", zap.String("spool", s.spool.dir), zap.Error(err))
		}
	}
	own, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	rest, err := s.primary.Append(own, b)
	if err == nil {
		s.took(int64(len(b.Data)))
		return b.Len(), nil
	}
	n := 0
	if rest != nil {
		n = b.Len() - rest.Len()
	}
	if ctx.Err() != nil {
		return n, ctx.Err()
	}
	s.failed(err, false)
	return n, errFailed
}

// settle ends SENDING_BUFFER where nothing has been spooled since seen. It waits
// for an Append that is on its way.
func (s *Store) settle(ctx context.Context, seen int64) (streams bool, err error) {
	for {
		s.mu.Lock()
		switch {
		case s.state != SendingBuffer:
			s.mu.Unlock()
			return false, errFailed
		case s.appends != seen:
			s.mu.Unlock()
			return false, nil
		case !s.appending:
			now := time.Now()
			took := now.Sub(s.since)
			s.enter(Streaming, now)
			unlogged, log := s.mayLog(now)
			s.mu.Unlock()
			poke(s.gained)
			if log {
				s.o.Log.Info("replay: all that was spooled is sent", zap.String("spool", s.spool.dir), zap.Duration("after", took), zap.Int("unlogged", unlogged))
			}
			return true, nil
		}
		s.mu.Unlock()
		select {
		case <-s.told:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// resume goes back to SENDING_BUFFER: something was spooled after all.
func (s *Store) resume() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Streaming {
		return false
	}
	s.enter(SendingBuffer, time.Now())
	return true
}

// Close implements store.Store. What is in the spool stays there, synced; the
// next start goes on with it.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("replay: close: the replay does not end: %w", ctx.Err())
		}
	}
	return errors.Join(s.spool.close(ctx), s.primary.Close(ctx))
}

// Status is a snapshot of a Store.
type Status struct {
	State State
	Since time.Time // of State

	// Text is the primary's last error, from the moment it refuses something
	// until it takes something again: that messages are safe in the spool
	// meanwhile changes nothing about it. Empty: it works.
	Text string
	// Problem is what is wrong with the spool: a file that cannot be read, say.
	Problem string

	Waiting   int64 // messages in the spool; an estimate where it is damaged, without those of an original Scribe
	Files     int   // of an original Scribe that wait; how many messages are in them is not known
	FileBytes int64 // in these
	Replayed  int64 // messages that the primary has taken out of it
	Retries   int64 // how often DISCONNECTED was entered
	BytesLost int64 // bytes of the spool that were no messages; they are kept aside
}

// Status may be called by any goroutine.
func (s *Store) Status() Status {
	s.mu.Lock()
	t := Status{State: s.state, Since: s.since, Text: s.text, Retries: s.retries}
	s.mu.Unlock()
	p := s.spool
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Files, t.FileBytes = p.files, p.fileBytes
	t.Problem, t.Waiting, t.Replayed, t.BytesLost = p.problem, p.waiting, p.sent, p.lost
	return t
}
