package files

import (
	"context"
	"time"

	"go.uber.org/zap"

	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// A publication makes what a file has so far visible while it stays open.
type publication struct {
	f        *file
	manifest *catalog.Manifest
}

type pubState int

const (
	pubNone pubState = iota
	pubAsked
	pubFailed
)

// publish asks for a publication of all that is acknowledged, unless one is
// under way. It is called by the chain.
func (r *Root) publish(f *file) {
	f.mu.Lock()
	if f.pub == pubAsked {
		f.mu.Unlock()
		return
	}
	f.pub, f.since = pubAsked, f.unpublished
	f.mu.Unlock()
	f.unpublished = time.Time{}
	r.publishers.put(&publication{f: f, manifest: f.held.Snapshot()})
}

// publishOne is a publisher's work.
func (r *Root) publishOne(ctx context.Context, p *publication) {
	f := p.f
	f.mu.Lock()
	if f.left { // it is being sealed, which shows more
		f.pub = pubNone
		f.mu.Unlock()
		return
	}
	f.pubEnd = make(chan struct{})
	f.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, r.o.WriteTimeout) // it is tried again
	defer cancel()
	err := f.w.Publish(ctx)
	if err == nil {
		failpoint.Here("publish.told")
		f.record(catalog.StateOpen, p.manifest)
		failpoint.Here("publish.recorded")
		r.published.Add(1)
	} else {
		r.log.Debug("the length of an open file is not published yet", zap.String("file", f.begin.OpenPath), zap.Error(err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pub = pubNone
	if err != nil {
		f.pub = pubFailed
	}
	close(f.pubEnd)
	f.pubEnd = nil
}

// pubSettle takes back a publication that failed: its messages are still to be
// made visible. It is called by the chain.
func (f *file) pubSettle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pub == pubFailed {
		f.pub = pubNone
		f.unpublished = f.since
	}
}

// whenPublished waits for a publication under way: a file is not sealed beside
// it, and the inventory hears of what becomes of the file after it.
func (f *file) whenPublished(ctx context.Context) error {
	f.mu.Lock()
	end := f.pubEnd
	f.mu.Unlock()
	if end == nil {
		return nil
	}
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
