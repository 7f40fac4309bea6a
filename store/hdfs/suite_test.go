package hdfs

import (
	"testing"

	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/hdfs/hdfstest"
)

func TestClusterInMemoryPassesTheSuite(t *testing.T) {
	clustertest.Run(t, func(t *testing.T) cluster.Cluster {
		l := newLab(t, hdfstest.Options{}, Options{BlockSize: 1 << 20})
		l.ob.calm = true
		return l.c
	})
}
