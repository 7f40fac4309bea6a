package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"twinscribe/conf"
	"twinscribe/store"
	"twinscribe/store/network"
	"twinscribe/store/replay"
	"twinscribe/store/scribefile"
)

// placeSpool is how the books call all spools.
const placeSpool = "spool"

// places are what chains share that write to no cluster: connections to other
// servers, local files, and the folders of spools.
type places struct {
	network *network.Pool
	files   *scribefile.Files

	opening singleflight.Group // of spools, by path

	mu     sync.Mutex                // memory only
	spools map[string]*replay.Spools // by path
	open   map[*counted]struct{}     // chains with a spool
	left   chan struct{}             // of one slot: a chain has closed and its spool is not empty
	kept   map[string]bool           // spoolDirs of chains that have their spool of rescued messages open
	past   map[string]spoolCounts    // of those that are closed, by category; "": of the others
}

func (s *Server) openPlaces() {
	s.places = &places{
		network: network.NewPool(network.Options{Identity: s.identity, Log: sparing(s.log).Named("network")}),
		files: scribefile.New(scribefile.Options{
			FS: s.fs, Now: s.now, Log: sparing(s.log).Named("scribe_files"), MaxOpen: max(s.part.local, leastLocal),
		}),
		spools: make(map[string]*replay.Spools),
		open:   make(map[*counted]struct{}),
		past:   make(map[string]spoolCounts),
		kept:   make(map[string]bool),
		left:   make(chan struct{}, 1),
	}
}

// spoolsAt are the spools below a path; nil: nobody has opened them. Those that
// the caller has just opened are noted, unless opened is nil.
func (p *places) spoolsAt(path string, opened *replay.Spools) (*replay.Spools, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spools == nil {
		return nil, fmt.Errorf("spools in %s: the server stops: %w", path, store.ErrBroken)
	}
	if opened != nil {
		p.spools[path] = opened
	}
	return p.spools[path], nil
}

// close gives the spools' folders back, when their chains are closed.
func (p *places) close() error {
	p.mu.Lock()
	open := p.spools
	p.spools = nil
	p.mu.Unlock()
	var errs []error
	for _, s := range open {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func retryOf(r *conf.Retry) store.Retry {
	if r == nil {
		return store.Retry{}
	}
	return store.Retry{
		Fixed: !r.Adaptive, Interval: r.Interval, Range: r.Range,
		Adaptive: r.Adaptive, Min: r.Min, Max: r.Max, Offset: r.Offset,
	}
}

// scribePlace is a chain's place in local files under Scribe's names.
func (s *Server) scribePlace(f *conf.ScribeFiles, category string, stored bool) (*scribefile.Place, error) {
	spec := scribefile.Spec{
		Path: f.FilePath, SubDirectory: f.SubDirectory, Base: f.BaseFilename,
		RotateHour: f.RotateHour, RotateMinute: f.RotateMinute,
		MaxSize: int64(f.MaxSize), MaxWriteSize: int64(f.MaxWriteSize),
		WriteMeta: f.WriteMeta, WriteCategory: f.WriteCategory, WriteStats: f.WriteStats,
		AddNewlines: f.AddNewlines, ChunkSize: int64(f.ChunkSize), RotateOnReopen: f.RotateOnReopen, Sync: stored,
	}
	if f.PerCategory {
		spec.Base = scribefile.FileName(category)
		spec.Path = filepath.Join(f.FilePath, spec.Base)
	} else if spec.Base == "" {
		spec.Base = scribefile.FileName(category)
	}
	if f.Link {
		spec.Symlink = spec.Base
		if f.LinkName != "" {
			spec.Symlink = f.LinkName
		}
	}
	switch f.RotatePeriod {
	case "hourly":
		spec.Rotate = scribefile.Hourly
	case "daily":
		spec.Rotate = scribefile.Daily
	case "never":
		spec.Rotate = scribefile.Never
	default:
		d, err := time.ParseDuration(f.RotatePeriod)
		if err != nil {
			return nil, fmt.Errorf("rotate_period %q: %w: %w", f.RotatePeriod, err, store.ErrBroken)
		}
		spec.Rotate, spec.Every = scribefile.Every, d
	}
	return s.places.files.Open(spec, "files")
}

// networkPlace is a chain's place at another server.
func (s *Server) networkPlace(cfg *conf.Config, n *conf.Network) (*network.Store, error) {
	return s.places.network.Chain(network.Spec{
		Servers: n.Servers, Timeout: n.Timeout, Shared: n.Shared, IgnoreErrors: n.Quiet, BatchIDs: n.BatchIDs,
		MaxFrame: frameFor(cfg),
	}, "network")
}

// frameFor is how long calls to other servers may be: the longest message and
// what stands around it, and never less than what every server takes.
func frameFor(cfg *conf.Config) int { return max(16<<20, int(cfg.Limits.Message)+1<<17) }

// apart says that a store writes neither to clusters nor to the buffer that all
// chains share: what it does not take at a stop is kept for it alone.
func apart(st *conf.Store) bool {
	return st.ScribeFiles != nil || st.Network != nil || st.Failover != nil && st.Failover.Spooled()
}
