//go:build integration

package integration

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// weather makes something that a server needs come and go.
type weather struct {
	fall  func(n int) // takes something away for a moment and gives it back, for the n-th time
	turn  sync.Mutex  // held while something is away, or all is to stay as it is
	falls int
}

// begin lets it come, until end is called or the test ends. end returns when all is up for good.
func (w *weather) begin(t *testing.T) (end func()) {
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(2000+rand.IntN(4000)) * time.Millisecond):
			}
			w.turn.Lock()
			w.falls++
			w.fall(w.falls)
			w.turn.Unlock()
		}
	}()
	end = sync.OnceFunc(func() { close(stop); <-over })
	t.Cleanup(end)
	return end
}

// hold keeps all up until release is called. It waits until it is.
func (w *weather) hold() (release func()) {
	w.turn.Lock()
	return w.turn.Unlock
}
