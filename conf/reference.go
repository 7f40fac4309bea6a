package conf

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// A Key is one key of the configuration.
type Key struct {
	Path    string // such as clusters[].hdfs.root; [] stands for every element of a list
	Type    string
	Default string // "" where there is none, or where Meaning says what holds
	Meaning string
	Example string // a value, as YAML has it
	// Required: it has to be given wherever the struct around it stands.
	Required bool
}

// keys are the meanings and examples of all keys, in the order of the page.
// Types and defaults come from the code that reads them.
var keys = []Key{
	{Path: "id", Example: "ag1", Meaning: "Name of this aggregator in file names, manifests and inventories; no two aggregators that write to the same clusters may have the same. Without it: the host's name and four hex digits, drawn once and kept in the state folder."},
	{Path: "listen.thrift", Example: `":1463"`, Meaning: "Where clients log: HOST:PORT, without a host on all interfaces."},
	{Path: "listen.http", Example: `"127.0.0.1:14630"`, Meaning: "Where status, metrics and the health checks are. It asks nobody who they are, so another address than loopback is a warning."},
	{Path: "ack", Example: "received", Meaning: "What OK means. `stored`: every DataNode of a pipeline has the message, or it is fsynced on the local disk. `received`: it is in memory, as in Scribe."},
	{Path: "state", Example: "/var/lib/twinscribe", Meaning: "Folder of this aggregator's own, on a local disk: journal, epoch, drain flags, lock, and the buffer unless that has a path of its own."},
	{Path: "unrouted", Example: "refuse", Meaning: "Messages of a category that no rule matches: `keep` them in the buffer, or `refuse` them with TRY_LATER."},
	{Path: "visible_within", Example: "30s", Meaning: "An acknowledged message can be read after this time at the latest, while its cluster is up."},
	{Path: "visibility_seals", Example: "4", Meaning: "How often in an hour a category's file is sealed only to be visible; in between its length is published, and `read` takes it."},

	{Path: "limits.connections", Example: "20000", Meaning: "Connections at once; more are closed when they come."},
	{Path: "limits.connections_per_ip", Example: "100", Meaning: "The same of one address; 0 for no limit."},
	{Path: "limits.frame", Example: "64MiB", Meaning: "The largest Thrift frame, up to 256MiB; a larger one ends its connection."},
	{Path: "limits.frame_memory", Example: "1GiB", Meaning: "All frames together, from the first byte until their messages are in the queues; a call beyond it is answered TRY_LATER. Calls of more than 64KiB leave an eighth of it to smaller ones. Four frames at least, if it is not given."},
	{Path: "limits.entries", Example: "50000", Meaning: "Messages in one call."},
	{Path: "limits.message", Example: "1MiB", Meaning: "The largest message; a larger one goes to the dead letters."},
	{Path: "limits.memory", Example: "2GiB", Meaning: "Bytes of messages in all queues together, those being written included. Beyond it: TRY_LATER. The last eighth is for categories that hold a sixty-fourth of it at most."},
	{Path: "limits.queue", Example: "128MiB", Meaning: "The same of one category; others do not notice. A frame at least, and not more than `limits.memory`."},
	{Path: "limits.categories", Example: "1000", Meaning: "Categories with a queue at once. Messages of a further one: TRY_LATER."},

	{Path: "timeouts.write", Example: "1s", Meaning: "One try to store a batch at one place. A batch is stored, or given back, within this and 1 s."},
	{Path: "timeouts.ack", Example: "5s", Meaning: "A client hears within this, at the worst TRY_LATER. More than `timeouts.write` and 1 s."},
	{Path: "timeouts.stop", Example: "60s", Meaning: "A stop stores what is queued within this."},
	{Path: "timeouts.frame", Example: "30s", Meaning: "A frame, from its first byte to its last."},
	{Path: "timeouts.idle", Example: "1h", Meaning: "A connection without a frame is closed after this, or an eighth later."},
	{Path: "timeouts.reply", Example: "10s", Meaning: "A client that does not take its reply for this long, or an eighth longer, is closed."},

	{Path: "queue.max_batch", Example: "8MiB", Meaning: "The largest batch: what is written at once. A larger message is a batch by itself."},
	{Path: "queue.batch_bytes", Example: "1MiB", Meaning: "`ack: received` only: a queue with so much is written."},
	{Path: "queue.batch_wait", Example: "20ms", Meaning: "`ack: received` only: a queue is written after this in any case."},

	{Path: "buffer.path", Example: "/data/twinscribe/buffer", Meaning: "Folder of the segments. Without it: `buffer` in the state folder."},
	{Path: "buffer.max_bytes", Example: "50GiB", Meaning: "All segments together. At the limit: TRY_LATER. A store's `buffer` may say it instead."},
	{Path: "buffer.segment", Example: "128MiB", Meaning: "A segment is ended at this size; a quarter of `max_bytes` at most, if it is not given."},
	{Path: "buffer.sync", Example: "each", Meaning: "`group`: one fsync for all batches that wait. `each`: one for each. `none`: none, and a power cut loses acknowledged messages."},
	{Path: "buffer.dead_letters", Example: "256MiB", Meaning: "Of `max_bytes`: messages that no store can take. Without it a tenth, 1GiB at most, two frames at least."},
	{Path: "buffer.unrouted", Example: "5GiB", Meaning: "Of `max_bytes`: messages that no rule matches. Without it as `dead_letters`."},
	{Path: "buffer.replay", Example: "auto", Meaning: "What was written while no cluster was usable: `never` uploaded by itself (`buffer ship` does it), or as soon as a cluster is usable, `auto`. What was written only because the time was short is always uploaded. A store's `buffer` may say it instead."},
	{Path: "buffer.keep", Example: "1h", Meaning: "An uploaded segment is deleted after this."},

	{Path: "retention.inventory", Example: "2160h", Meaning: "Inventories older than this are deleted; 0 for never."},

	{Path: "log.level", Example: "warn", Meaning: "`debug`, `info`, `warn` or `error`."},
	{Path: "log.format", Example: "json", Meaning: "`json` or `console`."},

	{Path: "clusters[].name", Required: true, Example: "n1", Meaning: "By which stores and commands call it: small letters, digits and `-`."},
	{Path: "clusters[].drain", Example: "true", Meaning: "Nothing is written there. `ctl drain` is the usual way."},
	{Path: "clusters[].hdfs.namenodes", Required: true, Example: `["nn1a:8020", "nn1b:8020"]`, Meaning: "Its NameNode, or the NameNodes of its HA group. No two clusters share one."},
	{Path: "clusters[].hdfs.user", Example: "scribe", Meaning: "Who writes there."},
	{Path: "clusters[].hdfs.root", Example: "/logs", Meaning: "Everything is below this folder."},
	{Path: "clusters[].hdfs.replication", Example: "3", Meaning: "Copies of a block; 0 for what the cluster does by itself."},
	{Path: "clusters[].hdfs.min_replicas", Example: "2", Meaning: "An OK means so many copies at least; 0 for 2, or 1 where `replication` is 1."},
	{Path: "clusters[].hdfs.sync", Example: "hsync", Meaning: "`hflush`: the DataNodes have it in memory. `hsync`: on their disks."},
	{Path: "clusters[].hdfs.node_timeout", Example: "300ms", Meaning: "A DataNode that is silent for so long is thrown out of its pipeline. Less than `timeouts.write`; a quarter of it at most, if it is not given."},
	{Path: "clusters[].hdfs.connect_timeout", Example: "1s", Meaning: "Connecting to a NameNode or DataNode."},
	{Path: "clusters[].hdfs.rpc_timeout", Example: "1s", Meaning: "One NameNode call."},
	{Path: "clusters[].dir.path", Required: true, Example: "/data/n1", Meaning: "A local directory as a cluster: every batch is fsynced."},
	{Path: "clusters[].probe.every", Example: "2s", Meaning: "The cluster is asked for a sign of life at least this often, after uneven times from half of it: nothing can keep step with them."},
	{Path: "clusters[].probe.hold_off", Example: "30s", Meaning: "So long all is well before it is written to again. Doubles each time it fails again, and from the second time on a minute passes at least."},
	{Path: "clusters[].probe.hold_off_max", Example: "30m", Meaning: "Up to this."},
	{Path: "clusters[].limits.max_open_files", Example: "5000", Meaning: "Files being written at once; beyond it the one that is idle longest is sealed. While none is idle there may be twice as many and 64 more."},
	{Path: "clusters[].limits.block_starts", Example: "16", Meaning: "Blocks being begun at once."},
	{Path: "clusters[].limits.appends", Example: "128", Meaning: "Batches being written at once."},

	{Path: "categories[].match", Required: true, Example: `"audit_*"`, Meaning: "Which categories: an exact name, a prefix and `*`, or `*` alone. The exact name counts first, then the first prefix in byte order (so a longer one below a shorter one is never reached, and refused), then `*`."},
	{Path: "categories[].ack", Example: "received", Meaning: "As `ack`, for these. Without it: what `ack` says."},
	{Path: "categories[].store.failover.prefer", Example: "first", Meaning: "`none`: stay at a place until it fails. `first`: go back to an earlier one when it is well again."},
	{Path: "categories[].store.failover.places", Required: true, Example: "[{files: {cluster: n1}}, {buffer: {}}]", Meaning: "Where batches go, first to last. Each is a store of kind `files`, no two on one cluster, or at the end `buffer`."},
	{Path: "categories[].store.files.cluster", Required: true, Example: "n1", Meaning: "Name of the cluster."},
	{Path: "categories[].store.files.partition", Example: "day", Meaning: "A folder for each `hour` or `day`, in UTC; the same in all places of a failover."},
	{Path: "categories[].store.files.max_size", Example: "512MiB", Meaning: "A file is sealed at this size, and the next one begun."},
	{Path: "categories[].store.files.idle", Example: "1h", Meaning: "A file without messages for so long is sealed."},
	{Path: "categories[].store.buffer.max_bytes", Example: "50GiB", Meaning: "As `buffer.max_bytes`: there is one buffer for all stores."},
	{Path: "categories[].store.buffer.replay", Example: "auto", Meaning: "As `buffer.replay`."},
	{Path: "categories[].store.null", Example: "{}", Meaning: "Messages are thrown away, and counted."},
}

