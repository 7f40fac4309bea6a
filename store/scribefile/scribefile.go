// Package scribefile writes text files under the names, and in the way, of the
// original Scribe's file store: in place, numbered, with a link to the current
// one, rotated by size and by the local clock, so that tailers and scripts made
// for Scribe's files go on working.
//
// One Files belongs to a process. It gives each chain a store.Place; chains
// that write to one folder under one base name share a writer:
//
//	files := scribefile.New(scribefile.Options{FS: vfs.OS(), Log: log})
//	name := scribefile.FileName(category)
//	place, err := files.Open(scribefile.Spec{
//		Path: filepath.Join("/var/log/scribe", name), Base: name, Symlink: name,
//		Rotate: scribefile.Daily, RotateHour: 1, RotateMinute: 15,
//		MaxSize: 1e9, MaxWriteSize: 1e6, AddNewlines: true,
//	}, "local")
//
// Each Append takes a whole message or none of it: a write that fails is cut
// back to the end of the last whole message. Nothing is held back in memory
// after an Append.
//
// It leaves to others: files on a cluster (store/files), the framed files and
// segments that are sent on later (package buffer), which category goes where.
// docs/formats-scribe.md describes the names and the lines.
package scribefile

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"twinscribe/buffer/vfs"
	"twinscribe/store"
)

// Rotation is what a file's rotation goes by, beside its size.
type Rotation int

// The kinds of rotation. With any but Never the names carry the date.
const (
	Never  Rotation = iota
	Hourly          // when the hour changes
	Daily           // when the day changes
	Every           // so long after the file was begun
)

// A Spec says where and how a chain writes. Its zero numbers mean what they
// say: defaults are the configuration's.
type Spec struct {
	Path         string // folder; made with its parents
	SubDirectory string // below Path; empty: none
	Base         string // what names begin with; see FileName

	Rotate       Rotation
	Every        time.Duration // of Rotate Every
	RotateHour   int           // of Daily: not before this hour of the day
	RotateMinute int           // of Daily and Hourly: not before this minute of the hour
	MaxSize      int64         // a file that is larger is replaced; 0: no limit
	MaxWriteSize int64         // one write takes messages until it is larger; 0: each has its own

	Symlink        string // the link is Symlink + "_current"; empty: none
	WriteMeta      bool   // a replaced file ends with a line that names the next
	WriteCategory  bool   // a line with the category stands before each message
	WriteStats     bool   // each replaced file has a line in scribe_stats
	AddNewlines    bool   // a line feed follows each message
	ChunkSize      int64  // no message crosses a multiple of it unless it is longer; 0: they may
	RotateOnReopen bool   // a file that is there is not appended to, nor one from before the last Reopen

	// Sync has Append answer nil only after fdatasync. Without it nil means that
	// write(2) has returned: the bytes survive the process, not a power cut.
	Sync bool
}

// Options of New. Zero numbers take the values named.
type Options struct {
	FS       vfs.FS
	Location *time.Location   // of names and rotation; time.Local
	Now      func() time.Time // the wall clock; time.Now
	Log      *zap.Logger

	MaxOpen int           // files open at once; above it the longest idle is closed; 1000
	Idle    time.Duration // a file not written to for so long is closed, and goes on when it is; 5 min
}

// Stats of a Files.
type Stats struct {
	Open        int   // descriptors held
	Opened      int64 // files begun or appended to
	Rotations   int64
	Bytes       int64 // written and kept, with everything that is no message
	Messages    int64 // acknowledged
	OpenErrors  int64
	WriteErrors int64 // of write and fdatasync
	Torn        int64 // files left as they are because their end could not be mended
	Lost        int64 // files that were removed or replaced while they were written to
}

// Files holds the files of all chains of a process. Its methods may be called
// by any goroutine.
type Files struct {
	o   Options
	log *zap.Logger

	mu      sync.Mutex // memory only
	writers map[key]*writer
	held    map[*writer]struct{} // those with a descriptor

	scratch sync.Pool // of *scratch

	reopens atomic.Int64 // calls of Reopen

	opened, rotations, bytes, messages, openErrors, writeErrors, torn, lost atomic.Int64
}

// key is what chains share a writer by.
type key struct{ folder, base string }

