//go:build integration

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// idleConnections has ten thousand clients send a frame of a mebibyte each and stay.
func idleConnections(t *testing.T, r *report) {
	const clients, size = 10_000, 1<<20 - 100
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	want := syscall.Rlimit{Cur: max(old.Cur, clients+3000), Max: max(old.Max, clients+3000)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		t.Skipf("%d descriptors are needed: %v", want.Cur, err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
	_, server := serving(t, nullStore)
	message := make([]byte, size)
	for i := range message {
		message[i] = 'x'
	}
	conns := make([]*lab.Conn, clients)
	call := func(i int) error {
		c, err := lab.Dial(server.addr)
		if err != nil {
			return err
		}
		conns[i] = c
		ok, err := c.Log([]lab.Entry{{Category: []byte("idle"), Message: message}}, time.Minute)
		if err == nil && !ok {
			err = fmt.Errorf("client %d: TRY_LATER", i)
		}
		return err
	}
	if err := call(0); err != nil {
		t.Fatal(err)
	}
	before := statusOf(t, server.pid, "VmRSS")
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := call(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := 1; i < clients; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	time.Sleep(10 * time.Second) // what was freed goes back to the system
	after := statusOf(t, server.pid, "VmRSS")
	r.ratio(t, "10,000 idle connections after a frame of 1 MiB each", "KiB of memory each", (after-before)/clients, atMost(25), fmt.Sprintf("VmRSS %.0f and %.0f MiB", before/1024, after/1024))
}

// reading holds `twinscribe read` against cat, both into wc.
func reading(t *testing.T, r *report) {
	at := t.TempDir()
	gb := number(t, "BENCH_READ_GB", 10)
	s, server := serving(t, dirCluster(at))
	load{connections: 8, batch: 1000, size: 500, calls: gb * 1000 / 4}.on(t, server)
	if code := s.Stop(); code != 0 {
		t.Fatalf("the server stopped with %d", code)
	}
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	timed := func(command string, args ...string) sample {
		cmd := exec.Command("sh", append([]string{"-c", command, "sh"}, args...)...)
		start := time.Now()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		var n float64
		fmt.Sscan(string(out), &n)
		return sample{bytes: n, wall: time.Since(start).Seconds()}
	}
	ours, cat := byTurns(
		func() sample { return timed(`"$1" read -c "$2" --category bench | wc -c`, bin, s.Config) },
		func() sample { return timed(`find "$1" -name '[0-9]*.log' | xargs cat | wc -c`, at) })
	if ours[0].bytes != cat[0].bytes {
		t.Errorf("read gave %.0f bytes, cat %.0f", ours[0].bytes, cat[0].bytes)
	}
	r.ratio(t, fmt.Sprintf("`read` of %d GB from a dir cluster into `wc -c`, page cache warm", gb), "MB/s, of those of `cat`", rate(ours)/rate(cat), atLeast(0.5),
		fmt.Sprintf("%.0f and %.0f MB/s", rate(ours), rate(cat)))
}

// starting measures from the start of a server with much state to its first OK.
func starting(t *testing.T, r *report) {
	const files = 10_000
	at := t.TempDir()
	s := lab.NewServer(t, fmt.Sprintf(`limits: {categories: 12000}
clusters:
  - {name: d, dir: {path: %q}, limits: {max_open_files: 12000}}
categories:
  - {match: kept, store: {buffer: {}}}
  - {match: "*", store: {files: {cluster: d}}}
`, filepath.Join(at, "d")))
	s.Start()
	log := func(entries []lab.Entry) error {
		c, err := lab.Dial(s.Thrift)
		if err != nil {
			return err
		}
		defer c.Close()
		ok, err := c.Log(entries, 5*time.Minute)
		if err == nil && !ok {
			err = fmt.Errorf("TRY_LATER")
		}
		return err
	}
	for from := 0; from < files; from += 500 {
		var entries []lab.Entry
		for n := range 500 {
			entries = append(entries, lab.Entry{Category: fmt.Appendf(nil, "c%05d", from+n), Message: []byte("one")})
		}
		for err := log(entries); err != nil; err = log(entries) {
			t.Logf("filling: %v", err)
			time.Sleep(time.Second)
		}
	}
	large := make([]byte, 1<<20)
	for range 1024 {
		if err := log([]lab.Entry{{Category: []byte("kept"), Message: large}}); err != nil {
			t.Fatal(err)
		}
	}
	if code := s.Stop(); code != 0 {
		t.Fatalf("the server stopped with %d", code)
	}
	sealed, err := filepath.Glob(filepath.Join(at, "d", "*", "*", "*", "[0-9]*.log"))
	if err != nil || len(sealed) < files {
		t.Fatalf("%d sealed files, %v", len(sealed), err)
	}
	segments, err := filepath.Glob(filepath.Join(s.Dir, "state", "buffer", "*"))
	if err != nil {
		t.Fatal(err)
	}
	kept := int64(0)
	for _, f := range segments {
		if i, err := os.Stat(f); err == nil {
			kept += i.Size()
		}
	}
	first := func() sample {
		start := time.Now()
		s.Launch()
		for log([]lab.Entry{{Category: []byte("c00000"), Message: []byte("one")}}) != nil {
			if time.Since(start) > time.Minute {
				t.Fatal("no OK within a minute")
			}
			time.Sleep(time.Millisecond)
		}
		took := time.Since(start).Seconds()
		if code := s.Stop(); code != 0 {
			t.Fatalf("the server stopped with %d", code)
		}
		return sample{wall: took}
	}
	ours := repeated(first)
	r.ratio(t, fmt.Sprintf("start with %d sealed files and %d MiB of buffer", len(sealed), kept>>20), "s to the first OK",
		lab.Median(ours, func(s sample) float64 { return s.wall }), atMost(1), "")
}
