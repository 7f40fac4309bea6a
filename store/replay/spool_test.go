package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
)

func TestAtTheLimitOfAllSpoolsMessagesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{spools: SpoolsOptions{MaxBytes: 100 << 10}})
		other, err := c.spools.Spool(SpoolOptions{Dir: "other"})
		if err != nil {
			t.Fatal(err)
		}
		o := New(&primary{refuse: away}, other, Options{})
		c.primary.refuse = away
		big := strings.Repeat("x", 10<<10)
		taken := 0
		for ; taken < 20; taken++ {
			b := c.batch(big)
			if rest, err := c.Append(t.Context(), b); err != nil {
				if !errors.Is(err, store.ErrFull) || rest != b || len(b.Taken) != 0 {
					t.Fatalf("%v, rest %v", err, rest)
				}
				break
			}
		}
		if taken < 6 || taken > 9 {
			t.Errorf("%d of 10 KiB are taken within 100", taken)
		}
		if _, err := o.Append(t.Context(), c.batch(big)); !errors.Is(err, store.ErrFull) {
			t.Errorf("the other spool below the path: %v", err)
		}
		if used, most := c.spools.Bytes(); used > most || used < int64(taken)*10<<10 {
			t.Errorf("%d bytes of %d", used, most)
		}
		c.primary.set(func() { c.primary.refuse = nil })
		time.Sleep(5 * time.Second)
		c.tick()
		synctest.Wait()
		c.put("fits again")
		if used, _ := c.spools.Bytes(); used != 0 {
			t.Errorf("%d bytes are held by empty spools", used)
		}
		if got := len(c.primary.messages()); got != taken+1 {
			t.Errorf("%d messages arrived, want %d", got, taken+1)
		}
		if err := o.Close(t.Context()); err != nil {
			t.Error(err)
		}
		c.end()
	})
}

func TestAFullDiskRefusesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		fsys.SetCapacity(64 << 10)
		c := open(t, setup{fs: fsys})
		c.primary.refuse = away
		n := 0
		for {
			if _, err := c.Append(t.Context(), c.batch(fmt.Sprintf("%d %s", n, strings.Repeat("y", 5000)))); err != nil {
				if !errors.Is(err, store.ErrFull) {
					t.Fatal(err)
				}
				break
			}
			n++
		}
		c.primary.set(func() { c.primary.refuse = nil })
		time.Sleep(5 * time.Second)
		c.tick()
		synctest.Wait()
		c.wantState(Streaming)
		if got := len(c.primary.messages()); got != n {
			t.Errorf("%d messages arrived, want %d", got, n)
		}
		c.end()
	})
}

func TestAPathIsOpenedOnce(t *testing.T) {
	fsys := memfs.New()
	c := open(t, setup{fs: fsys})
	if _, err := tryOpen(t, setup{fs: fsys, start: 2}); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	c.end()
	for _, dir := range []string{"", ".", "..", "/web", "../web", "a/b/c/d"} {
		d := open(t, setup{})
		if _, err := d.spools.Spool(SpoolOptions{Dir: dir}); err == nil && dir != "" {
			t.Errorf("folder %q is a spool's", dir)
		}
		d.end()
	}
}

// A reload makes the next chain of a category while the last one still drains.
func TestTwoChainsNeverWriteToOneFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{})
		c.primary.refuse = away
		c.put("a")
		spool, err := c.spools.Spool(SpoolOptions{Dir: "web"})
		if err != nil {
			t.Fatal(err)
		}
		next := &primary{}
		n := New(next, spool, Options{})
		if n.Status().State != SendingBuffer {
			t.Error("the next chain does not expect what the first one leaves")
		}
		if _, err := n.Append(t.Context(), c.batch("b")); err == nil {
			t.Error("both write to the folder")
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.Tick(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		next.want(t, "a")
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLeftoversAreListed(t *testing.T) {
	fsys := memfs.New()
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{fs: fsys, spool: SpoolOptions{Dir: "bucket007/we%20b"}})
		c.primary.refuse = away
		b := c.batch("a")
		b.Category = "we b"
		if _, err := c.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		c.end()
	})
	framedFile(t, fsys, root+"/old", "old", 3, "x\n")
	if err := fsys.MkdirAll(root+"/empty/quarantine", 0o700); err != nil {
		t.Fatal(err)
	}
	c := open(t, setup{fs: fsys, start: 2})
	list, err := Leftovers(c.spools.fs, c.spools.path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Leftover{{Dir: filepath.Join("bucket007", "we%20b"), Category: "we b", Spooled: true}, {Dir: "old", Category: "old", Framed: true}}
	used, _ := c.spools.Bytes()
	if used == 0 {
		t.Error("what an earlier start left does not count")
	}
	want[0].Bytes = used
	if fmt.Sprint(list) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", list, want)
	}
	c.end()
}

