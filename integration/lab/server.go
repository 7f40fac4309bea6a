package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary is the built twinscribe: TWINSCRIBE_BIN, or bin/tested/twinscribe of the checkout, built
// once for each run of the tests. bin/twinscribe, which knows its version, stays as it is.
var Binary = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("TWINSCRIBE_BIN"); b != "" {
		return filepath.Abs(b)
	}
	b := filepath.Join(Repository(), "bin", "tested", "twinscribe")
	cmd := exec.Command("go", "build", "-o", b, "./cmd/twinscribe")
	cmd.Dir = Repository()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building twinscribe: %w\n%s", err, out)
	}
	return b, nil
})

// A Server is one twinscribe with its configuration and state. It may be started and ended
// many times.
type Server struct {
	t      testing.TB
	Dir    string // state, configuration, log
	Config string // file
	Thrift string
	HTTP   string

	Descriptors int // what ulimit -n allows it from the next start on; 0: as this process has it

	Bin string   // instead of Binary
	Env []string // in addition to the test's own, of what is started next

	head string   // of the configuration: what NewServer and NewScribe fill in
	args []string // what starts it

	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

// NewServer writes a configuration: listen, id and state are filled in, the rest is YAML from
// the caller.
func NewServer(t testing.TB, yaml string) *Server {
	t.Helper()
	return newYAML(t, freePort(t), freePort(t), yaml)
}

// NewReceiver is NewServer on ports that stay the test's own while the server is away.
func NewReceiver(t testing.TB, yaml string) *Server {
	t.Helper()
	return newYAML(t, "127.0.0.1:"+ownPort(t), "127.0.0.1:"+ownPort(t), yaml)
}

func newYAML(t testing.TB, thrift, http, yaml string) *Server {
	t.Helper()
	s := newServer(t, thrift, http, "serve", "twinscribe.yaml")
	s.head = fmt.Sprintf("id: ag1\nlisten: {thrift: %q, http: %q}\nstate: %q\n", s.Thrift, s.HTTP, filepath.Join(s.Dir, "state"))
	s.Rewrite(yaml)
	return s
}

// newServer makes the folder of a server that a command starts, and has all of it ended and
// removed behind the test.
func newServer(t testing.TB, thrift, http, command, config string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("TWINSCRIBE_TMP"), "twinscribe-test-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Dir: dir, Config: filepath.Join(dir, config), Thrift: thrift, HTTP: http}
	s.args = []string{command, "-c", s.Config}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the server's state and log are kept in %s", dir)
			s.tail()
			return
		}
		os.RemoveAll(dir)
	})
	return s
}

// Rewrite replaces the configuration file below what is filled in; a running server does not look
// at it by itself.
func (s *Server) Rewrite(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.Config, []byte(s.head+text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start starts the server and waits until it is ready.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	s.WaitReady(30 * time.Second)
}

// Launch starts the server without waiting.
func (s *Server) Launch() {
	s.t.Helper()
	bin := s.binary()
	var err error
	if s.log, err = os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(bin, s.args...)
	if s.Descriptors > 0 {
		limited := []string{"-c", `ulimit -n "$1" && shift && exec "$@"`, "sh", strconv.Itoa(s.Descriptors), bin}
		s.cmd = exec.Command("sh", append(limited, s.args...)...)
	}
	s.cmd.Env = append(os.Environ(), s.Env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan error, 1)
	go func(c *exec.Cmd, done chan error) { done <- c.Wait() }(s.cmd, s.done)
}

// WaitReady waits for /readyz.
func (s *Server) WaitReady(limit time.Duration) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		r, err := http.Get("http://" + s.HTTP + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-s.done:
			s.cmd = nil
			s.tail()
			s.t.Fatalf("the server ended while it started: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			s.tail()
			s.t.Fatalf("the server is not ready after %v", limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Ended waits until the server has ended by itself, as it did when a fail point killed it; false:
// it runs still.
func (s *Server) Ended(limit time.Duration) (how syscall.WaitStatus, ended bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-s.done:
		how, _ = s.cmd.ProcessState.Sys().(syscall.WaitStatus)
		s.cmd = nil
		s.log.Close()
		return how, true
	case <-timer.C:
		return 0, false
	}
}

// Signal sends a signal to the running server and does not wait. One that has ended hears nothing.
func (s *Server) Signal(sig syscall.Signal) { s.cmd.Process.Signal(sig) }

func (s *Server) binary() string {
	s.t.Helper()
	if s.Bin != "" {
		return s.Bin
	}
	bin, err := Binary()
	if err != nil {
		s.t.Fatal(err)
	}
	return bin
}

// Pid of the running server.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill is kill -9. Without a running server it does nothing.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.done
	s.cmd = nil
	s.log.Close()
}

// Stop is TERM; it gives the exit status.
func (s *Server) Stop() int {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		s.t.Fatal("the server has not stopped a minute after TERM")
	}
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	s.log.Close()
	return code
}

func (s *Server) tail() {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
	if len(b) > 6000 {
		b = b[len(b)-6000:]
	}
	s.t.Logf("the end of the server's log:\n%s", b)
}

// Log is the server's log so far.
func (s *Server) Log() []byte {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// Run runs a twinscribe command and gives standard output, standard error and the exit status.
func (s *Server) Run(args ...string) (stdout, stderr []byte, code int) {
	s.t.Helper()
	bin := s.binary()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), s.Env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return out.Bytes(), errs.Bytes(), cmd.ProcessState.ExitCode()
}

// Read runs `twinscribe read` with this server's configuration and gives its standard output to f.
func (s *Server) Read(f func(io.Reader) error, args ...string) (stderr string, code int) {
	s.t.Helper()
	bin := s.binary()
	cmd := exec.Command(bin, append([]string{"read", "-c", s.Config}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	err = f(out)
	_ = cmd.Wait()
	if err != nil {
		s.t.Fatalf("read %v: %v\n%s", args, err, errs.String())
	}
	return errs.String(), cmd.ProcessState.ExitCode()
}

// Get fetches JSON from the server's HTTP side.
func (s *Server) Get(path string, v any) {
	s.t.Helper()
	if err := s.TryGet(path, v); err != nil {
		s.t.Fatal(err)
	}
}

// TryGet is Get for a server that may be away.
func (s *Server) TryGet(path string, v any) error {
	b, err := s.TryPage(path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(b), v)
}

// Page is what the HTTP side answers.
func (s *Server) Page(path string) string {
	s.t.Helper()
	page, err := s.TryPage(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return page
}

// TryPage is Page for a server that may be away, and for goroutines that cannot end the test.
func (s *Server) TryPage(path string) (string, error) {
	c := http.Client{Timeout: 10 * time.Second}
	r, err := c.Get("http://" + s.HTTP + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, r.Status, b)
	}
	return string(b), err
}

// Metric is the sum of a metric's samples whose labels hold all of the given texts, such as `place="n1"`.
func (s *Server) Metric(name string, labels ...string) float64 {
	s.t.Helper()
	var sum float64
	for line := range strings.Lines(s.Page("/metrics")) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(rest, l)
		}
		if f := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:]); all && len(f) > 0 {
			var v float64
			fmt.Sscan(f[0], &v)
			sum += v
		}
	}
	return sum
}

// Eventually asks until ok is true, and fails the test after limit.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(start)
}
