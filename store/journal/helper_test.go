package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ag1 = catalog.Identity{Aggregator: "ag1", Epoch: 7, Start: 0x7f3c91d2}

func options() Options {
	return Options{Identity: ag1, Now: time.Now, Log: zap.NewNop()}
}

func open(t *testing.T, fsys vfs.FS, o Options) (*Journal, []FileState) {
	t.Helper()
	j, states, err := Open(fsys, "journal", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := j.Close(ctx); err != nil && !errors.Is(err, ErrFailed) {
			t.Error(err)
		}
	})
	return j, states
}

// again reads what is on disk as the next start would, without a stop.
func again(t *testing.T, fsys vfs.FS) []FileState {
	t.Helper()
	states, err := Read(fsys, "journal")
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func beginOf(n int) Begin {
	return Begin{
		Cluster: "n1", Path: fmt.Sprintf("web/dt=2026-11-22/hr=10/f%d.log", n), OpenPath: fmt.Sprintf("web/dt=2026-11-22/hr=10/_f%d.log.open", n),
		Partition: "dt=2026-11-22/hr=10", Category: "web", Chain: 3, First: 1, Identity: ag1,
	}
}

func newBuilder() *catalog.Builder { return catalog.NewBuilder(catalog.Head{Identity: ag1}) }

// A writer is an entry with its builder, as store/files has it.
type writer struct {
	t    *testing.T
	e    *Entry
	held *catalog.Builder
	next uint64
}

func begin(t *testing.T, j *Journal, n int) *writer {
	t.Helper()
	w := &writer{t: t, held: newBuilder(), next: 1}
	var err error
	if w.e, err = j.Begin(t.Context(), beginOf(n), w.held); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *writer) line(bytes int64, messages uint64) *Line {
	at := w.held.Bytes()
	return &Line{
		Offset: at, End: at + bytes, First: w.next, Last: w.next + messages - 1,
		Arrived: 1_800_000_000_000_000_000 + at*int64(time.Millisecond), Senders: []string{"10.0.0.1"},
	}
}

// append is an Append that was acknowledged.
func (w *writer) append(bytes int64, messages uint64) *Line {
	w.t.Helper()
	l := w.line(bytes, messages)
	if err := w.e.Batch(l); err != nil {
		w.t.Fatal(err)
	}
	w.ack(l)
	return l
}

func (w *writer) ack(l *Line) {
	w.held.Add(l)
	w.next = l.Last + 1
}

func spans(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "[%d,%d)#%d-%d ", l.Offset, l.End, l.First, l.Last)
	}
	return strings.TrimSpace(b.String())
}

func fileNames(t *testing.T, fsys vfs.FS) (names []string) {
	t.Helper()
	entries, err := fsys.ReadDir("journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
