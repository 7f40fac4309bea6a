package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"twinscribe/store/catalog"
)

type bookID struct {
	id        catalog.Identity
	partition catalog.Partition
}

// path is the inventory's path on a cluster.
func (i bookID) path() string { return catalog.InventoryPath(i.id, i.partition) }

type fileKey struct{ place, path string }

// An itemKey names an item: a file by its path alone, a part of a segment by
// category and chain too.
type itemKey struct {
	fileKey
	category catalog.Text
	chain    uint32
}

// An entry is an item in the form in which it is written. It never changes.
type entry struct {
	key     itemKey
	state   string
	version int // of an inventory that has it
	raw     []byte
}

func newEntry(item catalog.Item) *entry {
	raw, err := json.Marshal(item)
	if err != nil {
		panic(fmt.Sprintf("inventory: an item that JSON cannot hold: %v", err))
	}
	return &entry{key: keyOf(&item), state: item.State, version: item.Needs(), raw: raw}
}

func keyOf(item *catalog.Item) itemKey {
	key := itemKey{fileKey: fileKey{item.Place, item.Path}}
	if item.State == catalog.StateSegment || item.State == catalog.StateShipped {
		key.category, key.chain = item.Category, item.Chain
	}
	return key
}

func (e *entry) item() catalog.Item {
	var item catalog.Item
	if err := json.Unmarshal(e.raw, &item); err != nil {
		panic(fmt.Sprintf("inventory: an entry that was read before cannot be read: %v", err))
	}
	return item
}

// unfinished says whether the item is a file without its final name.
func (e *entry) unfinished() bool {
	return e.state == catalog.StateOpen || e.state == catalog.StateSealing || e.state == catalog.StateTorn
}

// A book is one inventory: what one start wrote into one partition. All of it
// is guarded by Keeper.mu.
//
// The book of an earlier start, or of a partition that was let go, first takes
// in the copies that there are: the local one, or else those of the clusters
// that can be reached. A cluster's copy that turns up later with a higher
// counter than any so far was written by the start itself and is newer than
// what was taken in: it counts, but for what was changed here since.
type book struct {
	bookID
	entries map[itemKey]*entry
	order   []*entry // entries in order of their first Put; may hold replaced ones, see list

	unfinished int // entries that are files without their final name
	segments   int // entries that lie in a local segment

	loaded     bool // all copies that could be had are in
	localTried bool
	maybe      bool // perhaps there is no such inventory at all: nothing was put
	due        bool // if there is none, it is to be made all the same
	away       bool // settled: entries are let go, the local copy has them
	wanted     bool // away, and a cluster needs its content
	leftOpen   bool // a copy said that it was not ended: the start died in it

	base          uint64 // highest counter of the copies taken in
	loadedUpdated int64
	touched       map[itemKey]bool // put here since; nil where no copy can turn up
	dropped       map[fileKey]bool

	counter uint64 // of the newest content
	updated int64
	dirty   bool            // changed since counter
	places  map[string]bool // of the items that did
	ended   bool
	snap    []byte // the content of counter, while somebody needs it
	snapAt  time.Time

	localAt uint64   // counter of the local copy
	at      []uint64 // the same of each target
	seen    []bool   // by target: its copy was compared
}

// newBook makes an empty one. fresh: no copy of it can be anywhere.
func newBook(id bookID, targets int, fresh bool) *book {
	b := &book{bookID: id, entries: make(map[itemKey]*entry), at: make([]uint64, targets), seen: make([]bool, targets)}
	if fresh {
		b.loaded, b.dirty = true, true
		for i := range b.seen {
			b.seen[i] = true
		}
		return b
	}
	b.touched, b.dropped = make(map[itemKey]bool), make(map[fileKey]bool)
	return b
}

func (b *book) count(e *entry, by int) {
	if e.unfinished() {
		b.unfinished += by
	}
	if e.state == catalog.StateSegment {
		b.segments += by
	}
}

func (b *book) set(e *entry) {
	old := b.entries[e.key]
	b.entries[e.key] = e
	b.count(e, 1)
	if old == nil {
		b.order = append(b.order, e)
		return
	}
	b.count(old, -1)
}

