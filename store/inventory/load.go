package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
	"twinscribe/store/statedir"
)

const (
	// maxLost is how many earlier starts without any local copy are looked for
	// on the clusters, the newest ones; lostWindow is how much of the beginning
	// and of the end of such a start's life.
	maxLost    = 8
	lostWindow = 72 * time.Hour
)

// loadLocal takes in what earlier starts left on the local disk.
func (k *Keeper) loadLocal() error {
	k.addMember(k.memberOf(k.o.Identity))
	lost := 0
	for i := len(k.o.Starts) - 1; i >= 0; i-- {
		s := k.o.Starts[i]
		m, err := k.loadMember(s)
		if err != nil {
			return err
		}
		k.addMember(m)
		n, err := k.loadBooks(s.Identity)
		if err != nil {
			return err
		}
		if n == 0 && lost < maxLost {
			lost++
			end := k.since
			if i+1 < len(k.o.Starts) {
				end = k.o.Starts[i+1].Since
			}
			k.lookFor(s, end)
		}
	}
	return nil
}

func (k *Keeper) loadMember(s statedir.Start) (catalog.Member, error) {
	m := k.memberOf(s.Identity)
	m.Since = s.Since.UnixNano()
	name := filepath.Join(k.localFolder(s.Identity), memberFile)
	raw, err := vfs.ReadFile(k.o.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		var file *catalog.Member
		if file, err = catalog.DecodeMember(name, raw); err == nil {
			if id, _ := file.Identity(); id == s.Identity {
				return *file, nil
			}
			err = fmt.Errorf("it is of %s.%s", file.Aggregator, file.Start)
		}
	}
	if errors.Is(err, catalog.ErrNewer) {
		return m, err
	}
	k.o.Log.Warn("a local member file cannot be read", zap.String("path", name), zap.Error(err))
	return m, nil
}

func (k *Keeper) loadBooks(id catalog.Identity) (int, error) {
	folder := k.localFolder(id)
	list, err := k.o.FS.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("inventories: %w", err)
	}
	n := 0
	for _, f := range list {
		name, isJSON := strings.CutSuffix(f.Name(), jsonSuffix)
		p := catalog.Partition(strings.ReplaceAll(name, "_", "/"))
		if _, err := p.Start(); err != nil || !isJSON {
			continue
		}
		n++
		b := newBook(bookID{id, p}, len(k.o.Targets), false)
		b.localTried = true
		k.books[b.bookID] = b
		c, err := k.readContent(b.bookID)
		switch {
		case errors.Is(err, catalog.ErrNewer):
			return n, err
		case err != nil:
			k.o.Log.Warn("a local copy of an inventory cannot be read: the clusters' copies count",
				zap.String("path", filepath.Join(folder, f.Name())), zap.Error(err))
			continue
		}
		b.take(c)
		b.loaded, b.localAt = true, c.head.Counter
		if b.settled() {
			b.letGo()
		}
	}
	return n, nil
}

// lookFor makes the clusters be asked for the inventories of a start that has
// no local copy. Nobody knows which there are.
func (k *Keeper) lookFor(s statedir.Start, end time.Time) {
	begin := s.Since.Add(-edgeSlack)
	ask := func(from, to time.Time) {
		for t := from; ; t = t.Add(time.Hour) {
			if t.After(to) {
				t = to
			}
			for _, period := range []catalog.Period{catalog.Hour, catalog.Day} {
				key := bookID{s.Identity, period.At(t)}
				if k.books[key] == nil {
					b := newBook(key, len(k.o.Targets), false)
					b.maybe, b.localTried = true, true
					b.due = !t.After(s.Since)
					k.books[key] = b
				}
			}
			if !t.Before(to) {
				return
			}
		}
	}
	if end.Before(s.Since) {
		end = s.Since
	}
	ask(begin, s.Since) // these are due in any case
	if end.Sub(begin) <= 2*lostWindow {
		ask(begin, end)
		return
	}
	ask(begin, begin.Add(lostWindow))
	ask(end.Add(-lostWindow), end)
}
