//go:build integration

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
	"twinscribe/thrift/client"
)

// A badFile is a configuration with mistakes, and the exact message that it must give; the file's
// name stands at the beginning of each line.
type badFile struct {
	name    string
	content []byte
	want    string
}

// badFiles are those of the package conf, with the messages that an operator gets.
func badFiles(t *testing.T, pattern string) (all []badFile) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(confFolder(), pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".want") {
			continue
		}
		content, err := os.ReadFile(name)
		want, errWant := os.ReadFile(name + ".want")
		if err := errors.Join(err, errWant); err != nil {
			t.Fatal(err)
		}
		all = append(all, badFile{filepath.Base(name), content, strings.TrimSuffix(string(want), "\n")})
	}
	return all
}

func confFolder() string { return filepath.Join(lab.Repository(), "conf", "testdata") }

// as is the message that the same content gives under another name.
func (f badFile) as(name string) string {
	lines := strings.Split(f.want, "\n")
	for i, l := range lines {
		lines[i] = name + strings.TrimPrefix(l, f.name)
	}
	return strings.Join(lines, "\n")
}

// some gives n of all, spread over them, in the short form.
func some[T any](all []T, n int) []T {
	if !testing.Short() || len(all) <= n {
		return all
	}
	chosen := make([]T, 0, n)
	for i := range n {
		chosen = append(chosen, all[i*len(all)/n])
	}
	return chosen
}

