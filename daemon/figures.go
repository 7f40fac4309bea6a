package daemon

import (
	"cmp"
	"context"
	"slices"
	"time"

	"twinscribe/aggregator"
	"twinscribe/store/catalog"
	"twinscribe/store/replay"
)

// spoolCounts are the counters of Scribe's buffer stores, and what was replayed.
type spoolCounts struct{ retries, bytesLost, replayed int64 }

func (c *spoolCounts) add(st *replay.Status) {
	c.retries += st.Retries
	c.bytesLost += st.BytesLost
	c.replayed += st.Replayed
}

// mostPast bounds the categories whose closed chains have counters of their own.
const mostPast = 10_000

// counted is a chain with a spool. It is known to the figures until it is closed.
type counted struct {
	*replay.Store
	places *places
	at     berth
	path   string // of the spools
}

func (p *places) count(r *replay.Store, at berth, path string) *counted {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &counted{r, p, at, path}
	p.open[c] = struct{}{}
	return c
}

// Close implements store.Store.
func (c *counted) Close(ctx context.Context) error {
	err := c.Store.Close(ctx)
	p, st := c.places, c.Status()
	if st.Waiting > 0 || st.Files > 0 {
		select {
		case p.left <- struct{}{}:
		default: // it is looked at anyway
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, is := p.open[c]; !is {
		return err
	}
	delete(p.open, c)
	category := c.at.category
	if _, known := p.past[category]; !known && len(p.past) >= mostPast {
		category = ""
	}
	n := p.past[category]
	n.add(&st)
	p.past[category] = n
	return err
}

// counts are the counters of all chains with spools, by category; "": of
// categories that have none of their own.
func (p *places) counts() map[string]spoolCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]spoolCounts, len(p.past)+len(p.open))
	for category, n := range p.past {
		all[category] = n
	}
	for c := range p.open {
		st, n := c.Status(), all[c.at.category]
		n.add(&st)
		all[c.at.category] = n
	}
	return all
}

// counters adds what spools and network stores count, under Scribe's names.
func (s *Server) counters(all map[string]int64) {
	for category, n := range s.places.counts() {
		for _, c := range []struct {
			name  string
			value int64
		}{{"retries", n.retries}, {"bytes lost", n.bytesLost}} {
			if c.value == 0 {
				continue
			}
			if category != "" {
				all[category+":"+c.name] += c.value
			}
			all["scribe_overall:"+c.name] += c.value
		}
	}
	if n := s.places.network.Sent(); n > 0 {
		all["scribe_overall:sent"] = n
	}
}

// SpoolsStatus is a folder with the spools of chains that write to no cluster.
type SpoolsStatus struct {
	Path      string        `json:"path"`
	Bytes     int64         `json:"bytes"`
	Limit     int64         `json:"limit"`
	Chains    int           `json:"chains"`               // open
	Waiting   int64         `json:"waiting"`              // messages in the spools of these
	Files     int           `json:"files,omitempty"`      // of an original Scribe, that wait: what is in them is not known, and not in the other figures
	FileBytes int64         `json:"file_bytes,omitempty"` // in these
	Behind    []SpoolStatus `json:"behind,omitempty"`     // those that wait or have a problem: the first by category, 100 at most
	Omitted   int           `json:"omitted,omitempty"`    // how many more there are
}

// SpoolStatus is the spool of one chain.
type SpoolStatus struct {
	Category     catalog.Text `json:"category"`
	Route        int          `json:"route"`
	Part         int          `json:"part"`  // -1: the store is no bucket
	State        string       `json:"state"` // STREAMING, DISCONNECTED, SENDING_BUFFER
	SinceSeconds float64      `json:"since_seconds"`
	Waiting      int64        `json:"waiting"`         // messages; an estimate where a segment is damaged
	Files        int          `json:"files,omitempty"` // as above
	FileBytes    int64        `json:"file_bytes,omitempty"`
	Replayed     int64        `json:"replayed"` // messages
	Retries      int64        `json:"retries"`
	BytesLost    int64        `json:"bytes_lost"`
	LastError    string       `json:"last_error,omitempty"` // of the place behind it, while that takes nothing
	Problem      string       `json:"problem,omitempty"`    // of the spool itself
}

// mostBehind bounds the chains that the status names, and the categories with a
// figure of their own in the metrics.
const mostBehind = 100

// chains are the open chains with spools, with their states, by category and lane.
func (p *places) chains() (open []*counted, states []replay.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		open = append(open, c)
	}
	slices.SortFunc(open, func(a, b *counted) int {
		return cmp.Or(cmp.Compare(a.at.category, b.at.category), cmp.Compare(a.at.lane.Route, b.at.lane.Route), cmp.Compare(a.at.lane.Part, b.at.lane.Part))
	})
	for _, c := range open {
		states = append(states, c.Status())
	}
	return open, states
}

