package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/cluster"
)

// Options of New.
type Options struct {
	// LiveFirst sends new messages to the primary while the spool is sent
	// (flush_streaming); their order is given up. Without it they queue behind
	// what is spooled.
	LiveFirst bool

	// Pause, with LiveFirst, says whether new messages need the primary alone
	// (buffer_bypass_max_ratio: the queue is above its ratio); the replay then
	// waits for the next Tick. It is called by other goroutines. Nil: never.
	Pause func() bool

	// Retry says how long the primary is left alone after a failure. A refusal
	// that only asks for a pause (store.ErrLater, store.ErrFull,
	// cluster.ErrHeld) waits 1 s instead, doubling up to 30 s, whatever Retry
	// says.
	Retry store.Retry

	// Timeout is what the primary gets for one batch at most; 15 s if 0. Of a
	// batch's own time a second, or half of it where that is less, is kept for
	// the spool.
	Timeout time.Duration

	Log *zap.Logger
}

const (
	defaultTimeout = 15 * time.Second
	spoolTime      = time.Second // of a batch's time, kept for the spool
	mostCatchUp    = time.Second // an Append waits so long at most for the replay to gain on it

	firstLater = time.Second // the first wait after a refusal that asks for a pause
	lastLater  = 30 * time.Second
	logEvery   = 10 * time.Second // of the lines about one store
)

// State is what a Store does with messages.
type State uint8

// The states, under the names that they have in Scribe.
const (
	Streaming State = iota
	Disconnected
	SendingBuffer
)

func (s State) String() string {
	return [...]string{"STREAMING", "DISCONNECTED", "SENDING_BUFFER"}[s]
}

// Store is a replaying buffer: a primary and a spool. It implements
// store.Store.
//
// One goroutine replays, from the first Tick in SENDING_BUFFER on until nothing
// is left or the primary fails; it alone calls the primary then, or with
// LiveFirst in turn with Append, and in turn with Tick. Status may be called by
// any goroutine.
//
// In SENDING_BUFFER, order kept, an Append waits until twice as many bytes were
// sent as the one before has spooled, a second at most: so the spool gets empty
// while messages keep coming, and faster than they come. There is no rate of
// files per check interval (buffer_send_rate) beside that.
type Store struct {
	primary store.Store
	spool   *Spool
	o       Options
	use     chan struct{} // holds one token: whoever has it calls the primary
	told    chan struct{} // one slot: an Append to the spool has ended
	gained  chan struct{} // one slot: the replay has sent something, or has ended

	mu        sync.Mutex
	state     State
	since     time.Time // of state
	closed    bool
	replaying bool
	cancel    context.CancelFunc // of the replay, where there is one
	done      chan struct{}      // closed at its end
	appending bool               // an Append is on its way to the spool
	appends   int64              // that have ended there, one way or the other
	debt      int64              // bytes to send before the next one is spooled
	tickDue   bool               // the primary had no time for its Tick
	wait      store.Wait
	later     time.Duration // the last wait after a refusal that asked for a pause; 0: none was
	laterAt   time.Time     // when it began; zero: wait is what counts
	text      string        // the primary's last error, until it takes something
	retries   int64
	logged    time.Time
	unlogged  int
}

// New makes a chain of a primary and its spool. Both are closed with it. It
// begins with what is in the spool, or in STREAMING where nothing is. It does no
// I/O.
func New(primary store.Store, spool *Spool, o Options) *Store {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Store{
		primary: primary, spool: spool, o: o, wait: o.Retry.Wait(), since: time.Now(),
		use: make(chan struct{}, 1), told: make(chan struct{}, 1), gained: make(chan struct{}, 1),
	}
	s.use <- struct{}{}
	if !spool.idle() {
		s.state = SendingBuffer
	}
	return s
}

// Append implements store.Store. Where nil is returned the primary has b, or the
// spool, or each a part of it. An error means that the rest is with neither,
// unless the disk did not answer. It is the spool's: ErrFull at its limit.
func (s *Store) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	if b.Len() == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return b, fmt.Errorf("replay: %w", err)
	}
	s.catchUp(ctx)
	direct, err := s.begin()
	if err != nil {
		return b, err
	}
	rest := b
	var refused error
	if direct {
		rest, refused = s.direct(ctx, b)
		if refused == nil {
			return nil, nil
		}
		if ctx.Err() != nil {
			s.ended(0) // if the spool was to have it
			return rest, fmt.Errorf("replay: %w", ctx.Err())
		}
		if rest.Len() == 0 { // the primary has all of it, and failed then
			s.ended(0)
			return nil, nil
		}
	}
	taken := b.Taken
	if rest.Len() == b.Len() {
		taken = b.Taken[:0]
	}
	err = s.spool.append(ctx, rest)
	s.ended(int64(len(rest.Data)))
	switch {
	case err == nil:
		b.Taken = append(taken, store.Taken{Place: s.spool.o.Place, Messages: rest.Len()})
		return nil, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("replay: %w (%v)", ctx.Err(), err)
	case refused != nil:
		err = fmt.Errorf("replay: %w (primary: %v)", err, refused)
	default:
		err = fmt.Errorf("replay: %w", err)
	}
	b.Taken = taken
	return rest, err
}

