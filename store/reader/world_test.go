package reader

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/dir"
	"twinscribe/store/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is what tests and rapid's checks have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

const (
	hour10 = catalog.Partition("dt=2026-11-22/hr=10")
	hour11 = catalog.Partition("dt=2026-11-22/hr=11")
)

var (
	ag1 = catalog.Identity{Aggregator: "ag1", Epoch: 42, Start: 0x7f3c91d2}
	ag2 = catalog.Identity{Aggregator: "ag2", Epoch: 1, Start: 0x00000001}
	// now is the reader's clock: within the hour of hour11.
	now = time.Date(2026, 11, 22, 11, 30, 0, 0, time.UTC)
)

// watcher is an observer that nobody asks.
type watcher struct{}

func (watcher) Acknowledged()  {}
func (watcher) Failed(error)   {}
func (watcher) MayBegin() bool { return true }
func (watcher) Doubtful() bool { return false }

// A world is two clusters and a buffer, filled by hand.
type world struct {
	tester
	root     string
	clusters map[string]*clustertest.Fault
	dirs     []*dir.Cluster
	items    map[catalog.Identity]map[catalog.Partition][]catalog.Item
	counters uint64
	named    uint32 // files that have the names of a Scribe
}

// scribesNames has all sealed files have the names of a Scribe.
var scribesNames bool

// flat is a cluster whose engine's folder is the root.
type flat struct{ cluster.Cluster }

func inner(p string) string { return strings.TrimPrefix(p, layout.Outside("")) }

func (f flat) Stat(ctx context.Context, p string) (cluster.Info, error) {
	return f.Cluster.Stat(ctx, inner(p))
}

func (f flat) Open(ctx context.Context, p string) (cluster.Reader, error) {
	return f.Cluster.Open(ctx, inner(p))
}

func newWorld(t tester, root string) *world {
	w := &world{tester: t, root: root, clusters: make(map[string]*clustertest.Fault),
		items: make(map[catalog.Identity]map[catalog.Partition][]catalog.Item)}
	for _, name := range []string{"n1", "n2"} {
		c, err := dir.New(dir.Options{Name: name, Path: filepath.Join(root, name), Create: true, FS: vfs.OS(), Observer: watcher{}, Log: zap.NewNop()})
		w.must(err)
		w.dirs = append(w.dirs, c)
		w.clusters[name] = clustertest.NewFault(flat{c}, nil)
	}
	return w
}

