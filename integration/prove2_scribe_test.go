//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// What the names of those points begin with that only Scribe's names and spools pass.
var scribePrefixes = []string{"name.", "replay.", "repair.found-at", "ship.named"}

// The points of the short form.
var fewScribePoints = []string{"name.noted", "repair.found-at", "replay.sent", "replay.framed-kept"}

// failPoints are all points in the code: each belongs to one of the two proofs.
func failPoints(t *testing.T) (engine, scribe []string) {
	t.Helper()
	for _, p := range lab.FailPoints(t) {
		if has([]string{p}, scribePrefixes...) {
			scribe = append(scribe, p)
		} else {
			engine = append(engine, p)
		}
	}
	for _, prefix := range scribePrefixes {
		if !has(scribe, prefix) {
			t.Errorf("no fail point begins with %s", prefix)
		}
	}
	for _, few := range []struct{ short, all []string }{{fewPoints, engine}, {fewScribePoints, scribe}} {
		for _, p := range few.short {
			if !slices.Contains(few.all, p) {
				t.Errorf("fail point %s of a short form is none of its proof", p)
			}
		}
	}
	return engine, scribe
}

const (
	scribeSize = 800 // bytes of a message
	oldClient  = 2   // whose the messages in an original's files are, behind the clients of category net
)

// kill -9 at every point between two steps of naming files as Scribe does and of sending a spool,
// while N1 and the receiver come and go: nothing acknowledged is lost, nothing stands twice, on the
// clusters by our reader and by Scribe's names, at the receiver by its reader. So it is with what an
// original has left; of a segment that was damaged the damaged record is missing.
func TestProve2Scribe(t *testing.T) {
	_, points := failPoints(t)
	receiver := lab.NewReceiver(t, "")
	receiver.Rewrite(receiverOf(receiver.Dir))
	receiver.Start()
	s := lab.NewServer(t, "")
	s.Rewrite(scribeLife(s.Dir, receiver))
	s.Bin = lab.BuildWith(t, "failpoints")
	s.Start() // the roots are made
	s.Kill()
	want := 3
	if testing.Short() {
		points, want = fewScribePoints, 1
	}
	k := newScribeKiller(t, s, receiver, points, want, pick(2, 20))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loads := map[string]lab.Load{
		"web":  {Clients: 3, Batch: 20, Interval: 40 * time.Millisecond},
		"net":  {Clients: oldClient, Batch: 20, Interval: 40 * time.Millisecond},
		"hurt": {Clients: 1, Batch: 4, Interval: 40 * time.Millisecond},
	}
	done := map[string]chan []*lab.History{}
	for category, load := range loads {
		load.Addr = s.Thrift
		load.Message = func(c, n int) ([]byte, []byte) { return []byte(category), lab.Line(c, n, scribeSize) }
		done[category] = make(chan []*lab.History, 1)
		go func() { done[category] <- load.Run(ctx) }()
	}
	begun := time.Now()
	k.run(pick(20*time.Second, 7*time.Minute))
	took := time.Since(begun)

	s.Env = nil
	s.Start()
	last := time.Now()
	time.Sleep(2 * time.Second)
	cancel()
	hs := map[string][]*lab.History{}
	for category := range loads {
		hs[category] = <-done[category]
		sent, unknown, later, longest := sumHistories(hs[category])
		t.Logf("%s: %d messages, unknown %d, TRY_LATER %d, slowest OK %v", category, sent, unknown, later, longest)
	}
	settled(t, s, 60*time.Second-time.Since(last))
	lab.Eventually(t, 60*time.Second-time.Since(last), "the spools are sent", func() bool { return len(k.waiting()) == 0 })
	after := time.Since(last)
	left := deadOpen(t, s, k.open)
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	receiver.WaitReady(time.Minute)
	if code := receiver.Stop(); code != 0 {
		t.Errorf("the receiver stopped with %d", code)
	}

	web := readOnce(t, s, hs["web"], scribeSize)
	byName := k.byName(hs["web"])
	net := readBack(t, receiver, "net", append(hs["net"], &lab.History{Sent: k.oldLines}), scribeSize, false)
	for i, h := range hs["hurt"] {
		h.Unknown = slices.DeleteFunc(h.Unknown, func(n int) bool { return k.destroyed[fmt.Sprint(i, n)] })
		for n := range h.Sent {
			if k.destroyed[fmt.Sprint(i, n)] {
				h.Unknown = append(h.Unknown, n)
			}
		}
	}
	hurt := readBack(t, receiver, "hurt", hs["hurt"], scribeSize, false)
	bySequence(t, receiver)

	t.Logf("table: 2 | kill -9 at %d fail points of Scribe's names and of spools | least hits of a point %d (want %d), kills %d, N1 or the receiver away %d times, %v",
		len(points), k.least(), want, k.total(), k.weather.falls, took.Round(time.Second))
	t.Logf("table: 2 | after %d starts, %d of them killed at a drawn moment | on the clusters acknowledged lost %d, twice %d, by Scribe's names lost %d, twice %d; settled in %v (bound 60 s), .open of dead starts %d",
		k.starts, k.drawn, web.Lost, web.Twice, byName.Lost, byName.Twice, after.Round(100*time.Millisecond), len(left))
	t.Logf("table: 2 | at the receiver | read %d: acknowledged lost %d, twice %d, %d messages of %d torn files of an original among them; of %d in damaged segments, but for the %d in damaged records, lost %d, twice %d",
		net.Read, net.Lost, net.Twice, k.oldLines, k.oldFiles, hurt.Read, len(k.destroyed), hurt.Lost, hurt.Twice)
	k.report()
}

