package daemon

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/store/reader"
	"twinscribe/thrift"
)

func TestHealthAndReadinessAreAnsweredWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	entered, release := make(chan faultfs.Op, 10_000), newGate(t)
	w.disk = faultfs.New(vfs.OS(), nil)
	w.start()
	w.send("web", "one")
	var stalls []faultfs.Inject
	for _, k := range []faultfs.Kind{faultfs.Open, faultfs.Create, faultfs.Read, faultfs.Write, faultfs.Sync, faultfs.Truncate,
		faultfs.Rename, faultfs.Remove, faultfs.Mkdir, faultfs.ReadDir, faultfs.Stat, faultfs.SyncDir, faultfs.Free} {
		stalls = append(stalls, faultfs.Stall(k, "", entered, release.c))
	}
	w.disk.Set(faultfs.Any(stalls...))
	<-entered // every call to the disk hangs from here on
	for _, path := range []string{"/healthz", "/readyz", "/v1/status", "/metrics", "/v1/segments"} {
		if code, body := w.get(path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	w.eventually("no cluster is healthy", func() bool { return !anyUsable(w.server.sites) })
	if code, body := w.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s: the buffer takes messages still, as far as anybody knows", code, body)
	}
	release.open()
}

func TestReadinessNamesItsReasons(t *testing.T) {
	nowhere, hangs := "no cluster is usable and the buffer takes nothing", "the buffer's disk has not answered for 11s"
	for _, c := range []struct {
		name         string
		usable, full bool
		silent       time.Duration
		want         []string
	}{
		{"all is well", true, false, 0, nil},
		{"both clusters are away, the buffer takes", false, false, time.Second, nil},
		{"the buffer is full, a cluster takes", true, true, 0, nil},
		{"nothing takes", false, true, 0, []string{nowhere}},
		{"the buffer's disk hangs, a cluster takes", true, false, 11 * time.Second, []string{hangs}},
		{"it hangs, and no cluster takes", false, false, 11 * time.Second, []string{nowhere, hangs}},
	} {
		if got := unready(c.usable, c.full, c.silent); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAServerWhoseDiskIsFullIsNotReadyDuringAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	w.disk = faultfs.New(vfs.OS(), nil)
	w.start()
	w.takeAway("n1", "n2")
	w.send("web", "taken")
	w.disk.Set(faultfs.Any(faultfs.On(faultfs.Create, "*.seg", syscall.ENOSPC), faultfs.On(faultfs.Write, "*.seg", syscall.ENOSPC)))
	w.eventually("not ready", func() bool {
		if r := w.offer("web", "refused"); r != thrift.TryLater {
			t.Fatalf("answered %v", r)
		}
		code, body := w.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "the buffer takes nothing")
	})
	w.disk.Set(nil)
	w.eventually("messages are taken again", func() bool { return w.offer("web", "again") == thrift.OK })
	w.eventually("ready", func() bool {
		code, _ := w.get("/readyz")
		return code == http.StatusOK
	})
}

func TestAServerThatStopsIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	handler := w.server.handler()
	w.stop()
	r := httptest.NewRecorder()
	handler.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if r.Code != http.StatusServiceUnavailable || r.Body.String() != "stopping\n" {
		t.Errorf("%d %q", r.Code, r.Body)
	}
}

func TestAServerWithNowhereToWriteIsNotReadyAndRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all+`
limits: {message: 1KiB, frame: 64KiB}
queue: {max_batch: 64KiB}
buffer: {max_bytes: 2MiB, segment: 1MiB}
`).start()
	w.takeAway("n1", "n2")
	for n := 0; w.offer("web", numbered(1000)...) == thrift.OK; n++ {
		if n > 500 {
			t.Fatal("7 MB are in a buffer of 2 MiB")
		}
	}
	code, body := w.get("/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "no cluster is usable and the buffer takes nothing") {
		t.Errorf("/readyz: %d %q", code, body)
	}
	if st := w.balanced(); len(st.NotReady) != 1 {
		t.Errorf("the status says not ready: %q", st.NotReady)
	}
	w.putBack("n1")
	if code, body := w.get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz with n1 back: %d %q", code, body)
	}
	w.eventually("messages are taken again", func() bool { return w.offer("web", "again") == thrift.OK })
}

// changing are the requests that change something, or tell of the inside.
var changing = []struct{ method, path string }{
	{"POST", "/v1/drain?cluster=n1"}, {"POST", "/v1/undrain?cluster=n1"}, {"POST", "/v1/reload"}, {"POST", "/v1/stop"},
	{"POST", "/v1/ship"}, {"POST", "/v1/forget?reason=all"}, {"GET", "/debug/pprof/"}, {"GET", "/debug/pprof/profile?seconds=1"},
	{"GET", "/debug/pprof/goroutine"}, {"GET", "/debug/pprof/trace?seconds=1"}, {"GET", "/debug/pprof/symbol"},
}

