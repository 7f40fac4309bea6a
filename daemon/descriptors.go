package daemon

import (
	"fmt"
	"slices"
	"syscall"

	"twinscribe/conf"
	"twinscribe/store/files"
)

// Every connection, every file being written and every segment has a
// descriptor of the process, of which the operating system allows so many
// (ulimit -n). With none left no client can be accepted, and no file, segment
// or journal be begun: clients could take the disk and the clusters away from
// everybody. They are divided before the first one is taken.
const (
	// ownDescriptors are for what no setting bounds: state folder, journal,
	// segments, listeners, NameNodes, probes, repair, shipping, and the client
	// that is accepted in order to be closed.
	ownDescriptors = 64

	// The HTTP side has a sixteenth, within these bounds.
	leastHTTP, mostHTTP = 8, 256

	leastDescriptors = 128

	// Local files under Scribe's names have an eighth, where there are such stores.
	localPart, mostLocal = 8, 1000

	// leastLocal of them are open at once where a reload brings the first such store.
	leastLocal = 8
)

// allowedDescriptors is how many descriptors the process may have. Go raises
// the soft limit to the hard one before main begins.
func allowedDescriptors() (uint64, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("reading the limit of descriptors: %w", err)
	}
	return uint64(l.Cur), nil
}

// A share is what a process may do with its descriptors.
type share struct {
	cfg     *conf.Config // with limits that fit; the one given where all do
	http    int          // connections of the HTTP side
	local   int          // local files open at once; 0: no store writes any
	warning string       // what was lowered and what would be right; empty: nothing
}

// divide lowers limits.connections and each cluster's limits so that all of
// them at once fit into allowed descriptors, with the process's own apart.
func divide(cfg *conf.Config, allowed uint64) (share, error) {
	if allowed < leastDescriptors {
		return share{}, fmt.Errorf("ulimit -n: %d descriptors are allowed, at least %d are needed: raise it (systemd: LimitNOFILE)", allowed, leastDescriptors)
	}
	limit := int(min(allowed, 1<<30))
	s := share{cfg: cfg, http: min(max(limit/16, leastHTTP), mostHTTP)}
	if cfg.LocalFiles() {
		s.local = min(limit/localPart, mostLocal)
	}
	own := ownDescriptors + s.http + s.local
	all := 0
	for i := range cfg.Clusters {
		all += files.MostOpen(cfg.Clusters[i].Limits.OpenFiles)
	}
	wanted := own + cfg.Limits.Connections + all
	if limit >= wanted {
		return s, nil
	}
	rest := limit - own
	// Files have up to a half: with fewer open ones messages of some categories
	// go to the buffer, while a client that finds no room can do nothing.
	connections := min(cfg.Limits.Connections, rest-min(all, rest/2))
	fitted := *cfg
	fitted.Limits.Connections = connections
	fitted.Clusters = slices.Clone(cfg.Clusters)
	for i := range fitted.Clusters {
		l := &fitted.Clusters[i].Limits
		// Equal parts: whichever cluster is down, another one has all the files.
		part := (rest - connections) / len(fitted.Clusters)
		for l.OpenFiles > 1 && files.MostOpen(l.OpenFiles) > part {
			l.OpenFiles--
		}
		l.BlockStarts = min(l.BlockStarts, max(l.OpenFiles/4, 1))
	}
	s.cfg = &fitted
	s.warning = fmt.Sprintf("ulimit -n: %d descriptors are allowed and the limits ask for %d, so there are at most %d connections", limit, wanted, connections)
	for i := range fitted.Clusters {
		c := &fitted.Clusters[i]
		s.warning += fmt.Sprintf(", %d open files on %s", c.Limits.OpenFiles, c.Name)
	}
	s.warning += ": raise it, or lower limits.connections and max_open_files"
	return s, nil
}
