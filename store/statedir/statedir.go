// Package statedir keeps what one aggregator must remember from start to
// start: its id, the epoch, the starts it has had, which clusters are drained.
// Its lock makes sure that one process at a time uses the folder, and so that
// every earlier start named in it is dead.
//
// It leaves to others: what lies in the folders below (journal, inventory,
// buffer). docs/formats describes the file.
package statedir

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// Names in the folder.
const (
	StateFile = "state.json"
	LockFile  = "lock"
)

const (
	dirPerm    fs.FileMode = 0o700
	parentPerm fs.FileMode = 0o777 // less the umask
	filePerm   fs.FileMode = 0o600

	// DefaultMaxStarts is how many earlier starts are remembered.
	DefaultMaxStarts = 1024
)

var (
	// ErrLocked says that another process uses the folder.
	ErrLocked = errors.New("in use")

	// ErrClosed is the answer of a Dir after its Close.
	ErrClosed = errors.New("state folder is closed")
)

// Options of Open.
type Options struct {
	ID   string           // the aggregator's id; empty: made of Host and kept
	Host string           // the host's name
	Now  func() time.Time // the wall clock; nil: time.Now
	Log  *zap.Logger

	// MaxStarts bounds the list of starts; 0: DefaultMaxStarts. Beyond it the
	// oldest is given up: files it left open are no longer known as ours.
	MaxStarts int
}

// A Start is one start of an aggregator.
type Start struct {
	catalog.Identity
	Since time.Time
}

// Dir is the state folder of the start that runs, with its lock. Its methods
// may be called by many goroutines at once.
type Dir struct {
	fs       vfs.FS
	path     string
	identity catalog.Identity
	starts   []Start // the earlier ones, oldest first
	lock     vfs.File

	turn chan struct{} // holds a token for the one who writes the file

	mu     sync.Mutex
	state  state // as it is on the disk
	closed bool
}

// Open takes the folder's lock, counts up the epoch and draws a start id. When
// it returns, both are on the disk. The folder is made if need be. The error is
// ErrLocked, with the holder's process id, where a server uses the folder.
func Open(fsys vfs.FS, dir string, o Options) (*Dir, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxStarts <= 0 {
		o.MaxStarts = DefaultMaxStarts
	}
	if o.ID != "" {
		if err := catalog.CheckAggregator(o.ID); err != nil {
			return nil, err
		}
	}
	// What is around it may be somebody else's to read: Scribe's files, say.
	err := vfs.MkdirAllSync(fsys, filepath.Dir(filepath.Clean(dir)), parentPerm)
	if err == nil {
		err = vfs.MkdirAllSync(fsys, dir, dirPerm)
	}
	if err != nil {
		return nil, fmt.Errorf("state folder %s: %w%s", dir, err, elsewhere(err))
	}
	lock, err := takeLock(fsys, dir)
	if err != nil {
		return nil, err
	}
	failpoint.Here("state.locked")
	d := &Dir{fs: fsys, path: dir, lock: lock, turn: make(chan struct{}, 1)}
	if err := d.begin(o); err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

// begin makes the state of this start out of the last one's, and writes it.
func (d *Dir) begin(o Options) error {
	s, err := load(d.fs, d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s = state{Version: Version}
	case err != nil:
		return err
	}
	if s.Epoch == math.MaxUint32 {
		return fmt.Errorf("state folder %s: the epoch is at its end: give the aggregator another id and a new folder", d.path)
	}
	id := o.ID
	if id == "" {
		if s.ID == "" {
			s.ID = fmt.Sprintf("%s-%04x", cleanHost(o.Host), uint16(random()))
		}
		id = s.ID
	}
	if d.starts, err = s.starts(); err != nil {
		return fmt.Errorf("state folder %s: %w", d.path, err)
	}
	s.Epoch++
	d.identity = catalog.Identity{Aggregator: id, Epoch: s.Epoch, Start: random()}
	for slices.ContainsFunc(d.starts, func(e Start) bool { return e.Start == d.identity.Start }) {
		d.identity.Start = random()
	}
	s.Starts = append(s.Starts, startOf(d.identity, o.Now()))
	if over := len(s.Starts) - 1 - o.MaxStarts; over > 0 {
		o.Log.Warn("too many starts are remembered: the oldest are given up, files they left open will not be repaired",
			zap.Int("given_up", over), zap.Int("kept", o.MaxStarts))
		s.Starts, d.starts = s.Starts[over:], d.starts[over:]
	}
	if err := d.write(s); err != nil {
		return err
	}
	d.state = s
	failpoint.Here("state.counted")
	return nil
}

// random is 32 bits nobody can foresee: a state folder that was lost, or
// copied, must not lead to names that were used before.
func random() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process where the system has no randomness
	return binary.LittleEndian.Uint32(b[:])
}

