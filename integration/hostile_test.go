//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"twinscribe/integration/lab"
)

// besieged is a configuration with the limits that the attacks run into.
func besieged(n1 *lab.Hadoop, parent string) string {
	return fmt.Sprintf(`
limits: {connections: 8000, connections_per_ip: 1200, frame_memory: 128MiB, memory: 128MiB, queue: 64MiB}
timeouts: {frame: 3s, reply: 2s, idle: 20s}
buffer: {dead_letters: 64MiB}
clusters:
  - name: n1
    hdfs: {namenodes: [%q], user: %q, root: /deep/root/siege}
  - name: n2
    dir: {path: %q}
categories:
  - match: "*"
    store: {failover: {places: [{files: {cluster: n1}}, {files: {cluster: n2}}, {buffer: {}}]}}
`, n1.Addr, lab.User(), parent+"/root")
}

// Category names that are none for a folder, bytes of every kind that are no call, slow, silent and greedy clients, and the HTTP side under
// attack, while good clients go on: nobody notices them, nothing is stored that was not sent whole,
// and afterwards all is as before.
func TestProve6Hostile(t *testing.T) {
	n1 := lab.StartHadoop(t, "N1", 1)
	t.Run("names", func(t *testing.T) { oddNamesKept(t, n1, "/deep/root/names") })
	t.Run("clients", func(t *testing.T) { clients(t, n1) })
	onlyBelow(t, n1, "/deep/root/names", "/deep/root/siege")
}

func clients(t *testing.T, n1 *lab.Hadoop) {
	parent := t.TempDir()
	s := lab.NewServer(t, besieged(n1, parent))
	s.Start()
	g := besiege(t, s)
	time.Sleep(2 * time.Second)
	before := levelOf(t, s)
	g.note("no attack", g.start, "to compare with")

	each := pick(100*time.Millisecond, 2500*time.Millisecond)
	var all []attack
	for _, f := range forms() {
		a := g.badly(f)
		all = append(all, a)
		g.under(f.name, each, a)
	}
	if !testing.Short() {
		for _, a := range slices.Concat(g.slow(), g.greedy(), g.web()) {
			g.under(a.name, 8*time.Second, a)
		}
	}
	for i := range all { // several forms share a metric, and count each other's
		all[i].least, all[i].workers = true, 1
	}
	for _, a := range slices.Concat(g.slow(), g.greedy(), g.web()) {
		a.least = true
		all = append(all, a)
	}
	g.under("all of it at once", pick(5*time.Second, 20*time.Second), all...)
	from := time.Now()
	lab.Eventually(t, 30*time.Second, "the connections of hostile clients are closed", func() bool {
		l := levelOf(t, s)
		return l.connections <= before.connections+2 && l.goroutines <= before.goroutines+20 && l.descriptors <= before.descriptors+20
	})
	after := levelOf(t, s)
	limit := int64(128+128+256) << 20
	t.Logf("table: 6 | afterwards, within %v | goroutines %v (before %v), descriptors %v (%v), connections %v (%v); VmHWM %d MiB, bound %d MiB",
		time.Since(from).Round(100*time.Millisecond), after.goroutines, before.goroutines, after.descriptors, before.descriptors,
		after.connections, before.connections, after.peak>>20, limit>>20)
	if after.peak >= limit {
		t.Errorf("VmHWM %d MiB, want under %d", after.peak>>20, limit>>20)
	}
	if n := s.Metric("twinscribe_thrift_panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
	g.atOnce()
	hs := g.judge()
	quotedLog(t, s)
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	g.verify(hs)
	nothingElse(t, parent, "root")
	nothingElse(t, s.Dir, "state", "twinscribe.yaml", "log")
}

// badly is the attack by one form.
func (g *siege) badly(f form) attack {
	return attack{name: f.name, metric: "twinscribe_thrift_bad_total", labels: []string{fmt.Sprintf("kind=%q", f.kind)}, workers: 2,
		once: func(ctx context.Context, _ int) int {
			c, err := from(context.WithoutCancel(ctx), "127.0.0.2", g.s.Thrift)
			if err != nil {
				return 0
			}
			defer c.Close()
			c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			_, _ = c.Write(f.bytes) // the server may close before it has read all
			if f.cut {
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					return 0
				}
			}
			if !ended(c, 10*time.Second) {
				g.t.Errorf("%s: the server keeps the connection", f.name)
			}
			return 1
		}}
}

// atOnce sees to it that the server answers at once, now.
func (g *siege) atOnce() {
	g.t.Helper()
	c, err := lab.Dial(g.s.Thrift)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	var took []time.Duration
	for n := range 41 {
		message := fmt.Sprintf("afterwards %d", n)
		g.sends(message)
		start := time.Now()
		ok, err := c.Log([]lab.Entry{{Category: []byte("good"), Message: []byte(message)}}, 10*time.Second)
		if err != nil || !ok {
			g.t.Errorf("afterwards a call is answered %v, %v", ok, err)
			return
		}
		g.acked(message)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	limit := pick(500*time.Millisecond, 100*time.Millisecond)
	g.t.Logf("table: 6 | a call on a new connection, afterwards | median of %d: %v, slowest %v; bound median %v", len(took), round(took[len(took)/2]), round(took[len(took)-1]), limit)
	if m := took[len(took)/2]; m >= limit {
		g.t.Errorf("afterwards a call takes %v, want under %v", m, limit)
	}
}

// unquoted finds a byte or rune in output for people that would steer their terminal.
func unquoted(text string) string {
	for n, line := range strings.Split(text, "\n") {
		if !utf8.ValidString(line) {
			return fmt.Sprintf("line %d is not UTF-8: %.200q", n+1, line)
		}
		for _, r := range line {
			if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0x202e || r == 0x200f {
				return fmt.Sprintf("line %d has %U: %.200q", n+1, r, line)
			}
		}
	}
	return ""
}

// quotedLog sees to it that nothing in the server's log is raw that a client sent.
func quotedLog(t *testing.T, s *lab.Server) {
	t.Helper()
	log := string(s.Log())
	if bad := unquoted(log); bad != "" {
		t.Errorf("the log holds what steers a terminal: %s", bad)
	}
	for line := range strings.Lines(log) {
		if line[0] != '2' { // each line begins with its time
			t.Errorf("a line of the log that the server did not write: %.200q", line)
		}
	}
	if n := len(log); n > 4<<20 {
		t.Errorf("the log has %d bytes: it is not bounded", n)
	}
}
