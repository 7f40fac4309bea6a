package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

// list is a list of messages that many goroutines use.
type list struct {
	mu  sync.Mutex
	all []string
}

func (l *list) add(messages ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, messages...)
}

func (l *list) copy() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// life is one start of a chain with an outage and the way back: what it has
// answered with nil. The primary is the same for all starts.
func life(c *chain, n *int, acked *list) {
	put := func(messages ...string) {
		if _, err := c.Append(context.Background(), c.batch(messages...)); err == nil {
			acked.add(messages...)
		}
	}
	some := func(k int) []string {
		*n += k
		return numbered(*n-k, *n)
	}
	tick := func() {
		time.Sleep(3 * time.Second)
		_ = c.Tick(context.Background(), time.Now())
	}
	tick()
	put(some(2)...)
	synctest.Wait()
	c.primary.set(func() { c.primary.refuse = away })
	put(some(3)...)
	put(some(1)...)
	c.primary.set(func() { c.primary.refuse = nil })
	tick()
	put(some(2)...)
	synctest.Wait()
	tick()
	synctest.Wait()
	put(some(1)...)
	c.primary.set(func() { c.primary.refuse = away })
	put(some(4)...)
	_ = c.Close(context.Background())
	_ = c.spools.Close()
}

// old are a spool's options where an original has left files, and what it left:
// two files, one of them with a tear.
func old(sync bool) SpoolOptions {
	o := webFiles()
	o.Sync, o.Framed.Exact = sync, false
	return o
}

func leave(t *testing.T, fsys *memfs.FS, acked *list) {
	t.Helper()
	var b []byte
	for i, m := range numbered(1000, 1010) {
		b = framedtest.Append(b, framed.OneFrame, "", m+"\n")
		if i == 4 {
			b = append(b, 20, 0, 0, 0, 't', 'o', 'r', 'n')
		}
	}
	if _, err := framedtest.AppendFile(fsys, root+"/web", "web", 0, b); err != nil {
		t.Fatal(err)
	}
	framedFile(t, fsys, root+"/web", "web", 1, "m1010\n")
	for _, dir := range []string{"/", root, root + "/web"} {
		if err := fsys.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"web_00000", "web_00001"} {
		f, err := fsys.OpenFile(root+"/web/"+name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	acked.add(numbered(1000, 1011)...)
}

// drained opens what a life has left and sends all of it.
func drained(t *testing.T, fsys *memfs.FS, p *primary, start uint32) {
	t.Helper()
	p.set(func() { p.refuse = nil })
	c := open(t, setup{fs: fsys, start: start, primary: p, spool: old(true)})
	c.tick()
	synctest.Wait()
	c.wantState(Streaming)
	c.end()
}

func wantAll(t *testing.T, p *primary, acked []string, what string) {
	t.Helper()
	times := map[string]int{}
	for _, m := range p.messages() {
		times[m]++
	}
	for _, m := range acked {
		if times[m] == 0 {
			t.Fatalf("%s: %s was answered with nil and has not arrived", what, m)
		}
	}
	if p.dedup != nil {
		for m, n := range times {
			if n > 1 {
				t.Fatalf("%s: %s has arrived %d times at a primary that knows batches", what, m, n)
			}
		}
	}
}

// A power cut at each sync, with and without what was not synced: the next start
// sends all that was answered with nil.
func TestPowerCutsAtEverySync(t *testing.T) {
	for k := 1; ; k++ {
		cut := false
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				fsys := memfs.New()
				p := &primary{dedup: map[string]bool{}}
				var n int
				var acked list
				var mu sync.Mutex
				var syncs int
				var before []string
				var image *memfs.FS
				u := setup{fs: fsys, primary: p, spool: old(true), spools: SpoolsOptions{SegmentBytes: 600}}
				leave(t, fsys, &acked)
				fsys.OnSync(func() {
					mu.Lock()
					defer mu.Unlock()
					if syncs++; syncs == k {
						var r *rand.Rand
						if seed > 0 {
							r = rand.New(rand.NewPCG(seed, uint64(k)))
						}
						image, before = fsys.Crash(r), acked.copy()
					}
				})
				if c, err := tryOpen(t, u); err == nil {
					life(c, &n, &acked)
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if image == nil {
					return
				}
				cut = true
				drained(t, image, p, 2)
				wantAll(t, p, before, fmt.Sprintf("sync %d, seed %d", k, seed))
			})
		}
		if !cut {
			if k < 15 {
				t.Errorf("only %d syncs in a life", k)
			}
			return
		}
	}
}

