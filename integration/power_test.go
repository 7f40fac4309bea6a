//go:build integration

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
	"twinscribe/integration/lab/powerfs"
)

// onPowerFS mounts a file system that forgets on the server's state folder, before its first start.
func onPowerFS(t *testing.T, s *lab.Server, syncTime time.Duration) *powerfs.FS {
	t.Helper()
	dir := filepath.Join(s.Dir, "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := powerfs.Mount(dir, syncTime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Fail()
		s.Kill()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// cutPower takes the power of server and disk in one moment and starts again on what is left. With
// a nil r nothing is left that was not synced.
func cutPower(t *testing.T, s *lab.Server, f *powerfs.FS, r *rand.Rand) (blocks, changes int, start time.Duration) {
	t.Helper()
	f.Cut()
	blocks, changes = f.Unsynced()
	s.Signal(syscall.SIGKILL) // before the calls that hang are answered: it learns nothing of the cut
	f.Fail()
	s.Kill()
	if err := f.Restore(r); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	s.Start()
	return blocks, changes, time.Since(from)
}

// frozen are the clusters that are away in a stretch between two power cuts.
type frozen struct{ n1, n2 bool }

func (f frozen) String() string {
	switch f {
	case frozen{true, false}:
		return "N1 frozen"
	case frozen{false, true}:
		return "N2 frozen"
	case frozen{true, true}:
		return "both frozen"
	}
	return "both up"
}

// freezer freezes and thaws all processes of a cluster.
type freezer struct {
	h    *lab.Hadoop
	pids []int
	is   bool
}

func newFreezer(h *lab.Hadoop) *freezer {
	return &freezer{h: h, pids: []int{h.Pid("nn"), h.Pid("dn1")}}
}

func (f *freezer) set(frozen bool) {
	if f.is == frozen {
		return
	}
	for _, p := range f.pids {
		if frozen {
			f.h.Signal(p, syscall.SIGSTOP)
		} else {
			f.h.Signal(p, syscall.SIGCONT)
		}
	}
	f.is = frozen
}

// The power of server and disk is cut again and again, at random moments of a life in which N1 and
// N2 come and go. What the disk has not synced is gone, names too; every second time a part of it,
// drawn by a seed, has reached the disk all the same. Whatever was acknowledged, by a cluster or by
// the buffer, is there once in the end, and the server starts each time.
func TestProve3PowerCut(t *testing.T) {
	if err := powerfs.Possible(); err != nil {
		t.Skip(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	n1, n2 := lab.StartHadoop(t, "N1", 1), lab.StartHadoop(t, "N2", 1)
	s := lab.NewServer(t, twoClusters(n1, n2, "buffer: {segment: 1MiB}\n"))
	disk := onPowerFS(t, s, 2*time.Millisecond)
	s.Start()
	const size = 300
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	load := lab.Load{Addr: s.Thrift, Clients: 8, Batch: 20, Interval: 10 * time.Millisecond,
		Message: func(c, n int) ([]byte, []byte) { return fmt.Appendf(nil, "web%d", n/20%3), lab.Line(c, n, size) }}
	done := make(chan []*lab.History, 1)
	go func() { done <- load.Run(ctx) }()
	one, two := newFreezer(n1), newFreezer(n2)
	life := []frozen{{true, false}, {true, true}, {false, false}, {false, true}, {true, true}, {false, false}}
	cuts, blocks, changes, slowest := pick(3, 18), 0, 0, time.Duration(0)
	var unshipped int64
	for i := range cuts {
		away := life[i%len(life)]
		time.Sleep(time.Duration(r.IntN(800)) * time.Millisecond)
		one.set(away.n1)
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
		two.set(away.n2)
		after := time.Duration(r.IntN(pick(2000, 5000))) * time.Millisecond
		time.Sleep(after)
		var luck *rand.Rand
		if i%2 == 1 {
			luck = rand.New(rand.NewPCG(seed, uint64(i)))
		}
		b, c, start := cutPower(t, s, disk, luck)
		blocks, changes, slowest = blocks+b, changes+c, max(slowest, start)
		var st status
		s.Get("/v1/status", &st)
		unshipped = max(unshipped, st.Buffer.Unshipped["outage"]+st.Buffer.Unshipped["spill"])
		t.Logf("cut %d: %v, after %v; not synced: %d blocks, %d changes of names, kept %v; ready after %v; in the buffer %v",
			i+1, away, after, b, c, luck != nil, start.Round(time.Millisecond), st.Buffer.Unshipped)
		verifyBuffer(t, s, luck != nil)
	}
	one.set(false)
	two.set(false)
	n1.Wait(1)
	n2.Wait(1)
	settledIn := settled(t, s, 120*time.Second)
	time.Sleep(time.Second)
	cancel()
	hs := <-done
	if code := s.Stop(); code != 0 {
		t.Errorf("the server stopped with %d", code)
	}
	verifyBuffer(t, s, false)
	acked, unknown := 0, 0
	for _, h := range hs {
		acked += len(h.Acked())
		unknown += len(h.Unknown)
	}
	b := readOnce(t, s, hs, size)
	t.Logf("settled %v after both were up", settledIn.Round(time.Millisecond))
	if !testing.Short() {
		for i := range 3 {
			category := fmt.Sprintf("web%d", i)
			independent(t, s, category, ofCategory(hs, i), size, n1, n2)
		}
	}
	if blocks == 0 || changes == 0 || unshipped == 0 {
		t.Errorf("the cuts took %d blocks and %d names away, %d messages were in the buffer: want some of each", blocks, changes, unshipped)
	}
	t.Logf("table: 3 | power of server and disk cut %d times, N1 and N2 coming and going | of %d acknowledged lost %d, twice %d; %d blocks and %d names not synced; slowest start %v",
		cuts, acked, b.Lost, b.Twice, blocks, changes, slowest.Round(time.Millisecond))
}

// ofCategory is the part of the histories that went to one of three categories, as the load sends them.
func ofCategory(hs []*lab.History, category int) []*lab.History {
	part := make([]*lab.History, len(hs))
	for i, h := range hs {
		unknown := map[int]bool{}
		for _, n := range h.Unknown {
			unknown[n] = true
		}
		part[i] = &lab.History{Sent: h.Sent}
		for n := range h.Sent {
			if unknown[n] || n/20%3 != category {
				part[i].Unknown = append(part[i].Unknown, n)
			}
		}
	}
	return part
}

// verifyBuffer runs `buffer verify`. Where a part of what was not synced has reached the disk, holes
// in the last group may look like damage: nothing in it was acknowledged, which the count of
// messages at the end shows.
func verifyBuffer(t *testing.T, s *lab.Server, luck bool) {
	t.Helper()
	out, stderr, code := s.Run("buffer", "verify", "-c", s.Config)
	if code != 0 && !luck {
		t.Errorf("buffer verify ended with %d: %s%s", code, out, stderr)
	}
	t.Logf("buffer verify: %s%s", out, stderr)
}