// Reference is every key there is, with its type and default.
func Reference() []Key { return reference() }

var reference = sync.OnceValue(func() []Key {
	all := make([]Key, len(keys))
	for i, k := range keys {
		t, def := typeAt(k.Path)
		k.Type, k.Default = typeName(t), defaultText(t, def)
		all[i] = k
	}
	return all
})

// typeAt is the type of a key, and its default as the code has it.
func typeAt(path string) (reflect.Type, reflect.Value) {
	v := reflect.ValueOf(Default())
	for part := range strings.SplitSeq(path, ".") {
		name, list := strings.CutSuffix(part, "[]")
		t := v.Type()
		for i := range t.NumField() {
			if keyOf(t.Field(i)) == name {
				v = v.Field(i)
				break
			}
		}
		if v.Type() == t {
			panic("conf: the reference has a key that there is not: " + path)
		}
		if list {
			v = elementDefault(v.Type().Elem())
		} else if v.Kind() == reflect.Pointer {
			v = elementDefault(v.Type().Elem())
		}
	}
	return v.Type(), v
}

func typeName(t reflect.Type) string {
	switch {
	case t == sizeType:
		return "size"
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "list of texts"
	case t.Kind() == reflect.Slice:
		return "list of stores"
	case t.Kind() == reflect.Struct:
		return "no keys"
	}
	return map[reflect.Kind]string{reflect.String: "text", reflect.Int: "number", reflect.Bool: "true or false"}[t.Kind()]
}

