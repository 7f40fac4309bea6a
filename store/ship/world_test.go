package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/dir"
	"twinscribe/store/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hour10 = catalog.Partition("dt=2026-11-22/hr=10")

var (
	ag1 = catalog.Identity{Aggregator: "ag1", Epoch: 42, Start: 0x7f3c91d2}
	now = time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)
)

type watcher struct{}

func (watcher) Acknowledged()  {}
func (watcher) Failed(error)   {}
func (watcher) MayBegin() bool { return true }
func (watcher) Doubtful() bool { return false }

// health is a cluster's, as a test wants it.
type health struct{ away, drained atomic.Bool }

func (h *health) Usable() bool    { return !h.away.Load() && !h.drained.Load() }
func (h *health) Reachable() bool { return !h.away.Load() }

// keeper remembers items.
type keeper struct {
	mu    sync.Mutex
	items map[string]catalog.Item
}

func (k *keeper) PutAs(id catalog.Identity, p catalog.Partition, item catalog.Item) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items[fmt.Sprint(id, " ", p, " ", item.Category, " ", item.Chain, " ", item.Place, " ", item.Path)] = item
}

func (k *keeper) Flush(context.Context) error { return nil }

// A world is one process on a disk: two clusters, a buffer, a state folder.
type world struct {
	*testing.T
	disk     *memfs.FS
	fs       *faultfs.FS
	buffer   *buffer.Buffer
	dirs     []*dir.Cluster
	clusters map[string]*clustertest.Fault
	health   map[string]*health
	keeper   *keeper
	options  Options
}

const (
	bufferDir = "/state/buffer"
	shipDir   = "/state/ship"
)

// start begins a process on a disk.
func start(t *testing.T, disk *memfs.FS) *world {
	t.Helper()
	w := &world{T: t, disk: disk, fs: faultfs.New(disk, nil), clusters: make(map[string]*clustertest.Fault),
		health: make(map[string]*health), keeper: &keeper{items: make(map[string]catalog.Item)}}
	for _, name := range []string{"n1", "n2"} {
		c, err := dir.New(dir.Options{Name: name, Path: "/" + name, Create: true, FS: w.fs, Observer: watcher{}, Log: zap.NewNop(), MinFree: -1})
		w.must(err)
		w.dirs = append(w.dirs, c)
		var root cluster.Cluster = c
		if scribesNames {
			root = layout.Engine(c, catalog.EngineFolder)
		}
		w.clusters[name], w.health[name] = clustertest.NewFault(root, nil), &health{}
	}
	w.openBufferAt(func() time.Time { return now })
	w.options = Options{Buffer: w.buffer, FS: w.fs, Dir: shipDir, Keeper: w.keeper, Parallel: 1,
		Identity: catalog.Identity{Aggregator: "ag1", Epoch: 43, Start: 9}, // ag1 is an earlier start
		Targets:  []Target{{w.clusters["n1"], w.health["n1"]}, {w.clusters["n2"], w.health["n2"]}},
		Now:      func() time.Time { return now }, Log: zap.NewNop()}
	if scribesNames {
		w.options.Layout = func(_ string, h *catalog.Head) *layout.Layout {
			return &layout.Layout{Folder: scribes + catalog.Folder(string(h.Category)), Base: "base", Link: "base_current"}
		}
	}
	return w
}

// scribesNames has all files take the names of a Scribe, below scribes.
var scribesNames bool

const scribes = "scribe/"

// isFinal says whether a name is one that readers look for.
func isFinal(name string) bool {
	if scribesNames {
		return strings.HasPrefix(name, scribes) && !strings.HasSuffix(name, "_current")
	}
	base := path.Base(name)
	return !strings.HasPrefix(base, "_") && strings.HasSuffix(base, ".log")
}

