package daemon

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"twinscribe/store/cluster"
)

// register makes the metrics: the aggregator's own, Go's, and what the parts
// tell in their Stats, read when somebody asks.
func (s *Server) register() error {
	return errors.Join(
		s.metrics.Register(collectors.NewGoCollector()),
		s.metrics.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		s.metrics.Register(s.aggregator),
		s.metrics.Register(&statsCollector{s}),
	)
}

// A metric is declared once, with its meaning; docs/operations lists them from
// here.
type metric struct {
	name, help string
	labels     []string
	counter    bool
}

func (m *metric) desc() *prometheus.Desc {
	return prometheus.NewDesc("twinscribe_"+m.name, m.help, m.labels, nil)
}

var (
	clusterLabel = []string{"cluster"}

	mState        = metric{"cluster_state", "1 for the state that the cluster is in.", []string{"cluster", "state"}, false}
	mDrained      = metric{"cluster_drained", "1 while an operator has drained the cluster.", clusterLabel, false}
	mSwitches     = metric{"cluster_switches_total", "How often the cluster became usable or ceased to be.", clusterLabel, true}
	mProbes       = metric{"cluster_probes_total", "Probes by kind and result.", []string{"cluster", "kind", "result"}, true}
	mEvents       = metric{"cluster_events_total", "What this kind of cluster counts: calls of the NameNode by method, pipelines recovered, blocks.", []string{"cluster", "event"}, true}
	mFewest       = metric{"cluster_fewest_replicas", "Fewest nodes that an acknowledged append stood on since the start; 0 before the first.", clusterLabel, false}
	mFilesOpen    = metric{"files_open", "Files being written.", clusterLabel, false}
	mFilesSealing = metric{"files_sealing", "Files given up by their chains that are not under their final names yet.", clusterLabel, false}
	mFilesBegun   = metric{"files_begun_total", "Files begun.", clusterLabel, true}
	mFilesSealed  = metric{"files_sealed_total", "Files sealed, by reason.", []string{"cluster", "reason"}, true}
	mFilesTorn    = metric{"files_torn_total", "Files whose writer failed.", clusterLabel, true}
	mFilesBytes   = metric{"files_bytes_total", "Bytes acknowledged by the cluster.", clusterLabel, true}
	mPublished    = metric{"files_published_total", "Lengths of open files published for readers.", clusterLabel, true}
	mBacklog      = metric{"repair_backlog", "Torn and orphaned files that await repair.", clusterLabel, false}
	mBehind       = metric{"inventories_behind", "Inventories that the cluster does not have as they are now.", clusterLabel, false}
	mBufferBytes  = metric{"buffer_bytes", "Bytes of segments, by reason, those included whose copies stand on a cluster.", []string{"reason"}, false}
	mBufferLeft   = metric{"buffer_messages", "Messages in segments that stand on no cluster, by reason.", []string{"reason"}, false}
	mBufferLimit  = metric{"buffer_limit_bytes", "The buffer's limit.", nil, false}
	mBufferDamage = metric{"buffer_damaged_segments", "Segments of which bits had changed.", nil, false}
	mJournalBad   = metric{"journal_failed", "1 while the journal cannot be written.", nil, false}
	mJournalMiss  = metric{"journal_missed_total", "Lines that were not written before their batch.", nil, true}
	mConnections  = metric{"thrift_connections", "Connections open.", nil, false}
	mConnLimit    = metric{"thrift_connections_limit", "How many there may be.", nil, false}
	mAcceptErrors = metric{"thrift_accept_errors_total", "Accepts that failed, for want of descriptors for example.", nil, true}
	mFrameMemory  = metric{"thrift_frame_memory_bytes", "Bytes of frames and entries of calls under way.", nil, false}
	mFrameLimit   = metric{"thrift_frame_memory_limit_bytes", "How many there may be.", nil, false}
	mAccepted     = metric{"thrift_accepted_total", "Connections accepted.", nil, true}
	mRefused      = metric{"thrift_refused_total", "Connections refused, by limit.", []string{"limit"}, true}
	mFrames       = metric{"thrift_frames_total", "Frames read whole.", nil, true}
	mBad          = metric{"thrift_bad_total", "Connections closed for bytes that are no call, by kind.", []string{"kind"}, true}
	mTimeouts     = metric{"thrift_timeouts_total", "Connections closed at a deadline.", []string{"deadline"}, true}
	mBusy         = metric{"thrift_busy_total", "Calls refused because the memory for frames was used up: TRY_LATER for Log.", nil, true}
	mOthers       = metric{"thrift_other_calls_total", "Calls of fb303, and of methods that there are not.", []string{"method"}, true}
	mHTTP         = metric{"http_connections", "Connections of the HTTP side.", nil, false}
	mHTTPRefused  = metric{"http_refused_total", "Connections of the HTTP side closed at its limits.", nil, true}
	mPanics       = metric{"thrift_panics_total", "Connections closed by a panic: a fault of the program.", nil, true}

	mReloadBad = metric{"config_reload_failed", "1 while the last reload was refused, and what was in force before it still is.", nil, false}

	mSpoolBytes     = metric{"spool_bytes", "Bytes of spools of chains that write to no cluster, by their folder.", []string{"path"}, false}
	mSpoolLimit     = metric{"spool_limit_bytes", "How many there may be.", []string{"path"}, false}
	mSpoolFiles     = metric{"spool_framed_files", "Files of an original Scribe's buffers that wait to be sent, by the folder of the spools that do so.", []string{"path"}, false}
	mSpoolFileBytes = metric{"spool_framed_bytes", "Bytes in them.", []string{"path"}, false}
	mSpoolLeft      = metric{"spool_messages", "Messages that wait in spools: the 100 categories with most, and all others together.", []string{"category"}, false}
	mSpoolChains    = metric{"spool_chains", "Chains with a spool, by state.", []string{"state"}, false}
	mSpoolSent      = metric{"spool_replayed_messages_total", "Messages sent from spools.", nil, true}
	mSpoolRetries   = metric{"spool_retries_total", "How often a chain with a spool lost what is behind it (Scribe's counter retries).", nil, true}
	mSpoolLost      = metric{"spool_lost_bytes_total", "Bytes in spools that were no messages; they are kept aside (Scribe's counter bytes lost).", nil, true}

	serverLabel = []string{"server"}
	mNetSick    = metric{"network_server_sick", "1 while the last call or probe of a server that messages are forwarded to failed.", serverLabel, false}
	mNetSent    = metric{"network_sent_messages_total", "Messages that the server answered with OK.", serverLabel, true}
	mNetTries   = metric{"network_tries_total", "Calls with messages.", serverLabel, true}
	mNetLater   = metric{"network_try_later_total", "Calls that the server refused with TRY_LATER.", serverLabel, true}
	mNetFailed  = metric{"network_failed_total", "Calls with messages that got no answer.", serverLabel, true}

	mLocalOpen      = metric{"scribe_files_open", "Local files under Scribe's names that are open.", nil, false}
	mLocalRotations = metric{"scribe_files_rotations_total", "How often the next file was begun.", nil, true}
	mLocalBytes     = metric{"scribe_files_bytes_total", "Bytes written to them.", nil, true}
	mLocalErrors    = metric{"scribe_files_errors_total", "Opens and writes that failed.", []string{"operation"}, true}
	mLocalTorn      = metric{"scribe_files_torn_total", "Files left as they are because their end could not be mended.", nil, true}
	mLocalLost      = metric{"scribe_files_lost_total", "Files that were removed or replaced while they were written to.", nil, true}

	allMetrics = []*metric{
		&mState, &mDrained, &mSwitches, &mProbes, &mEvents, &mFewest, &mFilesOpen, &mFilesSealing, &mFilesBegun, &mFilesSealed,
		&mFilesTorn, &mFilesBytes, &mPublished, &mBacklog, &mBehind, &mBufferBytes, &mBufferLeft, &mBufferLimit, &mBufferDamage,
		&mJournalBad, &mJournalMiss, &mConnections, &mConnLimit,
		&mAcceptErrors, &mFrameMemory, &mFrameLimit, &mBusy, &mAccepted, &mRefused, &mFrames, &mBad, &mTimeouts, &mPanics,
		&mOthers, &mHTTP, &mHTTPRefused, &mReloadBad,
		&mSpoolBytes, &mSpoolLimit, &mSpoolFiles, &mSpoolFileBytes, &mSpoolLeft, &mSpoolChains, &mSpoolSent, &mSpoolRetries, &mSpoolLost,
		&mNetSick, &mNetSent, &mNetTries, &mNetLater, &mNetFailed,
		&mLocalOpen, &mLocalRotations, &mLocalBytes, &mLocalErrors, &mLocalTorn, &mLocalLost,
	}
)