func defaultText(t reflect.Type, v reflect.Value) string {
	switch {
	case t.Kind() == reflect.String && v.Len() == 0, t.Kind() == reflect.Slice, t.Kind() == reflect.Struct, t == sizeType && v.Int() == 0:
		return ""
	case t == durationType:
		return durationText(time.Duration(v.Int()))
	}
	return fmt.Sprint(v.Interface())
}

// durationText is a duration without its zeros: 10m, not 10m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if d >= time.Minute && d%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if d >= time.Hour && d%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sections are the headings of the page, by the beginning of the keys below them.
var sections = []struct{ prefix, title, text string }{
	{"", "General", ""},
	{"limits.", "limits", "At a limit the answer is TRY_LATER for the category concerned. Every limit has a metric."},
	{"timeouts.", "timeouts", ""},
	{"queue.", "queue", "Every category has a queue, and a batch of it is what is written at once."},
	{"buffer.", "buffer", "The last place of a failover, and where dead letters and unrouted messages are kept: checksummed segments on the local disk, one folder for all categories."},
	{"retention.", "retention", ""},
	{"log.", "log", ""},
	{"clusters[].", "clusters", "A list. Each has a name and one of `hdfs` and `dir`."},
	{"categories[].", "categories", "A list of rules. Each has a `store` of one kind: `failover`, `files`, `buffer` or `null`."},
}

// Markdown is docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made from conf/reference.go by "make docs". -->

YAML, or JSON and TOML by the same keys. Nothing is taken silently: an unknown key, a key that stands twice, a wrong
type and a value that cannot be meant are mistakes, and a configuration with a mistake neither starts nor replaces a
running one. ` + "`twinscribe check FILE`" + ` tells all mistakes of a file at once, with line and key. Commented examples are in
[conf/](../conf): [embedded](../conf/embedded.yaml) (what runs without a file), [two-clusters](../conf/two-clusters.yaml),
[ha](../conf/ha.yaml), [received](../conf/received.yaml), [categories](../conf/categories.yaml).

Sizes are whole numbers with B, KiB, MiB, GiB or TiB, powers of two. Durations have units: ` + "`500ms`, `2s`, `10m`, `24h`" + `.
`)
	for i, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if s.text != "" {
			fmt.Fprintf(&b, "%s\n\n", s.text)
		}
		b.WriteString("| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n")
		for _, k := range Reference() {
			if sectionOf(k.Path) == i {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `%s` |\n", k.Path, k.Type, k.defaultCell(), k.Meaning, k.Example)
			}
		}
	}
	return b.String()
}

// defaultCell is the default as the table has it.
func (k Key) defaultCell() string {
	switch {
	case k.Required:
		return "required"
	case k.Default == "":
		return "none"
	}
	return "`" + k.Default + "`"
}

// sectionOf is the last section whose prefix a key has.
func sectionOf(path string) int {
	best := 0
	for i, s := range sections {
		if strings.HasPrefix(path, s.prefix) {
			best = i
		}
	}
	return best
}
