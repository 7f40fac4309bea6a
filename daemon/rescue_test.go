package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/store"
)

func TestAChainWithoutABufferIsRescuedAtAStopAndSentFirstByTheNextStart(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(direct, "SINK", k.addr)).start()
	k.refuse(true)
	w.send("web", "one")
	w.send("web", "two\n")
	w.send("api", "x")
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the stop leaves %d: %v", left, err)
	}
	if list, _ := filepath.Glob(w.path("state", "rescued", "*")); len(list) < 2 {
		t.Errorf("rescued: %v", list)
	}

	w.start() // it is refused still, and goes on waiting
	w.send("web", "three")
	w.eventually("three waits behind them", func() bool { return w.spools().Waiting == 4 })
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the second stop leaves %d: %v", left, err)
	}

	k.refuse(false)
	w.start()
	w.gets(k, "web", "one", "two\n", "three")
	w.gets(k, "api", "x")
	w.eventually("nothing waits", func() bool { return w.spools().Waiting == 0 })
	w.stop()

	w.start() // nothing is left: the chain has no spool
	k.refuse(true)
	w.send("web", "four")
	w.eventually("four waits in memory", func() bool { return w.balanced().Totals.InFlight.Messages == 1 })
	if n := w.spools().Chains; n != 0 {
		t.Errorf("%d chains have a spool that none has left anything in", n)
	}
	k.refuse(false)
	w.gets(k, "web", "one", "two\n", "three", "four")
}

func TestWhatAFullSpoolDoesNotTakeIsRescuedAndSentBehindIt(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	text := strings.ReplaceAll(strings.Replace(forwarding, "64MiB", "1100KiB", 1), "SINK", k.addr)
	w := newWorld(t, forwardingTimes+"limits: {message: 64KiB}\nqueue: {max_batch: 64KiB, batch_bytes: 1}\n"+text).start()
	k.refuse(true)
	var want []string
	send := func(n int) {
		for range n {
			m := strings.Repeat(string(rune('a'+len(want))), 50<<10)
			want = append(want, m)
			w.send("web", m)
		}
	}
	send(25)
	w.eventually("the spool is full", func() bool {
		st := w.balanced()
		return st.Totals.Stored[placeSpool].Messages > 0 && st.Totals.InFlight.Messages > 0
	})
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the stop leaves %d: %v", left, err)
	}
	if _, err := os.Stat(w.path("state", "rescued", "web")); err != nil {
		t.Fatal(err)
	}

	w.start() // it is refused still
	send(1)
	w.eventually("the new one waits behind them", func() bool { return w.balanced().Totals.Stored[placeSpool].Messages == 1 })
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the second stop leaves %d: %v", left, err)
	}

	k.refuse(false)
	w.start()
	w.gets(k, "web", want...)
	w.send("web", "new")
	w.gets(k, "web", append(want, "new")...)
	w.balanced()
}

func TestAStopTellsWhatIsInTheBufferOfOthersAndTheNextStartDoesToo(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(direct, "SINK", k.addr)).start()
	k.refuse(true)
	w.send("web", "one", "two\n")
	if err := os.WriteFile(w.path("state", "rescued"), nil, 0o600); err != nil { // no spool can be there
		t.Fatal(err)
	}
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the stop leaves %d: %v", left, err)
	}
	if n := w.logs.FilterMessageSnippet("twinscribe buffer cat").Len(); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	w.start()
	if got := w.status().Warnings; !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, `2 messages of category "web"`) }) {
		t.Errorf("the status of the next start does not tell: %q", got)
	}
	if got, _ := w.messages("web"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("a reader finds %q", got)
	}
}

func TestARescueOfAMixedBucketHasTheFormOfItsPart(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	const mixed = `
categories:
  - match: "*"
    ack: received
    store:
      bucket:
        by: random
        stores:
          - failover: {places: [{files: {cluster: n1}}, {buffer: {}}]}
          - network: {servers: ["SINK"], timeout: 1s}
`
	w := newWorld(t, forwardingTimes+two+strings.ReplaceAll(mixed, "SINK", k.addr)).start()
	rules, err := w.server.rules(w.config())
	if err != nil {
		t.Fatal(err)
	}
	b := &store.Batch{Category: "web", Chain: 7, Partition: "2026-01-01T00", First: 1, Data: []byte("one\n\ntwo\n"), Ends: []uint32{5, 9}}
	if r := rules[0].Routes[0]; !r.Exact || r.Rescue(t.Context(), 0, b) != nil {
		t.Fatal("the batch of the part on a cluster is not rescued")
	}
	var data []byte
	for _, seg := range w.server.buffer.Segments() {
		if _, err := buffer.ReadSegment(vfs.OS(), seg.Path, func(r *buffer.Record) error {
			data = append(data, r.Data...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if string(data) != "one\ntwo\n" {
		t.Errorf("the buffer holds %q", data)
	}
}

func TestAFailoverWithoutABufferIsRescuedAtAStopAndSentByTheNextStart(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	const failover = `
clusters: []
categories:
  - match: "*"
    ack: received
    store: {failover: {prefer: first, places: [{network: {servers: ["SINK"], timeout: 1s}}, {scribe_files: {file_path: DIR/blocked, base_filename: all}}]}}
`
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(failover, "SINK", k.addr))
	if err := os.WriteFile(w.path("blocked"), nil, 0o600); err != nil { // no folder can be there
		t.Fatal(err)
	}
	w.start()
	k.refuse(true)
	w.send("web", "one")
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the stop leaves %d: %v", left, err)
	}
	k.refuse(false)
	w.start()
	w.gets(k, "web", "one")
}

func TestWhatAStopHasKeptForAStoreThatIsGoneIsTold(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(direct, "SINK", k.addr)).start()
	k.refuse(true)
	w.send("web", "one")
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the stop leaves %d: %v", left, err)
	}
	w.write(forwardingTimes + two + all)
	w.start()
	if got := w.status().Warnings; !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, w.path("state", "rescued", "web")) }) {
		t.Errorf("the status does not tell of it: %q", got)
	}
}
