//go:build integration

// Package dropin shows that the built binary takes the place of an original Scribe server: it runs
// as scribed with a configuration in Scribe's own grammar, and the tests look at what a fleet
// would: replies, files, counters, exit codes. No Hadoop is needed. docs/dropin.md is the table of
// what each test shows.
//
// It leaves to others: the configuration's single keys (package conf), faults of disks and
// networks below each store (the stores' packages), and Scribe's files on HDFS.
package dropin

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// patience is how long a test waits for what takes a moment on an idle machine.
const patience = time.Minute

// pick is the short form's or the long form's figure.
func pick[T any](short, long T) T {
	if testing.Short() {
		return short
	}
	return long
}

// store is a store at the top level.
func store(lines ...string) string { return section("store", lines...) }

func section(name string, lines ...string) string {
	return "<" + name + ">\n" + strings.Join(lines, "\n") + "\n</" + name + ">\n"
}

// started is a server that runs.
func started(t *testing.T, conf string) *lab.Server {
	t.Helper()
	s := lab.NewScribe(t, conf)
	s.Start()
	return s
}

// nulls is a server that throws away what it takes.
func nulls(t *testing.T, top ...string) *lab.Server {
	t.Helper()
	return started(t, strings.Join(top, "\n")+"\n"+store("category=default", "type=null"))
}

// filing is a server with one file store for everything, a line a message, below dir.
func filing(dir string) string {
	return store("category=default", "type=file", "file_path="+dir, "add_newlines=1")
}

// network is a store that forwards to a server.
func network(section string, to *lab.Server, more ...string) string {
	return inner(section, append([]string{"type=network", "remote_host=127.0.0.1", "remote_port=" + to.Port()}, more...)...)
}

// inner is a section in a store, without the last line feed.
func inner(name string, lines ...string) string {
	return strings.TrimSuffix(section(name, lines...), "\n")
}

// forwarding is a store that forwards to a server and keeps what that does not take below dir.
// The waits are as short as Scribe's grammar has them.
func forwarding(category string, to *lab.Server, dir string, more ...string) string {
	lines := append([]string{"category=" + category, "type=buffer", "retry_interval=1", "retry_interval_range=0"}, more...)
	return store(append(lines, network("primary", to, "timeout=2000"),
		inner("secondary", "type=file", "file_path="+dir))...)
}

// entry is one message.
func entry(category, message string) lab.Entry {
	return lab.Entry{Category: []byte(category), Message: []byte(message)}
}

// log sends one call that must be taken.
func log(t *testing.T, s *lab.Server, entries ...lab.Entry) {
	t.Helper()
	ok, err := tryLog(s, entries...)
	if err != nil || !ok {
		t.Fatalf("a call of %d messages: OK %v, %v", len(entries), ok, err)
	}
}

// tryLog sends one call on a connection of its own.
func tryLog(s *lab.Server, entries ...lab.Entry) (ok bool, err error) {
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		return false, err
	}
	defer c.Close()
	return c.Log(entries, 30*time.Second)
}

// sender sends the messages from-th to to-th of a name to a category, in calls of batch, each again until
// it is taken. Message n of a name is name-n.
func sender(s *lab.Server, category, name string, from, to, batch int) error {
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline := time.Now().Add(5 * time.Minute)
	for from < to {
		var call []lab.Entry
		for n := from; n < min(from+batch, to); n++ {
			call = append(call, entry(category, name+"-"+strconv.Itoa(n)))
		}
		ok, err := c.Log(call, time.Minute)
		switch {
		case err != nil:
			return fmt.Errorf("category %s from %d on: %w", category, from, err)
		case ok:
			from += len(call)
		case time.Now().After(deadline):
			return fmt.Errorf("category %s from %d on: TRY_LATER for five minutes", category, from)
		default:
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// send is sender with the category as the messages' name.
func send(t *testing.T, s *lab.Server, category string, from, to int) {
	t.Helper()
	if err := sender(s, category, category, from, to, 100); err != nil {
		t.Fatal(err)
	}
}

// counted waits until a counter is at a value.
func counted(t *testing.T, s *lab.Server, counter string, want int64) {
	t.Helper()
	var got int64
	waitFor(t, func() bool { got = s.Counters()[counter]; return got == want },
		func() string {
			return fmt.Sprintf("counter %q is %d, want %d; all: %v", counter, got, want, s.Counters())
		})
}

// waitFor waits until ok, and says what is there instead.
func waitFor(t *testing.T, ok func() bool, instead func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", patience, instead())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// lines are what the files of a base name hold.
func lines(t *testing.T, folder, base string) []string {
	t.Helper()
	text := strings.TrimSuffix(string(lab.ScribeText(t, folder, base)), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// holds waits until the files of a base name have exactly this text.
func holds(t *testing.T, folder, base, want string) {
	t.Helper()
	var got []byte
	waitFor(t, func() bool { got = lab.ScribeText(t, folder, base); return string(got) == want },
		func() string { return fmt.Sprintf("%s/%s_* hold %.1000q, want %.1000q", folder, base, got, want) })
}

// inOrder waits until the files of a base name hold all n messages of a name, and fails unless
// each of them is there once and behind the one before.
func inOrder(t *testing.T, folder, base, name string, n int) {
	t.Helper()
	last := []byte(name + "-" + strconv.Itoa(n-1) + "\n")
	waitFor(t, func() bool { return bytes.Contains(lab.ScribeText(t, folder, base), last) },
		func() string {
			return fmt.Sprintf("%s/%s_*: message %d of %s is not there, %d lines are", folder, base, n-1, name, len(lines(t, folder, base)))
		})
	next := 0
	for _, line := range lines(t, folder, base) {
		digits, ours := strings.CutPrefix(line, name+"-")
		if !ours {
			continue
		}
		if digits != strconv.Itoa(next) {
			t.Fatalf("%s/%s_*: %q stands where message %d belongs", folder, base, line, next)
		}
		next++
	}
	if next != n {
		t.Fatalf("%s/%s_*: %d messages of %s, want %d", folder, base, next, name, n)
	}
}

// once waits until the files of a base name hold all n messages of a name, in any order, and fails
// if one is there twice.
func once(t *testing.T, folder, base, name string, n int) {
	t.Helper()
	waitFor(t, func() bool { return len(seen(t, folder, base, name)) >= n },
		func() string {
			return fmt.Sprintf("%s/%s_*: %d of %d messages", folder, base, len(seen(t, folder, base, name)), n)
		})
	for message, times := range seen(t, folder, base, name) {
		if times != 1 {
			t.Fatalf("%s/%s_*: %s is there %d times", folder, base, message, times)
		}
	}
}

func seen(t *testing.T, folder, base, name string) map[string]int {
	all := map[string]int{}
	for _, line := range lines(t, folder, base) {
		if strings.HasPrefix(line, name+"-") {
			all[line]++
		}
	}
	return all
}

// write makes a file.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stopped ends a server by TERM and wants status 0.
func stopped(t *testing.T, s *lab.Server) {
	t.Helper()
	if code := s.Stop(); code != 0 {
		t.Fatalf("exit status %d after TERM, want 0", code)
	}
}
