package reader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/layout"
)

// A unit is one category of one partition: all that was found of it.
type unit struct {
	category  string
	folder    string
	partition catalog.Partition
	chains    []*chain // in the order in which they are printed
	strangers []*file  // sealed files of which nothing tells what they hold
	files     []*file  // those that are read by what a manifest tells
	unused    []*file  // open files of which nothing tells what is in them
	manifests []string // manifests, cluster:path, of files that are not there under any name
	items     []expected
	parts     []*segmentPart
}

// A chain is what a unit holds of one chain.
type chain struct {
	chainKey
	pieces []*piece
}

// An expected is what an inventory tells of, and the file that is there for it.
type expected struct {
	catalog.Item
	id   catalog.Identity
	file *file  // nil: none, or it is in a segment
	here bool   // the segment is there
	why  string // it may be missing
}

// shown is where it lies, as people know it.
func (e *expected) shown() string {
	if e.At != "" {
		return e.At
	}
	return e.Path
}

// collect finds what there is of one category in one partition, and compares
// it with what the inventories tell.
func (p *pass) collect(ctx context.Context, part catalog.Partition, folder string, books map[catalog.Identity]*catalog.Inventory) (*unit, error) {
	u := &unit{folder: folder, partition: part}
	u.category, _ = catalog.Category(folder) // of a long name manifests and items tell
	for id, b := range books {
		for i := range b.Items {
			if item := &b.Items[i]; catalog.Folder(string(item.Category)) == folder {
				u.category = string(item.Category)
				u.items = append(u.items, expected{Item: *item, id: id})
			}
		}
	}
	slices.SortFunc(u.items, func(a, b expected) int {
		return (chainKey{a.id, a.Chain}).compare(chainKey{b.id, b.Chain})
	})
	listed, err := p.listFiles(ctx, u)
	if err != nil {
		return nil, err
	}
	p.match(ctx, u, listed)
	p.addSegments(u)
	p.chain(u)
	p.missing(ctx, u)
	return u, nil
}

// A place is a path on a cluster.
type place struct{ cluster, path string }

func (a place) compare(b place) int {
	return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.cluster, b.cluster))
}

// listFiles finds the unit's files on all clusters and reads the manifests of
// the sealed ones.
func (p *pass) listFiles(ctx context.Context, u *unit) (map[place]*file, error) {
	listed := make(map[place]*file)
	manifests := make(map[place]*loose)
	var sealed []*file
	for _, s := range p.sites {
		folder := path.Join(u.folder, string(u.partition))
		list, err := s.list(ctx, folder)
		if err != nil {
			if err := p.siteError(ctx, s, folder, err); err != nil {
				return nil, err
			}
			continue
		}
		for _, i := range list {
			if name, form := catalog.ParseName(i.Name); form == catalog.FormManifest {
				manifests[place{s.name, path.Join(folder, name.Sealed())}] = &loose{s, name, path.Join(folder, i.Name)}
			}
			f := p.newFile(s, u, i)
			if f == nil {
				continue
			}
			if f.state == catalog.StateSealed {
				sealed = append(sealed, f)
				listed[place{s.name, f.path}] = f
			} else if listed[place{s.name, f.path}] == nil {
				listed[place{s.name, f.path}] = f
			}
		}
	}
	maps.DeleteFunc(manifests, func(at place, _ *loose) bool { return listed[at] != nil })
	var mu sync.Mutex // for listed and u.manifests
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for at, m := range manifests {
		g.Go(func() error {
			f, err := p.elsewhere(gctx, u, m)
			mu.Lock()
			defer mu.Unlock()
			if f != nil {
				listed[at] = f
			} else {
				u.manifests = append(u.manifests, m.String())
			}
			return err
		})
	}
	for _, f := range sealed {
		g.Go(func() error { return p.loadManifest(gctx, f) })
	}
	err := g.Wait()
	slices.Sort(u.manifests)
	return listed, err
}

// A loose is a manifest in a folder that has its file under no name of ours.
type loose struct {
	site *site
	name catalog.Name
	path string
}

func (l *loose) String() string { return l.site.name + ":" + l.path }

// elsewhere is the file of a loose manifest: it lies under its target's name.
// nil: it is not there. What the inventory tells of a sealed file is younger
// than the manifest, and goes before it. A name that others may take too is the
// file's only where the length is.
func (p *pass) elsewhere(ctx context.Context, u *unit, l *loose) (*file, error) {
	f := &file{site: l.site, path: path.Join(path.Dir(l.path), l.name.Sealed()), name: l.name, category: u.category, partition: u.partition,
		state: catalog.StateSealed}
	b, err := l.site.load(ctx, l.path, catalog.MaxManifest)
	var m *catalog.Manifest
	if err == nil {
		m, err = catalog.DecodeManifest(l.String(), b)
	}
	if err == nil {
		err = f.belongs(m)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, catalog.ErrMalformed) {
		return nil, nil // it tells of no file; Check names it
	}
	if err != nil {
		return nil, p.fileError(ctx, l.site, l.path, fmt.Errorf("a manifest cannot be used: %w", err), "its file is missing if it has another program's name")
	}
	other := int64(-1)
	for _, at := range []string{u.toldAt(l.site, f), m.At} {
		if at == "" {
			continue
		}
		size, err := l.site.size(ctx, layout.Outside(at))
		if err != nil {
			return nil, p.fileError(ctx, l.site, at, err, "what it holds is missing")
		}
		if size == m.Bytes {
			f.at, f.size = at, size
			p.describe(f, m)
			return f, nil
		}
		other = max(other, size)
	}
	if other >= 0 {
		err := fmt.Errorf("the file there has %d bytes, and the manifest says %d", other, m.Bytes)
		return nil, p.fileError(ctx, l.site, m.At, err, "it is somebody else's, and ours is missing")
	}
	return nil, nil
}

