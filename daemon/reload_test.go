package daemon

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"twinscribe/conf"
)

const rules = `
categories:
  - match: same
    store: {failover: {places: [{files: {cluster: n1}}, {buffer: {}}]}}
  - match: other
    store: {failover: {places: [{files: {cluster: n1}}, {buffer: {}}]}}
`

func TestAReloadKeepsTheQueueOfACategoryWhoseStoreStaysTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+rules).start()
	w.send("same", "one")
	w.send("other", "one")
	w.offer("new", "nobody routes it")
	same, _ := w.chainOf("same")
	other, _ := w.chainOf("other")
	begun := w.metric(`twinscribe_files_begun_total{cluster="n1"}`)

	w.write(quick + two + strings.Replace(rules, "match: other\n    store: {failover: {places: [{files: {cluster: n1}}", "match: other\n    store: {failover: {places: [{files: {cluster: n2}}", 1) + `
  - match: new
    store: {failover: {places: [{files: {cluster: n1}}, {buffer: {}}]}}
`)
	if warnings, err := w.server.Reload(t.Context()); err != nil || len(warnings) > 0 {
		t.Fatalf("reload: %q %v", warnings, err)
	}
	w.send("same", "two")
	w.send("other", "two")
	w.send("new", "it is routed now")
	if n, active := w.chainOf("same"); n != same || active != "n1" {
		t.Errorf("the same rule: chain %d on %s, was %d on n1", n, active, same)
	}
	if n, active := w.chainOf("other"); n == other || active != "n2" {
		t.Errorf("another store: chain %d on %s, was %d on n1", n, active, other)
	}
	if _, active := w.chainOf("new"); active != "n1" {
		t.Errorf("a new rule: on %s", active)
	}
	if now := w.metric(`twinscribe_files_begun_total{cluster="n1"}`); now != begun+1 {
		t.Errorf("%v files were begun on n1 after the reload, want 1, of the new category", now-begun)
	}
	w.balanced()
	for _, category := range []string{"same", "other"} {
		w.eventually(category+" is visible", func() bool {
			found, _ := w.messages(category)
			return slices.Equal(found, []string{"one", "two"})
		})
	}
}

func TestAReloadWithAMistakeChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+rules).start()
	w.send("same", "one")
	before, _ := w.chainOf("same")
	w.write(quick + two + strings.Replace(rules, "match: same", "macht: same", 1) + "ack: maybe\n")
	code, body := w.ask(http.MethodPost, "/v1/reload")
	if code != http.StatusConflict || !strings.Contains(body, "macht") || !strings.Contains(body, "maybe") || !strings.Contains(body, "conf.yaml:") {
		t.Errorf("reload of a bad file: %d %s, want every mistake with its place", code, body)
	}
	st := w.status()
	if st.Reload.At == 0 || !strings.Contains(st.Reload.Error, "macht") {
		t.Errorf("the status says of the reload: %+v", st.Reload)
	}
	if len(st.Warnings) == 0 || st.State != "warning" || w.metric("twinscribe_config_reload_failed") != 1 {
		t.Fatalf("the status is %q with the warnings %q, the metric %v", st.State, st.Warnings, w.metric("twinscribe_config_reload_failed"))
	}
	last := st.Warnings[len(st.Warnings)-1]
	for _, want := range []string{time.Unix(st.Reload.At, 0).UTC().Format(time.RFC3339), "conf.yaml:", "macht"} {
		if _, text := w.server.aggregator.Status(); !strings.Contains(last, want) || text != last {
			t.Errorf("no %q in the warning %q, or in the status' details %q", want, last, text)
		}
	}
	w.send("same", "two")
	if now, _ := w.chainOf("same"); now != before {
		t.Errorf("chain %d, was %d", now, before)
	}
	w.write(quick + two + rules)
	if code, body := w.ask(http.MethodPost, "/v1/reload"); code != http.StatusOK {
		t.Errorf("reload of the old file: %d %s", code, body)
	}
	if st := w.status(); st.Reload.Error != "" || slices.Contains(st.Warnings, last) || st.State != "alive" || w.metric("twinscribe_config_reload_failed") != 0 {
		t.Errorf("after a good reload the status is %q and says %+v, %q", st.State, st.Reload, st.Warnings)
	}
}

func TestOfARefusedReloadTheFirstMistakesAreTold(t *testing.T) {
	r := reloadStatus{At: 1_795_000_000, Error: "f:1: a\nf:2: b\nf:3: c\nf:4: d\nf:5: e"}
	want := "the reload of 2026-11-18T11:06:40Z was refused, and what was in force before it still is: f:1: a; f:2: b; f:3: c (and 2 more)"
	if got := r.refusal(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&reloadStatus{At: 1}).refusal(); got != "" {
		t.Errorf("of a good one: %q", got)
	}
}

