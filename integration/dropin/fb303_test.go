//go:build integration

package dropin

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Of fb303's status numbers.
const (
	alive   = 2
	warning = 5
)

// TestK3Fb303: status numbers and counter names are Scribe's, and a counter is there once it has been
// counted. The methods' replies are in TestReplies.
func TestK3Fb303(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "") // where a folder belongs
	s := started(t, store("category=good", "type=null")+
		store("category=bad", "type=file", "file_path="+filepath.Join(dir, "file", "below")))
	if status, details := s.Fb303(); status != alive || details != "" {
		t.Errorf("status %d, %q, want ALIVE", status, details)
	}
	if c := s.Counters(); len(c) != 0 {
		t.Errorf("counters at the start: %v", c)
	}
	log(t, s, entry("good", "1"), entry("good", "2"), entry("", "3"))
	counted(t, s, "good:received good", 2)
	counted(t, s, "good:ignored", 2)
	counted(t, s, "scribe_overall:received good", 2)
	counted(t, s, "scribe_overall:ignored", 2)
	counted(t, s, "scribe_overall:received blank category", 1)
	if v := s.Ask("getCounter", lab.TextField(1, "good:received good")); !bytes.Equal(v, []byte{0, 0, 0, 0, 0, 0, 0, 2}) {
		t.Errorf("getCounter: %x", v)
	}

	log(t, s, entry("bad", "kept"))
	waitFor(t, func() bool { status, details := s.Fb303(); return status == warning && details != "" },
		func() string {
			status, details := s.Fb303()
			return fmt.Sprintf("status %d, %q, want WARNING", status, details)
		})
	if err := os.Remove(filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "file", "below"), "bad", "kept")
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == alive },
		func() string {
			status, details := s.Fb303()
			return fmt.Sprintf("status %d, %q, want ALIVE", status, details)
		})

	since := s.Ask("aliveSince")
	s.Oneway("reinitialize")
	waitFor(t, func() bool { return bytes.Contains(s.Log(), []byte("reloaded")) }, func() string { return "no reload" })
	if again := s.Ask("aliveSince"); !bytes.Equal(since, again) {
		t.Errorf("aliveSince changes with reinitialize: %x, %x", since, again)
	}
	counted(t, s, "good:received good", 2)

	s.Oneway("shutdown")
	if how, ended := s.Ended(patience); !ended || how.ExitStatus() != 0 {
		t.Errorf("after shutdown: ended %v, status %d", ended, how.ExitStatus())
	}
}

// TestARefusedReloadIsShown: WARNING with the mistake's line in the details, in ctl and as a metric,
// however the reload was asked for, until there is a good one.
func TestARefusedReloadIsShown(t *testing.T) {
	t.Parallel()
	const good, bad = "category=default", "category=default\nmax_size=many"
	s := started(t, store(good, "type=null"))
	for _, ask := range []struct {
		how string
		do  func()
	}{
		{"reinitialize", func() { s.Oneway("reinitialize") }},
		{"HUP", func() { s.Signal(syscall.SIGHUP) }},
		{"ctl", func() { s.Run("ctl", "reload", "--addr", s.HTTP) }},
	} {
		s.Rewrite(store(bad, "type=file", "file_path="+s.Dir))
		ask.do()
		waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return ask.how + ": no WARNING" })
		_, details := s.Fb303()
		stdout, _, _ := s.Run("ctl", "status", "--addr", s.HTTP)
		for _, want := range []string{s.Config + ":", "max_size", "many"} {
			if !strings.Contains(details, want) || !strings.Contains(string(stdout), "warning: "+details) {
				t.Errorf("%s: no %q in the details %q, or not these in\n%s", ask.how, want, details, stdout)
			}
		}
		if n := s.Metric("twinscribe_config_reload_failed"); n != 1 {
			t.Errorf("%s: the metric is %v", ask.how, n)
		}
		s.Rewrite(store(good, "type=null"))
		ask.do()
		waitFor(t, func() bool { status, details := s.Fb303(); return status == alive && details == "" },
			func() string { return ask.how + ": not ALIVE after a good one" })
		if n := s.Metric("twinscribe_config_reload_failed"); n != 0 {
			t.Errorf("%s: after a good one the metric is %v", ask.how, n)
		}
	}
	s.Rewrite("id=other\n" + store(good, "type=null"))
	s.Oneway("reinitialize")
	waitFor(t, func() bool {
		_, details := s.Fb303()
		return strings.Contains(details, "cannot change while the server runs")
	},
		func() string { _, details := s.Fb303(); return "what needs a restart: " + details })
}

