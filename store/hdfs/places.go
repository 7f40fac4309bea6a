package hdfs

import (
	"context"
	"slices"
	"sync"
	"time"
)

// places limits how many begin a block or recover a pipeline at a time: or the
// DataNodes' listen queues overflow. When a node is lost, hundreds of files ask
// at once. Those go first of whose present batch a node may have bytes: their
// files would be torn. Within a lane it is first come, first served.
type places struct {
	mu    sync.Mutex
	free  int
	lanes [2][]chan struct{} // who waits, by lane; a channel is closed when its place is given
}

// The lanes of places.
const (
	laneSent  = iota // a node may have bytes that are not acknowledged
	laneClean        // nothing is lost by waiting
)

func newPlaces(n int) *places { return &places{free: n} }

// take waits for a place. An error says that ctx is over.
func (p *places) take(ctx context.Context, lane int) error {
	p.mu.Lock()
	if p.free > 0 {
		p.free--
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.lanes[lane] = append(p.lanes[lane], turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.lanes[lane], turn)
	if i >= 0 {
		p.lanes[lane] = slices.Delete(p.lanes[lane], i, i+1)
	}
	p.mu.Unlock()
	if i < 0 { // it was given meanwhile
		p.give()
	}
	return crowded(over(ctx, "waiting for a place to begin a block"))
}

func (p *places) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, lane := range p.lanes {
		if len(lane) > 0 {
			close(lane[0])
			p.lanes[i] = lane[1:]
			return
		}
	}
	p.free++
}

// takePlace waits for a place to begin a block or to recover the pipeline. A
// probe needs none: how crowded we are is not what it asks.
func (f *File) takePlace(ctx context.Context) error {
	if f.probe {
		return nil
	}
	lane := laneClean
	if f.sent > f.off {
		lane = laneSent
	}
	err := f.c.starts.take(ctx, lane)
	f.placed = time.Now()
	return err
}

func (f *File) givePlace() {
	if !f.probe {
		f.c.starts.give()
	}
}
