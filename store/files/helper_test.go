package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/dir"
	"twinscribe/store/journal"
	"twinscribe/store/layout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started is when a rig begins: far from the edge of a partition.
var started = time.Date(2000, 1, 1, 0, 10, 0, 0, time.UTC)

var ag1 = catalog.Identity{Aggregator: "ag1", Epoch: 42, Start: 0x7f3c91d2}

// health is a double of cluster.Health.
type health struct {
	mu            sync.Mutex
	usable, there bool
	drained       bool
	changed       chan struct{}
}

func newHealth() *health { return &health{usable: true, there: true, changed: make(chan struct{})} }

func (h *health) set(usable, there, drained bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.usable, h.there, h.drained = usable, there, drained
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *health) Usable() bool    { h.mu.Lock(); defer h.mu.Unlock(); return h.usable && !h.drained }
func (h *health) Reachable() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.there }
func (h *health) Drained() bool   { h.mu.Lock(); defer h.mu.Unlock(); return h.drained }
func (h *health) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// observer is what the directory cluster tells.
type observer struct{}

func (observer) Acknowledged()  {}
func (observer) Failed(error)   {}
func (observer) MayBegin() bool { return true }
func (observer) Doubtful() bool { return false }

// recorder keeps what an inventory would know.
type recorder struct {
	mu    sync.Mutex
	items map[string]catalog.Item
	log   []string // state changes: "open web/...", in order
}

func (r *recorder) Put(p catalog.Partition, it catalog.Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.Contains(it.Path, string(p)) {
		panic(fmt.Sprintf("%s put into %s", it.Path, p))
	}
	r.items[it.Path] = it
	r.log = append(r.log, it.State)
}

func (r *recorder) Drop(_ catalog.Partition, _, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.items, path)
	r.log = append(r.log, "dropped")
}

func (r *recorder) all() (items []catalog.Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, it := range r.items {
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b catalog.Item) int { return strings.Compare(a.Path, b.Path) })
	return items
}

// spy counts and delays what a cluster is asked for.
type spy struct {
	cluster.Cluster
	delay   atomic.Int64 // of Create
	inside  atomic.Int32
	most    atomic.Int32
	mu      sync.Mutex
	options []cluster.FileOptions
	times   []time.Time
}

func (s *spy) Create(ctx context.Context, p string, o cluster.FileOptions) (cluster.File, error) {
	n := s.inside.Add(1)
	defer s.inside.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	s.mu.Lock()
	s.options = append(s.options, o)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	time.Sleep(time.Duration(s.delay.Load()))
	return s.Cluster.Create(ctx, p, o)
}

func (s *spy) creates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.options)
}

