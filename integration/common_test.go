//go:build integration

// Package integration holds the proofs: each starts real NameNodes and
// DataNodes and the built binary, breaks something, and counts every message.
// `make test` runs their short forms, `make prove` and `make prove-named` the long ones.
package integration

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// pick is the short form's or the proof's figure.
func pick[T any](short, long T) T {
	if testing.Short() {
		return short
	}
	return long
}

// twoClusters is a configuration for clusters of NameNodes n1 and n2 (n2 may be nil), with the
// times that a test can wait for. extra is added at the top level.
func twoClusters(n1, n2 *lab.Hadoop, extra string, clusterExtra ...string) string {
	more := strings.Join(clusterExtra, "")
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nclusters:\n", extra)
	cluster := func(name string, h *lab.Hadoop) {
		fmt.Fprintf(&b, "  - name: %s\n    hdfs: {namenodes: [%q], user: %q, root: /logs}\n    probe: {hold_off: 3s, hold_off_max: 10s}\n%s", name, h.Addr, lab.User(), more)
	}
	places := "          - {files: {cluster: n1}}\n"
	cluster("n1", n1)
	if n2 != nil {
		cluster("n2", n2)
		places += "          - {files: {cluster: n2}}\n"
	}
	fmt.Fprintf(&b, "categories:\n  - match: \"*\"\n    store:\n      failover:\n        places:\n%s          - {buffer: {}}\n", places)
	return b.String()
}

// status is what the tests look at in /v1/status.
type status struct {
	Clusters []struct {
		Name          string `json:"name"`
		State         string `json:"state"`
		Drained       bool   `json:"drained"`
		OpenFiles     int    `json:"open_files"`
		Sealing       int    `json:"sealing"`
		RepairBacklog int    `json:"repair_backlog"`
		Switches      int    `json:"switches"`
	} `json:"clusters"`
	Buffer struct {
		Unshipped map[string]int64 `json:"unshipped"` // messages by reason
	} `json:"buffer"`
	Totals struct {
		Offered  count  `json:"offered"`
		Accepted count  `json:"accepted"`
		Stored   places `json:"stored"`
	} `json:"totals"`
}

type count struct {
	Messages int64 `json:"messages"`
}

// places are the messages stored, by place.
type places map[string]count

func (p places) String() string {
	var parts []string
	for place, c := range p {
		parts = append(parts, fmt.Sprintf("%s %d", place, c.Messages))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func clusterState(t *testing.T, s *lab.Server, name string) string {
	t.Helper()
	var st status
	s.Get("/v1/status", &st)
	for _, c := range st.Clusters {
		if c.Name == name {
			return c.State
		}
	}
	t.Fatalf("no cluster %s in the status", name)
	return ""
}

// settled waits until nothing is to be repaired, sealed or shipped any more.
func settled(t *testing.T, s *lab.Server, limit time.Duration) time.Duration {
	t.Helper()
	return lab.Eventually(t, limit, "torn files sealed and spills shipped", func() bool {
		var st status
		if s.TryGet("/v1/status", &st) != nil {
			return false
		}
		left := st.Buffer.Unshipped["spill"]
		for _, c := range st.Clusters {
			left += int64(c.RepairBacklog + c.Sealing)
		}
		return left == 0
	})
}

// readBack verifies `twinscribe read` of a category against the histories.
func readBack(t *testing.T, s *lab.Server, category string, hs []*lab.History, size int, ordered bool) lab.Books {
	t.Helper()
	var b lab.Books
	stderr, code := s.Read(func(r io.Reader) error { b = lab.Verify(t, r, hs, size, ordered); return nil }, "--category", category)
	t.Logf("twinscribe read: %v; exit status %d", b, code)
	if code != 0 && code != 3 {
		t.Fatalf("read ended with %d: %s", code, stderr)
	}
	b.MustBalance(t)
	return b
}

// independent reads the final names of the clusters with Hadoop's own shell and the segments of
// the buffer with the Python parser, and verifies the multiset.
func independent(t *testing.T, s *lab.Server, category string, hs []*lab.History, size int, clusters ...*lab.Hadoop) lab.Books {
	t.Helper()
	files, sizes := []io.Reader{}, []string{}
	for _, h := range clusters {
		out := catFinal(t, h, "/logs/"+category)
		sizes = append(sizes, fmt.Sprintf("%s %d bytes", h.Name, len(out)))
		files = append(files, bytes.NewReader(out))
	}
	segments := catSegments(t, s, category)
	files = append(files, bytes.NewReader(segments))
	b := lab.Verify(t, io.MultiReader(files...), hs, size, false)
	t.Logf("independent readers (%s, segments %d bytes): %v", strings.Join(sizes, ", "), len(segments), b)
	b.MustBalance(t)
	return b
}

// catFinal is `hdfs dfs -cat` of all final names below a folder, in a fresh JVM.
func catFinal(t *testing.T, h *lab.Hadoop, folder string) []byte {
	t.Helper()
	if names, err := h.TryCLI("dfs", "-ls", "-C", folder+"/*/*/*.log"); err != nil || len(bytes.TrimSpace(names)) == 0 {
		return nil
	}
	return h.CLI("dfs", "-cat", folder+"/*/*/*.log")
}

func catSegments(t *testing.T, s *lab.Server, category string) []byte {
	t.Helper()
	cmd := exec.Command("python3", filepath.Join(lab.Repository(), "integration", "readers", "segments.py"),
		filepath.Join(s.Dir, "state", "buffer"), category)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("segments.py: %v %s", err, errs.String())
	}
	return out
}

// openNames are the names of files being written on a cluster.
func openNames(t *testing.T, h *lab.Hadoop) []string {
	t.Helper()
	out, err := h.TryCLI("dfs", "-ls", "-C", "-R", "/logs")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, l := range strings.Fields(string(out)) {
		if strings.HasSuffix(l, ".open") {
			open = append(open, l)
		}
	}
	return open
}

func sumHistories(hs []*lab.History) (sent, unknown, later int, longest time.Duration) {
	for _, h := range hs {
		sent += h.Sent
		unknown += len(h.Unknown)
		later += h.Later
		longest = max(longest, h.Longest)
	}
	return
}

// accessLog is the real log that lies beside the checkout on some machines.
func accessLog(t *testing.T) []byte {
	b, err := os.ReadFile(filepath.Join(lab.Repository(), "..", "shared", "data", "access.log"))
	if err != nil {
		t.Skipf("no access.log beside the checkout: %v", err)
	}
	return b
}

// readAll verifies `twinscribe read --all` against the histories.
func readAll(t *testing.T, s *lab.Server, hs []*lab.History, size int) lab.Books {
	t.Helper()
	var b lab.Books
	stderr, code := s.Read(func(r io.Reader) error { b = lab.Verify(t, r, hs, size, false); return nil }, "--all")
	if code != 0 && code != 3 {
		t.Fatalf("read ended with %d: %s", code, stderr)
	}
	if stderr != "" {
		t.Logf("read: exit status %d: %s", code, stderr)
	}
	return b
}

// readOnce is readAll in which nothing may be lost or stand twice, by its histories and by sequence.
func readOnce(t *testing.T, s *lab.Server, hs []*lab.History, size int) lab.Books {
	t.Helper()
	b := readAll(t, s, hs, size)
	t.Logf("twinscribe read: %v", b)
	b.MustBalance(t)
	bySequence(t, s)
	return b
}
