package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/store"
	"twinscribe/store/cluster"
	"twinscribe/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is one cluster as tests see it: servers that are probed, their health,
// and the place that one chain has there.
type site struct {
	servers *storetest.Cluster
	health  *cluster.Health
	place   *storetest.Mem
}

// The conditions of a site.
func (s *site) heal() {
	s.servers.Set(storetest.Up, storetest.Up)
	s.place.Always(storetest.Step{})
}

// dead: the servers refuse, and open files break at once.
func (s *site) dead() {
	s.servers.Set(storetest.Dead, storetest.Dead)
	s.place.Always(storetest.Step{Err: cluster.ErrUnavailable})
}

// hung: nothing answers any more.
func (s *site) hung() {
	s.servers.Set(storetest.Hung, storetest.Hung)
	s.place.Always(storetest.Step{Hang: true})
}

// headless: the NameNode is gone, open files go on.
func (s *site) headless() { s.servers.Set(storetest.Dead, storetest.Dead) }

// sites makes n clusters whose probes run until the test ends.
func sites(t testing.TB, n int, opening time.Duration) ([]*site, func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	all := make([]*site, n)
	for i := range all {
		name := fmt.Sprint("n", i+1)
		s := &site{servers: storetest.NewCluster(name)}
		s.health = cluster.NewHealth(name, cluster.HealthOptions{
			OtherUsable: func() bool {
				for k, o := range all {
					if k != i && o.health.Usable() {
						return true
					}
				}
				return false
			},
			Rand: func() float64 { return 0 },
			Log:  zap.NewNop(),
		})
		s.place = s.newPlace(opening)
		all[i] = s
	}
	for _, s := range all {
		wg.Go(func() { s.health.Run(ctx, s.servers) })
	}
	return all, func() {
		cancel()
		wg.Wait()
	}
}

func (s *site) newPlace(opening time.Duration) *storetest.Mem {
	return storetest.NewMem(s.servers.Name(), storetest.MemOptions{Opening: opening, Observer: s.health})
}

func (s *site) at() store.FailoverPlace {
	return store.FailoverPlace{Name: s.servers.Name(), Place: s.place, Health: s.health}
}

func newBuffer() (*storetest.Mem, store.FailoverPlace) {
	m := storetest.NewMem("buffer", storetest.MemOptions{})
	return m, store.FailoverPlace{Name: "buffer", Place: m}
}
