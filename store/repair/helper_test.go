package repair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
	"twinscribe/store/layout"
	"twinscribe/store/repair/repairtest"
	"twinscribe/store/statedir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	dead  = catalog.Identity{Aggregator: "ag1", Epoch: 1, Start: 0x7f000001}
	alive = catalog.Identity{Aggregator: "ag1", Epoch: 2, Start: 0x7f000002}
	crcOf = crc32.MakeTable(crc32.Castagnoli)
)

const hour00 = catalog.Partition("dt=2000-01-01/hr=00") // where a bubble begins

// fakeKeeper is the inventories, without their files.
type fakeKeeper struct {
	mu     sync.Mutex
	items  map[string]catalog.Item // by place and path
	ended  []catalog.Identity
	found  []inventory.Found
	living []catalog.Partition
	seen   time.Time
}

func newFakeKeeper() *fakeKeeper { return &fakeKeeper{items: make(map[string]catalog.Item)} }

func (k *fakeKeeper) PutAs(_ catalog.Identity, _ catalog.Partition, item catalog.Item) {
	if err := item.Check(); err != nil {
		panic(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.items[item.Place+":"+item.Path] = item
}

func (k *fakeKeeper) DropAs(_ catalog.Identity, _ catalog.Partition, place, path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.items, place+":"+path)
}

func (k *fakeKeeper) End(id catalog.Identity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = append(k.ended, id)
}

func (k *fakeKeeper) Unsettled(place string) []inventory.Found {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.Clone(k.found)
	for _, it := range k.items {
		if it.State == catalog.StateTorn || it.State == catalog.StateOpen {
			list = append(list, inventory.Found{Identity: dead, Partition: hour00, Item: it})
		}
	}
	return slices.DeleteFunc(list, func(f inventory.Found) bool { return f.Item.Place != place })
}

func (k *fakeKeeper) Living(catalog.Identity) []catalog.Partition { return k.living }
func (k *fakeKeeper) LastSeen(catalog.Identity) time.Time         { return k.seen }

func (k *fakeKeeper) item(place, path string) (catalog.Item, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	it, ok := k.items[place+":"+path]
	return it, ok
}

// world is one cluster with what a dead start left on it.
type world struct {
	t      testing.TB
	c      *repairtest.Cluster
	health *repairtest.Health
	keeper *fakeKeeper
	states []journal.FileState
	starts []statedir.Start
	log    *zap.Logger
	more   func(*Options)

	r    *Repairer
	stop func()
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, c: repairtest.New("n1"), health: repairtest.NewHealth(), keeper: newFakeKeeper(), log: zap.NewNop(),
		starts: []statedir.Start{{Identity: dead, Since: time.Now()}},
	}
}

func (w *world) open() {
	o := Options{
		Identity: alive, Starts: w.starts, Keeper: w.keeper, States: w.states,
		Targets: []inventory.Target{{Cluster: flat{w.c}, Health: w.health}},
		Now:     time.Now, Log: w.log,
	}
	if scribesNames {
		o.Layout = func(string, string) *layout.Layout { return &scribesLayout }
	}
	if w.more != nil {
		w.more(&o)
	}
	w.r = New(o)
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.r.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
}

// repair opens, runs and waits until nothing awaits repair.
func (w *world) repair() {
	w.t.Helper()
	w.open()
	w.run()
	defer w.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := w.r.Wait(ctx, "n1"); err != nil {
		w.t.Fatal(err)
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// scribesNames has all files take the names of a Scribe.
var scribesNames bool

// flat is a cluster whose engine's folder is the root.
type flat struct{ *repairtest.Cluster }

func inner(p string) string { return strings.TrimPrefix(p, layout.Outside("")) }

func (f flat) Rename(ctx context.Context, from, to string) error {
	return f.Cluster.Rename(ctx, from, inner(to))
}

func (f flat) Replace(ctx context.Context, p string, b []byte) error {
	return f.Cluster.Replace(ctx, inner(p), b)
}

func (f flat) Stat(ctx context.Context, p string) (cluster.Info, error) {
	return f.Cluster.Stat(ctx, inner(p))
}

func (f flat) List(ctx context.Context, p string) ([]cluster.Info, error) {
	return f.Cluster.List(ctx, inner(p))
}

func (f flat) Open(ctx context.Context, p string) (cluster.Reader, error) {
	return f.Cluster.Open(ctx, inner(p))
}

var scribesLayout = layout.Layout{Folder: "scribe/web", Base: "web", Link: "web_current"}

// begin is the journal's of file number n.
func begin(n int) journal.Begin {
	name := catalog.Name{Time: time.Date(2000, 1, 1, 0, 7, 0, 0, time.UTC), Identity: dead, Number: uint32(n)}
	folder := path.Join("web", string(hour00))
	b := journal.Begin{
		Cluster: "n1", Path: path.Join(folder, name.Sealed()), OpenPath: path.Join(folder, name.Open()),
		Partition: hour00, Category: "web", Chain: 3, First: 1, Identity: dead,
	}
	if scribesNames {
		b.Target = scribesLayout.Target(name, hour00)
	}
	return b
}

func manifestPath(n int) string {
	return path.Join(path.Dir(begin(n).Path), "_"+path.Base(begin(n).Path)+".json")
}

// text is messages first to last, one line each.
func text(first, last int) []byte {
	var b bytes.Buffer
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "message %06d\n", i)
	}
	return b.Bytes()
}

