package conf

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"twinscribe/conf/scribe"
)

// A plan is one way that every message of a store goes: a bucket store, whose
// stores are lines of places, or one such line.
type plan struct {
	bucket   *Bucket // its Stores are filled in from parts
	parts    []plan
	places   []Store
	spool    bool // the last place is a buffer
	retry    *Retry
	optional bool // of a multi store of which any will do
}

// expand makes the plans of a store. model says that it is copied for each
// category that comes.
func (g *migration) expand(s *scribe.Section, model bool) []plan {
	switch kind := s.Text("type", ""); kind {
	case "file":
		return g.file(s, model)
	case "null":
		return []plan{{places: []Store{{Null: &Null{}}}}}
	case "network":
		return g.network(s)
	case "buffer":
		return g.buffer(s, model)
	case "bucket":
		return g.bucket(s, model)
	case "multi":
		return g.multi(s, model)
	case "category":
		if inner := s.Section("model"); inner != nil {
			return g.expand(inner, true)
		}
		s.AddError("", "a category store without a <model>", "write one: the store that each category gets")
	case "multifile":
		return g.file(s, true)
	case "thriftfile", "thriftmultifile":
		s.AddError("type", kind+" wrote Thrift's own file format, which nothing reads any more", "write type=file, or multifile")
	case "":
		s.AddError("", "a store without type", "write type=file, buffer, network, bucket, multi, category or null")
	default:
		s.AddError("type", fmt.Sprintf("there is no store of type %q", short(kind)), "write file, buffer, network, bucket, multi, category or null")
	}
	return nil
}

// defaultFilePath is where Scribe puts files that no file_path is said for.
const defaultFilePath = "/tmp"

// clock reads an hour or a minute.
func clock(s *scribe.Section, key string, otherwise, most uint64) int {
	n := s.Uint(key, otherwise)
	if n > most {
		s.AddError(key, fmt.Sprintf("%d never comes", n), fmt.Sprintf("write 0 to %d", most))
		n = otherwise
	}
	return whole(n)
}

// names reads what files of Scribe's have on a disk and on a cluster.
func (g *migration) names(s *scribe.Section, model bool) ScribeNames {
	n := ScribeNames{
		FilePath:     s.Text("file_path", defaultFilePath),
		BaseFilename: cmp.Or(s.Text("base_filename", ""), g.base),
		SubDirectory: s.Text("sub_directory", ""),
		PerCategory:  model,
		RotateHour:   clock(s, "rotate_hour", 1, 23),
		RotateMinute: clock(s, "rotate_minute", 15, 59),
		AddNewlines:  s.Flag("add_newlines", false),
		Link:         s.Bool("create_symlink", true),
		LinkName:     s.Text("base_symlink_name", ""),
	}
	if s.Bool("use_hostname_sub_directory", false) {
		host, err := os.Hostname()
		if err != nil {
			s.AddError("use_hostname_sub_directory", "the host has no name: "+err.Error(), "write sub_directory")
		}
		n.SubDirectory = host
	}
	switch r := s.Rotation("rotate_period", scribe.Rotation{}); r.Kind {
	case scribe.RotateNever:
		n.RotatePeriod = "never"
	case scribe.RotateHourly:
		n.RotatePeriod = "hourly"
	case scribe.RotateDaily:
		n.RotatePeriod = "daily"
	case scribe.RotateEvery:
		n.RotatePeriod = durationText(r.Every)
	}
	if model {
		n.BaseFilename = ""
	}
	return n
}

