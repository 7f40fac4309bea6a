package reader

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

func (w *world) list(q Query) (lines []string, r Report) {
	w.Helper()
	r, err := New(w.options()).List(context.Background(), q, func(i *Item) error {
		missing := ""
		if i.Missing != "" {
			missing = " missing"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s.%s %d messages %d bytes%s", i.Place, i.State, i.Category, i.Partition, i.Aggregator, i.Start, i.Messages, i.Bytes, missing))
		if _, err := json.Marshal(i); err != nil {
			return err
		}
		return nil
	})
	w.must(err)
	return lines, r
}

func TestListTellsWhereEverythingIs(t *testing.T) {
	w := testWorld(t)
	w.sealed(web("n1", 1, numbered("m", 1, 3)))
	open := web("n2", 2, numbered("m", 4, 2), numbered("m", 6, 2))
	open.kept = 1
	w.unsealed(open, catalog.StateOpen)
	w.unsealed(web("n2", 3, numbered("m", 8, 2)), catalog.StateTorn)
	w.write("n1", web("n1", 4).openPath(), []byte("orphan\n"))
	gone := web("n1", 5, numbered("m", 10, 1))
	w.sealed(gone)
	w.remove("n1", gone.path())
	w.segmentItems(ag1, w.segmentOf(ag1, buffer.Spill, stored{"web", 3, hour10, numbered("m", 11, 3)}), catalog.StateSegment)
	shipped := w.segmentOf(ag2, buffer.Spill, stored{"web", 3, hour10, numbered("m", 1, 3)})
	w.must(os.Rename(filepath.Join(w.bufferDir(), shipped), filepath.Join(w.bufferDir(), strings.TrimSuffix(shipped, ".seg")+".shipped")))
	elsewhere := strings.Replace(shipped, "ag2", "ag9", 1)
	w.addItem(ag2, hour10, catalog.Item{Category: "web", Chain: 4, Place: "buffer", Path: elsewhere, State: catalog.StateSegment, Messages: 5, Bytes: 50})
	w.inventories("n1")
	got, report := w.list(Query{Category: "web"})
	want := []string{
		"n1 sealed web dt=2026-11-22/hr=10 ag1.0000002a.7f3c91d2 3 messages 12 bytes",
		"n2 open web dt=2026-11-22/hr=10 ag1.0000002a.7f3c91d2 2 messages 8 bytes",
		"n2 torn web dt=2026-11-22/hr=10 ag1.0000002a.7f3c91d2 2 messages 8 bytes",
		"n1 open web dt=2026-11-22/hr=10 ag1.0000002a.7f3c91d2 -1 messages 7 bytes",
		"buffer segment web dt=2026-11-22/hr=10 ag1.0000002a.7f3c91d2 3 messages 15 bytes",
		"buffer shipped web dt=2026-11-22/hr=10 ag2.00000001.00000001 3 messages 12 bytes",
		"n1 sealed web dt=2026-11-22/hr=10 ag1.0000002a.7f3c91d2 1 messages 5 bytes missing",
		"buffer segment web dt=2026-11-22/hr=10 ag2.00000001.00000001 5 messages 50 bytes missing",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("list is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.wantUncounted(report, "00002.log.open is open and its writer is gone", "00004.log.open is open, its writer is gone and no inventory",
		"00005.log: the inventory", elsewhere+" lies on a host that no member file names")
}

// checked is what Check says.
func (w *world) checked() Report {
	w.Helper()
	r, err := New(w.options()).Check(context.Background(), Query{})
	w.must(err)
	return r
}

func TestCheckFindsNothingWhereNothingIsWrong(t *testing.T) {
	w := testWorld(t)
	odd := numbered("m", 1, 30)
	odd.messages[3], odd.messages[29] = "line\nfeeds\n\n", "\n"
	w.sealed(web("n1", 1, odd, numbered("m", 40, 5)))
	w.unsealed(web("n2", 2, numbered("m", 50, 20)), catalog.StateTorn)
	s := web("n2", 3, numbered("m", 60, 5))
	s.segment = 1
	w.sealed(s)
	w.segmentItems(ag1, w.segmentOf(ag1, buffer.Outage, stored{"web", 3, hour10, numbered("m", 60, 5)}), catalog.StateSegment)
	repaired := web("n1", 4, numbered("m", 40, 5))
	repaired.reason = "repair"
	w.sealed(repaired)
	w.member(ag1, 0)
	w.inventories("n1", "n2")
	r := w.checked()
	w.wantUncounted(r)
	w.wantProblems(r)
	if r.Messages != 30+5+20+5+5+5 {
		t.Errorf("%d messages were checked, want 70", r.Messages)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		spoil     func(w *world, s spec)
		uncounted []string
		problems  []string
	}{
		"a flipped bit": {func(w *world, s spec) {
			data, _ := s.content("size")
			data[0] ^= 1
			w.write("n1", s.path(), data)
		}, []string{"its checksum is"}, nil},
		"a file cut short": {func(w *world, s spec) {
			data, _ := s.content("size")
			w.write("n1", s.path(), data[:len(data)-5])
		}, []string{"it has 86 bytes, and its manifest says 91"}, nil},
		"a line feed that was a letter": {func(w *world, s spec) {
			data, m := s.content("size")
			data[2] = '\n'
			m.CRC32C = crc(data)
			w.write("n1", s.path(), data)
			w.manifest(s, m)
		}, []string{"holds 21 messages, and its manifest says 20"}, nil},
		"a manifest without its file": {func(w *world, s spec) {
			w.remove("n1", s.path())
		}, []string{"tells of it (sealed), and it is not there"}, []string{"is a manifest of a file that is not there"}},
		"a file whose cluster lost the end": {func(w *world, s spec) {
			_, m := s.content("repair")
			m.Missing = 6
			w.manifest(s, m)
		}, []string{"the cluster has lost 6 acknowledged bytes"}, nil},
		"an inventory that tells something else": {func(w *world, _ spec) {
			w.items[ag1][hour10][0].Messages++
			w.inventories("n1")
		}, nil, []string{"tells of 21 messages in 91 bytes"}},
		"an inventory that is behind": {func(w *world, _ spec) {
			w.items[ag1][hour10][0].State = catalog.StateSealing
			w.inventories("n1")
		}, nil, []string{"is sealed, and the inventory of ag1-0000002a.7f3c91d2 calls it sealing"}},
		"a file that no inventory tells of": {func(w *world, _ spec) {
			w.items[ag1][hour10] = nil
			w.inventories("n1")
		}, nil, []string{"no inventory tells of it"}},
		"a missing inventory": {func(w *world, _ spec) {
			w.remove("n1", catalog.InventoryPath(ag1, hour10))
		}, []string{"the inventory of ag1-0000002a.7f3c91d2 for dt=2026-11-22/hr=10 is missing"}, []string{"no inventory tells of it"}},
		"two files with the same messages": {func(w *world, s spec) {
			s.cluster, s.number = "n2", 8
			w.sealed(s)
			w.inventories("n1")
		}, nil, []string{"both hold sequences 1 to 20 of chain 3"}},
		"a damaged member file": {func(w *world, _ spec) {
			w.write("n2", catalog.MembersFolder+"/ag7.00000001.json", []byte("x"))
		}, []string{"ag7.00000001.json: malformed"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := testWorld(t)
			s := web("n1", 1, numbered("m", 1, 11), batch{first: 12, messages: numbered("n", 12, 9).messages})
			w.sealed(s)
			w.member(ag1, 0)
			w.inventories("n1")
			test.spoil(w, s)
			r := w.checked()
			w.wantUncounted(r, test.uncounted...)
			w.wantProblems(r, test.problems...)
		})
	}
}

// served serves a buffer as a daemon does.
func served(w *world, t *testing.T) string {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/segments", func(rw http.ResponseWriter, _ *http.Request) {
		list, err := buffer.List(vfs.OS(), w.bufferDir())
		w.must(err)
		w.must(json.NewEncoder(rw).Encode(list))
	})
	m.HandleFunc("GET /v1/segments/{name}", func(rw http.ResponseWriter, r *http.Request) {
		http.ServeFile(rw, r, filepath.Join(w.bufferDir(), filepath.Base(r.PathValue("name"))))
	})
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestABufferIsReadByHTTP(t *testing.T) {
	w := testWorld(t)
	a, b := numbered("m", 1, 300), numbered("m", 400, 20)
	b.messages[7] = "\xff\n\xfe"
	category := "not utf\xff8"
	name := w.segmentOf(ag1, buffer.Outage, stored{category, 3, hour10, a}, stored{"other", 4, hour10, numbered("o", 1, 10)}, stored{category, 3, hour10, b})
	w.segmentItems(ag1, name, catalog.StateSegment)
	w.member(ag1, 10*time.Minute)
	w.inventories("n1")
	o := w.options()
	remote := RemoteBuffer(served(w, t))
	defer remote.(*remoteBuffer).client.CloseIdleConnections()
	o.Buffers = []BufferSource{remote}
	got, report := w.readWith(o, Query{Category: category})
	w.wantText(got, a, b)
	w.wantUncounted(report)
	if got[0].place != remote.Name() {
		t.Errorf("place is %q", got[0].place)
	}

	// Shipped and removed: it is in no list, or it is gone when it is opened.
	segments, err := remote.Segments(context.Background())
	w.must(err)
	w.must(os.Remove(filepath.Join(w.bufferDir(), name)))
	if _, err := remote.Open(context.Background(), &segments[0]); !os.IsNotExist(err) && !strings.Contains(err.Error(), "not exist") {
		t.Errorf("opening a removed segment: %v", err)
	}
	_, report = w.readWith(o, Query{Category: category})
	w.wantUncounted(report, "lies on host host-ag1 (127.0.0.1:1), in none of the buffers that are read: 320 messages")
}

func TestABufferThatDoesNotAnswerIsTold(t *testing.T) {
	w := testWorld(t)
	w.sealed(web("n1", 1, numbered("m", 1, 3)))
	w.inventories("n1")
	garbage := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "<html>") }))
	defer garbage.Close()
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	o := w.options()
	for _, s := range []*httptest.Server{garbage, away} {
		remote := RemoteBuffer(strings.TrimPrefix(s.URL, "http://"))
		defer remote.(*remoteBuffer).client.CloseIdleConnections()
		o.Buffers = append(o.Buffers, remote)
	}
	got, report := w.readWith(o, Query{})
	w.wantText(got, numbered("m", 1, 3))
	w.wantUncounted(report, "cannot be read (list of segments", "cannot be read (Get")
}
