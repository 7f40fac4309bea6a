//go:build integration

package integration

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A hadoopKiller is the killer of a server between two clusters of Hadoop. N1 comes and goes: its
// DataNode or its NameNode is frozen for seconds, or killed and started again.
type hadoopKiller struct {
	*killer
	n1, n2       *lab.Hadoop
	pids1, pids2 map[string]int // of their processes; N1's change while the weather has its turn
}

func newHadoopKiller(t *testing.T, s *lab.Server, n1, n2 *lab.Hadoop, points []string, want, moments int) *hadoopKiller {
	k := &hadoopKiller{killer: newKiller(t, s, points, want, moments), n1: n1, n2: n2, pids1: pidsOf(n1), pids2: pidsOf(n2)}
	k.weather.fall = k.fall
	k.usual = "N1 flaps"
	k.arrangements = []arrangement{
		{[]string{"segment."}, k.outage},
		{[]string{"recover.empty-found"}, k.emptied},
		{[]string{"quarantine.", "recover."}, k.torn},
		{[]string{"ship.to-be-moved"}, k.moved},
		{[]string{"ship."}, k.shipped},
		{[]string{"tear.", "repair.to-be-cut", "repair.cut-asked-for"}, func(due []string) string { return k.frozen("dn1", 2*time.Second, due) }},
		{[]string{"discard."}, func(due []string) string { return k.frozen("nn", 3*time.Second, due) }},
		{[]string{"begin.", "append.", "seal.", "publish.", "repair.", "inventory.", "forget."}, k.calm},
		{[]string{"delete."}, k.deleted},
	}
	return k
}

func pidsOf(h *lab.Hadoop) map[string]int {
	return map[string]int{"nn": h.Pid("nn"), "dn1": h.Pid("dn1")}
}

// fall is N1's, for the n-th time.
func (k *hadoopKiller) fall(n int) {
	who := []string{"nn", "dn1"}[rand.IntN(2)]
	if n%pick(100, 40) == 0 {
		k.n1.Do(who, "kill")
		for try := 0; ; try++ {
			k.n1.Do(who, "start") // nothing, if it lives
			err := k.n1.TryWait(1, 2*time.Minute)
			if err == nil {
				k.pids1[who] = k.n1.Pid(who)
				return
			}
			if try == 3 {
				k.t.Errorf("%s %s is started, and the cluster does not come up: %v", k.n1.Name, who, err)
				return
			}
			k.t.Logf("%s %s did not come up, it is started again: %v", k.n1.Name, who, err)
		}
	}
	pid := k.pids1[who]
	k.n1.Signal(pid, syscall.SIGSTOP)
	time.Sleep(time.Duration(800+rand.IntN(2500)) * time.Millisecond)
	k.n1.Signal(pid, syscall.SIGCONT)
}

// frozen is a life in which one of N1's processes stops for a while.
func (k *hadoopKiller) frozen(who string, long time.Duration, due []string) string {
	defer k.weather.hold()()
	return k.live(who+" of N1 frozen", due, 8*time.Second, func(stop <-chan struct{}) {
		wait(stop, 800*time.Millisecond)
		defer k.freeze(k.n1, who)()
		wait(stop, long)
	})
}

// freeze stops a process; the weather is held.
func (k *hadoopKiller) freeze(h *lab.Hadoop, who string) (thaw func()) {
	pid := k.pids1[who]
	if h == k.n2 {
		pid = k.pids2[who]
	}
	h.Signal(pid, syscall.SIGSTOP)
	return func() { h.Signal(pid, syscall.SIGCONT) }
}

// outage freezes both clusters once the server works, so that segments are begun.
func (k *hadoopKiller) outage(due []string) string {
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
func (k *hadoopKiller) emptied([]string) string {
	if k.outage([]string{"segment.headed"}) == "" {
		return ""
	}
	return k.live("empty segment", []string{"recover.empty-found"}, 3*time.Second, nil)
}

// torn leaves a segment with half a record at its end, as a write that was cut off does, and starts
// the server on it until the segment is whole.
func (k *hadoopKiller) torn(due []string) (point string) {
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
func (k *hadoopKiller) shipped(due []string) string {
	if len(k.segments(".seg")) == 0 {
		k.outage([]string{"segment.synced"})
	}
	return k.ship(due)
}

// moved leaves a ship to N1 that has just begun, and starts the server while N1 is away.
func (k *hadoopKiller) moved(due []string) string {
	k.ship(nil) // what is there may be on its way already
	if k.shipped([]string{"ship.created"}) == "" || !k.intentOn("n1") {
		return ""
	}
	defer k.weather.hold()()
	defer k.freeze(k.n1, "nn")()
	return k.live("ship begun, N1 away", due, 15*time.Second, nil)
}

// deleted is a life that is long enough for shipped segments to be deleted.
func (k *hadoopKiller) deleted(due []string) string {
	if len(k.segments(".shipped")) == 0 {
		k.shipped(nil)
	}
	defer k.weather.hold()()
	return k.live("segments deleted", due, 20*time.Second, nil)
}

// intentOn says whether a ship to a cluster has begun that may still go to the other.
func (k *hadoopKiller) intentOn(cluster string) bool {
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
