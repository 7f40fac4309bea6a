//go:build integration

package dropin

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// TestK8NetworkClient: requests in the old form; where the last answer was not OK an empty Log goes before
// a batch above 4096 bytes, and after a TRY_LATER to it no batch; the connection stays open after TRY_LATER;
// use_conn_pool shares one.
func TestK8NetworkClient(t *testing.T) {
	t.Parallel()
	r := listening(t)
	to := []string{"type=network", "remote_host=127.0.0.1", "remote_port=" + r.port, "use_conn_pool=yes", "timeout=2000"}
	s := started(t, store(append([]string{"category=a"}, to...)...)+store(append([]string{"category=b"}, to...)...))
	log(t, s, entry("a", "small"), entry("b", "small"))
	sent := func(what string) (n int) {
		for _, c := range r.got() {
			n += bytes.Count(c.body, []byte(what))
		}
		return n
	}
	batches := func() (list []received) { // without probes, of which some come by the clock
		for _, c := range r.got() {
			if c.entries > 0 {
				list = append(list, c)
			}
		}
		return list
	}
	waitFor(t, func() bool { return len(batches()) == 2 }, func() string { return fmt.Sprintf("%d batches, want 2", len(batches())) })
	first := batches()[0]
	for i, c := range batches() {
		if c.strict || c.entries != 1 || c.conn != first.conn {
			t.Errorf("call %d: strict %v, %d entries, connection %d; want the old form, one, and the same", i, c.strict, c.entries, c.conn)
		}
	}
	r.refuse(true)
	before := len(r.got())
	log(t, s, entry("a", strings.Repeat("x", 5000)+"large"))
	onFirst := func(calls []received) (list []received) {
		for _, c := range calls {
			if c.conn == first.conn {
				list = append(list, c)
			}
		}
		return list
	}
	waitFor(t, func() bool { return len(onFirst(r.got()[before:])) > 1 }, func() string { return "no probe" })
	if c := onFirst(r.got()[before:])[1]; c.entries != 0 || sent("large") != 1 {
		t.Errorf("behind a refusal: a call of %d entries, the batch sent %d times; want a probe, and the batch once", c.entries, sent("large"))
	}
	r.refuse(false)
	waitFor(t, func() bool { return sent("large") == 2 }, func() string { return "the batch is not sent again" })
	calls := onFirst(r.got())
	if n := len(calls); calls[n-1].entries != 1 || calls[n-2].entries != 0 {
		t.Errorf("in front of the batch: a call of %d entries, want a probe on the same connection", calls[n-2].entries)
	}
	counted(t, s, "scribe_overall:sent", 3)
}

// TestK8Timeout: a next server that does not answer costs the timeout, and the secondary has the message.
func TestK8Timeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := started(t, filing(filepath.Join(dir, "central")))
	central.Signal(stop)
	t.Cleanup(func() { central.Signal(resume) })
	leaf := started(t, store("category=default", "type=buffer", "replay_buffer=no", "retry_interval=1", "retry_interval_range=0",
		network("primary", central, "timeout=200"), inner("secondary", "type=file", "file_path="+filepath.Join(dir, "near"), "add_newlines=1")))
	began := time.Now()
	log(t, leaf, entry("slow", "m"))
	holds(t, filepath.Join(dir, "near", "slow"), "slow", "m\n")
	t.Logf("the message was at the secondary after %v", time.Since(began))
}

// TestD15ServiceList: another server of the list is used when one fails, and the list does not grow.
func TestD15ServiceList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var centrals []*lab.Server
	for i := range 2 {
		centrals = append(centrals, lab.NewScribe(t, filing(filepath.Join(dir, fmt.Sprint("central", i)))))
	}
	centrals[0].Start()
	leaf := started(t, store("category=default", "type=buffer", "retry_interval=1", "retry_interval_range=0",
		inner("primary", "type=network", "service_list=127.0.0.1:"+centrals[0].Port()+" 127.0.0.1", "list_default_port="+centrals[1].Port()),
		inner("secondary", "type=file", "file_path="+filepath.Join(dir, "leaf"))))
	total := func() int {
		return len(lines(t, filepath.Join(dir, "central0", "list"), "list")) + len(lines(t, filepath.Join(dir, "central1", "list"), "list"))
	}
	for n := range 6 { // one server, the other, in turn
		send(t, leaf, "list", n*50, n*50+50)
		waitFor(t, func() bool { return total() == n*50+50 }, func() string { return fmt.Sprintf("%d of %d messages", total(), n*50+50) })
		centrals[(n+1)%2].Start()
		stopped(t, centrals[n%2])
	}
	if len(lines(t, filepath.Join(dir, "central0", "list"), "list")) == 0 || len(lines(t, filepath.Join(dir, "central1", "list"), "list")) == 0 {
		t.Error("one of the servers has nothing")
	}
}
