//go:build integration

package dropin

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// TestD1ShutdownBehindHeldBatch: while a store cannot be written to, acknowledged messages pile up
// behind the batch that it refused. fb303 shutdown loses none of them: the next start stores all,
// in order.
func TestD1ShutdownBehindHeldBatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "out")
	write(t, target, "") // a file where the folder belongs
	s := started(t, store("category=held", "type=file", "file_path="+target, "add_newlines=1"))
	const n = 300
	send(t, s, "held", 0, n/2)
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return "no WARNING" })
	send(t, s, "held", n/2, n)
	s.Oneway("shutdown")
	if how, ended := s.Ended(2 * time.Minute); !ended || how.ExitStatus() != 0 {
		t.Fatalf("after shutdown: ended %v, status %d", ended, how.ExitStatus())
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	s.Start()
	inOrder(t, target, "held", "held", n)
}

// TestD2Signals: TERM and INT store what waits in memory and end with 0; HUP reads the
// configuration again and loses nothing.
func TestD2Signals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		dir := t.TempDir()
		// nothing is written for a minute unless something ends
		s := started(t, store("category=default", "type=file", "file_path="+dir, "add_newlines=1", "target_write_size=10000000", "max_write_interval=60"))
		send(t, s, "sig", 0, 50)
		s.Signal(sig)
		if how, ended := s.Ended(patience); !ended || how.ExitStatus() != 0 {
			t.Fatalf("%v: ended %v, status %d", sig, ended, how.ExitStatus())
		}
		inOrder(t, filepath.Join(dir, "sig"), "sig", "sig", 50)
	}
	dir := t.TempDir()
	s := started(t, filing(dir))
	send(t, s, "sig", 0, 50)
	s.Signal(syscall.SIGHUP)
	waitFor(t, func() bool { return bytes.Contains(s.Log(), []byte("reloaded")) }, func() string { return "no reload" })
	send(t, s, "sig", 50, 100)
	inOrder(t, filepath.Join(dir, "sig"), "sig", "sig", 100)
}

// TestD16Reload: reinitialize refuses nobody while stores drain, and a limit that is removed from
// the file is gone.
func TestD16Reload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := lab.NewScribe(t, "max_msg_per_second=4\n"+filing(dir))
	s.Start()
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	denied := false
	for range 200 { // in one second at least 3 of them
		ok, err := c.Log([]lab.Entry{entry("rate", "m")}, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		denied = denied || !ok
	}
	if !denied {
		t.Error("200 messages at 4 a second, and none was refused")
	}
	s.Rewrite(filing(dir))
	s.Oneway("reinitialize")
	waitFor(t, func() bool { return bytes.Contains(s.Log(), []byte("reloaded")) }, func() string { return "no reload" })
	for n := range 500 {
		if ok, err := c.Log([]lab.Entry{entry("free", fmt.Sprintf("free-%d", n))}, 10*time.Second); err != nil || !ok {
			t.Fatalf("call %d behind the reload: OK %v, %v", n, ok, err)
		}
	}
	inOrder(t, filepath.Join(dir, "free"), "free", "free", 500)
}

// TestScenario9Reload: the limit is raised under load. No call fails, and all that was taken is there.
func TestScenario9Reload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := lab.NewScribe(t, "max_msg_per_second=1000\n"+filing(dir))
	s.Start()
	n := pick(3_000, 30_000)
	done := make(chan error, 1)
	go func() { done <- sender(s, "reload", "reload", 0, n, 100) }()
	counted := func() int64 { return s.Counters()["reload:received good"] }
	waitFor(t, func() bool { return counted() >= 1000 }, func() string { return fmt.Sprintf("%d messages", counted()) })
	s.Rewrite("max_msg_per_second=1000000\n" + filing(dir))
	s.Oneway("reinitialize")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	inOrder(t, filepath.Join(dir, "reload"), "reload", "reload", n)
}
