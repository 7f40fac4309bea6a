package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"twinscribe/failpoint"
)

// ReadFile is os.ReadFile.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// ReplaceFile writes a small file whole and durably: after a crash at any
// moment the old or the new content is there, never a part. It writes
// name + ".tmp" first, which it removes where it fails, so one goroutine at a
// time may replace one name.
func ReplaceFile(fsys FS, name string, content []byte, perm fs.FileMode) error {
	return ReplaceFileVia(fsys, name+".tmp", name, content, perm)
}

// ReplaceFileVia is ReplaceFile with another name for what is not there yet,
// in the same folder.
func ReplaceFileVia(fsys FS, tmp, name string, content []byte, perm fs.FileMode) error {
	if err := writeSynced(fsys, tmp, content, perm); err != nil {
		return errors.Join(err, ignoreMissing(fsys.Remove(tmp)))
	}
	failpoint.Here("replace.synced")
	if err := fsys.Rename(tmp, name); err != nil {
		return errors.Join(err, ignoreMissing(fsys.Remove(tmp)))
	}
	failpoint.Here("replace.renamed")
	return fsys.SyncDir(filepath.Dir(name))
}

func writeSynced(fsys FS, name string, content []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	failpoint.Here("replace.created")
	_, err = f.Write(content)
	if err == nil {
		failpoint.Here("replace.written")
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// MkdirAllSync is MkdirAll, with every folder that it makes durable in its
// parent when it returns, and so are those that calls which failed or were cut
// off have made: a call makes each folder durable before the next one in it, so
// that at most the lowest one that is there is not.
func MkdirAllSync(fsys FS, name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	info, err := fsys.Stat(name)
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: fmt.Errorf("is a file: %w", fs.ErrExist)}
		}
		return SyncEntry(fsys, name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(name)
	if parent == name {
		return err
	}
	if err := MkdirAllSync(fsys, parent, perm); err != nil {
		return err
	}
	if err := fsys.Mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	failpoint.Here("folder.made")
	return fsys.SyncDir(parent)
}

// SyncEntry makes the entry of a folder that is there durable in its parent.
// It does without where the parent cannot be synced and this process has not
// made the folder either: where it may neither read the parent nor make
// anything in it. A file system that syncs no folders (EINVAL), such as that of
// an automounter, has nothing to make durable.
func SyncEntry(fsys FS, name string) error {
	parent := filepath.Dir(filepath.Clean(name))
	err := fsys.SyncDir(parent)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrPermission) && !fsys.MayMake(parent) {
		return nil
	}
	return err
}
