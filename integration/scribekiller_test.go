//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twinscribe/buffer"
	original "twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs"
	"twinscribe/integration/lab"
	"twinscribe/store/catalog"
	"twinscribe/store/dir"
)

// A scribeKiller is the killer of a server with Scribe's names on two clusters and with spools in
// front of a receiver. N1 and the receiver come and go.
type scribeKiller struct {
	*killer
	receiver *lab.Server
	n1, n2   string // roots
	spools   string // folder
	old      string // folder of what an original has left for category net

	oldFiles  uint64          // left so far
	oldLines  int             // messages in them
	occupied  []string        // paths of the clusters that somebody else has taken
	destroyed map[string]bool // "client message" of category hurt, in records that were damaged
}

func newScribeKiller(t *testing.T, s, receiver *lab.Server, points []string, want, moments int) *scribeKiller {
	k := &scribeKiller{killer: newKiller(t, s, points, want, moments), receiver: receiver, destroyed: map[string]bool{}}
	k.n1, k.n2 = filepath.Join(s.Dir, "n1"), filepath.Join(s.Dir, "n2")
	k.spools, k.old = filepath.Join(s.Dir, "spools"), filepath.Join(s.Dir, "old")
	k.weather.fall = k.fall
	k.usual = "N1 and the receiver flap"
	k.arrangements = []arrangement{
		{[]string{"repair.found-at"}, k.foundAt},
		{[]string{"name.taken"}, k.taken},
		{[]string{"replay.framed"}, k.left},
		{[]string{"replay.set-aside"}, k.damaged},
		{[]string{"replay.sent", "replay.noted"}, k.spooled},
		{[]string{"ship."}, k.shipped},
		{[]string{"name."}, k.calm},
	}
	return k
}

// fall takes N1 or the receiver away for a moment. The receiver is stopped, or killed and started.
func (k *scribeKiller) fall(int) {
	away := time.Duration(500+rand.IntN(2000)) * time.Millisecond
	switch rand.IntN(3) {
	case 0:
		swap(k.t, k.n1)
		time.Sleep(away)
		swap(k.t, k.n1)
	case 1:
		k.receiver.Signal(syscall.SIGSTOP)
		time.Sleep(away)
		k.receiver.Signal(syscall.SIGCONT)
	default:
		k.receiver.Kill()
		time.Sleep(away)
		k.receiver.Launch()
	}
}

