// Package storetest holds what every kind of store is held against, and the
// doubles that stand for stores, places and clusters in tests.
//
//	func TestMyKindIsAStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Subject {
//			s := newMyKind(t)
//			return storetest.Subject{Store: s, Stored: func() []string { return readBack(t, s) }}
//		})
//	}
//
// It leaves to others: what a kind promises beyond the contract of store.Store
// and store.Place.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/store"
)

// A Subject is a fresh store for one test of the suite. It need not be closed
// by whoever opens it.
type Subject struct {
	Store store.Store

	// Stored gives back the messages stored so far, in order, without their
	// line feeds. Nil: the kind keeps nothing.
	Stored func() []string

	// Block makes Append wait until its ctx ends, and release undoes it. Nil:
	// nothing can make this kind wait.
	Block func() (release func())

	// Refuse makes Append fail at once, and heal undoes it. Nil: nothing can.
	Refuse func() (heal func())
}

// patience is what "soon" and "never waits" mean: wide enough for a busy
// machine, and far below what a wait for a blocked cluster takes.
const patience = 10 * time.Second

// Run checks that what open gives keeps the contract of a Store, and of a Place
// if it is one. Each test opens its own.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.check(t, s)
			if err := s.Store.Close(context.Background()); err != nil {
				t.Errorf("close at the end: %v", err)
			}
		})
	}
}

var checks = []struct {
	name  string
	check func(t testing.TB, s Subject)
}{
	{"a batch is taken whole and the place is named", takesWhole},
	{"the arena is the caller's after the return", leavesTheArena},
	{"a batch is not changed but for taken", leavesTheBatch},
	{"order is kept", keepsOrder},
	{"messages of any bytes are stored as they are", storesAnyBytes},
	{"an empty batch is taken without a trace", takesNothing},
	{"an ended context ends append soon", endsWithItsContext},
	{"a blocked append ends with its context and is not stored", leavesABlockedAppend},
	{"a refusal gives the whole batch back", refusesWhole},
	{"tick does not wait", ticks},
	{"close twice, then broken", closes},
	{"a place warms and rests without waiting", warmsAndRests},
}

func takesWhole(t testing.TB, s Subject) {
	b := Batch(1, "one", "two", "three")
	mustAppend(t, s, b)
	stored(t, s, "one", "two", "three")
}

func leavesTheArena(t testing.TB, s Subject) {
	b := Batch(1, "first batch", "of two")
	mustAppend(t, s, b)
	for i := range b.Data {
		b.Data[i] = 'x'
	}
	clear(b.Ends)
	next := Batch(3, "second")
	b.Data, b.Ends, b.First = append(b.Data[:0], next.Data...), append(b.Ends[:0], next.Ends...), 3
	mustAppend(t, s, b)
	for i := range b.Data {
		b.Data[i] = 'y'
	}
	stored(t, s, "first batch", "of two", "second")
}

func leavesTheBatch(t testing.TB, s Subject) {
	b := Batch(1, "one", "two")
	before := *b
	before.Data, before.Ends, before.Senders = bytes.Clone(b.Data), slices.Clone(b.Ends), slices.Clone(b.Senders)
	mustAppend(t, s, b)
	b.Taken = nil
	if !reflect.DeepEqual(&before, b) {
		t.Errorf("the batch is changed:\n%+v\nbefore:\n%+v", b, &before)
	}
}

func keepsOrder(t testing.TB, s Subject) {
	mustAppend(t, s, Batch(1, "a", "b"))
	mustAppend(t, s, Batch(3, "c"))
	mustAppend(t, s, Batch(4, "d", "e"))
	stored(t, s, "a", "b", "c", "d", "e")
}

func storesAnyBytes(t testing.TB, s Subject) {
	odd := []string{"", "two\nlines", "\r", "nul \x00 inside", "\xff\xfe", strings.Repeat("long ", 1<<16), "last"}
	mustAppend(t, s, Batch(1, odd...))
	stored(t, s, odd...)
}

func takesNothing(t testing.TB, s Subject) {
	b := Batch(1)
	rest, err := s.Store.Append(t.Context(), b)
	if rest != nil || err != nil || len(b.Taken) != 0 {
		t.Errorf("an empty batch: rest %v, error %v, taken %v; want none of them", rest, err, b.Taken)
	}
	stored(t, s)
}

func endsWithItsContext(t testing.TB, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := Batch(1, "too late")
	var rest *store.Batch
	var err error
	soon(t, "append with an ended context", func() { rest, err = s.Store.Append(ctx, b) })
	if err == nil {
		settled(t, b, rest, err)
		return
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want the context's", err)
	}
	whole(t, b, rest)
	stored(t, s)
	mustAppend(t, s, b)
	stored(t, s, "too late")
}

func leavesABlockedAppend(t testing.TB, s Subject) {
	if s.Block == nil {
		t.Skip("nothing makes this kind wait")
	}
	release := s.Block()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	b := Batch(1, "held up")
	var rest *store.Batch
	var err error
	soon(t, "a blocked append", func() { rest, err = s.Store.Append(ctx, b) })
	if err == nil {
		t.Fatal("a blocked append was answered with OK")
	}
	whole(t, b, rest)
	release()
	mustAppend(t, s, b)
	stored(t, s, "held up")
}

func refusesWhole(t testing.TB, s Subject) {
	if s.Refuse == nil {
		t.Skip("nothing makes this kind refuse")
	}
	heal := s.Refuse()
	b := Batch(1, "refused", "at first")
	rest, err := s.Store.Append(t.Context(), b)
	if err == nil {
		t.Fatal("a batch was refused with a nil error")
	}
	whole(t, b, rest)
	stored(t, s)
	heal()
	mustAppend(t, s, b)
	stored(t, s, "refused", "at first")
}

func ticks(t testing.TB, s Subject) {
	mustAppend(t, s, Batch(1, "before"))
	if s.Block != nil {
		defer s.Block()()
	}
	soon(t, "tick", func() {
		if err := s.Store.Tick(t.Context(), time.Now()); err != nil {
			t.Errorf("tick: %v", err)
		}
	})
}

func closes(t testing.TB, s Subject) {
	mustAppend(t, s, Batch(1, "before"))
	for range 2 {
		if err := s.Store.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	b := Batch(2, "after")
	rest, err := s.Store.Append(t.Context(), b)
	if !errors.Is(err, store.ErrBroken) {
		t.Errorf("append after close: %v, want store.ErrBroken", err)
	}
	whole(t, b, rest)
}

func warmsAndRests(t testing.TB, s Subject) {
	p, ok := s.Store.(store.Place)
	if !ok {
		t.Skip("no place")
	}
	mustAppend(t, s, Batch(1, "before"))
	if s.Block != nil {
		release := s.Block()
		soon(t, "warm", func() { p.Warm("dt=2026-11-22/hr=11") })
		soon(t, "rest", p.Rest)
		release()
	}
	for range 2 {
		soon(t, "rest", p.Rest)
	}
	mustAppend(t, s, Batch(2, "after"))
	stored(t, s, "before", "after")
}
