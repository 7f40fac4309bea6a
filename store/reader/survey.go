package reader

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"twinscribe/store/catalog"
)

// parallel is how many small files or folders are read at once from a cluster.
const parallel = 8

// aliveWithin is how fresh the member file of a start that is alive is.
const aliveWithin = 90 * time.Second

// tree is what there is below the roots of all clusters: partitions, and which
// categories' folders are in each.
type tree struct {
	mu      sync.Mutex
	folders map[catalog.Partition]map[string]bool
}

func (t *tree) add(p catalog.Partition, folder string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.folders[p] == nil {
		t.folders[p] = make(map[string]bool)
	}
	if folder != "" {
		t.folders[p][folder] = true
	}
}

// partitions in order of time; a day goes before its hours.
func (t *tree) partitions() []catalog.Partition {
	list := make([]catalog.Partition, 0, len(t.folders))
	for p := range t.folders {
		list = append(list, p)
	}
	// The form makes the order: "dt=2026-11-22" < "dt=2026-11-22/hr=00".
	slices.Sort(list)
	return list
}

// survey finds the partitions that the query asks for. Only a context that
// ended is an error: a cluster that does not answer is told later.
func (p *pass) survey(ctx context.Context) error {
	p.surveyBuffers()
	g, ctx2 := errgroup.WithContext(ctx)
	for _, s := range p.sites {
		g.Go(func() error { return p.surveySite(ctx2, s) })
	}
	return g.Wait()
}

func (p *pass) surveySite(ctx context.Context, s *site) error {
	folders := []string{catalog.InventoryFolder}
	if p.q.Category != "" {
		folders = append(folders, catalog.Folder(p.q.Category))
	} else {
		list, err := s.list(ctx, ".")
		if err != nil {
			return p.siteError(ctx, s, "its root", err)
		}
		for _, i := range list {
			if i.Folder && isCategory(i.Name) {
				folders = append(folders, i.Name)
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, folder := range folders {
		g.Go(func() error { return p.surveyFolder(ctx, s, folder) })
	}
	return g.Wait()
}

// isCategory says whether a folder below the root can be a category's.
func isCategory(folder string) bool {
	_, ok := catalog.Category(folder)
	return ok || catalog.HashedFolder(folder)
}

// surveyFolder looks for partitions below a category's folder, or below the
// inventories'.
func (p *pass) surveyFolder(ctx context.Context, s *site, folder string) error {
	category := folder
	if folder == catalog.InventoryFolder {
		category = ""
	}
	days, err := s.list(ctx, folder)
	if err != nil {
		return p.siteError(ctx, s, folder, err)
	}
	for _, day := range days {
		dp := catalog.Partition(day.Name)
		if _, err := dp.Start(); err != nil || !day.Folder || strings.Contains(day.Name, "/") || !p.q.overlaps(dp) {
			continue
		}
		inside, err := s.list(ctx, path.Join(folder, day.Name))
		if err != nil {
			return p.siteError(ctx, s, path.Join(folder, day.Name), err)
		}
		for _, i := range inside {
			hp := catalog.Partition(day.Name + "/" + i.Name)
			switch _, err := hp.Start(); {
			case !i.Folder:
				p.tree.add(dp, category)
			case err == nil && p.q.overlaps(hp):
				p.tree.add(hp, category)
			}
		}
	}
	return nil
}

// siteError tells a folder that cannot be listed, once for all where the whole
// cluster is away. The result is an error only where the read itself is over.
func (p *pass) siteError(ctx context.Context, s *site, folder string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.gone() == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.report.uncounted("cluster %s: %s cannot be listed (%v): what is in it is missing", s.name, folder, err)
	}
	return nil
}

// inventories reads what each start wrote into a partition, by the copy with
// the highest counter. Where one cannot be read it is told; other copies of it
// count.
func (p *pass) inventories(ctx context.Context, part catalog.Partition) (map[catalog.Identity]*catalog.Inventory, error) {
	var mu sync.Mutex
	best := make(map[catalog.Identity]*catalog.Inventory)
	folder := path.Join(catalog.InventoryFolder, string(part))
	g, ctx := errgroup.WithContext(ctx) // ends with Wait
	g.SetLimit(parallel)
	for _, s := range p.sites {
		list, err := s.list(ctx, folder)
		if err != nil {
			if err := p.siteError(ctx, s, folder, err); err != nil {
				return nil, errors.Join(err, g.Wait())
			}
			continue
		}
		for _, i := range list {
			if i.Folder || !strings.HasSuffix(i.Name, ".json") || strings.HasPrefix(i.Name, "_") || strings.HasPrefix(i.Name, ".") {
				continue
			}
			g.Go(func() error {
				inv, id, err := p.inventory(ctx, s, path.Join(folder, i.Name), part)
				if err != nil {
					return p.fileError(ctx, s, path.Join(folder, i.Name), err, "what only it tells of may be missing")
				}
				mu.Lock()
				defer mu.Unlock()
				if old := best[id]; old == nil || old.Counter < inv.Counter {
					best[id] = inv
				}
				return nil
			})
		}
	}
	return best, g.Wait()
}

// inventory reads one and keeps the items that the query asks for.
func (p *pass) inventory(ctx context.Context, s *site, file string, part catalog.Partition) (*catalog.Inventory, catalog.Identity, error) {
	b, err := s.load(ctx, file, catalog.MaxInventory)
	if err != nil {
		return nil, catalog.Identity{}, err
	}
	inv, err := catalog.DecodeInventory(s.name+":"+file, b)
	if err != nil {
		return nil, catalog.Identity{}, err
	}
	id, err := inv.Identity()
	if err == nil && (inv.Partition != part || catalog.InventoryPath(id, part) != file) {
		err = notItsName(s.name+":"+file, catalog.InventoryPath(id, inv.Partition))
	}
	inv.Items = slices.DeleteFunc(inv.Items, func(i catalog.Item) bool { return !p.q.wants(string(i.Category)) })
	return inv, id, err
}

// alive says whether a start of an aggregator still writes, as far as its
// member file tells.
func (p *pass) alive(ctx context.Context, id catalog.Identity) bool {
	m := p.member(ctx, id)
	return m != nil && !m.Ended && p.r.o.Now().Sub(time.Unix(0, m.Touched)) < aliveWithin
}

// member reads a start's member file, by the copy that was touched last; nil
// if none can be read.
func (p *pass) member(ctx context.Context, id catalog.Identity) *catalog.Member {
	if m, ok := p.members[id]; ok {
		return m
	}
	var best *catalog.Member
	for _, s := range p.sites {
		file := catalog.MemberPath(id)
		b, err := s.load(ctx, file, catalog.MaxMember)
		if err != nil {
			continue // the others may have it; without any the start counts as gone
		}
		m, err := catalog.DecodeMember(s.name+":"+file, b)
		if err != nil {
			p.report.problem("%v", err)
			continue
		}
		if got, err := m.Identity(); err == nil && got == id && (best == nil || best.Touched < m.Touched) {
			best = m
		}
	}
	p.members[id] = best
	return best
}
