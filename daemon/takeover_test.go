package daemon

import (
	"os"
	"slices"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs"
)

// leave puts messages of a category into a file of an original.
func (w *world) leave(folder, base, category string, messages ...string) {
	w.t.Helper()
	w.leaveIn(framed.OneFrame, folder, base, category, messages...)
}

// leaveTwo does so in the form of two frames.
func (w *world) leaveTwo(folder, base, category string, messages ...string) {
	w.t.Helper()
	w.leaveIn(framed.TwoFrames, folder, base, category, messages...)
}

func (w *world) leaveIn(form framed.Form, folder, base, category string, messages ...string) {
	w.t.Helper()
	var b []byte
	for _, m := range messages {
		b = framedtest.Append(b, form, category, m)
	}
	if _, err := framedtest.AppendFile(vfs.OS(), folder, base, 0, b); err != nil {
		w.t.Fatal(err)
	}
}

// heirs are rules for clusters behind which an original has left files; RULES
// are more of them.
const heirs = `
categories:
RULES
  - match: "*"
    store: {failover: {places: [{files: {cluster: n1}}, {files: {cluster: n2}}, {buffer: {framed: {path: DIR/old}}}]}}
`

// reads waits until the messages of a category are those that stand there.
func (w *world) reads(category string, want ...string) {
	w.t.Helper()
	var got []string
	w.eventually("what was left is read", func() bool {
		got, _ = w.messages(category)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		w.t.Errorf("category %s holds %q, want %q", category, got, want)
	}
}

func TestWhatOneCategoryCannotTakeOverKeepsNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	rules := `
  - match: own
    store: {failover: {places: [{files: {cluster: n1}}, {buffer: {framed: {path: DIR/nodir, base: own}}}]}}
  - match: split*
    store:
      bucket:
        by: random
        stores:
          - failover: {places: [{files: {cluster: n1}}, {buffer: {framed: {path: DIR/split, base: old}}}]}
          - failover: {places: [{files: {cluster: n1}}, {buffer: {}}]}
`
	text := quick + two + strings.Replace(heirs, "RULES", rules, 1)
	w := newWorld(t, text)
	if err := os.WriteFile(w.path("nodir"), nil, 0o600); err != nil { // the first one cannot be listed
		t.Fatal(err)
	}
	w.leave(w.path("split"), "old", "split", "part one", "part two")
	for _, category := range []string{"api", "own", "web"} { // own has another rule
		w.leave(w.path("old", category), category, category, "old one\n", "old two")
	}
	if err := os.MkdirAll(w.path("old", "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.reads("api", "old one", "old two")
	w.reads("web", "old one", "old two")
	w.reads("split", "part one", "part two")
	for _, gone := range []string{w.path("old", "web", "web_00000"), w.path("old", "api", "api_00000"), w.path("split", "old_00000")} {
		w.eventually(gone+" is gone", func() bool { _, err := os.Stat(gone); return os.IsNotExist(err) })
	}
	if _, err := os.Stat(w.path("old", "own", "own_00000")); err != nil {
		t.Errorf("a rule took over what another one's category has: %v", err)
	}
	told := func() bool {
		return slices.ContainsFunc(w.status().Warnings, func(s string) bool { return strings.Contains(s, w.path("nodir")) })
	}
	w.eventually("the status says what is not taken over", told)

	w.leave(w.path("late"), "late", "late", "late one")
	if err := os.Remove(w.path("nodir")); err != nil {
		t.Fatal(err)
	}
	w.leave(w.path("nodir"), "own", "own", "mended")
	w.write(strings.Replace(text, "  - match: own\n", "  - match: late\n    store: {failover: {places: [{files: {cluster: n2}}, {buffer: {framed: {path: DIR/late, base: late}}}]}}\n  - match: own\n", 1))
	if _, err := w.server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.reads("late", "late one")
	w.reads("own", "mended")
	w.eventually("the status has nothing to tell any more", func() bool { return !told() })
	if n := w.logs.FilterMessageSnippet("has left in a spool is not sent").Len(); n != 0 {
		t.Errorf("%d lines about folders that the takeover made itself", n)
	}
}
