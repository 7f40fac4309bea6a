package ship

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

const (
	filePerm   = 0o640
	folderPerm = 0o750

	// firstLook is the file that says what lay in the buffer when this folder
	// was new, of earlier starts: a state folder that is lost may know more.
	firstLook = "first-look.json"
)

// An intent says where a segment goes. It is one file, replaced whole and
// synced.
type intent struct {
	Version int    `json:"version"`
	Segment string `json:"segment"`
	Cluster string `json:"cluster"`
	// Committed: files of it have final names there, or may have.
	Committed bool `json:"committed,omitempty"`
	// Left is what a ship that was given up left on another cluster.
	Left []leftover `json:"left,omitempty"`
}

// A leftover is a file that readers skip and nobody needs.
type leftover struct {
	Cluster string `json:"cluster"`
	Path    string `json:"path"`
}

// look is the content of firstLook.
type look struct {
	Version  int      `json:"version"`
	Segments []string `json:"segments"`
}

func (s *Shipper) intentPath(segment string) string {
	return filepath.Join(s.o.Dir, strings.TrimSuffix(segment, ".seg")+".intent")
}

// prepare makes the folder and takes the first look.
func (s *Shipper) prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := filepath.Join(s.o.Dir, firstLook)
	_, err := s.o.FS.Stat(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := vfs.MkdirAllSync(s.o.FS, s.o.Dir, folderPerm); err != nil {
		return err
	}
	failpoint.Here("ship.folder-made")
	l := look{Version: catalog.Version}
	for _, seg := range s.o.Buffer.Segments() {
		if identity(&seg) != s.o.Identity {
			l.Segments = append(l.Segments, seg.Name)
		}
	}
	return s.store(name, l)
}

func (s *Shipper) store(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return vfs.ReplaceFile(s.o.FS, name, append(b, '\n'), filePerm)
}

