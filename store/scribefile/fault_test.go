package scribefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/store"
)

// specs are the ways in which a message can be written.
func specs() map[string]Spec {
	lines := webSpec()
	bare, categories, chunks, small, synced := lines, lines, lines, lines, lines
	bare.AddNewlines = false
	categories.WriteCategory = true
	chunks.ChunkSize = 16
	small.MaxWriteSize = 8
	synced.Sync = true
	return map[string]Spec{"lines": lines, "bare": bare, "categories": categories, "chunks": chunks, "small-writes": small, "synced": synced}
}

// whole is what a file has to hold once all messages are in it.
func wholeFile(t *testing.T, spec Spec, messages []string) string {
	t.Helper()
	if len(messages) == 0 {
		return ""
	}
	r := newRig(t, Options{})
	r.put(r.open(spec), messages...)
	return r.read("/logs/web/web_00000")
}

var five = []string{"first", "second message", "", "the third", "4"}

func TestADiskThatIsFullAtAnyByteLeavesWholeMessagesOnce(t *testing.T) {
	for name, spec := range specs() {
		t.Run(name, func(t *testing.T) {
			want := wholeFile(t, spec, five)
			for space := range int64(len(want)) {
				r := newRig(t, Options{})
				p := r.open(spec)
				r.fsys.Set(faultfs.NoSpace(space))
				left, err := r.refused(p, five...)
				if !errors.Is(err, store.ErrFull) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "File write error: /logs/web/web_00000") {
					t.Fatalf("%d bytes of space: %v", space, err)
				}
				got := r.read("/logs/web/web_00000")
				if taken := wholeFile(t, spec, five[:5-left]); got != taken {
					t.Fatalf("%d bytes of space, %d messages taken: the file holds %q", space, 5-left, got)
				}
				if more := wholeFile(t, spec, five[:5-left+1]); int64(len(more)) <= space {
					t.Fatalf("%d bytes of space: only %d messages are taken", space, 5-left)
				}
				r.fsys.Set(nil)
				r.put(p, five[5-left:]...)
				if got := r.read("/logs/web/web_00000"); got != want {
					t.Fatalf("%d bytes of space, then the rest: %q, want %q", space, got, want)
				}
				if s := r.files.Stats(); s.Messages != 5 || s.Bytes != int64(len(want)) || s.WriteErrors != 1 || s.Torn != 0 {
					t.Fatalf("figures: %+v", s)
				}
			}
		})
	}
}

func TestATornEndThatCannotBeCutStaysAndTheNextNumberIsBegun(t *testing.T) {
	for name, spec := range specs() {
		t.Run(name, func(t *testing.T) {
			want := wholeFile(t, spec, five)
			for space := range int64(len(want)) {
				r := newRig(t, Options{})
				p := r.open(spec)
				r.fsys.Set(faultfs.Any(faultfs.NoSpace(space), faultfs.On(faultfs.Truncate, "", syscall.EIO)))
				left, _ := r.refused(p, five...)
				torn := r.read("/logs/web/web_00000")
				r.fsys.Set(nil)
				r.put(p, five[5-left:]...)
				whole := wholeFile(t, spec, five[:5-left])
				if torn == whole { // there was nothing to cut
					continue
				}
				if !strings.HasPrefix(torn, whole) || r.read("/logs/web/web_00000") != torn {
					t.Fatalf("%d bytes of space, %d messages taken: the file holds %q", space, 5-left, torn)
				}
				if got, rest := r.read("/logs/web/web_00001"), wholeFile(t, spec, five[5-left:]); got != rest {
					t.Fatalf("the next file holds %q, want %q", got, rest)
				}
				if s := r.files.Stats(); s.Torn != 1 || s.Messages != 5 {
					t.Fatalf("figures: %+v", s)
				}
			}
		})
	}
}

