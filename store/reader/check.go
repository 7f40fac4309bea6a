package reader

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"twinscribe/store/catalog"
)

// Check compares manifests, inventories and contents of what a query asks for:
// it reads every byte. What it counts as a problem beside what Read reports:
// content that does not have its manifest's length, checksum or number of
// messages; a manifest without a file; a file that no inventory tells of, or
// that its inventory tells other things of; two sealed files that have the same
// sequences without a repair or a shipped segment that explains it; a start
// that lived in a partition and left no inventory of it. Messages and Bytes
// count what was read and found right.
func (r *Reader) Check(ctx context.Context, q Query) (Report, error) {
	p, err := r.begin(ctx, q)
	if err != nil {
		return p.report, err
	}
	defer p.closeSegments()
	e := &emitter{report: &p.report, buf: make([]byte, r.o.Chunk)}
	var members []*catalog.Member
	if members, err = p.allMembers(ctx); err != nil {
		return p.report, err
	}
	last := catalog.Partition("")
	err = p.each(ctx, func(u *unit) error {
		if u.partition != last {
			last = u.partition
			p.checkMembers(u.partition, members)
		}
		return p.check(ctx, e, u)
	})
	p.tell()
	return p.report, err
}

func (p *pass) check(ctx context.Context, e *emitter, u *unit) error {
	for _, f := range u.files {
		err := f.verify(ctx, e)
		f.close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			at, path := f.where()
			p.report.uncounted("%s:%s: %v", at, path, err)
			continue
		}
		p.report.Messages += f.manifest.Messages
		p.report.Bytes += f.manifest.Bytes
	}
	for _, s := range u.parts { // read and found right when it was opened
		p.report.Messages += s.messages
		p.report.Bytes += s.bytes
	}
	for _, m := range u.manifests {
		p.report.problem("%s is a manifest of a file that is not there", m)
	}
	p.checkItems(u)
	for _, c := range u.chains {
		p.checkOverlap(c)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verify reads what the manifest tells of: all of a sealed file.
func (f *file) verify(ctx context.Context, e *emitter) error {
	m := f.manifest
	if f.state == catalog.StateSealed && f.size != m.Bytes {
		return fmt.Errorf("it has %d bytes, and its manifest says %d", f.size, m.Bytes)
	}
	if err := f.open(ctx); err != nil {
		return err
	}
	sum, at := uint32(0), int64(0)
	for i, r := range m.Ranges {
		var err error
		if sum, err = f.sum(ctx, e, sum, at, r.Offset); err != nil { // what no range has
			return err
		}
		n := uint64(0)
		c := chunks{f: f, feeds: m.LineFeeds, at: r.Offset, end: r.End, buf: e.buf}
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			data, messages, err := c.next(e)
			if err != nil {
				return err
			}
			if messages == 0 {
				break
			}
			n += uint64(messages)
			sum = crc32.Update(sum, castagnoli, data)
		}
		e.buf = c.buf
		if want := r.Last - r.First + 1; n != want {
			return fmt.Errorf("range %d (sequences %d to %d) holds %d messages, and its manifest says %d", i, r.First, r.Last, n, want)
		}
		at = r.End
	}
	sum, err := f.sum(ctx, e, sum, at, m.Bytes)
	if err != nil {
		return err
	}
	// An inventory's items have no checksum of sealed files.
	if sum != m.CRC32C && (m.CRC32C != 0 || m.Sealed != 0) {
		return fmt.Errorf("its checksum is %08x, and its manifest says %08x", sum, m.CRC32C)
	}
	return nil
}

// sum adds the bytes at to end to a checksum.
func (f *file) sum(ctx context.Context, e *emitter, sum uint32, at, end int64) (uint32, error) {
	for at < end {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := f.read(e.buf[:min(int64(len(e.buf)), end-at)], at)
		if err != nil {
			return 0, fmt.Errorf("%w: at byte %d of %d", errShort, at+int64(n), end)
		}
		sum = crc32.Update(sum, castagnoli, e.buf[:n])
		at += int64(n)
	}
	return sum, nil
}

