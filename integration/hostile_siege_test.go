//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

const (
	goodSize    = 1200 // of a good client's message: a call of some of them needs a buffer for its frame
	goodBatch   = 5
	goodClients = 6
)

// A siege is a server with good clients, whose messages are remembered, and with hostile ones.
type siege struct {
	t     *testing.T
	s     *lab.Server
	start time.Time
	stop  func() []*lab.History

	number atomic.Int64 // of messages of hostile clients
	alone  bool         // there is one attack at this time

	mu      sync.Mutex
	whole   map[string]bool // messages that hostile clients and newcomers sent in whole calls; true: acknowledged
	fresh   []lab.OK        // calls of newcomers: on a connection of their own
	windows []stretch
}

// A stretch is the time of one attack.
type stretch struct {
	name     string
	from, to time.Time
	came     string // of it
}

// besiege begins with the good clients.
func besiege(t *testing.T, s *lab.Server) *siege {
	g := &siege{t: t, s: s, whole: map[string]bool{}, start: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	load := lab.Load{Addr: s.Thrift, Clients: goodClients, Batch: goodBatch, Interval: 25 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte("good"), lab.Line(c, n, goodSize) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	var wg sync.WaitGroup
	wg.Go(func() { g.newcomers(ctx) })
	g.stop = sync.OnceValue(func() []*lab.History { cancel(); wg.Wait(); return <-done })
	t.Cleanup(func() { g.stop() })
	return g
}

// newcomers connect for each call.
func (g *siege) newcomers(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		message := fmt.Sprintf("newcomer %d", n)
		g.sends(message)
		start := time.Now()
		for ctx.Err() == nil {
			c, err := lab.Dial(g.s.Thrift)
			if err != nil {
				continue
			}
			ok, err := c.Log([]lab.Entry{{Category: []byte("good"), Message: []byte(message)}}, 30*time.Second)
			c.Close()
			if err != nil {
				break // unknown
			}
			if ok {
				g.acked(message)
				g.mu.Lock()
				g.fresh = append(g.fresh, lab.OK{At: time.Now(), Took: time.Since(start)})
				g.mu.Unlock()
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (g *siege) sends(message string) { g.mu.Lock(); g.whole[message] = false; g.mu.Unlock() }
func (g *siege) acked(message string) { g.mu.Lock(); g.whole[message] = true; g.mu.Unlock() }

// An attack is what some workers do again and again for a while. once is one
// attempt; it gives how often the server has to count it.
type attack struct {
	name    string
	metric  string // counts it
	labels  []string
	least   bool // the server may count more
	workers int
	once    func(ctx context.Context, worker int) int
}

// under runs attacks at once for a while, and sees to it that the server counted each attempt of one
// that is alone. Beside others attempts end in other ways too: a frame is late, an address has too many connections.
func (g *siege) under(name string, d time.Duration, attacks ...attack) {
	g.t.Helper()
	g.alone = len(attacks) == 1
	before := make([]float64, len(attacks))
	for i, a := range attacks {
		if a.metric != "" {
			before[i] = g.s.Metric(a.metric, a.labels...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	from := time.Now()
	counts, tries := make([]atomic.Int64, len(attacks)), make([]atomic.Int64, len(attacks))
	var wg sync.WaitGroup
	for i, a := range attacks {
		for w := range a.workers {
			wg.Go(func() {
				for ctx.Err() == nil {
					counts[i].Add(int64(a.once(ctx, w)))
					tries[i].Add(1)
					if !g.alone { // many at full speed take the machine from the good clients, not only the server
						time.Sleep(20 * time.Millisecond)
					}
				}
			})
		}
	}
	wg.Wait()
	var all int64
	for i, a := range attacks {
		all += tries[i].Load()
		if a.metric == "" {
			continue
		}
		want, got := float64(counts[i].Load()), 0.0
		if !g.alone {
			want = min(want, 1)
		}
		for limit := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			got = g.s.Metric(a.metric, a.labels...) - before[i]
			if got >= want || time.Now().After(limit) {
				break
			}
		}
		if got < want || got > want && !a.least || want == 0 && g.alone {
			g.t.Errorf("%s: %v attempts, of which %s %v counts %v", a.name, want, a.metric, a.labels, got)
		}
	}
	g.note(name, from, fmt.Sprintf("%d attempts counted", all))
}

func (g *siege) note(name string, from time.Time, came string) {
	g.windows = append(g.windows, stretch{name, from, time.Now(), came})
}

// judge ends the load and holds the good clients' latencies of each window against the bound.
func (g *siege) judge() []*lab.History {
	g.t.Helper()
	hs := g.stop()
	limit := pick(4*time.Second, time.Second)
	newcomer := &lab.History{OKs: g.fresh}
	slices.SortFunc(newcomer.OKs, func(a, b lab.OK) int { return a.At.Compare(b.At) })
	for _, w := range g.windows {
		n, p50, p99, longest := lab.Latency(hs, w.from, w.to)
		m, _, fresh, _ := lab.Latency([]*lab.History{newcomer}, w.from, w.to)
		g.t.Logf("table: 6 | %s | %s; good clients: %d OKs, p50 %v, p99 %v, max %v; new connections p99 %v; bound p99 %v",
			w.name, w.came, n, round(p50), round(p99), round(longest), round(fresh), limit)
		if n == 0 || p99 >= limit || m > 0 && fresh >= 2*limit {
			g.t.Errorf("%s: good clients had %d OKs with p99 %v, new connections %d with p99 %v, want under %v", w.name, n, p99, m, fresh, limit)
		}
	}
	_, unknown, later, longest := sumHistories(hs)
	g.t.Logf("good clients: TRY_LATER %d, unknown %d, slowest OK %v", later, unknown, longest)
	if unknown > goodClients*goodBatch { // the calls under way when the load ends
		g.t.Errorf("of %d messages of good clients nobody knows: their connections were cut", unknown)
	}
	return hs
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// heard is a message of `read --json`.
type heard struct {
	Category       string
	CategoryBase64 []byte `json:"category_base64"`
	Message        string
	Base64         []byte
}

func (m *heard) name() string { return m.Category + string(m.CategoryBase64) }
func (m *heard) data() string { return m.Message + string(m.Base64) }

// hear gives every message of `twinscribe read --json` to f.
func hear(s *lab.Server, f func(*heard) error, args ...string) (stderr string, code int) {
	return s.Read(func(r io.Reader) error {
		in := bufio.NewReaderSize(r, 1<<20)
		for {
			line, err := in.ReadBytes('\n')
			if err == io.EOF && len(line) == 0 {
				return nil
			}
			if err != nil {
				return err
			}
			var m heard
			if err := json.Unmarshal(line, &m); err != nil {
				return fmt.Errorf("%w in %.200q", err, line)
			}
			if err := f(&m); err != nil {
				return err
			}
		}
	}, append([]string{"--json"}, args...)...)
}

// verify reads all back: every message is one that somebody sent whole, and what was acknowledged is there once.
func (g *siege) verify(hs []*lab.History) {
	g.t.Helper()
	var good bytes.Buffer
	seen, strange := map[string]int{}, 0
	stderr, code := hear(g.s, func(m *heard) error {
		data := m.data()
		if _, _, ok := lab.ParseLine([]byte(data)); ok && m.name() == "good" {
			good.WriteString(data)
			good.WriteByte('\n')
			return nil
		}
		data = strings.TrimSuffix(data, "\n")
		if _, sent := g.whole[data]; !sent {
			if strange++; strange < 5 {
				g.t.Errorf("nobody sent this whole: category %.80q, message %.200q", m.name(), data)
			}
		}
		if seen[data]++; seen[data] > 1 {
			g.t.Errorf("twice: %.100q", data)
		}
		return nil
	}, "--all")
	if code != 0 {
		g.t.Errorf("read --all ended with %d: %s", code, stderr)
	}
	b := lab.Verify(g.t, &good, hs, goodSize, true)
	b.MustBalance(g.t)
	lost := 0
	for message, acked := range g.whole {
		if acked && seen[message] == 0 {
			if lost++; lost < 5 {
				g.t.Errorf("acknowledged and lost: %.100q", message)
			}
		}
	}
	g.t.Logf("table: 6 | all read back with read --all --json | good: %v; sent whole by hostile clients and newcomers %d, of them read %d, acknowledged lost %d; never sent whole %d",
		b, len(g.whole), len(seen), lost, strange)
}

// level is what a server uses.
type level struct {
	goroutines, descriptors, connections float64
	peak                                 int64 // bytes, VmHWM
}

func levelOf(t *testing.T, s *lab.Server) level {
	t.Helper()
	l := level{goroutines: s.Metric("go_goroutines"), descriptors: s.Metric("process_open_fds"), connections: s.Metric("twinscribe_thrift_connections")}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			l.peak = kb << 10
		}
	}
	return l
}

// from dials from another address than the good clients have.
func from(ctx context.Context, host, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	return d.DialContext(ctx, "tcp", addr)
}

// ended waits until the other side has closed the connection, and throws away what comes until then.
func ended(c net.Conn, limit time.Duration) bool {
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return true
	}
	_, err := io.Copy(io.Discard, c)
	return !os.IsTimeout(err)
}
