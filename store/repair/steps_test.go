package repair

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/journal"
	"twinscribe/store/repair/repairtest"
)

// histories of files that need each kind of step.
var histories = map[string]func(w *world){
	"torn and cut": func(w *world) {
		w.c.Leave(begin(1).OpenPath, text(1, 100), 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 60), line(61, 100)}, Torn: length(int64(60 * size1))}}
	},
	"cut in the background": func(w *world) {
		w.c.TruncateDelay, w.c.RecoverDelay = 2*time.Second, 3*time.Second
		w.c.Leave(begin(1).OpenPath, text(1, 100), 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 60)}, Torn: length(int64(60 * size1))}}
	},
	"half a batch": func(w *world) {
		w.c.Leave(begin(1).OpenPath, text(1, 100)[:80*size1+3], 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 60), line(61, 100)}}}
	},
	"counted": func(w *world) { // only listing tells
		w.c.Leave(begin(1).OpenPath, text(1, 100)[:80*size1+3], 0)
	},
	"empty": func(w *world) {
		w.c.Leave(begin(1).OpenPath, nil, 0)
		w.c.Put(manifestPath(1), []byte("{}"))
		w.states = []journal.FileState{{Begin: begin(1)}}
	},
	"sealed by its writer, unknown to the journal": func(w *world) {
		w.c.Leave(begin(1).OpenPath, text(1, 60), 0)
		w.states = []journal.FileState{{Begin: begin(1), Lines: []catalog.Line{line(1, 20), line(21, 60)}}}
	},
}

// wants says what must have become of the file of a history.
func wants(name string, c *repairtest.Cluster) error {
	if name == "empty" {
		if left := c.Paths(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	}
	data, m, err := readSealed(c, 1)
	if err != nil {
		return err
	}
	want := map[string]int{"counted": 80}[name]
	if want == 0 {
		want = 60
	}
	if string(data) != string(text(1, want)) {
		return fmt.Errorf("%d bytes are left, want %d messages", len(data), want)
	}
	_, err = messages(data, m)
	if err == nil && m.Messages != int64(want) {
		err = fmt.Errorf("%d messages, want %d", m.Messages, want)
	}
	return err
}

var errLost = errors.New("the answer was lost")

// Every call of the cluster is in turn the last one before kill -9, done or not
// done; the next start must end where an undisturbed one does.
func TestRepairMayBeKilledAtEachStep(t *testing.T) {
	eachStep(t, func(w *world, at int, after bool) {
		ctx, cancel := context.WithCancel(context.Background())
		var n atomic.Int32
		w.c.SetFault(func(op, path string, done bool) error {
			if done != after || ctx.Err() != nil {
				return ctx.Err()
			}
			if n.Add(1) == int32(at) {
				cancel()
				return context.Canceled
			}
			return nil
		})
		w.open()
		finished := make(chan struct{})
		go func() { defer close(finished); w.r.Run(ctx) }()
		pass(30 * time.Second)
		cancel()
		<-finished
		w.c.SetFault(nil)
		w.repair()
	})
}

// Every answer is lost once, and repair goes on.
func TestALostAnswerIsSettledByLooking(t *testing.T) {
	eachStep(t, func(w *world, at int, after bool) {
		var n atomic.Int32
		w.c.SetFault(func(op, path string, done bool) error {
			if done != after {
				return nil
			}
			if n.Add(1) == int32(at) {
				if at%2 == 0 {
					return cluster.ErrUnavailable
				}
				return errLost
			}
			return nil
		})
		w.repair()
		if s := w.r.Stats(); s.Repaired+s.Found+s.Removed != 1 {
			w.t.Errorf("stats %+v", s)
		}
	})
}

func eachStep(t *testing.T, disturb func(w *world, at int, after bool)) {
	for name, history := range histories {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				history(w)
				w.c.SetFault(func(_, _ string, done bool) error {
					if !done {
						calls.Add(1)
					}
					return nil
				})
				w.repair()
				if err := wants(name, w.c); err != nil {
					t.Fatalf("undisturbed: %v", err)
				}
			})
			steps := int(calls.Load())
			if steps < 5 {
				t.Fatalf("only %d steps", steps)
			}
			for at := 1; at <= steps; at++ {
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						history(w)
						disturb(w, at, after)
						if err := wants(name, w.c); err != nil {
							t.Errorf("step %d of %d, done %v: %v", at, steps, after, err)
						}
						if it, ok := w.keeper.item("n1", begin(1).Path); ok != (name != "empty") || ok && it.State != catalog.StateSealed {
							t.Errorf("step %d of %d, done %v: the inventory says %+v", at, steps, after, it)
						}
					})
				}
			}
		})
	}
}