// testWorld is a world for one test.
func testWorld(t *testing.T) *world {
	w := newWorld(t, t.TempDir())
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	for _, c := range w.dirs {
		w.must(c.Close())
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) bufferDir() string { return filepath.Join(w.root, "buffer") }

func (w *world) options() Options {
	return Options{
		Clusters: []cluster.Cluster{w.clusters["n1"], w.clusters["n2"]},
		Buffers:  []BufferSource{LocalBuffer(vfs.OS(), w.bufferDir())},
		Chunk:    64, // so that messages lie across the edges of chunks
		Now:      func() time.Time { return now },
		Log:      zap.NewNop(),
	}
}

func (w *world) write(cluster, file string, content []byte) {
	w.Helper()
	full := filepath.Join(w.root, cluster, filepath.FromSlash(file))
	w.must(os.MkdirAll(filepath.Dir(full), 0o755))
	w.must(os.WriteFile(full, content, 0o644))
}

func (w *world) remove(cluster, file string) {
	w.Helper()
	w.must(os.Remove(filepath.Join(w.root, cluster, filepath.FromSlash(file))))
}

// A batch is what a test puts somewhere.
type batch struct {
	first    uint64
	messages []string
	ids      []catalog.BatchSpan
	counted  bool
}

// numbered makes a batch of n messages that say which they are.
func numbered(what string, first uint64, n int) batch {
	b := batch{first: first}
	for i := range n {
		b.messages = append(b.messages, fmt.Sprintf("%s %d", what, first+uint64(i)))
	}
	return b
}

func (b batch) last() uint64 { return b.first + uint64(len(b.messages)) - 1 }

func (b batch) text() (data []byte, ends []uint32) {
	for _, m := range b.messages {
		data = append(append(data, m...), '\n')
		ends = append(ends, uint32(len(data)))
	}
	return data, ends
}

// A spec describes a file.
type spec struct {
	cluster   string
	category  string // web
	partition catalog.Partition
	id        catalog.Identity
	chain     uint32
	number    uint32
	segment   uint32 // of a shipped file: number is the chain's then
	reason    string
	batches   []batch
	// kept is how many batches its manifest tells of; the others follow them
	// in the file. -1: all.
	kept int
}

func (s spec) name() catalog.Name {
	return catalog.Name{Time: now, Identity: s.id, Number: s.number, Segment: s.segment, Shipped: s.segment != 0}
}

func (s spec) folder() string { return path.Join(catalog.Folder(s.category), string(s.partition)) }

func (s spec) path() string { return path.Join(s.folder(), s.name().Sealed()) }

func (s spec) openPath() string { return path.Join(s.folder(), s.name().Open()) }

func (s spec) manifestPath() string { return path.Join(s.folder(), s.name().Manifest()) }

// content is the file and the manifest of what is kept.
func (s spec) content(reason string) ([]byte, *catalog.Manifest) {
	b := catalog.NewBuilder(catalog.Head{File: s.name().Sealed(), Identity: s.id, Chain: s.chain, Category: catalog.Text(s.category), Partition: s.partition})
	var all []byte
	for i, one := range s.batches {
		data, ends := one.text()
		if s.kept < 0 || i < s.kept {
			b.Add(&catalog.Line{Offset: b.Bytes(), End: b.Bytes() + int64(len(data)), First: one.first, Last: one.last(), Arrived: now.UnixNano(),
				Senders: []string{"10.0.0.1"}, IDs: one.ids, Counted: one.counted, LineFeeds: catalog.LineFeeds(nil, data, ends, b.Bytes())})
			b.Sum(data)
		}
		all = append(all, data...)
	}
	if reason == "" {
		return all, b.Snapshot()
	}
	return all, b.Manifest(reason, now.Add(-time.Hour))
}

// sealed puts a sealed file with its manifest and its item.
func (w *world) sealed(s spec) *catalog.Manifest {
	w.Helper()
	s.kept = -1
	if s.reason == "" {
		s.reason = "size"
	}
	data, m := s.content(s.reason)
	final := s.path()
	if scribesNames {
		target := &catalog.Target{Folder: "scribe/" + catalog.Folder(s.category), Stem: "base"}
		final = target.Path(w.named)
		w.named++
		m.SetTarget(target, final)
	}
	w.write(s.cluster, final, data)
	w.manifest(s, m)
	w.item(s, catalog.StateSealed, m, false)
	return m
}

func (w *world) manifest(s spec, m *catalog.Manifest) {
	w.Helper()
	b, err := m.Encode()
	w.must(err)
	w.write(s.cluster, s.manifestPath(), b)
}

// unsealed puts an open file and the item that tells what is kept of it.
func (w *world) unsealed(s spec, state string) *catalog.Manifest {
	w.Helper()
	data, m := s.content("")
	w.write(s.cluster, s.openPath(), data)
	w.item(s, state, m, true)
	return m
}

func (w *world) item(s spec, state string, m *catalog.Manifest, keep bool) {
	item := catalog.Item{Category: m.Category, Chain: m.Chain, Place: s.cluster, Path: s.path(), At: m.At, State: state,
		Bytes: m.Bytes, Messages: m.Messages, Ranges: m.Ranges}
	if keep {
		item.Manifest = m
	}
	w.addItem(s.id, s.partition, item)
}

func (w *world) addItem(id catalog.Identity, p catalog.Partition, item catalog.Item) {
	if w.items[id] == nil {
		w.items[id] = make(map[catalog.Partition][]catalog.Item)
	}
	w.items[id][p] = append(w.items[id][p], item)
}

// inventories writes what item noted on the clusters named.
func (w *world) inventories(clusters ...string) {
	w.Helper()
	w.counters++
	for id, byPartition := range w.items {
		for p, items := range byPartition {
			inv := &catalog.Inventory{Version: catalog.Version, Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.StartID(),
				Partition: p, Counter: w.counters, Updated: now.UnixNano(), Items: items}
			for i := range items {
				inv.Version = max(inv.Version, items[i].Needs())
			}
			b, err := inv.Encode()
			w.must(err)
			for _, c := range clusters {
				w.write(c, catalog.InventoryPath(id, p), b)
			}
		}
	}
}

// member writes the member file of a start that was touched so long ago.
func (w *world) member(id catalog.Identity, ago time.Duration) {
	w.Helper()
	m := &catalog.Member{Version: catalog.Version, Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.StartID(), Host: "host-" + id.Aggregator,
		Since: now.Add(-2 * time.Hour).UnixNano(), Touched: now.Add(-ago).UnixNano(), HTTP: "127.0.0.1:1"}
	b, err := m.Encode()
	w.must(err)
	w.write("n1", catalog.MemberPath(id), b)
	w.write("n2", catalog.MemberPath(id), b)
}

// A stored is a batch in a segment.
type stored struct {
	category  string
	chain     uint32
	partition catalog.Partition
	batch
}

// segmentOf writes one segment of a start and its items, and gives its name.
func (w *world) segmentOf(id catalog.Identity, reason buffer.Reason, list ...stored) string {
	w.Helper()
	before := w.segmentNames()
	b, err := buffer.Open(vfs.OS(), w.bufferDir(), buffer.Options{
		Identity: buffer.Identity{Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.Start},
		Sync:     buffer.SyncNone, MinFree: -1, Log: zap.NewNop(), Now: func() time.Time { return now }})
	w.must(err)
	for _, s := range list {
		data, ends := s.text()
		r := &buffer.Record{Category: s.category, Chain: s.chain, Partition: string(s.partition), First: s.first, Arrived: now.UnixNano(),
			Senders: []string{"10.0.0.2"}, Ends: ends, Data: data}
		for _, span := range s.ids {
			r.IDs = append(r.IDs, buffer.ID{Producer: string(span.Producer), Epoch: span.Epoch, Sequence: span.Sequence,
				From: span.From, First: span.First, Messages: span.Messages})
		}
		w.must(b.Append(context.Background(), reason, r))
	}
	w.must(b.Close(context.Background()))
	for name := range w.segmentNames() {
		if !before[name] {
			return name
		}
	}
	w.Fatal("no segment was written")
	return ""
}

// segmentItems notes a segment's parts for the inventories.
func (w *world) segmentItems(id catalog.Identity, name, state string) {
	w.Helper()
	list, err := buffer.List(vfs.OS(), w.bufferDir())
	w.must(err)
	for _, s := range list {
		if s.Name != name {
			continue
		}
		for _, p := range s.Parts {
			item := catalog.Item{Category: catalog.Text(p.Category), Chain: p.Chain, Place: "buffer", Path: name, State: state, Bytes: p.Bytes, Messages: p.Messages}
			for _, r := range p.Ranges {
				item.Ranges = append(item.Ranges, catalog.Range{First: r.First, Last: r.Last})
			}
			w.addItem(id, catalog.Partition(p.Partition), item)
		}
	}
}

func (w *world) segmentNames() map[string]bool {
	names := make(map[string]bool)
	entries, _ := os.ReadDir(w.bufferDir())
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".seg") {
			names[e.Name()] = true
		}
	}
	return names
}