// file makes a store of files, on the disk or on a cluster.
func (g *migration) file(s *scribe.Section, model bool) []plan {
	n := g.names(s, model)
	f := &ScribeFiles{
		ScribeNames:    n,
		MaxSize:        size(s.Uint("max_size", 1_000_000_000)),
		MaxWriteSize:   size(s.Uint("max_write_size", 1_000_000)),
		WriteMeta:      s.Bool("write_meta", false),
		WriteCategory:  s.Bool("write_category", false),
		WriteStats:     s.Bool("write_stats", false),
		ChunkSize:      size(s.Uint("chunk_size", 0)),
		RotateOnReopen: s.Bool("rotate_on_reopen", false),
	}
	kind := s.Text("fs_type", "std")
	if strings.HasPrefix(n.FilePath, "hdfs:") {
		kind = "hdfs"
	}
	switch kind {
	case "std":
		see(&g.folders, s, n.FilePath)
		return []plan{{places: []Store{{ScribeFiles: f}}}}
	case "hdfs":
		files := &Files{Partition: "hour", Idle: 10 * time.Minute, Scribe: &n}
		files.MaxSize = min(max(cmp.Or(f.MaxSize, GiB), MiB), TiB)
		if !g.onCluster(s, files) {
			return nil
		}
		return []plan{{places: []Store{{Files: files}}}}
	}
	s.AddError("fs_type", fmt.Sprintf("there is no file system %q", short(kind)), "write std or hdfs")
	return nil
}

// network makes a store that forwards.
func (g *migration) network(s *scribe.Section) []plan {
	gone := false
	for _, k := range scribeKeys {
		if k.Of == "network" && k.Verdict == Refused {
			if _, there := s.Lookup(k.Key); there {
				s.AddError(k.Key, "what it rests on is gone", k.Text)
				gone = true
			}
		}
	}
	if gone {
		return nil
	}
	n := &Network{
		Timeout:  time.Duration(min(s.Uint("timeout", 5000), math.MaxInt32)) * time.Millisecond,
		Shared:   s.Bool("use_conn_pool", false),
		Quiet:    s.Bool("ignore_network_error", false),
		BatchIDs: true,
	}
	list := s.List("service_list")
	port := s.Uint("list_default_port", 0)
	host := s.Text("remote_host", "")
	if len(list) == 0 && host != "" {
		list, port = []string{host}, s.Uint("remote_port", 0)
	}
	if len(list) == 0 {
		s.AddError("", "a network store without a server", "write remote_host and remote_port, or service_list")
	}
	for _, server := range list {
		if _, _, err := net.SplitHostPort(server); err != nil {
			if port == 0 || port > 65535 {
				s.AddError("", fmt.Sprintf("%q has no port", short(server)), "write remote_port, or list_default_port")
				continue
			}
			server = net.JoinHostPort(server, strconv.FormatUint(port, 10))
		}
		if !slices.Contains(n.Servers, server) {
			n.Servers = append(n.Servers, server)
		}
	}
	if len(n.Servers) == 0 { // why is told
		return nil
	}
	return []plan{{places: []Store{{Network: n}}}}
}

// multi makes the plans of all children.
func (g *migration) multi(s *scribe.Section, model bool) []plan {
	how := s.Text("report_success", "all")
	if how != "all" && how != "any" {
		s.AddError("report_success", fmt.Sprintf("%q is neither all nor any", short(how)), "write one of them")
	}
	var plans []plan
	first := 0
	if s.Section("store0") == nil {
		first = 1
	}
	for i := first; ; i++ {
		inner := s.Section("store" + strconv.Itoa(i))
		if inner == nil {
			break
		}
		plans = append(plans, g.expand(inner, model)...)
	}
	for i := range plans {
		plans[i].optional = how == "any"
	}
	if len(plans) == 0 {
		s.AddError("", "a multi store without stores", "write <store0>, <store1>, or <store> for each")
	}
	return plans
}

// retryOf reads when a primary that failed is tried again.
func (g *migration) retryOf(s *scribe.Section) *Retry {
	r := &Retry{
		Interval: seconds(s.Uint("retry_interval", 300)),
		Range:    seconds(s.Uint("retry_interval_range", 60)),
		Adaptive: s.Bool("adaptive_backoff", false),
		Min:      seconds(s.Uint("min_retry_interval", 5)),
		Max:      seconds(s.Uint("max_retry_interval", 100)),
		Offset:   seconds(s.Uint("max_random_offset", 20)),
	}
	if r.Min > r.Max { // as Scribe does
		r.Min, r.Max = 5*time.Second, 100*time.Second
	}
	r.Range, r.Offset = min(r.Range, r.Interval), min(r.Offset, r.Max)
	return r
}