// load reads one of our files; false if it is not there.
func (s *Shipper) load(name string, v any) (bool, error) {
	b, err := vfs.ReadFile(s.o.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if head.Version > catalog.Version {
		return false, fmt.Errorf("%s has version %d, this program knows %d: %w", name, head.Version, catalog.Version, catalog.ErrNewer)
	}
	if head.Version < 1 {
		return false, fmt.Errorf("%s: version %d: %w", name, head.Version, catalog.ErrMalformed)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// suspect says whether shipping of a segment may have begun and been
// forgotten. A first look that cannot be read makes all of them suspect.
func (s *Shipper) suspect(segment string) bool {
	var l look
	ok, err := s.load(filepath.Join(s.o.Dir, firstLook), &l)
	return !ok || err != nil || slices.Contains(l.Segments, segment)
}

// decide finds the cluster of a segment and makes that durable.
func (s *Shipper) decide(ctx context.Context, seg *buffer.Segment, parts []*part) (*intent, Target, error) {
	it := &intent{}
	ok, err := s.load(s.intentPath(seg.Name), it)
	if errors.Is(err, catalog.ErrNewer) {
		return nil, Target{}, err
	}
	if ok && it.Segment != seg.Name {
		err = fmt.Errorf("it is of segment %q: %w", it.Segment, catalog.ErrMalformed)
	}
	if err != nil {
		s.o.Log.Error("ship: an intent cannot be read; the clusters are asked instead", zap.String("segment", seg.Name), zap.Error(err))
		ok = false
	}
	if ok {
		return s.goOn(it, parts)
	}
	it = &intent{Version: catalog.Version, Segment: seg.Name}
	if err != nil || s.suspect(seg.Name) {
		return s.comeBack(ctx, it, parts)
	}
	to := s.firstUsable()
	if to == nil {
		return nil, Target{}, ErrWait
	}
	it.Cluster = to.Cluster.Name()
	return it, *to, s.store(s.intentPath(seg.Name), it)
}

// comeBack makes an intent again that was lost, if there was one.
func (s *Shipper) comeBack(ctx context.Context, it *intent, parts []*part) (*intent, Target, error) {
	there, err := s.search(ctx, parts)
	if err != nil {
		return nil, Target{}, err
	}
	if it.Cluster, it.Committed = there, there != ""; there == "" {
		to := s.firstUsable()
		if to == nil {
			return nil, Target{}, ErrWait
		}
		it.Cluster = to.Cluster.Name()
	}
	for _, t := range s.o.Targets { // without a final name, what is there is nobody's
		if name := t.Cluster.Name(); name != it.Cluster {
			it.leave(name, parts)
		}
	}
	if err := s.store(s.intentPath(it.Segment), it); err != nil {
		return nil, Target{}, err
	}
	return s.goOn(it, parts)
}

// leave notes what a ship may have left on a cluster where it made no final
// name.
func (it *intent) leave(cluster string, parts []*part) {
	for _, p := range parts {
		it.Left = append(it.Left, leftover{cluster, p.open()}, leftover{cluster, p.manifest()})
	}
}

// goOn takes up an intent. As long as no final name was made the segment may go
// to another cluster.
func (s *Shipper) goOn(it *intent, parts []*part) (*intent, Target, error) {
	at := slices.IndexFunc(s.o.Targets, func(t Target) bool { return t.Cluster.Name() == it.Cluster })
	if at >= 0 && s.o.Targets[at].Health.Usable() {
		return it, s.o.Targets[at], nil
	}
	to := s.firstUsable()
	switch {
	case it.Committed && at < 0:
		return nil, Target{}, fmt.Errorf("%w: a part of it is on cluster %s, which the configuration does not have: add the cluster again, or write the segment off", ErrWait, it.Cluster)
	case it.Committed:
		return nil, Target{}, fmt.Errorf("%w: a part of it is on cluster %s, which is away or drained", ErrWait, it.Cluster)
	case to == nil:
		return nil, Target{}, ErrWait
	}
	failpoint.Here("ship.to-be-moved")
	it.leave(it.Cluster, parts)
	it.Cluster = to.Cluster.Name()
	it.Left = slices.DeleteFunc(it.Left, func(l leftover) bool { return l.Cluster == it.Cluster }) // it is written again
	return it, *to, s.store(s.intentPath(it.Segment), it)
}

func (s *Shipper) firstUsable() *Target {
	for i := range s.o.Targets {
		if s.o.Targets[i].Health.Usable() {
			return &s.o.Targets[i]
		}
	}
	return nil
}

// search asks every cluster for the final names of a segment. As long as one
// cannot be asked nothing can be said.
func (s *Shipper) search(ctx context.Context, parts []*part) (there string, err error) {
	for i := range s.o.Targets {
		t := &s.o.Targets[i]
		if !t.Health.Reachable() {
			return "", fmt.Errorf("%w: it may have been shipped before the state folder was lost, and cluster %s cannot be asked", ErrWait, t.Cluster.Name())
		}
		for _, p := range parts {
			_, ok, err := s.stat(ctx, t, p.final())
			if err == nil && !ok {
				_, ok, err = s.shippedAt(ctx, t, p)
			}
			if err != nil {
				return "", err
			}
			if !ok {
				continue
			}
			if there != "" {
				return "", fmt.Errorf("%w: files of it are on %s and on %s", ErrConflict, there, t.Cluster.Name())
			}
			there = t.Cluster.Name()
			break
		}
	}
	return there, nil
}

// tidy removes intents of segments that are shipped or gone, after what their
// ships left behind.
func (s *Shipper) tidy(ctx context.Context) {
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if err != nil {
		s.failed("state folder", err)
		return
	}
	open := make(map[string]bool)
	for _, seg := range s.o.Buffer.Segments() {
		if !seg.Shipped {
			open[s.intentPath(seg.Name)] = true
		}
	}
	for _, e := range entries {
		name := filepath.Join(s.o.Dir, e.Name())
		if !strings.HasSuffix(name, ".intent") || open[name] || ctx.Err() != nil {
			continue
		}
		if err := s.forget(ctx, name); err != nil && ctx.Err() == nil {
			s.failed("what a ship left behind cannot be removed yet", err)
		}
	}
}

// forget removes an intent and what it knows to be left behind. What lies on a
// cluster that is away stays until it is back; on one that the configuration
// does not have any more it stays for ever.
func (s *Shipper) forget(ctx context.Context, name string) error {
	var it intent
	if _, err := s.load(name, &it); err != nil {
		return err
	}
	for _, l := range it.Left {
		for _, t := range s.o.Targets {
			if t.Cluster.Name() != l.Cluster {
				continue
			}
			if !t.Health.Usable() {
				return nil
			}
			call, cancel := context.WithTimeout(ctx, s.o.Timeout)
			err := t.Cluster.Remove(call, l.Path)
			cancel()
			if err != nil {
				return err
			}
		}
	}
	if err := s.o.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	failpoint.Here("ship.intent-removed")
	return s.o.FS.SyncDir(s.o.Dir)
}