// swap takes the root of a cluster away or gives it back, as a file system that is not mounted:
// in the marker's place is a folder then.
func swap(t *testing.T, root string) {
	marker := filepath.Join(root, dir.Marker)
	other := marker + ".away"
	if err := os.Mkdir(other, 0o700); err != nil && !os.IsExist(err) {
		t.Error(err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, marker, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
		t.Error(err)
	}
}

// shipped leaves segments, because both clusters are away, and ships them when they are back: by the
// next start or by a command.
func (k *scribeKiller) shipped(due []string) string {
	defer k.weather.hold()()
	k.live("outage of the clusters", nil, 3*time.Second, func(stop <-chan struct{}) {
		wait(stop, 700*time.Millisecond)
		for _, root := range []string{k.n1, k.n2} {
			swap(k.t, root)
			defer swap(k.t, root)
		}
		wait(stop, 5*time.Second)
	})
	if rand.IntN(2) == 0 {
		return k.ship(due)
	}
	return k.live("segments are shipped", due, 5*time.Second, nil)
}

// spooled fills the spools while the receiver is away, and starts the server when it is back.
func (k *scribeKiller) spooled(due []string) string {
	defer k.weather.hold()()
	k.receiverAway(1)
	return k.live("spools are sent", due, 5*time.Second, nil)
}

// receiverAway is a number of lives without the receiver; the weather is held.
func (k *scribeKiller) receiverAway(lives int) {
	k.receiver.Kill()
	for range lives {
		k.live("receiver away", nil, 2*time.Second, nil)
	}
	k.receiver.Launch()
}

// left leaves a file of an original's, torn in its middle, and starts the server on it.
func (k *scribeKiller) left(due []string) string {
	defer k.weather.hold()()
	k.leave()
	return k.live("files of an original", due, 5*time.Second, nil)
}

// leave is what an original leaves that was killed, started and stopped: half a message stands
// before those of its second start. The server is not running.
func (k *scribeKiller) leave() {
	var b []byte
	for i := range 6 {
		b = framedtest.Append(b, original.OneFrame, "", string(lab.Line(oldClient, k.oldLines+i, scribeSize)))
		if i == 2 {
			b = append(b, 20, 0, 0, 0, 't', 'o', 'r', 'n')
		}
	}
	if _, err := framedtest.AppendFile(vfs.OS(), k.old, "net", k.oldFiles, b); err != nil {
		k.t.Fatal(err)
	}
	k.oldFiles++
	k.oldLines += 6
}

// damaged damages a record in a segment of the spool of hurt, and starts the server on it.
func (k *scribeKiller) damaged(due []string) string {
	defer k.weather.hold()()
	k.receiverAway(2) // the second one seals what the first one has left
	if !k.damage() {
		return ""
	}
	return k.live("damaged segment", due, 6*time.Second, nil)
}

// damage spoils the last record of the last segment that is sealed, and notes what was in it.
func (k *scribeKiller) damage() bool {
	list, err := filepath.Glob(filepath.Join(k.spools, "hurt", "*.seg"))
	if err != nil || len(list) < 2 {
		return false
	}
	slices.Sort(list)
	path := list[len(list)-2]
	var last buffer.Record
	if _, err := buffer.ReadSegment(vfs.OS(), path, func(r *buffer.Record) error {
		last = *r
		last.Data = bytes.Clone(r.Data)
		return nil
	}); err != nil || last.Number == 0 {
		k.t.Fatalf("segment %s, %d records: %v", path, last.Number, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		k.t.Fatal(err)
	}
	at := bytes.Index(content[last.Offset:], last.Data)
	if at < 0 {
		k.t.Fatalf("segment %s: record %d does not hold its messages as they are", path, last.Number)
	}
	content[last.Offset+int64(at)] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		k.t.Fatal(err)
	}
	for line := range bytes.Lines(last.Data) {
		client, n, _ := lab.ParseLine(line)
		k.destroyed[fmt.Sprint(client, n)] = true
	}
	return true
}

// foundAt ends a start between the rename and its record, and starts the server on that.
func (k *scribeKiller) foundAt(due []string) string {
	defer k.weather.hold()()
	if k.live("killed behind a rename", []string{"name.given"}, 8*time.Second, nil) == "" {
		return ""
	}
	return k.live("name given", due, 5*time.Second, nil)
}

// taken ends a start that has told a name and not taken it, has somebody else take it, and starts
// the server on that.
func (k *scribeKiller) taken(due []string) string {
	defer k.weather.hold()()
	if k.live("killed behind a manifest", []string{"name.noted"}, 8*time.Second, nil) == "" || !k.occupy() {
		return ""
	}
	return k.live("name taken", due, 5*time.Second, nil)
}

const strange = "a line of somebody else\n"

// occupy puts a file wherever a manifest tells a name that nothing has yet.
func (k *scribeKiller) occupy() (some bool) {
	for _, root := range []string{k.n1, k.n2} {
		walk(k.t, root, func(path string) {
			if _, form := catalog.ParseName(filepath.Base(path)); form != catalog.FormManifest {
				return
			}
			b, err := os.ReadFile(path)
			if err != nil {
				k.t.Fatal(err)
			}
			m, err := catalog.DecodeManifest(path, b)
			if err != nil || m.At == "" {
				return
			}
			at := filepath.Join(root, m.At)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				k.t.Fatal(err)
			}
			f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if os.IsExist(err) {
				return
			}
			if err != nil {
				k.t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString(strange); err != nil {
				k.t.Fatal(err)
			}
			k.occupied = append(k.occupied, at)
			some = true
		})
	}
	return some
}

// walk gives all files below a folder to f. Those that go away meanwhile are passed over.
func walk(t *testing.T, root string, f func(path string)) {
	t.Helper()
	if err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && e.Type().IsRegular() {
			f(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// waiting are the files whose messages the receiver does not have yet.
func (k *scribeKiller) waiting() (list []string) {
	for _, root := range []string{k.spools, k.old} {
		walk(k.t, root, func(path string) {
			base := filepath.Base(path)
			if filepath.Ext(base) == ".seg" || root == k.old && strings.HasPrefix(base, "net_") && !strings.Contains(base, ".damaged") {
				list = append(list, path)
			}
		})
	}
	return list
}
