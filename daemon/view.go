package daemon

import (
	"errors"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/conf"
	"twinscribe/store/cluster"
	"twinscribe/store/reader"
)

// A View reads what a configuration's clusters and buffers hold, with or
// without a running server. It writes nothing.
type View struct {
	Reader   *reader.Reader
	clusters []cluster.Cluster
}

// OpenView opens the clusters and the buffer of a configuration for reading,
// and the buffers of other aggregators by the addresses of their HTTP sides.
// It dials nothing. dead makes dead letters part of the view.
func OpenView(cfg *conf.Config, remote []string, dead bool) (*View, error) {
	v := &View{}
	fs := vfs.OS()
	for i := range cfg.Clusters {
		c, err := openCluster(&cfg.Clusters[i], watcher{}, fs, false, zap.NewNop())
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		v.clusters = append(v.clusters, engineOf(&cfg.Clusters[i], c))
	}
	sources := []reader.BufferSource{reader.LocalBuffer(fs, BufferPath(cfg))}
	for _, addr := range remote {
		sources = append(sources, reader.RemoteBuffer(addr))
	}
	v.Reader = reader.New(reader.Options{Clusters: v.clusters, Buffers: sources, DeadLetters: dead, Log: zap.NewNop()})
	return v, nil
}

// Close ends the connections.
func (v *View) Close() error {
	var errs []error
	for _, c := range v.clusters {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// watcher is the observer of a cluster that is only read.
type watcher struct{}

func (watcher) Acknowledged()  {}
func (watcher) Failed(error)   {}
func (watcher) MayBegin() bool { return false }
func (watcher) Doubtful() bool { return false }
