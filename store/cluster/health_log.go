package cluster

import (
	"time"

	"go.uber.org/zap"
)

// A change of the state that is to be logged once the lock is free.
type change struct {
	from, to State
	why      string
	falls    int64
	hold     time.Duration
	err      error
	errAt    time.Time
	unlogged int
}

// notes are the changes still to be logged.
type notes struct {
	pending  []change
	sick     time.Time // last line about one unhealthy state becoming another
	unlogged int
}

const sickLogEvery = 30 * time.Second

// add keeps every fall and every return, and of the changes in between one in
// 30 s: a cluster that comes and goes each second must not fill the log.
func (n *notes) add(c change) {
	if c.from != Healthy && c.to != Healthy {
		now := time.Now()
		if !n.sick.IsZero() && now.Sub(n.sick) < sickLogEvery {
			n.unlogged++
			return
		}
		c.unlogged, n.sick, n.unlogged = n.unlogged, now, 0
	}
	n.pending = append(n.pending, c)
}

// unlock frees the lock and then writes what was noted under it.
func (h *Health) unlock() {
	pending := h.c.notes.pending
	h.c.notes.pending = nil
	h.mu.Unlock()
	for _, c := range pending {
		c.log(h.o.Log, h.o.What)
	}
}

func (c change) log(l *zap.Logger, what string) {
	fields := []zap.Field{
		zap.Stringer("from", c.from), zap.Stringer("to", c.to), zap.String("why", c.why),
		zap.Int64("falls", c.falls),
	}
	if c.to == Returning {
		fields = append(fields, zap.Duration("hold", c.hold))
	}
	if c.err != nil {
		fields = append(fields, zap.Time("errorAt", c.errAt), zap.NamedError("lastError", c.err))
	}
	if c.unlogged > 0 {
		fields = append(fields, zap.Int("unlogged", c.unlogged))
	}
	switch {
	case c.from == Healthy && c.to == Suspect:
		l.Warn(what+" left healthy", fields...)
	case c.to == Healthy:
		l.Info(what+" is healthy", fields...)
	default:
		l.Info(what+" state changed", fields...)
	}
}
