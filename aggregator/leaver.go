package aggregator

// A leaver leaves parts of a call out: those of optional routes that have no
// room, as long as another route takes every message of the category. It is
// made for one reservation, under mu.
type leaver struct {
	s        *scratch
	set      *settings
	reserved int // the first so many parts have their bytes

	// Made when the first part is to be left out.
	of     map[*category][]int32 // by category: the parts of it and of its lanes
	takers map[*category]int     // by category: the route that takes all of its messages
}

// out leaves the good messages of part i out, if that may be. A taker that turns
// out to have no room either is replaced by another one or the call is refused,
// so that in the end each category has a route that leaves nothing out.
func (l *leaver) out(i int) bool {
	p := &l.s.parts[i]
	if p.good.empty() || p.out || !p.c.main.route.Optional {
		return false
	}
	root := p.c.root()
	taker, ok := l.takers[root]
	if !ok || taker == p.c.lane.Route {
		if taker, ok = l.taker(root, p.c.lane.Route); !ok {
			return false
		}
		l.takers[root] = taker
	}
	p.out = true
	return true
}

// taker finds a route of the category, other than this one, that has room for
// all of its messages in the call.
func (l *leaver) taker(root *category, not int) (route int, ok bool) {
	if l.of == nil {
		l.of, l.takers = make(map[*category][]int32), make(map[*category]int)
		for i := range l.s.parts {
			c := l.s.parts[i].c.root()
			l.of[c] = append(l.of[c], int32(i))
		}
	}
	var there, full [maxRoutes]bool
	for _, i := range l.of[root] {
		if p := &l.s.parts[i]; !p.good.empty() {
			there[p.c.lane.Route] = true
			if p.out || int(i) >= l.reserved && l.full(p) {
				full[p.c.lane.Route] = true
			}
		}
	}
	for r := range there {
		if r != not && there[r] && !full[r] {
			return r, true
		}
	}
	return 0, false
}

// full says that the queue of a part has no room for it, or that its chain has
// just failed.
func (l *leaver) full(p *part) bool {
	if p.c.main.until.Load() > int64(l.s.since) {
		return true
	}
	held, limit := p.c.bytes.Load(), int64(l.set.Limits.Queue)
	if l.set.below {
		return held >= limit
	}
	return held > 0 && held+p.charge() > limit
}

// book books what was left out. The reservation has succeeded, so nothing will
// refuse the call any more; mu keeps the accounts from being forgotten, which
// hold no byte of it.
func (l *leaver) book() {
	if l.takers == nil {
		return
	}
	for i := range l.s.parts {
		p := &l.s.parts[i]
		if !p.out {
			continue
		}
		p.c.mu.Lock()
		p.c.used = l.s.since
		p.c.book.leaveOut(p.good.size)
		if p.c.lane.Route > 0 {
			p.c.book.copies += p.good.size.Messages
		}
		p.c.mu.Unlock()
	}
}