func TestTheStateFolderIsNoSpoolAndACategoryMayBeCalledQuarantine(t *testing.T) {
	fsys := memfs.New()
	synctest.Test(t, func(t *testing.T) {
		c := open(t, setup{fs: fsys, spool: SpoolOptions{Dir: "quarantine"}})
		c.primary.refuse = away
		b := c.batch("a")
		b.Category = "quarantine"
		if _, err := c.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		c.end()
	})
	c := open(t, setup{fs: fsys, start: 2})
	before, _ := c.spools.Bytes()
	c.end()
	for _, folder := range []string{"/_twinscribe/buffer", "/_twinscribe/rescued/web"} {
		if err := fsys.MkdirAll(root+folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := vfs.ReplaceFile(fsys, root+folder+"/1.seg", make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = open(t, setup{fs: fsys, start: 3})
	list, err := Leftovers(c.spools.fs, c.spools.path)
	if want := []Leftover{{Dir: "quarantine", Category: "quarantine", Bytes: before, Spooled: true}}; err != nil || fmt.Sprint(list) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v: %v", list, want, err)
	}
	if used, _ := c.spools.Bytes(); used != before || used == 0 {
		t.Errorf("%d bytes count, want the %d of the spool", used, before)
	}
	c.end()
}

func TestBatchesOfAnEarlierStartAreNotSpooled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		c := open(t, setup{fs: fsys})
		c.primary.refuse = away
		c.put("a")
		c.end()
		inner := open(t, setup{start: 2})
		inner.primary.refuse = away
		outer := open(t, setup{fs: fsys, start: 2, options: Options{}})
		outer.Store.primary = inner.Store
		outer.tick()
		synctest.Wait()
		outer.wantState(Disconnected)
		if s := outer.Status(); !strings.Contains(s.Text, "behind another") || s.Waiting != 1 {
			t.Errorf("status: %+v", s)
		}
		outer.end()
		if err := inner.spools.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// counting counts open files.
type counting struct {
	vfs.FS
	now, most atomic.Int64
}

type countedFile struct {
	vfs.File
	c *counting
}

func (c *counting) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	if n := c.now.Add(1); n > c.most.Load() {
		c.most.Store(n)
	}
	return &countedFile{f, c}, nil
}

func (f *countedFile) Close() error {
	f.c.now.Add(-1)
	return f.File.Close()
}

// 600 receivers are away for five minutes, and come back while messages still
// arrive: an empty spool costs nothing, one that fills a descriptor and a
// goroutine, and all of it is sent in order.
func TestSixHundredSpools(t *testing.T) {
	const chains = 600
	synctest.Test(t, func(t *testing.T) {
		fsys := &counting{FS: memfs.New()}
		spools, err := OpenSpools(fsys, root, SpoolsOptions{
			Identity: buffer.Identity{Aggregator: "leaf", Epoch: 1, Start: 1}, MinFree: -1, Log: zap.NewNop(), Now: time.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		list := make([]*chain, chains)
		for i := range list {
			spool, err := spools.Spool(SpoolOptions{Dir: fmt.Sprintf("bucket%03d", i)})
			if err != nil {
				t.Fatal(err)
			}
			p := &primary{refuse: away}
			list[i] = &chain{t: t, next: 1, primary: p, Store: New(p, spool, Options{Retry: store.Retry{Fixed: true, Interval: 60 * time.Second, Range: 30 * time.Second}})}
		}
		before := runtime.NumGoroutine()
		if fsys.now.Load() != 1 {
			t.Errorf("empty spools hold %d files open, want the lock", fsys.now.Load())
		}
		n := 0
		all := func(what string, goroutines, files int64) {
			for _, c := range list {
				c.put(fmt.Sprintf("m%d", n))
				c.tick()
			}
			n++
			synctest.Wait()
			const others = 10 // the runtime's own come and go
			if g := int64(runtime.NumGoroutine() - before); g > goroutines+others {
				t.Fatalf("%s: %d goroutines more", what, g)
			}
			if f := fsys.now.Load(); f > files {
				t.Fatalf("%s: %d files are open", what, f)
			}
		}
		for range 60 {
			all("away", chains, 1+chains)
			time.Sleep(5 * time.Second)
		}
		for _, c := range list {
			c.primary.set(func() { c.primary.refuse, c.primary.delay = nil, 10*time.Millisecond })
		}
		left := chains
		for range 60 {
			all("back", 3*chains, 1+3*chains)
			time.Sleep(5 * time.Second)
			left = 0
			for _, c := range list {
				if c.Status().State != Streaming {
					left++
				}
			}
			if left == 0 {
				break
			}
		}
		if left > 0 {
			t.Errorf("%d of %d spools are not empty", left, chains)
		}
		all("empty", 0, 1)
		want := numbered(0, n)
		for _, c := range list {
			c.primary.want(t, want...)
			if err := c.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAnUnreadableSegmentStaysAndTheOthersAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		c := open(t, setup{fs: fsys})
		c.primary.refuse = away
		c.put("a")
		c.end()
		c = open(t, setup{fs: fsys, start: 2})
		c.primary.refuse = away
		c.put("b")
		c.end()
		faults := faultfs.New(fsys, nil)
		c = open(t, setup{fs: faults, start: 3})
		var opened atomic.Int64
		faults.Set(func(op faultfs.Op) error {
			// The buffer's own reading at its opening comes first.
			if op.Kind == faultfs.Open && strings.Contains(op.Path, "-00000001.00000001-") && opened.Add(1) > 1 {
				return fmt.Errorf("no permission")
			}
			return nil
		})
		c.tick()
		synctest.Wait()
		c.wantState(Streaming)
		c.primary.want(t, "b")
		if s := c.Status(); !strings.Contains(s.Problem, "no permission") {
			t.Errorf("status: %+v", s)
		}
		faults.Set(nil)
		c.end()
		c = open(t, setup{fs: fsys, start: 4})
		c.tick()
		synctest.Wait()
		c.primary.want(t, "a")
		c.end()
	})
}

func TestAFileThatCannotBeReadDoesNotTakeTheCursorFromTheOneBehindIt(t *testing.T) {
	for what, bad := range map[string]func(faultfs.Op) bool{
		"opening a segment": func(op faultfs.Op) bool {
			return op.Kind == faultfs.Open && strings.Contains(op.Path, "-00000001.00000001-")
		},
		"reading an old file":    func(op faultfs.Op) bool { return op.Kind == faultfs.Read && strings.HasSuffix(op.Path, "web_00000") },
		"nothing, as it happens": func(faultfs.Op) bool { return false },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faults := faultfs.New(memfs.New(), nil)
				c := open(t, setup{fs: faults, spool: webFiles()})
				c.primary.refuse = away
				c.put("first")
				c.end()
				framedFile(t, faults, root+"/web", "web", 0, "old\n")
				unreadable := false
				faults.Set(func(op faultfs.Op) error {
					if unreadable && bad(op) {
						return fs.ErrPermission
					}
					return nil
				})
				var got []string
				for start := uint32(2); start < 5; start++ { // each with the next one's part
					c = open(t, setup{fs: faults, start: start, spool: webFiles()})
					unreadable = true
					if start == 2 {
						c.put("a", "b", "c", "d") // behind the others
					}
					c.primary.refuse = func(b *store.Batch) (int, error) {
						if b.Len() > 1 { // one of the last record, and no more by this start
							return 1, errAway
						}
						return 1, nil
					}
					c.tick()
					synctest.Wait()
					got = append(got, c.primary.messages()...)
					unreadable = false
					c.end()
				}
				c = open(t, setup{fs: faults, start: 5, spool: webFiles()}) // all can be read
				c.tick()
				synctest.Wait()
				got = append(got, c.primary.messages()...)
				c.end()
				n := map[string]int{}
				for _, m := range got {
					if n[m]++; n[m] > 1 {
						t.Errorf("%s was sent again: %q", m, got)
					}
				}
				if len(n) != 6 { // old, first, a to d
					t.Errorf("sent: %q", got)
				}
			})
		})
	}
}

func TestWhatAChainLeavesGoesToTheOneThatHasItsFolderByThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := open(t, setup{})
		own, err := before.spools.Spool(SpoolOptions{Dir: "web"})
		if err != nil {
			t.Fatal(err)
		}
		to := &primary{start: before.primary.start}
		after := New(to, own, Options{}) // it is empty still
		before.primary.refuse = away
		before.put("a", "b")
		tick := func() {
			if err := after.Tick(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		tick()
		to.want(t)
		if err := before.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		tick()
		to.want(t, "a", "b")
		if st := after.Status(); st.State != Streaming || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
		if err := errors.Join(after.Close(t.Context()), before.spools.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