// receiverOf is a configuration that stores all in a directory.
func receiverOf(dir string) string {
	return fmt.Sprintf(`timeouts: {write: 1s, stop: 5s}
clusters: [{name: r, dir: {path: %q}, probe: {hold_off: 1s, hold_off_max: 2s}}]
categories: [{match: "*", store: {files: {cluster: r}}}]
`, filepath.Join(dir, "r"))
}

// scribeLife is a configuration in which files get Scribe's names often, and spools are sent often.
func scribeLife(dir string, receiver *lab.Server) string {
	var b strings.Builder
	b.WriteString("visible_within: 1s\ntimeouts: {write: 1s, stop: 5s}\nbuffer: {segment: 4MiB, replay: auto, keep: 1s}\nclusters:\n")
	for _, name := range []string{"n1", "n2"} {
		fmt.Fprintf(&b, "  - {name: %s, dir: {path: %q}, folder: _twinscribe, probe: {hold_off: 1s, hold_off_max: 2s}}\n", name, filepath.Join(dir, name))
	}
	b.WriteString("categories:\n  - match: web\n    store:\n      failover:\n        prefer: first\n        places:\n")
	for _, name := range []string{"n1", "n2"} {
		fmt.Fprintf(&b, "          - {files: {cluster: %s, max_size: 1MiB, idle: 3s, scribe: {file_path: logs, per_category: true, rotate_period: daily}}}\n", name)
	}
	b.WriteString("          - {buffer: {}}\n")
	for category, more := range map[string]string{"net": fmt.Sprintf(", framed: {path: %q, base: net}", filepath.Join(dir, "old")), "hurt": ""} {
		fmt.Fprintf(&b, `  - match: %s
    store:
      failover:
        retry: {interval: 1s, range: 0s}
        places:
          - {network: {servers: [%q]}}
          - {buffer: {path: %q%s}}
`, category, receiver.Thrift, filepath.Join(dir, "spools"), more)
	}
	return b.String()
}

// open are the open files of both clusters.
func (k *scribeKiller) open() (list []string) {
	for _, root := range []string{k.n1, k.n2} {
		walk(k.t, root, func(path string) {
			if strings.HasSuffix(path, ".open") {
				list = append(list, path)
			}
		})
	}
	return list
}

// byName verifies the files that have Scribe's names on both clusters, as whoever knows nothing of
// us reads them. The server is stopped. Those of somebody else are as they were.
func (k *scribeKiller) byName(hs []*lab.History) lab.Books {
	k.t.Helper()
	var files []io.Reader
	for _, root := range []string{k.n1, k.n2} {
		for _, path := range lab.ScribeFiles(filepath.Join(root, "logs", "web"), "web") {
			b, err := os.ReadFile(path)
			if err != nil {
				k.t.Fatal(err)
			}
			if !slices.Contains(k.occupied, path) {
				files = append(files, bytes.NewReader(b))
			} else if string(b) != strange {
				k.t.Errorf("%s was somebody else's, and is replaced", path)
			}
		}
	}
	b := lab.Verify(k.t, io.MultiReader(files...), hs, scribeSize, false)
	k.t.Logf("by Scribe's names, %d files and %d of somebody else: %v", len(files), len(k.occupied), b)
	b.MustBalance(k.t)
	return b
}
