package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/conf"
	"twinscribe/store/reader"
	"twinscribe/thrift"
	"twinscribe/thrift/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what has to happen sooner or later.
const patience = 20 * time.Second

// A world is a folder with a configuration and whatever servers run by it, one
// after another.
type world struct {
	t    *testing.T
	dir  string
	head string // what stands above each configuration
	logs *observer.ObservedLogs
	disk *faultfs.FS // nil: the operating system's

	descriptors uint64      // 0: as the operating system says
	limitMemory func(int64) // nil: nobody is told

	server *Server
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
	left   int64
	err    error

	client *client.Client
	web    *http.Client
}

// two are two directories as clusters, with times that a test can wait for.
const two = `
clusters:
  - {name: n1, dir: {path: DIR/n1}, probe: {every: 50ms, hold_off: 100ms, hold_off_max: 1s}}
  - {name: n2, dir: {path: DIR/n2}, probe: {every: 50ms, hold_off: 100ms, hold_off_max: 1s}}
`

// all routes every category over both clusters to the buffer.
const all = `
categories:
  - match: "*"
    store: {failover: {places: [{files: {cluster: n1}}, {files: {cluster: n2}}, {buffer: {}}]}}
`

const quick = `
visible_within: 1s
timeouts: {write: 2s, ack: 5s, stop: 8s}
`

// newWorld writes a configuration; DIR in it is the world's folder.
func newWorld(t *testing.T, yaml string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), web: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}}
	w.head = "id: ag1\nlisten: {thrift: \"127.0.0.1:0\", http: \"127.0.0.1:0\"}\nstate: DIR/state\n"
	w.write(yaml)
	t.Cleanup(func() {
		if w.client != nil {
			w.client.Close()
		}
		w.stop()
		if t.Failed() && w.logs != nil {
			for _, l := range w.logs.All() {
				t.Log(l.Time.Format("15:04:05.000"), l.Level, l.LoggerName, l.Message, l.ContextMap())
			}
		}
	})
	return w
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// write replaces the configuration file; a running server does not see it by itself.
func (w *world) write(yaml string) { w.writeBelow(w.head, yaml) }

