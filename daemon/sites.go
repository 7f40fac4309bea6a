package daemon

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/store/cluster"
	"twinscribe/store/dir"
	"twinscribe/store/files"
	"twinscribe/store/hdfs"
	"twinscribe/store/statedir"
)

// A site is one cluster with all that a process keeps for it.
type site struct {
	conf     *conf.Cluster
	health   *cluster.Health
	cluster  cluster.Cluster
	root     *files.Root // nil without a server
	draining draining
}

// Acknowledged, Failed, MayBegin and Doubtful make a site the observer of its
// cluster: its health, but that a drain has to seal and repair what is open.
func (at *site) Acknowledged()    { at.health.Acknowledged() }
func (at *site) Failed(err error) { at.health.Failed(err) }
func (at *site) Doubtful() bool   { return at.health.Doubtful() }
func (at *site) MayBegin() bool {
	return at.health.MayBegin() || at.draining.is() && at.health.Reachable()
}

// draining says that a drain of the cluster is not over: what is open there is
// being sealed, and repaired, still.
type draining struct {
	mu   sync.Mutex
	on   bool
	next time.Time // when chains are asked, again, for what they have open
}

func (d *draining) set(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on, d.next = on, time.Now().Add(sealAfter)
}

func (d *draining) is() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.on
}

// due is true once each time that every has passed.
func (d *draining) due(every time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.Before(d.next) {
		return false
	}
	d.next = now.Add(every)
	return true
}

// openSites makes the clusters and their health. It dials nothing.
func openSites(cfg *conf.Config, state *statedir.Dir, fs vfs.FS, log *zap.Logger) (sites []*site, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeSites(sites))
			sites = nil
		}
	}()
	for i := range cfg.Clusters {
		c := &cfg.Clusters[i]
		s := &site{conf: c}
		s.health = cluster.NewHealth(c.Name, cluster.HealthOptions{
			Every:   c.Probe.Every,
			HoldOff: c.Probe.HoldOff,
			HoldMax: c.Probe.HoldMax,
			Drained: c.Drain || state != nil && state.Drained(c.Name),
			OtherUsable: func() bool {
				for _, o := range sites {
					if o != s && o.health.Usable() {
						return true
					}
				}
				return false
			},
			Log: log.Named("health"),
		})
		if state != nil {
			if err := stays(fs, state, c); err != nil {
				return sites, err
			}
		}
		var note, root string
		if c.Dir != nil && state != nil {
			if note, root, err = rootNote(fs, state, c); err != nil {
				return sites, err
			}
		}
		if s.cluster, err = openCluster(c, s, fs, root != "", log); err != nil {
			return sites, fmt.Errorf("cluster %s: %w", c.Name, err)
		}
		s.cluster = engineOf(c, s.cluster)
		sites = append(sites, s)
		if root != "" {
			if err := noteRoot(fs, note, root); err != nil {
				return sites, err
			}
		}
	}
	return sites, nil
}

// rootNote names the file in the state folder that says which root a cluster
// of kind dir was given, and that root if it is still to be made. A root is made
// once: later a missing one means that its disk is away.
func rootNote(fs vfs.FS, state *statedir.Dir, c *conf.Cluster) (note, root string, err error) {
	note = filepath.Join(state.Sub("roots"), c.Name)
	if root, err = filepath.Abs(c.Dir.Path); err != nil {
		return "", "", err
	}
	made, err := vfs.ReadFile(fs, note)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return "", "", fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	if string(made) == root {
		root = ""
	}
	return note, root, nil
}

// stays makes sure that a cluster's folder is where it was at the starts before:
// the journal, the manifests and the inventories there are known by their paths
// below it. Noted are those of clusters that have one.
func stays(fs vfs.FS, state *statedir.Dir, c *conf.Cluster) error {
	root := ""
	if c.HDFS != nil {
		root = c.HDFS.Root
	} else if abs, err := filepath.Abs(c.Dir.Path); err == nil {
		root = abs
	}
	now := path.Join(root, c.Folder)
	note := filepath.Join(state.Sub("roots"), c.Name+".folder")
	was, err := vfs.ReadFile(fs, note)
	switch {
	case errors.Is(err, iofs.ErrNotExist) && c.Folder == "":
		return nil
	case errors.Is(err, iofs.ErrNotExist):
		return noteRoot(fs, note, now)
	case err != nil:
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	case string(was) != now:
		return fmt.Errorf("cluster %s: what this server has written there lies in %s, and the configuration says %s: files that are open there would stay open and "+
			"no reader would find the others: have it say the same as before (clusters[].folder and the root; in a Scribe file hdfs_folder=%s); "+
			"to begin anew there on purpose, stop the server in order with the old file and delete %s", c.Name, was, now, path.Dir(string(was)), note)
	}
	return nil
}

func noteRoot(fs vfs.FS, note, root string) error {
	if err := vfs.MkdirAllSync(fs, filepath.Dir(note), 0o700); err != nil {
		return err
	}
	return vfs.ReplaceFile(fs, note, []byte(root), 0o600)
}

// openCluster opens one cluster. create says that a directory may be made where
// it is missing.
func openCluster(c *conf.Cluster, o cluster.Observer, fs vfs.FS, create bool, log *zap.Logger) (cluster.Cluster, error) {
	if c.Dir != nil {
		path, err := filepath.Abs(c.Dir.Path)
		if err != nil {
			return nil, err
		}
		return dir.New(dir.Options{Name: c.Name, Path: path, Create: create, FS: fs, Observer: o,
			Appends: c.Limits.Appends, Calls: c.Limits.BlockStarts, Log: log.Named("dir")})
	}
	h := c.HDFS
	return hdfs.New(hdfs.Options{
		Name: c.Name, NameNodes: h.NameNodes, User: h.User, Root: h.Root, Probes: path.Join(c.Folder, "_probe"),
		Replication: h.Replication, MinReplicas: h.MinReplicas,
		BlockSize: 128 << 20, Sync: h.Sync == "hsync",
		NodeTimeout: h.NodeTimeout, ConnectTimeout: h.Connect, RPCTimeout: h.RPC,
		BlockStarts: c.Limits.BlockStarts, Appends: c.Limits.Appends,
		Observer: o, Log: log.Named("hdfs"),
	})
}

func closeSites(sites []*site) error {
	var errs []error
	for _, s := range sites {
		errs = append(errs, s.cluster.Close())
	}
	return errors.Join(errs...)
}

// probe runs the health of every cluster until ctx ends.
func probe(ctx context.Context, sites []*site, wg *sync.WaitGroup) {
	for _, s := range sites {
		wg.Go(func() { s.health.Run(ctx, s.cluster) })
	}
}

// anyUsable says whether any of the sites takes new files.
func anyUsable(sites []*site) bool {
	for _, s := range sites {
		if s.health.Usable() {
			return true
		}
	}
	return false
}

func siteNamed(sites []*site, name string) *site {
	for _, s := range sites {
		if s.conf.Name == name {
			return s
		}
	}
	return nil
}
