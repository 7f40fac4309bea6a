package repair_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/dir"
	"twinscribe/store/files"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
	"twinscribe/store/repair"
	"twinscribe/store/repair/repairtest"
	"twinscribe/store/statedir"
)

// host is a machine with a state folder and two directory clusters.
type host struct {
	t             *testing.T
	state, n1, n2 *memfs.FS
	acked         map[string]bool // all messages ever acknowledged
	next          int
	cuts          bool // its power is cut; else its processes are killed
}

// process is one start of an aggregator on it, with one chain on n1.
type process struct {
	h        *host
	state    *statedir.Dir
	clusters [2]cluster.Cluster
	journal  *journal.Journal
	keeper   *inventory.Keeper
	repairer *repair.Repairer
	root     *files.Root
	chain    *files.Chain
	sequence uint64
	stop     func()
}

type quiet struct{}

func (quiet) Acknowledged()  {}
func (quiet) Failed(error)   {}
func (quiet) MayBegin() bool { return true }
func (quiet) Doubtful() bool { return false }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (h *host) start() *process {
	t, log := h.t, zap.NewNop()
	p := &process{h: h, sequence: 1}
	p.state = must(statedir.Open(h.state, "/state", statedir.Options{ID: "ag1", Now: time.Now, Log: log}))
	var targets []inventory.Target
	for i, fs := range []*memfs.FS{h.n1, h.n2} {
		p.clusters[i] = must(dir.New(dir.Options{Name: fmt.Sprintf("n%d", i+1), Path: "/data", Create: true, FS: fs, Observer: quiet{}, Log: log, MinFree: -1}))
		targets = append(targets, inventory.Target{Cluster: p.clusters[i], Health: repairtest.NewHealth()})
	}
	id := p.state.Identity()
	j, states, err := journal.Open(h.state, p.state.Sub("journal"), journal.Options{Identity: id, Now: time.Now, Log: log})
	p.journal = must(j, err)
	k := must(inventory.New(inventory.Options{
		Identity: id, Starts: p.state.Starts(), Targets: targets, FS: h.state, Dir: p.state.Sub("inventory"),
		Now: time.Now, Log: log, Forget: p.state.Forget,
	}))
	p.keeper = k
	if err := k.CheckTwin(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.repairer = repair.New(repair.Options{
		Identity: id, Starts: p.state.Starts(), Targets: targets, States: states, Keeper: k, Now: time.Now, Log: log,
	})
	var numbers atomic.Uint32
	p.root = files.NewRoot(files.Options{
		Identity: id, Cluster: p.clusters[0], Health: repairtest.NewHealth(), Journal: j, Inventory: k,
		Numbers: func() uint32 { return numbers.Add(1) }, Repair: p.repairer.Torn, Now: time.Now, Log: log, VisibilitySeals: 12,
	})
	p.chain = p.root.Chain(files.ChainSpec{Category: "web", Chain: 1, Period: catalog.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){k.Run, p.repairer.Run, p.root.Run} {
		wg.Go(func() { run(ctx) })
	}
	p.stop = func() {
		cancel()
		wg.Wait()
		gone, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = p.journal.Close(gone)
		for _, c := range p.clusters {
			_ = c.Close()
		}
		_ = p.state.Close()
	}
	return p
}

// write appends a batch and keeps what was acknowledged.
func (p *process) write(r *rand.Rand) {
	b := &store.Batch{
		Category: "web", Chain: 1, First: p.sequence, Arrived: time.Now().UnixNano(),
		Partition: catalog.Hour.At(time.Now().Add(-catalog.EdgeDelay(1))),
	}
	var list []string
	for range 1 + r.IntN(5) {
		p.h.next++
		m := fmt.Sprintf("message %d %s", p.h.next, strings.Repeat("x", r.IntN(300)))
		list = append(list, m)
		b.Data = append(append(b.Data, m...), '\n')
		b.Ends = append(b.Ends, uint32(len(b.Data)))
	}
	p.sequence += uint64(len(list))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := p.chain.Append(ctx, b); err == nil {
		for _, m := range list {
			p.h.acked[m] = true
		}
	}
}

// end ends everything on the host at once. After a power cut the next start
// finds what the disks have kept.
func (h *host) end(p *process, r *rand.Rand) {
	if !h.cuts {
		p.stop() // nothing is sealed, nothing said
		return
	}
	state, n1, n2 := h.state.Crash(r), h.n1.Crash(r), h.n2.Crash(r)
	p.stop() // what the old process does to its disks from here on, nobody sees
	h.state, h.n1, h.n2 = state, n1, n2
}

// all reads every file below a cluster's category.
func (h *host) all(c cluster.Cluster) (paths []string) {
	var down func(folder string)
	down = func(folder string) {
		list, err := c.List(context.Background(), folder)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, i := range list {
			if p := path.Join(folder, i.Name); i.Folder {
				down(p)
			} else {
				paths = append(paths, p)
			}
		}
	}
	down("web")
	return paths
}

// check reads all sealed files by their manifests.
func (h *host) check(p *process) {
	h.t.Helper()
	own := p.state.Identity().String()
	found := make(map[string]int)
	seen := make(map[string]bool)
	for _, file := range h.all(p.clusters[0]) {
		name, form := catalog.ParseName(path.Base(file))
		switch {
		case strings.Contains(file, own):
			continue // this start still writes it
		case form == catalog.FormOpen:
			h.t.Errorf("%s is still there", file)
		case form != catalog.FormSealed:
			continue
		}
		data := read(h.t, p.clusters[0], file)
		m := must(catalog.DecodeManifest(file, read(h.t, p.clusters[0], path.Join(path.Dir(file), name.Manifest()))))
		if m.Bytes != int64(len(data)) {
			h.t.Errorf("%s has %d bytes, its manifest says %d", file, len(data), m.Bytes)
		}
		lines := strings.SplitAfter(string(data), "\n")
		for _, r := range m.Ranges {
			for n := r.First; n <= r.Last; n++ {
				key := fmt.Sprintf("%s/%d/%d", name.Identity, m.Chain, n)
				if seen[key] {
					h.t.Errorf("sequence %s is there twice", key)
				}
				seen[key] = true
			}
			if r.Counted && !h.cuts { // only a power cut may cost lines of the journal
				h.t.Errorf("%s has a counted range %+v", file, r)
			}
		}
		for _, l := range lines[:len(lines)-1] {
			found[strings.TrimSuffix(l, "\n")]++
		}
	}
	for m := range h.acked {
		if found[m] != 1 {
			h.t.Errorf("%.20q is there %d times", m, found[m])
		}
	}
}

func read(t *testing.T, c cluster.Cluster, p string) []byte {
	t.Helper()
	r, err := c.Open(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := c.Stat(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		t.Fatalf("%s: %v", p, err)
	}
	return b
}

// Journal, files, inventories and state folder as they are.
func TestAfterEachDeathAllAcknowledgedMessagesAreSealedOnceWithinAMinute(t *testing.T) {
	for _, cuts := range []bool{false, true} {
		t.Run(fmt.Sprintf("powercut=%v", cuts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &host{t: t, state: memfs.New(), n1: memfs.New(), n2: memfs.New(), acked: make(map[string]bool), cuts: cuts}
				r := rand.New(rand.NewPCG(1, 2))
				p := h.start()
				for life := range 8 {
					p = h.live(p, r, life%2 == 0)
				}
				p.stop()
			})
		})
	}
}

// live lets a process write, ends it, in the middle of an append or not, and
// checks what its successor makes of it.
func (h *host) live(p *process, r *rand.Rand, middle bool) *process {
	for range 20 + r.IntN(200) {
		p.write(r)
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		if err := p.chain.Tick(context.Background(), time.Now()); err != nil {
			h.t.Fatal(err)
		}
	}
	synctest.Wait()
	if len(h.acked) == 0 {
		h.t.Fatal("nothing was acknowledged")
	}
	if middle {
		before, done := maps.Clone(h.acked), make(chan struct{})
		go func() { defer close(done); p.write(r) }()
		h.end(p, rand.New(rand.NewPCG(uint64(len(before)), 0)))
		<-done
		h.acked = before // what it answered after its end, nobody heard
	} else {
		h.end(p, r)
	}
	p = h.start()
	time.Sleep(time.Minute)
	synctest.Wait()
	h.check(p)
	if s := p.repairer.Stats(); s.Missing > 0 || s.Backlog["n1"] > 0 {
		h.t.Errorf("stats %+v", s)
	}
	if n := len(p.state.Starts()); n > 2 {
		h.t.Errorf("%d earlier starts are remembered", n)
	}
	return p
}