func (b *book) put(e *entry) {
	b.wakeUp()
	if old := b.entries[e.key]; old != nil && bytes.Equal(old.raw, e.raw) {
		return
	}
	b.set(e)
	b.dirty, b.maybe = true, false
	b.note(e.key.place)
	if b.touched != nil {
		b.touched[e.key] = true
	}
}

func (b *book) drop(place, path string) {
	b.wakeUp()
	key := fileKey{place, path}
	if b.dropped != nil {
		b.dropped[key] = true
	}
	b.remove(func(e *entry) bool { return e.key.fileKey == key })
}

func (b *book) remove(which func(*entry) bool) {
	keep := b.order[:0]
	for _, e := range b.order {
		if now := b.entries[e.key]; which(now) {
			b.count(now, -1)
			delete(b.entries, e.key)
			b.dirty, b.maybe = true, false
			b.note(now.key.place)
			continue
		}
		keep = append(keep, e)
	}
	clear(b.order[len(keep):])
	b.order = keep
}

func (b *book) note(place string) {
	if b.places == nil {
		b.places = make(map[string]bool)
	}
	b.places[place] = true
}

// wakeUp makes a book that was let go ask for its copies again.
func (b *book) wakeUp() {
	if !b.away {
		return
	}
	b.away, b.loaded, b.localTried = false, false, false
	b.base = 0
	clear(b.seen)
	b.entries = make(map[itemKey]*entry)
	b.touched, b.dropped = make(map[itemKey]bool), make(map[fileKey]bool)
}

func (b *book) end() {
	if !b.ended && !b.away {
		b.ended, b.dirty = true, true
	}
}

// opens says whether a file is still being written.
func (b *book) opens() bool {
	for _, e := range b.entries {
		if e.state == catalog.StateOpen {
			return true
		}
	}
	return false
}

// settled says that nothing in it will change by itself.
func (b *book) settled() bool {
	return b.loaded && b.ended && !b.dirty && b.unfinished == 0 && b.segments == 0
}

// letGo frees what the local copy has too.
func (b *book) letGo() {
	b.away = true
	b.entries, b.order, b.snap = nil, nil, nil
	b.touched, b.dropped = nil, nil
}

// there says that target i has the newest content.
func (b *book) there(i int) bool {
	return b.loaded && !b.dirty && b.seen[i] && b.at[i] == b.counter
}

// behind says that target i lacks content that is ready, or what is said of
// files at that very place.
func (b *book) behind(i int, place string) bool {
	return !b.maybe && (!b.loaded || !b.seen[i] || b.at[i] != b.counter || b.places[place])
}

func (b *book) everywhere() bool {
	for i := range b.at {
		if !b.there(i) {
			return false
		}
	}
	return true
}

// take takes in a copy that was written by somebody else: by the start itself
// before it died, or by this start before the book was let go.
func (b *book) take(c *content) {
	if c.head.Counter < b.base || (c.head.Counter == b.base && b.base > 0) {
		return
	}
	changed := b.dirty || b.counter > b.base // something was put since
	b.base = c.head.Counter
	b.maybe = false
	b.loadedUpdated = max(b.loadedUpdated, c.head.Updated)
	b.leftOpen = !c.head.Ended
	b.remove(func(e *entry) bool { return !b.touched[e.key] })
	for _, e := range c.entries {
		if !b.touched[e.key] && !b.dropped[e.key.fileKey] {
			b.set(e)
		}
	}
	b.ended = b.ended || c.head.Ended
	b.counter = max(b.counter, c.head.Counter)
	b.updated = max(b.updated, c.head.Updated)
	b.dirty = changed || len(b.touched) > 0 || len(b.dropped) > 0 || b.ended != c.head.Ended
	b.snap = nil
	if !b.dirty {
		b.places = nil
	}
}

// head is everything but the items.
func (b *book) head() catalog.Inventory {
	return catalog.Inventory{
		Version:    catalog.Version,
		Aggregator: b.id.Aggregator,
		Epoch:      b.id.Epoch,
		Start:      b.id.StartID(),
		Partition:  b.partition,
		Counter:    b.counter,
		Updated:    b.updated,
		Ended:      b.ended,
		Items:      []catalog.Item{},
	}
}

// list is the entries as they are now.
func (b *book) list() []*entry {
	list := slices.Clone(b.order)
	for i, e := range list {
		list[i] = b.entries[e.key]
	}
	return list
}