func TestNothingIsAnsweredThatWasNotSynced(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.Sync = true
	p := r.open(spec)
	r.put(p, "synced")
	if got, err := vfs.ReadFile(r.disk.Crash(nil), "/logs/web/web_00000"); string(got) != "synced\n" {
		t.Fatalf("after a power cut: %q, %v", got, err)
	}
	r.fsys.Set(faultfs.On(faultfs.Sync, "", syscall.EIO))
	left, err := r.refused(p, "not", "synced")
	if left != 2 || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "File write error") {
		t.Fatalf("%d left: %v", left, err)
	}
	r.fsys.Set(nil)
	r.put(p, "not", "synced")
	want := map[string]string{"web_00000": "synced\n", "web_00001": "not\nsynced\n"}
	r.holds("/logs/web", want)
	if s := r.files.Stats(); s.Bytes != 18 || s.Messages != 3 || s.WriteErrors != 1 || s.Torn != 0 {
		t.Errorf("figures: %+v", s)
	}
	crashed := newRigOn(t, r.disk.Crash(nil), Options{})
	crashed.holds("/logs/web", want)
}

func TestASyncThatFailsInTheMiddleTakesBackOnlyWhatFollowed(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.Sync, spec.MaxSize = true, 5
	p := r.open(spec)
	syncs := 0
	r.fsys.Set(func(op faultfs.Op) error {
		if op.Kind == faultfs.Sync {
			if syncs++; syncs == 2 {
				return syscall.EIO
			}
		}
		return nil
	})
	left, _ := r.refused(p, "111111", "222222", "333333")
	if left != 2 {
		t.Fatalf("%d messages are left", left)
	}
	r.put(p, "222222", "333333")
	r.holds("/logs/web", map[string]string{
		"web_00000": "111111\n", "web_00001": "", "web_00002": "222222\n", "web_00003": "333333\n", "web_00004": "",
	})
}

func TestWhatCanNeitherBeSyncedNorCutOffStandsTwiceAndIsNotLost(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.Sync = true
	p := r.open(spec)
	r.fsys.Set(faultfs.Any(faultfs.On(faultfs.Sync, "", syscall.EIO), faultfs.On(faultfs.Truncate, "", syscall.EIO)))
	if left, _ := r.refused(p, "one", "two"); left != 2 {
		t.Fatalf("%d messages are left", left)
	}
	r.fsys.Set(nil)
	r.put(p, "one", "two")
	r.holds("/logs/web", map[string]string{"web_00000": "one\ntwo\n", "web_00001": "one\ntwo\n"})
	if s := r.files.Stats(); s.Torn != 1 || s.Messages != 2 {
		t.Errorf("figures: %+v", s)
	}
}

func TestFoldersAreDurableBeforeAnythingIsAnswered(t *testing.T) {
	spec := webSpec()
	spec.Sync, spec.Path = true, "/a/b/c"
	for fails := 1; ; fails++ {
		r := newRig(t, Options{})
		p := r.open(spec)
		r.fsys.Set(faultfs.Nth(fails, faultfs.On(faultfs.SyncDir, "", syscall.EIO)))
		b := []string{"one"}
		if _, err := p.Append(r.ctx(), batchOf(b)); err == nil {
			if fails < 5 {
				t.Fatalf("only %d syncs of folders", fails-1)
			}
			return
		}
		r.put(p, b...)
		if got, err := vfs.ReadFile(r.disk.Crash(nil), "/a/b/c/web_00000"); string(got) != "one\n" {
			t.Fatalf("sync %d failed, then a power cut: %q, %v", fails, got, err)
		}
	}
}

// TestNothingIsAnsweredInAFolderThatCannotBeMadeDurable has a parent that may be
// written to but not read, so that nobody can sync the folder that was made in it.
func TestNothingIsAnsweredInAFolderThatCannotBeMadeDurable(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.Sync = true
	r.fsys.Set(faultfs.On(faultfs.SyncDir, "logs", syscall.EACCES))
	p := r.open(spec)
	for range 3 {
		if left, err := r.refused(p, "one"); left != 1 || !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "/logs: ") {
			t.Fatalf("%d left: %v", left, err)
		}
	}
	r.fsys.Set(nil)
	r.put(p, "one")
	if got, err := vfs.ReadFile(r.disk.Crash(nil), "/logs/web/web_00000"); string(got) != "one\n" {
		t.Fatalf("after a power cut: %q, %v", got, err)
	}
}

