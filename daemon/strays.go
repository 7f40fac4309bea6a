package daemon

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/store/catalog"
	"twinscribe/store/replay"
)

// usedFile notes in the state folder which folders have had spools or files of
// an original, a Go string literal a line: so a start finds what lies where its
// configuration has no store any more.
const usedFile = "spool-folders"

// usedFolders are those that are noted. All methods may be called by many goroutines.
type usedFolders struct {
	mu      sync.Mutex
	paths   []string // absolute, sorted
	unknown bool     // the file could not be read, and is left as it is
}

// formerly are the folders that are noted, under the names that the
// configuration has for those that it still has.
func (s *Server) formerly(configured []string) (paths []string) {
	names := make(map[string]string, len(configured))
	for _, path := range configured {
		if whole, err := filepath.Abs(path); err == nil {
			names[whole] = filepath.Clean(path)
		}
	}
	s.used.mu.Lock()
	defer s.used.mu.Unlock()
	for _, path := range s.used.paths {
		paths = append(paths, cmp.Or(names[path], path))
	}
	return paths
}

// loadUse reads what is noted, and forgets folders that are empty or gone. The
// chains of this start note those that they use.
func (s *Server) loadUse() {
	content, err := vfs.ReadFile(s.fs, filepath.Join(s.cfg.State, usedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("which folders have had spools is not known: what lies in one that the configuration does not name is not told, and those of this start are not noted", zap.Error(err))
		s.used.unknown = true
		return
	}
	var paths []string
	for line := range bytes.Lines(content) {
		path, err := strconv.Unquote(string(bytes.TrimSpace(line)))
		if err != nil || !filepath.IsAbs(path) {
			s.log.Warn("a line that names no folder is passed over", zap.String("file", usedFile), zap.ByteString("line", line[:min(len(line), 200)]))
			continue
		}
		if !s.unused(path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	s.used.paths = slices.Compact(paths)
}

// unused says that a folder surely holds nothing that is to be sent.
func (s *Server) unused(path string) bool {
	left, err := replay.Leftovers(s.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	nobody := func(string, string) bool { return false }
	return err == nil && len(left) == 0 && len(s.straysIn(path, nobody)) == 0
}

// noteUse notes folders durably. Where that fails it is logged: messages go on,
// and are sent as long as the configuration has the folder.
func (s *Server) noteUse(paths ...string) {
	u := &s.used
	u.mu.Lock()
	defer u.mu.Unlock()
	all := slices.Clone(u.paths)
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err == nil && !slices.Contains(all, path) {
			all = append(all, path)
		}
	}
	if len(all) == len(u.paths) {
		return
	}
	slices.Sort(all)
	if u.unknown {
		u.paths = all
		return
	}
	var b []byte
	for _, path := range all {
		b = append(strconv.AppendQuote(b, path), '\n')
	}
	if err := vfs.ReplaceFile(s.fs, filepath.Join(s.cfg.State, usedFile), b, 0o600); err != nil {
		s.log.Error("a folder of spools is used and could not be noted: look into it before it is taken from the configuration", zap.Strings("folders", paths), zap.Error(err))
		return
	}
	u.paths = all
}

// A stray is a folder with files that look like those of an original.
type stray struct {
	folder string
	first  string // the name of one
	files  int
	bytes  int64
}

// straysIn looks for buffer files of an original in a folder and those right
// below it. known says of a file's folder and base name that somebody has it.
func (s *Server) straysIn(path string, known func(folder, base string) bool) (list []stray) {
	var look func(folder string, below bool)
	look = func(folder string, below bool) {
		entries, err := s.fs.ReadDir(folder)
		if err != nil {
			return // removed meanwhile, or of somebody else
		}
		at := stray{folder: folder}
		for _, e := range entries {
			if e.IsDir() {
				if below && e.Name() != catalog.EngineFolder {
					look(filepath.Join(folder, e.Name()), false)
				}
				continue
			}
			name := framedName.FindStringSubmatch(e.Name())
			if name == nil || known(folder, name[1]) {
				continue
			}
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
				continue
			}
			if at.files == 0 {
				at.first = e.Name()
			}
			at.files++
			at.bytes += info.Size()
		}
		if at.files > 0 {
			list = append(list, at)
		}
	}
	look(path, true)
	return list
}

// strays tells of files of an original in these folders that no store sends,
// writes or takes over.
func (s *Server) strays(owned func(folder, base string) bool, paths []string) (told []string) {
	for i := range paths {
		paths[i] = filepath.Clean(paths[i])
	}
	slices.Sort(paths)
	seen := make(map[string]bool) // one path may lie in another
	for _, path := range slices.Compact(paths) {
		if path == s.rescuePath() {
			continue
		}
		for _, f := range s.straysIn(path, owned) {
			if seen[f.folder] {
				continue
			}
			seen[f.folder] = true
			told = append(told, fmt.Sprintf("files that Scribe seems to have left in %s are not sent, %d with %d bytes, such as %s: no store has a buffer with these names;"+
				" put back the one that there was and reload, or move them away", f.folder, f.files, f.bytes, f.first))
		}
	}
	return told
}

// owners says which files of a folder the stores of a configuration send or
// write themselves, and where an original's are looked for.
func owners(cfg *conf.Config) (owned func(folder, base string) bool, framedPaths []string) {
	var owns []func(folder, base string) bool
	for i := range cfg.Category {
		c := &cfg.Category[i]
		for _, st := range c.Each() {
			stores, _ := partsOf(&st)
			for j := range stores {
				for _, p := range placesOf(&stores[j]) {
					switch {
					case p.Buffer != nil && p.Buffer.Framed != nil:
						f := p.Buffer.Framed
						framedPaths = append(framedPaths, f.Path)
						owns = append(owns, func(folder, base string) bool {
							if f.Base != "" {
								return base == f.Base && folder == filepath.Clean(f.Path)
							}
							return folder == filepath.Join(f.Path, base) && cfg.RuleOf(base) == c
						})
					case p.ScribeFiles != nil:
						owns = append(owns, func(folder, base string) bool { return writes(p.ScribeFiles, folder, base) })
					}
				}
			}
		}
	}
	return func(folder, base string) bool {
		return slices.ContainsFunc(owns, func(has func(string, string) bool) bool { return has(folder, base) })
	}, framedPaths
}

// writes says whether files of a base name may be a store's own; a rotated one
// has a date behind the name.
func writes(f *conf.ScribeFiles, folder, base string) bool {
	in := filepath.Clean(f.FilePath)
	if f.PerCategory {
		return filepath.Dir(folder) == in || filepath.Dir(filepath.Dir(folder)) == in
	}
	if folder != filepath.Join(in, f.SubDirectory) {
		return false
	}
	return f.BaseFilename == "" || base == f.BaseFilename || strings.HasPrefix(base, f.BaseFilename+"-")
}
