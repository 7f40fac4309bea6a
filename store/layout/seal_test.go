package layout

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/repair/repairtest"
)

// world is a cluster with closed files of ours that are to get their names.
type world struct {
	*testing.T
	raw *repairtest.Cluster // its own root
	c   cluster.Cluster
	n   Numbers
}

func newWorld(t *testing.T) *world {
	raw := repairtest.New("n1")
	return &world{T: t, raw: raw, c: Engine(raw, catalog.EngineFolder)}
}

func target() *catalog.Target {
	return &catalog.Target{Folder: "logs/web", Stem: "web-2026-11-28", First: 10, Link: "web_current"}
}

// closed is a closed file number n that holds text.
func (w *world) closed(n int, text string) *File {
	open := fmt.Sprintf("web/_%d.open", n)
	w.raw.Put("_twinscribe/"+open, []byte(text))
	return w.file(n, text, "")
}

// file is what somebody knows of it who comes later.
func (w *world) file(n int, text, at string) *File {
	m := &catalog.Manifest{Version: 1, File: fmt.Sprint(n), Aggregator: "ag1", Epoch: 1, Start: "00000007", Category: "web",
		Partition: "dt=2026-11-28/hr=10", Bytes: int64(len(text)), CRC32C: crc32.Checksum([]byte(text), castagnoli)}
	m.SetTarget(target(), at)
	f := &File{Cluster: w.c, Open: fmt.Sprintf("web/_%d.open", n), Manifest: m}
	f.Put = func(ctx context.Context) error { return w.c.Replace(ctx, w.manifest(n), []byte(m.At)) }
	return f
}

func (w *world) manifest(n int) string { return fmt.Sprintf("web/_%d.json", n) }

// noted is where the manifest on the cluster says that a file is.
func (w *world) noted(n int) string {
	b, _ := w.raw.Has("_twinscribe/" + w.manifest(n))
	return string(b)
}

func (w *world) text(p string) string {
	b, ok := w.raw.Has(p)
	if !ok {
		return "(none)"
	}
	return string(b)
}

// names are the files of the folder that others read.
func (w *world) names() (list []string) {
	for _, p := range w.raw.Paths() {
		if !strings.HasPrefix(p, "_twinscribe/") {
			list = append(list, p)
		}
	}
	return list
}

func (w *world) seal(f *File) {
	w.Helper()
	if err := w.n.Seal(w.Context(), f); err != nil {
		w.Fatal(err)
	}
}

func (w *world) want(n int, at, text string) {
	w.Helper()
	if got := w.noted(n); got != at {
		w.Errorf("the manifest of %d says %q, want %q", n, got, at)
	}
	if got := w.text(at); got != text {
		w.Errorf("%s holds %q, want %q", at, got, text)
	}
	if _, open := w.raw.Has(fmt.Sprintf("_twinscribe/web/_%d.open", n)); open {
		w.Errorf("the open name of %d is there", n)
	}
}

func TestTheNumberIsOneMoreThanTheHighest(t *testing.T) {
	for _, c := range []struct {
		there []string
		want  string
	}{
		{nil, "web-2026-11-28_00010"},
		{[]string{"web-2026-11-28_00003"}, "web-2026-11-28_00004"},
		{[]string{"web-2026-11-28_00010", "web-2026-11-28_00012"}, "web-2026-11-28_00013"},
		{[]string{"web-2026-11-27_00023", "web_00099", "webb-2026-11-28_00050", "web-2026-11-28_current", "web-2026-11-28_"}, "web-2026-11-28_00010"},
		{[]string{"web-2026-11-28_7"}, "web-2026-11-28_00008"},
		{[]string{"web-2026-11-28_99999"}, "web-2026-11-28_100000"},
		{[]string{"web-2026-11-28_99999999999"}, "web-2026-11-28_00010"},
	} {
		w := newWorld(t)
		for _, name := range c.there {
			w.raw.Put("logs/web/"+name, []byte("a Scribe's"))
		}
		w.seal(w.closed(1, "one\n"))
		w.want(1, "logs/web/"+c.want, "one\n")
	}
	w := newWorld(t)
	w.raw.Put("logs/web/web-2026-11-28_4294967294", []byte("a Scribe's"))
	if err := w.n.Seal(t.Context(), w.closed(1, "one\n")); err == nil {
		t.Error("there is a number after the last one")
	}
}