// checkItems compares inventories and manifests.
func (p *pass) checkItems(u *unit) {
	told := make(map[*file]bool)
	for i := range u.items {
		item := &u.items[i]
		f := item.file
		if f == nil {
			continue
		}
		told[f] = true
		m := f.manifest
		switch {
		case m == nil || f.state != catalog.StateSealed:
		case item.State == catalog.StateSealed && (item.Messages != m.Messages || item.Bytes != m.Bytes || item.Chain != m.Chain):
			p.report.problem("%s:%s: the inventory of %s tells of %d messages in %d bytes of chain %d, and its manifest of %d in %d of chain %d",
				f.site.name, f.named(), item.id, item.Messages, item.Bytes, item.Chain, m.Messages, m.Bytes, m.Chain)
		case item.State == catalog.StateSealed && item.At != m.At:
			p.report.problem("%s:%s: the inventory of %s says that it lies at %q, and its manifest at %q", f.site.name, f.named(), item.id, item.At, m.At)
		case item.State != catalog.StateSealed && m.Sealed < p.r.o.Now().Add(-aliveWithin).UnixNano():
			p.report.problem("%s:%s is sealed, and the inventory of %s calls it %s", f.site.name, f.named(), item.id, item.State)
		}
	}
	for _, f := range u.files {
		if !told[f] && f.manifest.Sealed < p.r.o.Now().Add(-aliveWithin).UnixNano() {
			p.report.problem("%s:%s: no inventory tells of it", f.site.name, f.named())
		}
	}
}

// checkOverlap looks for sequences that two sealed files have.
func (p *pass) checkOverlap(c *chain) {
	var exact []*piece
	for _, piece := range c.pieces {
		if piece.rank == rankSealed && !piece.counted {
			exact = append(exact, piece)
		}
	}
	slices.SortFunc(exact, func(a, b *piece) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(exact); i++ {
		a, b := exact[i-1], exact[i]
		if b.first > a.last {
			continue
		}
		f, g := a.src.(*file), b.src.(*file)
		if explained(f) || explained(g) {
			continue
		}
		p.report.problem("%s:%s and %s:%s both hold sequences %d to %d of chain %d", f.site.name, f.named(), g.site.name, g.named(), b.first, min(a.last, b.last), c.chain)
	}
}

// explained says whether a file may hold what stands elsewhere too: a repair
// keeps what a failed write left where no journal tells that it was sent
// again, and a segment may be shipped twice.
func explained(f *file) bool { return f.manifest.Reason == "repair" || f.name.Shipped }

// allMembers reads the member files of all starts.
func (p *pass) allMembers(ctx context.Context) ([]*catalog.Member, error) {
	ids := make(map[string]*site)
	for _, s := range p.sites {
		list, err := s.list(ctx, catalog.MembersFolder)
		if err != nil {
			if err := p.siteError(ctx, s, catalog.MembersFolder, err); err != nil {
				return nil, err
			}
			continue
		}
		for _, i := range list {
			if !i.Folder && strings.HasSuffix(i.Name, ".json") && !strings.HasPrefix(i.Name, "_") {
				ids[i.Name] = s
			}
		}
	}
	var members []*catalog.Member
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		s := ids[name]
		file := path.Join(catalog.MembersFolder, name)
		b, err := s.load(ctx, file, catalog.MaxMember)
		var m *catalog.Member
		if err == nil {
			m, err = catalog.DecodeMember(s.name+":"+file, b)
		}
		if err != nil {
			if err := p.fileError(ctx, s, file, err, "whether all its inventories are there is not known"); err != nil {
				return nil, err
			}
			continue
		}
		id, err := m.Identity()
		if err != nil {
			return nil, err // DecodeMember has seen to it
		}
		if best := p.member(ctx, id); best != nil {
			members = append(members, best)
		}
	}
	return members, ctx.Err()
}

// checkMembers looks for starts that lived in a partition and left no
// inventory of it. One that began to live in it just now may still write it.
func (p *pass) checkMembers(part catalog.Partition, members []*catalog.Member) {
	start, err := part.Start()
	if err != nil || part.Period() != catalog.Hour {
		return
	}
	end, err := part.End()
	if err != nil {
		return
	}
	for _, m := range members {
		id, err := m.Identity()
		if err != nil || p.books[id] != nil {
			continue
		}
		since, touched := time.Unix(0, m.Since), time.Unix(0, m.Touched)
		if since.Before(end) && touched.After(start) && p.r.o.Now().Sub(later(since, start)) > aliveWithin {
			p.report.uncounted("the inventory of %s for %s is missing: what it wrote into it is not known", id, part)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
