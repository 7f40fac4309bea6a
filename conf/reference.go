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

	{Path: "fb303_version", Example: `"2.2"`, Meaning: "What getVersion of the Scribe interface answers; without it the program's version."},

	{Path: "limits.connections", Example: "20000", Meaning: "Connections at once; more are closed when they come."},
	{Path: "limits.connections_per_ip", Example: "100", Meaning: "The same of one address; 0 for no limit."},
	{Path: "limits.frame", Example: "64MiB", Meaning: "The largest Thrift frame, up to 256MiB; a larger one ends its connection."},
	{Path: "limits.frame_memory", Example: "1GiB", Meaning: "All frames together, from the first byte until their messages are in the queues; a call beyond it is answered TRY_LATER. Calls of more than 64KiB leave an eighth of it to smaller ones. Four frames at least, if it is not given."},
	{Path: "limits.entries", Example: "50000", Meaning: "Messages in one call."},
	{Path: "limits.message", Example: "1MiB", Meaning: "The largest message; a larger one goes to the dead letters."},
	{Path: "limits.memory", Example: "2GiB", Meaning: "Bytes of messages in all queues together, those being written included. Beyond it: TRY_LATER. The last eighth is for categories that hold a sixty-fourth of it at most."},
	{Path: "limits.queue", Example: "128MiB", Meaning: "The same of one category; others do not notice. A frame at least, and not more than `limits.memory`."},
	{Path: "limits.queue_admits", Example: "below", Meaning: "`fits`: a call is taken if its messages fit into `limits.queue`. `below`: a call of any size is taken while no more than `limits.queue` waits, as with Scribe; `limits.memory` bounds it."},
	{Path: "limits.categories", Example: "1000", Meaning: "Categories with a queue at once. Messages of a further one: TRY_LATER."},
	{Path: "limits.messages_per_second", Example: "100000", Meaning: "Messages that are taken in a second of the clock, over all categories; 0 for no limit. As in Scribe, a call with more than half of it is always taken and not counted. Beyond it: TRY_LATER."},

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
	{Path: "clusters[].folder", Example: "_twinscribe", Meaning: "Folder below the root for all that is ours but files with Scribe's names. Needed where there are such files, and then its name is `_twinscribe`. Empty: the root. What lies there already does not move when this changes."},
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
	{Path: "categories[].store.lossy", Example: "true", Meaning: "What it refuses is thrown away and counted as lost, in place of being tried again."},
	{Path: "categories[].store.optional", Example: "true", Meaning: "One of several `stores`: while its queue is full, messages are taken without it and counted as lost there, if another store takes them."},
	{Path: "categories[].stores", Example: "[{files: {cluster: n1}}, {files: {cluster: n2}}]", Meaning: "Several in place of `store`: each gets every message, and has a queue of its own."},
	{Path: "categories[].store.failover.prefer", Example: "first", Meaning: "`none`: stay at a place until it fails. `first`: go back to an earlier one when it is well again."},
	{Path: "categories[].store.failover.places", Required: true, Example: "[{files: {cluster: n1}}, {buffer: {}}]", Meaning: "Where batches go, first to last. Each is a store of kind `files`, no two on one cluster, `scribe_files` or `network`, or at the end `buffer`."},
	{Path: "categories[].store.failover.retry.interval", Example: "1m", Meaning: "A place that is no cluster and failed is left alone for this long."},
	{Path: "categories[].store.failover.retry.range", Example: "10s", Meaning: "More or less by half of this, at random."},
	{Path: "categories[].store.failover.retry.adaptive", Example: "true", Meaning: "Instead: for a time that grows by 1.414 and `offset` with each failure, and shrinks by 2 s with each success."},
	{Path: "categories[].store.failover.retry.min", Example: "1s", Meaning: "The shortest, if adaptive."},
	{Path: "categories[].store.failover.retry.max", Example: "1m", Meaning: "The longest."},
	{Path: "categories[].store.failover.retry.offset", Example: "5s", Meaning: "What is added to each at most, at random."},
	{Path: "categories[].store.files.cluster", Required: true, Example: "n1", Meaning: "Name of the cluster."},
	{Path: "categories[].store.files.partition", Example: "day", Meaning: "A folder for each `hour` or `day`, in UTC; the same in all places of a failover."},
	{Path: "categories[].store.files.max_size", Example: "512MiB", Meaning: "A file is sealed at this size, and the next one begun."},
	{Path: "categories[].store.files.idle", Example: "1h", Meaning: "A file without messages for so long is sealed."},
	{Path: "categories[].store.files.scribe.file_path", Example: "web", Meaning: "Folder, below the cluster's root; without it the root."},
	{Path: "categories[].store.files.scribe.base_filename", Example: "web", Meaning: "What their names begin with; `per_category` needs none, and one exact category has its name."},
	{Path: "categories[].store.files.scribe.sub_directory", Example: "host1", Meaning: "A folder more, behind that of the category."},
	{Path: "categories[].store.files.scribe.per_category", Example: "true", Meaning: "A folder and a name for each category: `file_path/web/web_00000`. Otherwise all categories of the rule share one file."},
	{Path: "categories[].store.files.scribe.rotate_period", Example: "daily", Meaning: "A file is replaced `hourly`, `daily`, after a duration, or `never`, by local time. Its name has the date unless it is never."},
	{Path: "categories[].store.files.scribe.rotate_hour", Example: "2", Meaning: "Daily: not before this hour."},
	{Path: "categories[].store.files.scribe.rotate_minute", Example: "30", Meaning: "Daily and hourly: not before this minute."},
	{Path: "categories[].store.files.scribe.create_symlink", Example: "false", Meaning: "`<name>_current` names the newest file (a small file with its name in it)."},
	{Path: "categories[].store.files.scribe.base_symlink_name", Example: "web", Meaning: "The name of it, if it is not that of the files."},
	{Path: "categories[].store.files.scribe.add_newlines", Example: "true", Meaning: "A line feed behind every message, also one that brings its own."},
	{Path: "categories[].store.scribe_files.file_path", Required: true, Example: "/var/log/scribe", Meaning: "Folder of the files."},
	{Path: "categories[].store.scribe_files.base_filename", Example: "web", Meaning: "What their names begin with; `per_category` needs none, and one exact category has its name."},
	{Path: "categories[].store.scribe_files.sub_directory", Example: "host1", Meaning: "A folder more, behind that of the category."},
	{Path: "categories[].store.scribe_files.per_category", Example: "true", Meaning: "A folder and a name for each category: `file_path/web/web_00000`. Otherwise all categories of the rule share one file."},
	{Path: "categories[].store.scribe_files.rotate_period", Example: "daily", Meaning: "A file is replaced `hourly`, `daily`, after a duration, or `never`, by local time. Its name has the date unless it is never."},
	{Path: "categories[].store.scribe_files.rotate_hour", Example: "2", Meaning: "Daily: not before this hour."},
	{Path: "categories[].store.scribe_files.rotate_minute", Example: "30", Meaning: "Daily and hourly: not before this minute."},
	{Path: "categories[].store.scribe_files.create_symlink", Example: "false", Meaning: "`<name>_current` names the newest file."},
	{Path: "categories[].store.scribe_files.base_symlink_name", Example: "web", Meaning: "The name of it, if it is not that of the files."},
	{Path: "categories[].store.scribe_files.add_newlines", Example: "true", Meaning: "A line feed behind every message, also one that brings its own."},
	{Path: "categories[].store.scribe_files.max_size", Example: `100MiB`, Meaning: "A file that is larger is replaced; 0 for no bound."},
	{Path: "categories[].store.scribe_files.max_write_size", Example: `4MiB`, Meaning: "A batch is written in pieces of this size; 0 for all of it at once."},
	{Path: "categories[].store.scribe_files.write_meta", Example: `true`, Meaning: "The last line of a replaced file names the next one."},
	{Path: "categories[].store.scribe_files.write_category", Example: `true`, Meaning: "A line with the category before each message."},
	{Path: "categories[].store.scribe_files.write_stats", Example: `true`, Meaning: "A line in `scribe_stats` for each replaced file."},
	{Path: "categories[].store.scribe_files.chunk_size", Example: `64MiB`, Meaning: "No message crosses a multiple of this: zero bytes are written before it; 0 for none."},
	{Path: "categories[].store.scribe_files.rotate_on_reopen", Example: `true`, Meaning: "A new file each time one is opened, and after each reload, in place of going on with the newest."},
	{Path: "categories[].store.network.servers", Required: true, Example: `["agg1:1463", "agg2:1463"]`, Meaning: "Where batches are sent: one of these, and another one when it fails."},
	{Path: "categories[].store.network.timeout", Example: `5s`, Meaning: "One call, from connecting to its answer. More than the server's `timeouts.ack`."},
	{Path: "categories[].store.network.shared", Example: `true`, Meaning: "One connection for all stores with the same servers, in place of one for each category."},
	{Path: "categories[].store.network.batch_ids", Example: `false`, Meaning: "Calls are numbered, so that a twinscribe takes each once however often it is sent. An original Scribe passes over the number."},
	{Path: "categories[].store.network.quiet", Example: `true`, Meaning: "A server that cannot be reached does not make the status a warning."},
	{Path: "categories[].store.bucket.by", Example: `key_modulo`, Meaning: "`key_hash` or `key_modulo` of the text before the delimiter, `key_range` of it, the number that `context_log` lines have, or `random`. Scribe's bucket numbers."},
	{Path: "categories[].store.bucket.delimiter", Example: `58`, Meaning: "Code of the character that ends the key."},
	{Path: "categories[].store.bucket.range", Example: `1000`, Meaning: "`key_range` only: keys from 0 up to this are spread."},
	{Path: "categories[].store.bucket.remove_key", Example: `true`, Meaning: "Messages are stored without key and delimiter."},
	{Path: "categories[].store.bucket.stores", Required: true, Example: `[{null: {}}, {network: {servers: ["a:1463"]}}]`, Meaning: "The first is for messages without a key, the others are buckets 1, 2, and so on. Each has a queue of its own."},
	{Path: "categories[].store.buffer.max_bytes", Example: "50GiB", Meaning: "As `buffer.max_bytes`: there is one buffer for all stores. Of a spool: all spools below its `path` together, 50GiB without it."},
	{Path: "categories[].store.buffer.replay", Example: "auto", Meaning: "As `buffer.replay`."},
	{Path: "categories[].store.buffer.path", Example: "/data/spool", Meaning: "Behind places that are no clusters each category has a spool: below this folder. Without it: `spool` in the state folder. It goes on to the first place that can take it."},
	{Path: "categories[].store.buffer.order", Example: "live-first", Meaning: "Of a spool: `keep`, new messages wait behind those in it; `live-first`, they do not."},
	{Path: "categories[].store.buffer.live_below", Example: "50", Meaning: "With `live-first`: the spool waits while the queue holds more than so many percent of `limits.queue`."},
	{Path: "categories[].store.buffer.framed.path", Required: true, Example: "/data/scribe", Meaning: "Folder of files that the buffer stores of an original Scribe have left. They are sent on first, and deleted then."},
	{Path: "categories[].store.buffer.framed.form", Example: "two", Meaning: "`one` frame for each message, or `two`, with the category's before it (new_thread_per_category=no)."},
	{Path: "categories[].store.buffer.framed.base", Example: "web", Meaning: "What their names begin with, if they lie in the folder itself; otherwise it has a folder for each category."},
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
		for _, f := range fieldsOf(t) {
			if keyOf(f) == name {
				v = v.FieldByIndex(f.Index)
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
	{"categories[].", "categories", "A list of rules. Each has a `store` of one kind: `failover`, `files`, `scribe_files`, `network`, `bucket`, `buffer` or `null`."},
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
[ha](../conf/ha.yaml), [received](../conf/received.yaml), [categories](../conf/categories.yaml);
in the grammar of the original Scribe: [central](../conf/scribe-central.conf), [leaf](../conf/scribe-leaf.conf), [buckets](../conf/scribe-buckets.conf).
What becomes of such a file is on [a page of its own](migrating-from-scribe.md).

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
