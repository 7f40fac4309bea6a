//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Every example in conf/ is started and used: a message through each of its rules, and all of it
// read back. Only addresses, ports, ids and folders are replaced, and each of them must be there.
func TestExamples(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { exampleEmbedded(t, startExample(t, "embedded")) })
	if left := missingExamples(t); len(left) > 0 {
		t.Errorf("examples that no test uses: %q", left)
	}
	n1, n2 := lab.StartHA(t, "N1", 2), lab.StartHadoop(t, "N2", 2)
	logsFolder(t, n1.Hadoop, n2)
	one := []string{`"nn1:8020"`, quoted(n1.Addrs[n1.Active()]), `"nn2:8020"`, quoted(n2.Addr)}
	t.Run("two-clusters", func(t *testing.T) { exampleTwoClusters(t, startExample(t, "two-clusters", one...)) })
	t.Run("received", func(t *testing.T) { exampleReceived(t, startExample(t, "received", one...)) })
	t.Run("categories", func(t *testing.T) { exampleCategories(t, startExample(t, "categories", one...)) })
	t.Run("ha", func(t *testing.T) {
		exampleHA(t, n1, startExample(t, "ha", `"nn1a:8020"`, quoted(n1.Addrs["nn"]), `"nn1b:8020"`, quoted(n1.Addrs["nn2"]),
			`"nn2a:8020"`, quoted(n2.Addr), `"nn2b:8020"`, quoted(nobody(t))))
	})
	t.Run("scribe-central", func(t *testing.T) {
		exampleScribe(t, startScribeExample(t, "scribe-central", "nn1:8020/logs", n1.Addrs[n1.Active()]+"/logs/scribe-central",
			"nn2:8020/logs", n2.Addr+"/logs/scribe-central", "/var/spool/scribe", t.TempDir()))
	})
}

func quoted(s string) string { return `"` + s + `"` }

// missingExamples are those in the folder that TestExamples does not know.
func missingExamples(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, ext := range []string{"yaml", "conf"} {
		found, err := filepath.Glob(filepath.Join(lab.Repository(), "conf", "*."+ext))
		if err != nil || len(found) == 0 {
			t.Fatalf("examples: %q %v", found, err)
		}
		files = append(files, found...)
	}
	known := []string{"embedded.yaml", "two-clusters.yaml", "received.yaml", "categories.yaml", "ha.yaml", "scribe-central.conf",
		"scribe-leaf.conf", "scribe-buckets.conf"} // these two need no cluster: package dropin starts them
	return slices.DeleteFunc(files, func(f string) bool { return slices.Contains(known, filepath.Base(f)) })
}

