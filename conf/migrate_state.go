package conf

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"twinscribe/conf/scribe"
)

// A folder is one that a local store of the file writes to.
type folder struct {
	path string
	line int // of its store
}

// byLine is the order of folders in the file, which is not that of the stores'
// names: store10 comes before store2.
func byLine(a, b folder) int { return cmp.Compare(a.line, b.line) }

// see notes the folder of a store. One that the file does not name is none: it
// is emptied now and then.
func see(list *[]folder, s *scribe.Section, path string) {
	if _, there := s.Lookup("file_path"); !there {
		s.AddWarning("file_path", "without it files go to "+defaultFilePath+", as with Scribe", "write file_path="+defaultFilePath+" if that is meant")
		return
	}
	*list = append(*list, folder{path, s.Line})
}

// Where the state of a server is that names no folder for it. The port tells the
// servers of a host apart. Readers of a file store pass over names with '_'.
const (
	usualState   = "/var/lib/twinscribe"
	stateInStore = "_twinscribe"
)

// share notes the buffers of a line that writes to HDFS: they come to the one in
// the state folder.
func (g *migration) share(l *plan) {
	if !slices.ContainsFunc(l.places, func(at Store) bool { return at.Files != nil }) {
		return
	}
	for _, at := range l.places {
		if at.Buffer != nil {
			g.shared = append(g.shared, at.Buffer.Path)
		}
	}
}

// stateFolders are the folders in which the state of a file without state= may
// be, by preference. What waits for an HDFS is put on the disk that the file has
// for it. Else the first does not depend on what the file says of its stores, and
// the others are for servers that may not make it.
func (g *migration) stateFolders() (list []string) {
	slices.SortStableFunc(g.buffers, byLine)
	slices.SortStableFunc(g.folders, byLine)
	add := func(path, below string) {
		if path = filepath.Join(path, below, g.port); !slices.Contains(list, path) {
			list = append(list, path)
		}
	}
	for _, f := range g.buffers {
		if slices.Contains(g.shared, f.path) {
			add(f.path, stateInStore)
		}
	}
	add(usualState, "")
	for _, f := range slices.Concat(g.buffers, g.folders) {
		add(f.path, stateInStore)
	}
	own := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); !filepath.IsAbs(own) && err == nil {
		own = filepath.Join(home, ".local", "state")
	}
	if filepath.IsAbs(own) {
		add(own, "twinscribe")
	}
	return list
}

// place says where the state is.
func (g *migration) place(choose func([]string) (chosen string, others, beside []string)) {
	if g.c.State != "" {
		return
	}
	folders := g.stateFolders()
	g.c.State = folders[0]
	if choose == nil || g.f.Err() != nil {
		return
	}
	var others, beside []string
	g.c.State, others, beside = choose(folders)
	for _, b := range beside {
		g.f.Root.AddWarning("state", fmt.Sprintf("%s will be new, and %s holds a state of another port", g.c.State, b),
			"if that is this server's, write state="+b)
	}
	if filepath.Base(filepath.Dir(g.c.State)) == stateInStore {
		g.f.Root.AddWarning("state", g.c.State+" is the state folder, below a store's file_path: without that file_path in the file it is not found any more, and what waits in it stays there",
			"write state="+g.c.State)
	}
	for _, o := range others {
		g.f.Root.AddWarning("state", fmt.Sprintf("%s is used, and %s holds a state of this port too, perhaps with messages that are not sent yet", g.c.State, o),
			fmt.Sprintf("stop the server, start it with state=%s until nothing waits there, then without it, and move %s away", o, o))
	}
}
