//go:build integration

package dropin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs"
	"twinscribe/integration/lab"
)

// TestK7BufferStates: DISCONNECTED writes the secondary, SENDING_BUFFER what is left first, in order,
// STREAMING the primary; a start with leftovers sends them.
func TestK7BufferStates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, forwarding("default", central, filepath.Join(dir, "leaf")))
	out := filepath.Join(dir, "central", "states")
	send(t, leaf, "states", 0, 100) // the first state is DISCONNECTED
	waitFor(t, func() bool { status, _ := leaf.Fb303(); return status == warning }, func() string { return "no WARNING" })
	stopped(t, leaf)
	leaf.Start() // with leftovers
	send(t, leaf, "states", 100, 200)
	central.Start()
	inOrder(t, out, "states", "states", 200)
	waitFor(t, func() bool { status, _ := leaf.Fb303(); return status == alive }, func() string { _, details := leaf.Fb303(); return "WARNING: " + details })
	send(t, leaf, "states", 200, 300)
	inOrder(t, out, "states", "states", 300)
	stopped(t, central)
	send(t, leaf, "states", 300, 400)
	waitFor(t, func() bool { return leaf.Counters()["states:retries"] > 0 },
		func() string { return fmt.Sprintf("no retries are counted: %v", leaf.Counters()) })
	central.Start()
	inOrder(t, out, "states", "states", 400)
}

// TestK7LiveFirst: with flush_streaming new messages do not wait for the buffer; all are there once.
func TestK7LiveFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, forwarding("default", central, filepath.Join(dir, "leaf"), "flush_streaming=yes", "buffer_bypass_max_ratio=0.5"))
	send(t, leaf, "live", 0, 1000)
	central.Start()
	send(t, leaf, "live", 1000, 2000)
	once(t, filepath.Join(dir, "central", "live"), "live", "live", 2000)
}

// TestK7TwoClusters: a buffer in a buffer, folders for clusters. Both up: A. A away: B. Both away: the
// local buffer, which goes to the one that is back first. What was written to B stays there.
func TestK7TwoClusters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	waits := []string{"retry_interval=1", "retry_interval_range=0"}
	nested := inner("primary", append([]string{"type=buffer", "replay_buffer=no",
		inner("primary", "type=file", "file_path="+a, "base_filename=x", "add_newlines=1"),
		inner("secondary", "type=file", "file_path="+b, "base_filename=x", "add_newlines=1")}, waits...)...)
	s := started(t, store(append([]string{"category=two", "type=buffer", nested,
		inner("secondary", "type=file", "file_path="+filepath.Join(dir, "local"), "base_filename=x")}, waits...)...))
	step := func(message, folder, want string) {
		t.Helper()
		log(t, s, entry("two", message))
		holds(t, folder, "x", want)
	}
	step("1", a, "1\n")
	freeA := blocked(t, a)
	step("2", b, "2\n")
	freeB := blocked(t, b)
	log(t, s, entry("two", "3"))
	status, details := 0, ""
	waitFor(t, func() bool { status, details = s.Fb303(); return status == warning && strings.Contains(details, a) },
		func() string {
			return fmt.Sprintf("status %d %q, want WARNING with the trouble of %s", status, details, a)
		})
	freeB()
	holds(t, b, "x", "2\n3\n")
	step("4", b, "2\n3\n4\n")
	freeA()
	n := 5
	waitFor(t, func() bool { // the first that A has
		log(t, s, entry("two", fmt.Sprint(n)))
		n++
		return strings.Count(string(lab.ScribeText(t, a, "x")), "\n") > 1
	}, func() string { return "nothing goes to A again" })
	waitFor(t, func() bool { return len(lines(t, a, "x"))+len(lines(t, b, "x")) == n-1 }, func() string { return "a message is missing" })
	if text := string(lab.ScribeText(t, b, "x")); !strings.HasPrefix(text, "2\n3\n4\n") {
		t.Errorf("B has %q", text)
	}
	all := append(lines(t, a, "x"), lines(t, b, "x")...)
	slices.Sort(all)
	if len(slices.Compact(all)) != n-1 {
		t.Errorf("%d messages, some twice: %q", n-1, all)
	}
}