func TestTheLinkTellsOfTheNewestFile(t *testing.T) {
	w := newWorld(t)
	var files []*File
	for n := range 3 {
		f := w.closed(n, fmt.Sprintln(n))
		w.seal(f)
		files = append(files, f)
	}
	for _, n := range []int{1, 2, 0} { // in the order in which it happens to be written
		if err := files[n].Link(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.text("logs/web/web_current"); got != "web-2026-11-28_00012" {
		t.Errorf("the link says %q", got)
	}
	for content, replaced := range map[string]bool{"": true, "junk": true, "web-2026-11-27_00099": true, "web-2026-11-29_00001": false, "web-2026-11-28_00011": true} {
		w.raw.Put("logs/web/web_current", []byte(content))
		if err := files[2].Link(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.text("logs/web/web_current"); (got == "web-2026-11-28_00012") != replaced {
			t.Errorf("the link said %q and says %q", content, got)
		}
	}
}

// Before each call of the cluster in turn, somebody else takes the name that
// comes next.
func TestANameThatSomebodyElseTakesIsNeverReplaced(t *testing.T) {
	for at := 1; at <= 30; at++ {
		for _, all := range []bool{false, true} {
			w := newWorld(t)
			f := w.closed(1, "one\n")
			calls, foreign := 0, 0
			w.raw.SetFault(func(_, _ string, done bool) error {
				if done {
					return nil
				}
				if calls++; calls == at || all && calls > at && foreign < 8 {
					foreign++
					w.raw.Put(next(w), []byte("not ours, one of many"))
				}
				return nil
			})
			w.seal(f)
			w.raw.SetFault(nil)
			w.want(1, f.Manifest.At, "one\n")
			left := 0
			for _, p := range w.names() {
				if w.text(p) == "not ours, one of many" {
					left++
				}
			}
			if left != foreign || len(w.names()) != foreign+1 {
				t.Errorf("call %d: %d of %d foreign files are left, names %q", at, left, foreign, w.names())
			}
		}
	}
}

// next is the name that an original would take now.
func next(w *world) string {
	t, number := target(), uint32(10)
	for _, p := range w.names() {
		if n, ok := t.NumberOf(p); ok {
			number = max(number, n+1)
		}
	}
	return t.Path(number)
}

var errKilled = errors.New("killed")

// At each call in turn, done or not, the process ends. The next one knows the
// manifest that lies on the cluster, or nothing; meanwhile somebody else may
// have taken the name that was chosen.
func TestTheNextProcessGoesOnAfterAKillAtEachStep(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, foreign := range []bool{false, true} {
			for at := 1; ; at++ {
				w := newWorld(t)
				w.raw.Put("logs/web/web-2026-11-28_00010", []byte("a Scribe's"))
				f := w.closed(1, "one\n")
				calls := 0
				w.raw.SetFault(func(_, _ string, after bool) error {
					if after == done {
						calls++
					}
					if calls >= at && after == done || calls > at {
						return errKilled
					}
					return nil
				})
				err := w.n.Seal(t.Context(), f)
				w.raw.SetFault(nil)
				if err == nil {
					if at < 5 {
						t.Errorf("only %d steps", at)
					}
					break
				}
				taken := w.noted(1)
				if foreign && taken != "" && w.text(taken) == "(none)" {
					w.raw.Put(taken, []byte("somebody else's"))
				}
				later := w.file(1, "one\n", taken)
				if ok, err := later.Done(t.Context()); err != nil {
					t.Fatal(err)
				} else if !ok {
					var other Numbers
					if err := other.Seal(t.Context(), later); err != nil {
						t.Fatalf("killed at call %d, done %v: %v", at, done, err)
					}
				}
				w.want(1, later.Manifest.At, "one\n")
				if got := w.text("logs/web/web-2026-11-28_00010"); got != "a Scribe's" {
					t.Errorf("killed at call %d: the Scribe's file holds %q", at, got)
				}
			}
		}
	}
}

// A rename of a process that is gone arrives while its successor is at work,
// before each of its calls in turn.
func TestALateRenameLeadsToWhereTheManifestSays(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t)
		f := w.closed(1, "one\n")
		w.raw.SetFault(func(op, _ string, _ bool) error {
			if op == "rename" {
				return errKilled
			}
			return nil
		})
		if err := w.n.Seal(t.Context(), f); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		calls := 0
		w.raw.SetFault(func(op, _ string, done bool) error {
			if done {
				return nil
			}
			if calls++; calls == at {
				b, there := w.raw.Has("_twinscribe/" + f.Open)
				if !there {
					return nil
				}
				w.raw.Put(f.Manifest.At, b) // this is the rename, without a call
				w.raw.Drop("_twinscribe/" + f.Open)
			}
			return nil
		})
		later := w.file(1, "one\n", w.noted(1))
		var other Numbers
		if err := other.Seal(t.Context(), later); err != nil {
			t.Fatalf("call %d: %v", at, err)
		}
		w.raw.SetFault(nil)
		w.want(1, f.Manifest.At, "one\n")
		if len(w.names()) != 1 {
			t.Errorf("names %q", w.names())
		}
		if calls < at {
			break
		}
	}
}