// TestAFileThatAnotherChainBeganIsDurableToo has a chain that is answered with
// received begin the file, and one that is answered with stored append to it.
func TestAFileThatAnotherChainBeganIsDurableToo(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	received := r.open(spec)
	spec.Sync = true
	stored := r.open(spec)
	r.put(received, "one")
	r.fsys.Set(faultfs.On(faultfs.SyncDir, "", syscall.EIO))
	for range 2 {
		if left, err := r.refused(stored, "two"); left != 1 || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "File open error: /") {
			t.Fatalf("%d left: %v", left, err)
		}
	}
	r.put(received, "three")
	r.fsys.Set(nil)
	r.put(stored, "two")
	if got, err := vfs.ReadFile(r.disk.Crash(nil), "/logs/web/web_00000"); string(got) != "one\nthree\ntwo\n" {
		t.Fatalf("after a power cut: %q, %v", got, err)
	}
}

func TestSomebodyElsesBytesAreNeverCutOff(t *testing.T) {
	r := newRig(t, Options{})
	p := r.open(webSpec())
	r.put(p, "ours")
	r.fsys.Set(func(op faultfs.Op) error {
		if op.Kind != faultfs.Write {
			return nil
		}
		r.fsys.Set(nil)
		f, err := r.disk.OpenFile("/logs/web/web_00000", os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.Write([]byte("theirs\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return &faultfs.Short{Bytes: 2, Err: syscall.EIO}
	})
	left, _ := r.refused(p, "torn")
	r.put(p, "torn")
	r.holds("/logs/web", map[string]string{"web_00000": "ours\ntheirs\nto", "web_00001": "torn\n"})
	if left != 1 || r.files.Stats().Torn != 1 {
		t.Errorf("%d left, %+v", left, r.files.Stats())
	}
}

func TestARotationThatFailsLetsTheFileGoOn(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.MaxSize, spec.WriteMeta = 5, true
	p := r.open(spec)
	r.put(p, "1")
	r.fsys.Set(faultfs.On(faultfs.Create, "", syscall.EMFILE))
	r.put(p, "222222")
	r.put(p, "3")
	r.now = r.now.Add(rotateAgain)
	if err := p.Tick(r.ctx(), r.now); !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "File open error: /logs/web/web_00001") {
		t.Errorf("the tick says %v", err)
	}
	if s := r.files.Stats(); s.OpenErrors != 2 {
		t.Errorf("%d attempts", s.OpenErrors)
	}
	r.fsys.Set(nil)
	r.pass(p, rotateAgain)
	r.put(p, "4")
	r.holds("/logs/web", map[string]string{
		"web_00000": "1\n222222\n3\nscribe_meta<new_logfile>: /logs/web/web_00001\n", "web_00001": "4\n",
	})
}

func TestMetaLineLinkAndStatsMayFail(t *testing.T) {
	spec := webSpec()
	spec.MaxSize, spec.WriteMeta, spec.WriteStats = 1, true, true
	for name, fault := range map[string]faultfs.Inject{
		"symlink": faultfs.On(faultfs.Symlink, "", syscall.EPERM),
		"rename":  faultfs.On(faultfs.Rename, "", syscall.EIO),
		"stats":   faultfs.On(faultfs.Create, "scribe_stats", syscall.EACCES),
		"meta":    faultfs.Nth(2, faultfs.On(faultfs.Write, "web_00000", &faultfs.Short{Bytes: 5, Err: syscall.EIO})),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			p := r.open(spec)
			r.fsys.Set(fault)
			r.put(p, "one")
			r.put(p, "two")
			r.fsys.Set(nil)
			r.put(p, "three")
			r.leads("web_00003")
			if got := r.read("/logs/web/web_00000"); !strings.HasPrefix(got, "one\n") || name == "meta" && got != "one\n" {
				t.Errorf("the first file holds %q", got)
			}
			for i, m := range []string{"one", "two", "three"} {
				if got := r.read(fmt.Sprintf("/logs/web/web_%05d", i)); !strings.HasPrefix(got, m+"\n") {
					t.Errorf("file %d holds %q", i, got)
				}
			}
		})
	}
}