// leftovers writes the buffer files that an original left.
func leftovers(t *testing.T, folder, base string, number uint64, content []byte) string {
	t.Helper()
	path, err := framedtest.AppendFile(vfs.OS(), folder, base, number, content)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// frames are messages of a name in one form.
func frames(form framed.Form, category string, from, to int) (b []byte) {
	for n := from; n < to; n++ {
		b = framedtest.Append(b, form, category, fmt.Sprintf("%s-%d", category, n))
	}
	return b
}

// TestOldBuffers: a folder of framed files as an original leaves them: whole, torn, with an empty
// message. Every good message is delivered, what is none is counted and kept.
func TestOldBuffers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := filepath.Join(dir, "leaf")
	whole := leftovers(t, filepath.Join(spool, "whole"), "whole", 0, frames(framed.OneFrame, "whole", 0, 500))
	leftovers(t, filepath.Join(spool, "whole"), "whole", 1, frames(framed.OneFrame, "whole", 500, 1000))
	torn := frames(framed.OneFrame, "torn", 0, 11)
	cut := append(bytes.Clone(torn[:len(torn)-3]), frames(framed.OneFrame, "torn", 11, 20)...) // the 11th is cut, the original went on behind it
	leftovers(t, filepath.Join(spool, "torn"), "torn", 0, cut)
	empty := append(append(frames(framed.OneFrame, "empty", 0, 3), 0, 0, 0, 0), frames(framed.OneFrame, "empty", 3, 103)...)
	leftovers(t, filepath.Join(spool, "empty"), "empty", 0, empty)

	central := started(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, forwarding("default", central, spool))
	for category, n := range map[string]int{"whole": 1000, "empty": 103} {
		send(t, leaf, category, n, n+10) // behind what is there
		inOrder(t, filepath.Join(dir, "central", category), category, category, n+10)
	}
	send(t, leaf, "torn", 20, 30)
	var want strings.Builder
	for n := range 30 {
		if n != 10 {
			fmt.Fprintf(&want, "torn-%d\n", n)
		}
	}
	holds(t, filepath.Join(dir, "central", "torn"), "torn", want.String())
	waitFor(t, func() bool { return leaf.Counters()["torn:bytes lost"] > 0 }, func() string { return fmt.Sprint(leaf.Counters()) })
	if n := len(cut) - len(frames(framed.OneFrame, "torn", 0, 10)) - len(frames(framed.OneFrame, "torn", 11, 20)); leaf.Counters()["torn:bytes lost"] != int64(n) {
		t.Errorf("%d bytes lost, want those of the torn frame, %d", leaf.Counters()["torn:bytes lost"], n)
	}
	if n := leaf.Counters()["empty:bytes lost"] + leaf.Counters()["whole:bytes lost"]; n != 0 {
		t.Errorf("%d bytes lost of files without a tear", n)
	}
	waitFor(t, func() bool { _, err := os.Stat(whole); return os.IsNotExist(err) }, func() string { return whole + " is there still" })
	aside, err := os.ReadFile(filepath.Join(spool, "torn", "torn_00000.damaged"))
	if err != nil || string(aside) != "\x07\x00\x00\x00torn" {
		t.Errorf("the torn bytes are kept as %q, %v", aside, err)
	}
}

