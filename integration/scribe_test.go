//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// twoClustersOfScribe is the topology in Scribe's own grammar: a buffer in a buffer, N1 and N2
// inside, local files outside.
func twoClustersOfScribe(n1, n2 *lab.Hadoop, buffer string) string {
	hdfs := func(h *lab.Hadoop) string {
		return fmt.Sprintf("type=file\nfs_type=hdfs\nfile_path=hdfs://%s/scribe/logs\nrotate_period=daily\nmax_size=20000000\ncreate_symlink=no\n", h.Addr)
	}
	return fmt.Sprintf(`
max_queue_size=20000000
<store>
  category=default
  type=buffer
  retry_interval=3
  replay_buffer=yes
  <primary>
    type=buffer
    replay_buffer=no
    retry_interval=3
    <primary>
      %s
    </primary>
    <secondary>
      %s
    </secondary>
  </primary>
  <secondary>
    type=file
    file_path=%s
  </secondary>
</store>
`, hdfs(n1), hdfs(n2), buffer)
}

// scribeName is the name of a file of Scribe's, rotated daily.
var scribeName = regexp.MustCompile(`^web-\d{4}-\d\d-\d\d_\d{5,}$`)

// The two-cluster topology in Scribe's grammar, unchanged but for its addresses: both clusters up,
// N1 dead, N2 dead too, N2 back, N1 back. Each message is acknowledged all along, goes where the
// original's went, and is there once: to our reader, and to whoever reads the files by Scribe's names.
func TestScribeTwoClusters(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewScribe(t, twoClustersOfScribe(n1, n2, t.TempDir()))
	s.Env = append(s.Env, "HADOOP_USER_NAME="+lab.User())
	s.Start()
	var began status
	s.Get("/v1/status", &began)
	first, second := began.Clusters[0].Name, began.Clusters[1].Name

	const size = 300
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 4, Batch: 20, Interval: 20 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte("web"), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()

	stored := func() places {
		var st status
		s.Get("/v1/status", &st)
		return st.Totals.Stored
	}
	// goesTo waits until messages go to a place, and until they go to no other.
	goesTo := func(what, place string) {
		t.Helper()
		lab.Eventually(t, 90*time.Second, what, func() bool {
			before := stored()
			time.Sleep(2 * time.Second)
			now := stored()
			for p, n := range now {
				if p != place && n.Messages > before[p].Messages {
					return false
				}
			}
			return now[place].Messages > before[place].Messages
		})
		t.Logf("%s: stored %v", what, stored())
	}
	stop := func(h *lab.Hadoop, sig syscall.Signal) {
		for _, who := range []string{"nn", "dn1"} {
			h.Signal(h.Pid(who), sig)
		}
	}
	goesTo("both up: messages go to N1", first)
	stop(n1, syscall.SIGSTOP)
	goesTo("N1 stopped: they go to N2", second)
	stop(n2, syscall.SIGSTOP)
	goesTo("both stopped: they go to the buffer", "buffer")
	stop(n2, syscall.SIGCONT)
	n2.Wait(1)
	goesTo("N2 back: they go to N2", second)
	lab.Eventually(t, 90*time.Second, "the buffer is sent to N2", func() bool {
		var st status
		s.Get("/v1/status", &st)
		return st.Buffer.Unshipped["outage"]+st.Buffer.Unshipped["spill"] == 0
	})
	stop(n1, syscall.SIGCONT)
	n1.Wait(1)
	goesTo("N1 back: they go to N1 again", first)
	cancel()
	hs := <-done
	sent, unknown, later, longest := sumHistories(hs)
	t.Logf("%d sent, %d of unknown fate, TRY_LATER %d, slowest OK %v", sent, unknown, later, longest)
	if later+unknown > 0 {
		t.Errorf("TRY_LATER %d, unknown %d: want each message acknowledged", later, unknown)
	}
	settled(t, s, 2*time.Minute)
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}

	var b lab.Books
	stderr, code := s.Read(func(r io.Reader) error { b = lab.Verify(t, r, hs, size, false); return nil }, "--category", "web")
	t.Logf("twinscribe read: %v; exit status %d %s", b, code, stderr)
	b.MustBalance(t)
	if code != 0 {
		t.Errorf("read ended with %d: %s", code, stderr)
	}
	files := []io.Reader{}
	for _, h := range []*lab.Hadoop{n1, n2} {
		names := strings.Fields(string(h.CLI("dfs", "-ls", "-C", "/scribe/logs/web")))
		if len(names) == 0 {
			t.Errorf("%s has no file", h.Name)
		}
		for _, n := range names {
			if !scribeName.MatchString(path.Base(n)) {
				t.Errorf("%s has %s: want only files under Scribe's names", h.Name, n)
			}
		}
		for _, n := range strings.Fields(string(h.CLI("dfs", "-ls", "-C", "/scribe/logs"))) {
			if base := path.Base(n); base != "web" && base != "_twinscribe" {
				t.Errorf("%s has %s: want only the category beside what is ours", h.Name, n)
			}
		}
		t.Logf("%s: %v", h.Name, names)
		files = append(files, bytes.NewReader(h.CLI("dfs", "-cat", "/scribe/logs/web/*")))
	}
	b = lab.Verify(t, io.MultiReader(files...), hs, size, false)
	t.Logf("by Scribe's names: %v", b)
	b.MustBalance(t)
}
