package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/failpoint"
	"twinscribe/store/catalog"
)

// The local copies: a folder for each start, in it member.json and a file for
// each partition, with '_' for the slash. They are written without fsync: a
// power cut may cost them, and the clusters' copies count then.
const (
	memberFile = "member.json"
	jsonSuffix = ".json"

	dirPerm  fs.FileMode = 0o700
	filePerm fs.FileMode = 0o600
)

func (k *Keeper) localFolder(id catalog.Identity) string {
	return filepath.Join(k.o.Dir, id.String())
}

func (k *Keeper) localPath(b bookID) string {
	return filepath.Join(k.localFolder(b.id), strings.ReplaceAll(string(b.partition), "/", "_")+jsonSuffix)
}

// runLocal reads and writes the local copies. A disk that stalls holds up
// nothing else, and what was not written stays to be written.
func (k *Keeper) runLocal(ctx context.Context) {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	touch, written := true, time.Time{}
	for {
		k.localPass(touch)
		if touch {
			written = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-k.local:
		}
		touch = time.Since(written) >= touchEvery
	}
}

func (k *Keeper) localPass(touch bool) {
	for _, b := range k.localWork(func(b *book) bool { return !b.loaded && !b.localTried }) {
		k.readLocal(b)
	}
	for _, b := range k.localWork(func(b *book) bool { return b.away && b.wanted }) {
		k.fetchLocal(b)
	}
	for _, b := range k.localWork(func(b *book) bool { return b.loaded && !b.away && !b.dirty && b.localAt != b.counter }) {
		k.writeLocal(b)
	}
	if touch {
		k.noteLocal(k.writeMember())
	}
	for _, id := range k.unwanted() {
		if err := k.o.FS.Remove(k.localPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			k.noteLocal(err)
		}
	}
	k.forget()
}

// unwanted are the local copies of books that were let go and not asked for again.
func (k *Keeper) unwanted() []bookID {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.DeleteFunc(k.remove, func(id bookID) bool { return k.books[id] != nil })
	k.remove = nil
	return list
}

func (k *Keeper) localWork(due func(*book) bool) []*book {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*book
	for _, b := range k.books {
		if due(b) {
			list = append(list, b)
		}
	}
	return list
}

// readLocal takes in the local copy of a book that was asked for again.
func (k *Keeper) readLocal(b *book) {
	c, err := k.readContent(b.bookID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.o.Log.Warn("a local copy of an inventory cannot be read: the clusters' copies count",
			zap.String("path", k.localPath(b.bookID)), zap.Error(err))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	b.localTried = true
	if err == nil {
		b.take(c)
		b.loaded = true
		b.localAt = c.head.Counter
	}
}

// fetchLocal gets the content of a book that was let go, for a cluster that was
// away until now.
func (k *Keeper) fetchLocal(b *book) {
	name := k.localPath(b.bookID)
	raw, err := vfs.ReadFile(k.o.FS, name)
	var head catalog.Inventory
	if err == nil {
		head, err = readHead(name, bytes.NewReader(raw))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	b.wanted = false
	if !b.away {
		return
	}
	if err != nil || head.Counter != b.counter {
		k.o.Log.Warn("the local copy of an inventory is lost: the clusters' copies count", zap.String("path", name), zap.Error(err))
		b.wakeUp()
		b.localTried = true
		return
	}
	b.snap, b.snapAt = raw, time.Now()
	for _, lane := range k.lanes {
		k.wake(lane)
	}
}

func (k *Keeper) readContent(id bookID) (*content, error) {
	name := k.localPath(id)
	raw, err := vfs.ReadFile(k.o.FS, name)
	if err != nil {
		return nil, err
	}
	return decode(id, name, raw)
}

func (k *Keeper) writeLocal(b *book) {
	counter, raw := k.content(b)
	if raw == nil {
		return
	}
	err := k.writeFile(k.localPath(b.bookID), raw)
	k.noteLocal(err)
	if err != nil {
		return
	}
	failpoint.Here("inventory.local-renamed")
	k.mu.Lock()
	b.localAt = counter
	k.mu.Unlock()
	for _, lane := range k.lanes {
		k.wake(lane)
	}
}

// content is the newest content of a book and its counter; nil where it is not
// to be had now: something changed meanwhile, or only the local copy has it.
func (k *Keeper) content(b *book) (uint64, []byte) {
	k.mu.Lock()
	if b.snap != nil {
		defer k.mu.Unlock()
		return b.counter, b.snap
	}
	if !b.loaded || b.dirty || b.away {
		k.mu.Unlock()
		return 0, nil
	}
	head, list := b.head(), b.list()
	k.mu.Unlock()
	return head.Counter, encode(head, list)
}

// writeFile replaces a file without waiting for the disk.
func (k *Keeper) writeFile(name string, content []byte) error {
	tmp := name + ".tmp"
	f, err := k.o.FS.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err = k.o.FS.MkdirAll(filepath.Dir(name), dirPerm); err == nil {
			f, err = k.o.FS.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	failpoint.Here("inventory.local-written")
	return k.o.FS.Rename(tmp, name)
}

// writeMember keeps the time at which this start was alive.
func (k *Keeper) writeMember() error {
	k.mu.Lock()
	m := k.ownFile()
	k.mu.Unlock()
	raw, err := m.Encode()
	if err == nil {
		err = k.writeFile(filepath.Join(k.localFolder(k.o.Identity), memberFile), raw)
	}
	return err
}

// noteLocal counts failures, and says the first of a row of them.
func (k *Keeper) noteLocal(err error) {
	k.mu.Lock()
	first := err != nil && !k.localBad
	k.localBad = err != nil
	if err != nil {
		k.stats.LocalFailed++
	}
	k.mu.Unlock()
	if first {
		k.o.Log.Error("local copies of inventories cannot be written: the clusters' copies go on", zap.Error(err))
	}
}

// forget gives up earlier starts of which nothing is left to do.
func (k *Keeper) forget() {
	for _, id := range k.done() {
		for _, name := range k.localFiles(id) {
			_ = k.o.FS.Remove(filepath.Join(k.localFolder(id), name)) // what is left over is removed at a later start
		}
		failpoint.Here("forget.files-removed")
		_ = k.o.FS.Remove(k.localFolder(id)) // the same
		failpoint.Here("forget.folder-removed")
		if k.o.Forget != nil {
			if err := k.o.Forget(id); err != nil {
				k.noteLocal(fmt.Errorf("forget %s: %w", id, err))
				continue
			}
		}
		failpoint.Here("forget.forgotten")
		k.mu.Lock()
		delete(k.members, id)
		k.mu.Unlock()
		k.o.Log.Info("an earlier start is settled: all its files are sealed, its inventories are on all clusters", zap.Stringer("start", id))
	}
}

// done are the earlier starts that are over, settled, and told to all clusters.
func (k *Keeper) done() []catalog.Identity {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []catalog.Identity
	for id, m := range k.members {
		if id != k.o.Identity && m.over && m.endedEverywhere() && !k.hasBooks(id) {
			list = append(list, id)
		}
	}
	return list
}

func (k *Keeper) hasBooks(id catalog.Identity) bool {
	for key := range k.books {
		if key.id == id {
			return true
		}
	}
	for _, key := range k.remove {
		if key.id == id {
			return true
		}
	}
	return false
}

func (k *Keeper) localFiles(id catalog.Identity) []string {
	list, err := k.o.FS.ReadDir(k.localFolder(id))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
