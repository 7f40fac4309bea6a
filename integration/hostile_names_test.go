//go:build integration

package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// oddNames are categories that a folder's or a file's name could go wrong with, among them many
// pairs that one might take for each other.
func oddNames() []string {
	long := strings.Repeat("n", 300)
	names := []string{
		"/", "//", "/etc/passwd", "a/b", "a%2Fb", "a%2fb", "a%252Fb", "a\\b", "a:b", "a//b", "a/./b", "a/../b", "../../../../etc/cron.d/x", "..", ".", "...",
		"..%2f..", "%2E%2E", "%2e%2e", "./x", "x/", "x/..", ".hidden", "_hidden", "%2Ehidden", "%5Fhidden", "__", "_members", "_inventory", "%5Fmembers", "_Members",
		"members", "_SUCCESS", "_temporary", "dt=2026-11-22", "hr=10", "a\x00b", "a%00b", "a\\0b", "\x00", "a\nb", "a\r\nb", "a\tb", "a b", " a", "a ", "a", "A", "a.", "a\xc2\xa0b",
		"caf\u00e9", "cafe\u0301", "caf\xe9", "caf%C3%A9", "\xff\xfe", "\xc0\xae\xc0\xae\xc0\xaf", "\xed\xa0\x80", "\ufffd", "K", "\u212a", "stra\u00dfe", "strasse", "\u0130", "i",
		"*", "?", "[a-z]", "{a,b}", "~", "~root", "-rf", "--all", "$(id)", "`id`", "${HOME}", "a;b", "a&b", "a|b", "a'b", `a"b`, `"a"`, "#", "%", "%%", "%41", "%4", "%2", "a%", "+", "a+b",
		"\x1b[2J\x1b[31mred", "\u009b31mred", "2026-01-01T00:00:00Z\terror\t" + forged + "\n2026-01-01T00:00:00Z\terror\tforged", "\u202egnp.exe", "\u2028", "\x7f", "\ufeffa",
		"web.log", "_20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log.open", "20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log", "(other)", "(none)", "null", "other", "CON", "nul",
		long, long[:299], long + "n", long[:299] + "N", strings.Repeat("/", 300), strings.Repeat("../", 100), strings.Repeat("\xff", 300), strings.Repeat("n", 128), strings.Repeat("n", 129),
		strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("_", 130), strings.Repeat("\u00e9", 60), strings.Repeat("%", 43), strings.Repeat("x", 1<<16-1),
	}
	return append(names, hashedLike(long)) // the very folder that the long one gets
}

// hashedLike is the folder that docs/formats-files says a long name gets, as a name by itself.
func hashedLike(name string) string {
	sum := sha256.Sum256([]byte(name))
	return name[:95] + "~" + hex.EncodeToString(sum[:16])
}

// oddNamesKept is the part of the proof about the categories of oddNames: on a real cluster, in local
// folders and in the buffer each is read back under its own name, with its own messages and no
// others, and nothing lies outside of the root.
func oddNamesKept(t *testing.T, n1 *lab.Hadoop, root string) {
	parent := t.TempDir()
	hdfs := fmt.Sprintf("clusters:\n  - name: n1\n    hdfs: {namenodes: [%q], user: %q, root: %s}\n", n1.Addr, lab.User(), root)
	dir := fmt.Sprintf("clusters:\n  - name: n1\n    dir: {path: %q}\n", filepath.Join(parent, "root"))
	const onCluster = "categories:\n  - match: \"*\"\n    store: {failover: {places: [{files: {cluster: n1}}, {buffer: {}}]}}\n"
	t.Run("hdfs", func(t *testing.T) { namedOddly(t, hdfs+onCluster, "n1") })
	t.Run("dir", func(t *testing.T) { namedOddly(t, dir+onCluster, "n1") })
	t.Run("buffer", func(t *testing.T) {
		namedOddly(t, "categories:\n  - match: \"*\"\n    store: {buffer: {}}\n", "buffer")
	})
	nothingElse(t, parent, "root")
}