func TestAReloadRefusesWhatIsFixedAndNamesTheRemedy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+rules).start()
	w.send("same", "one")
	for _, c := range []struct{ key, head, yaml string }{
		{"id", strings.Replace(w.head, "ag1", "ag2", 1), quick + two + rules},
		{"state", strings.Replace(w.head, "DIR/state", "DIR/elsewhere", 1), quick + two + rules},
		{"listen.http", strings.Replace(w.head, `http: "127.0.0.1:0"`, `http: "127.0.0.1:1"`, 1), quick + two + rules},
		{"buffer.path", w.head, quick + "buffer: {path: DIR/segments}\n" + two + rules},
		{"clusters[1].dir.path", w.head, quick + strings.Replace(two, "DIR/n2", "DIR/n3", 1) + rules},
		{"clusters[0].probe.hold_off", w.head, quick + strings.Replace(two, "hold_off: 100ms", "hold_off: 90ms", 1) + rules},
		{"clusters", w.head, quick + two + "  - {name: n3, dir: {path: DIR/n3}}\n" + rules},
	} {
		w.writeBelow(c.head, c.yaml)
		_, err := w.server.Reload(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), c.key+": ") || !strings.Contains(err.Error(), "put back what was there") {
			t.Errorf("%s changed: %v, want the key and what to do", c.key, err)
		}
	}
	w.send("same", "two")
	if st := w.balanced(); st.Totals.Stored["n1"].Messages != 2 {
		t.Errorf("stored %v, want both messages on n1", st.Totals.Stored)
	}
}

func TestAReloadSaysWhatTakesEffectWithTheNextStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.write(strings.Replace(quick, "visible_within: 1s", "visible_within: 2s", 1) + two + all + `
limits: {connections: 77, frame_memory: 1GiB}
log: {format: json, level: warn}
`)
	warnings, err := w.server.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"visible_within", "limits.connections", "limits.frame_memory", "log.format"} {
		if !slices.ContainsFunc(warnings, func(s string) bool {
			return strings.HasPrefix(s, key+": ") && strings.Contains(s, "next start")
		}) {
			t.Errorf("%s changed, and the reload says only %q", key, warnings)
		}
	}
	if len(warnings) != 4 {
		t.Errorf("warnings: %q, want four: the log's level changes at once", warnings)
	}
	if got := w.server.o.Level.Level(); got != zapcore.WarnLevel {
		t.Errorf("the log's level is %v", got)
	}
	if st := w.status(); !slices.Equal(st.Warnings, warnings) {
		t.Errorf("the status has the warnings %q", st.Warnings)
	}
}

func TestAReloadShortensTheTimeThatAStopMayTake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.write(strings.Replace(quick, "stop: 8s", "stop: 3s", 1) + two + all)
	if warnings, err := w.server.Reload(t.Context()); err != nil || len(warnings) > 0 {
		t.Fatalf("%q %v", warnings, err)
	}
	if got := w.server.inForce().Timeouts.Stop; got != 3*time.Second {
		t.Errorf("a stop may take %v, want what the reload says", got)
	}
}

// applied are the keys that a reload makes count at once.
var applied = []string{
	"ack", "unrouted", "categories", "queue.max_batch", "queue.batch_bytes", "queue.batch_wait",
	"limits.message", "limits.memory", "limits.queue", "limits.categories",
	"limits.queue_admits", "limits.messages_per_second",
	"timeouts.ack", "timeouts.write", "timeouts.stop", "log.level",
}

func TestEveryKeyIsAppliedByAReloadOrSpokenOf(t *testing.T) {
	for _, key := range leaves("", reflect.TypeFor[conf.Config]()) {
		old, cfg := sample(), sample()
		change(t, reflect.ValueOf(cfg).Elem(), key)
		said := 0
		if fixed(old, cfg) != nil {
			said++
		}
		if len(later(old, cfg)) > 0 {
			said++
		}
		if slices.Contains(applied, key) {
			said++
		}
		if said != 1 && key != "buffer.path" { // fixed, and the buffer's other keys are for later
			t.Errorf("%s: it is refused, said to be for later, or applied: %d of these", key, said)
		}
	}
}

func TestAFolderThatChangesIsNotLeftBehind(t *testing.T) {
	old, cfg := sample(), sample()
	cfg.State = "/other"
	want := "state: /other, was /var/lib/twinscribe: it cannot change while the server runs, and a start with the new folder would leave what waits in the old one: " +
		"put back what was there, if need be with the key state, or stop the server, move /var/lib/twinscribe to /other and start it again"
	if err := fixed(old, cfg); err == nil || err.Error() != want { // the buffer below moves along
		t.Errorf("%v", err)
	}
	cfg = sample()
	cfg.Buffer.Path = "/b"
	if err := fixed(old, cfg); err == nil || !strings.Contains(err.Error(), "move /var/lib/twinscribe/buffer to /b") {
		t.Errorf("%v", err)
	}
	cfg.Buffer.Path = BufferPath(old)
	if err := fixed(old, cfg); err != nil {
		t.Errorf("the same folder, named: %v", err)
	}
}

func sample() *conf.Config {
	c := conf.Default()
	c.Clusters = []conf.Cluster{{Name: "n1"}}
	return &c
}

// leaves are the keys of a configuration. A list counts as one.
func leaves(path string, t reflect.Type) (keys []string) {
	if t.Kind() != reflect.Struct {
		return []string{path}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("mapstructure")
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		if path != "" {
			name = path + "." + name
		}
		keys = append(keys, leaves(name, f.Type)...)
	}
	return keys
}

// change gives a key another value.
func change(t *testing.T, v reflect.Value, key string) {
	t.Helper()
	for part := range strings.SplitSeq(key, ".") {
		v = v.FieldByNameFunc(func(name string) bool {
			f, _ := v.Type().FieldByName(name)
			return f.Tag.Get("mapstructure") == part || strings.EqualFold(f.Name, part)
		})
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	default:
		t.Fatalf("%s is a %v", key, v.Kind())
	}
}