const size1 = len("message 000000\n")

// line is the journal's line for messages first to last of text(1, ...).
func line(first, last int) catalog.Line {
	return catalog.Line{
		Offset: int64((first - 1) * size1), End: int64(last * size1), First: uint64(first), Last: uint64(last),
		Arrived: int64(first) * 1e9, Senders: []string{"10.0.0.1"},
	}
}

func length(n int64) *int64 { return &n }

// sealed reads a sealed file and its manifest and checks that they agree.
func (w *world) sealed(n int) ([]byte, *catalog.Manifest) {
	w.t.Helper()
	data, m, err := readSealed(w.c, n)
	if err != nil {
		w.t.Fatal(err)
	}
	if it, ok := w.keeper.item("n1", begin(n).Path); !ok || it.State != catalog.StateSealed ||
		it.At != m.At || it.Bytes != m.Bytes || it.Messages != m.Messages || it.Chain != m.Chain || it.Category != m.Category {
		w.t.Fatalf("the inventory says %+v (there: %v), the manifest %+v", it, ok, m)
	}
	return data, m
}

func readSealed(c *repairtest.Cluster, n int) ([]byte, *catalog.Manifest, error) {
	if _, there := c.Has(begin(n).OpenPath); there {
		return nil, nil, errors.New("the open name is still there")
	}
	raw, ok := c.Has(manifestPath(n))
	if !ok {
		return nil, nil, errors.New("no manifest")
	}
	m, err := catalog.DecodeManifest("test", raw)
	if err != nil {
		return nil, nil, err
	}
	final := begin(n).Path
	if scribesNames {
		final = m.At
	}
	data, ok := c.Has(final)
	if !ok {
		return nil, nil, fmt.Errorf("no sealed file; there are %s", strings.Join(c.Paths(), " "))
	}
	if m.Bytes != int64(len(data)) || m.CRC32C != crc32.Checksum(data, crcOf) || m.File != path.Base(begin(n).Path) {
		return nil, nil, fmt.Errorf("manifest %+v of %d bytes with sum %08x", m, len(data), crc32.Checksum(data, crcOf))
	}
	return data, m, nil
}

// messages reads a file as its manifest tells: by chain and sequence.
func messages(data []byte, m *catalog.Manifest) (map[uint64]string, error) {
	out := make(map[uint64]string)
	feeds := m.LineFeeds
	for _, r := range m.Ranges {
		at := r.Offset
		for n := r.First; n <= r.Last; n++ {
			for len(feeds) > 0 && feeds[0].Offset < at {
				feeds = feeds[1:]
			}
			end := at + int64(bytes.IndexByte(data[at:], '\n')) + 1
			if len(feeds) > 0 && feeds[0].Offset == at {
				end = at + feeds[0].Length
			}
			if end <= at || end > r.End {
				return nil, fmt.Errorf("sequence %d of range %+v ends at %d", n, r, end)
			}
			if _, twice := out[n]; twice {
				return nil, fmt.Errorf("sequence %d is there twice", n)
			}
			out[n] = string(data[at : end-1])
			at = end
		}
		if at != r.End {
			return nil, fmt.Errorf("range %+v ends at %d", r, at)
		}
	}
	if int64(len(out)) != m.Messages {
		return nil, fmt.Errorf("%d messages, the manifest says %d", len(out), m.Messages)
	}
	return out, nil
}