func namedOddly(t *testing.T, yaml, place string) {
	s := lab.NewServer(t, "limits: {queue: 64MiB}\ntimeouts: {write: 5s, ack: 30s}\n"+yaml)
	s.Start()
	names := oddNames()
	if distinct := len(slices.Compact(slices.Sorted(slices.Values(names)))); distinct != len(names) {
		t.Fatalf("%d names, %d of them distinct", len(names), distinct)
	}
	want := map[string][]string{}
	if place != "buffer" {
		lab.Eventually(t, time.Minute, "the cluster is healthy", func() bool { return clusterState(t, s, "n1") == "healthy" })
	}
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rounds := pick(1, 3)
	for round := range rounds {
		for i := 0; i < len(names); i += 8 {
			var entries []lab.Entry
			for j, name := range names[i:min(i+8, len(names))] {
				m := fmt.Sprintf("message %d of name %d: %.40q", round, i+j, name)
				want[name] = append(want[name], m)
				entries = append(entries, lab.Entry{Category: []byte(name), Message: []byte(m)})
			}
			if ok, err := c.Log(entries, time.Minute); err != nil || !ok {
				t.Fatalf("names from %d: answered %v, %v", i, ok, err)
			}
		}
	}
	overlong := strings.Repeat("y", 1<<16)
	if ok, err := c.Log([]lab.Entry{{Category: []byte(overlong), Message: []byte("of an overlong name")}}, time.Minute); err != nil || !ok {
		t.Errorf("a message of a name of 64 KiB: answered %v, %v", ok, err)
	}
	shown(t, s)
	stored := s.Metric("twinscribe_stored_messages_total", fmt.Sprintf("place=%q", place))
	if testing.Short() && place != "buffer" { // beside other work a cluster may miss a deadline
		stored += s.Metric("twinscribe_stored_messages_total", `place="buffer"`)
	}
	if int(stored) != rounds*len(names) {
		t.Errorf("%v messages stored at %s, want %d", stored, place, rounds*len(names))
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	same := 0
	got := map[string][]string{}
	stderr, code := hear(s, func(m *heard) error { got[m.name()] = append(got[m.name()], m.data()); return nil }, "--all")
	if code != 0 || stderr != "" {
		t.Errorf("read --all ended with %d: %s", code, stderr)
	}
	for _, name := range names {
		if slices.Equal(got[name], want[name]) {
			same++
			continue
		}
		t.Errorf("category %.80q: read %.300q, want %.300q", name, got[name], want[name])
	}
	if len(got) != len(names) {
		t.Errorf("%d categories are read back, want %d", len(got), len(names))
	}
	if out, stderr, code := s.Run("buffer", "cat", "-c", s.Config, "--reason", "dead-letter"); code != 0 || !strings.Contains(string(out), "\nof an overlong name\n") {
		t.Errorf("the dead letters are %.300q; exit status %d %s", out, code, stderr)
	}
	if out, stderr, code := s.Run("read", "-c", s.Config, "--all", "--where"); code != 0 || unquoted(string(out)) != "" {
		t.Errorf("read --where ended with %d %s; %s", code, stderr, unquoted(string(out)))
	}
	asked := byName(t, s, names, want)
	nothingElse(t, s.Dir, "state", "twinscribe.yaml", "log")
	quotedLog(t, s)
	out, stderrLS, code := s.Run("ls", "-c", s.Config)
	if bad := unquoted(string(out) + string(stderrLS)); code != 0 || bad != "" {
		t.Errorf("ls ended with %d; %s", code, bad)
	}
	if lines := strings.Count(string(out), "\n"); lines < len(names) {
		t.Errorf("ls has %d lines for %d names", lines, len(names))
	}
	t.Logf("table: 6 | %d odd category names, at %s | %d read back exactly with read --all, %d of %d asked with --category; output for people quoted",
		len(names), place, same, asked, len(names))
}

// byName reads categories one by one under their exact names. A NUL cannot stand in an argument.
func byName(t *testing.T, s *lab.Server, names []string, want map[string][]string) (asked int) {
	t.Helper()
	for i, name := range names {
		if strings.ContainsRune(name, 0) || testing.Short() && i%24 != 3 {
			continue
		}
		var got []string
		stderr, code := hear(s, func(m *heard) error {
			if m.name() != name {
				return fmt.Errorf("a message of category %q", m.name())
			}
			got = append(got, m.data())
			return nil
		}, "--category="+name)
		if code != 0 || stderr != "" || !slices.Equal(got, want[name]) {
			t.Errorf("read --category=%.80q: %q, exit status %d %s; want %q", name, got, code, stderr, want[name])
		}
		asked++
	}
	return asked
}

// shown sees to it that what people look at holds odd names quoted only.
func shown(t *testing.T, s *lab.Server) {
	t.Helper()
	for _, args := range [][]string{{"ctl", "status"}, {"ctl", "books"}} {
		out, stderr, code := s.Run(append(args, "--addr", s.HTTP)...)
		if bad := unquoted(string(out) + string(stderr)); bad != "" || code != 0 {
			t.Errorf("%v ended with %d: %s %s", args, code, stderr, bad)
		}
	}
	var st map[string]any
	s.Get("/v1/status", &st)
	for line := range strings.Lines(s.Page("/metrics")) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "go_") && !strings.HasPrefix(line, "process_") && !strings.HasPrefix(line, "promhttp_") &&
			!strings.HasPrefix(line, "twinscribe_") {
			t.Errorf("a line of the metrics that the server did not write: %.200q", line)
		}
	}
}