// A line is one message as a test sees it.
type line struct {
	category  string
	partition catalog.Partition
	key       chainKey
	sequence  uint64
	place     string
	data      string
}

// read reads everything the query wants and checks what every run promises.
func (w *world) read(q Query) ([]line, Report) {
	w.Helper()
	return w.readWith(w.options(), q)
}

func (w *world) readWith(o Options, q Query) ([]line, Report) {
	w.Helper()
	var lines []line
	bytesOut := int64(0)
	report, err := New(o).Read(context.Background(), q, func(r *Run) error {
		n := 0
		var again []byte
		err := r.Each(func(m *Message) error {
			if r.First != 0 && m.Sequence != r.First+uint64(n) {
				return fmt.Errorf("message %d of a run from %d on has sequence %d", n, r.First, m.Sequence)
			}
			if r.First != 0 && m.Arrived.IsZero() {
				return fmt.Errorf("message %d has no arrival", m.Sequence)
			}
			n++
			again = append(append(again, m.Data...), '\n')
			lines = append(lines, line{m.Category, m.Partition, chainKey{m.Identity, m.Chain}, m.Sequence, m.Place, string(m.Data)})
			return nil
		})
		if n != r.Messages || !bytes.Equal(again, r.Data) {
			w.Errorf("run of %d messages, %q, gives %d, %q", r.Messages, r.Data, n, again)
		}
		bytesOut += int64(len(r.Data))
		return err
	})
	w.must(err)
	if report.Messages != int64(len(lines)) || report.Bytes != bytesOut {
		w.Errorf("report of %d messages in %d bytes, given out were %d in %d", report.Messages, report.Bytes, len(lines), bytesOut)
	}
	return lines, report
}

// texts is what was said, in order.
func texts(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l.data)
	}
	return b.String()
}

func (w *world) wantText(got []line, batches ...batch) {
	w.Helper()
	var want []byte
	for _, b := range batches {
		data, _ := b.text()
		want = append(want, data...)
	}
	if g := texts(got); g != string(want) {
		w.Errorf("read gives\n%swant\n%s", g, want)
	}
}

// wantUncounted checks that each word is in one line of the report and that
// there are no other lines.
func (w *world) wantUncounted(r Report, words ...string) {
	w.Helper()
	left := append([]string(nil), r.Uncounted...)
	for _, word := range words {
		found := -1
		for i, l := range left {
			if strings.Contains(l, word) {
				found = i
			}
		}
		if found < 0 {
			w.Errorf("nothing says %q in %q", word, r.Uncounted)
			continue
		}
		left = append(left[:found], left[found+1:]...)
	}
	for _, l := range left {
		w.Errorf("not expected to be uncounted: %s", l)
	}
}

func (w *world) wantProblems(r Report, words ...string) {
	w.Helper()
	w.wantUncounted(Report{Uncounted: r.Problems}, words...)
}

// web is a spec of ag1's chain 3, category web, in hour10.
func web(cluster string, number uint32, batches ...batch) spec {
	return spec{cluster: cluster, category: "web", partition: hour10, id: ag1, chain: 3, number: number, batches: batches, kept: -1}
}

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
