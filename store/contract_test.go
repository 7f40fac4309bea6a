package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/storetest"
)

func TestNullIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Subject { return storetest.Subject{Store: store.NewNull()} })
}

func TestNullCountsWhatIsGone(t *testing.T) {
	n := store.NewNull()
	for _, b := range []*store.Batch{storetest.Batch(1, "a", "bb"), storetest.Batch(3, "ccc")} {
		if _, err := n.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if batches, messages, bytes := n.Counts(); batches != 2 || messages != 3 || bytes != 9 {
		t.Errorf("%d batches, %d messages, %d bytes; want 2, 3, 9", batches, messages, bytes)
	}
}

func TestFailoverIsAStore(t *testing.T) {
	refused := storetest.Step{Err: errors.New("told to")}
	for _, c := range []struct {
		name string
		set  func(places []*storetest.Mem) // before the test
	}{
		{"its first place works", func([]*storetest.Mem) {}},
		{"its first place refuses", func(p []*storetest.Mem) { p[0].Always(refused) }},
		{"only the last one works", func(p []*storetest.Mem) { p[0].Always(refused); p[1].Always(refused) }},
		{"its first place takes a part each time", func(p []*storetest.Mem) {
			p[0].Always(storetest.Step{Err: errors.New("told to"), Take: 1})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Run(t, func(*testing.T) storetest.Subject { return failoverSubject(c.set) })
		})
	}
}

func failoverSubject(set func([]*storetest.Mem)) storetest.Subject {
	var mems []*storetest.Mem
	var places []store.FailoverPlace
	for _, name := range []string{"a", "b", "c"} {
		m := storetest.NewMem(name, storetest.MemOptions{})
		mems = append(mems, m)
		places = append(places, store.FailoverPlace{Name: name, Place: m})
	}
	set(mems)
	all := func(s storetest.Step) {
		for _, m := range mems {
			m.Always(s)
		}
	}
	return storetest.Subject{
		Store: store.NewFailover(places, store.FailoverOptions{Log: zap.NewNop()}),
		Stored: func() []string {
			var kept []storetest.Kept
			for _, m := range mems {
				kept = append(kept, m.Kept()...)
			}
			slices.SortStableFunc(kept, func(a, b storetest.Kept) int { return int(a.First) - int(b.First) })
			messages := []string{}
			for _, k := range kept {
				messages = append(messages, k.Messages...)
			}
			return messages
		},
		Block: func() func() {
			all(storetest.Step{Hang: true})
			return func() { all(storetest.Step{}) }
		},
		Refuse: func() func() {
			all(storetest.Step{Err: errors.New("told to")})
			return func() { all(storetest.Step{}) }
		},
	}
}

// limited is a buffer that can be told to be full.
type limited struct {
	store.Segments
	full atomic.Bool
}

func (l *limited) Append(ctx context.Context, reason buffer.Reason, r *buffer.Record) error {
	if l.full.Load() {
		return fmt.Errorf("append: %w", buffer.ErrFull)
	}
	return l.Segments.Append(ctx, reason, r)
}

// openBuffer opens a real buffer in memory, and says what lies in it.
func openBuffer(t *testing.T) (b *buffer.Buffer, read func() []buffer.Record) {
	t.Helper()
	fs := memfs.New()
	b, err := buffer.Open(fs, "/buffer", buffer.Options{
		Identity: buffer.Identity{Aggregator: "ag1", Epoch: 1, Start: 7},
		Now:      time.Now, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b, func() []buffer.Record {
		var all []buffer.Record
		entries, err := fs.ReadDir("/buffer")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".seg") {
				continue
			}
			_, err := buffer.ReadSegment(fs, filepath.Join("/buffer", e.Name()), func(r *buffer.Record) error {
				c := *r
				c.Offset = 0
				c.Data, c.Ends = slices.Clone(r.Data), slices.Clone(r.Ends)
				c.IDs, c.Senders = slices.Clone(r.IDs), slices.Clone(r.Senders)
				all = append(all, c)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		slices.SortStableFunc(all, func(x, y buffer.Record) int { return int(x.First) - int(y.First) })
		return all
	}
}

func TestBufferIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		b, read := openBuffer(t)
		l := &limited{Segments: b}
		return storetest.Subject{
			Store: store.NewBuffer(l, store.BufferOptions{AnyUsable: func() bool { return true }}),
			Stored: func() []string {
				messages := []string{}
				for _, r := range read() {
					for i := range r.Ends {
						messages = append(messages, string(r.Message(i)))
					}
				}
				return messages
			},
			Refuse: func() func() {
				l.full.Store(true)
				return func() { l.full.Store(false) }
			},
		}
	})
}

func TestBufferKeepsAllThatABatchSays(t *testing.T) {
	b, read := openBuffer(t)
	s := store.NewBuffer(b, store.BufferOptions{Reason: buffer.DeadLetter, Place: "dead-letter"})
	batch := storetest.Batch(41, "one", "two\nlines")
	batch.Note = "message of 9 MiB"
	batch.IDs = []catalog.BatchSpan{{
		BatchID: catalog.BatchID{Producer: "leaf \xff", Epoch: 3, Sequence: 9}, From: 2, First: 41, Messages: 2,
	}}
	if _, err := s.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(batch.Taken) != "[{dead-letter 2}]" {
		t.Errorf("taken: %v", batch.Taken)
	}
	got := fmt.Sprintf("%+v", read())
	want := fmt.Sprintf("%+v", []buffer.Record{{
		Number: 1, Category: "web", Chain: 7, Partition: string(storetest.Partition), First: 41, Arrived: batch.Arrived,
		Senders: []string{"10.0.0.1"}, Note: "message of 9 MiB",
		IDs:  []buffer.ID{{Producer: "leaf \xff", Epoch: 3, Sequence: 9, From: 2, First: 41, Messages: 2}},
		Ends: batch.Ends, Data: batch.Data,
	}})
	if got != want {
		t.Errorf("in the buffer: %s\nwant:          %s", got, want)
	}
}

// asked notes reasons and answers with an error.
type asked struct {
	reasons []buffer.Reason
	err     error
}

func (a *asked) Append(_ context.Context, reason buffer.Reason, _ *buffer.Record) error {
	a.reasons = append(a.reasons, reason)
	return a.err
}

func TestBufferTellsSpillFromOutage(t *testing.T) {
	usable := false
	to := &asked{}
	s := store.NewBuffer(to, store.BufferOptions{AnyUsable: func() bool { return usable }})
	unrouted := store.NewBuffer(to, store.BufferOptions{Reason: buffer.Unrouted, Place: "unrouted"})
	for i, at := range []*store.Buffer{s, s, unrouted} {
		usable = i > 0
		if _, err := at.Append(t.Context(), storetest.Batch(uint64(i+1), "m")); err != nil {
			t.Fatal(err)
		}
	}
	if want := []buffer.Reason{buffer.Outage, buffer.Spill, buffer.Unrouted}; !slices.Equal(to.reasons, want) {
		t.Errorf("reasons %v, want %v", to.reasons, want)
	}
}

func TestBufferSortsErrors(t *testing.T) {
	for _, c := range []struct {
		err          error
		full, broken bool
	}{
		{buffer.ErrFull, true, false},
		{fmt.Errorf("no space: %w", buffer.ErrFull), true, false},
		{buffer.ErrClosed, false, true},
		{buffer.ErrRecord, false, true},
		{context.DeadlineExceeded, false, false},
		{errors.New("input/output error"), false, false},
	} {
		s := store.NewBuffer(&asked{err: c.err}, store.BufferOptions{Reason: buffer.Spill})
		rest, err := s.Append(t.Context(), storetest.Batch(1, "m"))
		if rest == nil || !errors.Is(err, c.err) || errors.Is(err, store.ErrFull) != c.full || errors.Is(err, store.ErrBroken) != c.broken {
			t.Errorf("%v becomes %v (full %v, broken %v)", c.err, err, errors.Is(err, store.ErrFull), errors.Is(err, store.ErrBroken))
		}
	}
}