func TestACloseThatFailsIsTold(t *testing.T) {
	r := newRig(t, Options{})
	p := r.open(webSpec())
	r.put(p, "one")
	r.fsys.Set(faultfs.On(faultfs.Close, "", syscall.EIO))
	if err := p.Close(r.ctx()); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "File write error: /logs/web/web_00000") {
		t.Errorf("close: %v", err)
	}
	if err := p.Close(r.ctx()); err != nil {
		t.Errorf("the second close: %v", err)
	}
	if s := r.files.Stats(); s.Open != 0 || s.WriteErrors != 1 || len(r.files.writers) != 0 {
		t.Errorf("figures: %+v", s)
	}
}

func TestTheContextEndsABatchBetweenTwoWrites(t *testing.T) {
	for _, sync := range []bool{false, true} {
		r := newRig(t, Options{})
		spec := webSpec()
		spec.MaxWriteSize, spec.Sync = 0, sync
		p := r.open(spec)
		ctx, cancel := context.WithCancel(r.ctx())
		writes := 0
		r.fsys.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Write {
				if writes++; writes == 2 {
					cancel()
				}
			}
			return nil
		})
		b := batchOf(five)
		rest, err := p.Append(ctx, b)
		if !errors.Is(err, context.Canceled) || rest == nil || rest.Len() != 3 || len(b.Taken) != 1 || b.Taken[0].Messages != 2 {
			t.Fatalf("sync %v: rest %v, error %v, taken %v", sync, rest, err, b.Taken)
		}
		r.put(p, five[2:]...)
		r.holds("/logs/web", map[string]string{"web_00000": wholeFile(t, spec, five)})
	}
}

func TestWithoutANumberLeftNothingIsWritten(t *testing.T) {
	r := newRig(t, Options{})
	r.file("/logs/web/web_2147483647.gz", "compressed")
	if _, err := r.refused(r.open(webSpec()), "one"); !errors.Is(err, errNumbers) {
		t.Errorf("refused with %v", err)
	}
	if s := r.files.Stats(); s.Open != 0 {
		t.Errorf("figures: %+v", s)
	}
}

func TestErrorsSayWhatWhereAndWhatToDo(t *testing.T) {
	at := func(err error) error { return &fs.PathError{Op: "open", Path: "/logs/web/web_00000", Err: err} }
	for _, c := range []struct {
		err  error
		want string
		full bool
	}{
		{at(syscall.ENOSPC), "File open error: /logs/web/web_00000: full: open: no space left on device: make room on the file system", true},
		{at(syscall.EDQUOT), "File open error: /logs/web/web_00000: full: open: disk quota exceeded: make room, or raise the quota of the server's user", true},
		{at(syscall.EACCES), "File open error: /logs/web/web_00000: open: permission denied: let the server's user read and write there", false},
		{at(syscall.EROFS), "File open error: /logs/web/web_00000: open: read-only file system: mount the file system for writing", false},
		{at(syscall.EMFILE), "File open error: /logs/web/web_00000: open: too many open files: raise the descriptors that the process may have (ulimit -n)", false},
		{at(syscall.ENOTDIR), "File open error: /logs/web/web_00000: open: not a directory: a file stands where a folder is needed: move it away", false},
		{at(syscall.EIO), "File open error: /logs/web/web_00000: open: input/output error: look after the disk", false},
		{errNumbers, "File open error: /logs: no number is left: move files with the highest numbers away", false},
	} {
		err := explain(statusOpen, "/logs", c.err)
		if err.Error() != c.want || errors.Is(err, store.ErrFull) != c.full || errors.Is(err, store.ErrBroken) {
			t.Errorf("%v:\n%v\nwant:\n%v", c.err, err, c.want)
		}
		if root := errors.Unwrap(c.err); root != nil && !errors.Is(err, root) {
			t.Errorf("%v does not wrap %v", err, root)
		}
	}
}

func TestAFileInTheFoldersPlaceIsAnError(t *testing.T) {
	r := newRig(t, Options{})
	r.file("/logs/web", "")
	p := r.open(webSpec())
	if _, err := r.refused(p, "one"); !strings.Contains(err.Error(), "File open error: /logs/web: ") {
		t.Errorf("refused with %v", err)
	}
	if err := r.disk.Remove("/logs/web"); err != nil {
		t.Fatal(err)
	}
	r.put(p, "one")
}
