package scribefile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
)

// Permissions before the umask, as those of the original.
const (
	folderPerm = 0o777
	filePerm   = 0o666
)

const (
	metaPrefix = "scribe_meta<new_logfile>: "
	statsName  = "scribe_stats"
	linkSuffix = "_current"

	// maxTries is how many numbers are tried where other processes take them.
	maxTries = 100

	// rotateAgain is the pause after a rotation that failed.
	rotateAgain = time.Second
)

// open begins a file or goes on with the newest one, as the original's open does.
func (w *writer) open(spec *Spec, now time.Time) error {
	if err := w.files.hold(w); err != nil {
		return w.openFailed(w.folder, err)
	}
	c, err := w.begin(spec, now, w.next || spec.RotateOnReopen)
	if err != nil {
		w.files.letGo(w)
		return err
	}
	w.cur, w.next = c, false
	w.link(spec)
	return nil
}

// begin opens the file of this moment: the newest of its name to append to,
// or, where next is set, a new one with the number behind.
func (w *writer) begin(spec *Spec, now time.Time, next bool) (*current, error) {
	fsys, local, since := w.files.o.FS, w.local(now), w.files.reopens.Load()
	if err := w.makeFolder(spec.Sync); err != nil {
		return nil, w.openFailed(w.folder, err)
	}
	stem := spec.stem(w.base, local)
	number, appendable, err := newest(fsys, w.folder, stem)
	if err != nil {
		return nil, w.openFailed(w.folder, err)
	}
	create := next || !appendable
	switch {
	case number < 0 && !next && spec.Rotate == Hourly:
		number = int64(local.Hour())
	case create:
		number++
	}
	for range maxTries {
		path := w.path(stem, number)
		if number > maxNumber {
			return nil, w.openFailed(path, errNumbers)
		}
		c, err := w.openOne(spec, path, create)
		switch {
		case err == nil:
			c.since = since
			c.begun = local.Round(0) // the wall clock counts, also over a pause of the machine
			w.files.opened.Add(1)
			return c, nil
		case errors.Is(err, vfs.ErrLocked), errors.Is(err, errTorn), create && errors.Is(err, fs.ErrExist):
			number, create = number+1, true // another process writes there, or nobody should
		case !create && errors.Is(err, fs.ErrNotExist): // it was removed meanwhile
			create = true
		default:
			return nil, w.openFailed(path, err)
		}
	}
	return nil, w.openFailed(w.path(stem, number), vfs.ErrLocked)
}

