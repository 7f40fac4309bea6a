package replay

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/framed"
	"twinscribe/buffer/vfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
)

// SpoolsOptions of OpenSpools. Zero fields take the values named.
type SpoolsOptions struct {
	Identity     buffer.Identity // of this start
	MaxBytes     int64           // of all spools below the path together; 50 GiB. 5 % of it are kept for seals
	SegmentBytes int64           // at which a segment is sealed: what is replayed frees the disk so much at a time; 16 MiB
	MinFree      int64           // bytes that stay free on the disk; 5 % of it, at most 1 GiB. Negative: none
	Log          *zap.Logger
	Now          func() time.Time // the wall clock
}

const (
	defaultMaxBytes     = 50 << 30
	defaultSegmentBytes = 16 << 20
	reserveShare        = 20 // one part in so many of MaxBytes is kept
	maxDepth            = 3  // folders of a spool below the path
	segmentExt          = ".seg"
	quarantine          = "quarantine" // folder of a buffer for damaged bytes
	filePerm            = 0o600
	folderPerm          = 0o700
)

// LockFile is the file in a path of spools that tells that it is in use: no
// spool's folder can have its name.
const LockFile = "spools.lock"

// Spools are all spools below one path: they share its lock and its limit. One
// process opens a path once. All methods may be called by many goroutines.
type Spools struct {
	fs   vfs.FS
	path string
	o    SpoolsOptions
	lock vfs.File

	mu    sync.Mutex
	held  map[string]int64 // bytes of each spool's folder, by Dir
	total int64            // of held
	open  map[string]bool  // by Dir: a Spool has it open
	left  map[string]int64 // by Dir: how often a Spool was closed that was not empty
}

// OpenSpools makes the path if need be, takes its lock, and adds up what the
// spools below it hold.
func OpenSpools(fsys vfs.FS, path string, o SpoolsOptions) (*Spools, error) {
	s := &Spools{fs: fsys, path: filepath.Clean(path), o: o, held: map[string]int64{}, open: map[string]bool{}, left: map[string]int64{}}
	if o.Log == nil || o.Now == nil || o.Identity.Aggregator == "" {
		return nil, fmt.Errorf("spools %s: identity, log and clock are needed", path)
	}
	if o.MaxBytes <= 0 {
		s.o.MaxBytes = defaultMaxBytes
	}
	if o.SegmentBytes <= 0 {
		s.o.SegmentBytes = defaultSegmentBytes
	}
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("spools %s: %w", path, err)
	}
	return s, nil
}

