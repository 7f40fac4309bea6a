package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/cluster"
)

var errNoTime = errors.New("not asked: too little of the batch's time is left")

// attempt is one batch on its way through the places.
type attempt struct {
	f     *Failover
	hard  time.Time // the batch is stored or refused by then
	whole *Batch
	rest  *Batch  // nil: all of it is taken
	taken []Taken // by places that took a part
	asked []asked
	held  []asked // clusters that were not asked
	late  bool    // the active place was not, because its time was over
}

// asked is the answer of one place.
type asked struct {
	place int
	err   error // nil: it took what was left
	blame bool  // the place had its chance and failed
}

func newAttempt(ctx context.Context, f *Failover, b *Batch, now time.Time) *attempt {
	since := b.Since
	if since.IsZero() {
		since = now
	}
	a := &attempt{f: f, whole: b, rest: b, hard: since.Add(f.o.WriteTimeout + grace)}
	if end, ok := ctx.Deadline(); ok && end.Before(a.hard) {
		a.hard = end
	}
	return a
}

// run asks one place after the other until the batch is taken or ctx ends.
func (a *attempt) run(ctx context.Context) {
	f := a.f
	var cooling []int // usable, but they failed for this chain just now: asked last
	switch h := f.places[f.active].Health; {
	case f.eligible(time.Now()):
		a.ask(ctx, f.active)
	case h.Usable():
		cooling = append(cooling, f.active)
	default:
		a.hold(f.active)
	}
	for i := range f.after() {
		switch {
		case a.over(ctx):
			return
		case f.ready(i, time.Now()):
			a.ask(ctx, i)
		case f.places[i].Health.Usable():
			cooling = append(cooling, i)
		default:
			a.hold(i)
		}
	}
	for _, i := range f.fallbacks {
		if i != f.active && !a.over(ctx) {
			a.ask(ctx, i)
		}
	}
	for _, i := range cooling {
		if !a.over(ctx) {
			a.ask(ctx, i)
		}
	}
}

func (a *attempt) over(ctx context.Context) bool { return a.rest == nil || ctx.Err() != nil }

func (a *attempt) wasAsked(i int) bool {
	for _, x := range a.asked {
		if x.place == i {
			return true
		}
	}
	return false
}

// hold notes a cluster that is not asked.
func (a *attempt) hold(i int) {
	h := a.f.places[i].Health
	state := h.State().String()
	if h.Drained() {
		state = "drained"
	}
	a.held = append(a.held, asked{place: i, err: fmt.Errorf("%w: %s", cluster.ErrHeld, state)})
}

// budget is what place i gets of the batch's time. A fallback gets more than is
// left where that is little: what it has begun to write is in doubt, and to
// refuse it then would let the client send what is stored a second time.
func (a *attempt) budget(i int) time.Duration {
	left := time.Until(a.hard)
	switch {
	case a.f.places[i].Health == nil:
		return max(left, a.f.o.WriteTimeout)
	case len(a.f.fallbacks) > 0:
		left -= reserve
	}
	return min(left, a.f.o.WriteTimeout)
}

func (a *attempt) ask(ctx context.Context, i int) {
	f := a.f
	p := f.places[i]
	budget := a.budget(i)
	if p.Health != nil && budget < leastTry {
		a.held = append(a.held, asked{place: i, err: errNoTime})
		a.late = a.late || i == f.active
		return
	}
	own, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	b := a.rest
	b.Taken = b.Taken[:0]
	rest, err := p.Place.Append(own, b)
	part := err != nil && rest != nil && rest.Len() < b.Len()
	switch {
	case err == nil:
		a.take(b, nil)
		a.asked = append(a.asked, asked{place: i})
		f.cool[i].Succeeded()
		f.count(i, true, nil)
		return
	case part:
		a.take(b, rest)
	default:
		b.Taken = b.Taken[:0]
	}
	if ctx.Err() != nil {
		return
	}
	f.count(i, part, err)
	x := asked{place: i, err: err, blame: blame(own, err, budget, f.o.WriteTimeout)}
	a.asked = append(a.asked, x)
	if p.Health != nil && x.blame && p.Health.Usable() {
		f.cool[i].Failed(time.Now())
	}
	f.warn(p.Name, err)
}

// take notes who took b, or all of b but rest. Places that take a batch whole
// have said so in b itself already.
func (a *attempt) take(b, rest *Batch) {
	if b != a.whole || rest != nil || len(a.taken) > 0 {
		a.taken = append(a.taken, b.Taken...)
		a.whole.Taken = a.taken
	}
	a.rest = rest
}

// blame says whether the place itself failed. It did not if nothing was tried,
// if it works and asks for a pause, or if it had less than half of the time that
// it is entitled to: it may be opening a file, which the next batch finds.
func blame(ctx context.Context, err error, budget, entitled time.Duration) bool {
	if errors.Is(err, cluster.ErrNotTried) || errors.Is(err, cluster.ErrHeld) || errors.Is(err, ErrLater) {
		return false
	}
	return ctx.Err() == nil || budget >= entitled/2
}

// settle decides, after a batch was taken, where the next one goes first: the
// first place in the order asked that took it or is not to blame for not having
// taken it. The others that were asked are left.
func (f *Failover) settle(a *attempt) {
	if a.late {
		return // nothing is known against the active place
	}
	taker := a.asked[len(a.asked)-1].place
	to := taker
	for _, x := range a.asked {
		h := f.places[x.place].Health
		if x.err == nil || (!x.blame && h != nil && h.Usable()) {
			to = x.place
			break
		}
	}
	for _, x := range a.asked {
		if x.place != to && x.place != taker && x.place != f.active {
			f.rest(x.place)
		}
	}
	if to == f.active {
		return
	}
	why := WhyUnusable
	if a.wasAsked(f.active) {
		why = WhyFailed
	}
	f.move(to, why)
}

// refusal is the error of a batch that nobody took.
func (a *attempt) refusal() error {
	all := append(append([]asked(nil), a.asked...), a.held...)
	decides := len(all) - 1
	for i, x := range a.asked {
		if !errors.Is(x.err, ErrBroken) {
			decides = i
		}
	}
	var others []string
	for i, x := range all {
		if i != decides {
			others = append(others, named(a.f.places[x.place].Name, x.err).Error())
		}
	}
	x := all[decides]
	err := named(a.f.places[x.place].Name, x.err)
	if len(others) == 0 {
		return fmt.Errorf("failover: no place took the batch: %w", err)
	}
	return fmt.Errorf("failover: no place took the batch: %w (others: %s)", err, strings.Join(others, "; "))
}

func (f *Failover) count(i int, took bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.stats.Places[i]
	if took {
		s.Batches++
	}
	if err != nil {
		s.Failures++
		s.Error = err.Error()
	} else {
		s.Error = ""
	}
}

// warn logs why a place did not take a batch that another one may take: the
// error is not seen anywhere else then.
func (f *Failover) warn(place string, err error) {
	if skipped, ok := f.limit.allow(time.Now()); ok {
		f.o.Log.Warn("a place did not take a batch", zap.String("place", place), zap.Int("unlogged", skipped), zap.Error(err))
	}
}

// logLimit lets one line through in 10 s.
type logLimit struct {
	at      time.Time
	skipped int
}

func (l *logLimit) allow(now time.Time) (skipped int, ok bool) {
	if !l.at.IsZero() && now.Sub(l.at) < 10*time.Second {
		l.skipped++
		return 0, false
	}
	skipped = l.skipped
	l.at, l.skipped = now, 0
	return skipped, true
}
