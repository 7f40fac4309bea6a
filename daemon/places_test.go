package daemon

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"twinscribe/aggregator"
	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs"
	"twinscribe/store/replay"
	"twinscribe/thrift"
)

// A sink is the next server: it keeps what it takes, or refuses everything.
type sink struct {
	addr string

	mu    sync.Mutex
	full  bool
	taken map[string][]string // by category
}

func newSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &sink{addr: l.Addr().String(), taken: make(map[string][]string)}
	server := thrift.New(k, thrift.Options{Log: nopLog})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var ran sync.WaitGroup
	ran.Go(func() { _ = server.Serve(ctx, l) }) // it ends with its context
	t.Cleanup(func() {
		cancel()
		stop, end := context.WithTimeout(context.Background(), patience)
		defer end()
		if err := server.Stop(stop); err != nil {
			t.Error(err)
		}
		ran.Wait()
	})
	return k
}

func (k *sink) Log(_ context.Context, c *thrift.Call) thrift.Result {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full {
		return thrift.TryLater
	}
	for _, e := range c.Entries {
		k.taken[string(e.Category)] = append(k.taken[string(e.Category)], string(e.Message))
	}
	return thrift.OK
}

func (k *sink) refuse(all bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.full = all
}

func (k *sink) of(category string) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.taken[category])
}

func (*sink) Name() string                    { return "sink" }
func (*sink) Version() string                 { return "1" }
func (*sink) Status() (thrift.Status, string) { return thrift.Alive, "" }
func (*sink) Counters() map[string]int64      { return nil }
func (*sink) AliveSince() int64               { return 1 }
func (*sink) Reinitialize()                   {}
func (*sink) Shutdown()                       {}

// gets waits until the sink has exactly these messages of a category, in order.
func (w *world) gets(k *sink, category string, want ...string) {
	w.t.Helper()
	w.eventually("the next server has "+strings.Join(want, ","), func() bool { return len(k.of(category)) >= len(want) })
	if got := k.of(category); !slices.Equal(got, want) {
		w.t.Errorf("category %s: the next server has %q, want %q", category, got, want)
	}
}

// forwarding is a leaf: it forwards to the sink at SINK, with a spool in DIR/spool.
const forwarding = `
clusters: []
categories:
  - match: "*"
    ack: received
    store:
      failover:
        retry: {interval: 200ms, range: 0s}
        places:
          - network: {servers: ["SINK"], timeout: 1s}
          - buffer: {path: DIR/spool, max_bytes: 64MiB, replay: auto}
`

// direct forwards to the sink, and keeps nothing where that is away.
const direct = `
clusters: []
categories:
  - match: "*"
    ack: received
    store: {network: {servers: ["SINK"], timeout: 1s}}
`

const forwardingTimes = "timeouts: {write: 1s, ack: 5s, stop: 6s}\n"

// counter is one of fb303's.
func (w *world) counter(name string) int64 { return w.server.aggregator.Counters()[name] }

// spools is the one folder of spools in the status.
func (w *world) spools() SpoolsStatus {
	w.t.Helper()
	st := w.status()
	switch len(st.Spools) {
	case 0:
		return SpoolsStatus{} // no chain is open yet
	case 1:
		return st.Spools[0]
	}
	w.t.Fatalf("%d folders of spools in the status, want one: %+v", len(st.Spools), st.Spools)
	return SpoolsStatus{}
}

func TestWhatTheNextServerRefusesWaitsInASpoolAndIsCounted(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(forwarding, "SINK", k.addr)).start()
	w.send("web", "one", "two\n")
	w.gets(k, "web", "one", "two\n")
	k.refuse(true)
	w.send("web", "three")
	w.eventually("three is in the spool", func() bool { return w.balanced().Totals.Stored[placeSpool].Messages == 1 })
	w.send("web", "four")
	w.eventually("four is in the spool", func() bool { return w.spools().Waiting == 2 })
	at := w.spools()
	if len(at.Behind) != 1 || at.Chains != 1 || at.Bytes == 0 || at.Limit != 64<<20 || at.Path != w.path("spool") {
		t.Fatalf("spools: %+v", at)
	}
	if b := at.Behind[0]; string(b.Category) != "web" || b.Part != aggregator.Whole || b.State == "STREAMING" || b.LastError == "" || b.Retries != 1 {
		t.Errorf("the chain that is behind: %+v", b)
	}
	if number, active := w.chainOf("web"); active != placeSpool {
		t.Errorf("chain %d writes to %q", number, active)
	}
	if n := w.metric(`twinscribe_spool_messages{category="web"}`); n != 2 {
		t.Errorf("%v messages wait, says the metric", n)
	}
	if n := w.metric("twinscribe_spool_bytes"); n == 0 {
		t.Error("no bytes wait, says the metric")
	}
	if n := w.metric("twinscribe_network_try_later_total"); n == 0 {
		t.Error("the server has refused nothing, says the metric")
	}
	if n := w.counter("web:retries"); n != 1 {
		t.Errorf("retries: %d", n)
	}
	k.refuse(false)
	w.gets(k, "web", "one", "two\n", "three", "four")
	w.eventually("nothing waits", func() bool { return w.spools().Waiting == 0 && len(w.spools().Behind) == 0 })
	w.send("web", "five")
	w.gets(k, "web", "one", "two\n", "three", "four", "five")
	w.eventually("all are counted", func() bool { return w.counter("scribe_overall:sent") == 5 })
	if n := w.metric("twinscribe_spool_replayed_messages_total"); n != 2 {
		t.Errorf("%v were replayed, says the metric", n)
	}
	if n := w.metric("twinscribe_network_sent_messages_total"); n != 5 {
		t.Errorf("%v were sent, says the metric", n)
	}
	st := w.balanced()
	if st.Totals.Stored["network"].Messages != 3 || st.Totals.Stored[placeSpool].Messages != 2 {
		t.Errorf("stored %v", st.Totals.Stored)
	}
	if len(st.Network) != 1 || len(st.Network[0].Servers) != 1 || st.Network[0].Servers[0].Sent != 5 || st.Network[0].Servers[0].Address != k.addr {
		t.Errorf("network: %+v", st.Network)
	}
}

