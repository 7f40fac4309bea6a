package store

import (
	"time"

	"go.uber.org/zap"

	"twinscribe/store/cluster"
)

// plan does the moves that nothing has failed for. direct: without warming.
func (f *Failover) plan(now time.Time, direct bool) {
	goal, why := f.goal(now)
	if f.warming >= 0 && f.warming != goal {
		f.rest(f.warming)
		f.warming = -1
	}
	if goal == f.active {
		return
	}
	p := f.places[goal]
	if p.Health != nil && !direct && !p.Place.Warm(f.partition) {
		f.warm(goal, now)
		return
	}
	f.move(goal, why)
}

// warm notes that a move waits for place i. One that takes too long, because
// it has files of others enough, say, or refuses this chain, is left alone for
// a while: another cluster may be better than the buffer.
func (f *Failover) warm(i int, now time.Time) {
	switch {
	case f.warming != i:
		f.warming, f.warmSince = i, now
	case now.Sub(f.warmSince) >= warmPatience*f.o.WriteTimeout:
		f.cool[i].Failed(now)
		f.rest(i)
		f.warming = -1
	}
}

// warmPatience is how many write timeouts a move waits for its place.
const warmPatience = 5

// goal is where the chain should be, and why if that is not the active place.
func (f *Failover) goal(now time.Time) (int, string) {
	h := f.places[f.active].Health
	if h == nil {
		if next, ok := f.nextReady(now); ok {
			return next, WhyBack
		}
		return f.active, ""
	}
	state, drained := h.State(), h.Drained()
	// A suspicion is settled within seconds: an open file waits for that. A
	// chain that has no file yet does not begin one there.
	if drained || state == cluster.Down || (f.last.IsZero() && state != cluster.Healthy) {
		why := WhyDown
		if drained {
			why = WhyDrained
		}
		if next, ok := f.nextReady(now); ok {
			return next, why
		}
		if (drained || f.last.IsZero()) && len(f.fallbacks) > 0 {
			return f.fallbacks[0], why
		}
		return f.active, ""
	}
	if f.o.Prefer == PreferFirst {
		for _, i := range f.clusters {
			if i == f.active {
				break
			}
			if f.ready(i, now) {
				return i, WhyPrefer
			}
		}
	}
	return f.active, ""
}

// nextReady is the first cluster after the active place, in order and from the
// front again, that is ready. After a fallback it is the first one of all.
func (f *Failover) nextReady(now time.Time) (int, bool) {
	for i := range f.after() {
		if f.ready(i, now) {
			return i, true
		}
	}
	return 0, false
}

// after yields all clusters but the active one, in the order in which they are
// asked after it.
func (f *Failover) after() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		from := 0
		if f.places[f.active].Health != nil {
			for from < len(f.clusters) && f.clusters[from] != f.active {
				from++
			}
			from++
		}
		for k := range f.clusters {
			i := f.clusters[(from+k)%len(f.clusters)]
			if i != f.active && !yield(i) {
				return
			}
		}
	}
}

// ready: the cluster is usable, and this chain has not failed there just now
// for a reason of its own (a quota, a permission). As a last resort, when every
// other place has refused, such a cluster is asked all the same.
func (f *Failover) ready(i int, now time.Time) bool {
	return f.places[i].Health.Usable() && !f.cool[i].Active(now)
}

// eligible says whether the active place is asked first. One that is not usable
// is, as long as a working file is open there and nothing speaks against it.
func (f *Failover) eligible(now time.Time) bool {
	p := f.places[f.active]
	if p.Health == nil || f.ready(f.active, now) {
		return true
	}
	return !p.Health.Usable() && p.Health.Acknowledging() && p.Place.Warm(f.partition)
}

// move makes a place the active one. What is open in the old one is sealed.
func (f *Failover) move(to int, why string) {
	from := f.active
	f.active = to
	if f.warming == to {
		f.warming = -1
	}
	f.rest(from)
	f.switched(from, to, why)
}

func (f *Failover) rest(i int) { f.places[i].Place.Rest() }

func (f *Failover) switched(from, to int, why string) {
	now := time.Now()
	f.mu.Lock()
	f.stats.Places[from].Active += now.Sub(f.stats.Since)
	f.stats.Active, f.stats.Since = f.places[to].Name, now
	f.stats.Switches++
	f.mu.Unlock()
	f.o.Log.Debug("switched", zap.String("from", f.places[from].Name), zap.String("to", f.places[to].Name), zap.String("why", why))
	if f.o.Switched != nil {
		f.o.Switched(f.places[from].Name, f.places[to].Name, why)
	}
}

// FailoverStatus is a snapshot for status pages and metrics.
type FailoverStatus struct {
	Active   string
	Since    time.Time // of Active
	Switches int64
	Places   []PlaceStatus // in order
}

// PlaceStatus is what one place of a failover did for its chain.
type PlaceStatus struct {
	Name     string
	Active   time.Duration // time it was the active place
	Batches  int64         // stored there, wholly or in part
	Failures int64         // attempts it did not take, the caller's end excepted
	Error    string        // of the last attempt, if it was not taken
}

// Active is the name of the place that the next batch goes to first.
func (f *Failover) Active() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats.Active
}

// Problem is why the chain is not at a place that it prefers, from that place's
// last refusal until it takes something again; empty: it is there, or prefers none.
func (f *Failover) Problem() string {
	if f.o.Prefer != PreferFirst {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.stats.Places {
		switch {
		case p.Name == f.stats.Active:
			return ""
		case p.Error != "" && !f.places[i].Quiet:
			return p.Error
		}
	}
	return ""
}

// Status is a consistent snapshot.
func (f *Failover) Status() FailoverStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Places = append([]PlaceStatus(nil), s.Places...)
	for i := range s.Places {
		if s.Places[i].Name == s.Active {
			s.Places[i].Active += time.Since(s.Since)
		}
	}
	return s
}