// The process dies at each call of the file system, or the disk fails for good
// there: what was answered with nil is sent by the next start, or was before.
func TestDeathAtEveryOperation(t *testing.T) {
	dead := errors.New("the process is dead")
	for k := 1; ; k++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			inner := memfs.New()
			var acked list
			leave(t, inner, &acked)
			p := &primary{dedup: map[string]bool{}}
			var n, calls int
			var mu sync.Mutex
			fsys := faultfs.New(inner, func(op faultfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls >= k && op.Kind != faultfs.Close {
					reached = true
					return dead
				}
				return nil
			})
			u := setup{fs: fsys, primary: p, spool: old(k%2 == 0), spools: SpoolsOptions{SegmentBytes: 600}}
			if c, err := tryOpen(t, u); err == nil {
				life(c, &n, &acked)
			}
			synctest.Wait()
			time.Sleep(time.Minute)
			drained(t, inner, p, 2)
			wantAll(t, p, acked.copy(), fmt.Sprintf("call %d", k))
		})
		if !reached {
			if k < 50 {
				t.Errorf("only %d calls in a life", k)
			}
			return
		}
	}
}

// One call fails and the next ones work: nothing is lost, and nothing is left
// when the next start has sent what is there.
func TestOneFaultAtEveryOperation(t *testing.T) {
	for k := 1; ; k++ {
		reached := false
		synctest.Test(t, func(t *testing.T) {
			inner := memfs.New()
			var acked list
			leave(t, inner, &acked)
			p := &primary{dedup: map[string]bool{}}
			var n, calls int
			var mu sync.Mutex
			var what string
			fsys := faultfs.New(inner, func(op faultfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls == k && op.Kind != faultfs.Close {
					what = fmt.Sprintf("call %d, %s %s", k, op.Kind, op.Path)
					return errors.New("a fault")
				}
				return nil
			})
			u := setup{fs: fsys, primary: p, spool: old(true), spools: SpoolsOptions{SegmentBytes: 600}}
			if c, err := tryOpen(t, u); err == nil {
				life(c, &n, &acked)
			}
			mu.Lock()
			reached = calls >= k
			mu.Unlock()
			drained(t, inner, p, 2)
			wantAll(t, p, acked.copy(), what)
		})
		if !reached {
			t.Logf("%d calls", k)
			return
		}
	}
}

// Damage in a segment costs the record that it hit, and its bytes stay.
func TestADamagedRecordIsSkippedCountedAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		c := open(t, setup{fs: fsys})
		c.primary.refuse = away
		for _, m := range numbered(0, 5) {
			c.put(m)
		}
		c.end()
		for _, name := range fsys.Files() {
			if strings.HasSuffix(name, segmentExt) {
				f, err := fsys.OpenFile(name, 2, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte("XXXX"), 64+130+30); err != nil { // in the second record
					t.Fatal(err)
				}
				f.Close()
			}
		}
		c = open(t, setup{fs: fsys, start: 2})
		c.tick()
		synctest.Wait()
		c.wantState(Streaming)
		c.primary.want(t, "m0", "m2", "m3", "m4")
		if s := c.Status(); s.BytesLost == 0 || s.Waiting != 0 {
			t.Errorf("status: %+v", s)
		}
		c.end()
		kept := 0
		for _, name := range fsys.Files() {
			if strings.Contains(name, "/quarantine/") {
				kept++
			}
		}
		if kept != 1 {
			t.Errorf("%d files in quarantine: %v", kept, fsys.Files())
		}
	})
}
