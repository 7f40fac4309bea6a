//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A thousand open files cost a handful of connections to the NameNode and no goroutine each in
// the write path.
func TestProveManyFiles(t *testing.T) {
	n1 := lab.StartHadoop(t, "N1", 1)
	s := lab.NewServer(t, twoClusters(n1, nil, "limits: {memory: 256MiB}\n"))
	s.Start()
	files := pick(200, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const size = 100
	load := lab.Load{Addr: s.Thrift, Clients: files / 20, Batch: 20, Interval: 500 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) {
			return fmt.Appendf(nil, "cat%04d", c*20+n%20), lab.Line(c, n, size)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 90*time.Second, "all files open", func() bool { return s.Metric("twinscribe_files_open") >= float64(files) })
	most := 0
	for range pick(10, 60) {
		most = max(most, connections(t, s.Pid(), n1.Port("nn")))
		time.Sleep(200 * time.Millisecond)
	}
	open := s.Metric("twinscribe_files_open")
	cancel()
	hs := <-done
	time.Sleep(time.Second)
	stacks := strings.Split(strings.TrimSpace(s.Page("/debug/pprof/goroutine?debug=2")), "\n\n")
	inWrite := 0
	for _, g := range stacks {
		if strings.Contains(g, "twinscribe/store/hdfs.") || strings.Contains(g, "twinscribe/store/files.") {
			inWrite++
		}
	}
	_, unknown, later, longest := sumHistories(hs)
	t.Logf("%.0f open files: at most %d connections to the NameNode; %d goroutines, of these %d in the write path; slowest OK %v, TRY_LATER %d, unknown %d",
		open, most, len(stacks), inWrite, longest, later, unknown)
	if most > 6 {
		t.Errorf("%d connections to the NameNode, want at most 6", most)
	}
	if inWrite > 64 {
		t.Errorf("%d goroutines in the write path for %.0f open files", inWrite, open)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	b := readAll(t, s, hs, size)
	t.Logf("twinscribe read: %v", b)
	b.MustBalance(t)
}

// connections counts a process's established TCP connections to a port, as ss does, from /proc.
func connections(t *testing.T, pid, port int) int {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fds {
		if l, err := os.Readlink(f); err == nil && strings.HasPrefix(l, "socket:[") {
			inodes[strings.TrimSuffix(strings.TrimPrefix(l, "socket:["), "]")] = true
		}
	}
	n := 0
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", port)) && f[3] == "01" && inodes[f[9]] {
				n++
			}
		}
	}
	return n
}
