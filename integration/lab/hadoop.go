// Package lab starts and breaks what the integration tests are about: real
// HDFS clusters from Hadoop's own jars, the built twinscribe binary, and
// clients that keep a history of what was acknowledged to them.
//
// It knows twinscribe only from outside: the binary, the wire, the files.
package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Hadoop is one HDFS cluster: a NameNode and DataNodes, each a JVM of its own.
type Hadoop struct {
	t    testing.TB
	Name string // N1..N9
	Addr string // of the NameNode
	dir  string // of the scripts
	lab  string
	nth  int
}

// Repository is the root of the checkout.
func Repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

var labDir = sync.OnceValues(func() (string, error) {
	if d := os.Getenv("HDFS_LAB"); d != "" {
		return filepath.Abs(d)
	}
	return filepath.Join(Repository(), ".lab"), nil
})

// StartHadoop starts a cluster with an empty name space; when the test ends, its processes are
// ended by their pids and its data is wiped. props are KEY=VALUE pairs for the site file.
func StartHadoop(t testing.TB, name string, dataNodes int, props ...string) *Hadoop {
	t.Helper()
	lab, err := labDir()
	if err != nil {
		t.Fatal(err)
	}
	h := &Hadoop{t: t, Name: name, lab: lab, dir: filepath.Join(Repository(), "integration", "hadoop")}
	h.nth, _ = strconv.Atoi(strings.TrimPrefix(name, "N"))
	if out, err := h.script(2*time.Minute, "hdfs-down", name, "-w"); err != nil {
		t.Fatalf("clearing %s: %v\n%s", name, err, out)
	}
	args := []string{name, "-n", strconv.Itoa(dataNodes), "-t", "120"}
	props = append([]string{"dfs.datanode.max.transfer.threads=4096", "dfs.blocksize=4194304"}, props...)
	for _, p := range props {
		args = append(args, "-p", p)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("KEEP_LAB") != "" {
			return
		}
		if out, err := h.script(time.Minute, "hdfs-down", name, "-w"); err != nil {
			t.Errorf("ending %s: %v\n%s", name, err, out)
		}
	})
	out, err := h.script(5*time.Minute, "hdfs-up", args...)
	if err != nil {
		t.Fatalf("starting %s: %v\n%s", name, err, out)
	}
	for _, line := range strings.Fields(out) {
		if _, _, err := net.SplitHostPort(line); err == nil {
			h.Addr = line
			break
		}
	}
	if h.Addr == "" {
		t.Fatalf("starting %s: no address in %q", name, out)
	}
	return h
}

func (h *Hadoop) script(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.dir, name), args...)
	cmd.Env = append(os.Environ(), "HDFS_LAB="+h.lab)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // daemons inherit nothing, but a pipe may stay open for a moment
	err := cmd.Run()
	return out.String(), err
}

// Do is hdfs-proc: kill, stop, cont, start of nn, dn1.. or all.
func (h *Hadoop) Do(who, what string) {
	h.t.Helper()
	if out, err := h.script(time.Minute, "hdfs-proc", h.Name, who, what); err != nil {
		h.t.Fatalf("%s %s %s: %v\n%s", h.Name, who, what, err, out)
	}
}

// Wait waits until the NameNode is out of safe mode with so many DataNodes in service.
func (h *Hadoop) Wait(dataNodes int) {
	h.t.Helper()
	if err := h.TryWait(dataNodes, 2*time.Minute); err != nil {
		h.t.Fatal(err)
	}
}

// TryWait is Wait for a cluster that may not come up.
func (h *Hadoop) TryWait(dataNodes int, limit time.Duration) error {
	out, err := h.script(limit+time.Minute, "hdfs-proc", h.Name, "nn", "wait", strconv.Itoa(dataNodes), strconv.Itoa(int(limit.Seconds())))
	if err != nil {
		return fmt.Errorf("%s wait: %w: %s", h.Name, err, out)
	}
	return nil
}

// Port of a process: the NameNode's RPC for nn, the data port for dn1...
func (h *Hadoop) Port(who string) int {
	_, port, _ := net.SplitHostPort(h.Addr)
	n, _ := strconv.Atoi(port)
	if who != "nn" {
		i, _ := strconv.Atoi(strings.TrimPrefix(who, "dn"))
		n += 10 * i
	}
	return n
}

// Pid of one of the cluster's processes.
func (h *Hadoop) Pid(who string) int {
	h.t.Helper()
	out, err := h.script(time.Minute, "hdfs-proc", h.Name, who, "pid")
	pid, err2 := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || err2 != nil {
		h.t.Fatalf("pid of %s %s: %v %v %s", h.Name, who, err, err2, out)
	}
	return pid
}

// Signal sends a signal to one of the cluster's processes, faster than the script does.
func (h *Hadoop) Signal(pid int, s syscall.Signal) {
	h.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		h.t.Fatalf("signal %v to %d of %s: %v", s, pid, h.Name, err)
	}
}

// CLI runs one of Hadoop's own shells in a fresh JVM and gives its standard output.
func (h *Hadoop) CLI(args ...string) []byte {
	h.t.Helper()
	out, err := h.TryCLI(args...)
	if err != nil {
		h.t.Fatalf("hdfs %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TryCLI is CLI for commands that may fail.
func (h *Hadoop) TryCLI(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.dir, "hdfs-cli"), append([]string{h.Name}, args...)...)
	cmd.Env = append(os.Environ(), "HDFS_LAB="+h.lab)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return out, err
}

// User is who runs the tests, and so the clusters' superuser: the one whose name the servers use.
func User() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	return u.Username
}
