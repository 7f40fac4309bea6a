package replay

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
)

func framedFile(t testing.TB, fsys vfs.FS, folder, base string, number uint64, messages ...string) {
	t.Helper()
	var b []byte
	for _, m := range messages {
		b = framedtest.Append(b, framed.OneFrame, base, m)
	}
	if _, err := framedtest.AppendFile(fsys, folder, base, number, b); err != nil {
		t.Fatal(err)
	}
}

func webFiles() SpoolOptions {
	return SpoolOptions{Dir: "web", Framed: Framed{Folder: root + "/web", Base: "web", Form: framed.OneFrame, Category: "web", Exact: true}}
}

func TestFilesOfAnOriginalAreSentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		framedFile(t, fsys, root+"/web", "web", 9, "one\n", "", "two\n")
		framedFile(t, fsys, root+"/web", "web", 10, "three")
		framedFile(t, fsys, root+"/web", "web", 12)
		framedFile(t, fsys, root+"/web", "web", 13, "four\n")
		framedFile(t, fsys, root+"/web", "other", 1, "not ours\n")
		f, _ := fsys.OpenFile(root+"/web/web_7", 0o102, 0o600)
		f.Close()
		c := open(t, setup{fs: fsys, spool: webFiles()})
		c.wantState(SendingBuffer)
		c.put("five")
		c.tick()
		synctest.Wait()
		c.wantState(Streaming)
		c.primary.want(t, "one\n", "", "two\n", "three", "four\n", "five")
		var left []string
		for _, name := range fsys.Files() {
			if strings.Contains(name, "web_") || strings.Contains(name, "other_") {
				left = append(left, name[strings.LastIndexByte(name, '/')+1:])
			}
		}
		if !slices.Equal(left, []string{"other_00001", "web_7"}) {
			t.Errorf("left: %v", left)
		}
		if c.logs.FilterMessageSnippet("numbers are missing").Len() != 1 {
			t.Error("a gap in the numbers is not told")
		}
		if c.logs.FilterFieldKey("error").FilterMessageSnippet("problem").Len() != 1 {
			t.Error("the name web_7 is not told")
		}
		c.end()
	})
}

func TestDamagedRangesOfAnOriginalsFileAreKeptAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		var b []byte
		b = framedtest.Append(b, framed.OneFrame, "", "good line one\n")
		torn := framedtest.Append(nil, framed.OneFrame, "", "a line that is torn\n")[:12]
		b = append(b, torn...)
		b = framedtest.Append(b, framed.OneFrame, "", "good line two\n")
		b = framedtest.Append(b, framed.OneFrame, "", "good line three\n")
		if _, err := framedtest.AppendFile(fsys, root+"/web", "web", 0, b); err != nil {
			t.Fatal(err)
		}
		c := open(t, setup{fs: fsys, spool: webFiles()})
		c.tick()
		synctest.Wait()
		c.primary.want(t, "good line one\n", "good line two\n", "good line three\n")
		kept, err := vfs.ReadFile(fsys, root+"/web/web_00000.damaged")
		if err != nil || string(kept) != string(torn) {
			t.Errorf("kept aside: %q, %v; want %q", kept, err, torn)
		}
		if _, err := fsys.Stat(root + "/web/web_00000"); err == nil {
			t.Error("the file is still there")
		}
		if s := c.Status(); s.BytesLost != int64(len(torn)) || s.State != Streaming {
			t.Errorf("status: %+v", s)
		}
		c.end()
	})
}

func TestSeveralCategoriesInOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		var b []byte
		for _, m := range [][2]string{{"web one", "a\n"}, {"web one", "b\n"}, {"app", "c\n"}, {"web one", "d\n"}} {
			b = framedtest.Append(b, framed.TwoFrames, m[0], m[1])
		}
		if _, err := framedtest.AppendFile(fsys, "/old", "all", 0, b); err != nil {
			t.Fatal(err)
		}
		c := open(t, setup{fs: fsys, spool: SpoolOptions{Dir: "web", Framed: Framed{Folder: "/old", Base: "all", Form: framed.TwoFrames}}})
		c.tick()
		synctest.Wait()
		c.primary.want(t, "a", "b", "c", "d")
		var categories []string
		for _, b := range c.primary.batches {
			categories = append(categories, b.Category)
		}
		if !slices.Equal(categories, []string{"web one", "app", "web one"}) {
			t.Errorf("categories %q", categories)
		}
		c.end()
	})
}

// A primary that knows batches by their identity has each message once, also
// where every answer is lost and the process dies between any two pieces.
func TestAnOriginalsFileKeepsItsIdentityOverStarts(t *testing.T) {
	var messages []string
	for _, m := range numbered(0, 3000) {
		messages = append(messages, m+strings.Repeat(".", 500)+"\n")
	}
	fsys := memfs.New()
	framedFile(t, fsys, root+"/web", "web", 0, messages...)
	p := &primary{dedup: map[string]bool{}}
	for start := uint32(1); start < 40; start++ {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, setup{fs: fsys, start: start, primary: p, spool: webFiles()})
			sent := 0
			p.refuse = func(b *store.Batch) (int, error) {
				if sent++; sent > 1 {
					return b.Len(), errAway // it has it, and nobody hears of that
				}
				return 0, nil
			}
			dead := c.Store.primary
			c.Store.primary = &lostAnswers{Store: dead}
			c.tick()
			synctest.Wait()
			c.end()
		})
	}
	p.want(t, messages...)
}

type lostAnswers struct{ Store store.Store }

func (l *lostAnswers) Append(ctx context.Context, b *store.Batch) (*store.Batch, error) {
	if rest, err := l.Store.Append(ctx, b); err == nil {
		return rest, nil
	}
	return b, errAway
}
func (l *lostAnswers) Tick(ctx context.Context, now time.Time) error { return l.Store.Tick(ctx, now) }
func (l *lostAnswers) Close(ctx context.Context) error               { return nil }

func TestFilesOfAnOriginalThatCannotBeReadStayAProblemAndAreTriedAgain(t *testing.T) {
	for what, fails := range map[string]func(faultfs.Op) bool{
		"the folder": func(op faultfs.Op) bool { return op.Kind == faultfs.ReadDir && strings.HasSuffix(op.Path, "/old") },
		"a file":     func(op faultfs.Op) bool { return op.Kind == faultfs.Open && strings.HasSuffix(op.Path, "/old_00000") },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faults := faultfs.New(memfs.New(), nil)
				framedFile(t, faults, "/old", "old", 0, "x\n")
				o := SpoolOptions{Framed: Framed{Folder: "/old", Base: "old", Form: framed.OneFrame, Category: "web"}}
				c := open(t, setup{fs: faults, spool: o})
				faults.Set(func(op faultfs.Op) error {
					if fails(op) {
						return fs.ErrPermission
					}
					return nil
				})
				for range 2 { // an outage that is over, each
					c.primary.set(func() { c.primary.refuse = away })
					c.put("a")
					c.primary.set(func() { c.primary.refuse = nil })
					time.Sleep(time.Hour)
					c.tick()
					synctest.Wait()
					c.wantState(Streaming)
					if s := c.Status(); !strings.Contains(s.Problem, "permission") {
						t.Errorf("the status tells nothing of it: %+v", s)
					}
				}
				faults.Set(nil)
				c.primary.set(func() { c.primary.refuse = away })
				c.put("b")
				c.primary.set(func() { c.primary.refuse = nil })
				time.Sleep(time.Hour)
				c.tick()
				synctest.Wait()
				if s := c.Status(); s.Problem != "" {
					t.Errorf("it is mended, and the status says %q", s.Problem)
				}
				c.primary.want(t, "a", "a", "x", "b")
				c.end()
			})
		})
	}
}
