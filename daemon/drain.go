package daemon

import (
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"twinscribe/store/files"
)

// DrainStatus tells how far a drain is.
type DrainStatus struct {
	Cluster string `json:"cluster"`
	Drained bool   `json:"drained"` // the flag is set: no new batch goes there
	Waiting string `json:"waiting"` // what it waits for; empty: nothing of ours is open there
}

// Drain sets the flag of a cluster, durably, once another one is usable; force
// does not look at the others. It is asked again until Waiting is empty.
func (s *Server) Drain(name string, force bool) (DrainStatus, error) {
	at := siteNamed(s.sites, name)
	if at == nil {
		return DrainStatus{}, s.noCluster(name)
	}
	if at.health.Drained() {
		return s.DrainState(name)
	}
	if !force && !s.otherUsable(at) {
		return DrainStatus{Cluster: name, Waiting: "another cluster that is healthy and not drained (--force does not wait for it)"}, nil
	}
	at.draining.set(true) // before the flag: nothing must take the cluster for a drained one meanwhile
	if err := s.state.SetDrained(name, true); err != nil {
		at.draining.set(false)
		return DrainStatus{}, fmt.Errorf("drain %s: the flag could not be kept: %w", name, err)
	}
	at.health.SetDrained(true)
	s.log.Info("draining", zap.String("cluster", name), zap.Bool("force", force))
	return s.DrainState(name)
}

// Undrain takes a cluster back.
func (s *Server) Undrain(name string) (DrainStatus, error) {
	at := siteNamed(s.sites, name)
	if at == nil {
		return DrainStatus{}, s.noCluster(name)
	}
	if err := s.state.SetDrained(name, false); err != nil {
		return DrainStatus{}, fmt.Errorf("undrain %s: the flag could not be kept: %w", name, err)
	}
	at.draining.set(false)
	at.health.SetDrained(false)
	s.log.Info("undrained", zap.String("cluster", name))
	return DrainStatus{Cluster: name}, nil
}

// DrainState tells what a drain waits for.
func (s *Server) DrainState(name string) (DrainStatus, error) {
	at := siteNamed(s.sites, name)
	if at == nil {
		return DrainStatus{}, s.noCluster(name)
	}
	st := DrainStatus{Cluster: name, Drained: at.health.Drained()}
	if st.Drained && at.draining.is() {
		st.Waiting = s.openThere(at)
		if st.Waiting == "" {
			st.Waiting = "the last inventories"
		}
	}
	return st, nil
}

// openThere says what of ours is open on a cluster.
func (s *Server) openThere(at *site) string {
	var what []string
	r := at.root.Stats()
	for _, n := range []struct {
		count int
		what  string
	}{
		{r.Open + r.Opening, "open"},
		{r.Sealing, "being sealed"},
		{s.repairer.Backlog()[at.conf.Name], "awaiting repair"},
	} {
		if n.count > 0 {
			what = append(what, fmt.Sprintf("%d files %s", n.count, n.what))
		}
	}
	return strings.Join(what, ", ")
}

// sealAfter is how long chains have to move by themselves in a drain before
// what they have open is asked for.
const sealAfter = 3 * time.Second

// watchDrains ends the drains that nothing is left to do for.
func (s *Server) watchDrains() {
	for _, at := range s.sites {
		if !at.draining.is() {
			continue
		}
		if s.openThere(at) != "" {
			if at.draining.due(sealAfter) {
				at.root.SealAll(files.ReasonDrain)
			}
			continue
		}
		if s.keeper.Stats().Behind[at.conf.Name] > 0 && at.health.Reachable() {
			continue // Run of the keeper is at it
		}
		at.draining.set(false)
		s.log.Info("drained", zap.String("cluster", at.conf.Name))
	}
}

func (s *Server) otherUsable(at *site) bool {
	for _, o := range s.sites {
		if o != at && o.health.Usable() {
			return true
		}
	}
	return false
}

func (s *Server) noCluster(name string) error {
	names := make([]string, 0, len(s.sites))
	for _, at := range s.sites {
		names = append(names, at.conf.Name)
	}
	return fmt.Errorf("%w cluster %q: there are %s", errUnknown, name, strings.Join(names, ", "))
}
