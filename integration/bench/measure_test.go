//go:build integration

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A target is a process that answers Log calls.
type target struct {
	name, addr string
	pid        int
}

// A sample is one measurement.
type sample struct {
	messages, bytes float64 // acknowledged
	wall, cpu       float64 // seconds; cpu is the target's
	p50, p99        float64 // seconds until an answer
	allocations     float64 // of the target
	memory          float64 // MiB of the target, afterwards
}

// load is what the clients do.
type load struct {
	connections, batch, size int
	categories               int           // 0: one
	calls                    int           // of each connection; 0: for duration
	rate                     int           // messages a second; 0: as fast as answers come
	duration                 time.Duration // 0: BENCH_SECONDS
	refused                  bool          // TRY_LATER is meant to be heard
}

// on puts the load on a target, from a process of its own.
func (l load) on(t *testing.T, at target) sample {
	t.Helper()
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if l.duration == 0 {
		l.duration = time.Duration(seconds) * time.Second
	}
	if l.calls > 0 {
		l.duration = 10 * time.Minute
	}
	cmd := exec.Command(bin, "bench", "--json", "--addr", at.addr, "--connections", strconv.Itoa(l.connections),
		"--batch", strconv.Itoa(l.batch), "--size", strconv.Itoa(l.size), "--categories", strconv.Itoa(max(1, l.categories)),
		"--calls", strconv.Itoa(l.calls), "--rate", strconv.Itoa(l.rate), "--duration", l.duration.String())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	before := cpuOf(t, at.pid)
	out, err := cmd.Output()
	used := cpuOf(t, at.pid) - before
	var ended *exec.ExitError
	if l.refused && errors.As(err, &ended) && ended.ExitCode() == 3 {
		err = nil
	}
	if err != nil {
		t.Fatalf("bench on %s: %v\n%s%s", at.name, err, out, errs.String())
	}
	var r struct {
		Seconds    float64
		Messages   float64
		Bytes      float64
		P50Seconds float64 `json:"p50_seconds"`
		P99Seconds float64 `json:"p99_seconds"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return sample{messages: r.Messages, bytes: r.Bytes, wall: r.Seconds, cpu: used, p50: r.P50Seconds, p99: r.P99Seconds,
		memory: statusOf(t, at.pid, "VmRSS") / 1024}
}

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, 100 on every
// Linux that Go runs on.
const clockTick = 0.01

// cpuOf is what a process has used of the processors, in seconds: proc(5).
func cpuOf(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks float64
	for _, s := range f[11:13] { // utime, stime
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks * clockTick
}

// statusOf is a line of /proc/PID/status, in KiB.
func statusOf(t *testing.T, pid int, key string) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/%d/status", key, pid)
	return 0
}

// byTurns measures a and b one after the other, as often as BENCH_ROUNDS says,
// after a first time of both that does not count.
func byTurns(a, b func() sample) (as, bs []sample) {
	for i := range turns + 1 {
		x, y := a(), b()
		if i > 0 {
			as, bs = append(as, x), append(bs, y)
		}
	}
	return as, bs
}

// repeated measures a as often, after a first time that does not count.
func repeated(a func() sample) []sample {
	as, _ := byTurns(a, func() sample { return sample{} })
	return as
}

// cpuPerMessage is in seconds per million messages.
func cpuPerMessage(ss []sample) float64 {
	return lab.Median(ss, func(s sample) float64 { return s.cpu / s.messages * 1e6 })
}

// cpuPerMB is in seconds per million bytes.
func cpuPerMB(ss []sample) float64 {
	return lab.Median(ss, func(s sample) float64 { return s.cpu / s.bytes * 1e6 })
}

// rate is in millions of bytes a second.
func rate(ss []sample) float64 {
	return lab.Median(ss, func(s sample) float64 { return s.bytes / s.wall / 1e6 })
}

// built is a program of this folder.
func built(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(lab.Repository(), "bin", "bench-"+name)
	once, _ := builds.LoadOrStore(name, sync.OnceValue(func() error {
		cmd := exec.Command("go", "build", "-o", bin, "./integration/bench/"+name)
		cmd.Dir = lab.Repository()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
		return nil
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return bin
}

var builds sync.Map // of func() error, by name

// startFloor starts the floor program.
func startFloor(t *testing.T, args ...string) target {
	t.Helper()
	cmd := exec.Command(built(t, "floor"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the floor: %v", err)
	}
	return target{name: "floor", addr: strings.TrimSpace(addr), pid: cmd.Process.Pid}
}
