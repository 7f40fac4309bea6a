package inventory

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"twinscribe/store/catalog"
)

// Run writes what changes until ctx ends: the local copies by one goroutine,
// those of each cluster by one of its own, so that none waits for another.
func (k *Keeper) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { k.runLocal(ctx) })
	for i := range k.o.Targets {
		wg.Go(func() { k.runLane(ctx, i) })
	}
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		k.sweep(k.o.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.rush:
		}
	}
}

// sweep does what is due at now and gives changed books their next content.
func (k *Keeper) sweep(now time.Time) {
	k.mu.Lock()
	k.cover(now)
	k.endLeft(now)
	var dirty []*book
	for _, b := range k.books {
		if !b.loaded && k.allSeen(b) {
			b.loaded = true
		}
		if b.loaded && b.maybe && b.due {
			b.maybe, b.dirty = false, true
		}
		if b.loaded && b.dirty && !b.maybe {
			dirty = append(dirty, b)
		}
	}
	k.mu.Unlock()
	for _, b := range dirty {
		k.renew(b, now)
	}
	k.mu.Lock()
	k.letGo()
	k.delivered() // who waits for the last missing one need not wait for it any more
	k.mu.Unlock()
	k.wake(k.local)
	for _, lane := range k.lanes {
		k.wake(lane)
	}
}

// renew gives a book its next counter.
func (k *Keeper) renew(b *book, now time.Time) {
	k.mu.Lock()
	b.counter = max(b.counter, b.base) + 1
	b.updated = now.UnixNano()
	b.dirty, b.places, b.snap = false, nil, nil
	head, list := b.head(), b.list()
	k.mu.Unlock()
	snap := encode(head, list)
	k.mu.Lock()
	defer k.mu.Unlock()
	if b.counter == head.Counter && !b.away {
		b.snap, b.snapAt = snap, time.Now()
	}
}

// cover makes the inventories of all partitions that this start has lived in
// since the last call: an hour in which it wrote nothing has an empty one.
// Which periods categories use, nobody else can know, so both are kept. A chain
// stays in a partition for a while after its end, so a start begins in the
// partition in which it would have been.
func (k *Keeper) cover(now time.Time) {
	if k.members[k.o.Identity].over {
		return
	}
	from := k.covered
	if from.IsZero() {
		from = k.since.Add(-edgeSlack)
	}
	if now.Sub(from) > maxCatchUp {
		from = now.Add(-maxCatchUp)
	}
	for t := from; ; t = t.Add(time.Hour) {
		if t.After(now) {
			t = now
		}
		for _, period := range []catalog.Period{catalog.Hour, catalog.Day} {
			if p := period.At(t); p > k.left[period] {
				k.book(k.o.Identity, p)
			}
		}
		if !t.Before(now) {
			break
		}
	}
	if now.After(k.covered) {
		k.covered = now
	}
}

// endLeft ends the inventories of partitions that no chain of this start will
// write into any more.
func (k *Keeper) endLeft(now time.Time) {
	for _, b := range k.books {
		if b.id != k.o.Identity || b.ended || !b.loaded {
			continue
		}
		end, err := b.partition.End()
		if err != nil || now.Before(end.Add(edgeSlack)) || b.opens() {
			continue
		}
		if k.o.Left == nil || k.o.Left(b.partition) {
			b.end()
		}
	}
}

// book finds or makes one.
func (k *Keeper) book(id catalog.Identity, p catalog.Partition) *book {
	key := bookID{id, p}
	if b := k.books[key]; b != nil {
		return b
	}
	own := id == k.o.Identity
	b := newBook(key, len(k.o.Targets), own && p > k.left[p.Period()])
	if m := k.members[id]; !own && m == nil || m != nil && m.over {
		b.ended = true
	}
	k.books[key] = b
	return b
}

// allSeen says whether every cluster that can be used now was asked for its
// copy, and there is one.
func (k *Keeper) allSeen(b *book) bool {
	some := false
	for i := range k.o.Targets {
		if !k.o.Targets[i].Usable() {
			continue
		}
		if !b.seen[i] {
			return false
		}
		some = true
	}
	return some && b.localTried
}

// letGo frees what nobody needs: content that every cluster at hand has, the
// entries of settled books that have a local copy, and settled books that are
// everywhere.
func (k *Keeper) letGo() {
	for key, b := range k.books {
		switch {
		case b.maybe && b.loaded && all(b.seen):
			delete(k.books, key) // there never was one
		case b.settled() && b.everywhere():
			delete(k.books, key)
			k.remove = append(k.remove, key)
			if p := b.partition; b.id == k.o.Identity {
				k.left[p.Period()] = max(k.left[p.Period()], p)
			}
		case b.settled() && b.localAt == b.counter && !b.away:
			b.letGo()
		case b.snap != nil && b.localAt == b.counter && k.usableHave(b):
			b.snap = nil
		}
	}
}

func all(list []bool) bool {
	for _, v := range list {
		if !v {
			return false
		}
	}
	return true
}

func (k *Keeper) usableHave(b *book) bool {
	for i := range k.o.Targets {
		if k.o.Targets[i].Usable() && !b.there(i) {
			return false
		}
	}
	return true
}

// missing says in words what clusters that can be used do not have yet.
func (k *Keeper) missing() string {
	var parts []string
	for i := range k.o.Targets {
		t := &k.o.Targets[i]
		if !t.Usable() {
			continue
		}
		n := 0
		for _, b := range k.books {
			if !b.there(i) && !b.maybe {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d inventories", t.Cluster.Name(), n))
		}
		if k.members[k.o.Identity].due[i] {
			parts = append(parts, t.Cluster.Name()+": member file")
		}
	}
	return strings.Join(parts, ", ")
}

// delivered tells those who wait in Flush.
func (k *Keeper) delivered() {
	close(k.changed)
	k.changed = make(chan struct{})
}
