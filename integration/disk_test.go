//go:build integration

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twinscribe/integration/lab"
	"twinscribe/integration/lab/powerfs"
)

// A disk that hangs, one on which a sync fails, and one that is full, below a server with two real
// clusters: OK is only said for what is stored, clusters that are up go on, and the server answers.
func TestProve4Disk(t *testing.T) {
	if err := powerfs.Possible(); err != nil {
		t.Skip(err)
	}
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	t.Run("stall", func(t *testing.T) { stalledDisk(t, n1, n2) })
	t.Run("sync", func(t *testing.T) { failedSyncs(t, n1, n2) })
	t.Run("full", func(t *testing.T) { fullDisk(t, n1, n2) })
}

// ackTimeout is the default of ack_timeout, and what the wire adds.
const ackTimeout = 11 * time.Second

// underRoot is twoClusters with a root of its own, so that servers of one name do not meet.
func underRoot(n1, n2 *lab.Hadoop, root, extra string) string {
	return strings.ReplaceAll(twoClusters(n1, n2, extra), "root: /logs", "root: /"+root)
}

// asked is how a server's HTTP side answered over a time.
type asked struct {
	count, failed int
	slowest       time.Duration
}

// ask asks for /healthz and /readyz again and again until stop is closed.
func ask(s *lab.Server, stop <-chan struct{}) <-chan asked {
	result := make(chan asked, 1)
	go func() {
		var a asked
		c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for i := 0; ; i++ {
			select {
			case <-stop:
				result <- a
				return
			case <-time.After(50 * time.Millisecond):
			}
			from := time.Now()
			r, err := c.Get("http://" + s.HTTP + []string{"/healthz", "/readyz"}[i%2])
			a.count++
			if err != nil {
				a.failed++
			} else {
				r.Body.Close()
			}
			a.slowest = max(a.slowest, time.Since(from))
		}
	}()
	return result
}

// Every write and sync of the state folder hangs, and half-way N1 goes away too: OK goes on from
// HDFS, also for categories that are new, and the server tells how it is.
func stalledDisk(t *testing.T, n1, n2 *lab.Hadoop) {
	s := lab.NewServer(t, underRoot(n1, n2, "stall", ""))
	disk := onPowerFS(t, s, time.Millisecond)
	s.Start()
	const size = 300
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var fresh atomic.Int64 // how many categories there are beside the first
	// What a disk that hangs has begun to write may be stored all the same.
	load := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 20, Interval: 10 * time.Millisecond, Once: true,
		Message: func(c, n int) ([]byte, []byte) {
			return fmt.Appendf(nil, "web%d", int64(n/20)%(1+fresh.Load())), lab.Line(c, n, size)
		}}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(pick(1200*time.Millisecond, 5*time.Second))
	onClusters(t, s)
	one := newFreezer(n1)
	defer one.set(false)
	stop := make(chan struct{})
	from := time.Now()
	disk.Stall()
	answers := ask(s, stop)
	stretch := pick(1500*time.Millisecond, 5*time.Second)
	time.Sleep(stretch)
	fresh.Store(4)
	time.Sleep(stretch)
	second := time.Now()
	one.set(true)
	time.Sleep(stretch)
	released := time.Now()
	disk.Release()
	close(stop)
	a := <-answers
	one.set(false)
	time.Sleep(2 * time.Second)
	settled(t, s, 90*time.Second)
	cancel()
	hs := <-done
	before, p50b, _, _ := lab.Latency(hs, from.Add(-time.Second), from)
	n, p50, p99, longest := lab.Latency(hs, from, second)
	later, _, _, away := lab.Latency(hs, second, released)
	t.Logf("OKs: %d in the second before, p50 %v; %d while the disk hung, p50 %v, p99 %v, slowest %v; %d with N1 away as well, slowest %v",
		before, p50b, n, p50, p99, longest, later, away)
	if longest >= bound() || away >= bound() {
		t.Errorf("slowest OK %v, with N1 away %v, want under %v", longest, away, bound())
	}
	if n == 0 || later == 0 || p50 > 10*p50b+50*time.Millisecond {
		t.Errorf("the disk hangs: %d OKs, p50 %v, and %d with N1 away; before p50 %v", n, p50, later, p50b)
	}
	if limit := pick(5*time.Second, time.Second); a.failed > 0 || a.slowest >= limit {
		t.Errorf("/healthz and /readyz: %d of %d had no answer, slowest %v, want under %v", a.failed, a.count, a.slowest, limit)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	b := readOnce(t, s, hs, size)
	t.Logf("table: 4 | the disk hangs for %v, N1 frozen too in the last third | %d OKs, p50 %v, slowest %v (bound %v); /readyz in %v; lost %d, twice %d",
		released.Sub(from).Round(time.Second), n+later, p50.Round(time.Microsecond*100), max(longest, away).Round(time.Millisecond), bound(),
		a.slowest.Round(time.Millisecond), b.Lost, b.Twice)
}

// onClusters waits until both clusters are healthy and one of them, not the buffer, takes what comes:
// a cluster that has just been started may be too slow for the first batches.
func onClusters(t *testing.T, s *lab.Server) {
	t.Helper()
	var before places
	lab.Eventually(t, 60*time.Second, "messages go to a cluster", func() bool {
		time.Sleep(300 * time.Millisecond)
		var st status
		s.Get("/v1/status", &st)
		now := st.Totals.Stored
		ok := before != nil && now["buffer"] == before["buffer"] && (now["n1"] != before["n1"] || now["n2"] != before["n2"])
		for _, c := range st.Clusters {
			ok = ok && c.State == "healthy"
		}
		before = now
		return ok
	})
}

