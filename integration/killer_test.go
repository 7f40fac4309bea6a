//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A killer starts the server again and again and ends it with SIGKILL: at fail points, until each
// was hit often enough, and at moments that are drawn.
type killer struct {
	t       *testing.T
	s       *lab.Server
	n1, n2  *lab.Hadoop
	weather *weather
	want    int // hits of each point
	moments int // to be drawn

	log      string // of the points, by the server
	read     int    // of it
	hits     map[string]int
	passed   map[string]int // starts that passed a point
	tried    map[string]int // starts in which it was armed and not reached
	last     string         // the point that killed last
	starts   int
	drawn    int
	stopping int // of them, after TERM
	kinds    map[string]int
}

func newKiller(t *testing.T, s *lab.Server, n1, n2 *lab.Hadoop, points []string, want, moments int) *killer {
	k := &killer{t: t, s: s, n1: n1, n2: n2, want: want, moments: moments, log: filepath.Join(s.Dir, "points.log"),
		hits: map[string]int{}, passed: map[string]int{}, tried: map[string]int{}, kinds: map[string]int{}}
	for _, p := range points {
		k.hits[p] = 0
	}
	k.weather = newWeather(t, n1)
	return k
}

// run goes on until all is done, or limit is over. The lives that need something arranged come
// when the others have brought all they can.
func (k *killer) run(limit time.Duration) {
	end := time.Now().Add(limit)
	defer k.weather.end()
	for time.Now().Before(end) {
		due := k.due()
		if len(due) == 0 && k.drawn >= k.moments {
			return
		}
		if k.drawn < k.moments && (len(due) == 0 || rand.IntN(8) == 0) {
			k.kinds["drawn"]++
			k.atMoment()
			continue
		}
		k.arranged(due)
	}
}