// manifestOf is where the manifest of a final name lies.
func (w *world) manifestOf(cluster, name string) string {
	w.Helper()
	if !scribesNames {
		n, _ := catalog.ParseName(path.Base(name))
		return path.Join(path.Dir(name), n.Manifest())
	}
	found := ""
	for _, p := range w.files(cluster) {
		if _, form := catalog.ParseName(path.Base(p)); form != catalog.FormManifest {
			continue
		}
		m, err := catalog.DecodeManifest(p, []byte(w.content("/"+cluster+"/"+p)))
		if w.must(err); m.At != name {
			continue
		}
		if found != "" {
			w.Errorf("%s is told of by %s and %s", name, found, p)
		}
		found = p
	}
	if found == "" {
		w.Fatalf("no manifest tells of %s", name)
	}
	return found
}

// testWorld is a process on an empty disk.
func testWorld(t *testing.T) *world {
	w := start(t, memfs.New())
	t.Cleanup(func() { w.end() })
	return w
}

func (w *world) openBufferAt(clock func() time.Time) {
	w.Helper()
	var err error
	w.buffer, err = buffer.Open(w.fs, bufferDir, buffer.Options{
		Identity: buffer.Identity{Aggregator: ag1.Aggregator, Epoch: ag1.Epoch, Start: ag1.Start}, MinFree: -1, Log: zap.NewNop(),
		SegmentBytes: 1 << 20, Now: clock})
	w.must(err)
}