type statsCollector struct{ s *Server }

func (c *statsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range allMetrics {
		out <- m.desc()
	}
}

func (c *statsCollector) Collect(out chan<- prometheus.Metric) {
	put := func(m *metric, v float64, labels ...string) {
		kind := prometheus.GaugeValue
		if m.counter {
			kind = prometheus.CounterValue
		}
		out <- prometheus.MustNewConstMetric(m.desc(), kind, v, labels...)
	}
	backlog, behind := c.s.repairer.Backlog(), c.s.keeper.Stats().Behind
	for _, at := range c.s.sites {
		at.collect(put)
		put(&mBacklog, float64(backlog[at.conf.Name]), at.conf.Name)
		put(&mBehind, float64(behind[at.conf.Name]), at.conf.Name)
	}
	c.s.collectBuffer(put)
	c.s.collectThrift(put)
	c.s.collectPlaces(put)
	put(&mHTTP, float64(c.s.door.connections()))
	put(&mHTTPRefused, float64(c.s.door.refused.Load()))
	put(&mReloadBad, flag(c.s.refusedReload() != ""))
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (at *site) collect(put func(*metric, float64, ...string)) {
	name, h, r := at.conf.Name, at.health.Status(), at.root.Stats()
	for s := cluster.Healthy; s <= cluster.Returning; s++ {
		put(&mState, flag(s == h.State), name, s.String())
	}
	put(&mDrained, flag(h.Drained), name)
	put(&mSwitches, float64(h.Switches()), name)
	put(&mProbes, float64(h.Pings-h.PingsMissed), name, "ping", "good")
	put(&mProbes, float64(h.PingsMissed), name, "ping", "missed")
	put(&mProbes, float64(h.Blocks-h.BlocksFailed), name, "block", "good")
	put(&mProbes, float64(h.BlocksFailed), name, "block", "missed")
	for event, n := range at.cluster.Counters() {
		if event == "fewest_replicas" {
			put(&mFewest, float64(n), name)
			continue
		}
		put(&mEvents, float64(n), name, event)
	}
	put(&mFilesOpen, float64(r.Open), name)
	put(&mFilesSealing, float64(r.Sealing), name)
	put(&mFilesBegun, float64(r.Opened), name)
	put(&mFilesTorn, float64(r.Torn), name)
	put(&mFilesBytes, float64(r.Bytes), name)
	put(&mPublished, float64(r.Published), name)
	for reason, n := range r.Sealed {
		put(&mFilesSealed, float64(n), name, reason)
	}
}

func (s *Server) collectBuffer(put func(*metric, float64, ...string)) {
	bytes, left := map[string]int64{}, map[string]int64{}
	for _, seg := range s.buffer.Segments() {
		bytes[seg.Reason.String()] += seg.Bytes
		if !seg.Shipped {
			left[seg.Reason.String()] += seg.Messages
		}
	}
	for _, r := range reasons {
		put(&mBufferBytes, float64(bytes[r.String()]), r.String())
		put(&mBufferLeft, float64(left[r.String()]), r.String())
	}
	b, j := s.buffer.Stats(), s.journal.Stats()
	put(&mBufferLimit, float64(b.MaxBytes))
	put(&mBufferDamage, float64(b.Damaged))
	put(&mJournalBad, flag(j.Failed))
	put(&mJournalMiss, float64(j.Missed))
}

func (s *Server) collectThrift(put func(*metric, float64, ...string)) {
	t := s.thrift.Stats()
	put(&mConnections, float64(t.Connections))
	put(&mConnLimit, float64(t.MostAtOnce))
	put(&mAcceptErrors, float64(t.AcceptErrors))
	put(&mFrameMemory, float64(t.FrameMemory))
	put(&mFrameLimit, float64(t.FrameLimit))
	put(&mBusy, float64(t.Busy))
	put(&mAccepted, float64(t.Accepted))
	put(&mFrames, float64(t.Frames))
	put(&mPanics, float64(t.Panics))
	put(&mOthers, float64(t.OtherCalls-t.Unknown), "known")
	put(&mOthers, float64(t.Unknown), "unknown")
	for limit, n := range t.Refused {
		put(&mRefused, float64(n), limit)
	}
	for kind, n := range t.Bad {
		put(&mBad, float64(n), kind)
	}
	for which, n := range t.Timeouts {
		put(&mTimeouts, float64(n), which)
	}
}