// rig is a Root on a directory cluster in memory, with faults.
type rig struct {
	t       *testing.T
	disk    *memfs.FS   // of the journal
	jfs     *faultfs.FS // before it
	journal *journal.Journal
	raw     cluster.Cluster // without faults
	fault   *clustertest.Fault
	spy     *spy
	health  *health
	items   *recorder
	root    *Root
	stop    context.CancelFunc
	ended   chan struct{}

	mu   sync.Mutex
	torn []Torn
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	time.Sleep(time.Until(started))
	r := &rig{
		t: t, disk: memfs.New(), health: newHealth(), ended: make(chan struct{}),
		items: &recorder{items: map[string]catalog.Item{}},
	}
	r.jfs = faultfs.New(r.disk, nil)
	d, err := dir.New(dir.Options{
		Name: "n1", Path: "/n1", Create: true, FS: memfs.New(), Observer: observer{}, Log: zap.NewNop(), MinFree: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.raw = layout.Engine(d, catalog.EngineFolder)
	r.fault = clustertest.NewFault(r.raw, nil)
	r.spy = &spy{Cluster: r.fault}
	r.journal, _, err = journal.Open(r.jfs, "journal", journal.Options{Identity: ag1, Now: time.Now, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	var numbers atomic.Uint32
	o := Options{
		Identity: ag1, Cluster: r.spy, Health: r.health, Journal: r.journal,
		Numbers: func() uint32 { return numbers.Add(1) }, Inventory: r.items,
		Repair: func(torn Torn) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.torn = append(r.torn, torn)
		},
		Now: time.Now, Log: zap.NewNop(), VisibilitySeals: 12,
	}
	if change != nil {
		change(&o)
	}
	r.root = NewRoot(o)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { defer close(r.ended); r.root.Run(ctx) }()
	t.Cleanup(func() {
		r.fault.Clear()
		cancel()
		<-r.ended
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.journal.Close(ctx); err != nil && !errors.Is(err, journal.ErrFailed) {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) tears() []Torn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.torn)
}

// producer makes the batches of one chain and keeps what was acknowledged.
type producer struct {
	*rig
	chain  *Chain
	spec   ChainSpec
	next   uint64
	acked  []string
	budget time.Duration
}

func (r *rig) producer(spec ChainSpec) *producer {
	if spec.Category == "" {
		spec.Category = "web"
	}
	if spec.Period == "" {
		spec.Period = catalog.Hour
	}
	if scribesNames && spec.Layout == nil {
		spec.Layout = scribesLayout(spec.Category)
	}
	return &producer{rig: r, chain: r.root.Chain(spec), spec: spec, next: 1, budget: 2 * time.Second}
}

// batch makes one of the partition that it is now.
func (p *producer) batch(messages ...string) *store.Batch {
	now := time.Now()
	b := &store.Batch{
		Category: p.spec.Category, Chain: p.spec.Chain, First: p.next, Arrived: now.UnixNano(),
		Partition: p.spec.Period.At(now.Add(-catalog.EdgeDelay(p.spec.Chain))), Senders: []string{"10.0.0.1"},
	}
	for _, m := range messages {
		b.Data = append(append(b.Data, m...), '\n')
		b.Ends = append(b.Ends, uint32(len(b.Data)))
	}
	return b
}

// try appends a batch; the sequences are used up in any case, as they are when
// another place takes the batch.
func (p *producer) try(messages ...string) error {
	b := p.batch(messages...)
	ctx, cancel := context.WithTimeout(context.Background(), p.budget)
	defer cancel()
	p.next += uint64(len(messages))
	rest, err := p.chain.Append(ctx, b)
	switch {
	case err == nil && rest != nil, err != nil && rest != b:
		p.t.Errorf("append gave %v with the rest %v", err, rest)
	case err != nil && len(b.Taken) != 0:
		p.t.Errorf("a refused batch counts as taken: %v", b.Taken)
	case err == nil:
		if want := (store.Taken{Place: "n1", Messages: len(messages)}); len(b.Taken) != 1 || b.Taken[0] != want {
			p.t.Errorf("taken %v, want %v", b.Taken, want)
		}
		p.acked = append(p.acked, messages...)
	}
	return err
}

func (p *producer) append(messages ...string) {
	p.t.Helper()
	if err := p.try(messages...); err != nil {
		p.t.Fatal(err)
	}
}

// wait lets time pass with a Tick a second, and everything settle.
func (p *producer) wait(d time.Duration) {
	p.t.Helper()
	p.tick(d)
	synctest.Wait()
}

// tick is wait for one of several goroutines.
func (p *producer) tick(d time.Duration) {
	p.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		if err := p.chain.Tick(context.Background(), time.Now()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// shut closes the chain and waits until all is sealed.
func (p *producer) shut() {
	p.t.Helper()
	if err := p.chain.Close(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.root.Close(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// walk lists all files of the cluster below the category's folder.
func (r *rig) walk(category string) (paths []string) {
	r.t.Helper()
	var down func(folder string)
	down = func(folder string) {
		list, err := r.fault.List(context.Background(), folder)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, i := range list {
			if p := path.Join(folder, i.Name); i.Folder {
				down(p)
			} else {
				paths = append(paths, p)
			}
		}
	}
	down(catalog.Folder(category))
	return paths
}

func (r *rig) content(p string) []byte {
	r.t.Helper()
	f, err := r.fault.Open(context.Background(), p)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// scribesNames has all chains seal under the names of a Scribe.
var scribesNames bool

func scribesLayout(category string) *layout.Layout {
	return &layout.Layout{Folder: "scribe/" + catalog.Folder(category), Base: "base", Link: "base_current", Location: time.UTC,
		Rotate: layout.Rotation{Kind: layout.Daily}}
}

// final is where a sealed file lies, by the path of its manifest.
func (r *rig) final(manifest string) (string, bool) {
	r.t.Helper()
	m, err := catalog.DecodeManifest(manifest, r.content(manifest))
	if err != nil {
		r.t.Fatal(err)
	}
	name, _ := catalog.ParseName(path.Base(manifest))
	at := path.Join(path.Dir(manifest), name.Sealed())
	if m.At != "" {
		if at = layout.Outside(m.At); !scribesNames {
			r.t.Errorf("%s is at %s", manifest, at)
		}
	}
	_, err = r.raw.Stat(context.Background(), at)
	_, open := r.raw.Stat(context.Background(), path.Join(path.Dir(manifest), name.Open()))
	return at, err == nil && open != nil
}

// sealedFile is a sealed file with its manifest.
type sealedFile struct {
	path     string
	content  []byte
	manifest *catalog.Manifest
}

// sealedFiles reads all sealed files of a category by name, checks each
// against its manifest, and fails for names that should not be there.
func (r *rig) sealedFiles(category string, otherForms ...catalog.Form) (all []sealedFile) {
	r.t.Helper()
	manifests := map[string]bool{}
	paths := r.walk(category)
	for _, p := range paths {
		switch _, form := catalog.ParseName(path.Base(p)); {
		case form == catalog.FormManifest:
			manifests[p] = true
		case form != catalog.FormSealed && !slices.Contains(otherForms, form):
			r.t.Errorf("%s is there", p)
		case form == catalog.FormSealed && scribesNames:
			r.t.Errorf("%s has a name of ours", p)
		}
	}
	sealed := 0
	for _, at := range slices.Sorted(maps.Keys(manifests)) {
		final, there := r.final(at)
		if !there {
			if len(otherForms) == 0 {
				r.t.Errorf("%s is a manifest without a file", at)
			}
			continue
		}
		m, err := catalog.DecodeManifest(at, r.content(at))
		if err != nil {
			r.t.Fatal(err)
		}
		sealed++
		content := r.content(final)
		r.check(at, content, m, category)
		all = append(all, sealedFile{final, content, m})
	}
	for _, p := range paths {
		if _, form := catalog.ParseName(path.Base(p)); form == catalog.FormSealed {
			sealed--
		}
	}
	if !scribesNames && sealed != 0 {
		r.t.Errorf("sealed files without a manifest: %d", -sealed)
	}
	return all
}

func (r *rig) check(p string, content []byte, m *catalog.Manifest, category string) {
	r.t.Helper()
	if sum := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)); m.CRC32C != sum || m.Bytes != int64(len(content)) {
		r.t.Errorf("%s: %d bytes with checksum %08x, its manifest says %d and %08x", p, len(content), sum, m.Bytes, m.CRC32C)
	}
	lines := int64(bytes.Count(content, []byte{'\n'}))
	for _, s := range m.LineFeeds {
		lines -= int64(bytes.Count(content[s.Offset:s.Offset+s.Length], []byte{'\n'})) - 1
	}
	if m.Messages != lines || "_"+m.File+".json" != path.Base(p) || string(m.Category) != category || !strings.Contains(p, string(m.Partition)) {
		r.t.Errorf("%s holds %d messages, its manifest %+v", p, lines, m)
	}
}

// text is what all sealed files hold, in order of their numbers.
func text(files []sealedFile) string {
	var b strings.Builder
	for _, f := range files {
		b.Write(f.content)
	}
	return b.String()
}

func (p *producer) wantAll(files []sealedFile) {
	p.t.Helper()
	want := ""
	if len(p.acked) > 0 {
		want = strings.Join(p.acked, "\n") + "\n"
	}
	if got := text(files); got != want {
		p.t.Errorf("sealed files hold %.200q, acknowledged was %.200q", got, want)
	}
}

func reasons(files []sealedFile) (all []string) {
	for _, f := range files {
		all = append(all, f.manifest.Reason)
	}
	return all
}

// unfinished is what the next start's repair would find in the journal.
func (r *rig) unfinished(fsys vfs.FS) []journal.FileState {
	r.t.Helper()
	states, err := journal.Read(fsys, "journal")
	if err != nil {
		r.t.Fatal(err)
	}
	return states
}
