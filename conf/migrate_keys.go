package conf

// A Verdict says what becomes of a key of Scribe's.
type Verdict string

// The verdicts.
const (
	Same    Verdict = "same"      // it means what it means to Scribe
	Better  Verdict = "better"    // what it is for is reached in a way that loses less or needs less
	Unused  Verdict = "no effect" // nothing here needs it
	Refused Verdict = "refused"   // what it rests on is gone; the file does not start
	Added   Verdict = "ours"      // not Scribe's
	Unknown Verdict = "unknown"   // Scribe passes over it
)

// A ScribeKey is one key of Scribe's grammar and what becomes of it.
type ScribeKey struct {
	Key     string
	Of      string // server, store (any at the top level), or types of store, with blanks between
	Verdict Verdict
	Text    string
}

// ScribeKeys are all keys of Scribe 2.2, and those that we add, in the order of
// the page.
func ScribeKeys() []ScribeKey { return scribeKeys }

var scribeKeys = []ScribeKey{
	{"port", "server", Same, "the port of the interface, on all addresses; it counts more than -p"},
	{"max_msg_per_second", "server", Same, "messages of the whole server in one second of the clock; a call of more than half of it is always taken"},
	{"max_queue_size", "server", Better, "bytes that wait in a queue when a call is refused; only the queues of the call's own categories count. All queues together hold 512 MiB, or as much as one may"},
	{"check_interval", "server", Unused, "files and places are looked at each second"},
	{"max_conn", "server", Same, "connections at once, 10,000 where it is 0"},
	{"num_thrift_server_threads", "server", Unused, "calls do not wait for threads"},
	{"new_thread_per_category", "server", Same, "yes: each category of a prefix, a list or default has files of its own; no: they share those of the store, and on HDFS its names, each with files of its own. Each has a queue of its own either way"},
	{"ack", "server", Added, "received: OK means in memory, as with Scribe; stored: on HDFS, on the disk, or at the next server"},
	{"hdfs_folder", "server", Added, "folder on every HDFS in which _twinscribe lies; without it that of the first store there: give it where servers with different files share an HDFS"},
	{"state", "server", Added, "folder of the server's own; without it in the folder of a buffer in front of HDFS, else /var/lib/twinscribe/PORT, else another one (The state folder, above); check tells which"},
	{"http", "server", Added, "where status and metrics are: 127.0.0.1 and the port and 13167, so 14630 for 1463; from 52369 on the port less 13167"},
	{"id", "server", Added, "name of this server in manifests; without it the host's name and four digits"},

	{"category", "store", Same, "an exact name, a prefix and *, or default"},
	{"categories", "store", Same, "a list of these"},
	{"type", "store", Same, "the kind of store"},
	{"target_write_size", "store", Same, "bytes with which a queue is written at once; the smallest of all stores holds for each"},
	{"max_write_interval", "store", Same, "the longest a message waits before it is written; the shortest of all stores holds for each"},
	{"must_succeed", "store", Same, "no: what the store refuses is thrown away and counted as lost"},

	{"file_path", "file multifile", Same, "folder of the files, /tmp without it; hdfs://host:port/path, the port 8020 if there is none"},
	{"base_filename", "file multifile", Same, "what names begin with; not for the categories of a prefix, a list or default"},
	{"fs_type", "file multifile", Better, "std: files are written in place and never torn. hdfs: through our own client, acknowledged by the DataNodes, sealed under Scribe's name"},
	{"sub_directory", "file multifile", Same, "a folder more"},
	{"use_hostname_sub_directory", "file multifile", Same, "the host's name as that folder"},
	{"rotate_period", "file multifile", Same, "hourly, daily, never, or a time. Files on HDFS end at each full hour too"},
	{"rotate_hour", "file multifile", Same, "daily: not before it"},
	{"rotate_minute", "file multifile", Same, "daily and hourly: not before it"},
	{"max_size", "file multifile", Same, "a larger file is replaced; of a buffer: unused, its segments have 16 MiB, or 64 in front of an HDFS"},
	{"max_write_size", "file multifile", Same, "bytes of one write"},
	{"create_symlink", "file multifile", Same, "a link <name>_current to the newest file; on HDFS a small file with its name in it"},
	{"base_symlink_name", "file multifile", Same, "its name"},
	{"write_meta", "file multifile", Same, "a replaced file's last line names the next one; not on HDFS, where the manifest tells more"},
	{"write_category", "file multifile", Same, "a line with the category before each message; not on HDFS"},
	{"write_stats", "file multifile", Better, "a line for each replaced file, with the right number of messages; not on HDFS"},
	{"add_newlines", "file multifile", Same, "1: a line feed behind every message. On HDFS every message ends in one, 0 adds none where it has one"},
	{"chunk_size", "file multifile", Better, "no message crosses a multiple of it, in the whole file; not on HDFS"},
	{"rotate_on_reopen", "file multifile", Same, "a new number at each opening and after each reload; on HDFS always"},

	{"replay_buffer", "buffer", Better, "yes: in pieces, as fast as the primary takes them, torn frames passed over. no: the secondary is a place like the primary"},
	{"buffer_send_rate", "buffer", Unused, "a buffer is sent as fast as the primary takes it"},
	{"retry_interval", "buffer", Same, "how long a primary that failed is left alone; one that says TRY_LATER only for 1 s to 30 s. Of an HDFS: how long its probes must be good"},
	{"retry_interval_range", "buffer", Same, "more or less by half of it; 0 is possible"},
	{"adaptive_backoff", "buffer", Same, "yes: the wait grows with failures and shrinks with successes"},
	{"min_retry_interval", "buffer", Same, "its bound"},
	{"max_retry_interval", "buffer", Same, "its bound"},
	{"max_random_offset", "buffer", Same, "what is added at most"},
	{"flush_streaming", "buffer", Same, "yes: new messages do not wait behind those in the buffer"},
	{"buffer_bypass_max_ratio", "buffer", Same, "with it: of max_queue_size, above which the buffer waits"},

	{"remote_host", "network", Same, "the next server"},
	{"remote_port", "network", Same, "its port"},
	{"service_list", "network", Better, "servers of which one is used, another one when it fails"},
	{"list_default_port", "network", Same, "the port of those without one"},
	{"timeout", "network", Same, "milliseconds for connecting, and for each call"},
	{"use_conn_pool", "network", Same, "yes: one connection for all stores with the same server"},
	{"ignore_network_error", "network", Same, "yes: a server that is away does not show in the status"},
	{"smc_service", "network", Refused, "there is no such directory: write service_list"},
	{"service_options", "network", Refused, "it is of smc_service: remove it"},
	{"service_cache_timeout", "network", Refused, "it is of smc_service: remove it"},
	{"dynamic_config_type", "network", Refused, "there is no mapping service: write remote_host in each bucket, and reload when it changes"},
	{"bucket_updater_host", "network", Refused, "it is of dynamic_config_type: remove it"},
	{"bucket_updater_port", "network", Refused, "it is of dynamic_config_type: remove it"},
	{"bucket_updater_service", "network", Refused, "it is of dynamic_config_type: remove it"},
	{"bucket_updater_service_options", "network", Refused, "it is of dynamic_config_type: remove it"},
	{"bucket_updater_ttl", "network", Refused, "it is of dynamic_config_type: remove it"},
	{"bucket_id", "network", Refused, "it is of dynamic_config_type: remove it"},

	{"num_buckets", "bucket", Same, "buckets 1 to this; 0 is for messages without a key"},
	{"bucket_type", "bucket", Same, "context_log, random, key_hash, key_modulo or key_range: the same numbers"},
	{"delimiter", "bucket", Same, "code of the character behind the key"},
	{"bucket_range", "bucket", Same, "key_range: keys up to it"},
	{"remove_key", "bucket", Same, "yes: stored without key and delimiter"},
	{"bucket_subdir", "bucket", Same, "folder of each bucket, with its number in three digits"},
	{"bucket_offset", "bucket", Same, "what is added to that number"},
	{"failure_bucket", "bucket", Same, "folder of bucket 0"},

	{"report_success", "multi", Better, "all: each store has a queue of its own, and what one of them does not take is tried there again. any: so too, but a store whose queue is full is passed over"},
}
