package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"twinscribe/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func memSubject(m *Mem) Subject {
	return Subject{
		Store:  m,
		Stored: m.Messages,
		Block: func() func() {
			m.Always(Step{Hang: true})
			return func() { m.Always(Step{}) }
		},
		Refuse: func() func() {
			m.Always(Step{Err: errors.New("told to")})
			return func() { m.Always(Step{}) }
		},
	}
}

func TestMemIsAStore(t *testing.T) {
	Run(t, func(*testing.T) Subject { return memSubject(NewMem("mem", MemOptions{})) })
}

// broken does wrong what one check looks for.
type broken struct {
	*Mem
	fault string
	seen  []*store.Batch
}

func (b *broken) Append(ctx context.Context, batch *store.Batch) (*store.Batch, error) {
	switch b.fault {
	case "keeps the arena":
		b.seen = append(b.seen, batch)
	case "waits on":
		ctx = context.WithoutCancel(ctx)
	case "changes the batch":
		if batch.Len() > 0 {
			batch.Data[0]++
		}
	case "returns a rest with nil":
		_, err := b.Mem.Append(ctx, batch)
		return batch, err
	case "stores and fails":
		rest, err := b.Mem.Append(ctx, batch)
		if err != nil {
			b.keep(batch, batch.Len())
		}
		return rest, err
	case "drops":
		batch.Taken = append(batch.Taken, store.Taken{Place: "x", Messages: batch.Len()})
		return nil, nil
	}
	rest, err := b.Mem.Append(ctx, batch)
	switch b.fault {
	case "names no place":
		batch.Taken = nil
	case "never broken":
		return nil, nil
	}
	return rest, err
}

func (b *broken) stored() []string {
	if b.fault != "keeps the arena" {
		return b.Messages()
	}
	var all []string
	for _, s := range b.seen {
		all = append(all, messages(s)...)
	}
	return all
}

func messages(b *store.Batch) []string {
	var all []string
	for i := range b.Ends {
		if b.Ends[i] == 0 {
			continue
		}
		all = append(all, string(b.Message(i)))
	}
	return all
}

func (b *broken) Close(ctx context.Context) error {
	if b.fault == "closes once" && b.closed {
		return errors.New("closed already")
	}
	return b.Mem.Close(ctx)
}

func (b *broken) Tick(ctx context.Context, now time.Time) error {
	if b.fault == "tick waits" {
		<-time.After(time.Minute)
	}
	return b.Mem.Tick(ctx, now)
}

func (b *broken) Rest() {
	if b.fault == "rest waits" {
		<-time.After(time.Minute)
	}
	b.Mem.Rest()
}

// verdict is a testing.TB that only notes whether the test failed.
type verdict struct {
	testing.TB
	failed atomic.Bool
}

func (v *verdict) Helper()               {}
func (v *verdict) Errorf(string, ...any) { v.failed.Store(true) }
func (v *verdict) Fatalf(string, ...any) { v.failed.Store(true); runtime.Goexit() }
func (v *verdict) Fatal(...any)          { v.failed.Store(true); runtime.Goexit() }
func (v *verdict) Skip(...any)           { runtime.Goexit() }

func TestTheSuiteFindsWhatItLooksFor(t *testing.T) {
	for fault, check := range map[string]string{
		"keeps the arena":         "the arena is the caller's after the return",
		"waits on":                "a blocked append ends with its context and is not stored",
		"changes the batch":       "a batch is not changed but for taken",
		"returns a rest with nil": "a batch is taken whole and the place is named",
		"stores and fails":        "a refusal gives the whole batch back",
		"drops":                   "order is kept",
		"names no place":          "a batch is taken whole and the place is named",
		"never broken":            "close twice, then broken",
		"closes once":             "close twice, then broken",
		"tick waits":              "tick does not wait",
		"rest waits":              "a place warms and rests without waiting",
	} {
		t.Run(fault, func(t *testing.T) {
			if failed := failedChecks(t, fault); !slices.Contains(failed, check) {
				t.Errorf("%q does not fail for a store that %s; those that do: %q", check, fault, failed)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		if failed := failedChecks(t, ""); len(failed) > 0 {
			t.Errorf("%q fail for a store that does nothing wrong", failed)
		}
	})
}

func failedChecks(t *testing.T, fault string) (failed []string) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range checks {
			b := &broken{Mem: NewMem("mem", MemOptions{}), fault: fault}
			s := memSubject(b.Mem)
			s.Store, s.Stored = b, b.stored
			if fault == "waits on" {
				s.Block = func() func() {
					b.Always(Step{Delay: time.Minute}) // it would wait for ever for the end of ctx
					return func() { b.Always(Step{}) }
				}
			}
			v := &verdict{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.check(v, s)
			}()
			<-done
			time.Sleep(2 * time.Minute) // what the check left behind comes to its end
			if v.failed.Load() {
				failed = append(failed, c.name)
			}
		}
	})
	return failed
}

func TestMemTakesAPartWhenTold(t *testing.T) {
	m := NewMem("mem", MemOptions{})
	m.Then(Step{Err: errors.New("told to"), Take: 1})
	b := Batch(1, "a", "bb", "ccc")
	rest, err := m.Append(t.Context(), b)
	if err == nil || rest.First != 2 || fmt.Sprint(messages(rest)) != "[bb ccc]" {
		t.Fatalf("rest %+v, error %v; want the last two messages and an error", rest, err)
	}
	if fmt.Sprint(b.Taken) != "[{mem 1}]" || len(rest.Taken) != 0 {
		t.Errorf("taken %v, of the rest %v; want [{mem 1}] and none", b.Taken, rest.Taken)
	}
}

func TestMemOpensItsFileInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem("mem", MemOptions{Opening: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := m.Append(ctx, Batch(1, "a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("append while the file is being opened: %v, want the context's error", err)
		}
		if m.Warm(Partition) {
			t.Error("warm after 300 ms of one second")
		}
		time.Sleep(700 * time.Millisecond)
		if !m.Warm(Partition) {
			t.Error("not warm after the second")
		}
		if _, opens, _, _ := m.Calls(); opens != 1 {
			t.Errorf("%d files were opened, want 1", opens)
		}
	})
}
