package daemon

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"twinscribe/aggregator"
	"twinscribe/buffer"
	"twinscribe/store/files"
	"twinscribe/thrift"
)

// A Status is all that /v1/status shows. Totals and Categories are the books.
type Status struct {
	Version    string                      `json:"version"`
	Aggregator string                      `json:"aggregator"`
	Epoch      uint32                      `json:"epoch"`
	Start      string                      `json:"start"`
	Host       string                      `json:"host"`
	Since      int64                       `json:"since"` // seconds since 1970 UTC
	State      string                      `json:"state"`
	NotReady   []string                    `json:"not_ready,omitempty"`
	Clusters   []ClusterStatus             `json:"clusters"`
	Buffer     BufferStatus                `json:"buffer"`
	Journal    JournalStatus               `json:"journal"`
	Spools     []SpoolsStatus              `json:"spools,omitempty"`
	Network    []NetworkStatus             `json:"network,omitempty"`
	Thrift     thrift.ServerStats          `json:"thrift"`
	Calls      aggregator.Calls            `json:"calls"`
	Memory     int64                       `json:"memory_bytes"`
	Totals     aggregator.Book             `json:"totals"`
	Other      aggregator.Book             `json:"other"`
	Categories []aggregator.CategoryStatus `json:"categories"`
	Warnings   []string                    `json:"warnings,omitempty"` // of the configuration, of a reload that was refused, and of what nobody sends
	Reload     reloadStatus                `json:"reload"`
}

// ClusterStatus is one cluster as this process sees it.
type ClusterStatus struct {
	Name          string  `json:"name"`
	State         string  `json:"state"` // healthy, suspect, down, returning
	Drained       bool    `json:"drained"`
	SinceSeconds  float64 `json:"since_seconds"` // in this state
	HoldLeft      float64 `json:"hold_left_seconds,omitempty"`
	LastError     string  `json:"last_error,omitempty"`
	LastErrorAgo  float64 `json:"last_error_ago_seconds,omitempty"`
	Switches      int64   `json:"switches"`
	OpenFiles     int     `json:"open_files"`
	Sealing       int     `json:"sealing"`
	Torn          int64   `json:"torn_files"`
	RepairBacklog int     `json:"repair_backlog"`
	Behind        int     `json:"inventories_behind"`
}

// BufferStatus is the buffer. Unshipped are the messages in it by reason,
// without those whose copies stand on a cluster.
type BufferStatus struct {
	Bytes     int64            `json:"bytes"`
	Limit     int64            `json:"limit"`
	Segments  int              `json:"segments"`
	Unshipped map[string]int64 `json:"unshipped"`
	Damaged   int              `json:"damaged"` // segments of which bits had changed
}

// JournalStatus says whether repair could go by the journal after a crash now.
type JournalStatus struct {
	Failed bool  `json:"failed"`
	Missed int64 `json:"missed"`
}

// Status is a snapshot. Each category's book is one of one moment.
func (s *Server) Status() Status {
	a := s.aggregator.Snapshot()
	host, _ := os.Hostname() // for people; the identity is beside it
	j := s.journal.Stats()
	st := Status{
		Version: s.o.Version, Aggregator: s.identity.Aggregator, Epoch: s.identity.Epoch, Start: s.identity.StartID(),
		Host: host, Since: s.since.Unix(), State: a.State, NotReady: s.notReady(),
		Buffer: s.bufferStatus(), Journal: JournalStatus{Failed: j.Failed, Missed: j.Missed},
		Spools: s.spoolsStatus(), Network: s.networkStatus(),
		Thrift: s.thrift.Stats(), Calls: a.Calls, Memory: a.MemoryBytes,
		Totals: a.Total, Other: a.Other, Categories: a.Categories,
	}
	backlog, behind := s.repairer.Backlog(), s.keeper.Stats().Behind
	for _, at := range s.sites {
		st.Clusters = append(st.Clusters, at.status(backlog[at.conf.Name], behind[at.conf.Name]))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Warnings, st.Reload = slices.Concat(s.warnings, s.notSent), s.reloaded
	if refusal := st.Reload.refusal(); refusal != "" {
		st.Warnings = append(st.Warnings, refusal)
	}
	for _, path := range slices.Sorted(maps.Keys(s.notTaken)) {
		st.Warnings = append(st.Warnings, fmt.Sprintf("what Scribe has left in %s is not taken over; it stays there and is tried again: %s", path, s.notTaken[path]))
	}
	return st
}

func (at *site) status(backlog, behind int) ClusterStatus {
	h, r := at.health.Status(), files.Stats{}
	if at.root != nil {
		r = at.root.Stats()
	}
	c := ClusterStatus{
		Name: h.Name, State: h.State.String(), Drained: h.Drained, SinceSeconds: time.Since(h.Since).Seconds(),
		HoldLeft: h.HoldLeft.Seconds(), Switches: h.Switches(),
		OpenFiles: r.Open, Sealing: r.Sealing, Torn: r.Torn, RepairBacklog: backlog, Behind: behind,
	}
	if h.LastError != nil {
		c.LastError, c.LastErrorAgo = h.LastError.Error(), time.Since(h.LastErrorAt).Seconds()
	}
	return c
}

func (s *Server) bufferStatus() BufferStatus {
	b := s.buffer.Stats()
	st := BufferStatus{Bytes: b.Bytes, Limit: b.MaxBytes, Damaged: b.Damaged, Unshipped: map[string]int64{}}
	for _, seg := range s.buffer.Segments() {
		st.Segments++
		if !seg.Shipped {
			st.Unshipped[seg.Reason.String()] += seg.Messages
		}
	}
	return st
}

// fullPart: this part of a buffer takes no messages; it is kept for seals
// (package buffer).
const fullPart = 20

// refusedFor is how long a refusal of the buffer counts while nobody tries again.
const refusedFor = 10 * time.Second

// stalledFor is how long the buffer's disk may be silent before the server
// calls itself not ready.
const stalledFor = 10 * time.Second

// notReady says why the server should get no traffic. It touches no disk.
func (s *Server) notReady() []string {
	select {
	case <-s.stopping:
		return []string{"stopping"}
	default:
	}
	b := s.buffer.Stats()
	at := s.refused.Load()
	refused := at != nil && time.Since(*at) < refusedFor
	return unready(anyUsable(s.sites), refused || roomFor(b) < int64(s.inForce().Queue.MaxBatch), b.Stalled)
}

// roomFor is how many bytes of messages the buffer's own limit leaves.
func roomFor(b buffer.Stats) int64 { return b.MaxBytes - b.MaxBytes/fullPart - b.Bytes }

// watchBuffer notes when the buffer has refused what it was given since the
// last look and taken nothing: the disk may be full long before the limit.
func (s *Server) watchBuffer(last buffer.Stats) buffer.Stats {
	b := s.buffer.Stats()
	switch {
	case b.Records > last.Records:
		s.refused.Store(nil)
	case b.Refused+b.Failed > last.Refused+last.Failed:
		now := time.Now()
		s.refused.Store(&now)
	}
	return b
}

// unready says why a server that runs cannot take messages, or soon cannot.
func unready(usable, full bool, silent time.Duration) (why []string) {
	stalled := silent > stalledFor
	if !usable && (full || stalled) {
		why = append(why, "no cluster is usable and the buffer takes nothing")
	}
	if stalled {
		why = append(why, fmt.Sprintf("the buffer's disk has not answered for %v", silent.Round(time.Second)))
	}
	return why
}

// reasons are all there are why a segment is written.
var reasons = []buffer.Reason{buffer.Spill, buffer.Outage, buffer.Unrouted, buffer.DeadLetter}
