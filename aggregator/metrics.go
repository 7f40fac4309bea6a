package aggregator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type latencies struct{ stored, received prometheus.Histogram }

func newLatencies() latencies {
	h := func(ack string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        "twinscribe_ack_seconds",
			Help:        "From a call's first look at the queues to its OK, by what OK means.",
			ConstLabels: prometheus.Labels{"ack": ack},
			Buckets:     []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 3, 5, 10},
		})
	}
	return latencies{stored: h(AckStored), received: h(AckReceived)}
}

type batchSizes struct{ messages, bytes prometheus.Histogram }

func newBatchSizes() batchSizes {
	return batchSizes{
		messages: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "twinscribe_batch_messages", Help: "Messages of a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
		bytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "twinscribe_batch_bytes", Help: "Bytes of a batch.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 9),
		}),
	}
}

func (b *batchSizes) observe(n Count) {
	b.messages.Observe(float64(n.Messages))
	b.bytes.Observe(float64(n.Bytes))
}

// metric is one series family of the collector.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("twinscribe_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("twinscribe_"+name, help, labels, nil), prometheus.GaugeValue}
}

func (m metric) send(out chan<- prometheus.Metric, value int64, labels ...string) {
	out <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(value), labels...)
}

// The families there are. Bytes are counted as messages are stored, with one
// line feed each.
var (
	offeredMessages     = counter("offered_messages_total", "Messages of all calls, taken or refused.", "category")
	offeredBytes        = counter("offered_bytes_total", "Bytes of all calls, taken or refused.", "category")
	acceptedMessages    = counter("accepted_messages_total", "Messages taken into a queue.", "category")
	acceptedBytes       = counter("accepted_bytes_total", "Bytes taken into a queue.", "category")
	refusedMessages     = counter("refused_messages_total", "Messages refused at admission, by reason.", "category", "reason")
	storedMessages      = counter("stored_messages_total", "Messages that a place took.", "category", "place")
	storedBytes         = counter("stored_bytes_total", "Bytes that a place took.", "category", "place")
	withdrawnMessages   = counter("withdrawn_messages_total", "Messages that no place took; their clients were told so.", "category")
	unknownMessages     = counter("unknown_messages_total", "Messages answered TRY_LATER by the clock; they may be stored.", "category")
	retriedMessages     = counter("retried_messages_total", "Messages times attempts of their chain that failed.", "category")
	droppedMessages     = counter("dropped_messages_total", "Messages written off by an operator, or refused by the chain of a lossy route, or left out of an optional one that is full.", "category")
	unaccountedMessages = gauge("unaccounted_messages", "Messages that a chain took without saying where: a fault of the program if not 0.", "category")
	queueBytes          = gauge("queue_bytes", "Bytes that a category's queues hold, overhead included.", "category")
	memoryBytes         = gauge("memory_bytes", "Bytes that all queues hold, overhead included.")
	memoryLimit         = gauge("memory_limit_bytes", "What they may hold.")
	arenaBytes          = gauge("arena_bytes", "Capacity of the arenas in use.")
	liveCategories      = gauge("live_categories", "Categories with a queue, by what the limit counts them as.", "kind")
	categoryLimit       = gauge("live_categories_limit", "How many of kind pattern there may be.")
	callsTotal          = counter("calls_total", "Log calls by their end; all but ok were answered TRY_LATER.", "end")
	faultyQueues        = gauge("failing_chains", "Chains that did not take their last batch.")
	receivedBytes       = gauge("received_unstored_bytes", "Bytes acknowledged as received and not yet stored: what a crash would lose.")
	receivedAge         = metric{prometheus.NewDesc("twinscribe_received_unstored_seconds", "Age of the oldest of them.", nil, nil), prometheus.GaugeValue}
)

var kindNames = [kinds]string{"exact", "pattern", "unrouted", "refused"}

// Describe implements prometheus.Collector.
func (a *Aggregator) Describe(out chan<- *prometheus.Desc) {
	for _, m := range []metric{
		offeredMessages, offeredBytes, acceptedMessages, acceptedBytes, refusedMessages, storedMessages,
		storedBytes, withdrawnMessages, unknownMessages, retriedMessages, droppedMessages, unaccountedMessages, queueBytes,
		memoryBytes, memoryLimit, arenaBytes, liveCategories, categoryLimit, callsTotal, faultyQueues,
		receivedBytes, receivedAge,
	} {
		out <- m.desc
	}
	for _, h := range a.histograms() {
		h.Describe(out)
	}
}

func (a *Aggregator) histograms() []prometheus.Histogram {
	return []prometheus.Histogram{a.latency.stored, a.latency.received, a.batches.messages, a.batches.bytes}
}

// Collect implements prometheus.Collector.
func (a *Aggregator) Collect(out chan<- prometheus.Metric) {
	for _, h := range a.histograms() {
		h.Collect(out)
	}
	for _, f := range a.labels.share(a.figures()) {
		f.collect(out)
	}
	set, calls := a.set.Load(), a.calls.read()
	memoryBytes.send(out, a.memory.Load())
	memoryLimit.send(out, int64(set.Limits.Memory))
	arenaBytes.send(out, a.arenaBytes())
	categoryLimit.send(out, int64(set.Limits.Categories))
	for _, c := range []struct {
		end   string
		value int64
	}{
		{"ok", calls.OK}, {"refused", calls.Refused}, {"withdrawn", calls.Withdrawn},
		{"partial", calls.Partial}, {"unknown", calls.Unknown},
	} {
		callsTotal.send(out, c.value, c.end)
	}
	a.collectQueues(out)
}

// collectQueues sends what is known of the queues as they are now.
func (a *Aggregator) collectQueues(out chan<- prometheus.Metric) {
	now := time.Now()
	var faults, bytes int64
	var oldest time.Duration
	a.mu.RLock()
	lives := a.lives
	for q := range a.queues {
		q.c.mu.Lock()
		if q.fault != "" {
			faults++
		}
		if !q.stored {
			bytes += q.unsettled.Bytes
			if since := q.oldest(); !since.IsZero() {
				oldest = max(oldest, now.Sub(since))
			}
		}
		q.c.mu.Unlock()
	}
	a.mu.RUnlock()
	for k, n := range lives {
		liveCategories.send(out, int64(n), kindNames[k])
	}
	faultyQueues.send(out, faults)
	receivedBytes.send(out, bytes)
	out <- prometheus.MustNewConstMetric(receivedAge.desc, receivedAge.kind, oldest.Seconds())
}
