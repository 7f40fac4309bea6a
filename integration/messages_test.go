//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// Messages that are no plain lines come back the same from N1, from N2 and from the buffer.
func TestProveOddMessages(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, twoClusters(n1, n2, "visible_within: 5s\n"))
	s.Start()
	mebi := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	odd := [][]byte{
		[]byte("plain"), []byte("line feed\ninside\nit"), []byte("\nleading"), []byte("carriage\rreturn\r"), []byte("dos\r\n"),
		[]byte("nul\x00inside\x00"), {}, []byte("\n"), []byte("\n\n"), []byte("ends in one\n"), []byte("ends in two\n\n"),
		mebi, {0xff, 0xfe, 0x80, '\n', 0xc3}, []byte(`{"json": "looks like it"}`), []byte("tab\tand \x1b[31mescape"),
		[]byte("\xe2\x80\xa8 line separator"), {0}, []byte(" blanks around "),
	}
	for _, place := range []string{"n1", "n2", "buffer"} {
		switch place {
		case "n2":
			ctl(t, s, "drain", "n1", "--timeout", "60s")
		case "buffer":
			n2.Do("all", "kill")
			lab.Eventually(t, 30*time.Second, "n2 is no longer healthy", func() bool { return clusterState(t, s, "n2") != "healthy" })
		}
		category := "odd-" + place
		sendAll(t, s, category, odd)
		var st status
		s.Get("/v1/status", &st)
		if st.Totals.Stored[place].Messages < int64(len(odd)) {
			t.Errorf("%s: stored %v", place, st.Totals.Stored)
		}
		var got [][]byte
		lab.Eventually(t, 70*time.Second, "all visible from "+place, func() bool {
			got = readJSON(t, s, category)
			return len(got) >= len(odd)
		})
		compareOdd(t, place, got, odd)
	}
}

func ctl(t *testing.T, s *lab.Server, args ...string) {
	t.Helper()
	if out, stderr, code := s.Run(append([]string{"ctl", "--addr", s.HTTP}, args...)...); code != 0 {
		t.Fatalf("ctl %v: exit status %d: %s%s", args, code, out, stderr)
	}
}

func sendAll(t *testing.T, s *lab.Server, category string, messages [][]byte) {
	t.Helper()
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := 0; i < len(messages); i += 4 {
		var call []lab.Entry
		for _, m := range messages[i:min(i+4, len(messages))] {
			call = append(call, lab.Entry{Category: []byte(category), Message: m})
		}
		if ok, err := c.Log(call, 30*time.Second); err != nil || !ok {
			t.Fatalf("Log: %v %v", ok, err)
		}
	}
}

func readJSON(t *testing.T, s *lab.Server, category string) (got [][]byte) {
	t.Helper()
	s.Read(func(r io.Reader) error {
		b := bufio.NewReaderSize(r, 1<<20)
		for {
			line, err := b.ReadBytes('\n')
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			var m struct {
				Message *string
				Base64  []byte
			}
			if err := json.Unmarshal(line, &m); err != nil {
				return fmt.Errorf("%w: %.80q", err, line)
			}
			if m.Message != nil {
				got = append(got, []byte(*m.Message))
			} else {
				got = append(got, m.Base64)
			}
		}
	}, "--category", category, "--json")
	return got
}

func compareOdd(t *testing.T, place string, got, odd [][]byte) {
	t.Helper()
	if len(got) != len(odd) {
		t.Fatalf("%s: %d messages sent, %d read", place, len(odd), len(got))
	}
	same := 0
	for i, m := range odd {
		want := bytes.TrimSuffix(m, []byte("\n")) // one line feed at the end is its terminator
		if !bytes.Equal(got[i], want) {
			t.Errorf("%s: message %d: %.60q came back as %.60q", place, i, m, got[i])
		} else {
			same++
		}
	}
	t.Logf("%s: %d of %d messages came back the same", place, same, len(odd))
}

// With the server running and no new traffic, every acknowledged message is in `read` within
// visible_within + 5 s; what cannot be counted is said with exit status 3.
func TestProveVisible(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	within := pick(20*time.Second, 60*time.Second)
	s := lab.NewServer(t, twoClusters(n1, n2, fmt.Sprintf("visible_within: %v\n", within)))
	s.Start()
	for round := range pick(1, 3) {
		var want [3]int
		for c := range 3 {
			for range round + 1 {
				sendAll(t, s, fmt.Sprintf("quiet%d-%d", round, c), [][]byte{[]byte("one"), []byte("two"), []byte("three")})
				want[c] += 3
			}
		}
		acked := time.Now()
		took := lab.Eventually(t, within+5*time.Second, "every message in read", func() bool {
			for c := range 3 {
				if len(readJSON(t, s, fmt.Sprintf("quiet%d-%d", round, c))) < want[c] {
					return false
				}
			}
			return true
		})
		t.Logf("round %d: all visible %v after the OK, visible_within is %v", round, took.Round(time.Millisecond), within)
		if d := time.Since(acked); d > within+5*time.Second {
			t.Errorf("visible after %v", d)
		}
	}
	steady(t, s, within)
	out, stderr, code := s.Run("read", "-c", s.Config, "--category", "quiet0-0")
	t.Logf("all up: exit status %d, %d bytes, %s", code, len(out), stderr)
	if code != 0 {
		t.Errorf("exit status %d with all up: %s", code, stderr)
	}
	n2.Do("nn", "kill")
	_, stderr, code = s.Run("read", "-c", s.Config, "--category", "quiet0-0")
	t.Logf("n2's NameNode killed: exit status %d, %s", code, stderr)
	if code != 3 || len(stderr) == 0 {
		t.Errorf("n2 away: exit status %d, want 3 with a reason: %q", code, stderr)
	}
}

// steady sends a message each second for longer than visible_within: the file stays open, its
// length is published, and read sees what is older than visible_within.
func steady(t *testing.T, s *lab.Server, within time.Duration) {
	t.Helper()
	var at []time.Time
	worst := time.Duration(0)
	for start := time.Now(); time.Since(start) < within+within/2; {
		sendAll(t, s, "steady", [][]byte{fmt.Appendf(nil, "message %d", len(at))})
		at = append(at, time.Now())
		if len(at)%5 == 0 {
			asked := time.Now()
			n := len(readJSON(t, s, "steady"))
			if n < len(at) {
				worst = max(worst, asked.Sub(at[n]))
			}
		}
		time.Sleep(time.Second)
	}
	t.Logf("steady traffic: the oldest message not yet in read was %v old at worst", worst.Round(time.Millisecond))
	if worst > within+5*time.Second {
		t.Errorf("a message of %v was not visible", worst)
	}
}
