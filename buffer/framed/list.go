package framed

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"twinscribe/buffer/vfs"
)

// A File is a buffer file in its folder.
type File struct {
	Name   string // without the folder
	Number uint64
	Size   int64
}

// A Passed is a name that List passed over.
type Passed struct{ Name, Why string }

// Name is the name of a buffer file. The original calls base base_filename: in
// a store that is a model for categories it is the category, as is the folder.
func Name(base string, number uint64) string { return fmt.Sprintf("%s_%05d", base, number) }

// List is the buffer files of a base name in a folder, in the order of replay:
// that of their numbers, oldest first. All other names are passed over, and
// why. It looks into no folder below, and follows no symbolic link but those
// that lead to the folder.
func List(fsys vfs.FS, folder, base string) (files []File, passed []Passed, err error) {
	if base == "" || strings.ContainsRune(base, filepath.Separator) {
		return nil, nil, fmt.Errorf("base name %q is no name of a file", base)
	}
	entries, err := fsys.ReadDir(folder)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		number, why := parseName(e.Name(), base)
		if why == "" {
			why = noFile(e.Type())
		}
		var info fs.FileInfo
		if why == "" {
			info, err = e.Info()
			switch {
			case errors.Is(err, fs.ErrNotExist):
				why = "it was removed meanwhile"
			case err != nil:
				return nil, nil, err
			default:
				why = noFile(info.Mode().Type()) // it may be another one by now
			}
		}
		if why != "" {
			passed = append(passed, Passed{Name: e.Name(), Why: why})
			continue
		}
		files = append(files, File{Name: e.Name(), Number: number, Size: info.Size()})
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Number, b.Number) })
	return files, passed, nil
}

// parseName reads the number behind the last underscore. The original reads
// numbers it did not write so, and then opens the file that it would have
// written: there are no two names of one number.
func parseName(name, base string) (number uint64, why string) {
	at := strings.LastIndexByte(name, '_')
	if at < 0 {
		return 0, "no underscore and number end its name"
	}
	if name[:at] != base {
		return 0, fmt.Sprintf("its base name is %q", name[:at])
	}
	number, err := strconv.ParseUint(name[at+1:], 10, 64)
	if err != nil || Name(base, number) != name {
		return 0, fmt.Sprintf("%q is no number of five digits or more, as Scribe writes it", name[at+1:])
	}
	return number, ""
}

// noFile says why a name of this type is not read.
func noFile(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode.IsDir():
		return "it is a folder"
	case mode&fs.ModeSymlink != 0:
		return "it is a symbolic link"
	}
	return "it is not a regular file"
}

// Open opens a file that List named, for reading. It fails where a symbolic
// link or something else has taken the file's place, and does not wait for a
// pipe's writer.
func Open(fsys vfs.FS, path string) (f vfs.File, size int64, err error) {
	f, err = fsys.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		if why := noFile(info.Mode().Type()); why != "" {
			err = &fs.PathError{Op: "open", Path: path, Err: errors.New(why)}
		}
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
