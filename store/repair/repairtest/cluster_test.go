package repairtest

import (
	"testing"

	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

func TestTheDoubleKeepsWhatEveryClusterPromises(t *testing.T) {
	clustertest.Run(t, func(*testing.T) cluster.Cluster { return New("mem") })
}
