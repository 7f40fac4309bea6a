package conf

import (
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// idForm is what an aggregator's id may be: it stands in names of files.
var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// leastWrite is the shortest timeouts.write: less is no time for any pipeline.
const leastWrite = 100 * time.Millisecond

// check looks at the values of a configuration together.
type check struct {
	c *Config
	r *report
}

// add reports a mistake, unless something at its place is wrong already.
func (k check) add(path, format string, args ...any) {
	if !k.r.suspect(path) {
		k.r.add(path, format, args...)
	}
}

func (k check) warn(path, format string, args ...any) { k.r.warn(path, format, args...) }

func (k check) all() {
	c := k.c
	if c.ID != "" && !idForm.MatchString(c.ID) {
		k.add("id", "%q: want up to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit", c.ID)
	}
	k.folder("state", c.State, "/var/lib/twinscribe")
	k.oneOf("ack", c.Ack, "stored", "received")
	k.oneOf("unrouted", c.Unrouted, "keep", "refuse")
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "json", "console")
	k.listen()
	k.limits()
	k.times()
	k.buffer()
	k.clusters()
	k.categories()
	k.spools()
}

// oneOf wants one of a few words.
func (k check) oneOf(path, v string, allowed ...string) bool {
	if slices.Contains(allowed, v) {
		return true
	}
	want := "want " + strings.Join(allowed[:len(allowed)-1], ", ") + " or " + allowed[len(allowed)-1]
	if near := nearest(v, allowed); near != "" {
		want = "did you mean " + near + "? " + want
	}
	k.add(path, "%q: %s", v, want)
	return false
}

// count wants a whole number.
func (k check) count(path string, n, low, high int) {
	if n < low || n > high {
		k.add(path, "%d: want %d to %d", n, low, high)
	}
}

// size wants a size.
func (k check) size(path string, s, low, high Size) bool {
	if s < low || s > high {
		k.add(path, "%v: want %v to %v", s, low, high)
		return false
	}
	return true
}

// time wants a duration.
func (k check) time(path string, d, low, high time.Duration) bool {
	if d < low || d > high {
		k.add(path, "%s: want %s to %s", durationText(d), durationText(low), durationText(high))
		return false
	}
	return true
}

// least wants a size that is not below another setting.
func (k check) least(path string, s Size, other string, low Size, why string) {
	if s < low {
		k.add(path, "%v is less than %s, %v: %s", s, other, low, why)
	}
}

func (k check) limits() {
	l, q := k.c.Limits, k.c.Queue
	const (
		largestFrame = 256 * MiB // the Thrift server's bound
		envelope     = KiB       // what a frame holds beside one message, its category apart
		largest      = 1 << 50
	)
	k.count("limits.connections", l.Connections, 1, 1_000_000)
	k.count("limits.connections_per_ip", l.ConnectionsPerIP, 0, 1_000_000)
	k.count("limits.entries", l.Entries, 1, 10_000_000)
	k.count("limits.categories", l.Categories, 1, 1_000_000)
	k.size("limits.frame", l.Frame, 4*KiB, largestFrame)
	if k.size("limits.message", l.Message, KiB, largestFrame-envelope) {
		k.least("limits.frame", l.Frame, "limits.message + 1KiB", l.Message+envelope, "no frame could hold the largest message")
	}
	if l.QueueAdmits == QueueAdmitsBelow {
		k.size("limits.queue", l.Queue, 1, largest)
	} else if k.size("limits.queue", l.Queue, 64*KiB, largest) {
		k.least("limits.queue", l.Queue, "limits.frame", l.Frame, "a call is taken whole, so its category's queue must hold it")
	}
	if k.size("limits.memory", l.Memory, 64*KiB, largest) {
		k.least("limits.memory", l.Memory, "limits.queue", l.Queue, "one category could never reach its own limit")
	}
	k.oneOf("limits.queue_admits", l.QueueAdmits, QueueAdmitsFits, QueueAdmitsBelow)
	k.count("limits.messages_per_second", l.MessagesPerSecond, 0, math.MaxInt32)
	k.least("limits.frame_memory", l.FrameMemory, "limits.frame", l.Frame, "the largest frame could never be read")
	if k.size("queue.max_batch", q.MaxBatch, 4*KiB, 256*MiB) {
		k.size("queue.batch_bytes", q.BatchBytes, 1, q.MaxBatch)
	}
	k.count("visibility_seals", k.c.Seals, 1, 3600)
}

