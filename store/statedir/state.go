package statedir

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

// Version is the version of the state file. A program refuses a newer one.
const Version = 1

// maxHost is how much of a host's name goes into an id, in bytes.
const maxHost = 64

// state is the file.
type state struct {
	Version int      `json:"version"`
	ID      string   `json:"id,omitempty"` // made of the host's name; empty while the configuration has one
	Epoch   uint32   `json:"epoch"`
	Starts  []start  `json:"starts"` // the last is the one that runs, or ran last
	Drained []string `json:"drained,omitempty"`
}

type start struct {
	Aggregator string `json:"aggregator"`
	Epoch      uint32 `json:"epoch"`
	Start      string `json:"start"` // eight hex digits
	Since      int64  `json:"since"` // nanoseconds since 1970 UTC
}

func startOf(id catalog.Identity, since time.Time) start {
	return start{Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.StartID(), Since: since.UnixNano()}
}

func (e start) is(id catalog.Identity) bool {
	return e.Aggregator == id.Aggregator && e.Epoch == id.Epoch && e.Start == id.StartID()
}

func (s state) starts() ([]Start, error) {
	list := make([]Start, 0, len(s.Starts))
	for _, e := range s.Starts {
		n, err := strconv.ParseUint(e.Start, 16, 32)
		if err != nil || e.Start != fmt.Sprintf("%08x", n) || catalog.CheckAggregator(e.Aggregator) != nil {
			return nil, fmt.Errorf("%s: %s.%s is no start: the file is damaged; put a good copy in its place, or remove it to begin anew with another id",
				StateFile, e.Aggregator, e.Start)
		}
		list = append(list, Start{
			Identity: catalog.Identity{Aggregator: e.Aggregator, Epoch: e.Epoch, Start: uint32(n)},
			Since:    time.Unix(0, e.Since).UTC(),
		})
	}
	return list, nil
}

// load reads the file; fs.ErrNotExist where the folder is new.
func load(fsys vfs.FS, dir string) (state, error) {
	b, err := vfs.ReadFile(fsys, filepath.Join(dir, StateFile))
	if err != nil {
		return state{}, fmt.Errorf("state folder %s: %w", dir, err)
	}
	var v struct {
		Version int `json:"version"`
	}
	var s state
	if err = json.Unmarshal(b, &v); err == nil && v.Version <= Version {
		err = json.Unmarshal(b, &s)
	}
	switch {
	case err == nil && v.Version > Version:
		return state{}, fmt.Errorf("state folder %s: %s has format version %d, this program knows %d: use the program that wrote it, or a newer one",
			dir, StateFile, v.Version, Version)
	case err == nil && v.Version < 1:
		err = fmt.Errorf("version %d", v.Version)
	case err == nil && s.ID != "": // it goes into names of files
		err = catalog.CheckAggregator(s.ID)
	}
	if err != nil {
		return state{}, fmt.Errorf("state folder %s: %s is damaged (%w): put a good copy in its place, or remove it to begin anew with another id",
			dir, StateFile, err)
	}
	return s, nil
}

func (d *Dir) write(s state) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = vfs.ReplaceFile(d.fs, filepath.Join(d.path, StateFile), append(b, '\n'), filePerm)
	}
	if err != nil {
		return fmt.Errorf("state folder %s: write %s: %w", d.path, StateFile, err)
	}
	return nil
}

// A View is what the file says to somebody who only looks.
type View struct {
	ID      string // the kept id; empty while the configuration has one
	Epoch   uint32
	Starts  []Start // oldest first; the last one runs, or ran last
	Drained []string
}

// Peek reads the state without the lock: what it says may be over at once. It
// is fs.ErrNotExist where no server has ever used the folder.
func Peek(fsys vfs.FS, dir string) (View, error) {
	s, err := load(fsys, dir)
	if err != nil {
		return View{}, err
	}
	list, err := s.starts()
	if err != nil {
		return View{}, fmt.Errorf("state folder %s: %w", dir, err)
	}
	return View{ID: s.ID, Epoch: s.Epoch, Starts: list, Drained: s.Drained}, nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// cleanHost makes the beginning of an id out of a host's name.
func cleanHost(host string) string {
	b := []byte(host)
	for i, c := range b {
		if !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			b[i] = '-'
		}
	}
	s := strings.TrimLeft(string(b), "._-")
	s = strings.TrimRight(s[:min(len(s), maxHost)], "._-")
	if s == "" {
		return "host"
	}
	return s
}
