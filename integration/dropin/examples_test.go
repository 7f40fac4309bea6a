//go:build integration

package dropin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twinscribe/integration/lab"
)

// example starts a server with an example of conf/. pairs are texts of it and what replaces them;
// each must be there. The port is the server's own.
func example(t *testing.T, name string, pairs ...string) *lab.Server {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(lab.Repository(), "conf", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	pairs = append(pairs, "\nport=1463\n", "\n")
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("conf/%s has no %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return started(t, text)
}

// TestScribeExamples: the examples that need no cluster are started and used as they stand but for
// port, servers and folders. The one with clusters is among the examples of package integration.
func TestScribeExamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }

	central := lab.NewScribe(t, filing(at("central")))
	leaf := example(t, "scribe-leaf.conf", "central1:1463 central2:1463", "127.0.0.1:"+central.Port()+" 127.0.0.1:"+lab.OwnPort(t),
		"/var/spool/scribe-audit", at("audit"), "/var/spool/scribe", at("spool"), "/var/log/scribe", at("log"),
		"retry_interval=30\nretry_interval_range=10\n", "retry_interval=1\nretry_interval_range=1\n", "retry_interval=30\n", "retry_interval=1\n")
	log(t, leaf, entry("web", "1"), entry("audit", "2"))
	holds(t, at("log"), "audit", "2\n") // the copy does not wait for the next server
	central.Start()
	holds(t, at("central/web"), "web", "1\n")
	holds(t, at("central/audit"), "audit", "2\n")

	buckets := example(t, "scribe-buckets.conf", "/var/log/scribe", at("buckets"))
	log(t, buckets, entry("user_a", "key:1"), entry("user_a", "no key"), entry("web", "2"))
	holds(t, at("buckets/bucket000/user_a"), "user_a", "no key\n")
	holds(t, at("buckets/web"), "web", "2\n")
	waitFor(t, func() bool {
		found, err := filepath.Glob(at("buckets/bucket00[1-4]/user_a/user_a_00000"))
		return err == nil && len(found) == 1
	}, func() string { return "key:1 is in no bucket, or in several" })
}