// buffer makes a failover of primary and secondary.
func (g *migration) buffer(s *scribe.Section, model bool) []plan {
	retry := g.retryOf(s)
	replay := s.Bool("replay_buffer", true)
	s.Uint("buffer_send_rate", 1)
	order := "keep"
	if s.Bool("flush_streaming", false) {
		order = "live-first"
	}
	ratio := s.Ratio("buffer_bypass_max_ratio", 0.75)
	first, second := s.Section("primary"), s.Section("secondary")
	if first == nil || second == nil {
		s.AddError("", "a buffer store without <primary> or <secondary>", "write both: Scribe puts files into "+defaultFilePath+" in their place")
		return nil
	}
	plans := g.expand(first, model)
	if len(plans) != 1 {
		if len(plans) > 1 {
			first.AddError("type", "a multi store as primary: Scribe does not take it either", "write a multi store of buffer stores")
		}
		return nil
	}
	last, ok := g.secondary(second, model, replay)
	if !ok {
		return nil
	}
	if b := last.places[len(last.places)-1].Buffer; b != nil && replay {
		b.Order, b.LiveBelow = order, max(1, int(ratio*100))
	}
	whole := &plans[0]
	lines := []*plan{whole}
	if whole.bucket != nil {
		if last.spool {
			second.AddWarning("", "files that Scribe has left there are not divided: all of their messages go to bucket 0",
				"wait until the original has sent them before it is stopped")
		}
		lines = nil
		for i := range whole.parts {
			lines = append(lines, &whole.parts[i])
		}
	}
	for _, l := range lines {
		if !l.behind(s, &last) {
			return nil
		}
		l.retry = cmp.Or(l.retry, retry)
		g.hold(l, retry)
		g.share(l)
	}
	return plans
}

// behind puts another line behind this one.
func (p *plan) behind(s *scribe.Section, last *plan) bool {
	switch {
	case p.places[0].Null != nil:
		s.AddError("", "a null store as primary never fails", "write the null store alone")
		return false
	case p.spool:
		s.AddWarning("", "its primary has a buffer of its own, which takes everything: the secondary is never written to", "remove one of the two")
		return true
	}
	for i := range last.places {
		at := last.places[i]
		if at.Buffer != nil { // each line has one of its own
			b := *at.Buffer
			at.Buffer = &b
		}
		p.places = append(p.places, at)
	}
	p.spool = last.spool
	p.retry = cmp.Or(last.retry, p.retry)
	return true
}

// secondary makes the line of a secondary.
func (g *migration) secondary(s *scribe.Section, model, replay bool) (plan, bool) {
	if replay {
		const instead = "write type=file with fs_type=std and a local file_path, or replay_buffer=no"
		if kind := s.Text("type", ""); kind != "file" {
			s.AddError("type", fmt.Sprintf("a secondary of type %q cannot be sent back", short(kind)), instead)
			return plan{}, false
		}
		n := g.names(s, model)
		if strings.HasPrefix(n.FilePath, "hdfs:") {
			s.AddError("file_path", "a secondary on HDFS cannot be sent back", instead)
			return plan{}, false
		}
		if kind := s.Text("fs_type", "std"); kind != "std" {
			s.AddError("fs_type", fmt.Sprintf("a secondary on %q cannot be sent back", short(kind)), instead)
			return plan{}, false
		}
		for _, key := range []string{"max_size", "max_write_size", "chunk_size"} {
			s.Uint(key, 0)
		}
		for _, key := range []string{"write_meta", "write_stats", "rotate_on_reopen"} {
			s.Bool(key, false)
		}
		see(&g.buffers, s, n.FilePath)
		b := elementOf[BufferPlace]()
		b.Path, b.MaxBytes, b.Replay = n.FilePath, TiB, "auto" // Scribe has no limit but the disk
		b.Framed = &Framed{Path: n.FilePath, Form: "one", Base: n.BaseFilename}
		if s.Bool("write_category", false) || g.several {
			b.Framed.Form = "two"
		}
		if n.SubDirectory != "" {
			s.AddWarning("sub_directory", "a buffer has no folder more", "move what lies there to file_path before the first start")
		}
		return plan{places: []Store{{Buffer: &b}}, spool: true}, true
	}
	plans := g.expand(s, model)
	switch {
	case len(plans) == 1 && plans[0].bucket == nil && plans[0].places[0].Null == nil:
		return plans[0], true
	case len(plans) == 1 && plans[0].bucket == nil:
		s.AddError("type", "a null secondary throws messages away whenever the primary fails", "write must_succeed=no in place of the buffer store")
	case len(plans) > 0:
		s.AddError("type", "a secondary that is a "+s.Text("type", "")+" store", "write a "+s.Text("type", "")+" store of buffer stores")
	}
	return plan{}, false
}

