package reader

import (
	"context"
	"strings"
	"testing"

	"twinscribe/store/catalog"
)

// What lies on a cluster comes from outside: nothing of it may make the reader
// fail, leave the roots, or leave out what is right beside it.
func TestHostileFilesCostNoneOfTheOthers(t *testing.T) {
	good := numbered("good", 1, 5)
	victim := func(change func(m *catalog.Manifest)) func(w *world, s spec) {
		return func(w *world, s spec) {
			data, m := s.content("size")
			w.write("n1", s.path(), data)
			change(m)
			b, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			w.write("n1", s.manifestPath(), b)
		}
	}
	raw := func(text string) func(w *world, s spec) {
		return func(w *world, s spec) {
			data, _ := s.content("size")
			w.write("n1", s.path(), data)
			w.write("n1", s.manifestPath(), []byte(text))
		}
	}
	const byLines = "read line by line"
	for name, test := range map[string]struct {
		put   func(w *world, s spec)
		lines int // of the victim that come out
		tell  []string
	}{
		"no JSON":           {raw("{"), 6, []string{byLines}},
		"another type":      {raw("[]"), 6, []string{byLines}},
		"a newer version":   {raw(`{"version":9}`), 6, []string{"version 9"}},
		"deep nesting":      {raw(strings.Repeat("[", 100000)), 6, []string{byLines}},
		"huge numbers":      {raw(`{"version":1,"bytes":1e400}`), 6, []string{byLines}},
		"another file's":    {victim(func(m *catalog.Manifest) { m.File = "x" }), 6, []string{byLines}},
		"another start's":   {victim(func(m *catalog.Manifest) { m.Start = "00000009" }), 6, []string{byLines}},
		"another category":  {victim(func(m *catalog.Manifest) { m.Category = "../x" }), 6, []string{byLines}},
		"another partition": {victim(func(m *catalog.Manifest) { m.Partition = hour11 }), 6, []string{byLines}},
		"longer than the file": {victim(func(m *catalog.Manifest) {
			m.Bytes += 1 << 40
			m.Ranges[0].End += 1 << 40
		}), 6, nil},
		"more messages than there are": {victim(func(m *catalog.Manifest) {
			m.Messages += 4
			m.Ranges[0].Last += 4
		}), 6, []string{"there are fewer"}},
		"fewer messages than there are": {victim(func(m *catalog.Manifest) {
			m.Messages -= 4
			m.Ranges[0].Last -= 4
		}), 2, []string{"hold more messages than its manifest says"}},
		"line feeds that are none": {victim(func(m *catalog.Manifest) {
			m.LineFeeds = []catalog.Span{{Offset: 2, Length: 5}}
		}), 6, nil},
		"line feeds up to nowhere": {victim(func(m *catalog.Manifest) {
			m.LineFeeds = []catalog.Span{{Offset: 0, Length: 3}}
		}), 6, nil},
		"batch ids of others": {victim(func(m *catalog.Manifest) {
			m.IDs = []catalog.BatchSpan{{First: 900, Messages: 1 << 31}, {First: 1, Messages: 1}, {First: 800, Messages: 1}}
		}), 6, nil},
		"arrivals without order": {victim(func(m *catalog.Manifest) {
			m.Arrivals = []catalog.Arrival{{First: 900}, {First: 1, Millis: 1 << 62}}
		}), 6, nil},
		"a folder with the file's name": {func(w *world, s spec) {
			w.write("n1", s.path()+"/x", nil)
		}, 0, nil},
		"an inventory that points elsewhere": {func(w *world, s spec) {
			_, m := s.content("")
			w.addItem(ag1, hour10, catalog.Item{Category: "web", Chain: 3, Place: "n1", Path: "../../../etc/passwd", State: catalog.StateOpen, Messages: 3, Manifest: m})
			w.inventories("n2")
		}, 0, []string{"../../../etc/passwd"}},
		"an inventory that is none": {func(w *world, _ spec) {
			w.write("n2", catalog.InventoryPath(ag2, hour10), []byte("nothing"))
		}, 0, []string{"what only it tells of may be missing"}},
		"an inventory under another's name": {func(w *world, _ spec) {
			w.inventories("n2")
			w.must(w.dirs[1].Rename(context.Background(), catalog.InventoryPath(ag1, hour10), catalog.InventoryPath(ag2, hour10)))
		}, 0, []string{"what only it tells of may be missing"}},
		"names that are not ours": {func(w *world, s spec) {
			for _, n := range []string{"part-00000", "_SUCCESS", ".hidden", s.name().Sealed() + ".gz", "_x.log.open", "hr=99", "dt=2026-13-01"} {
				w.write("n1", s.folder()+"/"+n, []byte("x\n"))
				w.write("n1", "web/"+n+"/"+n, []byte("x\n"))
				w.write("n1", n+"/dt=2026-11-22/hr=10/"+n, []byte("x\n"))
			}
		}, 0, nil},
		"a file without line feeds": {func(w *world, s spec) {
			w.write("n1", s.path(), []byte(strings.Repeat("x", 5000)))
		}, 0, []string{"no whole message", byLines}},
	} {
		t.Run(name, func(t *testing.T) {
			w := testWorld(t)
			w.sealed(web("n2", 1, good))
			w.inventories("n1")
			bad := web("n1", 2, batch{first: 11, messages: []string{"one", "two", "three", "four", "five", "six"}})
			bad.chain, bad.kept = 4, -1
			test.put(w, bad)
			for _, q := range []Query{{}, {Category: "web"}} {
				got, report := w.read(q)
				if len(got) != len(good.messages)+test.lines {
					t.Errorf("%d messages, want %d", len(got), len(good.messages)+test.lines)
				}
				w.wantText(got[:len(good.messages)], good)
				w.wantUncounted(report, test.tell...)
			}
			w.checked()
			w.list(Query{})
		})
	}
}
