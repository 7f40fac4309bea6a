package statedir

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"twinscribe/buffer/vfs"
)

// Choose picks the state folder of a server that has several places for it, by
// preference: the first that holds a state, and if none does, the first that
// this process may make. Where it may make none it is the first, and Open says
// why. others are further ones that hold a state. Where none does, beside are
// folders next to them that do: the server's own, perhaps, under an earlier name.
// Nothing is made or changed.
func Choose(fsys vfs.FS, folders []string) (chosen string, others, beside []string) {
	var holding []string
	for _, f := range folders {
		if holds(fsys, f) {
			holding = append(holding, f)
		}
	}
	if len(holding) > 0 {
		return holding[0], holding[1:], nil
	}
	chosen = folders[0]
	if i := slices.IndexFunc(folders, func(f string) bool { return mayMake(fsys, f) }); i >= 0 {
		chosen = folders[i]
	}
	for _, f := range folders {
		around := filepath.Dir(f)
		entries, _ := fsys.ReadDir(around) // where there is none, nothing is beside
		for _, e := range entries {
			path := filepath.Join(around, e.Name())
			if _, err := fsys.Stat(filepath.Join(path, StateFile)); err == nil && !slices.Contains(beside, path) {
				beside = append(beside, path)
			}
		}
	}
	return chosen, nil, beside
}

// holds says whether a folder has a state. One that cannot be looked into, such
// as another account's, has: what may lie in it must not be passed over.
func holds(fsys vfs.FS, folder string) bool {
	if info, err := fsys.Stat(folder); err != nil || !info.IsDir() {
		return false
	}
	_, err := fsys.Stat(filepath.Join(folder, StateFile))
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

// mayMake says whether a folder can be made, or is there and can be written to.
func mayMake(fsys vfs.FS, folder string) bool {
	for path := filepath.Clean(folder); ; path = filepath.Dir(path) {
		info, err := fsys.Stat(path)
		switch {
		case err == nil:
			return info.IsDir() && fsys.MayMake(path)
		case !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path):
			return false
		}
	}
}
