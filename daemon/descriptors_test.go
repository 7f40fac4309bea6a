package daemon

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"twinscribe/conf"
	"twinscribe/store/files"
)

func TestTheLimitsFitIntoTheDescriptorsThatAreAllowed(t *testing.T) {
	for _, clusters := range []int{0, 1, 2, 4} {
		cfg := conf.Default()
		for i := range clusters {
			cfg.Clusters = append(cfg.Clusters, conf.Cluster{Name: fmt.Sprint("n", i+1), Limits: conf.ClusterLimits{OpenFiles: 1000, BlockStarts: 32}})
		}
		for allowed := uint64(0); allowed < 40_000; allowed += 7 {
			s, err := divide(&cfg, allowed)
			if allowed < leastDescriptors {
				if err == nil {
					t.Fatalf("%d descriptors are enough", allowed)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			taken := ownDescriptors + s.http + s.cfg.Limits.Connections
			for _, c := range s.cfg.Clusters {
				taken += files.MostOpen(c.Limits.OpenFiles)
				if c.Limits.OpenFiles < 1 || c.Limits.BlockStarts < 1 {
					t.Fatalf("%d descriptors, %d clusters: limits %+v", allowed, clusters, c.Limits)
				}
			}
			if uint64(taken) > allowed || s.cfg.Limits.Connections < 1 {
				t.Fatalf("%d descriptors, %d clusters: %d are divided, %d connections", allowed, clusters, taken, s.cfg.Limits.Connections)
			}
			if (s.warning == "") != (s.cfg == &cfg) {
				t.Fatalf("%d descriptors: warning %q", allowed, s.warning)
			}
		}
		if s, _ := divide(&cfg, 40_000); s.cfg != &cfg {
			t.Errorf("%d clusters: lowered with enough descriptors: %s", clusters, s.warning)
		}
		if cfg.Limits.Connections != 10_000 || clusters > 0 && cfg.Clusters[0].Limits.OpenFiles != 1000 {
			t.Error("the configuration itself was changed")
		}
	}
}

func TestConnectionsLeaveDescriptorsForEverythingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	w.descriptors = leastDescriptors
	w.start()
	w.send("web", "before")
	st := w.status()
	limit := int(st.Thrift.MostAtOnce)
	if limit >= leastDescriptors-ownDescriptors || len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "ulimit -n") {
		t.Errorf("%d connections of %d descriptors, warnings %q", limit, leastDescriptors, st.Warnings)
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range 2 * leastDescriptors {
		c, err := net.Dial("tcp", w.server.listeners[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	w.eventually("the limit is reached", func() bool { return w.status().Thrift.Refused["connections"] > 0 })
	if n := w.status().Thrift; n.Connections > int64(limit) {
		t.Errorf("figures %+v, limit %d", n, limit)
	}
	if warnings, err := w.server.Reload(t.Context()); err != nil || len(warnings) > 0 {
		t.Errorf("reload of the same configuration: %q, %v", warnings, err)
	}
	for _, c := range conns {
		c.Close()
	}
	w.eventually("connections gone", func() bool { return w.status().Thrift.Connections < int64(limit)/2 })
	w.send("web", "after")
}

func TestTooFewDescriptorsAreSaidAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	w.descriptors = 100
	if s, err := w.open(); s != nil || err == nil || !strings.Contains(err.Error(), "ulimit -n: 100 descriptors") {
		t.Errorf("started with 100 descriptors: %v", err)
	}
}

func TestTheProcessIsToldWhatItMayHaveInMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	var told []int64
	w.limitMemory = func(bytes int64) { told = append(told, bytes) }
	w.start()
	w.write(quick + "limits: {memory: 100MiB}\n" + two + all)
	if _, err := w.server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	const both, conns = 512<<20 + 512<<20, 10_000 * connMemory
	if want := []int64{both + conns + ownMemory, both + conns + ownMemory - 412<<20}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
