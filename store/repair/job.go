package repair

import (
	"path"
	"strings"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/files"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
)

// Who tells what must be in a file: the later in this list, the better.
type origin int

const (
	byListing origin = iota
	byInventory
	byJournal
	byWriter
)

func (o origin) String() string {
	return [...]string{"listing", "inventory", "journal", "writer"}[o]
}

// A job is one file that awaits repair. What is known of it is guarded by the
// lane's mutex until it runs, and belongs to the one who runs it then.
type job struct {
	open, final string          // paths
	target      *catalog.Target // the name that it takes in place of final; nil: none
	id          catalog.Identity
	partition   catalog.Partition
	category    *catalog.Text // nil: only the folder tells
	chain       uint32
	lines       []catalog.Line    // in order, none overlapping
	sure        bool              // the last line is acknowledged too
	torn        *int64            // what must be in it, no more and no less
	acked       int64             // bytes that were surely acknowledged
	manifest    *catalog.Manifest // of the first manifest.Bytes bytes, by who wrote them
	done        []func()
	from        origin

	running bool
	told    bool // the inventory has what became of it
	due     time.Time
	since   time.Time // of the first try on a cluster that could be used
	tries   int       // that failed, since the last that did not

	late   []*job // of the same file, told while it ran
	aimed  bool   // target is known, as far as it can be
	looked bool   // the final name was not there
	size   int64  // the largest that was seen: what is not there any more was cut
	built  *catalog.Manifest
}

func (j *job) manifestPath() string {
	name, _ := catalog.ParseName(path.Base(j.final))
	return path.Join(path.Dir(j.final), name.Manifest())
}

func (j *job) number() uint32 {
	name, _ := catalog.ParseName(path.Base(j.final))
	return name.Number
}

func jobOfTorn(t *files.Torn) *job {
	j := jobOfBegin(&t.Begin)
	j.from, j.torn, j.acked, j.manifest = byWriter, &t.L, t.L, t.Manifest
	j.setLines(t.Lines, true)
	if t.Done != nil {
		j.done = append(j.done, t.Done)
	}
	return j
}

func jobOfState(s *journal.FileState) *job {
	j := jobOfBegin(&s.Begin)
	j.from, j.torn = byJournal, s.Torn
	j.setLines(s.Lines, s.Torn != nil)
	if s.Torn != nil {
		j.acked = *s.Torn
	}
	j.done = append(j.done, s.Done)
	return j
}

func jobOfBegin(b *journal.Begin) *job {
	return &job{
		open: b.OpenPath, final: b.Path, id: b.Identity, partition: b.Partition,
		category: &b.Category, chain: b.Chain, target: b.Target,
	}
}

// jobOfItem is for an item that no inventory says to be sealed.
func jobOfItem(f *inventory.Found) *job {
	name, form := catalog.ParseName(path.Base(f.Item.Path))
	if form != catalog.FormSealed || name.Shipped {
		return nil
	}
	j := &job{
		open: path.Join(path.Dir(f.Item.Path), name.Open()), final: f.Item.Path, id: f.Identity, partition: f.Partition,
		category: &f.Item.Category, chain: f.Item.Chain, from: byInventory,
	}
	m := f.Item.Manifest
	if m == nil {
		return j
	}
	j.acked, j.manifest, j.target = m.Bytes, m, m.Target
	j.setLines(linesOf(m), true)
	if f.Item.State != catalog.StateOpen {
		j.torn = &m.Bytes
	}
	return j
}

// jobOfName is for an open name that was found below root; nil if it is none
// that repair looks after: leftovers of a dead ship are the next ship's.
func jobOfName(p string) *job {
	name, form := catalog.ParseName(path.Base(p))
	if form != catalog.FormOpen || name.Shipped {
		return nil
	}
	folder := path.Dir(p)
	_, partition, ok := strings.Cut(folder, "/")
	if _, err := catalog.Partition(partition).Start(); !ok || err != nil {
		return nil
	}
	j := &job{
		open: p, final: path.Join(folder, name.Sealed()), id: name.Identity,
		partition: catalog.Partition(partition), from: byListing,
	}
	if category, ok := catalog.Category(folder[:len(folder)-len(partition)-1]); ok {
		text := catalog.Text(category)
		j.category = &text
	}
	return j
}

