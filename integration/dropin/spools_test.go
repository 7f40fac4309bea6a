//go:build integration

package dropin

import (
	"path/filepath"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
	"twinscribe/integration/lab"
)

// warned waits until ctl's status has a warning with all of these in it.
func warned(t *testing.T, s *lab.Server, parts ...string) {
	t.Helper()
	var st struct {
		Warnings []string `json:"warnings"`
	}
	waitFor(t, func() bool {
		s.Get("/v1/status", &st)
		for _, w := range st.Warnings {
			has := true
			for _, p := range parts {
				has = has && strings.Contains(w, p)
			}
			if has {
				return true
			}
		}
		return false
	}, func() string {
		return "no warning with " + strings.Join(parts, ", ") + ": " + strings.Join(st.Warnings, "; ")
	})
}

// reloaded reloads a server by ctl, which waits for the end.
func reloaded(t *testing.T, s *lab.Server) {
	t.Helper()
	if _, stderr, code := s.Run("ctl", "reload", "--addr", s.HTTP); code != 0 {
		t.Fatalf("reload: %s", stderr)
	}
}

// TestABufferStaysItsStores: messages wait in the buffers of two stores of one category. A store is put
// before them and reloaded, then the first one is removed: each buffer still goes to its own server alone,
// and that of the removed store is told and stays.
func TestABufferStaysItsStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	a, b := lab.NewScribe(t, filing(in("a"))), lab.NewScribe(t, filing(in("b")))
	toA, toB := forwarding("web", a, in("bufa")), forwarding("web", b, in("bufb"))
	leaf := started(t, toB)
	send(t, leaf, "web", 0, 500)
	leaf.Rewrite(store("category=web", "type=file", "file_path="+in("copy"), "add_newlines=1") + toB)
	reloaded(t, leaf)
	b.Start()
	once(t, in("b")+"/web", "web", "web", 500)

	stopped(t, b)
	leaf.Rewrite(toA + toB)
	reloaded(t, leaf)
	send(t, leaf, "web", 500, 1000)
	stopped(t, leaf)
	leaf.Rewrite(toB)
	leaf.Start()
	warned(t, leaf, filepath.Join(in("bufa"), "web"), "put back")
	b.Start()
	once(t, in("b")+"/web", "web", "web", 1000)
	leaf.Rewrite(toA + toB)
	reloaded(t, leaf)
	a.Start()
	waitFor(t, func() bool { return len(lines(t, in("a")+"/web", "web")) == 500 }, func() string { return "A has not its 500" })
}

// TestWhatNoStoreSendsIsTold: a secondary's folder is changed while messages wait in it, and files of an
// original lie there that no store has: both are told by a reload and by a start, and sent when the store is back.
func TestWhatNoStoreSendsIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	central := lab.NewScribe(t, filing(in("central")))
	conf := func(folder string) string {
		return forwarding("web", central, in(folder))
	}
	leftovers(t, in("buf"), "gone", 0, frames(framed.OneFrame, "gone", 0, 3))
	leaf := started(t, conf("buf"))
	warned(t, leaf, in("buf"), "gone_00000")
	send(t, leaf, "web", 0, 1000)
	leaf.Rewrite(conf("newbuf"))
	reloaded(t, leaf)
	for range 2 {
		warned(t, leaf, filepath.Join(in("buf"), "web"), "put back")
		warned(t, leaf, in("buf"), "gone_00000")
		stopped(t, leaf)
		leaf.Start()
	}
	stopped(t, leaf)
	leaf.Rewrite(conf("buf"))
	leaf.Start()
	central.Start()
	once(t, in("central")+"/web", "web", "web", 1000)
}

// TestUnroutedMessagesAreSentByHand: a category without a store is kept; with a store for it the way that
// the page on migration tells sends its messages once.
func TestUnroutedMessagesAreSentByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	conf := store("category=web", "type=file", "file_path="+in("out"), "add_newlines=1")
	s := started(t, conf)
	log(t, s, entry("api", "one"), entry("", "blank"))
	s.Rewrite(conf + store("category=api", "type=file", "file_path="+in("out"), "add_newlines=0"))
	reloaded(t, s)
	warned(t, s, `category "api"`, "--reason unrouted")
	text, stderr, code := s.Run("buffer", "cat", "-c", s.Config, "--reason", "unrouted", "--category", "api")
	if code != 0 {
		t.Fatalf("buffer cat: %s", stderr)
	}
	for _, o := range tools(t, "scribe_cat")[:1] {
		if _, stderr, code := o.run(t, string(text), "-h", "localhost:"+s.Port(), "api"); code != 0 {
			t.Fatalf("scribe_cat: %s", stderr)
		}
	}
	holds(t, in("out"), "api", "one\n")
	if text, _, _ := s.Run("buffer", "cat", "-c", s.Config, "--reason", "dead-letter"); !strings.Contains(string(text), "blank") {
		t.Errorf("the dead letters are %q", text)
	}
	for _, reason := range []string{"unrouted", "dead-letter"} {
		if _, stderr, code := s.Run("buffer", "forget", "-c", s.Config, "--reason", reason); code != 0 {
			t.Errorf("buffer forget: %s", stderr)
		}
	}
	if text, stderr, _ := s.Run("buffer", "ls", "-c", s.Config); len(text) > 0 {
		t.Errorf("the buffer still has %s%s", text, stderr)
	}
}