// A sync fails once, the buffer's, the journal's or a folder's, whichever comes: what was written
// then is gone with the power, which is cut soon after. The next start finds what was acknowledged.
func failedSyncs(t *testing.T, n1, n2 *lab.Hadoop) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	s := lab.NewServer(t, underRoot(n1, n2, "sync", "buffer: {segment: 1MiB}\n"))
	disk := onPowerFS(t, s, time.Millisecond)
	s.Start()
	const size = 300
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 20, Interval: 10 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return fmt.Appendf(nil, "web%d", n/20%3), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(time.Second)
	one, two := newFreezer(n1), newFreezer(n2)
	defer two.set(false)
	defer one.set(false)
	failed := map[string]int{}
	times := pick(2, 15)
	for i := range times {
		outage := i%3 != 0 // otherwise N1 alone is away: the journal's syncs
		one.set(true)
		two.set(outage)
		var mu sync.Mutex
		left, hit := 1+r.IntN(3), ""
		if outage {
			left = 1 + r.IntN(60)
		}
		disk.FailSync(func(name string) bool {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				hit = name
			}
			return left == 0
		})
		limit := time.Now().Add(pick(3*time.Second, 5*time.Second))
		for time.Now().Before(limit) {
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			over := left <= 0
			mu.Unlock()
			if over {
				break
			}
		}
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
		disk.FailSync(nil)
		if hit != "" {
			failed[syncKind(hit)]++
		}
		cutPower(t, s, disk, nil)
		verifyBuffer(t, s, false)
	}
	one.set(false)
	two.set(false)
	n1.Wait(1)
	n2.Wait(1)
	settled(t, s, 90*time.Second)
	cancel()
	hs := <-done
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	acked := 0
	for _, h := range hs {
		acked += len(h.Acked())
	}
	b := readOnce(t, s, hs, size)
	t.Logf("syncs that failed: %v", failed)
	hits := 0
	for _, n := range failed {
		hits += n
	}
	if hits == 0 {
		t.Error("no sync failed: the hook does not work")
	}
	t.Logf("table: 4 | a sync fails once (EIO), then the power is cut, %d times | failed %v; of %d acknowledged lost %d, twice %d",
		times, failed, acked, b.Lost, b.Twice)
}

// syncKind says what a name is: of a segment, of the journal, of something else in the state folder.
func syncKind(name string) string {
	switch filepath.Ext(name) {
	case ".seg":
		return "segment"
	case ".jnl":
		return "journal"
	case "":
		return "folder"
	}
	return "other"
}

// The state folder fills up while both clusters are away: TRY_LATER, and nothing that was
// acknowledged is lost. A cluster comes back while the disk is full, and the server is killed and
// started on it: OK goes on.
func fullDisk(t *testing.T, n1, n2 *lab.Hadoop) {
	if os.Geteuid() != 0 {
		t.Skip("a small tmpfs needs root")
	}
	s := lab.NewServer(t, underRoot(n1, n2, "full", "buffer: {segment: 1MiB}\n"))
	const space = 8 << 20
	onTmpfs(t, s, space)
	s.Start()
	const size = 1000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var oks atomic.Int64
	load := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 20, Interval: 5 * time.Millisecond,
		Message:  func(c, n int) ([]byte, []byte) { return fmt.Appendf(nil, "web%d", n/20%3), lab.Line(c, n, size) },
		Answered: func(int, int, int, time.Duration) { oks.Add(1) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	time.Sleep(time.Second)
	one, two := newFreezer(n1), newFreezer(n2)
	defer two.set(false)
	defer one.set(false)
	one.set(true)
	two.set(true)
	notReady := lab.Eventually(t, 60*time.Second, "/readyz says that nothing is taken", func() bool {
		r, err := http.Get("http://" + s.HTTP + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusServiceUnavailable
	})
	time.Sleep(pick(time.Second, 10*time.Second))
	last := oks.Load()
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Join(s.Dir, "state"), &fs); err != nil {
		t.Fatal(err)
	}
	one.set(false)
	n1.Wait(1)
	back := lab.Eventually(t, 30*time.Second, "OK from N1 while the disk is full", func() bool { return oks.Load() > last+50 })
	killed := oks.Load()
	s.Kill()
	s.Start() // on the full disk
	lab.Eventually(t, 30*time.Second, "OK after a start on the full disk", func() bool { return oks.Load() > killed+50 })
	two.set(false)
	n2.Wait(1)
	settled(t, s, 90*time.Second)
	cancel()
	hs := <-done
	_, unknown, later, _ := sumHistories(hs)
	refused := time.Duration(0)
	for _, h := range hs {
		refused = max(refused, h.Refused)
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	verifyBuffer(t, s, false)
	acked := 0
	for _, h := range hs {
		acked += len(h.Acked())
	}
	b := readOnce(t, s, hs, size)
	t.Logf("unknown %d, %d bytes free when full, after %v", unknown, fs.Bavail*uint64(fs.Bsize), notReady.Round(time.Millisecond))
	if later == 0 {
		t.Error("no TRY_LATER: the disk was not full")
	}
	if refused >= ackTimeout {
		t.Errorf("the slowest TRY_LATER took %v, want under ack_timeout %v", refused, ackTimeout)
	}
	t.Logf("table: 4 | disk of 8 MiB full, both clusters away; N1 back, kill -9, start | TRY_LATER %d, slowest %v; OK %v after N1 was back; of %d acknowledged lost %d, twice %d",
		later, refused.Round(time.Millisecond), back.Round(100*time.Millisecond), acked, b.Lost, b.Twice)
}

// onTmpfs mounts a small file system on the server's state folder, before its first start.
func onTmpfs(t *testing.T, s *lab.Server, size int) {
	t.Helper()
	dir := filepath.Join(s.Dir, "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("twinscribe-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