// tool is one of the original's, under its name or as a command.
type tool struct {
	what string
	args []string
}

func tools(t *testing.T, name string) []tool {
	t.Helper()
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	return []tool{{"by name", []string{lab.Tool(t, name)}}, {"as a command", []string{bin, name}}}
}

// run runs it and gives the exit status.
func (o tool) run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	argv := append(o.args[1:len(o.args):len(o.args)], args...)
	cmd := exec.Command(o.args[0], argv...)
	return ran(t, cmd, stdin)
}

func ran(t *testing.T, cmd *exec.Cmd, stdin string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestScribeCat: standard input is one message; 0 is OK, 84 and the word TRY_LATER a refusal.
func TestScribeCat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, filing(dir))
	refusing := listening(t)
	refusing.refuse(true)
	want := ""
	for _, cat := range tools(t, "scribe_cat") {
		text := "two lines\nof one message " + cat.what
		if _, stderr, code := cat.run(t, text, "-h", s.Thrift, "cat"); code != 0 {
			t.Fatalf("%s: exit status %d: %s", cat.what, code, stderr)
		}
		want += text + "\n"
		if _, stderr, code := cat.run(t, "x", "-h", "127.0.0.1:"+refusing.port, "cat"); code != 84 || !strings.Contains(stderr, "TRY_LATER") {
			t.Errorf("%s, refused: exit status %d, %q, want 84 and TRY_LATER", cat.what, code, stderr)
		}
		if _, _, code := cat.run(t, "x", "-h", "127.0.0.1:"+lab.OwnPort(t), "cat"); code == 0 || code == 84 {
			t.Errorf("%s, nobody there: exit status %d", cat.what, code)
		}
	}
	holds(t, filepath.Join(dir, "cat"), "cat", want)
	counted(t, s, "cat:received good", 2)
}

// TestScribeCtrl: status is 2 for ALIVE and 3 otherwise, a failure 3, no command 2, root's 4.
func TestScribeCtrl(t *testing.T) {
	t.Parallel()
	s := nulls(t)
	log(t, s, entry("ctrl", "m"))
	counted(t, s, "ctrl:ignored", 1)
	for _, ctrl := range tools(t, "scribe_ctrl") {
		for _, c := range []struct {
			command, stdout string
			code            int
		}{
			{"status", "ALIVE\n", 2},
			{"version", string(s.Ask("getVersion")[4:]) + "\n", 0},
			{"name", "Scribe\n", 0},
			{"counters", "ctrl:ignored: 1\n", 0},
			{"reload", "", 0},
		} {
			if c.command == "reload" && os.Geteuid() != 0 {
				c.code = 4
			}
			stdout, stderr, code := ctrl.run(t, "", c.command, s.Port())
			if code != c.code || !strings.HasPrefix(stdout, c.stdout) {
				t.Errorf("%s, %s: exit status %d, want %d; %q, %q", ctrl.what, c.command, code, c.code, stdout, stderr)
			}
		}
		stdout, _, code := ctrl.run(t, "", "alive", s.Port())
		if n, err := strconv.ParseInt(strings.TrimSpace(stdout), 10, 64); err != nil || code != 0 || time.Now().Unix()-n > 3600 {
			t.Errorf("%s, alive: exit status %d, %q", ctrl.what, code, stdout)
		}
		if _, _, code := ctrl.run(t, "", "status", lab.OwnPort(t)); code != 3 {
			t.Errorf("%s, nobody there: exit status %d, want 3", ctrl.what, code)
		}
		if _, stderr, code := ctrl.run(t, ""); code != 2 || stderr == "" {
			t.Errorf("%s, no command: exit status %d, want 2; %q", ctrl.what, code, stderr)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	if _, stderr, code := nobody(t, lab.Tool(t, "scribe_ctrl"), "stop", s.Port()); code != 4 {
		t.Errorf("stop by an account that is not root: exit status %d, want 4; %s", code, stderr)
	}
	if _, stderr, code := tools(t, "scribe_ctrl")[0].run(t, "", "stop", s.Port()); code != 0 {
		t.Errorf("stop: exit status %d, want 0; %s", code, stderr)
	}
	if how, ended := s.Ended(patience); !ended || how.ExitStatus() != 0 {
		t.Errorf("after stop: ended %v, status %d", ended, how.ExitStatus())
	}
}

// nobody runs a tool under an account that is nobody's. The binary may lie where only root gets at
// it: it is opened before that and run from the descriptor.
func nobody(t *testing.T, path string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(real)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/proc/self/fd/3", args...)
	cmd.Args[0], cmd.Dir = filepath.Base(path), "/"
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return ran(t, cmd, "")
}
