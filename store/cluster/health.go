package cluster

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// HealthOptions of NewHealth. Zero durations take the defaults named here.
type HealthOptions struct {
	Every        time.Duration // from one probe's begin to the next one's at most: 1 s
	HoldOff      time.Duration // the run of good probes that a cluster needs to come back the first time: 15 s
	HoldMax      time.Duration // what it grows to, doubling with each fall: 15 min
	ProbeTimeout time.Duration // of one probe: 2 s
	BlockEvery   time.Duration // without an acknowledgement a block is written this often: 10 s
	SickEvery    time.Duration // the same at most while the cluster is not healthy: 2 s

	Drained bool // start drained

	// OtherUsable says whether any other cluster takes new files. While none
	// does, no run needs to be longer than 30 s, or what is left of a minute
	// since the cluster came back last. Nil: there is no other. It is
	// called without a lock and must not wait.
	OtherUsable func() bool

	// Rand gives the jitter of the hold-off and of the time between two probes,
	// in [0, 1). Any goroutine may call it. Nil: math/rand.
	Rand func() float64

	What string // what the log calls it; "cluster" if empty
	Log  *zap.Logger
}

const (
	holdAlone  = 30 * time.Second // the longest run asked for while no other cluster is usable
	awayAgain  = time.Minute      // from its second fall on a cluster stays away at least so long, HoldMax at most
	quietAfter = time.Hour        // without a switch: falls before it are forgotten
	jitterPart = 5                // the jitter is at most this part of the hold-off, on top
	shortPart  = 5                // a first, refuted suspicion needs this part of HoldOff
)

func (o HealthOptions) withDefaults() HealthOptions {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&o.Every, time.Second},
		{&o.HoldOff, 15 * time.Second},
		{&o.HoldMax, 15 * time.Minute},
		{&o.ProbeTimeout, 2 * time.Second},
		{&o.BlockEvery, 10 * time.Second},
		{&o.SickEvery, 2 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	o.HoldMax = max(o.HoldMax, o.HoldOff)
	if o.What == "" {
		o.What = "cluster"
	}
	if o.OtherUsable == nil {
		o.OtherUsable = func() bool { return false }
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return o
}

// Health is what is known of one cluster. All chains share it, and it outlives
// the Cluster that reports to it: a reload keeps it. It is the Observer of a
// Cluster; Run probes. All methods may be called by any goroutine, and none of
// them waits except Run.
//
// A healthy cluster becomes suspect at the first bad sign: Failed, or a missed
// probe of either kind. Two failed block probes in a row, the one that raised
// the suspicion included, make it down. The first good block probe that began
// after the last bad sign makes it returning; any bad sign then makes it
// suspect again. A run of good probes without a bad sign makes it healthy: 15 s
// after the first fall, doubled for each further one, until an hour has passed
// without a switch; from the second fall on a minute passes before the return.
// A suspicion that never became down counts as a fall, but its run is one step
// shorter: 3 s for the first one.
//
// While a cluster is drained, pings stand for block probes and falls are not
// counted: its servers are being restarted on purpose. Afterwards only a good
// block probe proves that it can be used.
type Health struct {
	name string
	o    HealthOptions
	born time.Time

	// Read by every batch, therefore without the lock.
	state   atomic.Int32
	drained atomic.Bool
	acked   atomic.Int64 // nanoseconds from born to the last acknowledgement; 0: none
	failing atomic.Bool  // Failed came after the last acknowledgement

	wake chan struct{} // of one slot: something changed that Run schedules by

	mu sync.Mutex
	c  condition
}

// NewHealth makes the health of the cluster name, healthy until shown otherwise.
func NewHealth(name string, o HealthOptions) *Health {
	o = o.withDefaults()
	now := time.Now()
	h := &Health{name: name, o: o, born: now, wake: make(chan struct{}, 1)}
	h.o.Log = o.Log.With(zap.String(o.What, name))
	h.drained.Store(o.Drained)
	h.c = condition{since: now, proven: now, changed: make(chan struct{})}
	return h
}

// Acknowledged implements Observer. It costs two atomic operations.
func (h *Health) Acknowledged() {
	h.acked.Store(max(1, int64(time.Since(h.born))))
	if h.failing.Load() {
		h.failing.Store(false)
	}
}

// Failed implements Observer.
func (h *Health) Failed(err error) {
	h.failing.Store(true)
	h.mu.Lock()
	defer h.unlock()
	h.c.lastError, h.c.lastErrorAt = err, time.Now()
	h.c.evidence++
	if s := h.State(); s == Healthy || s == Returning {
		h.doubt("an append or a block start failed", 0)
	}
}

// MayBegin implements Observer. It is true on a returning cluster too: what
// repair writes there are blocks; chains go by Usable.
func (h *Health) MayBegin() bool { return h.Reachable() && !h.Drained() }

// Doubtful implements Observer.
func (h *Health) Doubtful() bool { return !h.Reachable() }

// State is the state now.
func (h *Health) State() State { return State(h.state.Load()) }

// Usable says that chains may begin files there: healthy and not drained.
func (h *Health) Usable() bool { return h.State() == Healthy && !h.Drained() }

// Reachable says that repair, reading and inventories go on there: healthy or
// returning. Whoever writes asks for Drained as well.
func (h *Health) Reachable() bool {
	s := h.State()
	return s == Healthy || s == Returning
}

// Acknowledging says that no append and no block start has failed since the
// last acknowledgement of real traffic. On a cluster that is not usable it
// tells a file that may go on from one that most likely hangs.
func (h *Health) Acknowledging() bool { return !h.failing.Load() }

// Drained says that an operator wants nothing of ours written there.
func (h *Health) Drained() bool { return h.drained.Load() }

// SetDrained sets or takes back the operator's flag. After it is taken back the
// cluster is usable when a block probe says so, at once if real traffic or a
// probe did within the last BlockEvery.
func (h *Health) SetDrained(drained bool) {
	h.mu.Lock()
	defer h.unlock()
	if h.drained.Swap(drained) == drained {
		return
	}
	if !drained {
		h.distrust()
	}
	h.announce()
}

// Changed is closed at the next change of the state or of the drain flag.
func (h *Health) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.c.changed
}

// HealthStatus is a snapshot for status pages and metrics.
type HealthStatus struct {
	Name    string
	State   State
	Drained bool
	Since   time.Time // of State

	// HoldLeft is how much of the run is still to come if every probe is good; 0
	// unless returning.
	HoldLeft time.Duration

	LastError   error // nil: none yet
	LastErrorAt time.Time

	Falls   int64 // healthy to anything else
	Returns int64 // back to healthy

	Pings, PingsMissed   int64
	Blocks, BlocksFailed int64 // block probes

	In [4]time.Duration // time spent in each State
}

// Switches is how often the cluster became usable or ceased to be.
func (s HealthStatus) Switches() int64 { return s.Falls + s.Returns }

// Status is a consistent snapshot.
func (h *Health) Status() HealthStatus {
	alone := !h.o.OtherUsable()
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	s := HealthStatus{
		Name: h.name, State: h.State(), Drained: h.Drained(), Since: h.c.since,
		LastError: h.c.lastError, LastErrorAt: h.c.lastErrorAt,
		Falls: h.c.falls, Returns: h.c.returns,
		Pings: h.c.pings, PingsMissed: h.c.pingsMissed,
		Blocks: h.c.blocks, BlocksFailed: h.c.blocksFailed,
		In: h.c.in,
	}
	s.In[s.State] += now.Sub(s.Since)
	if s.State == Returning {
		s.HoldLeft = max(0, h.holdLeft(now, alone))
	}
	return s
}