func TestWhatIsInASpoolIsSentByTheNextStartWithoutAMessage(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(forwarding, "SINK", k.addr)).start()
	k.refuse(true)
	w.send("web", "one")
	w.send("odd/name %41", "two")
	w.eventually("they are in spools", func() bool { return w.spools().Waiting == 2 })
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("the stop leaves %d: %v", left, err)
	}
	for _, dir := range []string{"web", "odd%2Fname%20%2541"} {
		if _, err := os.Stat(w.path("spool", dir)); err != nil {
			t.Error(err)
		}
	}
	k.refuse(false)
	w.start()
	w.gets(k, "web", "one")
	w.gets(k, "odd/name %41", "two")
	w.balanced()
}

func TestFilesOfAnOriginalAreSentFirst(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"spool", "old"} { // the one of the spools, or another one
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			filesAreSentFirst(t, folder)
		})
	}
}

func filesAreSentFirst(t *testing.T, folder string) {
	k := newSink(t)
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(forwarding, "SINK", k.addr))
	w.write(forwardingTimes + strings.ReplaceAll(strings.ReplaceAll(forwarding, "SINK", k.addr), "replay: auto", "replay: auto, framed: {path: DIR/"+folder+", form: one}"))
	var b []byte
	for _, m := range []string{"old one\n", "", "old two\n"} {
		b = framedtest.Append(b, framed.OneFrame, "web", m)
	}
	for _, category := range []string{"web", "gone"} {
		if _, err := framedtest.AppendFile(vfs.OS(), w.path(folder, category), category, 0, b); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	w.send("web", "new")
	w.gets(k, "web", "old one\n", "", "old two\n", "new")
	w.gets(k, "gone", "old one\n", "", "old two\n") // no message came for it
}

func TestPartsAndStoresOfACategoryHaveSpoolsOfTheirOwn(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	const copies = `
clusters: []
categories:
  - match: "*"
    ack: received
    stores:
      - {scribe_files: {file_path: DIR/files, per_category: true, add_newlines: true}}
      - bucket:
          by: key_modulo
          delimiter: 58
          remove_key: true
          stores:
            - {null: {}}
            - failover: {retry: {interval: 200ms, range: 0s}, places: [{network: {servers: ["SINK"], timeout: 1s}}, {buffer: {path: DIR/spool, max_bytes: 64MiB, replay: auto}}]}
            - failover: {retry: {interval: 200ms, range: 0s}, places: [{network: {servers: ["SINK"], timeout: 1s}}, {buffer: {path: DIR/spool, max_bytes: 64MiB, replay: auto}}]}
`
	w := newWorld(t, forwardingTimes+strings.ReplaceAll(copies, "SINK", k.addr)).start()
	k.refuse(true)
	w.send("web", "4:even", "5:odd", "6:even again")
	w.eventually("they are in spools", func() bool { return w.spools().Waiting == 3 })
	w.eventually("copies are in the file", func() bool { return w.balanced().Totals.Stored["files"].Messages == 3 })
	if n := len(w.spools().Behind); n != 2 {
		t.Errorf("%d chains are behind, want two parts", n)
	}
	w.stop()
	dirs, err := filepath.Glob(w.path("spool", "web", "part*"))
	if err != nil || len(dirs) != 2 {
		t.Errorf("folders %q, %v: want one for each part", dirs, err)
	}
	k.refuse(false)
	w.start()
	w.eventually("all were sent", func() bool { return len(k.of("web")) == 3 })
	got := k.of("web")
	slices.Sort(got)
	if !slices.Equal(got, []string{"even", "even again", "odd"}) {
		t.Errorf("sent %q", got)
	}
	if text, err := os.ReadFile(w.path("files", "web", "web_current")); err != nil || string(text) != "4:even\n5:odd\n6:even again\n" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if n := w.metric("twinscribe_scribe_files_errors_total"); n != 0 {
		t.Errorf("%v errors of local files", n)
	}
}