// end ends the process, whatever the disk says to it.
func (w *world) end() {
	_ = w.buffer.Close(context.Background())
	for _, c := range w.dirs {
		_ = c.Close()
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// put appends messages to a segment; they say what they are.
func (w *world) put(reason buffer.Reason, category string, chain uint32, p catalog.Partition, first uint64, n int) {
	w.Helper()
	r := &buffer.Record{Category: category, Chain: chain, Partition: string(p), First: first, Arrived: now.UnixNano(), Senders: []string{"10.0.0.1"},
		IDs: []buffer.ID{{Producer: "client", Epoch: 1, Sequence: first, First: first, Messages: uint32(n)}}}
	for i := range n {
		r.Data = fmt.Appendf(r.Data, "%s/%d/%s/%d", category, chain, p, first+uint64(i))
		if i == 1 {
			r.Data = fmt.Appendf(r.Data, "\nsecond line of %s/%d/%s/%d", category, chain, p, first+uint64(i))
		}
		r.Data = append(r.Data, '\n')
		r.Ends = append(r.Ends, uint32(len(r.Data)))
	}
	w.must(w.buffer.Append(context.Background(), reason, r))
}

func (w *world) seal(reasons ...buffer.Reason) {
	w.Helper()
	for _, r := range reasons {
		w.must(w.buffer.Seal(context.Background(), r))
	}
}

// segments that are not shipped.
func (w *world) segments() (list []buffer.Segment) {
	for _, s := range w.buffer.Segments() {
		if !s.Shipped {
			list = append(list, s)
		}
	}
	return list
}

// walk calls f for every file below a folder of the disk.
func (w *world) walk(folder string, f func(name string)) {
	entries, err := w.disk.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	w.must(err)
	for _, e := range entries {
		if full := path.Join(folder, e.Name()); e.IsDir() {
			w.walk(full, f)
		} else {
			f(full)
		}
	}
}

// files below a cluster's root, without the root's own marker.
func (w *world) files(cluster string) (list []string) {
	w.walk("/"+cluster, func(name string) {
		if path.Base(name) != dir.Marker {
			list = append(list, strings.TrimPrefix(name, "/"+cluster+"/"))
		}
	})
	return list
}

func (w *world) content(name string) string {
	w.Helper()
	f, err := w.disk.OpenFile(name, os.O_RDONLY, 0)
	w.must(err)
	defer f.Close()
	b, err := io.ReadAll(f)
	w.must(err)
	return string(b)
}

// final is what a reader that knows nothing but names finds: the lines of all
// final names, and of all segments that are not shipped.
func (w *world) final() (inFiles, inSegments map[string]int) {
	w.Helper()
	inFiles, inSegments = make(map[string]int), make(map[string]int)
	for _, cluster := range []string{"n1", "n2"} {
		for _, name := range w.files(cluster) {
			if !isFinal(name) {
				continue
			}
			for l := range strings.Lines(w.content("/" + cluster + "/" + name)) {
				inFiles[l]++
			}
			w.checkManifest(cluster, name)
		}
	}
	w.walk(bufferDir, func(name string) {
		if !strings.HasSuffix(name, ".seg") {
			return
		}
		_, err := buffer.ReadSegment(w.disk, name, func(r *buffer.Record) error {
			for l := range strings.Lines(string(r.Data)) {
				inSegments[l]++
			}
			return nil
		})
		w.must(err)
	})
	return inFiles, inSegments
}

// checkManifest checks that a final name has a manifest that is its own.
func (w *world) checkManifest(cluster, name string) {
	w.Helper()
	manifest := w.manifestOf(cluster, name)
	m, err := catalog.DecodeManifest(name, []byte(w.content("/"+cluster+"/"+manifest)))
	w.must(err)
	n, _ := catalog.ParseName(m.File)
	data := w.content("/" + cluster + "/" + name)
	if m.Bytes != int64(len(data)) || m.Reason != "ship" || !n.Shipped || n.Identity != ag1 || n.Manifest() != path.Base(manifest) || !scribesNames && m.File != path.Base(name) {
		w.Errorf("%s of %d bytes has the manifest %+v", name, len(data), m)
	}
	messages := int64(0)
	for _, r := range m.Ranges {
		messages += int64(r.Last - r.First + 1)
	}
	if lines := int64(strings.Count(data, "\n")); messages != m.Messages || lines != m.Messages+int64(len(m.LineFeeds)) || len(m.IDs) == 0 || len(m.Arrivals) == 0 {
		w.Errorf("%s of %d lines has the manifest %+v", name, lines, m)
	}
}

// wantOnce checks that every line of want is there once, in files only.
func (w *world) wantOnce(want map[string]int) {
	w.Helper()
	files, segments := w.final()
	if !maps.Equal(files, want) {
		w.Errorf("final names hold %s, want %s", show(files), show(want))
	}
	if len(segments) > 0 {
		w.Errorf("segments hold %s", show(segments))
	}
}

// wantNothingLost checks that every line is in a file, or in a segment.
func (w *world) wantNothingLost(want map[string]int) {
	w.Helper()
	files, segments := w.final()
	for l := range want {
		if files[l]+segments[l] == 0 {
			w.Errorf("%q is nowhere", l)
		}
		if files[l] > 1 || segments[l] > 1 {
			w.Errorf("%q stands %d times in files and %d times in segments", l, files[l], segments[l])
		}
	}
}

func show(lines map[string]int) string {
	var list []string
	for l, n := range lines {
		list = append(list, fmt.Sprintf("%d×%q", n, l))
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

// wantTidy checks that nothing else is left: no intents, no open files.
func (w *world) wantTidy() {
	w.Helper()
	w.walk(shipDir, func(name string) {
		if path.Base(name) != firstLook {
			w.Errorf("%s is left", name)
		}
	})
	for _, cluster := range []string{"n1", "n2"} {
		files := w.files(cluster)
		for _, name := range files {
			n, form := catalog.ParseName(path.Base(name))
			if form == catalog.FormOpen || form == catalog.FormManifest && !scribesNames && !slices.Contains(files, path.Join(path.Dir(name), n.Sealed())) {
				w.Errorf("%s:%s is left", cluster, name)
			}
			if form == catalog.FormManifest && scribesNames {
				m, err := catalog.DecodeManifest(name, []byte(w.content("/"+cluster+"/"+name)))
				if w.must(err); !slices.Contains(files, m.At) {
					w.Errorf("%s:%s is left", cluster, name)
				}
			}
		}
	}
}