// bucket divides messages among the plans of its buckets.
func (g *migration) bucket(s *scribe.Section, model bool) []plan {
	b := Bucket{
		By: s.Text("bucket_type", "context_log"), Delimiter: whole(s.Uint("delimiter", ':')),
		Range: whole(s.Uint("bucket_range", 0)), RemoveKey: s.Bool("remove_key", false),
	}
	if !slices.Contains([]string{"key_hash", "key_modulo", "key_range", "context_log", "random"}, b.By) {
		s.AddWarning("bucket_type", fmt.Sprintf("%q is context_log to Scribe", short(b.By)), "write context_log, random, key_hash, key_modulo or key_range")
		b.By = "context_log"
	}
	if b.RemoveKey && b.By == "context_log" {
		s.AddError("remove_key", "a message of context_log has no key that could be removed", "remove the key")
		b.RemoveKey = false
	}
	const most = 10_000
	n := whole(s.Uint("num_buckets", 0))
	if n == 0 || n > most {
		s.AddError("num_buckets", fmt.Sprintf("%d buckets", n), fmt.Sprintf("write 1 to %d", most))
		return nil
	}
	var copies [][]plan // by bucket
	if template := s.Section("bucket"); template != nil {
		copies = g.template(s, template, n, model)
	} else {
		for i := range n + 1 {
			inner := s.Section("bucket" + strconv.Itoa(i))
			if inner == nil {
				s.AddError("", fmt.Sprintf("<bucket%d> is missing", i), fmt.Sprintf("write <bucket0> to <bucket%d>, or one <bucket> for all", n))
				return nil
			}
			copies = append(copies, g.expand(inner, model))
		}
	}
	var plans []plan
	if slices.ContainsFunc(copies, func(c []plan) bool { return len(c) == 0 }) { // why is told
		return nil
	}
	for i, c := range copies {
		for j, one := range c {
			if one.bucket != nil {
				s.AddError("", "a bucket store inside a bucket store", "write one with as many buckets as both together")
				return nil
			}
			if i == 0 {
				own := b
				plans = append(plans, plan{bucket: &own, optional: one.optional})
			}
			if one.optional = false; j < len(plans) { // the whole is, or is not
				plans[j].parts = append(plans[j].parts, one)
			}
		}
		if len(c) != len(plans) {
			s.AddError("", "its buckets are multi stores of different numbers of stores", "give each as many")
			return nil
		}
	}
	return plans
}

// template makes the buckets of one <bucket>.
func (g *migration) template(s, t *scribe.Section, n int, model bool) [][]plan {
	sub, hasSub := s.Lookup("bucket_subdir")
	if kind := t.Text("type", ""); kind != "file" || !hasSub {
		s.AddError("", "a <bucket> for all wants type=file, and bucket_subdir beside it", "write both, or <bucket0> and so on")
		return nil
	}
	offset := whole(s.Uint("bucket_offset", 0))
	failure := s.Text("failure_bucket", "")
	var all [][]plan
	for i := range n + 1 {
		folder := fmt.Sprintf("%s%03d", sub.Text, i+offset)
		if i == 0 && failure != "" {
			folder = failure
		}
		plans := g.file(t, model)
		if len(plans) == 0 {
			return nil
		}
		switch p := &plans[0].places[0]; {
		case p.ScribeFiles != nil:
			p.ScribeFiles.FilePath = filepath.Join(p.ScribeFiles.FilePath, folder)
		case p.Files != nil:
			p.Files.Scribe.FilePath = path.Join(p.Files.Scribe.FilePath, folder)
		}
		all = append(all, plans)
	}
	return all
}
