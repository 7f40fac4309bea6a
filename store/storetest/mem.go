package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
)

// A Step is what Mem does with one Append. The zero Step takes the batch.
type Step struct {
	Delay time.Duration // passes first, unless ctx ends before
	Hang  bool          // waits for the end of ctx and refuses with its error
	Err   error         // refuses with it
	Take  int           // with Err: so many messages are taken all the same
	Keep  bool          // with Err: the batch is kept, and only the answer is lost
}

// MemOptions of NewMem.
type MemOptions struct {
	// Opening is how long it takes to open a file. It goes on in the background
	// when an Append does not wait for its end. 0: at once.
	Opening time.Duration

	// Observer, if there is one, hears what a kind of cluster would tell it, and
	// is asked whether a file may be begun.
	Observer cluster.Observer
}

// A Kept batch is a copy of what an Append took.
type Kept struct {
	Category  string
	Chain     uint32
	Partition catalog.Partition
	First     uint64
	Messages  []string // without their line feeds
	At        time.Time
}

// Mem is a Place that keeps batches in memory and behaves as it is told. Any
// goroutine may call its methods.
type Mem struct {
	name string
	o    MemOptions

	mu      sync.Mutex
	script  []Step
	always  Step
	kept    []Kept
	file    catalog.Partition // of the file that is open or being opened; empty: none
	ready   time.Time         // when it is open
	closed  bool
	lost    int
	appends int
	opens   int
	rests   int
	ticks   int
}

// NewMem makes one that takes everything.
func NewMem(name string, o MemOptions) *Mem { return &Mem{name: name, o: o} }

// Then has the next Appends take these steps, one each, after those that are
// still to come.
func (m *Mem) Then(steps ...Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = append(m.script, steps...)
}

// Forget drops the steps that are still to come.
func (m *Mem) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = nil
}

// Always has all Appends take this step, except those that Then speaks of.
func (m *Mem) Always(s Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.always = s
}

// SetOpening changes how long the next opening takes.
func (m *Mem) SetOpening(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.o.Opening = d
}

// Kept is what was taken, in order. The caller owns the slice.
func (m *Mem) Kept() []Kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.kept)
}

// Messages are the messages taken, in order.
func (m *Mem) Messages() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []string{}
	for _, k := range m.kept {
		all = append(all, k.Messages...)
	}
	return all
}

// Name is what it calls itself in Taken.
func (m *Mem) Name() string { return m.name }

// Lost is how many batches were kept under an error since the last call.
func (m *Mem) Lost() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.lost
	m.lost = 0
	return n
}

// Calls is how often Append, Rest and Tick were called, and a file was opened.
func (m *Mem) Calls() (appends, opens, rests, ticks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.appends, m.opens, m.rests, m.ticks
}

// Append implements store.Store.
func (m *Mem) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	s, err := m.next()
	if err != nil {
		return b, err
	}
	if b.Len() == 0 {
		return nil, nil
	}
	if err := m.opened(ctx, b.Partition); err != nil {
		return b, fmt.Errorf("%s: open a file: %w", m.name, err)
	}
	if err := s.pass(ctx); err != nil {
		return b, m.fail(ctx, err)
	}
	if s.Err == nil {
		m.keep(b, b.Len())
		b.Taken = append(b.Taken, store.Taken{Place: m.name, Messages: b.Len()})
		if m.o.Observer != nil {
			m.o.Observer.Acknowledged()
		}
		return nil, nil
	}
	if s.Keep {
		m.keep(b, b.Len())
		m.mu.Lock()
		m.lost++
		m.mu.Unlock()
	}
	if s.Take > 0 {
		m.keep(b, s.Take)
		b.Taken = append(b.Taken, store.Taken{Place: m.name, Messages: s.Take})
		b = b.After(s.Take)
	}
	return b, m.fail(ctx, s.Err)
}

func (m *Mem) next() (Step, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Step{}, fmt.Errorf("%s: closed: %w", m.name, store.ErrBroken)
	}
	m.appends++
	if len(m.script) == 0 {
		return m.always, nil
	}
	s := m.script[0]
	m.script = m.script[1:]
	return s, nil
}

// opened waits for the file.
func (m *Mem) opened(ctx context.Context, p catalog.Partition) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	left, err := m.open(p)
	if err != nil {
		return err
	}
	return sleep(ctx, left)
}

// pass takes the time that the step takes.
func (s Step) pass(ctx context.Context) error {
	if s.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return sleep(ctx, s.Delay)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// open begins a file if there is none for p, and says how long it still takes.
func (m *Mem) open(p catalog.Partition) (time.Duration, error) {
	may := m.o.Observer == nil || m.o.Observer.MayBegin()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != p {
		if !may {
			return 0, cluster.ErrHeld
		}
		m.opens++
		m.file, m.ready = p, time.Now().Add(m.o.Opening)
	}
	return max(0, time.Until(m.ready)), nil
}

// fail ends the open file where the error is final for it, and tells the
// observer where the error is the cluster's.
func (m *Mem) fail(ctx context.Context, err error) error {
	if errors.Is(err, cluster.ErrNotTried) || errors.Is(err, cluster.ErrHeld) {
		return err
	}
	m.mu.Lock()
	m.file = ""
	m.mu.Unlock()
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	if m.o.Observer != nil && (late || errors.Is(err, cluster.ErrUnavailable)) {
		m.o.Observer.Failed(err)
	}
	return fmt.Errorf("%s: %w", m.name, err)
}

func (m *Mem) keep(b *store.Batch, n int) {
	k := Kept{Category: b.Category, Chain: b.Chain, Partition: b.Partition, First: b.First, At: time.Now()}
	for i := range n {
		k.Messages = append(k.Messages, string(b.Message(i)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, k)
}

// Tick implements store.Store.
func (m *Mem) Tick(context.Context, time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ticks++
	return nil
}

// Close implements store.Store.
func (m *Mem) Close(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.file = true, ""
	return nil
}

// Warm implements store.Place.
func (m *Mem) Warm(p catalog.Partition) bool {
	left, err := m.open(p)
	return err == nil && left == 0
}

// Rest implements store.Place.
func (m *Mem) Rest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rests++
	m.file = ""
}

// Open says whether a file is open or being opened.
func (m *Mem) Open() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.file != ""
}
