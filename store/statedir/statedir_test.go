package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
)

var wall = time.Date(2026, 11, 22, 10, 7, 0, 0, time.UTC)

func options() Options {
	return Options{Host: "web-7.example.org", Now: func() time.Time { return wall }, Log: zap.NewNop()}
}

func mustOpen(t *testing.T, fsys vfs.FS, dir string, o Options) *Dir {
	t.Helper()
	d, err := Open(fsys, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// The state may lie below a folder of files that others read.
func TestOnlyTheStateFolderIsClosedToOthers(t *testing.T) {
	top := t.TempDir()
	if err := os.Mkdir(filepath.Join(top, "usual"), 0o777); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, vfs.OS(), filepath.Join(top, "files", "state")+"/", options())
	mode := func(name string) fs.FileMode {
		info, err := os.Stat(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if got, want := mode("files"), mode("usual"); got != want {
		t.Errorf("the folder around it has mode %v, want %v", got, want)
	}
	if got := mode("files/state"); got != dirPerm {
		t.Errorf("it has mode %v, want %v", got, dirPerm)
	}
}

func TestEachStartHasTheNextEpochAndANewStartID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "state")
	var before []catalog.Identity
	for i := range 5 {
		d := mustOpen(t, vfs.OS(), dir, options())
		id := d.Identity()
		if id.Epoch != uint32(i+1) {
			t.Fatalf("start %d has epoch %d", i+1, id.Epoch)
		}
		var listed []catalog.Identity
		for _, s := range d.Starts() {
			listed = append(listed, s.Identity)
			if !s.Since.Equal(wall) {
				t.Fatalf("since %v, want %v", s.Since, wall)
			}
		}
		if !reflect.DeepEqual(listed, before) {
			t.Fatalf("earlier starts %v, want %v", listed, before)
		}
		for _, b := range before {
			if b.Start == id.Start {
				t.Fatalf("start id %08x was drawn twice", id.Start)
			}
		}
		before = append(before, id)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheDefaultIDIsKeptWhenTheHostIsRenamed(t *testing.T) {
	dir := t.TempDir()
	first := mustOpen(t, vfs.OS(), dir, options())
	id := first.Identity().Aggregator
	if !strings.HasPrefix(id, "web-7.example.org-") || len(id) != len("web-7.example.org-0000") {
		t.Fatalf("id %q is not the host's name and four digits", id)
	}
	first.Close()
	o := options()
	o.Host = "other"
	second := mustOpen(t, vfs.OS(), dir, o)
	if got := second.Identity().Aggregator; got != id {
		t.Fatalf("id %q became %q", id, got)
	}
	second.Close()

	o.ID = "ag1"
	third := mustOpen(t, vfs.OS(), dir, o)
	if got := third.Identity().Aggregator; got != "ag1" {
		t.Fatalf("id %q, want the configured one", got)
	}
	if got := third.Starts()[0].Aggregator; got != id {
		t.Fatalf("the first start is %q, want the id it had: %q", got, id)
	}
}

func TestASecondServerIsRefusedAndToldTheHolder(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, vfs.OS(), dir, options())
	_, err := Open(vfs.OS(), dir, options())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("got %v, want ErrLocked with process id %d", err, os.Getpid())
	}
	v, err := Peek(vfs.OS(), dir)
	if err != nil || v.Epoch != 1 {
		t.Fatalf("a refused open changed the epoch: %+v, %v", v, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	mustOpen(t, vfs.OS(), dir, options())
}

func TestDrainFlagsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, vfs.OS(), dir, options())
	for _, name := range []string{"n2", "n1", "n1"} {
		if err := d.SetDrained(name, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.SetDrained("n2", false); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := d.SetDrained("n2", true); !errors.Is(err, ErrClosed) {
		t.Fatalf("set on a closed folder: %v", err)
	}
	d = mustOpen(t, vfs.OS(), dir, options())
	if !d.Drained("n1") || d.Drained("n2") {
		t.Fatalf("n1 drained %v, n2 drained %v; want true, false", d.Drained("n1"), d.Drained("n2"))
	}
	if v, err := Peek(vfs.OS(), dir); err != nil || !reflect.DeepEqual(v.Drained, []string{"n1"}) {
		t.Fatalf("peek: %+v, %v", v, err)
	}
}

func TestAForgottenStartIsGoneAfterTheNextStart(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		mustOpen(t, vfs.OS(), dir, options()).Close()
	}
	d := mustOpen(t, vfs.OS(), dir, options())
	gone := d.Starts()[1].Identity
	if err := d.Forget(gone); err != nil {
		t.Fatal(err)
	}
	if err := d.Forget(gone); err != nil {
		t.Fatalf("again: %v", err)
	}
	if err := d.Forget(d.Identity()); err == nil {
		t.Fatal("the running start was forgotten")
	}
	d.Close()
	d = mustOpen(t, vfs.OS(), dir, options())
	if got := len(d.Starts()); got != 3 {
		t.Fatalf("%d earlier starts, want 3", got)
	}
	for _, s := range d.Starts() {
		if s.Identity == gone {
			t.Fatalf("%s is still listed", gone)
		}
	}
}

func TestTheListOfStartsIsBoundedAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	core, logs := observer.New(zap.WarnLevel)
	o := options()
	o.MaxStarts, o.Log = 3, zap.New(core)
	for range 6 {
		mustOpen(t, vfs.OS(), dir, o).Close()
	}
	d := mustOpen(t, vfs.OS(), dir, o)
	starts := d.Starts()
	if len(starts) != 3 || starts[0].Epoch != 4 || starts[2].Epoch != 6 {
		t.Fatalf("kept %v, want epochs 4 to 6", starts)
	}
	if logs.Len() != 3 {
		t.Fatalf("%d warnings, want one for each start given up", logs.Len())
	}
}

func TestMistakesAreRefusedByName(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"newer format", `{"version":2,"epoch":"in words"}`, "state.json has format version 2, this program knows 1"},
		{"no version", `{"epoch":3}`, "damaged (version 0)"},
		{"half a file", `{"version":1,"epo`, "damaged"},
		{"empty file", ``, "damaged"},
		{"bad start", `{"version":1,"epoch":1,"starts":[{"aggregator":"ag1","epoch":1,"start":"xyz"}]}`, "ag1.xyz is no start"},
		{"bad aggregator", `{"version":1,"epoch":1,"starts":[{"aggregator":"../x","epoch":1,"start":"00000001"}]}`, "is no start"},
		{"start not as it is written", `{"version":1,"epoch":1,"starts":[{"aggregator":"ag1","epoch":1,"start":"7F3C91D2"}]}`, "ag1.7F3C91D2 is no start"},
		{"kept id that no name can hold", `{"version":1,"id":"../x","epoch":1}`, `damaged (aggregator id "../x"`},
		{"epoch at its end", `{"version":1,"epoch":4294967295}`, "epoch is at its end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, StateFile)
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(vfs.OS(), dir, options())
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("got %v, want the folder and %q", err, c.want)
			}
			if b, _ := os.ReadFile(file); string(b) != c.content {
				t.Fatal("the refused file was changed")
			}
			// The refusal gives the lock back.
			if _, err := Open(vfs.OS(), dir, options()); errors.Is(err, ErrLocked) {
				t.Fatal("the lock was kept")
			}
		})
	}
	if _, err := Peek(vfs.OS(), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("peek into an empty folder: %v", err)
	}
}

