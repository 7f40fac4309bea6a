//go:build integration

package dropin

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// sendingTo is a store that forwards to a receiver and keeps what that does not take below dir.
func sendingTo(r *receiver, dir string, more ...string) string {
	return store(append(append([]string{"category=default", "type=buffer"}, more...),
		inner("primary", "type=network", "remote_host=127.0.0.1", "remote_port="+r.port, "timeout=1000"),
		inner("secondary", "type=file", "file_path="+dir))...)
}

// untilFull sends messages of size bytes to a category until nothing was taken for three seconds, in
// which a queue that can be written is. Message n is category-n and dots. It gives how many were taken.
func untilFull(t *testing.T, s *lab.Server, category string, size int) int {
	t.Helper()
	n, last := 0, time.Now()
	deadline := last.Add(2 * patience)
	for time.Since(last) < 3*time.Second {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages of %d bytes were taken", n, size)
		}
		message := fmt.Sprintf("%s-%d", category, n)
		message += strings.Repeat(".", max(0, size-len(message)))
		ok, err := tryLog(s, entry(category, message))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			n, last = n+1, time.Now()
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return n
}

// TestScenario12DiskFull: a small disk as buffer fills while the next server is away. It is sent without
// jamming once that is back, nothing of what was taken is lost, and it fills again.
func TestScenario12DiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small disk is mounted by root")
	}
	dir, disk := t.TempDir(), lab.SmallFolder(t, pick("4m", "16m"))
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, "max_queue_size=100000\n"+forwarding("default", central, disk))
	for round := range 2 {
		category := fmt.Sprint("full", round)
		taken := untilFull(t, leaf, category, 10_000)
		if taken < pick(200, 1000) {
			t.Fatalf("only %d messages of 10 kB were taken", taken)
		}
		central.Start()
		folder := filepath.Join(dir, "central", category)
		last := fmt.Sprintf("%s-%d.", category, taken-1)
		waitFor(t, func() bool { return bytes.Contains(lab.ScribeText(t, folder, category), []byte(last)) },
			func() string { return fmt.Sprintf("%d lines of %d", len(lines(t, folder, category)), taken) })
		there := map[string]bool{}
		for _, line := range lines(t, folder, category) {
			name, _, _ := strings.Cut(line, ".")
			there[name] = true
		}
		for n := range taken {
			if !there[fmt.Sprintf("%s-%d", category, n)] {
				t.Errorf("message %d of %d is lost", n, taken)
			}
		}
		waitFor(t, func() bool { status, _ := leaf.Fb303(); return status == alive }, func() string { return "still WARNING" })
		stopped(t, central)
	}
}

// TestD10EmptyMessagesCount: empty messages count against the limit of the queue, and a stop loses none.
func TestD10EmptyMessagesCount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free := blocked(t, filepath.Join(dir, "full"))
	s := lab.NewScribe(t, "max_queue_size=10000\n"+store("category=full", "type=file", "file_path="+filepath.Join(dir, "full"), "add_newlines=1"))
	s.Start()
	taken := 0
	for ok := true; ok; taken++ {
		var err error
		if ok, err = tryLog(s, entry("full", "")); err != nil || taken > 20_000 {
			t.Fatalf("%d empty messages are taken, %v", taken, err)
		}
	}
	taken-- // the last one is refused
	stopped(t, s)
	free()
	s.Start()
	holds(t, filepath.Join(dir, "full"), "full", strings.Repeat("\n", taken))
}

// TestD9FlushStreaming: a copy of a default store knows flush_streaming: while its buffer is sent, a new
// message does not wait behind it.
func TestD9FlushStreaming(t *testing.T) {
	t.Parallel()
	r := listening(t)
	r.refuse(true)
	s := started(t, sendingTo(r, t.TempDir(), "flush_streaming=yes", "target_write_size=1", "retry_interval=1", "retry_interval_range=0"))
	const n, batch = 20_000, 200
	old := strings.Repeat("o", 500)
	call := make([]lab.Entry, batch)
	for i := range call {
		call[i] = entry("stream", old)
	}
	for sent := 0; sent < n; {
		ok, err := tryLog(s, call...)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			sent += batch
		}
	}
	// the next server is slow: a new message is taken, and sent at once, while the buffer is
	var once sync.Once
	r.before(func(c received) {
		if !c.refused && bytes.Contains(c.body, []byte(old)) {
			time.Sleep(10 * time.Millisecond)
			once.Do(func() {
				if ok, err := tryLog(s, entry("stream", "new")); !ok || err != nil {
					t.Errorf("the new message: OK %v, %v", ok, err)
				}
			})
		}
	})
	r.refuse(false)
	counted(t, s, "scribe_overall:sent", n+1)
	last, at := 0, -1
	for i, c := range r.got() {
		switch {
		case c.refused:
		case bytes.Contains(c.body, []byte("new")):
			at = i
		case c.entries > 0:
			last = i
		}
	}
	if at < 0 || at > last {
		t.Errorf("the new message came with call %d, the last of the buffer with %d", at, last)
	}
}