// due are the points that were not hit often enough.
func (k *killer) due() (list []string) {
	for p, n := range k.hits {
		if n < k.want {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// often are points that a life passes again and again: they are hit at a later passing too.
var often = []string{"append.", "segment.", "replace.", "journal.written", "begin.", "seal.", "inventory.local"}

// arm makes all due points deadly, each at a passing that is drawn where there are many.
func (k *killer) arm(due []string) map[string]int {
	armed := map[string]int{}
	for _, p := range due {
		armed[p] = 1
		if k.tried[p] < 3 && slices.ContainsFunc(often, func(o string) bool { return strings.HasPrefix(p, o) }) {
			armed[p] += rand.IntN(4)
		}
	}
	return armed
}

// live is one start of the server with points armed, ended by one of them or after limit by hand.
// during runs meanwhile, and ends early when stop is closed.
func (k *killer) live(kind string, due []string, limit time.Duration, during func(stop <-chan struct{})) (point string) {
	k.kinds[kind]++
	armed := k.arm(due)
	k.s.Env = lab.Armed(armed, k.log)
	k.starts++
	k.s.Launch()
	stop := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		if during != nil {
			during(stop)
		}
	}()
	how, ended := k.s.Ended(limit)
	close(stop)
	<-over
	if !ended {
		k.s.Kill()
	}
	point = k.killed()
	if ended && (!how.Signaled() || how.Signal() != syscall.SIGKILL || point == "") {
		k.t.Fatalf("the server ended by itself (%v), and no fail point did it: %s", how, tailOf(k.s.Log()))
	}
	for _, p := range due {
		if p != point {
			k.tried[p]++
		}
	}
	return point
}

func tailOf(b []byte) []byte { return b[max(0, len(b)-3000):] }

// killed reads what the points have told since the last call, and counts it.
func (k *killer) killed() (point string) {
	b, err := os.ReadFile(k.log)
	if err != nil && !os.IsNotExist(err) {
		k.t.Fatal(err)
	}
	for line := range strings.Lines(string(b[k.read:])) {
		switch f := strings.Fields(line); f[0] {
		case "passed":
			k.passed[f[1]]++
		case "killed":
			point = f[1]
			k.hits[point]++
			k.tried[point] = 0
		}
	}
	k.read, k.last = len(b), point
	return point
}

// atMoment is a life that ends by kill -9 at a moment that is drawn.
func (k *killer) atMoment() {
	after, stopFirst := pickMoment()
	k.s.Env = lab.Armed(nil, k.log)
	k.starts++
	k.s.Launch()
	if stopFirst {
		time.Sleep(time.Duration(1000+rand.IntN(2000)) * time.Millisecond)
		k.s.Signal(syscall.SIGTERM)
		k.stopping++
	}
	time.Sleep(after)
	k.s.Kill()
	k.killed()
	k.drawn++
}

// has says whether a due point begins with one of these.
func has(due []string, prefixes ...string) bool {
	return slices.ContainsFunc(due, func(p string) bool {
		return slices.ContainsFunc(prefixes, func(x string) bool { return strings.HasPrefix(p, x) })
	})
}

// stale says whether the usual lives have not brought a due point with such a name for a while.
func (k *killer) stale(due []string, prefixes ...string) bool {
	return slices.ContainsFunc(due, func(p string) bool { return has([]string{p}, prefixes...) && k.tried[p] >= 2 })
}

// arranged is one life of the kind that a due point needs.
func (k *killer) arranged(due []string) {
	segments := k.segments(".seg")
	switch {
	case len(segments) > 0 && has(due, "ship.") && rand.IntN(3) == 0:
		k.ship(due)
	case k.stale(due, "ship.to-be-moved") && k.intentOn("n1"):
		release := k.weather.hold()
		defer release()
		thaw := k.freeze(k.n1, "nn")
		defer thaw()
		k.live("n1 away, ship begun", due, 15*time.Second, nil)
	case k.stale(due, "quarantine.", "recover."):
		k.torn(due)
	case k.stale(due, "delete.") && len(k.segments(".shipped")) > 0:
		defer k.weather.hold()()
		k.live("shipped segments are deleted", due, 20*time.Second, nil)
	case k.stale(due, "segment.", "ship.", "delete.") && len(segments) == 0:
		k.outage(due)
	case k.stale(due, "tear.", "repair.to-be-cut", "repair.cut"):
		k.live("DataNode frozen", due, 10*time.Second, k.freezing("dn1", time.Second, 2*time.Second))
	case k.stale(due, "discard."):
		k.live("NameNode frozen", due, 10*time.Second, k.freezing("nn", time.Second, 3*time.Second))
	case k.stale(due, "forget.", "repair.", "publish.", "inventory."):
		defer k.weather.hold()()
		k.live("calm", due, 12*time.Second, nil)
	default:
		k.live("N1 flaps", due, 4*time.Second, nil)
	}
}

// freezing stops one of N1's processes for a while, after a while, with no other weather beside it.
func (k *killer) freezing(who string, after, long time.Duration) func(<-chan struct{}) {
	return func(stop <-chan struct{}) {
		defer k.weather.hold()()
		wait(stop, after)
		defer k.freeze(k.n1, who)()
		wait(stop, long)
	}
}

func wait(stop <-chan struct{}, d time.Duration) {
	select {
	case <-stop:
	case <-time.After(d):
	}
}

func (k *killer) freeze(h *lab.Hadoop, who string) (thaw func()) {
	pid := h.Pid(who)
	h.Signal(pid, syscall.SIGSTOP)
	return func() { h.Signal(pid, syscall.SIGCONT) }
}

// outage freezes both NameNodes before the start, so that segments are begun, and ships them.
func (k *killer) outage(due []string) {
	defer k.weather.hold()()
	thaw1, thaw2 := k.freeze(k.n1, "nn"), k.freeze(k.n2, "nn")
	k.live("outage", due, 15*time.Second, func(stop <-chan struct{}) {
		wait(stop, 7*time.Second)
		thaw1()
		thaw2()
	})
}

// torn leaves a segment with half a record at its end, as a write that the kill cut off does, and
// starts the server on it.
func (k *killer) torn(due []string) {
	at := []string{"segment.written", "segment.synced"}
	if has(due, "recover.nothing-found") && rand.IntN(3) == 0 {
		at = []string{"segment.begun", "segment.header-synced"}
	}
	release := k.weather.hold()
	thaw1, thaw2 := k.freeze(k.n1, "nn"), k.freeze(k.n2, "nn")
	point := k.live("segment torn", at, 12*time.Second, nil)
	thaw1()
	thaw2()
	release()
	list := k.segments(".seg")
	if !slices.Contains(at, point) || len(list) == 0 {
		return
	}
	f, err := os.OpenFile(list[len(list)-1], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("1SCR\x00\x04\x00\x00 a record that was cut off")); err != nil {
		k.t.Fatal(err)
	}
	for range 8 { // each start comes one step further
		if k.live("torn segment recovered", k.due(), time.Second, nil); !strings.HasPrefix(k.last, "quarantine.") && !strings.HasPrefix(k.last, "recover.") {
			return
		}
	}
}

// segments are the files of the buffer with an extension, the one that was changed last at the end.
func (k *killer) segments(ext string) (list []string) {
	entries, err := os.ReadDir(filepath.Join(k.s.Dir, "state", "buffer"))
	if err != nil {
		return nil
	}
	changed := func(e fs.DirEntry) time.Time {
		if info, err := e.Info(); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return changed(a).Compare(changed(b)) })
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ext {
			list = append(list, filepath.Join(k.s.Dir, "state", "buffer", e.Name()))
		}
	}
	return list
}

// intentOn says whether a ship to a cluster has begun that may still go to the other.
func (k *killer) intentOn(cluster string) bool {
	names, _ := filepath.Glob(filepath.Join(k.s.Dir, "state", "ship", "*.intent"))
	for _, name := range names {
		var it struct {
			Cluster   string
			Committed bool
		}
		b, err := os.ReadFile(name)
		if err == nil && json.Unmarshal(b, &it) == nil && it.Cluster == cluster && !it.Committed {
			return true
		}
	}
	return false
}

// ship is `buffer ship` without a server, ended by a point or by itself.
func (k *killer) ship(due []string) {
	k.kinds["buffer ship"]++
	var points []string
	for _, p := range due {
		if strings.HasPrefix(p, "ship.") {
			points = append(points, p)
		}
	}
	cmd := exec.Command(k.s.Bin, "buffer", "ship", "-c", k.s.Config)
	cmd.Env = append(os.Environ(), lab.Armed(k.arm(points), k.log)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	k.starts++
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if point := k.killed(); point == "" && cmd.ProcessState.ExitCode() == 2 {
		k.t.Fatal(fmt.Errorf("buffer ship: %w", err))
	}
}
