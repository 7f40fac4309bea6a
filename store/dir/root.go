package dir

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"twinscribe/buffer/vfs"
)

// Marker is the file in a root that says that it is one. Its name begins with
// an underscore, as the names that readers of the data skip.
const Marker = "_root.json"

// tmpPrefix begins the names of what is not there yet; List does not show them.
const tmpPrefix = ".tmp-"

const markerVersion = 1

type marker struct {
	Version int    `json:"version"`
	ID      string `json:"id"` // random
	Created int64  `json:"created"`
}

// createRoot makes the root and its marker where they are missing.
func (c *Cluster) createRoot() error {
	if err := vfs.MkdirAllSync(c.fs, c.o.Path, folderPerm); err != nil {
		return err
	}
	name := filepath.Join(c.o.Path, Marker)
	if _, err := c.fs.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	b, err := json.Marshal(marker{Version: markerVersion, ID: hex.EncodeToString(id[:]), Created: time.Now().UnixNano()})
	if err != nil {
		return err
	}
	return vfs.ReplaceFile(c.fs, name, append(b, '\n'), filePerm)
}

// checkRoot says whether the root is there and is one.
func (c *Cluster) checkRoot() error {
	info, err := c.fs.Stat(filepath.Join(c.o.Path, Marker))
	switch {
	case err == nil && info.Mode().IsRegular():
		return nil
	case err == nil:
		return fmt.Errorf("%w: %s in %s is no file", errRoot, Marker, c.o.Path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s has no file %s: mount the file system, or, if nothing was ever written there, start with a new root",
			errRoot, c.o.Path, Marker)
	}
	return fmt.Errorf("%w: %w", errRoot, err)
}

// checkMarker reads the marker whole: a newer program's root is not written to.
func (c *Cluster) checkMarker() error {
	if err := c.checkRoot(); err != nil {
		return err
	}
	b, err := vfs.ReadFile(c.fs, filepath.Join(c.o.Path, Marker))
	if err != nil {
		return c.settled(err)
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("%w: %s in %s: %v", errRoot, Marker, c.o.Path, err)
	}
	if m.Version > markerVersion {
		return fmt.Errorf("%w: %s in %s has version %d, this program knows %d", errRoot, Marker, c.o.Path, m.Version, markerVersion)
	}
	return nil
}

// checkFree refuses to eat the last bytes of the file system.
func (c *Cluster) checkFree() error {
	if c.o.MinFree < 0 {
		return nil
	}
	free, _, err := c.fs.Free(c.o.Path)
	if err != nil {
		return c.settled(err)
	}
	if free < uint64(c.o.MinFree) {
		return fmt.Errorf("%w: %d bytes on the file system of %s, %d are kept", errFree, free, c.o.Path, c.o.MinFree)
	}
	return nil
}

// full is the path of a file for the operating system. A path that leaves the
// root, or is not in its shortest form, is refused.
func (c *Cluster) full(p string) (string, error) {
	if p == "" {
		p = "."
	}
	if !fs.ValidPath(p) || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("path %q is not inside the root: want a relative one without . and ..: %w", p, fs.ErrInvalid)
	}
	return filepath.Join(c.o.Path, filepath.FromSlash(p)), nil
}

// fullFile is full for what cannot be the root itself.
func (c *Cluster) fullFile(p string) (string, error) {
	if p == "" || p == "." {
		return "", fmt.Errorf("path %q is the root: want a file: %w", p, fs.ErrInvalid)
	}
	return c.full(p)
}

// maxDurable bounds the memory of folders that are known to be durable.
const maxDurable = 1 << 14

// makeFolder makes a folder below the root, and those above it, durably. The
// root itself is never made. A folder that another goroutine made counts only
// once its entry is synced, by whomever.
func (c *Cluster) makeFolder(rel string) error {
	if rel == "." {
		return nil
	}
	full := filepath.Join(c.o.Path, filepath.FromSlash(rel))
	c.mu.Lock()
	_, known := c.durable[rel]
	c.mu.Unlock()
	if known {
		info, err := c.fs.Stat(full)
		if err == nil && info.IsDir() {
			return nil
		}
	}
	if err := c.makeFolder(path.Dir(rel)); err != nil {
		return err
	}
	if err := c.fs.Mkdir(full, folderPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := c.fs.SyncDir(filepath.Dir(full)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.durable) >= maxDurable {
		clear(c.durable)
	}
	c.durable[rel] = struct{}{}
	return nil
}