// TestOldBuffersWithCategory: with new_thread_per_category=no each message has its category in front.
func TestOldBuffersWithCategory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := filepath.Join(dir, "leaf")
	both := frames(framed.TwoFrames, "red", 0, 300)
	both = append(both, frames(framed.TwoFrames, "blue", 0, 300)...)
	leftovers(t, spool, "shared", 0, both)
	leftovers(t, spool, "shared", 1, frames(framed.TwoFrames, "red", 300, 400))
	central := started(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, "new_thread_per_category=no\n"+store("category=default", "type=buffer", "retry_interval=1", "retry_interval_range=0",
		network("primary", central), inner("secondary", "type=file", "file_path="+spool, "base_filename=shared")))
	log(t, leaf, entry("other", "other-0"))
	inOrder(t, filepath.Join(dir, "central", "red"), "red", "red", 400)
	inOrder(t, filepath.Join(dir, "central", "blue"), "blue", "blue", 300)
	inOrder(t, filepath.Join(dir, "central", "other"), "other", "other", 1)
}

// TestD5TornBufferFrame: one tear with ten messages behind it. The original lost seven of them and
// delivered one of garbage.
func TestD5TornBufferFrame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := filepath.Join(dir, "leaf")
	tear := binary.LittleEndian.AppendUint32(nil, 200)
	tear = append(tear, "torn in the middle"...)
	leftovers(t, filepath.Join(spool, "tear"), "tear", 0, append(append(frames(framed.OneFrame, "tear", 0, 5), tear...), frames(framed.OneFrame, "tear", 5, 15)...))
	central := started(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, forwarding("default", central, spool))
	send(t, leaf, "tear", 15, 16)
	inOrder(t, filepath.Join(dir, "central", "tear"), "tear", "tear", 16)
	if got := lines(t, filepath.Join(dir, "central", "tear"), "tear"); len(got) != 16 {
		t.Errorf("%d lines, want 16: %q", len(got), got)
	}
	counted(t, leaf, "tear:bytes lost", int64(len(tear)))
}

// TestD23EmptyMessage: an empty message in a buffer ends nothing, neither in an original's file nor in ours.
func TestD23EmptyMessage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := filepath.Join(dir, "leaf")
	old := append(append(frames(framed.OneFrame, "empty", 0, 3), 0, 0, 0, 0), frames(framed.OneFrame, "empty", 3, 103)...)
	leftovers(t, filepath.Join(spool, "empty"), "empty", 0, old)
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, forwarding("default", central, spool))
	send(t, leaf, "empty", 103, 106)
	log(t, leaf, entry("empty", ""))
	send(t, leaf, "empty", 106, 206)
	central.Start()
	inOrder(t, filepath.Join(dir, "central", "empty"), "empty", "empty", 206)
}

// TestD6ReplayInPieces: a buffer goes out in many calls, and a whole buffer file that an original sends
// as one call is taken.
func TestD6ReplayInPieces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := listening(t)
	r.refuse(true)
	leaf := started(t, "max_queue_size=50000000\n"+store("category=default", "type=buffer", "retry_interval=1", "retry_interval_range=0",
		inner("primary", "type=network", "remote_host=127.0.0.1", "remote_port="+r.port), inner("secondary", "type=file", "file_path="+dir)))
	message := strings.Repeat("m", 10_000)
	call := make([]lab.Entry, 1000) // 10 MB
	for i := range call {
		call[i] = entry("pieces", message)
	}
	log(t, leaf, call...)
	log(t, leaf, call...)
	waitFor(t, func() bool { status, _ := leaf.Fb303(); return status == warning }, func() string { return "no WARNING" })
	refused := len(r.got())
	r.refuse(false)
	sent := func() (n, largest int) {
		for _, c := range r.got() {
			n, largest = n+c.entries, max(largest, len(c.body))
		}
		return n, largest
	}
	waitFor(t, func() bool { n, _ := sent(); return n >= 2000 }, func() string { n, _ := sent(); return fmt.Sprintf("%d of 2000 messages", n) })
	if _, largest := sent(); largest > 8<<20 {
		t.Errorf("a call of %d bytes", largest)
	}
	if n := len(r.got()) - refused; n < 3 {
		t.Errorf("20 MB went out in %d calls", n)
	}

	central := nulls(t, "max_queue_size=200000000")
	whole := append(append(call, call...), call...) // 30 MB in one call
	log(t, central, whole...)
	counted(t, central, "pieces:received good", 3000)
}