func (s *Spools) begin() error {
	if err := vfs.MkdirAllSync(s.fs, s.path, folderPerm); err != nil {
		return err
	}
	lock, err := s.fs.OpenFile(filepath.Join(s.path, LockFile), os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	if err = lock.TryLock(); err == nil {
		err = s.walk(func(dir string, entries []fs.DirEntry) {
			if n := s.bytes(dir, entries); n > 0 {
				s.set(dir, n)
			}
		})
	}
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	s.lock = lock
	return nil
}

// walk calls f for each folder in which a spool can be. The state folder, which
// may lie in the path, has segments that are none of a spool's.
func (s *Spools) walk(f func(dir string, entries []fs.DirEntry)) error {
	var into func(dir string, depth int) error
	into = func(dir string, depth int) error {
		entries, err := s.fs.ReadDir(filepath.Join(s.path, dir))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && depth > 0 {
			return nil // removed meanwhile; or of somebody else
		}
		if err != nil {
			return err
		}
		if depth > 0 {
			f(dir, entries)
		}
		for _, e := range entries {
			passed := depth > 0 && e.Name() == quarantine || depth == 0 && e.Name() == catalog.EngineFolder
			if e.IsDir() && !passed && depth < maxDepth {
				if err := into(filepath.Join(dir, e.Name()), depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return into(".", 0)
}

// bytes is what the files of a spool in this folder take.
func (s *Spools) bytes(dir string, entries []fs.DirEntry) (n int64) {
	for _, e := range entries {
		switch {
		case e.IsDir() && e.Name() == quarantine:
			kept, err := s.fs.ReadDir(filepath.Join(s.path, dir, quarantine))
			if err != nil {
				continue // its owner says so when it opens it
			}
			for _, k := range kept {
				n += size(k)
			}
		case strings.HasSuffix(e.Name(), segmentExt):
			n += size(e)
		}
	}
	return n
}

func size(e fs.DirEntry) int64 {
	if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
		return info.Size()
	}
	return 0
}

// set notes what a spool's folder holds.
func (s *Spools) set(dir string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += n - s.held[dir]
	s.held[dir] = n
}

// take admits n more bytes.
func (s *Spools) take(dir string, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit := s.o.MaxBytes - s.o.MaxBytes/reserveShare; s.total+n > limit {
		return fmt.Errorf("spools %s: %w: %d bytes of %d are in use (max_bytes less 5 %%): mend what they are for, or raise max_bytes",
			s.path, store.ErrFull, s.total, limit)
	}
	s.total += n
	s.held[dir] += n
	return nil
}

// claim makes a folder that of one open Spool.
func (s *Spools) claim(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[dir] {
		return errors.New("another chain has it open: wait until that one is closed")
	}
	s.open[dir] = true
	return nil
}

func (s *Spools) give(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, dir)
}

// leave notes that a spool was closed for good and is not empty: another chain
// may have the same folder by now, and goes on with it.
func (s *Spools) leave(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[dir]++
}

// holds says that there is something in a folder.
func (s *Spools) holds(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[dir] > 0
}

// leavings is how often that was noted.
func (s *Spools) leavings(dir string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[dir]
}

// Bytes is what all spools hold, and the limit.
func (s *Spools) Bytes() (used, most int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.o.MaxBytes
}

// Close gives the lock back. The spools are closed before.
func (s *Spools) Close() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("spools %s: close: %w", s.path, err)
	}
	return nil
}

// A Leftover is a folder with messages that wait to be sent.
type Leftover struct {
	Dir      string // for SpoolOptions
	Category string
	Bytes    int64 // of its segments
	Spooled  bool  // there are segments
	Framed   bool  // there are files of an original Scribe, named after the folder
}

// Leftovers are the folders below a path in which earlier starts, or an original
// Scribe, have left messages, in order of Dir. Whoever starts opens a chain for
// each: a category that is not logged to any more has no other way to be sent. The
// category is that of the first record, or the folder's name where only the
// original's files are there. It only reads, also where the path is in use.
func Leftovers(fsys vfs.FS, path string) ([]Leftover, error) {
	s := &Spools{fs: fsys, path: filepath.Clean(path)}
	var list []Leftover
	err := s.walk(func(dir string, entries []fs.DirEntry) {
		l := Leftover{Dir: dir, Category: filepath.Base(dir)}
		known := false
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), segmentExt) {
				continue
			}
			l.Spooled, l.Bytes = true, l.Bytes+size(e)
			if known {
				continue
			}
			if category, ok := s.categoryOf(filepath.Join(s.path, dir, e.Name())); ok {
				l.Category, known = category, true
			}
		}
		files, _, err := framed.List(s.fs, filepath.Join(s.path, dir), filepath.Base(dir))
		l.Framed = err == nil && len(files) > 0
		if l.Spooled || l.Framed {
			list = append(list, l)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("spools %s: %w", s.path, err)
	}
	slices.SortFunc(list, func(a, b Leftover) int { return cmp.Compare(a.Dir, b.Dir) })
	return list, nil
}

// categoryOf is the category of a segment's first record.
func (s *Spools) categoryOf(path string) (category string, ok bool) {
	f, err := buffer.OpenSegment(s.fs, path)
	if err != nil {
		return "", false
	}
	defer func() { _ = f.Close() }() // it was only read
	_, err = f.Follow(0, 0, 1<<62, func(r *buffer.Record) error {
		category = r.Category
		return errFound
	})
	return category, errors.Is(err, errFound)
}

var errFound = errors.New("found")
