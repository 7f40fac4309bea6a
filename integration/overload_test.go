//go:build integration

package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A gibibyte is offered while both clusters are frozen and the buffer holds 64
// MiB, in messages of ten bytes and of a mebibyte. The categories concerned
// hear TRY_LATER in time, memory stays below its limit, a category whose
// cluster is well goes on as before, and all that was acknowledged is there
// once.
//
// What is attacked is the server's limits, not the machine's processors and
// disk: the clients that offer run in a process of their own at the lowest
// priority and at a bounded rate, and the quiet category's cluster does not
// share the buffer's disk. The latency before is that beside the same offer
// while the clusters are well, that of an idle server is told with it; of each
// it is the p99 that is usual in a second.
func overloads(t *testing.T, n1, n2 *lab.Hadoop) {
	for _, of := range []lab.Offer{
		{Name: "large", Categories: 8, Clients: 128, Batch: 4, Size: 1 << 20, Bytes: pick[int64](512<<20, 1<<30), Rate: pick[int64](192<<20, 48<<20)},
		{Name: "small", Categories: 8, Clients: 64, Batch: 50_000, Size: 10, Bytes: pick[int64](48<<20, 1<<30), Rate: pick[int64](24<<20, 12<<20)},
	} {
		t.Run(of.Name, func(t *testing.T) { overload(t, n1, n2, of) })
	}
}

const (
	memoryLimit = 256 << 20
	overMemory  = 64 << 20 // what the process may have beside limits.memory
)

