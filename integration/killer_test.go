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
	pids2   map[string]int // of N2's processes
	want    int            // hits of each point
	moments int            // to be drawn

	end      time.Time
	log      string // of the points, by the server
	read     int    // of it
	hits     map[string]int
	passed   map[string]int // starts that passed a point
	tried    map[string]int // lives in which it was armed and nothing was reached
	starts   int
	drawn    int
	stopping int // of them, after TERM
	kinds    map[string]*kind
}

// A kind of lives, and what they took.
type kind struct {
	lives int
	took  time.Duration
}

func (k *kind) String() string { return fmt.Sprintf("%d in %v", k.lives, k.took.Round(time.Second)) }

// of counts a life that begins; the caller ends it.
func (k *killer) of(name string) (end func()) {
	l := k.kinds[name]
	if l == nil {
		l = &kind{}
		k.kinds[name] = l
	}
	l.lives++
	k.starts++
	begun := time.Now()
	return func() { l.took += time.Since(begun) }
}

func newKiller(t *testing.T, s *lab.Server, n1, n2 *lab.Hadoop, points []string, want, moments int) *killer {
	k := &killer{t: t, s: s, n1: n1, n2: n2, want: want, moments: moments, log: filepath.Join(s.Dir, "points.log"),
		hits: map[string]int{}, passed: map[string]int{}, tried: map[string]int{}, kinds: map[string]*kind{}}
	for _, p := range points {
		k.hits[p] = 0
	}
	k.weather, k.pids2 = newWeather(t, n1), pidsOf(n2)
	return k
}

// run goes on until all is done, or limit is over. First come lives of the usual kind; when one of
// them has passed no point that is due, something is arranged for each of those that are left.
func (k *killer) run(limit time.Duration) {
	k.end = time.Now().Add(limit)
	defer k.weather.end()
	for _, p := range []string{"folder.made", "ship.folder-made"} { // only a new state folder passes them
		for n, ok := k.hits[p]; ok && n < k.want && !k.over(); n++ {
			k.live("state folder made", []string{p}, 5*time.Second, nil)
		}
	}
	for !k.over() {
		switch due := k.due(); {
		case k.drawn < k.moments && (len(due) == 0 || rand.IntN(5) == 0):
			k.atMoment()
		case len(due) == 0:
			return
		case len(k.segments(".seg")) > 0 && has(due, "ship.") && rand.IntN(3) == 0:
			k.ship(due)
		case k.live("N1 flaps", due, 3*time.Second, nil) == "":
			k.arrange()
		}
	}
}

func (k *killer) over() bool { return !time.Now().Before(k.end) }

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
var often = []string{"append.", "segment.written", "segment.synced", "replace.", "journal.written", "begin.", "seal.", "inventory.local"}

// arm makes all due points deadly, each at a passing that is drawn where there are many.
func (k *killer) arm(due []string) map[string]int {
	armed := map[string]int{}
	for _, p := range due {
		armed[p] = 1
		if k.tried[p] == 0 && slices.ContainsFunc(often, func(o string) bool { return strings.HasPrefix(p, o) }) {
			armed[p] += rand.IntN(3)
		}
	}
	return armed
}