// TestD12SameCall: what got TRY_LATER, or no answer within the timeout, comes again as the same call with
// the same number, so that a reader behind a next server of ours can tell; after a timeout on
// another connection.
func TestD12SameCall(t *testing.T) {
	t.Parallel()
	r := listening(t)
	s := started(t, sendingTo(r, t.TempDir(), "retry_interval=1", "retry_interval_range=0"))
	log(t, s, entry("same", "first"))
	counted(t, s, "scribe_overall:sent", 1)
	calls := func(what string) (all []received) {
		for _, c := range r.got() {
			if bytes.Contains(c.body, []byte(what)) {
				all = append(all, c)
			}
		}
		return all
	}
	same := func(what string) {
		t.Helper()
		all := calls(what)
		if len(all) < 2 {
			t.Fatalf("%d calls with the %s message, want the one that failed and another", len(all), what)
		}
		const behind = len("\x00\x00\x00\x03Log\x01") + 4 // the sequence number
		for _, c := range all[1:] {
			if !bytes.Equal(c.body[behind:], all[0].body[behind:]) {
				t.Errorf("a call comes again as another one: %q, %q", all[0].body, c.body)
			}
		}
	}
	r.refuse(true)
	log(t, s, entry("same", "second"))
	waitFor(t, func() bool { return len(calls("second")) > 0 }, func() string { return "the second message is not sent" })
	r.refuse(false)
	counted(t, s, "scribe_overall:sent", 2)
	same("second")

	answer := make(chan struct{})
	t.Cleanup(func() { close(answer) })
	var hung atomic.Bool
	r.before(func(c received) {
		if bytes.Contains(c.body, []byte("third")) && hung.CompareAndSwap(false, true) {
			<-answer
		}
	})
	log(t, s, entry("same", "third"))
	counted(t, s, "scribe_overall:sent", 3)
	same("third")
	if all := calls("third"); all[0].conn == all[len(all)-1].conn {
		t.Error("the connection whose answer did not come is used again")
	}
}

// TestD15ListsWithPool: stores with lists of servers that share their connections keep each to its own
// list, also after the servers were away.
func TestD15ListsWithPool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nobody := lab.OwnPort(t)
	var centrals []*lab.Server
	var conf strings.Builder
	for i := range 2 {
		c := started(t, filing(filepath.Join(dir, fmt.Sprint("central", i))))
		centrals = append(centrals, c)
		conf.WriteString(store(fmt.Sprintf("category=list%d", i), "type=buffer", "retry_interval=1", "retry_interval_range=0",
			inner("primary", "type=network", "use_conn_pool=yes", "service_list=127.0.0.1:"+nobody+" 127.0.0.1:"+c.Port()),
			inner("secondary", "type=file", "file_path="+filepath.Join(dir, fmt.Sprint("leaf", i)))))
	}
	s := started(t, conf.String())
	arrived := func(n int) {
		t.Helper()
		for i, c := range centrals {
			own, other := fmt.Sprint("list", i), fmt.Sprint("list", 1-i)
			inOrder(t, filepath.Join(dir, fmt.Sprint("central", i), own), own, own, n)
			if n := c.Counters()[other+":received good"]; n != 0 {
				t.Errorf("server %d has %d messages of the other list", i, n)
			}
		}
	}
	for i := range centrals {
		send(t, s, fmt.Sprint("list", i), 0, 100)
	}
	arrived(100)
	for i, c := range centrals {
		stopped(t, c)
		send(t, s, fmt.Sprint("list", i), 100, 200)
	}
	for _, c := range centrals {
		c.Start()
	}
	arrived(200)
}
