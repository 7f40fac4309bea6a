//go:build integration

package integration

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// weather makes a cluster come and go: its DataNode or its NameNode frozen for seconds, or killed
// and started again.
type weather struct {
	h     *lab.Hadoop
	end   func()     // returns when the cluster is up for good
	turn  sync.Mutex // held while the cluster is away, or is to stay as it is
	falls int
	pids  map[string]int // of its processes
}

func pidsOf(h *lab.Hadoop) map[string]int {
	return map[string]int{"nn": h.Pid("nn"), "dn1": h.Pid("dn1")}
}

// newWeather begins at once and ends with the test.
func newWeather(t *testing.T, h *lab.Hadoop) *weather {
	w := &weather{h: h, pids: pidsOf(h)}
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(2000+rand.IntN(4000)) * time.Millisecond):
			}
			w.fall(t)
		}
	}()
	w.end = sync.OnceFunc(func() { close(stop); <-over })
	t.Cleanup(w.end)
	return w
}

// hold keeps the cluster up until release is called. It waits until it is.
func (w *weather) hold() (release func()) {
	w.turn.Lock()
	return w.turn.Unlock
}

func (w *weather) fall(t *testing.T) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.falls++
	who := []string{"nn", "dn1"}[rand.IntN(2)]
	if w.falls%pick(100, 40) == 0 {
		w.h.Do(who, "kill")
		for try := 0; ; try++ {
			w.h.Do(who, "start") // nothing, if it lives
			err := w.h.TryWait(1, 2*time.Minute)
			if err == nil {
				w.pids[who] = w.h.Pid(who)
				return
			}
			if try == 3 {
				t.Errorf("%s %s is started, and the cluster does not come up: %v", w.h.Name, who, err)
				return
			}
			t.Logf("%s %s did not come up, it is started again: %v", w.h.Name, who, err)
		}
	}
	pid := w.pids[who]
	w.h.Signal(pid, syscall.SIGSTOP)
	time.Sleep(time.Duration(800+rand.IntN(2500)) * time.Millisecond)
	w.h.Signal(pid, syscall.SIGCONT)
}
