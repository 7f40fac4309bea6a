//go:build integration

package integration

import (
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
	weather *weather
	want    int // hits of each point
	moments int // to be drawn

	usual        string        // kind of lives that come first
	arrangements []arrangement // for what these do not pass

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

func newKiller(t *testing.T, s *lab.Server, points []string, want, moments int) *killer {
	k := &killer{t: t, s: s, weather: &weather{}, want: want, moments: moments, log: filepath.Join(s.Dir, "points.log"),
		hits: map[string]int{}, passed: map[string]int{}, tried: map[string]int{}, kinds: map[string]*kind{}}
	for _, p := range points {
		k.hits[p] = 0
	}
	return k
}

// run goes on until all is done, or limit is over. First come lives of the usual kind; when one of
// them has passed no point that is due, something is arranged for each of those that are left.
func (k *killer) run(limit time.Duration) {
	k.end = time.Now().Add(limit)
	defer k.weather.begin(k.t)()
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
		case k.live(k.usual, due, 3*time.Second, nil) == "":
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
var often = []string{"append.", "segment.written", "segment.synced", "replace.", "journal.written", "begin.", "seal.", "inventory.local",
	"name.", "replay.sent", "replay.noted"}

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
	for _, a := range k.arrangements {
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

func wait(stop <-chan struct{}, d time.Duration) {
	select {
	case <-stop:
	case <-time.After(d):
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
