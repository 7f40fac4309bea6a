package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A held fault is a change to the machine that a script makes and takes back as soon as its
// standard input ends: also when the tests are killed, it does not outlive them.
type held struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	in    io.Closer
	out   *bufio.Reader
	errs  bytes.Buffer
	ended bool
}

// hold starts a script of integration/ and waits for its first word.
func hold(t testing.TB, script, ready string, args ...string) *held {
	t.Helper()
	h := &held{t: t, name: script, cmd: exec.Command(filepath.Join(Repository(), "integration", script), args...)}
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is for the tests
	h.cmd.Stderr = &h.errs
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.end() })
	if line, err := h.out.ReadString('\n'); strings.TrimSpace(line) != ready {
		h.end()
		t.Fatalf("%s %s: %v %s %s", script, strings.Join(args, " "), err, line, h.errs.String())
	}
	return h
}

// end takes the change back and gives what the script says at its end.
func (h *held) end() string {
	if h.ended {
		return ""
	}
	h.ended = true
	h.in.Close()
	said, _ := io.ReadAll(h.out)
	if err := h.cmd.Wait(); err != nil {
		h.t.Errorf("ending %s: %v %s", h.name, err, h.errs.String())
	}
	return strings.TrimSpace(string(said))
}

// NeedBlackHoles installs what a BlackHole needs, and skips the test where there can be none.
func NeedBlackHoles(t testing.TB) {
	t.Helper()
	out, err := exec.Command(filepath.Join(Repository(), "integration", "iptables-setup")).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		t.Skip(strings.TrimSpace(string(out)))
	case err != nil:
		t.Fatalf("iptables-setup: %v\n%s", err, out)
	}
}

// A BlackHole drops every packet from and to some ports of this machine: no answer, no reset,
// also on connections that stand.
type BlackHole struct{ *held }

// StartBlackHole drops packets until End.
func StartBlackHole(t testing.TB, ports ...int) *BlackHole {
	t.Helper()
	args := make([]string, len(ports))
	for i, p := range ports {
		args[i] = strconv.Itoa(p)
	}
	return &BlackHole{hold(t, "blackhole", "dropping", args...)}
}

// End lets packets pass again; it gives how many were dropped.
func (b *BlackHole) End() int {
	n, _ := strconv.Atoi(b.end())
	return n
}

// Ports are those on which others reach a process: the NameNode's RPC and HTTP, a DataNode's
// data and RPC. The heartbeats of a DataNode go to its NameNode's port and pass.
func (h *Hadoop) Ports(who string) []int {
	p := h.Port(who)
	if who == "nn" {
		return []int{p, p + 1}
	}
	return []int{p, p + 2}
}

// A SmallDisk is what a DataNode has for its data instead of its folder.
type SmallDisk struct {
	*held
	h      *Hadoop
	who    string
	Folder string
}

// StartSmallDisk starts a DataNode anew, empty and on a disk of that size (64m), until End.
func (h *Hadoop) StartSmallDisk(t testing.TB, who, size string, dataNodes int) *SmallDisk {
	t.Helper()
	d := &SmallDisk{h: h, who: who, Folder: filepath.Join(h.lab, "slave"+strings.TrimPrefix(who, "dn"), h.Name, "data")}
	h.Do(who, "kill")
	d.held = hold(t, "smalldisk", "mounted", d.Folder, size)
	h.Do(who, "start")
	h.Wait(dataNodes)
	return d
}

// End kills the DataNode; its old folder is there again.
func (d *SmallDisk) End() {
	d.h.Do(d.who, "kill")
	d.end()
}

// host is HOST:PORT for a port on one of the loopback addresses.
func host(address string, port int) string { return net.JoinHostPort(address, fmt.Sprint(port)) }

// SmallFolder is a folder on a disk of that size (2m), which is there until the end of the test.
// It needs root.
func SmallFolder(t testing.TB, size string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "disk")
	d := hold(t, "smalldisk", "mounted", folder, size)
	t.Cleanup(func() { d.end() })
	return folder
}