// begin decides where a batch goes first. One for the spool is announced: the
// replay does not end behind its back.
func (s *Store) begin() (direct bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, fmt.Errorf("replay: closed: %w", store.ErrBroken)
	}
	direct = s.state == Streaming || s.state == SendingBuffer && s.o.LiveFirst
	s.appending = !direct
	return direct, nil
}

// ended tells the replay that an Append to the spool is over.
func (s *Store) ended(bytes int64) {
	s.mu.Lock()
	s.appending = false
	s.appends++
	if s.state == SendingBuffer {
		s.debt += 2 * bytes
	}
	s.mu.Unlock()
	poke(s.told)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

var errLeft = errors.New("the primary has failed meanwhile")

// direct hands b to the primary. After a failure the rest is announced to the
// spool, and the state is DISCONNECTED.
func (s *Store) direct(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	select {
	case <-s.use:
	case <-ctx.Done():
		return b, ctx.Err()
	}
	defer func() { s.use <- struct{}{} }()
	s.mu.Lock()
	if s.state == Disconnected { // the replay has failed while this one waited for its turn
		s.appending = true
		s.mu.Unlock()
		return b, errLeft
	}
	s.mu.Unlock()
	own, cancel := context.WithTimeout(ctx, s.budget(ctx))
	defer cancel()
	b.Taken = b.Taken[:0]
	rest, err := s.primary.Append(own, b)
	if err == nil {
		s.took(0)
		return nil, nil
	}
	if rest == nil {
		rest = b
	}
	if ctx.Err() == nil {
		s.failed(err, true)
	}
	return rest, err
}

// budget is the primary's part of a batch's time.
func (s *Store) budget(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return s.o.Timeout
	}
	left := time.Until(end)
	return min(left-min(spoolTime, left/2), s.o.Timeout)
}

// catchUp waits until the replay has gained on what was spooled, or it has ended.
func (s *Store) catchUp(ctx context.Context) {
	most := time.Duration(mostCatchUp)
	if end, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(end)/2)
	}
	var timer *time.Timer
	for s.behind() {
		if timer == nil {
			timer = time.NewTimer(most)
			defer timer.Stop()
		}
		select {
		case <-s.gained:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == SendingBuffer && !s.o.LiveFirst && s.replaying && s.debt > 0
}

// took notes that the primary has taken something, bytes of it from the spool.
func (s *Store) took(bytes int64) {
	s.mu.Lock()
	s.wait.Succeeded()
	s.later, s.text = 0, ""
	s.debt = max(s.debt-bytes, 0)
	s.mu.Unlock()
	poke(s.gained)
}

// failed leaves the primary alone for a while. appending: the messages are on
// their way to the spool.
func (s *Store) failed(err error, appending bool) {
	now := time.Now()
	s.mu.Lock()
	s.appending = s.appending || appending
	s.text = err.Error()
	s.retries++
	if asksForPause(err) {
		s.later = min(max(2*s.later, firstLater), lastLater)
		s.laterAt = now
	} else {
		s.wait.Failed(now)
		s.laterAt = time.Time{}
	}
	s.enter(Disconnected, now)
	retries := s.retries
	unlogged, log := s.mayLog(now)
	s.mu.Unlock()
	poke(s.gained)
	if log {
		s.o.Log.Warn("replay: the primary does not take messages; they go to the spool", zap.String("spool", s.spool.dir),
			zap.Int64("retries", retries), zap.Int("unlogged", unlogged), zap.Error(err))
	}
}

// asksForPause says that the primary works and will take messages soon.
func asksForPause(err error) bool {
	for _, pause := range []error{store.ErrLater, store.ErrFull, cluster.ErrHeld} {
		if errors.Is(err, pause) {
			return true
		}
	}
	return false
}

// mayLog lets a line through now and then, and says how many were left out
// before it; with the mutex held.
func (s *Store) mayLog(now time.Time) (unlogged int, ok bool) {
	if !s.logged.IsZero() && now.Sub(s.logged) < logEvery {
		s.unlogged++
		return 0, false
	}
	unlogged = s.unlogged
	s.logged, s.unlogged = now, 0
	return unlogged, true
}

// enter changes the state; with the mutex held.
func (s *Store) enter(state State, now time.Time) {
	if s.state != state {
		s.since = now
	}
	s.state, s.debt = state, 0
}

// waiting says that the primary is to be left alone; with the mutex held.
func (s *Store) waiting(now time.Time) bool {
	if s.laterAt.IsZero() {
		return s.wait.Active(now)
	}
	return now.Sub(s.laterAt) <= s.later
}