func TestIDsThatCannotBeFileNamesAreRefused(t *testing.T) {
	for _, id := range []string{"-a", ".a", "_a", "a/b", "a b", "ä", strings.Repeat("a", 129)} {
		o := options()
		o.ID = id
		if _, err := Open(vfs.OS(), t.TempDir(), o); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
	for host, want := range map[string]string{
		"":                       "host",
		"...":                    "host",
		"_web 1/é":               "web-1",
		"web1":                   "web1",
		strings.Repeat("a", 300): strings.Repeat("a", 64),
	} {
		if got := cleanHost(host); got != want || catalog.CheckAggregator(got+"-0000") != nil {
			t.Errorf("host %q gives %q, want %q", host, got, want)
		}
	}
}

// failingFS fails the n-th call that changes something, and all after it.
type failingFS struct {
	vfs.FS
	left *int
}

var errDisk = errors.New("disk is gone")

func (f failingFS) step() error {
	*f.left--
	if *f.left < 0 {
		return errDisk
	}
	return nil
}

func (f failingFS) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f failingFS) SyncDir(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

func (f failingFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || flag&os.O_CREATE == 0 {
		return file, err
	}
	return failingFile{file, f}, nil
}

type failingFile struct {
	vfs.File
	fs failingFS
}

func (f failingFile) Write(p []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f failingFile) Sync() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

func TestADiskThatFailsAtAnyStepLeavesTheOldStateOrTheNew(t *testing.T) {
	for n := range 20 {
		dir := t.TempDir()
		mustOpen(t, vfs.OS(), dir, options()).Close()
		left := n
		d, err := Open(failingFS{vfs.OS(), &left}, dir, options())
		if err == nil {
			left = n
			wrote := d.SetDrained("n1", true)
			if drained := d.Drained("n1"); drained != (wrote == nil) {
				t.Fatalf("step %d: SetDrained says %v, Drained %v", n, wrote, drained)
			}
			d.Close()
		} else if !errors.Is(err, errDisk) {
			t.Fatalf("step %d: %v", n, err)
		}
		v, perr := Peek(vfs.OS(), dir)
		if perr != nil {
			t.Fatalf("step %d: the state cannot be read: %v", n, perr)
		}
		if v.Epoch < 1 || v.Epoch > 2 || len(v.Starts) != int(v.Epoch) {
			t.Fatalf("step %d: %+v", n, v)
		}
		if err == nil && v.Epoch != 2 {
			t.Fatalf("step %d: open said yes, and the epoch is not on the disk", n)
		}
		next := mustOpen(t, vfs.OS(), dir, options())
		if next.Identity().Epoch != v.Epoch+1 {
			t.Fatalf("step %d: epoch %d after %d", n, next.Identity().Epoch, v.Epoch)
		}
	}
}

func TestAPowerCutAtAnySyncLosesNothingThatWasConfirmed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	disk := memfs.New()
	var epoch uint32
	drained := false
	check := func() {
		for range 4 {
			v, err := Peek(disk.Crash(r), "/lib/state")
			if errors.Is(err, fs.ErrNotExist) && epoch == 0 {
				continue
			}
			if err != nil || v.Epoch < epoch || drained && len(v.Drained) != 1 {
				t.Fatalf("epoch %d, drained %v, and the disk has %+v, %v", epoch, drained, v, err)
			}
		}
	}
	disk.OnSync(check)
	for range 5 {
		d := mustOpen(t, disk, "/lib/state", options())
		epoch = d.Identity().Epoch
		check()
		if err := d.SetDrained("n1", true); err != nil {
			t.Fatal(err)
		}
		drained = true
		check()
		drained = false // it is being taken back: either will do
		if err := d.SetDrained("n1", false); err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
}

func TestFlagsSetByManyAtOnceAreAllKept(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, vfs.OS(), dir, options())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := d.SetDrained(fmt.Sprintf("n%02d", i), true); err != nil {
				t.Error(err)
			}
			d.Drained("n00")
		})
	}
	wg.Wait()
	if v, err := Peek(vfs.OS(), dir); err != nil || len(v.Drained) != 16 {
		t.Fatalf("%v, %v", v.Drained, err)
	}
}
