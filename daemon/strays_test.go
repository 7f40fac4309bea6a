package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// told waits until the status has a warning with all of these in it.
func (w *world) told(parts ...string) {
	w.t.Helper()
	var last []string
	w.eventually("the status tells "+strings.Join(parts, ", "), func() bool {
		last = w.status().Warnings
		return slices.ContainsFunc(last, func(s string) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
		})
	})
}

// quiet checks that no warning of the status has this in it.
func (w *world) quiet(part string) {
	w.t.Helper()
	for _, s := range w.status().Warnings {
		if strings.Contains(s, part) {
			w.t.Errorf("the status tells %q", s)
		}
	}
}

// buffers are stores of web, each with a sink and a folder for its spool.
func buffers(stores ...string) string {
	text := forwardingTimes + "clusters: []\ncategories:\n  - match: web\n    ack: received\n    stores:\n"
	for _, st := range stores {
		text += "      - " + st + "\n"
	}
	return text
}

func buffering(k *sink, folder string) string {
	return `failover: {retry: {interval: 200ms, range: 0s}, places: [{network: {servers: ["` + k.addr + `"], timeout: 1s}}, ` +
		`{buffer: {path: DIR/` + folder + `, max_bytes: 64MiB, replay: auto}}]}`
}

func TestASpoolStaysItsStoresWhereOthersComeOrGo(t *testing.T) {
	t.Parallel()
	a, b := newSink(t), newSink(t)
	const file = "scribe_files: {file_path: DIR/out, base_filename: web}"
	for name, c := range map[string]struct{ before, after []string }{
		"one is put before it by a reload": {[]string{buffering(b, "b")}, []string{file, buffering(b, "b")}},
		"the one before it is removed":     {[]string{buffering(a, "a"), buffering(b, "b")}, []string{buffering(b, "b")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, buffers(c.before...)).start()
			a.refuse(true)
			b.refuse(true)
			w.send("web", name)
			if len(c.after) > 1 {
				w.eventually("it waits in the spool", func() bool { return w.spools().Waiting == 1 })
				w.write(buffers(c.after...))
				if _, err := w.server.Reload(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				w.stop()
				w.write(buffers(c.after...))
				w.start()
				w.told(w.path("a", "web"), "bytes", "put back")
			}
			had := len(b.of("web"))
			b.refuse(false)
			w.eventually("the store's own server has it", func() bool { return slices.Contains(b.of("web"), name) })
			if got := b.of("web"); len(got) != had+1 {
				t.Errorf("it has %q", got)
			}
			if got := a.of("web"); len(got) > 0 {
				t.Errorf("the other one has %q", got)
			}
		})
	}
}

func TestASpoolWhoseFolderNoStoreHasAnyMoreIsTold(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	text := func(folder string) string {
		return forwardingTimes + strings.Replace(strings.ReplaceAll(forwarding, "SINK", k.addr), "DIR/spool", "DIR/"+folder, 1)
	}
	w := newWorld(t, text("old")).start()
	k.refuse(true)
	w.send("web", "one")
	w.eventually("it waits", func() bool { return w.spools().Waiting == 1 })
	w.write(text("new"))
	if _, err := w.server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.told(w.path("old", "web"), "put back")
	k.refuse(false)
	w.stop()
	w.start()
	w.told(w.path("old", "web"), "put back")
	w.stop()

	if err := os.Rename(w.path("old"), w.path("away")); err != nil { // as an operator does
		t.Fatal(err)
	}
	w.start()
	w.quiet(w.path("old"))
	w.stop()
	if err := os.Rename(w.path("away"), w.path("old")); err != nil {
		t.Fatal(err)
	}
	w.write(text("old"))
	w.start()
	w.gets(k, "web", "one")
}