// openOne opens the file of one number.
func (w *writer) openOne(spec *Spec, path string, create bool) (*current, error) {
	flag := os.O_RDWR | os.O_APPEND
	if create {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := w.files.o.FS.OpenFile(path, flag, filePerm)
	if err != nil {
		return nil, err
	}
	info, err := locked(f)
	if err == nil && spec.AddNewlines {
		err = endsWithLine(f, info.Size())
	}
	if err == nil && spec.Sync {
		err = w.files.o.FS.SyncDir(w.folder)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &current{path: path, f: f, info: info, size: info.Size(), named: spec.Sync}, nil
}

// endsWithLine says whether the next line would be one of its own. After a
// crash half a line can stand at the end of a file.
func endsWithLine(f vfs.File, size int64) error {
	if size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		return errTorn
	}
	return nil
}

// makeFolder makes the folder and its parents. Where the files are synced, the
// folders are too, also those that were made while files were not: nothing is
// answered for in a folder that a power cut may take away.
func (w *writer) makeFolder(sync bool) error {
	fsys := w.files.o.FS
	if !sync {
		return fsys.MkdirAll(w.folder, folderPerm)
	}
	if err := vfs.MkdirAllSync(fsys, w.folder, folderPerm); err != nil {
		return err
	}
	for at := filepath.Dir(w.folder); !w.rooted; at = filepath.Dir(at) {
		if err := vfs.SyncEntry(fsys, at); err != nil {
			return err
		}
		w.rooted = at == filepath.Dir(at)
	}
	return nil
}

// rotateIfDue replaces the current file where its spec says so. Where that
// fails the current file is written to further on.
func (w *writer) rotateIfDue(spec *Spec, now time.Time) error {
	if !spec.due(w.cur.size, w.cur.begun, w.local(now)) || now.Before(w.again) {
		return nil
	}
	if err := w.rotate(spec, now); err != nil {
		w.again = now.Add(rotateAgain)
		return err
	}
	return nil
}

func (w *writer) rotate(spec *Spec, now time.Time) error {
	old := w.cur
	if old.f == nil {
		if err := w.files.hold(w); err != nil {
			return w.openFailed(old.path, err)
		}
	}
	c, err := w.begin(spec, now, true)
	if err != nil {
		if old.f == nil {
			w.files.letGo(w)
		}
		return err
	}
	w.files.rotations.Add(1)
	w.cur = c
	w.stats(spec, old, now)
	w.finish(spec, old, c.path)
	w.link(spec)
	return nil
}

// finish writes the meta line into a replaced file, and closes it.
func (w *writer) finish(spec *Spec, old *current, next string) {
	if spec.WriteMeta {
		line := metaPrefix + next
		if spec.AddNewlines {
			line += "\n"
		}
		if err := w.addLine(old, line); err != nil {
			w.files.writeErrors.Add(1)
			w.files.log.Warn("a replaced file has no meta line", zap.Error(explain(statusWrite, old.path, err)))
		}
	}
	w.files.closed(old.close())
}

// addLine adds a line to the end of a file, or nothing.
func (w *writer) addLine(c *current, line string) error {
	if c.f == nil {
		f, err := w.files.o.FS.OpenFile(c.path, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		info, err := locked(f)
		if err == nil && !w.files.o.FS.SameFile(info, c.info) {
			err = fs.ErrNotExist
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		c.f, c.size = f, info.Size()
	}
	n, err := c.f.Write([]byte(line))
	if err != nil {
		return errors.Join(err, c.cut(int64(n), 0))
	}
	c.size += int64(n)
	w.files.bytes.Add(int64(n))
	return nil
}

// stats adds the line of a replaced file to scribe_stats. Failing is no reason
// to stop: the original does not either.
func (w *writer) stats(spec *Spec, old *current, now time.Time) {
	if !spec.WriteStats {
		return
	}
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s wrote <%d> bytes in <%d> events to file <%s>\n",
		w.local(now).Format("2006-01-02-15:04"), old.size, old.count, old.path)
	path := filepath.Join(w.folder, statsName)
	f, err := w.files.o.FS.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, filePerm)
	if err == nil {
		_, err = f.Write(line.Bytes())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		w.files.writeErrors.Add(1)
		w.files.log.Warn("no line was added to the stats", zap.Error(explain(statusWrite, path, err)))
	}
}

// link makes the link lead to the current file. The name is never missing:
// the new link is renamed over the old one. Failing is no reason to stop.
func (w *writer) link(spec *Spec) {
	if spec.Symlink == "" {
		return
	}
	fsys := w.files.o.FS
	name, target := filepath.Join(w.folder, spec.Symlink+linkSuffix), filepath.Base(w.cur.path)
	to, err := fsys.Readlink(name)
	switch {
	case err == nil && to == target:
		return
	case err == nil, errors.Is(err, fs.ErrNotExist):
		err = replaceLink(fsys, target, name)
	default: // what stands there is no link, and not ours to remove
	}
	if err != nil {
		w.files.log.Warn("the link to the current file could not be made; what stands under its name must be a symbolic link or nothing",
			zap.Error(explain(statusOpen, name, err)))
	}
}

func replaceLink(fsys vfs.FS, target, name string) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".tmp")
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.Symlink(target, tmp); err != nil {
		return err
	}
	return fsys.Rename(tmp, name)
}