func TestWhatNoStoreWouldSendIsTold(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	text := forwardingTimes + strings.ReplaceAll(forwarding, "SINK", k.addr)
	w := newWorld(t, text).start()
	k.refuse(true)
	w.send("web", "one")
	w.eventually("it is in a spool", func() bool { return w.spools().Waiting == 1 })
	w.stop()
	w.write(strings.Replace(text, `match: "*"`, `match: "other"`, 1))
	w.start()
	if n := w.logs.FilterMessageSnippet("has left in a spool is not sent").Len(); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	k.refuse(false)
	w.write(text)
	if _, err := w.server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.gets(k, "web", "one") // the reload brought its store back
}

func TestAReloadGivesTheSpoolToTheNewChainAndNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	text := forwardingTimes + strings.ReplaceAll(forwarding, "SINK", k.addr)
	w := newWorld(t, text).start()
	k.refuse(true)
	w.send("web", "one")
	w.eventually("one is in the spool", func() bool { return w.spools().Waiting == 1 })
	before, _ := w.chainOf("web")
	w.write(strings.Replace(text, "timeout: 1s", "timeout: 2s", 1))
	if _, err := w.server.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.send("web", "two")
	w.eventually("two is in the spool", func() bool { return w.balanced().Totals.Stored[placeSpool].Messages == 2 })
	if after, _ := w.chainOf("web"); after == before {
		t.Error("the reload kept the chain")
	}
	k.refuse(false)
	w.gets(k, "web", "one", "two")
	w.send("web", "three")
	w.gets(k, "web", "one", "two", "three")
	if n := w.counter("web:retries"); n < 1 {
		t.Error("the counters of the old chain are gone")
	}
}

func TestAChangedLimitOfASpoolIsSaidToTakeEffectLater(t *testing.T) {
	t.Parallel()
	k := newSink(t)
	text := forwardingTimes + strings.ReplaceAll(forwarding, "SINK", k.addr)
	w := newWorld(t, text).start()
	w.write(strings.Replace(text, "64MiB", "128MiB", 1))
	warnings, err := w.server.Reload(t.Context())
	if err != nil || !slices.ContainsFunc(warnings, func(s string) bool { return strings.Contains(s, "max_bytes of the buffer in "+w.path("spool")) }) {
		t.Errorf("warnings %q, %v", warnings, err)
	}
}

func TestAFoldersChainIsKnownByItsNames(t *testing.T) {
	whole := aggregator.Whole
	for dir, want := range map[string]berth{
		"web":                     {"web", aggregator.Lane{Part: whole}},
		"odd%2Fname":              {"odd/name", aggregator.Lane{Part: whole}},
		"web/route1":              {"web", aggregator.Lane{Route: 1, Part: whole}},
		"web/part007":             {"web", aggregator.Lane{Part: 7}},
		"web/route12/part1234":    {"web", aggregator.Lane{Route: 12, Part: 1234}},
		"route1":                  {"route1", aggregator.Lane{Part: whole}},
		"%5Ftmp/route2/part000":   {"_tmp", aggregator.Lane{Route: 2, Part: 0}},
		"spools.loc%6B":           {"spools.lock", aggregator.Lane{Part: whole}},
		"frame%64/route1":         {"framed", aggregator.Lane{Route: 1, Part: whole}},
		"web_0000%30":             {"web_00000", aggregator.Lane{Part: whole}},
		"we%62":                   {},
		"spools.lock":             {},
		"web/other":               {},
		"web/route-1":             {},
		"web/part":                {},
		"web/part99999999999":     {},
		"not%2fours":              {},
		strings.Repeat("x", 129):  {},
		"a b":                     {},
		"web/route1/part001/more": {},
	} {
		t.Run(dir, func(t *testing.T) {
			l := replay.Leftover{Dir: filepath.FromSlash(dir), Category: filepath.Base(dir), Spooled: true} // no record could be read
			got, ok := berthOf(l)
			if ok != (want != berth{}) || got != want {
				t.Errorf("%+v, %v; want %+v", got, ok, want)
			}
			if !ok {
				return
			}
			if back := got.spoolDir(); back != l.Dir {
				t.Errorf("its folder is %s", back)
			}
		})
	}
	long := strings.Repeat("long", 100)
	at := berth{long, aggregator.Lane{Route: 1, Part: 3}}
	if got, ok := berthOf(replay.Leftover{Dir: at.spoolDir(), Category: long}); !ok || got != at {
		t.Errorf("a long name, told by its record: %+v, %v", got, ok)
	}
}