func TestFilesOfScribeThatNoStoreHasAreTold(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	rules := `
categories:
  - match: web
    ack: received
    stores:
      - scribe_files: {file_path: DIR/old, base_filename: mine}
      - failover:
          places:
            - network: {servers: ["SINK"], timeout: 1s}
            - buffer: {path: DIR/old, max_bytes: 64MiB, replay: auto, framed: {path: DIR/old, base: web}}
`
	w := newWorld(t, forwardingTimes+"clusters: []"+strings.ReplaceAll(rules, "SINK", k.addr))
	w.leave(w.path("old"), "stray", "stray", "one")
	w.leave(w.path("old"), "mine", "mine", "of the file store")
	w.leave(w.path("old", "deleted"), "deleted", "deleted", "two")
	w.leave(w.path("old"), "web", "web", "taken")
	w.start()
	w.told("in "+w.path("old")+" are not sent, 1 with", "such as stray_00000")
	w.told(w.path("old", "deleted"), "such as deleted_00000")
	w.gets(k, "web", "taken")
	w.stop()

	w.write(forwardingTimes + two + all) // the folder is not configured any more
	w.start()
	w.told(w.path("old", "deleted"), "such as deleted_00000")
	w.told("in "+w.path("old")+" are not sent", "such as mine_00000")
}

func TestManyFoldersThatNobodySendsAreCounted(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(strings.ReplaceAll(forwarding, "SINK", k.addr), `"*"`, "web"))
	for i := range mostTold + 7 {
		name := "gone" + strings.Repeat("x", i)
		w.leave(w.path("spool", name), name, name, "one")
	}
	w.start()
	w.told("7 more folders")
	if n := len(w.status().Warnings); n != mostTold+1 {
		t.Errorf("%d warnings", n)
	}
}

func TestACategoryMayHaveTheNameOfAFileOfTheSpools(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(forwarding, "SINK", k.addr))
	w.leave(w.path("spool"), "web", "web", "a file in the way of a folder")
	w.start()
	k.refuse(true)
	names := []string{"spools.lock", "framed", "web_00000"}
	for _, name := range names {
		w.send(name, "one")
	}
	w.eventually("all wait", func() bool { return w.spools().Waiting == int64(len(names)) })
	w.stop()
	k.refuse(false)
	w.start()
	for _, name := range names {
		w.gets(k, name, "one")
	}
}

func TestFilesOfAPatternAreSentWhereAnExactRuleHasItsName(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	rules := `
categories:
  - {match: web, store: {network: {servers: ["SINK"], timeout: 1s}}}
  - match: "web*"
    ack: received
    store:
      failover:
        places:
          - network: {servers: ["SINK"], timeout: 1s}
          - buffer: {path: DIR/old, max_bytes: 64MiB, replay: auto, framed: {path: DIR/old, base: web, form: two}}
`
	w := newWorld(t, forwardingTimes+"clusters: []"+strings.ReplaceAll(rules, "SINK", k.addr))
	w.leaveTwo(w.path("old"), "web", "web7", "one")
	k.refuse(true)
	w.start()
	w.eventually("the file is among what waits", func() bool {
		st := w.spools()
		return st.Files == 1 && st.FileBytes > 0 && len(st.Behind) == 1 && st.Behind[0].Files == 1 && w.metric("twinscribe_spool_framed_files") == 1
	})
	k.refuse(false)
	w.gets(k, "web7", "one")
	w.eventually("no file waits", func() bool { return w.spools().Files == 0 && w.metric("twinscribe_spool_framed_bytes") == 0 })
}

func TestTheNoteOfFoldersForgetsThoseThatAreEmptyAndPassesOverWhatItIsNot(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(forwarding, "SINK", k.addr))
	w.leave(w.path("kept", "gone"), "gone", "gone", "one")
	if err := os.MkdirAll(w.path("empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(w.path("state"), usedFile)
	if err := os.MkdirAll(w.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := `"` + w.path("kept") + `"` + "\n" + `"` + w.path("empty") + `"` + "\nnonsense\n\"relative\"\n"
	if err := os.WriteFile(note, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.told(w.path("kept", "gone"), "such as gone_00000")
	if n := w.logs.FilterMessageSnippet("names no folder").Len(); n != 2 {
		t.Errorf("%d lines are passed over, want 2", n)
	}
	w.send("web", "one")
	w.gets(k, "web", "one")
	got, err := os.ReadFile(note)
	if want := `"` + w.path("kept") + `"` + "\n" + `"` + w.path("spool") + `"` + "\n"; err != nil || string(got) != want {
		t.Errorf("the note is %s, %v; want %s", got, err, want)
	}
	w.stop()

	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(note, 0o700); err != nil { // it cannot be read
		t.Fatal(err)
	}
	w.start()
	w.send("web", "two")
	w.gets(k, "web", "one", "two")
	if n := w.logs.FilterMessageSnippet("which folders have had spools is not known").Len(); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}