// inFolder runs the binary as an operator does who stands in a folder.
func inFolder(t *testing.T, folder string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // a server that starts is killed then
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Every configuration with a mistake is refused by check and by serve, with exit status 1 and
// exactly the message that lies beside it, and nothing is made where it was refused.
func TestProve8ConfigFiles(t *testing.T) {
	all := badFiles(t, "*.bad.*")
	const atLeast = 40
	if len(all) < atLeast {
		t.Fatalf("%d bad configurations, want %d at least", len(all), atLeast)
	}
	folder := t.TempDir()
	inFolder(t, folder, "version") // the binary is built
	began := time.Now()
	wrong, lines := 0, 0
	look := func(f badFile, args ...string) {
		stdout, stderr, code := inFolder(t, folder, append(args, f.name)...)
		if code != 1 || stdout != "" || stderr != f.want+"\n" {
			wrong++
			t.Errorf("%s %s: exit status %d, standard output %q, standard error\n%swant\n%s", args[0], f.name, code, stdout, stderr, f.want)
		}
	}
	for _, f := range all {
		if err := os.WriteFile(filepath.Join(folder, f.name), f.content, 0o600); err != nil {
			t.Fatal(err)
		}
		lines += 1 + strings.Count(f.want, "\n")
	}
	for _, f := range some(all, 12) {
		look(f, "serve", "-c")
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != len(all) {
		t.Errorf("%d files in the folder, %v; want the %d configurations and nothing beside them", len(left), err, len(all))
	}
	look(all[0], "check")
	// All at once: check tells every mistake of every file in one run.
	args, want := []string{"check"}, ""
	for _, f := range all {
		args, want = append(args, f.name), want+f.want+"\n"
	}
	if stdout, stderr, code := inFolder(t, folder, args...); code != 1 || stdout != "" || stderr != want {
		wrong++
		t.Errorf("check of all files: exit status %d, standard output %q, standard error is as it must be: %t", code, stdout, stderr == want)
	}
	t.Logf("table: 8 | check of %d bad files, serve of %d | exit status 1, %d messages exact, wrong %d, started 0, %v",
		len(all), len(some(all, 12)), lines, wrong, time.Since(began).Round(time.Second))
}

// What cannot be read as a file is refused by check and serve with exit status 1 and its name.
func TestProve8ConfigUnreadable(t *testing.T) {
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	err := errors.Join(os.Mkdir(in("folder.yaml"), 0o700), os.Symlink("nowhere.yaml", in("dangling.yaml")),
		os.Symlink("circle.yaml", in("circle.yaml")), os.WriteFile(in("huge.yaml"), bytes.Repeat([]byte("# a comment\n"), 1<<19), 0o600),
		os.WriteFile(in("random.yaml"), unlikely(1<<20), 0o600), os.WriteFile(in("long.yaml"), append(bytes.Repeat([]byte("a"), 1<<20), ": 1\n"...), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"missing.yaml", "folder.yaml", "dangling.yaml", "circle.yaml", "huge.yaml", "random.yaml", "long.yaml"}
	longest := 0
	for _, name := range names {
		for _, args := range [][]string{{"check", name}, {"serve", "-c", name}} {
			stdout, stderr, code := inFolder(t, folder, args...)
			longest = max(longest, len(stderr))
			if code != 1 || stdout != "" || !strings.Contains(stderr, name) || strings.Count(stderr, "\n") != 1 || len(stderr) > 1000 {
				t.Errorf("%v: exit status %d, %q, %d bytes on standard error: %.300q", args, code, stdout, len(stderr), stderr)
			}
		}
	}
	t.Logf("table: 8 | %d files missing, folders, links, 6 MiB, 1 MiB of any bytes or in one key | exit status 1, one line of %d bytes at most",
		len(names), longest)
}

// unlikely are n bytes that are no text.
func unlikely(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

const reloadRules = `visible_within: 1h
clusters:
  - {name: n1, dir: {path: %[1]q}}
  - {name: n2, dir: {path: %[2]q}}
categories:
  - match: "web*"
    store: {failover: {places: [{files: {cluster: n1, partition: day, idle: 1h}}, {files: {cluster: n2, partition: day, idle: 1h}}, {buffer: {}}]}}
`

// kept is what no refused reload may change.
type kept struct {
	Aggregator string `json:"aggregator"`
	Epoch      uint32 `json:"epoch"`
	Start      string `json:"start"`
	State      string `json:"state"`
	Clusters   []struct {
		Name, State        string
		Drained            bool
		Switches, Torn     int64
		OpenFiles, Sealing int
	} `json:"clusters"`
	Categories []struct {
		Name   string `json:"name"`
		Queues []struct {
			Chain         uint32
			Match, Active string
			Closing       bool
		} `json:"queues"`
	} `json:"categories"`
	Warnings []string `json:"warnings"`
	begun    float64
	sealed   float64
}

func keptBy(t *testing.T, s *lab.Server) (k kept) {
	t.Helper()
	s.Get("/v1/status", &k)
	k.begun, k.sealed = s.Metric("twinscribe_files_begun_total"), s.Metric("twinscribe_files_sealed_total")
	return k
}

// butRefusal is a status without what it must tell of a refused reload.
func (k kept) butRefusal(t *testing.T) kept {
	t.Helper()
	told := len(k.Warnings)
	k.Warnings = slices.DeleteFunc(slices.Clone(k.Warnings), func(w string) bool { return strings.HasPrefix(w, "the reload of ") })
	if k.State != "warning" || told != len(k.Warnings)+1 {
		t.Fatalf("a refused reload is not told: %+v", k)
	}
	k.State = "alive"
	if len(k.Warnings) == 0 {
		k.Warnings = nil // as where the status has none
	}
	return k
}

// A running server under load is given every bad configuration in turn, by HUP, ctl reload and
// fb303's reinitialize: each is refused with its message, which the status tells, and nothing else
// happens. A good one works afterwards.
func TestProve8ConfigReload(t *testing.T) {
	folder := t.TempDir()
	rules := fmt.Sprintf(reloadRules, filepath.Join(folder, "n1"), filepath.Join(folder, "n2"))
	s := lab.NewServer(t, rules)
	s.Start()
	const size = 200
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 4, Batch: 5, Interval: 4 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return fmt.Appendf(nil, "web%d", c%2), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 30*time.Second, "both categories are written", func() bool { return s.Metric("twinscribe_files_begun_total") == 2 })
	before := keptBy(t, s)
	if len(before.Categories) != 2 || len(before.Categories[0].Queues) != 1 || before.Categories[0].Queues[0].Active != "n1" {
		t.Fatalf("the status has %+v", before)
	}

	bad := some(badFiles(t, "*.bad.yaml"), 12)
	r := &reloader{t: t, s: s}
	var quiet, reloads []window
	for _, f := range bad {
		quiet = append(quiet, windowOf(func() { r.askInVain() }))
		reloads = append(reloads, windowOf(func() { r.refused(f) }))
		if now := keptBy(t, s).butRefusal(t); !reflect.DeepEqual(now, before) {
			t.Fatalf("after %s: %+v, was %+v", f.name, now, before)
		}
	}
	unreadable := r.unreadable()
	if now := keptBy(t, s).butRefusal(t); !reflect.DeepEqual(now, before) {
		t.Fatalf("after files that cannot be read: %+v, was %+v", now, before)
	}
	cancel()
	hs := <-done
	sent, unknown, later, _ := sumHistories(hs)
	n, p99 := latencyWithin(hs, reloads)
	nQuiet, p99Quiet := latencyWithin(hs, quiet)
	t.Logf("table: 8 | %d bad reloads under load (HUP %d, ctl %d, fb303 %d) | refused %d with exact messages, changed 0, files begun or sealed 0",
		len(bad)+unreadable, r.asked[byHUP], r.asked[byCtl], r.asked[byFB303], len(bad)+unreadable)
	t.Logf("table: 8 | %d messages meanwhile | TRY_LATER %d, p99 %v (%d calls), %v without reloads (%d calls)",
		sent, later, p99.Round(time.Microsecond), n, p99Quiet.Round(time.Microsecond), nQuiet)
	if later > 0 || n == 0 || nQuiet == 0 {
		t.Errorf("%d TRY_LATER, %d and %d calls", later, n, nQuiet)
	}
	if limit := pick(10*p99Quiet+100*time.Millisecond, 2*p99Quiet+20*time.Millisecond); p99 > limit {
		t.Errorf("p99 is %v during reloads, want %v at most", p99, limit)
	}
	if got := strings.Count(string(s.Log()), "reload: nothing has changed"); got < len(bad)+unreadable {
		t.Errorf("the log tells of %d refused reloads, want %d", got, len(bad)+unreadable)
	}
	r.goodReload(rules)
	if now := keptBy(t, s); now.State != "alive" || len(now.Warnings) > 0 {
		t.Errorf("after a good reload the status has %+v", now)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	for i := range 2 {
		own := make([]*lab.History, len(hs))
		for c := range hs {
			own[c] = &lab.History{}
			if c%2 == i {
				own[c] = hs[c]
			}
		}
		readBack(t, s, fmt.Sprintf("web%d", i), own, size, true)
	}
	t.Logf("table: 8 | good reload after them, stop, read | new rule works; %d acknowledged, lost 0, twice 0, unknown %d", sent-unknown, unknown)
}

// The ways to ask for a reload.
const (
	byHUP = iota
	byCtl
	byFB303
	ways
)

// reloader replaces the configuration of a running server and has it read again.
type reloader struct {
	t     *testing.T
	s     *lab.Server
	next  int
	last  string
	asked [ways]int
}

// askInVain does what refused does but for the reload itself, so that what the machine spends on
// asking does not count.
func (r *reloader) askInVain() {
	time.Sleep(50 * time.Millisecond)
	r.s.Run("ctl", "--addr", r.s.HTTP, "version")
	r.lastReload()
	time.Sleep(50 * time.Millisecond)
}

func (r *reloader) lastReload() string {
	r.t.Helper()
	var st struct{ Reload struct{ Error string } }
	r.s.Get("/v1/status", &st)
	return st.Reload.Error
}

// replace puts the file in its place as editors do.
func (r *reloader) replace(content []byte) {
	r.t.Helper()
	fresh := r.s.Config + ".new"
	if err := errors.Join(os.WriteFile(fresh, content, 0o600), os.Rename(fresh, r.s.Config)); err != nil {
		r.t.Fatal(err)
	}
}

// refused gives the server a bad file and wants its message.
func (r *reloader) refused(f badFile) {
	r.t.Helper()
	r.replace(f.content)
	r.ask(f.as(r.s.Config), func(message, want string) bool { return message == want })
	time.Sleep(50 * time.Millisecond)
}

// ask asks in turn by each way, and wants a refusal. The same message twice can be told apart only
// where there is an answer.
func (r *reloader) ask(want string, is func(message, want string) bool) {
	r.t.Helper()
	way := r.next % ways
	if r.next++; want == r.last {
		way = byCtl
	}
	r.last = want
	r.asked[way]++
	switch way {
	case byHUP:
		if err := syscall.Kill(r.s.Pid(), syscall.SIGHUP); err != nil {
			r.t.Fatal(err)
		}
	case byFB303:
		c, err := client.New(client.Options{Addrs: []string{r.s.Thrift}})
		if err == nil {
			err = errors.Join(c.Reinitialize(r.t.Context()), c.Close())
		}
		if err != nil {
			r.t.Fatal(err)
		}
	case byCtl:
		stdout, stderr, code := r.s.Run("ctl", "--addr", r.s.HTTP, "reload")
		message, ours := strings.CutPrefix(strings.TrimSuffix(string(stderr), "\n"), "twinscribe: ")
		if code != 1 || !ours || !is(message, want) || len(stdout) > 0 {
			r.t.Errorf("ctl reload: exit status %d, %q, %q; want %q", code, stdout, stderr, want)
		}
	}
	for deadline := time.Now().Add(15 * time.Second); !is(r.lastReload(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("the status says of the reload %q, want %q", r.lastReload(), want)
		}
	}
}

// unreadable gives the server no file, and a folder in its place.
func (r *reloader) unreadable() (n int) {
	r.t.Helper()
	file := r.s.Config
	named := func(message, want string) bool {
		return strings.Contains(message, file) && strings.Contains(message, want)
	}
	if err := os.Remove(file); err != nil {
		r.t.Fatal(err)
	}
	r.ask("missing", func(message, _ string) bool { return named(message, "no such file") })
	if err := os.Mkdir(file, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.ask("folder", func(message, _ string) bool {
		return named(message, "") && (strings.Contains(message, "folder") || strings.Contains(message, "directory"))
	})
	if err := os.Remove(file); err != nil {
		r.t.Fatal(err)
	}
	return 2
}

// goodReload adds a rule to the running server and sends a message by it.
func (r *reloader) goodReload(rules string) {
	r.t.Helper()
	t, s := r.t, r.s
	s.Rewrite(rules + "  - match: added\n    store: {files: {cluster: n2}}\n")
	if _, stderr, code := s.Run("ctl", "--addr", s.HTTP, "reload"); code != 0 || r.lastReload() != "" {
		t.Fatalf("a good reload: exit status %d, %s; the status says %q", code, stderr, r.lastReload())
	}
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ok, err := c.Log([]lab.Entry{{Category: []byte("added"), Message: []byte("routed")}}, 10*time.Second); !ok || err != nil {
		t.Fatalf("a message by the new rule: %t, %v", ok, err)
	}
	if n := s.Metric("twinscribe_files_begun_total", `cluster="n2"`); n != 1 {
		t.Errorf("%v files were begun on n2, want the new rule's", n)
	}
}

// A window is a stretch of time.
type window struct{ from, to time.Time }

func windowOf(do func()) window {
	w := window{from: time.Now()}
	do()
	w.to = time.Now()
	return w
}

// latencyWithin is the p99 of the OKs within windows.
func latencyWithin(hs []*lab.History, windows []window) (n int, p99 time.Duration) {
	var all []time.Duration
	for _, h := range hs {
		for _, o := range h.OKs {
			if slices.ContainsFunc(windows, func(w window) bool { return !o.At.Before(w.from) && o.At.Before(w.to) }) {
				all = append(all, o.Took)
			}
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return len(all), all[len(all)*99/100]
}