// Both take the other for dead and choose a name of their own.
func TestAFileThatWentWhereTheManifestDoesNotSayIsFoundByItsContent(t *testing.T) {
	w := newWorld(t)
	w.raw.Put("logs/web/web-2026-11-28_00009", []byte("two\n")) // of the same length
	w.raw.Put("logs/web/web-2026-11-28_00010", []byte("one\n")) // ours
	w.raw.Put("logs/web/web-2026-11-28_00011", []byte("longer"))
	f := w.file(1, "one\n", "logs/web/web-2026-11-28_00012")
	if err := w.n.Seal(t.Context(), f); !errors.Is(err, ErrAstray) {
		t.Fatalf("got %v", err)
	}
	if at, err := f.Find(t.Context(), nil); err != nil || at != "logs/web/web-2026-11-28_00010" {
		t.Errorf("found at %q, %v", at, err)
	}
	if at, err := f.Find(t.Context(), map[string]bool{"logs/web/web-2026-11-28_00010": true}); err != nil || at != "" {
		t.Errorf("another file's name was found: %q, %v", at, err)
	}
	// What is at At has another length, or other content: it is somebody else's.
	for _, at := range []string{"logs/web/web-2026-11-28_00011", "logs/web/web-2026-11-28_00009"} {
		g := w.file(2, "one\n", at)
		if err := w.n.Seal(t.Context(), g); !errors.Is(err, ErrAstray) {
			t.Errorf("%s: got %v", at, err)
		}
		if done, err := g.Done(t.Context()); done || err != nil {
			t.Errorf("%s: done %v, %v", at, done, err)
		}
	}
}

func TestManyProcessesSealSideBySideEachFileOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.raw.CallDelay = 1000
		const processes, each = 5, 12
		ats := make([]string, processes*each)
		var wg sync.WaitGroup
		var foreign atomic.Int32
		for p := range processes {
			numbers := &Numbers{}
			for k := range each {
				n := p*each + k
				f := w.closed(n, fmt.Sprintln("file", n))
				wg.Go(func() {
					for {
						err := numbers.Seal(t.Context(), f)
						if err == nil {
							break
						}
						if !errors.Is(err, ErrTaken) {
							t.Error(err)
							return
						}
					}
					ats[n] = f.Manifest.At
				})
			}
		}
		wg.Go(func() { // an original Scribe
			for range 20 {
				f, err := w.raw.Create(t.Context(), next(w), cluster.FileOptions{})
				if err == nil {
					foreign.Add(1)
					_ = f.Seal(t.Context())
				}
			}
		})
		wg.Wait()
		for n, at := range ats {
			w.want(n, at, fmt.Sprintln("file", n))
		}
		slices.Sort(ats)
		if len(slices.Compact(ats)) != processes*each || len(w.names()) != processes*each+int(foreign.Load()) {
			t.Errorf("%d files under %d names", processes*each, len(w.names()))
		}
	})
}
