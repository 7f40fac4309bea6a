package cluster

// State of a cluster, as all chains see it.
type State int

// Healthy -> Suspect at a missed deadline of an append, a failed block start or
// a missed probe. Suspect -> Down at two failed block probes. Suspect or Down
// -> Returning at the first good block probe: repair and reading begin there.
// Returning -> Healthy after a run of good probes (15 s, doubling per flap).
const (
	Healthy State = iota
	Suspect
	Down
	Returning
)

func (s State) String() string {
	return [...]string{"healthy", "suspect", "down", "returning"}[s]
}