// toldAt is where the inventories say that a sealed file lies.
func (u *unit) toldAt(s *site, f *file) string {
	for i := range u.items {
		if it := &u.items[i]; it.Place == s.name && it.Path == f.path && it.State == catalog.StateSealed && it.id == f.name.Identity {
			return it.At
		}
	}
	return ""
}

// newFile is the file of a folder's entry; nil for what is no data file of ours.
func (p *pass) newFile(s *site, u *unit, i cluster.Info) *file {
	name, form := catalog.ParseName(i.Name)
	if i.Folder || form != catalog.FormSealed && form != catalog.FormOpen {
		return nil
	}
	folder := path.Join(u.folder, string(u.partition))
	f := &file{site: s, path: path.Join(folder, name.Sealed()), name: name, category: u.category, partition: u.partition,
		state: catalog.StateSealed, size: i.Size}
	if form == catalog.FormOpen {
		f.state, f.openPath = catalog.StateOpen, path.Join(folder, i.Name)
	}
	return f
}

// loadManifest reads the manifest of a sealed file. Without one the file stays
// a stranger, and that is told.
func (p *pass) loadManifest(ctx context.Context, f *file) error {
	file := f.manifestPath()
	b, err := f.site.load(ctx, file, catalog.MaxManifest)
	var m *catalog.Manifest
	if err == nil {
		m, err = catalog.DecodeManifest(f.site.name+":"+file, b)
	}
	if err == nil {
		err = f.belongs(m)
	}
	if err == nil {
		p.describe(f, m)
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it is not there")
	}
	return p.fileError(ctx, f.site, f.path, fmt.Errorf("its manifest cannot be used: %w", err),
		"it is read line by line and may hold what stands elsewhere too")
}

// describe takes what the file's own manifest tells.
func (p *pass) describe(f *file, m *catalog.Manifest) {
	f.describe(m)
	if m.Missing > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.report.uncounted("%s:%s: the cluster has lost %d acknowledged bytes that followed its last", f.site.name, f.named(), m.Missing)
	}
}

// describe takes what a manifest tells of the file.
func (f *file) describe(m *catalog.Manifest) {
	f.manifest, f.chain, f.category = m, m.Chain, string(m.Category)
	if !slices.IsSortedFunc(m.IDs, bySequence) {
		slices.SortStableFunc(m.IDs, bySequence)
	}
}

func bySequence(a, b catalog.BatchSpan) int { return cmp.Compare(a.First, b.First) }

// belongs says why a manifest is not the file's.
func (f *file) belongs(m *catalog.Manifest) error {
	id, err := m.Identity()
	switch {
	case err != nil:
		return err
	case m.File != f.name.Sealed() || id != f.name.Identity:
		return notItsName(m.File+" of "+id.String(), f.name.Sealed())
	case m.Partition != f.partition || catalog.Folder(string(m.Category))+"/"+string(m.Partition) != path.Dir(f.path):
		return notItsName(catalog.Folder(string(m.Category))+"/"+string(m.Partition), path.Dir(f.path))
	}
	return nil
}

func notItsName(says, is string) error {
	return fmt.Errorf("it is of %s and not of %s: %w", says, is, catalog.ErrMalformed)
}

// fileError tells a file that cannot be used. The result is an error only
// where the read itself is over.
func (p *pass) fileError(ctx context.Context, s *site, file string, err error, then string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.uncounted("%s:%s: %v; %s", s.name, file, err, then)
	return nil
}

// match finds the file of each item, and makes of open files what the items
// tell of them.
func (p *pass) match(ctx context.Context, u *unit, listed map[place]*file) {
	for i := range u.items {
		item := &u.items[i]
		if item.State == catalog.StateSegment || item.State == catalog.StateShipped {
			continue
		}
		f := listed[place{item.Place, item.Path}]
		switch {
		case f == nil:
			item.why = p.whyMissing(item)
		case f.name.Identity != item.id:
			item.why = fmt.Sprintf("the inventory of %s names files of %s, which are not its own", item.id, f.name.Identity)
		case f.state == catalog.StateSealed:
			item.file = f
			f.fromItem(item)
		default:
			item.file = f
			p.matchOpen(ctx, item, f)
		}
	}
	known := make(map[*file]bool, len(u.items))
	for i := range u.items {
		known[u.items[i].file] = true
	}
	for _, at := range slices.SortedFunc(maps.Keys(listed), place.compare) {
		f := listed[at]
		switch {
		case f.state == catalog.StateSealed && f.manifest == nil:
			u.strangers = append(u.strangers, f)
		case f.manifest != nil:
			u.files = append(u.files, f)
		default:
			u.unused = append(u.unused, f)
			p.unusedFile(ctx, f, known[f])
		}
	}
}