// live is one start of the server with points armed, ended by one of them or after limit by hand.
// during runs meanwhile, and ends early when stop is closed.
func (k *killer) live(kind string, due []string, limit time.Duration, during func(stop <-chan struct{})) (point string) {
	defer k.of(kind)()
	armed := k.arm(due)
	k.s.Env = lab.Armed(armed, k.log)
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
	if point == "" {
		for _, p := range due {
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
	k.read = len(b)
	return point
}

// atMoment is a life that ends by kill -9 at a moment that is drawn.
func (k *killer) atMoment() {
	defer k.of("drawn")()
	after, stopFirst := pickMoment()
	k.s.Env = lab.Armed(nil, k.log)
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

// An arrangement is a kind of life that passes points which the usual ones seldom do.
type arrangement struct {
	points []string // how the names of its points begin
	live   func(due []string) (point string)
}

// arrange goes through the kinds of lives, each as long as it brings something. All that is due is
// armed: it is seldom passed by now.
func (k *killer) arrange() {
	for _, a := range []arrangement{
		{[]string{"segment."}, k.outage},
		{[]string{"recover.empty-found"}, k.emptied},
		{[]string{"quarantine.", "recover."}, k.torn},
		{[]string{"ship.to-be-moved"}, k.moved},
		{[]string{"ship."}, k.shipped},
		{[]string{"tear.", "repair.to-be-cut", "repair.cut-asked-for"}, func(due []string) string { return k.frozen("dn1", 2*time.Second, due) }},
		{[]string{"discard."}, func(due []string) string { return k.frozen("nn", 3*time.Second, due) }},
		{[]string{"begin.", "append.", "seal.", "publish.", "repair.", "inventory.", "forget."}, k.calm},
		{[]string{"delete."}, k.deleted},
	} {
		for dry := 0; dry < 2 && !k.over() && has(k.due(), a.points...); {
			if a.live(k.due()) == "" {
				dry++
			}
		}
	}
}

// has says whether a point begins with one of these.
func has(points []string, prefixes ...string) bool {
	return slices.ContainsFunc(points, func(p string) bool {
		return slices.ContainsFunc(prefixes, func(x string) bool { return strings.HasPrefix(p, x) })
	})
}

// calm is a life in which nothing is away.
func (k *killer) calm(due []string) string {
	defer k.weather.hold()()
	return k.live("calm", due, 10*time.Second, nil)
}

// frozen is a life in which one of N1's processes stops for a while.
func (k *killer) frozen(who string, long time.Duration, due []string) string {
	defer k.weather.hold()()
	return k.live(who+" of N1 frozen", due, 8*time.Second, func(stop <-chan struct{}) {
		wait(stop, 800*time.Millisecond)
		defer k.freeze(k.n1, who)()
		wait(stop, long)
	})
}

func wait(stop <-chan struct{}, d time.Duration) {
	select {
	case <-stop:
	case <-time.After(d):
	}
}

// freeze stops a process; the weather is held.
func (k *killer) freeze(h *lab.Hadoop, who string) (thaw func()) {
	pid := k.weather.pids[who]
	if h == k.n2 {
		pid = k.pids2[who]
	}
	h.Signal(pid, syscall.SIGSTOP)
	return func() { h.Signal(pid, syscall.SIGCONT) }
}

// outage freezes both clusters once the server works, so that segments are begun.
func (k *killer) outage(due []string) string {
	defer k.weather.hold()()
	return k.live("outage", due, 9*time.Second, func(stop <-chan struct{}) {
		wait(stop, 700*time.Millisecond)
		for _, h := range []*lab.Hadoop{k.n1, k.n2} {
			for _, who := range []string{"nn", "dn1"} {
				defer k.freeze(h, who)()
			}
		}
		wait(stop, 5*time.Second)
	})
}

// emptied leaves a segment in which nothing is, and starts the server on it.
func (k *killer) emptied([]string) string {
	if k.outage([]string{"segment.headed"}) == "" {
		return ""
	}
	return k.live("empty segment", []string{"recover.empty-found"}, 3*time.Second, nil)
}

// torn leaves a segment with half a record at its end, as a write that was cut off does, and starts
// the server on it until the segment is whole.
func (k *killer) torn(due []string) (point string) {
	at := []string{"segment.written"}
	if slices.Contains(due, "recover.nothing-found") {
		at = []string{"segment.begun"}
	}
	if k.outage(at) == "" {
		return ""
	}
	list := k.segments(".seg")
	if len(list) == 0 {
		k.t.Fatal("a segment was being written, and none is there")
	}
	for {
		tearSegment(k.t, list[len(list)-1])
		point = k.live("torn segment", due, 3*time.Second, nil)
		if !has([]string{point}, "quarantine.", "recover.cut", "recover.nothing-found") {
			return point // it has its footer, and is not written to any more
		}
		due = slices.DeleteFunc(due, func(p string) bool { return k.hits[p] >= k.want })
	}
}

func tearSegment(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("1SCR\x00\x04\x00\x00 a record that was cut off")); err != nil {
		t.Fatal(err)
	}
}

// shipped is `buffer ship` of segments that an outage leaves.
func (k *killer) shipped(due []string) string {
	if len(k.segments(".seg")) == 0 {
		k.outage([]string{"segment.synced"})
	}
	return k.ship(due)
}

// moved leaves a ship to N1 that has just begun, and starts the server while N1 is away.
func (k *killer) moved(due []string) string {
	k.ship(nil) // what is there may be on its way already
	if k.shipped([]string{"ship.created"}) == "" || !k.intentOn("n1") {
		return ""
	}
	defer k.weather.hold()()
	defer k.freeze(k.n1, "nn")()
	return k.live("ship begun, N1 away", due, 15*time.Second, nil)
}

// deleted is a life that is long enough for shipped segments to be deleted.
func (k *killer) deleted(due []string) string {
	if len(k.segments(".shipped")) == 0 {
		k.shipped(nil)
	}
	defer k.weather.hold()()
	return k.live("segments deleted", due, 20*time.Second, nil)
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
func (k *killer) ship(due []string) string {
	defer k.of("buffer ship")()
	var points []string
	for _, p := range due {
		if strings.HasPrefix(p, "ship.") {
			points = append(points, p)
		}
	}
	cmd := exec.Command(k.s.Bin, "buffer", "ship", "-c", k.s.Config)
	cmd.Env = append(os.Environ(), lab.Armed(k.arm(points), k.log)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	point := k.killed()
	if point == "" && cmd.ProcessState.ExitCode() == 2 {
		k.t.Fatal(fmt.Errorf("buffer ship: %w", err))
	}
	return point
}
