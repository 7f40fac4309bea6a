package inventory

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
	"twinscribe/store/repair/repairtest"
	"twinscribe/store/statedir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is two clusters, a local disk and the starts of one aggregator.
type world struct {
	t       testing.TB
	dir     string
	fs      vfs.FS
	c       [2]*repairtest.Cluster
	health  [2]*repairtest.Health
	targets []Target
	starts  []statedir.Start
	log     *zap.Logger
	left    func(catalog.Partition) bool
	gone    []catalog.Identity // told by Forget

	retention time.Duration

	k    *Keeper
	id   catalog.Identity
	stop func()
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), fs: vfs.OS(), log: zap.NewNop()}
	for i, name := range []string{"n1", "n2"} {
		w.c[i], w.health[i] = repairtest.New(name), repairtest.NewHealth()
		w.targets = append(w.targets, Target{Cluster: w.c[i], Health: w.health[i]})
	}
	return w
}

// open begins the next start, without Run.
func (w *world) open() error {
	n := uint32(len(w.starts) + 1)
	w.id = catalog.Identity{Aggregator: "ag1", Epoch: n, Start: 0x7f000000 + n}
	k, err := New(Options{
		Identity:  w.id,
		Starts:    append([]statedir.Start(nil), w.starts...),
		Targets:   w.targets,
		FS:        w.fs,
		Dir:       w.dir,
		Member:    catalog.Member{Host: "web1", Program: "1.0", HTTP: "127.0.0.1:14630"},
		Now:       time.Now,
		Log:       w.log,
		Left:      w.left,
		Retention: w.retention,
		Forget:    func(id catalog.Identity) error { w.gone = append(w.gone, id); return nil },
	})
	w.starts = append(w.starts, statedir.Start{Identity: w.id, Since: time.Now()})
	w.k = k
	return err
}

// start begins the next start and its Run.
func (w *world) start() {
	w.t.Helper()
	if err := w.open(); err != nil {
		w.t.Fatal(err)
	}
	w.run()
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.k.Run(ctx) }()
	w.stop = func() { cancel(); <-done; w.stop = func() {} }
}

// pass lets time go by, in a bubble.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// on is an inventory as it lies on a cluster; nil: none.
func (w *world) on(i int, id catalog.Identity, p catalog.Partition) *catalog.Inventory {
	w.t.Helper()
	raw, ok := w.c[i].Has(catalog.InventoryPath(id, p))
	if !ok {
		return nil
	}
	inv, err := catalog.DecodeInventory("test", raw)
	if err != nil {
		w.t.Fatalf("inventory on n%d: %v\n%s", i+1, err, raw)
	}
	return inv
}

func (w *world) member(i int, id catalog.Identity) *catalog.Member {
	w.t.Helper()
	raw, ok := w.c[i].Has(catalog.MemberPath(id))
	if !ok {
		return nil
	}
	m, err := catalog.DecodeMember("test", raw)
	if err != nil {
		w.t.Fatalf("member file on n%d: %v\n%s", i+1, err, raw)
	}
	return m
}

func (w *world) localCopy(id catalog.Identity, p catalog.Partition) *catalog.Inventory {
	w.t.Helper()
	raw, err := os.ReadFile(w.k.localPath(bookID{id, p}))
	if err != nil {
		return nil
	}
	inv, err := catalog.DecodeInventory("test", raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return inv
}

func hour(t time.Time) catalog.Partition { return catalog.Hour.At(t) }
func day(t time.Time) catalog.Partition  { return catalog.Day.At(t) }

func file(n int, place, state string) catalog.Item {
	return catalog.Item{
		Category: "web", Chain: 1, Place: place, State: state,
		Path:  fmt.Sprintf("web/dt=2000-01-01/hr=00/20000101T0000Z-ag1-00000001.7f000001-%05d.log", n),
		Bytes: int64(n) * 100, Messages: int64(n),
		Ranges: []catalog.Range{{First: uint64(n), Last: uint64(2*n - 1), End: int64(n) * 100}},
	}
}

// states are the items of an inventory, by path.
func states(inv *catalog.Inventory) map[string]string {
	m := make(map[string]string)
	if inv != nil {
		for _, it := range inv.Items {
			m[it.Place+"/"+it.Path] = it.State
		}
	}
	return m
}