// logsFolder makes /logs, writable by the examples' user, as operators do.
func logsFolder(t *testing.T, clusters ...*lab.Hadoop) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(clusters))
	for i, h := range clusters {
		wg.Go(func() {
			if _, errs[i] = h.TryCLI("dfs", "-mkdir", "/logs"); errs[i] == nil {
				_, errs[i] = h.TryCLI("dfs", "-chown", "scribe", "/logs")
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: /logs: %v", clusters[i].Name, err)
		}
	}
}

// nobody is an address where nothing listens: a NameNode that is down.
func nobody(t *testing.T) string {
	t.Helper()
	return lab.NewServer(t, "").Thrift
}

// startExample starts a server with an example. pairs are texts of it and what replaces them.
func startExample(t *testing.T, name string, pairs ...string) *lab.Server {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(lab.Repository(), "conf", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	s := lab.NewServer(t, "")
	for _, p := range [][2]string{
		{`thrift: ":1463"`, "thrift: " + quoted(s.Thrift)}, {`thrift: "127.0.0.1:1463"`, "thrift: " + quoted(s.Thrift)},
		{`"127.0.0.1:14630"`, quoted(s.HTTP)}, {"/var/lib/twinscribe", s.Dir + "/state"}, {"twinscribe-data", s.Dir},
		{"id: ag1", "id: " + name}, {"root: /logs", "root: /logs/" + name},
	} {
		text = strings.ReplaceAll(text, p[0], p[1])
	}
	if !strings.Contains(text, "listen:") {
		text += fmt.Sprintf("\nlisten: {thrift: %q, http: %q}\n", s.Thrift, s.HTTP)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("conf/%s.yaml has no %s", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	if err := os.WriteFile(s.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := s.Run("check", s.Config); code != 0 || len(stderr) > 0 {
		t.Fatalf("check: exit status %d, %s%s", code, out, stderr)
	}
	s.Start()
	return s
}

// startScribeExample is startExample for one in Scribe's grammar.
func startScribeExample(t *testing.T, name string, pairs ...string) *lab.Server {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(lab.Repository(), "conf", name+".conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	pairs = append(pairs, "\nport=1463\n", "\n", "\nstate=/var/lib/twinscribe\n", "\n", "id=ag1", "id="+name)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("conf/%s.conf has no %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	s := lab.NewScribe(t, text)
	s.Env = append(s.Env, "HADOOP_USER_NAME=scribe")
	s.Start()
	return s
}

// exampleStatus is what the examples look at in /v1/status.
type exampleStatus struct {
	Categories []struct {
		Category string `json:"category"`
		Unrouted bool   `json:"unrouted"`
		Stored   places `json:"stored"`
		Queues   []struct {
			Ack string `json:"ack"`
		} `json:"queues"`
	} `json:"categories"`
}

// storedOf is where the messages of a category went, and what OK means for it.
func storedOf(t *testing.T, s *lab.Server, category string) (stored places, ack string) {
	t.Helper()
	var st exampleStatus
	s.Get("/v1/status", &st)
	for _, c := range st.Categories {
		if c.Category == category && len(c.Queues) > 0 {
			return c.Stored, c.Queues[0].Ack
		}
	}
	t.Fatalf("category %q has no queue: %+v", category, st.Categories)
	return nil, ""
}

// A sent is what was acknowledged, by category.
type sent map[string][]string

// to sends messages of a category, one a call, until a place has taken one: a cluster may be slow
// for a moment, and then another place takes a message, which is no fault.
func (all sent) to(t *testing.T, s *lab.Server, category, place, ack string) {
	t.Helper()
	before := int64(0)
	if len(all[category]) > 0 {
		stored, _ := storedOf(t, s, category)
		before = stored[place].Messages
	}
	start := time.Now()
	for {
		m := fmt.Sprintf("%s %d", category, len(all[category]))
		sendAll(t, s, category, [][]byte{[]byte(m)})
		all[category] = append(all[category], m)
		stored, level := storedOf(t, s, category)
		for ; ack == "received" && stored[place].Messages == before && time.Since(start) < 5*time.Second; stored, _ = storedOf(t, s, category) {
			time.Sleep(10 * time.Millisecond)
		}
		if level != ack {
			t.Fatalf("%s: OK means %s, want %s", category, level, ack)
		}
		if stored[place].Messages > before {
			return
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%s: nothing went to %s: %v", category, place, stored)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stopped stops the server in order and reads everything back.
func (all sent) stopped(t *testing.T, s *lab.Server) {
	t.Helper()
	if code := s.Stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	for category, want := range all {
		out, stderr, code := s.Run("read", "-c", s.Config, "--category", category)
		got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		slices.Sort(got) // the order of switches is not looked at here
		want = slices.Sorted(slices.Values(want))
		if !slices.Equal(got, want) || code != 0 {
			t.Errorf("%s: exit status %d, read %q, want %q; %s", category, code, got, want, stderr)
		}
	}
	total := 0
	for _, list := range all {
		total += len(list)
	}
	t.Logf("%d categories, %d messages sent and read back", len(all), total)
}

func exampleEmbedded(t *testing.T, s *lab.Server) {
	all := sent{}
	all.to(t, s, "web", "n1", "stored")
	ctl(t, s, "drain", "n1", "--timeout", "30s")
	all.to(t, s, "web", "n2", "stored")
	ctl(t, s, "drain", "n2", "--force", "--timeout", "30s")
	all.to(t, s, "web", "buffer", "stored")
	all.stopped(t, s)
}

func exampleTwoClusters(t *testing.T, s *lab.Server) {
	all := sent{}
	all.to(t, s, "web", "n1", "stored")
	if n := s.Metric("twinscribe_cluster_fewest_replicas", `cluster="n1"`); n < 2 {
		t.Errorf("an OK meant %v replicas on n1, min_replicas is 2", n)
	}
	ctl(t, s, "drain", "n1", "--timeout", "30s")
	all.to(t, s, "web", "n2", "stored")
	ctl(t, s, "undrain", "n1")
	all.stopped(t, s)
}

func exampleReceived(t *testing.T, s *lab.Server) {
	all := sent{}
	all.to(t, s, "billing", "n1", "stored")
	all.to(t, s, "web", "n1", "received")
	all.stopped(t, s)
}

func exampleCategories(t *testing.T, s *lab.Server) {
	all := sent{}
	all.to(t, s, "access", "n1", "stored")
	all.to(t, s, "audit_login", "n2", "stored")
	all.to(t, s, "debug_x", "null", "received")
	all.to(t, s, "local", "buffer", "stored")
	all.to(t, s, "nobody", "unrouted", "stored")
	all["debug_x"] = nil
	if code := s.Stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	for category, form := range map[string]string{"access": "/hr=", "audit_login": "audit_login/dt="} {
		out, stderr, code := s.Run("read", "-c", s.Config, "--category", category, "--where")
		if code != 0 || !strings.Contains(string(out), form) || (category == "audit_login") == strings.Contains(string(out), "/hr=") {
			t.Errorf("%s: exit status %d, %s%s", category, code, out, stderr)
		}
	}
	if out, _, code := s.Run("read", "-c", s.Config, "--category", "debug_x"); code != 0 || len(out) > 0 {
		t.Errorf("debug_x was to be thrown away: exit status %d, %s", code, out)
	}
	delete(all, "debug_x")
	s.Start()
	ship(t, s, "--reason", "all")
	all.stopped(t, s)
}

// ship uploads segments and wants some to have been there.
func ship(t *testing.T, s *lab.Server, args ...string) {
	t.Helper()
	out, stderr, code := s.Run(append([]string{"buffer", "ship", "-c", s.Config}, args...)...)
	if code != 0 || strings.HasPrefix(string(out), "0 ") {
		t.Errorf("buffer ship: exit status %d, %s%s", code, out, stderr)
	}
}

func exampleHA(t *testing.T, n1 *lab.HA, s *lab.Server) {
	all := sent{}
	all.to(t, s, "web", "n1", "stored")
	active := n1.Active()
	n1.Failover(active, n1.Other(active))
	all.to(t, s, "web2", "n1", "stored") // its first file needs the NameNode that is active now
	ctl(t, s, "drain", "n1", "--timeout", "30s")
	all.to(t, s, "web", "n2", "stored")
	ctl(t, s, "undrain", "n1")
	all.stopped(t, s)
}

func exampleScribe(t *testing.T, s *lab.Server) {
	var began status
	s.Get("/v1/status", &began)
	first, second := began.Clusters[0].Name, began.Clusters[1].Name
	all := sent{}
	all.to(t, s, "web", first, "stored")
	ctl(t, s, "drain", first, "--timeout", "30s")
	all.to(t, s, "web", second, "stored")
	ctl(t, s, "drain", second, "--force", "--timeout", "30s")
	all.to(t, s, "web", "buffer", "stored")
	all.stopped(t, s)
}