// New makes a Files. It touches no disk.
func New(o Options) *Files {
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = 1000
	}
	if o.Idle <= 0 {
		o.Idle = 5 * time.Minute
	}
	// A thousand files say the same about a full disk: one line a second of each
	// kind is logged, the figures count them all.
	seldom := zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, 1, 0)
	})
	return &Files{
		o: o, log: o.Log.WithOptions(seldom),
		writers: make(map[key]*writer), held: make(map[*writer]struct{}),
		scratch: sync.Pool{New: func() any { return new(scratch) }},
	}
}

// Open gives the Place of one chain. It touches no disk: the first Append opens
// the file. Several Places may have the same folder and base name: their
// batches then stand one after another in the same files, each as its own spec
// says, and the file is replaced as soon as one of the specs says so. place is
// what the books call it.
func (s *Files) Open(spec Spec, place string) (*Place, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, store.ErrBroken)
	}
	k := key{folder: filepath.Join(spec.Path, spec.SubDirectory), base: spec.Base}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writers[k]
	if w == nil {
		w = &writer{files: s, folder: k.folder, base: k.base, turn: make(chan struct{}, 1)}
		s.writers[k] = w
	}
	w.places++
	return &Place{w: w, spec: spec, name: place}, nil
}

// Reopen is what the original's reinitialize does to its files: whichever has a
// spec that says RotateOnReopen is left, and the next message begins the next
// number. It touches no disk.
func (s *Files) Reopen() { s.reopens.Add(1) }

// check refuses what would leave Path, or could never be a file.
func (s *Spec) check() error {
	switch {
	case s.Path == "" || strings.ContainsRune(s.Path, 0):
		return fmt.Errorf("file_path %q is no folder", s.Path)
	case s.SubDirectory != "" && !filepath.IsLocal(s.SubDirectory) || strings.ContainsRune(s.SubDirectory, 0):
		return fmt.Errorf("sub_directory %q leaves file_path %s: name a folder below it", s.SubDirectory, s.Path)
	case !portable(s.Base):
		return fmt.Errorf("base_filename %q is no name of a file: want 1 to %d bytes without slashes", s.Base, maxBase)
	case s.Symlink != "" && !portable(s.Symlink):
		return fmt.Errorf("base_symlink_name %q is no name of a file: want 1 to %d bytes without slashes", s.Symlink, maxBase)
	case s.MaxSize < 0, s.MaxWriteSize < 0, s.ChunkSize < 0, s.Every < 0, s.Rotate == Every && s.Every == 0:
		return fmt.Errorf("file_path %s: sizes and rotate_period cannot be negative, nor rotate_period nothing", s.Path)
	}
	return nil
}

// Stats is a snapshot.
func (s *Files) Stats() Stats {
	s.mu.Lock()
	open := len(s.held)
	s.mu.Unlock()
	return Stats{
		Open: open, Opened: s.opened.Load(), Rotations: s.rotations.Load(),
		Bytes: s.bytes.Load(), Messages: s.messages.Load(),
		OpenErrors: s.openErrors.Load(), WriteErrors: s.writeErrors.Load(),
		Torn: s.torn.Load(), Lost: s.lost.Load(),
	}
}

// hold counts a descriptor of w, whose turn the caller has, and closes one of
// another writer where there are too many.
func (s *Files) hold(w *writer) error {
	for {
		s.mu.Lock()
		if _, ok := s.held[w]; ok || len(s.held) < s.o.MaxOpen {
			s.held[w] = struct{}{}
			s.mu.Unlock()
			return nil
		}
		others := slices.Collect(maps.Keys(s.held))
		s.mu.Unlock()
		if !closeIdlest(others) {
			return fmt.Errorf("%d files are open, and all are being written to: %w", s.o.MaxOpen, errTooMany)
		}
	}
}

// closeIdlest closes the one of the writers that was not written to for the
// longest time. Whoever has its turn right now is passed over.
func closeIdlest(all []*writer) bool {
	slices.SortFunc(all, func(a, b *writer) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	for _, w := range all {
		select {
		case w.turn <- struct{}{}:
			w.park()
			<-w.turn
			return true
		default:
		}
	}
	return false
}

// letGo says that w holds no descriptor any more.
func (s *Files) letGo(w *writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, w)
}
