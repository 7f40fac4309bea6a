package store

import "twinscribe/store/cluster"

// Health is what a Failover asks of what a place writes to: one of the equal
// clusters, or the servers that a network store forwards to (*cluster.Health is
// both). All its chains share it. No method waits.
type Health interface {
	// State is the state now.
	State() cluster.State
	// Usable says that chains may begin there: healthy and not drained.
	Usable() bool
	// Drained says that an operator wants nothing written there.
	Drained() bool
	// Acknowledging says that nothing has failed there since the last
	// acknowledgement: what is open on one that is not usable may go on.
	Acknowledging() bool
}

var _ Health = (*cluster.Health)(nil)

// NoHealth is the Health of a place that nobody probes, local files say: it is
// left when it fails for a chain, and its Retry alone says when it is asked
// again.
type NoHealth struct{}

// State implements Health.
func (NoHealth) State() cluster.State { return cluster.Healthy }

// Usable implements Health.
func (NoHealth) Usable() bool { return true }

// Drained implements Health.
func (NoHealth) Drained() bool { return false }

// Acknowledging implements Health.
func (NoHealth) Acknowledging() bool { return true }