func overload(t *testing.T, n1, n2 *lab.Hadoop, of lab.Offer) {
	what := map[int]string{10: "10 B", 1 << 20: "1 MiB"}[of.Size]
	d, err := os.MkdirTemp(memoryDisk(), "twinscribe-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	away := fmt.Sprintf("  - {name: d, dir: {path: %q}}\ncategories:\n  - {match: quiet, store: {files: {cluster: d}}}\n", d)
	s := lab.NewServer(t, strings.Replace(apart(twoClusters(n1, n2, "limits: {memory: 256MiB, frame_memory: 24MiB, frame: 6MiB, message: 2MiB, entries: 50000, connections: 200}\nbuffer: {max_bytes: 64MiB}\n"), of.Name),
		"categories:\n", away, 1))
	s.Start()
	of.Addr = s.Thrift
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const size = 200
	quiet := lab.Load{Addr: s.Thrift, Clients: 1, Batch: 50, Interval: 10 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return []byte("quiet"), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- quiet.Run(ctx) }()
	warm := of // every category has its file before the fault
	warm.Clients, warm.Batch, warm.Size, warm.Bytes = of.Categories, 1, 200, int64(of.Categories)*200
	warmed := warm.Start(t)()
	time.Sleep(time.Second)
	idle := time.Now()
	time.Sleep(pick(2*time.Second, 5*time.Second))
	same := of // the same offer while the clusters are well
	same.Name, same.Bytes = of.Name+"-before", pick[int64](2, 20)*of.Rate
	before := time.Now()
	healthy := same.Start(t)()
	pids := []int{n1.Pid("nn"), n1.Pid("dn1"), n2.Pid("nn"), n2.Pid("dn1")}
	thaw := func() {
		for _, p := range pids {
			_ = syscall.Kill(p, syscall.SIGCONT)
		}
	}
	defer thaw()
	cut := time.Now()
	for _, p := range pids {
		n1.Signal(p, syscall.SIGSTOP)
	}
	offered := of.Start(t)()
	end := time.Now()
	high, rss := memoryOf(t, s.Pid())
	ends := metricsOf(t, s, "twinscribe_calls_total", "twinscribe_thrift_busy_total", fmt.Sprintf("twinscribe_refused_messages_total{category=%q", of.Category(0)))
	thaw()
	n1.Wait(1)
	n2.Wait(1)
	time.Sleep(time.Second)
	cancel()
	hs := <-done
	nd, p50d, p99all, longest := lab.Latency(hs, cut, end)
	p99i, p99b, p99d := usualP99(hs, idle, before), usualP99(hs, before, cut), usualP99(hs, cut, end)
	_, unknown, later, _ := sumHistories(hs)
	t.Logf("%s: offered before in %v: %d OK, %d TRY_LATER, longest answer %v", what, healthy.Took.Round(time.Millisecond), healthy.OK, healthy.Later, healthy.Longest)
	t.Logf("%s: offered in %v: %d OK, %d TRY_LATER, %d answers lost (%s); longest answer %v, longest TRY_LATER %v; VmHWM %d MiB, VmRSS %d MiB; %s", what,
		offered.Took.Round(time.Millisecond), offered.OK, offered.Later, offered.Lost, offered.Err, offered.Longest, offered.LongestLater, high>>20, rss>>20, ends)
	t.Logf("%s: quiet during: %d OKs p50 %v, p99 of all %v, longest %v; TRY_LATER %d, unknown %d", what, nd, p50d, p99all, longest, later, unknown)
	t.Logf("table: 5 | %d MiB in messages of %s, both clusters frozen, buffer 64 MiB | VmHWM %d MiB (< 320); TRY_LATER within %v (< 10 s); healthy place p99 %v, with the clusters well %v, without load %v",
		of.Bytes>>20, what, high>>20, offered.LongestLater.Round(time.Millisecond), p99d.Round(10*time.Microsecond), p99b.Round(10*time.Microsecond), p99i.Round(10*time.Microsecond))
	if high >= memoryLimit+overMemory {
		t.Errorf("VmHWM %d MiB, want under %d MiB", high>>20, (memoryLimit+overMemory)>>20)
	}
	if offered.Longest >= 10*time.Second || offered.Lost > 0 {
		t.Errorf("longest answer %v, %d answers lost (%s): want all within ack_timeout, 10 s", offered.Longest, offered.Lost, offered.Err)
	}
	if offered.Later == 0 {
		t.Error("nothing was refused: the limits were not reached")
	}
	if later > 0 || unknown > 0 || nd == 0 {
		t.Errorf("the quiet category heard TRY_LATER %d times, lost %d answers, had %d OKs", later, unknown, nd)
	}
	if p99d > max(2*p99b, pick(time.Second, 0)) {
		t.Errorf("the quiet category's p99 is %v, %v beside the same load while the clusters were well", p99d, p99b)
	}
	if healthy.OK == 0 || healthy.Lost > 0 {
		t.Errorf("while the clusters were well %d OK, %d answers lost (%s)", healthy.OK, healthy.Lost, healthy.Err)
	}
	settled(t, s, 90*time.Second) // a file under recovery gives nothing to read
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	readBack(t, s, "quiet", hs, size, true)
	readOffered(t, s, &of, offered, warmed)
	readOffered(t, s, &same, healthy, nil)
}

// usualP99 is the median of the p99 of every second between two moments: what
// a neighbour on the machine does for a second or two does not decide.
func usualP99(hs []*lab.History, from, to time.Time) time.Duration {
	var all []time.Duration
	for at := from; at.Before(to); at = at.Add(time.Second) {
		if n, _, p99, _ := lab.Latency(hs, at, at.Add(time.Second)); n > 0 {
			all = append(all, p99)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// memoryDisk is a folder that is on no disk, where the system has one.
func memoryDisk() string {
	if i, err := os.Stat("/dev/shm"); err == nil && i.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// readOffered verifies `twinscribe read` of every category of an offer. The
// messages of warmed, if any, came before: they are as many as there are categories.
func readOffered(t *testing.T, s *lab.Server, of *lab.Offer, offered, warmed *lab.Offered) {
	t.Helper()
	var all lab.Books
	for i := range of.Categories {
		category := of.Category(i)
		var b lab.Books
		stderr, code := s.Read(func(r io.Reader) (err error) {
			in := bufio.NewReader(r)
			if warmed != nil {
				if _, err := in.Discard(201); err != nil { // the one that opened the file
					return fmt.Errorf("the first message: %w", err)
				}
			}
			b, err = of.Verify(in, category, offered)
			return err
		}, "--category", category)
		if code != 0 && code != 3 {
			t.Fatalf("read ended with %d: %s", code, stderr)
		}
		b.MustBalance(t)
		all.Read, all.Extra = all.Read+b.Read, all.Extra+b.Extra
		all.Lost, all.Twice, all.Strange = all.Lost+b.Lost, all.Twice+b.Twice, all.Strange+b.Strange
	}
	if warmed != nil && warmed.OK != of.Categories {
		t.Errorf("%d of the first messages were acknowledged", warmed.OK)
	}
	t.Logf("twinscribe read: %v", all)
}

// memoryOf is what a process has had in memory at most and has now, in bytes.
func memoryOf(t *testing.T, pid int) (high, now int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Sscan(rest, &kib)
			high = kib << 10
		} else if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			fmt.Sscan(rest, &kib)
			now = kib << 10
		}
	}
	return high, now
}

// metricsOf are the lines of some metrics that are not 0.
func metricsOf(t *testing.T, s *lab.Server, names ...string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(s.Page("/metrics")) {
		for _, n := range names {
			if strings.HasPrefix(line, n) && !strings.HasSuffix(line, " 0\n") {
				found = append(found, strings.TrimPrefix(strings.TrimSpace(line), "twinscribe_"))
			}
		}
	}
	return strings.Join(found, ", ")
}
