package hdfs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An observer records what it hears. Like the real one it makes the cluster
// doubtful at the first failure, unless it is told to be calm.
type observer struct {
	mu     sync.Mutex
	calm   bool
	held   bool
	failed []error
	when   []time.Time
	acked  int
}

func (o *observer) Acknowledged() {
	o.mu.Lock()
	o.acked++
	o.mu.Unlock()
}

func (o *observer) Failed(err error) {
	o.mu.Lock()
	o.failed, o.when = append(o.failed, err), append(o.when, time.Now())
	o.mu.Unlock()
}

func (o *observer) MayBegin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.held && (o.calm || len(o.failed) == 0)
}

func (o *observer) Doubtful() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.calm && len(o.failed) > 0
}

func (o *observer) hold(on bool) {
	o.mu.Lock()
	o.held = on
	o.mu.Unlock()
}

func (o *observer) failures() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.failed)
}

// A lab is a cluster in memory and ours on top of it.
type lab struct {
	t    testing.TB
	h    *hdfstest.Cluster
	c    *Cluster
	ob   *observer
	ctx  context.Context
	seed uint64
}

// newLab starts both; they end with the test.
func newLab(t testing.TB, ho hdfstest.Options, o Options) *lab {
	t.Helper()
	h, err := hdfstest.New(ho)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	ob := &observer{}
	o.Name, o.NameNodes, o.User, o.Dial, o.Observer = "n1", h.Addrs(), "scribe", h.Dial, ob
	if o.Root == "" {
		o.Root = "/logs"
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &lab{t: t, h: h, c: c, ob: ob, ctx: t.Context()}
}

// within is a ctx of that long.
func (l *lab) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(l.ctx, d)
	l.t.Cleanup(cancel)
	return ctx
}

func (l *lab) create(path string, o cluster.FileOptions) *File {
	l.t.Helper()
	f, err := l.c.Create(l.within(5*time.Second), path, o)
	if err != nil {
		l.t.Fatal(err)
	}
	return f.(*File)
}

// begun is a file with its first block.
func (l *lab) begun(path string) *File {
	l.t.Helper()
	return l.create(path, cluster.FileOptions{Begin: true})
}

// bytes are n random ones.
func (l *lab) bytes(n int) []byte {
	l.seed++
	r := rand.New(rand.NewPCG(l.seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// split cuts b into pieces of random lengths, empty ones too.
func (l *lab) split(b []byte) [][]byte {
	l.seed++
	r := rand.New(rand.NewPCG(l.seed, 2))
	p := [][]byte{nil}
	for len(b) > 0 {
		n := r.IntN(min(len(b), 3000) + 1)
		p, b = append(p, b[:n]), b[n:]
	}
	return p
}

func (l *lab) append(f cluster.File, b []byte) {
	l.t.Helper()
	if err := f.Append(l.within(2*time.Second), l.split(b)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) seal(f cluster.File) {
	l.t.Helper()
	if err := f.Seal(l.within(5 * time.Second)); err != nil {
		l.t.Fatal(err)
	}
}

// holds fails unless the file on the cluster is what it should be, on at least
// replicas DataNodes.
func (l *lab) holds(path string, want []byte, replicas int) {
	l.t.Helper()
	got, n, err := l.h.Content(path)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := same(got, want); err != nil {
		l.t.Fatalf("%s: %v", path, err)
	}
	if n < replicas {
		l.t.Fatalf("%s is on %d DataNodes, want %d", path, n, replicas)
	}
}

func same(got, want []byte) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d of %d differs", i, len(want))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	return nil
}

// count is one of the cluster's counters.
func (l *lab) count(name string) int64 { return l.c.Counters()[name] }

func wantErr(t testing.TB, err error, is ...error) {
	t.Helper()
	for _, want := range is {
		if !errors.Is(err, want) {
			t.Fatalf("error %v, want one that is %v", err, want)
		}
	}
}

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }
