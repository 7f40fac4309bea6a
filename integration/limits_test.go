//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// The limits are attacked: connections, names, descriptors, memory and buffer.
// Whatever is beyond one of them is refused, and nobody else notices.
func TestProve5Limits(t *testing.T) {
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	t.Run("connections", func(t *testing.T) { connectionLimit(t, n1) })
	t.Run("names", func(t *testing.T) { names(t, n1) })
	t.Run("descriptors", func(t *testing.T) { descriptors(t, n1, n2) })
	t.Run("overload", func(t *testing.T) { overloads(t, n1, n2) })
}

// apart gives a configuration a root of its own on the clusters.
func apart(yaml, root string) string { return strings.ReplaceAll(yaml, "root: /logs", "root: /"+root) }

// A crowd are clients with a connection each that stay. Every message is one of
// lab.Derived, by a single client as a reader sees it, offered once.
type crowd struct {
	s        *lab.Server
	category string
	size     int
	conns    []*lab.Conn

	next   atomic.Int64
	mu     sync.Mutex
	fates  map[int]byte // by message: lab.CallOK, …; what is not in it was never sent
	tooks  []time.Duration
	faults []error
}

// parallel does f for 0 to n-1, by 64 goroutines.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, 64) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// come connects n clients more.
func (c *crowd) come(n int) {
	conns := make([]*lab.Conn, n)
	parallel(n, func(i int) {
		conn, err := lab.Dial(c.s.Thrift)
		if err != nil {
			c.fault(err)
			return
		}
		conns[i] = conn
	})
	for _, conn := range conns {
		if conn != nil {
			c.conns = append(c.conns, conn)
		}
	}
}

func (c *crowd) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, err)
}

// call has one client send one message.
func (c *crowd) call(conn *lab.Conn, category string) (ok bool, err error) {
	n := int(c.next.Add(1)) - 1
	m := lab.Derived(nil, 0, n, c.size)
	start := time.Now()
	ok, err = conn.Log([]lab.Entry{{Category: []byte(category), Message: m}}, 30*time.Second)
	took := time.Since(start)
	fate := byte(lab.CallUnknown)
	if err == nil {
		fate = lab.CallLater
		if ok {
			fate = lab.CallOK
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fates[n] = fate
	c.tooks = append(c.tooks, took)
	return ok, err
}

// all has every client send one message; it tells how many heard OK and TRY_LATER.
func (c *crowd) all() (oks, laters int) {
	var ok, later atomic.Int64
	parallel(len(c.conns), func(i int) {
		switch answer, err := c.call(c.conns[i], c.category); {
		case err != nil:
			c.fault(err)
		case answer:
			ok.Add(1)
		default:
			later.Add(1)
		}
	})
	return int(ok.Load()), int(later.Load())
}

func (c *crowd) leave() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// latency since it was asked last.
func (c *crowd) latency() (p50, p99, longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tooks
	c.tooks = nil
	if len(t) == 0 {
		return 0, 0, 0
	}
	slices.Sort(t)
	return t[len(t)/2], t[len(t)*99/100], t[len(t)-1]
}

// verify reads back with the arguments of `twinscribe read` and counts.
func (c *crowd) verify(t *testing.T, args ...string) lab.Books {
	t.Helper()
	of := lab.Offer{Categories: 1, Clients: 1, Batch: 1, Size: c.size}
	fates := make([]byte, c.next.Load())
	for n, f := range c.fates {
		fates[n] = f
	}
	var own bytes.Buffer // without what others sent
	stderr, code := c.s.Read(func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if bytes.HasPrefix(lines.Bytes(), []byte("o")) {
				own.Write(append(lines.Bytes(), '\n'))
			}
		}
		return lines.Err()
	}, args...)
	b, err := of.Verify(&own, of.Category(0), &lab.Offered{Calls: [][]byte{fates}})
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 && code != 3 {
		t.Fatalf("read ended with %d: %s", code, stderr)
	}
	t.Logf("twinscribe read: %v; exit status %d", b, code)
	b.MustBalance(t)
	return b
}

// needDescriptors raises this process's limit, and with it that of the servers
// it starts.
func needDescriptors(t *testing.T, n uint64) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	want := old
	want.Cur, want.Max = max(old.Cur, n), max(old.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		t.Skipf("%d descriptors are needed, %d are allowed, and this is not root: %v", n, old.Max, err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}

// connectionLimit has ten thousand clients come at once, each of which sends
// and stays: all are answered, those beyond the limit are closed, a connection
// costs little, and the server answers at once.
func connectionLimit(t *testing.T, n1 *lab.Hadoop) {
	clients := pick(2000, 10_000)
	needDescriptors(t, uint64(clients+3000))
	s := lab.NewServer(t, apart(twoClusters(n1, nil, fmt.Sprintf("limits: {connections: %d}\n", clients)), "connections"))
	s.Start()
	c := &crowd{s: s, category: "many", size: 100, fates: map[int]byte{}}
	defer c.leave()
	c.come(1)
	c.all()
	_, before := memoryOf(t, s.Pid())
	start := time.Now()
	c.come(clients - 1)
	came := time.Since(start)
	oks, laters := 1, 0
	c.latency()
	for range 3 {
		o, l := c.all()
		oks, laters = oks+o, laters+l
	}
	_, p99, longest := c.latency()
	now := int(s.Metric("twinscribe_thrift_connections"))
	_, after := memoryOf(t, s.Pid())

	const more = 100
	closed := 0
	for range more {
		conn, err := lab.Dial(s.Thrift)
		if err != nil {
			closed++
			continue
		}
		if _, err := conn.Log(nil, 5*time.Second); err != nil {
			closed++
		}
		conn.Close()
	}
	refused := int(s.Metric("twinscribe_thrift_refused_total", `limit="connections"`))
	for _, conn := range c.conns[:min(200, len(c.conns))] { // beside all the others
		if _, err := c.call(conn, c.category); err != nil {
			c.fault(err)
		}
	}
	p50full, p99full, _ := c.latency()
	c.leave()
	gone := lab.Eventually(t, 10*time.Second, "no connections", func() bool { return s.Metric("twinscribe_thrift_connections") == 0 })
	c.come(10)
	again, _ := c.all()
	_, _, last := c.latency()
	each := (after - before) / int64(clients)
	t.Logf("table: 5 | %d connections at once, 3 calls each, %d more refused | all %d OK in %v at most, %.1f KiB of memory each; beside them p50 %v p99 %v",
		now, refused, oks, longest.Round(time.Millisecond), float64(each)/1024, p50full.Round(10*time.Microsecond), p99full.Round(10*time.Microsecond))
	t.Logf("connected in %v, p99 %v; gone %v after they left, then %d of 10 answered within %v", came.Round(time.Millisecond), p99, gone.Round(time.Millisecond), again, last)
	if now != clients || oks != 3*clients+1 || laters > 0 || len(c.faults) > 0 {
		t.Errorf("%d connections, %d OKs, %d TRY_LATER, faults %v: want %d, all OK", now, oks, laters, errors.Join(c.faults...), clients)
	}
	if closed != more || refused != more {
		t.Errorf("of %d beyond the limit %d were closed, %d counted", more, closed, refused)
	}
	if longest >= 10*time.Second || each > 24<<10 {
		t.Errorf("slowest answer %v, want under 10 s; %d bytes a connection, want under 24 KiB", longest, each)
	}
	if p99full > pick(time.Second, 100*time.Millisecond) || again != 10 || last > pick(2*time.Second, time.Second) {
		t.Errorf("with all connected p99 %v; afterwards %d of 10 answered, within %v: want at once", p99full, again, last)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	c.verify(t, "--category", "many")
}

// descriptors starts a server that may have 256, and has clients take more than
// that. It goes on accepting and answering, writes to the clusters and, when
// they freeze, to the buffer, answers on its HTTP port, and loses nothing.
func descriptors(t *testing.T, n1, n2 *lab.Hadoop) {
	s := lab.NewServer(t, apart(twoClusters(n1, n2, "buffer: {segment: 1MiB}\n"), "descriptors"))
	s.Descriptors = 256
	s.Start()
	const size, clients, categories = 200, 8, 60
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: clients, Batch: 10, Interval: 50 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) {
			return fmt.Appendf(nil, "cat%03d", (c*10+n)%categories), lab.Line(c, n, size)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	lab.Eventually(t, 30*time.Second, "the load runs", func() bool { return s.Metric("twinscribe_files_open") >= 20 })

	watch := watchServer(t, s)
	var idle []net.Conn // 400 that stay silent
	for range 400 {
		if c, err := net.DialTimeout("tcp", s.Thrift, 5*time.Second); err == nil {
			idle = append(idle, c)
		}
	}
	leave := func() {
		for _, c := range idle {
			c.Close()
		}
	}
	defer leave()
	limit := s.Metric("twinscribe_thrift_connections_limit")
	lab.Eventually(t, 10*time.Second, "the limit is reached", func() bool { return s.Metric("twinscribe_thrift_connections") == limit })
	time.Sleep(pick(time.Second, 10*time.Second))
	pids := []int{n1.Pid("nn"), n1.Pid("dn1"), n2.Pid("nn"), n2.Pid("dn1")}
	cut := time.Now()
	for _, p := range pids {
		n1.Signal(p, syscall.SIGSTOP)
	}
	time.Sleep(pick(4*time.Second, 20*time.Second))
	thawed := time.Now()
	for _, p := range pids {
		n1.Signal(p, syscall.SIGCONT)
	}
	n1.Wait(1)
	n2.Wait(1)
	refused := s.Metric("twinscribe_thrift_refused_total", `limit="connections"`)
	leave()
	lab.Eventually(t, 10*time.Second, "idle connections gone", func() bool { return s.Metric("twinscribe_thrift_connections") <= clients })
	c := &crowd{s: s, category: "after", size: 100, fates: map[int]byte{}}
	c.come(20)
	again, _ := c.all()
	c.leave()
	settled(t, s, 90*time.Second) // what is torn cannot be read before its repair
	cancel()
	hs := <-done
	most, slowest, failures := watch()
	_, unknown, later, _ := sumHistories(hs)
	before, _, _, longestBefore := lab.Latency(hs, time.Time{}, cut)
	during, _, _, longest := lab.Latency(hs, cut, thawed)
	t.Logf("table: 5 | ulimit -n 256, 400 clients and %d categories, then both clusters frozen | at most %d descriptors, %.0f connections, %.0f refused; slowest OK %v (< 3 s), /readyz within %v",
		categories, most, limit, refused, longest.Round(time.Millisecond), slowest.Round(time.Millisecond))
	t.Logf("%d OKs before the clusters froze (slowest %v), %d while they were; TRY_LATER %d, unknown %d", before, longestBefore, during, later, unknown)
	if most >= 256 || s.Metric("twinscribe_thrift_accept_errors_total") > 0 {
		t.Errorf("%d descriptors of 256, accept errors %.0f: want some left", most, s.Metric("twinscribe_thrift_accept_errors_total"))
	}
	if refused == 0 || len(idle) != 400 {
		t.Errorf("%.0f connections refused, %d made: the limit was not reached", refused, len(idle))
	}
	if later > 0 || unknown > 0 || during == 0 || max(longest, longestBefore) >= bound() {
		t.Errorf("TRY_LATER %d, unknown %d, %d OKs while the clusters were frozen, slowest %v: want none, none, some, under %v",
			later, unknown, during, max(longest, longestBefore), bound())
	}
	if failures > 0 || slowest > pick(5*time.Second, time.Second) {
		t.Errorf("/readyz failed %d times, slowest %v", failures, slowest)
	}
	if again != 20 || len(c.faults) > 0 {
		t.Errorf("afterwards %d of 20 new clients were answered: %v", again, errors.Join(c.faults...))
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	if bytes.Contains(s.Log(), []byte("too many open files")) {
		t.Error("the log tells of too many open files")
	}
	c.verify(t, "--category", "after")
	readSpread(t, s, hs, size, categories)
}

// readSpread verifies the categories of a load together.
func readSpread(t *testing.T, s *lab.Server, hs []*lab.History, size, categories int) {
	t.Helper()
	var all bytes.Buffer
	for i := range categories {
		stderr, code := s.Read(func(r io.Reader) error { _, err := io.Copy(&all, r); return err }, "--category", fmt.Sprintf("cat%03d", i))
		if code != 0 {
			t.Errorf("read ended with %d: %s", code, stderr)
		}
	}
	b := lab.Verify(t, &all, hs, size, false)
	t.Logf("twinscribe read of %d categories: %v", categories, b)
	b.MustBalance(t)
}

// watchServer looks at a server's descriptors and its /readyz until the
// function is called.
func watchServer(t *testing.T, s *lab.Server) func() (most int, slowest time.Duration, failures int) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var most, failures int
	var slowest time.Duration
	pid := s.Pid()
	wg.Go(func() {
		web := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
				most = max(most, len(fds))
			}
			start := time.Now()
			r, err := web.Get("http://" + s.HTTP + "/readyz")
			slowest = max(slowest, time.Since(start))
			if err != nil {
				failures++
				continue
			}
			r.Body.Close()
			if r.StatusCode != http.StatusOK {
				failures++
			}
		}
	})
	var once sync.Once
	end := func() { once.Do(func() { close(stop); wg.Wait() }) }
	t.Cleanup(end)
	return func() (int, time.Duration, int) { end(); return most, slowest, failures }
}