func TestWhatChangesSomethingIsRefusedToOtherMachinesAndToWebPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.eventually("the server is alive", func() bool { return w.status().State == "alive" })
	handler := w.server.handler()
	for _, c := range changing {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.RemoteAddr = "192.0.2.7:50000"
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), "on the machine itself only") {
			t.Errorf("%s %s from another machine: %d %s", c.method, c.path, answer.Code, answer.Body)
		}
		if code, body := w.ask(c.method, c.path, "Origin", "http://127.0.0.1"); code != http.StatusForbidden || !strings.Contains(body, "web pages") {
			t.Errorf("%s %s from a web page: %d %s", c.method, c.path, code, body)
		}
		r = httptest.NewRequest(c.method, c.path, nil)
		r.RemoteAddr, r.Host = "127.0.0.1:50000", "evil.example:14630" // whose address has become 127.0.0.1
		answer = httptest.NewRecorder()
		if handler.ServeHTTP(answer, r); answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), "Host") {
			t.Errorf("%s %s under another name: %d %s", c.method, c.path, answer.Code, answer.Body)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/status", "/v1/counters", "/v1/segments", "/v1/drain?cluster=n1"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.RemoteAddr = "192.0.2.7:50000"
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			t.Errorf("%s from another machine: %d %s", path, answer.Code, answer.Body)
		}
	}
	for _, c := range changing[:6] {
		if code, _ := w.ask(http.MethodGet, c.path); code != http.StatusMethodNotAllowed && !strings.Contains(c.path, "/v1/drain") {
			t.Errorf("GET %s: %d, want that a GET changes nothing", c.path, code)
		}
	}
	if st := w.status(); st.State != "alive" || st.Clusters[0].Drained {
		t.Errorf("something was changed: %s, %+v", st.State, st.Clusters[0])
	}
}

func TestAMachineReachesItselfByItsOwnAddressToo(t *testing.T) {
	own := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 14630}
	called := false
	h := local(func(http.ResponseWriter, *http.Request) { called = true })
	for remote, want := range map[string]bool{"10.1.2.3:50000": true, "10.1.2.4:50000": false, "127.0.0.1:50000": true, "[::1]:5": true, "nonsense": false} {
		called = false
		r := httptest.NewRequest(http.MethodPost, "http://10.1.2.3/v1/reload", nil)
		r.RemoteAddr = remote
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(own))))
		if called != want {
			t.Errorf("from %s to %v: let through %v, want %v", remote, own, called, want)
		}
	}
}

func TestProfilesAreThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	if code, body := w.get("/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("goroutines: %d %.80s", code, body)
	}
	if code, body := w.get("/debug/pprof/"); code != http.StatusOK || !strings.Contains(body, "heap") {
		t.Errorf("index: %d %.80s", code, body)
	}
}

func TestTheBooksInTheStatusBalanceUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all+"unrouted: refuse\n").start()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				w.offer("a", numbered(50)...)
				w.offer("b", numbered(3)...)
			}
		}
	}()
	for range 50 {
		w.balanced()
		runtime.Gosched()
	}
	close(stop)
	<-done
	st := w.balanced()
	if st.Totals.Accepted != st.Totals.Stored["n1"] || st.Calls.OK == 0 || st.Version != "1.2.3-test" || st.Aggregator != "ag1" || st.Epoch != 1 {
		t.Errorf("%+v", st)
	}
}

func TestSegmentsAreReadFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.takeAway("n1", "n2")
	want := numbered(2000)
	w.send("web", want...)
	read := func() ([]string, reader.Report) {
		return collect(t, reader.New(reader.Options{
			Buffers: []reader.BufferSource{reader.RemoteBuffer(w.server.listeners[1].Addr().String())}, Log: zap.NewNop(),
		}), "web")
	}
	if found, report := read(); !slices.Equal(found, want) || len(report.Uncounted) > 0 {
		t.Errorf("from the segment being written: read %d messages, not counted %q", len(found), report.Uncounted)
	}
	if err := w.server.sealOpen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, report := read(); !slices.Equal(found, want) || len(report.Uncounted) > 0 {
		t.Errorf("from a sealed segment: read %d messages, not counted %q", len(found), report.Uncounted)
	}
	for _, name := range []string{"nonsense.seg", "..%2f..%2fstate.json", "%2e%2e"} {
		if code, body := w.get("/v1/segments/" + name); code != http.StatusNotFound {
			t.Errorf("%s: %d %.100s", name, code, body)
		}
	}
}

func TestASegmentThatVanishedWhileItWasListedIsNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.takeAway("n1", "n2")
	w.send("web", "one")
	segments := w.server.buffer.Segments()
	if len(segments) != 1 {
		t.Fatalf("%d segments", len(segments))
	}
	if err := os.Rename(segments[0].Path, segments[0].Path+".gone"); err != nil {
		t.Fatal(err)
	}
	if code, body := w.get("/v1/segments/" + segments[0].Name); code != http.StatusNotFound {
		t.Errorf("%d %.100s", code, body)
	}
	if err := os.Rename(segments[0].Path+".gone", segments[0].Path); err != nil {
		t.Fatal(err)
	}
}