func (k check) times() {
	t := k.c.Timeouts
	const day = 24 * time.Hour
	if k.time("timeouts.write", t.Write, leastWrite, 10*time.Minute) &&
		k.time("timeouts.ack", t.Ack, time.Second, day) && t.Ack <= t.Write+time.Second {
		k.add("timeouts.ack", "%s: want more than timeouts.write + 1s, %s, within which a batch is stored or given back",
			durationText(t.Ack), durationText(t.Write+time.Second))
	}
	k.time("timeouts.stop", t.Stop, time.Second, day)
	k.time("timeouts.frame", t.Frame, 10*time.Millisecond, day)
	k.time("timeouts.idle", t.Idle, 10*time.Millisecond, 365*day)
	k.time("timeouts.reply", t.Reply, 10*time.Millisecond, day)
	k.time("queue.batch_wait", k.c.Queue.BatchWait, 0, time.Minute)
	k.time("buffer.keep", k.c.Buffer.Keep, 0, 365*day)
	k.time("visible_within", k.c.VisibleIn, time.Second, day)
	if d := k.c.Retention.Inventory; d != 0 && d < day {
		k.add("retention.inventory", "%s: want 24h or more, or 0s to keep inventories for ever", durationText(d))
	}
}

func (k check) buffer() {
	b, l := k.c.Buffer, k.c.Limits
	if k.r.said["buffer.replay"] {
		k.oneOf("buffer.replay", b.Replay, "never", "auto")
	}
	if k.oneOf("buffer.sync", b.Sync, "group", "each", "none") && b.Sync == "none" {
		k.warn("buffer.sync", "none: a power cut loses acknowledged messages")
	}
	if b.Path != "" && k.folder("buffer.path", b.Path, "/var/lib/twinscribe/buffer") {
		own := filepath.Join(k.c.State, "buffer")
		switch {
		case inside(k.c.State, b.Path):
			k.add("buffer.path", "%s holds the state folder, %s: want a folder of its own", b.Path, k.c.State)
		case inside(b.Path, k.c.State) && !inside(b.Path, own):
			k.add("buffer.path", "%s lies in the state folder, among the program's own files: want %s, or a folder elsewhere", b.Path, own)
		}
	}
	if k.size("buffer.segment", b.Segment, MiB, GiB) && b.Segment > b.MaxBytes {
		k.add("buffer.segment", "%v is more than buffer.max_bytes, %v", b.Segment, b.MaxBytes)
	}
	largest := max(k.c.Queue.MaxBatch, l.Message)
	k.least("buffer.max_bytes", b.MaxBytes, "the largest batch + 1MiB", largest+MiB, "it could never be stored")
	for _, part := range []struct {
		path string
		size Size
	}{{"buffer.dead_letters", b.DeadLetters}, {"buffer.unrouted", b.Unrouted}} {
		if part.size > b.MaxBytes {
			k.add(part.path, "%v is more than buffer.max_bytes, %v", part.size, b.MaxBytes)
		}
	}
	if b.DeadLetters < l.Frame {
		k.warn("buffer.dead_letters", "%v is less than limits.frame, %v: a call with an over-long message may be refused for ever", b.DeadLetters, l.Frame)
	}
	for path, p := range k.c.bufferPlaces() {
		if p.MaxBytes != b.MaxBytes {
			k.add(join(path, "max_bytes"), "%v here and %v elsewhere: all chains share one buffer, so say it once, as buffer.max_bytes", p.MaxBytes, b.MaxBytes)
		}
		if k.r.said[join(path, "replay")] && k.oneOf(join(path, "replay"), p.Replay, "never", "auto") && p.Replay != b.Replay {
			k.add(join(path, "replay"), "%s here and %s elsewhere: all chains share one buffer, so say it once, as buffer.replay", p.Replay, b.Replay)
		}
	}
}