// spoolsStatus is that of each folder, by path.
func (s *Server) spoolsStatus() []SpoolsStatus {
	p := s.places
	p.mu.Lock()
	list := make([]SpoolsStatus, 0, len(p.spools))
	for path, in := range p.spools {
		one := SpoolsStatus{Path: path}
		one.Bytes, one.Limit = in.Bytes()
		list = append(list, one)
	}
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b SpoolsStatus) int { return cmp.Compare(a.Path, b.Path) })
	open, states := p.chains()
	for i, c := range open {
		at := slices.IndexFunc(list, func(l SpoolsStatus) bool { return l.Path == c.path })
		if at < 0 {
			continue // the server stops
		}
		in, st := &list[at], &states[i]
		in.Chains++
		in.Waiting += st.Waiting
		in.Files += st.Files
		in.FileBytes += st.FileBytes
		switch {
		case st.State == replay.Streaming && st.Problem == "" && st.Text == "":
		case len(in.Behind) >= mostBehind:
			in.Omitted++
		default:
			in.Behind = append(in.Behind, SpoolStatus{
				Category: catalog.Text(c.at.category), Route: c.at.lane.Route, Part: c.at.lane.Part,
				State: st.State.String(), SinceSeconds: time.Since(st.Since).Seconds(),
				Waiting: st.Waiting, Files: st.Files, FileBytes: st.FileBytes, Replayed: st.Replayed, Retries: st.Retries, BytesLost: st.BytesLost,
				LastError: st.Text, Problem: st.Problem,
			})
		}
	}
	return list
}

// NetworkStatus are servers that messages are forwarded to.
type NetworkStatus struct {
	State     string                `json:"state"`  // of all of them together: healthy, suspect, down, returning
	Chains    int                   `json:"chains"` // that forward to them
	LastError string                `json:"last_error,omitempty"`
	Servers   []NetworkServerStatus `json:"servers"`
}

// NetworkServerStatus is one of them.
type NetworkServerStatus struct {
	Address  string  `json:"address"`
	Sick     bool    `json:"sick"` // the last call or probe failed
	Sent     int64   `json:"sent"` // messages answered OK
	Tries    int64   `json:"tries"`
	TryLater int64   `json:"try_later"`
	Failed   int64   `json:"failed"` // tries without an answer
	Slowest  float64 `json:"slowest_seconds"`
}

func (s *Server) networkStatus() []NetworkStatus {
	var list []NetworkStatus
	for _, f := range s.places.network.Figures() {
		one := NetworkStatus{State: f.Health.State.String(), Chains: f.Chains}
		if f.Health.LastError != nil {
			one.LastError = f.Health.LastError.Error()
		}
		for _, v := range f.Servers {
			one.Servers = append(one.Servers, NetworkServerStatus{
				Address: v.Addr, Sick: v.Sick, Sent: v.Sent, Tries: v.Tries, TryLater: v.TryLater, Failed: v.Failed, Slowest: v.Slowest.Seconds(),
			})
		}
		list = append(list, one)
	}
	return list
}

// othersLabel is that of categories without a figure of their own, as the
// aggregator's metrics call them.
const othersLabel = "(other)"

// waitingBy is how many messages wait in spools, for those categories with most
// and all others together.
func (p *places) waitingBy() map[string]int64 {
	open, states := p.chains()
	sums := make(map[string]int64)
	for i, c := range open {
		if n := states[i].Waiting; n > 0 {
			sums[aggregator.Label(c.at.category)] += n
		}
	}
	names := make([]string, 0, len(sums))
	for name := range sums {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b)) })
	shown := map[string]int64{othersLabel: 0}
	for i, name := range names {
		if i >= mostBehind {
			name = othersLabel
		}
		shown[name] += sums[names[i]]
	}
	return shown
}

func (s *Server) collectPlaces(put func(*metric, float64, ...string)) {
	for _, in := range s.spoolsStatus() {
		put(&mSpoolBytes, float64(in.Bytes), in.Path)
		put(&mSpoolLimit, float64(in.Limit), in.Path)
		put(&mSpoolFiles, float64(in.Files), in.Path)
		put(&mSpoolFileBytes, float64(in.FileBytes), in.Path)
	}
	for category, n := range s.places.waitingBy() {
		put(&mSpoolLeft, float64(n), category)
	}
	states := map[replay.State]int{replay.Streaming: 0, replay.Disconnected: 0, replay.SendingBuffer: 0}
	_, all := s.places.chains()
	for i := range all {
		states[all[i].State]++
	}
	for state, n := range states {
		put(&mSpoolChains, float64(n), state.String())
	}
	var sum spoolCounts
	for _, n := range s.places.counts() {
		sum.retries, sum.bytesLost, sum.replayed = sum.retries+n.retries, sum.bytesLost+n.bytesLost, sum.replayed+n.replayed
	}
	put(&mSpoolSent, float64(sum.replayed))
	put(&mSpoolRetries, float64(sum.retries))
	put(&mSpoolLost, float64(sum.bytesLost))
	for _, v := range s.places.network.Servers() {
		put(&mNetSick, flag(v.Sick), v.Addr)
		put(&mNetSent, float64(v.Sent), v.Addr)
		put(&mNetTries, float64(v.Tries), v.Addr)
		put(&mNetLater, float64(v.TryLater), v.Addr)
		put(&mNetFailed, float64(v.Failed), v.Addr)
	}
	f := s.places.files.Stats()
	put(&mLocalOpen, float64(f.Open))
	put(&mLocalRotations, float64(f.Rotations))
	put(&mLocalBytes, float64(f.Bytes))
	put(&mLocalErrors, float64(f.OpenErrors), "open")
	put(&mLocalErrors, float64(f.WriteErrors), "write")
	put(&mLocalTorn, float64(f.Torn))
	put(&mLocalLost, float64(f.Lost))
}