// fromItem uses what an inventory tells of a sealed file that has no manifest.
func (f *file) fromItem(item *expected) {
	if f.manifest != nil || len(item.Ranges) == 0 || item.Bytes != f.size {
		return
	}
	m := &catalog.Manifest{Version: catalog.Version, File: f.name.Sealed(), Aggregator: item.id.Aggregator, Epoch: item.id.Epoch, Start: item.id.StartID(),
		Chain: item.Chain, Category: item.Category, Partition: f.partition, Bytes: item.Bytes, Messages: item.Messages, Ranges: item.Ranges}
	if m.Check() == nil && f.belongs(m) == nil {
		f.describe(m)
	}
}

// whyMissing is the line that tells of an item whose file is not there.
func (p *pass) whyMissing(item *expected) string {
	for _, s := range p.sites {
		if s.name != item.Place {
			continue
		}
		if s.gone() != nil {
			return fmt.Sprintf("cluster %s is away, and the inventories tell of files of it", s.name)
		}
		return fmt.Sprintf("%s:%s: the inventory of %s tells of it (%s), and it is not there", s.name, item.shown(), item.id, item.State)
	}
	return fmt.Sprintf("cluster %s is none of those that are read, and the inventories tell of files of it", item.Place)
}

// matchOpen makes an open file one that is read as far as its item tells.
func (p *pass) matchOpen(ctx context.Context, item *expected, f *file) {
	if item.State != catalog.StateSealed {
		f.state = item.State
	}
	published := int64(0)
	if m := item.Manifest; m != nil {
		if err := f.belongs(m); err != nil {
			item.why = fmt.Sprintf("%s:%s: what the inventory of %s tells of it cannot be used (%v)", f.site.name, f.openPath, item.id, err)
			return
		}
		f.describe(m)
		published = m.Messages
	}
	if item.Messages > published {
		p.lacks.add(fmt.Sprintf("%s:%s: messages acknowledged and not yet published", f.site.name, f.openPath), uint64(item.Messages-published))
	}
	if item.State == catalog.StateOpen && !p.alive(ctx, item.id) {
		p.report.uncounted("%s:%s is open and its writer is gone: what it acknowledged since its last publication awaits repair", f.site.name, f.openPath)
	}
}

// unusedFile tells of an open file of which nothing tells what it holds: known
// if an inventory knows it, which then told all.
func (p *pass) unusedFile(ctx context.Context, f *file, known bool) {
	// A copy that is being shipped has nothing that its segment has not.
	if known || f.name.Shipped || p.alive(ctx, f.name.Identity) {
		return
	}
	p.report.uncounted("%s:%s is open, its writer is gone and no inventory tells of it: what it holds awaits repair", f.site.name, f.openPath)
}

// chain makes pieces of files and segments and sorts them into chains.
func (p *pass) chain(u *unit) {
	chains := make(map[chainKey]*chain)
	add := func(k chainKey, piece *piece) {
		c := chains[k]
		if c == nil {
			c = &chain{chainKey: k}
			chains[k] = c
			u.chains = append(u.chains, c)
		}
		c.pieces = append(c.pieces, piece)
	}
	for _, f := range u.files {
		rank, number := rankSealed, uint64(f.name.Number)
		if f.state != catalog.StateSealed {
			rank = rankOpen
		}
		if f.name.Shipped {
			number = 1<<32 + uint64(f.name.Segment)
		}
		for _, r := range f.manifest.Ranges {
			add(chainKey{f.name.Identity, f.chain}, &piece{first: r.First, last: r.Last, counted: r.Counted, rank: rank,
				number: number, src: f, offset: r.Offset, end: r.End})
		}
	}
	for _, s := range u.parts {
		for _, r := range s.ranges {
			add(chainKey{s.segment.id, s.chain}, &piece{first: r.first, last: r.last, rank: rankSegment, number: uint64(s.segment.info.Number), src: s})
		}
	}
	slices.SortFunc(u.chains, func(a, b *chain) int { return a.compare(b.chainKey) })
}

// missing tells of items that nothing stands for.
func (p *pass) missing(ctx context.Context, u *unit) {
	pieces := make(map[chainKey][]*piece)
	for _, c := range u.chains {
		pieces[c.chainKey] = c.pieces
	}
	for i := range u.items {
		item := &u.items[i]
		if item.State == catalog.StateSegment {
			item.why = p.whyNoSegment(ctx, item)
		}
		if item.why == "" {
			continue
		}
		ranges := item.Ranges
		if len(ranges) == 0 && item.Manifest != nil {
			ranges = item.Manifest.Ranges
		}
		n := uncovered(ranges, pieces[chainKey{item.id, item.Chain}])
		if len(ranges) == 0 {
			n = uint64(item.Messages)
		}
		if n > 0 {
			p.lacks.add(item.why, n)
		}
	}
}