// TestD8WaitsOfZero: no wait, range or offset of 0 ends the server.
func TestD8WaitsOfZero(t *testing.T) {
	t.Parallel()
	for _, zero := range []string{
		"retry_interval=1\nretry_interval_range=0", "retry_interval=0",
		"adaptive_backoff=yes\nmin_retry_interval=1\nmax_retry_interval=1\nmax_random_offset=0",
	} {
		dir := t.TempDir()
		central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
		leaf := started(t, store("category=default", "type=buffer", zero, network("primary", central),
			inner("secondary", "type=file", "file_path="+filepath.Join(dir, "leaf"))))
		send(t, leaf, "zero", 0, 10)
		waitFor(t, func() bool { status, _ := leaf.Fb303(); return status == warning }, func() string { return "no WARNING" })
		central.Start()
		inOrder(t, filepath.Join(dir, "central", "zero"), "zero", "zero", 10)
	}
}

// TestD12TryLater: a TRY_LATER of the next server costs seconds, not the retry interval of five minutes,
// and nothing is there twice.
func TestD12TryLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := listening(t)
	r.refuse(true)
	leaf := started(t, store("category=default", "type=buffer",
		inner("primary", "type=network", "remote_host=127.0.0.1", "remote_port="+r.port), inner("secondary", "type=file", "file_path="+dir)))
	log(t, leaf, entry("later", "later-0"))
	waitFor(t, func() bool { return len(r.got()) > 0 }, func() string { return "nothing is sent" })
	refused := len(r.got())
	r.refuse(false)
	began := time.Now()
	waitFor(t, func() bool { return len(r.got()) > refused }, func() string { return "nothing is sent again" })
	if took := time.Since(began); took > 4*time.Minute {
		t.Errorf("it took %v", took)
	}
	waitFor(t, func() bool {
		calls := r.got()
		return bytes.Contains(calls[len(calls)-1].body, []byte("later-0"))
	}, func() string { return "the message is not sent again" })
}

// TestD18KillDuringReplay: a server that is killed while it sends its buffer loses none of it.
func TestD18KillDuringReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, "ack=stored\n"+forwarding("default", central, filepath.Join(dir, "leaf")))
	n := pick(5_000, 100_000)
	send(t, leaf, "killed", 0, n)
	central.Start()
	waitFor(t, func() bool { return central.Counters()["killed:received good"] > 0 }, func() string { return "nothing is sent" })
	leaf.Kill()
	leaf.Start()
	send(t, leaf, "killed", n, n+1)
	folder := filepath.Join(dir, "central", "killed")
	waitFor(t, func() bool { return len(seen(t, folder, "killed", "killed")) == n+1 },
		func() string { return fmt.Sprintf("%d of %d messages", len(seen(t, folder, "killed", "killed")), n+1) })
}

// TestD20StatusOfAnOutage: a disconnect shows in the status at once, and its end does.
func TestD20StatusOfAnOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	central.Start()
	leaf := started(t, forwarding("default", central, filepath.Join(dir, "leaf"), "retry_interval=2"))
	send(t, leaf, "status", 0, 1)
	inOrder(t, filepath.Join(dir, "central", "status"), "status", "status", 1)
	if status, details := leaf.Fb303(); status != alive {
		t.Errorf("status %d, %q, want ALIVE", status, details)
	}
	stopped(t, central)
	send(t, leaf, "status", 1, 2)
	waitFor(t, func() bool { status, details := leaf.Fb303(); return status == warning && details != "" }, func() string { return "no WARNING" })
	central.Start()
	waitFor(t, func() bool { status, _ := leaf.Fb303(); return status == alive }, func() string { _, details := leaf.Fb303(); return "WARNING: " + details })
}