func (w *world) writeBelow(head, yaml string) {
	w.t.Helper()
	text := strings.ReplaceAll(head+yaml, "DIR", w.dir)
	if err := os.WriteFile(w.path("conf.yaml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) load() (*conf.Config, []string, error) { return conf.Load(w.path("conf.yaml")) }

func (w *world) config() *conf.Config {
	w.t.Helper()
	cfg, _, err := w.load()
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

// open makes a server that does not run yet.
func (w *world) open() (*Server, error) {
	level := zap.NewAtomicLevelAt(zapcore.DebugLevel)
	core, logs := observer.New(level)
	w.logs = logs
	cfg, warnings, err := w.load()
	if err != nil {
		w.t.Fatal(err)
	}
	o := Options{Config: cfg, Warnings: warnings, Load: w.load, Version: "1.2.3-test", Log: zap.New(core), Level: level, Descriptors: w.descriptors, LimitMemory: w.limitMemory}
	if w.disk != nil {
		o.FS = w.disk
	}
	return Start(w.t.Context(), o)
}

// start runs a server and waits until it is ready.
func (w *world) start() *world {
	w.t.Helper()
	s, err := w.open()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(s)
}

func (w *world) run(s *Server) *world {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	w.server, w.cancel, w.ended = s, cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		w.left, w.err = s.Run(ctx)
	}()
	var err error
	if w.client, err = client.New(client.Options{Addrs: []string{s.listeners[0].Addr().String()}}); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("ready", func() bool {
		code, _ := w.get("/readyz")
		return code == http.StatusOK
	})
	return w
}

// stop ends the server as TERM does, and waits for its end.
func (w *world) stop() (left int64, err error) {
	if w.server == nil {
		return 0, nil
	}
	w.cancel()
	<-w.ended
	w.server = nil
	w.client.Close()
	return w.left, w.err
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			w.t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// send has messages acknowledged with OK, all in one call.
func (w *world) send(category string, messages ...string) {
	w.t.Helper()
	if r := w.offer(category, messages...); r != thrift.OK {
		w.t.Fatalf("%s: Log answered %v", category, r)
	}
}

// offer sends one call once.
func (w *world) offer(category string, messages ...string) thrift.Result {
	w.t.Helper()
	entries := make([]thrift.Entry, len(messages))
	for i, m := range messages {
		entries[i] = thrift.Entry{Category: []byte(category), Message: []byte(m)}
	}
	return w.call(entries...)
}

func (w *world) call(entries ...thrift.Entry) thrift.Result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	r, err := w.client.Call(ctx, entries)
	if err != nil {
		w.t.Fatalf("Log: %v", err)
	}
	return r
}

// get asks the HTTP side.
func (w *world) get(path string) (code int, body string) {
	w.t.Helper()
	return w.ask(http.MethodGet, path)
}

func (w *world) ask(method, path string, headers ...string) (code int, body string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.server.listeners[1].Addr().String()+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := w.web.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func (w *world) status() (st Status) {
	w.t.Helper()
	code, body := w.get("/v1/status")
	if code != http.StatusOK {
		w.t.Fatalf("/v1/status: %d %s", code, body)
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		w.t.Fatal(err)
	}
	return st
}

// cluster is one of the status.
func (w *world) cluster(name string) ClusterStatus {
	w.t.Helper()
	for _, c := range w.status().Clusters {
		if c.Name == name {
			return c
		}
	}
	w.t.Fatalf("no cluster %s in the status", name)
	return ClusterStatus{}
}

// chainOf is the number and the place of the queue that a category has.
func (w *world) chainOf(category string) (number uint32, active string) {
	w.t.Helper()
	for _, c := range w.status().Categories {
		for _, q := range c.Queues {
			if string(c.Category) == category && !q.Closing {
				return q.Chain, q.Active
			}
		}
	}
	w.t.Fatalf("category %q has no queue", category)
	return 0, ""
}

// takeAway makes the root of a cluster vanish, and sees the server notice.
func (w *world) takeAway(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if err := os.Rename(w.path(name), w.path(name+".away")); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, name := range names {
		w.eventually(name+" is not healthy", func() bool { return w.cluster(name).State != "healthy" })
	}
}

func (w *world) putBack(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if err := os.Rename(w.path(name+".away"), w.path(name)); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, name := range names {
		w.eventually(name+" is healthy", func() bool { return w.cluster(name).State == "healthy" })
	}
}

// messages are what a reader finds of a category, and its report.
func (w *world) messages(category string) ([]string, reader.Report) {
	w.t.Helper()
	v, err := OpenView(w.config(), nil, false)
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	return collect(w.t, v.Reader, category)
}

func collect(t *testing.T, r *reader.Reader, category string) (found []string, report reader.Report) {
	t.Helper()
	report, err := r.Read(t.Context(), reader.Query{Category: category}, func(run *reader.Run) error {
		return run.Each(func(m *reader.Message) error {
			found = append(found, string(m.Data))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, report
}

// balanced fails the test where a book does not balance, and gives the totals.
func (w *world) balanced() Status {
	w.t.Helper()
	st := w.status()
	for i := range st.Categories {
		if err := st.Categories[i].Check(); err != nil {
			w.t.Error(err)
		}
	}
	if err := st.Totals.Check(); err != nil {
		w.t.Error(err)
	}
	return st
}

// numbered are n messages.
func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("message %d", i)
	}
	return list
}

// gate lets what blocks on it go on, once.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func newGate(t *testing.T) *gate {
	g := &gate{c: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.c) }) }

var nopLog = zap.NewNop()

func nowZero() time.Time { return time.Time{} }