// setLines takes lines as they were noted: one that begins before another ends
// replaces it, because its batch was written there.
func (j *job) setLines(lines []catalog.Line, sure bool) {
	j.lines, j.sure = nil, sure
	for _, l := range lines {
		if l.Offset < 0 || l.End <= l.Offset || l.First == 0 || l.Last < l.First {
			continue
		}
		for n := len(j.lines); n > 0 && j.lines[n-1].End > l.Offset; n-- {
			j.lines = j.lines[:n-1]
		}
		j.lines = append(j.lines, l)
	}
	if n := len(j.lines); n > 0 {
		j.acked = max(j.acked, j.lines[n-1].Offset)
	}
}

// end is where the last line ends.
func (j *job) end() int64 {
	if n := len(j.lines); n > 0 {
		return j.lines[n-1].End
	}
	return 0
}

// merge takes in what another source knows of the same file.
func (j *job) merge(other *job) {
	better, worse := *j, *other
	if other.from > j.from {
		better, worse = *other, *j
	}
	j.from, j.chain, j.id, j.partition = better.from, better.chain, better.id, better.partition
	j.category, j.target = better.category, better.target
	if j.target == nil {
		j.target = worse.target
	}
	if j.category == nil {
		j.category = worse.category
	}
	if better.from == byListing {
		j.chain = worse.chain
	}
	j.torn, j.acked, j.manifest = better.torn, max(better.acked, worse.acked), better.manifest
	if j.torn == nil {
		j.torn = worse.torn
	}
	if j.torn != nil {
		j.acked = *j.torn
	}
	// The sums of who wrote the file are good wherever they come from, if they
	// are of what must be in it.
	for _, m := range []*catalog.Manifest{better.manifest, worse.manifest} {
		if m != nil && (j.manifest == nil || j.torn != nil && m.Bytes == *j.torn) {
			j.manifest = m
		}
	}
	j.lines, j.sure = better.lines, better.sure
	if worse.end() > better.end() { // a journal that failed for a while knows less than the inventory
		j.lines, j.sure = worse.lines, worse.sure
	}
	j.done = append(j.done, other.done...)
}

// item is the file as the inventory tells it while it awaits repair. Only a
// tear says what must be in it, no more and no less. An orphan stays open: what
// is known of it is the least that it holds, and whoever repairs it after us
// must not cut it to that.
func (j *job) item(place string) catalog.Item {
	it := catalog.Item{
		Category: j.text(), Chain: j.chain, Place: place, Path: j.final,
		State: catalog.StateOpen, Bytes: j.acked, Manifest: j.manifest,
	}
	if j.torn != nil {
		it.State = catalog.StateTorn
	}
	for _, l := range j.lines {
		if l.End <= j.acked {
			it.Ranges = append(it.Ranges, catalog.Range{First: l.First, Last: l.Last, Offset: l.Offset, End: l.End, Counted: l.Counted})
			it.Messages += l.Messages()
		}
	}
	return it
}

// text is the category's name, as far as it is known.
func (j *job) text() catalog.Text {
	if j.category != nil {
		return *j.category
	}
	folder, _, _ := strings.Cut(j.final, "/")
	return catalog.Text(folder)
}

// linesOf is what a manifest tells, a line for each range. Sequences and offsets
// rise together in a file, so each list is walked once.
func linesOf(m *catalog.Manifest) []catalog.Line {
	lines := make([]catalog.Line, len(m.Ranges))
	ids, feeds, arrivals := m.IDs, m.LineFeeds, m.Arrivals
	var last *catalog.Arrival // it goes on up to the next one, also into the next range
	for i, r := range m.Ranges {
		l := catalog.Line{Offset: r.Offset, End: r.End, First: r.First, Last: r.Last, Counted: r.Counted}
		for ; len(ids) > 0 && ids[0].First <= r.Last; ids = ids[1:] {
			l.IDs = append(l.IDs, ids[0])
		}
		for ; len(feeds) > 0 && feeds[0].Offset < r.End; feeds = feeds[1:] {
			l.LineFeeds = append(l.LineFeeds, feeds[0])
		}
		if last != nil && !r.Counted && (len(arrivals) == 0 || arrivals[0].First > r.First) {
			l.Arrivals = append(l.Arrivals, catalog.Arrival{First: r.First, Millis: last.Millis, Senders: last.Senders})
		}
		for ; len(arrivals) > 0 && arrivals[0].First <= r.Last; arrivals = arrivals[1:] {
			l.Arrivals = append(l.Arrivals, arrivals[0])
			last = &arrivals[0]
		}
		lines[i] = l
	}
	return lines
}
