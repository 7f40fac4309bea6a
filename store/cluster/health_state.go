package cluster

import "time"

// condition is the part of Health that its lock guards.
type condition struct {
	since    time.Time // of the state
	switched time.Time // last fall or return; zero: none yet
	proven   time.Time // last good block probe
	flaps    int       // falls that count for the hold-off

	fallen    bool      // a fall is counted that no return has ended yet
	badBlocks int       // failed block probes in a row
	wasDown   bool      // down at some time of this fall
	run       time.Time // when the run of good probes began; zero: not yet
	hold      time.Duration

	// evidence counts bad signs: a good probe that began before the last one
	// refutes nothing.
	evidence uint64

	lastError   error
	lastErrorAt time.Time

	falls, returns       int64
	pings, pingsMissed   int64
	blocks, blocksFailed int64
	in                   [4]time.Duration

	changed chan struct{}
	notes   notes
}

// probed takes the result of a probe. block: a block was written, or would have
// been due. evidence is what the count of bad signs was when the probe began.
func (h *Health) probed(block bool, evidence uint64, err error) {
	alone := !h.o.OtherUsable()
	h.mu.Lock()
	defer h.unlock()
	h.c.count(block, err)
	proof := block || h.Drained()
	switch {
	case err != nil:
		h.bad(proof, err)
	case evidence == h.c.evidence:
		h.good(block, proof, alone)
	}
}

func (c *condition) count(block bool, err error) {
	total, missed := &c.pings, &c.pingsMissed
	if block {
		total, missed = &c.blocks, &c.blocksFailed
	}
	*total++
	if err != nil {
		*missed++
	}
}

func (h *Health) bad(proof bool, err error) {
	h.c.lastError, h.c.lastErrorAt = err, time.Now()
	h.c.evidence++
	blocks := 0
	if proof {
		blocks = 1
	}
	switch h.State() {
	case Healthy, Returning:
		h.doubt("a probe failed", blocks)
	case Suspect:
		if h.c.badBlocks += blocks; h.c.badBlocks >= 2 {
			h.c.wasDown = true
			h.set(Down, "two block probes failed")
		}
	case Down:
	}
}

func (h *Health) good(block, proof, alone bool) {
	now := time.Now()
	if block {
		h.c.proven = now
	}
	if s := h.State(); proof && (s == Suspect || s == Down) {
		h.c.run, h.c.hold = now, h.holdOff(now)
		h.set(Returning, "a block probe was good")
	}
	if h.State() != Returning {
		return
	}
	if proof && h.c.run.IsZero() {
		h.c.run = now
	}
	if !h.c.run.IsZero() && h.holdLeft(now, alone) <= 0 {
		if h.c.fallen {
			h.c.returns++
			h.c.switched = now
			h.c.fallen = false
		}
		h.set(Healthy, "the run of good probes is long enough")
	}
}

// doubt makes the cluster suspect, with badBlocks failed block probes so far.
func (h *Health) doubt(why string, badBlocks int) {
	now := time.Now()
	c := &h.c
	if !c.fallen {
		if now.Sub(c.switched) >= quietAfter {
			c.flaps = 0
		}
		if !h.Drained() {
			c.flaps++
		}
		c.falls++
		c.switched = now
		c.fallen, c.wasDown = true, false
	}
	c.badBlocks = badBlocks
	c.run = time.Time{}
	h.set(Suspect, why)
}

// distrust is for the end of a drain: while it lasted nothing proved that
// blocks can be written.
func (h *Health) distrust() {
	now := time.Now()
	c := &h.c
	proven := c.proven
	if acked := h.lastAcked(); acked.After(proven) {
		proven = acked
	}
	switch h.State() {
	case Healthy:
		if now.Sub(proven) >= h.o.BlockEvery {
			c.run, c.hold = time.Time{}, 0
			h.set(Returning, "drained until now: waits for a block probe")
		}
	case Returning:
		c.run = time.Time{}
	case Suspect, Down:
	}
}

// holdOff is how long the run must be, jitter included, at most HoldMax. It
// needs the lock.
func (h *Health) holdOff(now time.Time) time.Duration {
	c := &h.c
	steps := max(c.flaps, 1)
	if now.Sub(c.switched) >= quietAfter {
		steps = 1
	}
	if c.wasDown {
		steps++
	}
	hold := h.o.HoldOff / shortPart
	if steps >= 2 {
		hold = h.o.HoldOff
	}
	for i := 2; i < steps && hold < h.o.HoldMax; i++ {
		hold *= 2
	}
	hold += time.Duration(h.o.Rand() * float64(hold) / jitterPart)
	return min(hold, h.o.HoldMax)
}

// holdLeft is what the run still lacks. A run that has not begun lacks all.
func (h *Health) holdLeft(now time.Time, alone bool) time.Duration {
	begun := h.c.run
	if begun.IsZero() {
		begun = now
	}
	need := h.c.hold
	if alone {
		need = min(need, holdAlone)
	}
	// No return within a minute of a fall: then no minute has three switches.
	// Only the first fall, which may be a mistake, is forgiven sooner.
	if h.c.fallen && h.c.flaps >= 2 {
		need = max(need, min(h.c.switched.Add(awayAgain).Sub(begun), h.o.HoldMax))
	}
	return need - now.Sub(begun)
}

// set changes the state and tells everybody who waits. It needs the lock.
func (h *Health) set(s State, why string) {
	now := time.Now()
	from := h.State()
	h.c.in[from] += now.Sub(h.c.since)
	h.c.since = now
	h.state.Store(int32(s))
	h.announce()
	h.c.notes.add(change{from: from, to: s, why: why, falls: h.c.falls, hold: h.c.hold, err: h.c.lastError, errAt: h.c.lastErrorAt})
}

// announce closes Changed and has Run look at its schedule.
func (h *Health) announce() {
	close(h.c.changed)
	h.c.changed = make(chan struct{})
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