func takeLock(fsys vfs.FS, dir string) (vfs.File, error) {
	name := filepath.Join(dir, LockFile)
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, fmt.Errorf("state folder %s: %w%s", dir, err, elsewhere(err))
	}
	if err := f.TryLock(); err != nil {
		f.Close()
		if !errors.Is(err, vfs.ErrLocked) {
			return nil, fmt.Errorf("state folder %s: lock: %w", dir, err)
		}
		return nil, fmt.Errorf("state folder %s: %w by process %s: stop it, or give this server another folder, with the key state", dir, ErrLocked, holder(fsys, dir))
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("state folder %s: lock: %w", dir, err)
	}
	return f, nil
}

// elsewhere is what helps where the folder cannot be written to.
func elsewhere(err error) string {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR) {
		return ": let this account write there, or name another folder, with the key state"
	}
	return ""
}

// holder is the process id in the lock file. It means something only while the
// lock is held.
func holder(fsys vfs.FS, dir string) string {
	b, err := vfs.ReadFile(fsys, filepath.Join(dir, LockFile))
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" || len(pid) > 20 {
		return "(unknown)"
	}
	return pid
}

// Identity is the start that runs.
func (d *Dir) Identity() catalog.Identity { return d.identity }

// Starts are the earlier starts as they were when this one began, oldest first.
// All of them are dead: nobody else holds the lock.
func (d *Dir) Starts() []Start { return slices.Clone(d.starts) }

// Sub is the path of a folder below; whoever uses it makes it.
func (d *Dir) Sub(name string) string { return filepath.Join(d.path, name) }

// Drained says whether the operator has drained a cluster.
func (d *Dir) Drained(cluster string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.state.Drained, cluster)
}

// SetDrained keeps the flag through restarts: it is on the disk when nil is
// returned, and unchanged for this process otherwise.
func (d *Dir) SetDrained(cluster string, drained bool) error {
	return d.change(func(s *state) bool {
		i := slices.Index(s.Drained, cluster)
		if drained == (i >= 0) {
			return false
		}
		if drained {
			s.Drained = append(slices.Clone(s.Drained), cluster)
			slices.Sort(s.Drained)
		} else {
			s.Drained = slices.Delete(slices.Clone(s.Drained), i, i+1)
		}
		return true
	})
}

// Forget takes an earlier start off the list, once nothing of it is left to
// repair or to deliver. The start that runs cannot be forgotten.
func (d *Dir) Forget(id catalog.Identity) error {
	if id == d.identity {
		return fmt.Errorf("state folder %s: %s is running", d.path, id)
	}
	return d.change(func(s *state) bool {
		i := slices.IndexFunc(s.Starts, func(e start) bool { return e.is(id) })
		if i < 0 {
			return false
		}
		s.Starts = slices.Delete(slices.Clone(s.Starts), i, i+1)
		return true
	})
}

// change writes what edit makes of the state; edit must not change what the
// slices of the old state hold. Writers come one after another.
func (d *Dir) change(edit func(*state) bool) error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	d.mu.Lock()
	s, closed := d.state, d.closed
	d.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if !edit(&s) {
		return nil
	}
	if err := d.write(s); err != nil {
		return err
	}
	d.mu.Lock()
	d.state = s
	d.mu.Unlock()
	return nil
}

// Close gives the lock back. A second Close does nothing.
func (d *Dir) Close() error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("state folder %s: %w", d.path, err)
	}
	return nil
}
