package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the program, for the scripts.
func TestMain(m *testing.M) {
	version = "1.2.3-test"
	testscript.Main(m, map[string]func(){"twinscribe": main})
}

// patience is for what has to happen sooner or later.
const patience = 20 * time.Second

// defaultConf is conf.yaml of a script that brings none.
const defaultConf = `id: ag1
listen: {thrift: "${THRIFT}", http: "${HTTP}"}
state: ${WORK}/state
timeouts: {write: 2s, ack: 5s, stop: 10s}
clusters:
  - {name: n1, dir: {path: "${WORK}/n1"}, probe: {every: 50ms, hold_off: 100ms, hold_off_max: 1s}}
  - {name: n2, dir: {path: "${WORK}/n2"}, probe: {every: 50ms, hold_off: 100ms, hold_off_max: 1s}}
categories:
  - match: "*"
    store: {failover: {places: [{files: {cluster: n1}}, {files: {cluster: n2}}, {buffer: {}}]}}
`

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "signal": signalServer, "ended": ended,
			"exits": exits, "within": within, "oneline": oneLine, "flip": flip, "count": count,
		},
	})
}

// raceOptions keep the race detector, where it is on, from making every process
// end a second later.
const raceOptions = "atexit_sleep_ms=0"

// setup gives a script a server's addresses, and replaces them and $WORK in its
// configurations.
func setup(e *testscript.Env) error {
	for _, name := range []string{"THRIFT", "HTTP"} {
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		e.Setenv(name, addr)
	}
	e.Setenv("GORACE", raceOptions)
	e.Values[serverKey{}] = &server{}
	conf := filepath.Join(e.WorkDir, "conf.yaml")
	if _, err := os.Stat(conf); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(conf, []byte(defaultConf), 0o600); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(e.WorkDir, "*.[yc]*[lf]")) // .yaml and .conf
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(f, []byte(os.Expand(string(b), e.Getenv)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// nextPort counts through ports that are not drawn for outgoing connections.
var nextPort atomic.Int32

func freeAddress() (string, error) {
	nextPort.CompareAndSwap(0, 15_000+int32(os.Getpid()%10_000))
	for range 5000 {
		addr := fmt.Sprintf("127.0.0.1:%d", nextPort.Add(1))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("no free port")
}

type serverKey struct{}

// A server is the one that a script runs.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func of(ts *testscript.TestScript) *server { return ts.Value(serverKey{}).(*server) }

// start [ARG...] runs `twinscribe serve ARG...`, by default with -c conf.yaml,
// and waits until it is ready. Its log goes to the file log.
func start(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	if neg || s.cmd != nil {
		ts.Fatalf("usage: start [ARG...], once")
	}
	if len(args) == 0 {
		args = []string{"-c", "conf.yaml"}
	}
	log, err := os.OpenFile(ts.MkAbs("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	s.cmd = exec.Command("twinscribe", append([]string{"serve"}, args...)...)
	s.cmd.Dir, s.cmd.Stderr = ts.MkAbs("."), log
	s.cmd.Env = append(os.Environ(), "GORACE="+raceOptions)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ts.Check(s.cmd.Start())
	done := make(chan struct{})
	s.done = done
	cmd := s.cmd
	go func() {
		_ = cmd.Wait() // the exit status is looked at by ended
		close(done)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	c := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if answer, err := c.Get("http://" + ts.Getenv("HTTP") + "/readyz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-done:
			ts.Fatalf("the server has ended: %v\n%s", cmd.ProcessState, ts.ReadFile("log"))
		default:
		}
		if time.Now().After(end) {
			ts.Fatalf("the server is not ready\n%s", ts.ReadFile("log"))
		}
	}
}

// signal TERM|INT|HUP|KILL goes to the server.
func signalServer(ts *testscript.TestScript, neg bool, args []string) {
	known := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if neg || len(args) != 1 || known[args[0]] == 0 || of(ts).cmd == nil {
		ts.Fatalf("usage: signal TERM|INT|HUP|KILL, after start")
	}
	ts.Check(of(ts).cmd.Process.Signal(known[args[0]]))
}

// ended STATUS waits for the server's end; -1 is that of a killed one.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	if neg || len(args) != 1 || s.cmd == nil {
		ts.Fatalf("usage: ended STATUS, after start")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	select {
	case <-s.done:
	case <-time.After(patience):
		ts.Fatalf("the server goes on\n%s", ts.ReadFile("log"))
	}
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("the server ended with %d, want %d\n%s", got, want, ts.ReadFile("log"))
	}
	s.cmd = nil
}

// exits STATUS COMMAND... is exec with the very exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := status(ts, args[1:]); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func status(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	ts.Fatalf("%v", err)
	return 0
}

// within REGEXP COMMAND... repeats a command until what it prints matches.
func within(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] within REGEXP COMMAND...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status(ts, args[1:])
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if re.MatchString(out) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("never within %v; at the end it printed\n%s", patience, out)
		}
	}
}

// oneline [STREAM]: the last command has said one line there, by default on
// standard error.
func oneLine(ts *testscript.TestScript, neg bool, args []string) {
	stream := "stderr"
	if len(args) == 1 {
		stream = args[0]
	}
	if out := ts.ReadFile(stream); neg || strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
		ts.Fatalf("%s is not one line: %q", stream, out)
	}
}

// flip GLOB OFFSET changes a bit of the one file that matches; a negative offset
// is one from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip GLOB OFFSET")
	}
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if len(names) != 1 {
		ts.Fatalf("%s matches %q", args[0], names)
	}
	b, err := os.ReadFile(names[0])
	ts.Check(err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0x10
	ts.Check(os.WriteFile(names[0], b, 0o600))
}

// count N GLOB: so many names match.
func count(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: count N GLOB")
	}
	names, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if strconv.Itoa(len(names)) != args[0] {
		ts.Fatalf("%d names match: %q", len(names), names)
	}
}
