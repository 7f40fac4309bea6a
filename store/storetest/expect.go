package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/store"
)

func mustAppend(t testing.TB, s Subject, b *store.Batch) {
	t.Helper()
	b.Taken = nil
	rest, err := s.Store.Append(t.Context(), b)
	if err != nil {
		t.Fatalf("append of sequence %d: %v", b.First, err)
	}
	settled(t, b, rest, err)
}

// settled checks what stands after an Append that returned nil.
func settled(t testing.TB, b, rest *store.Batch, err error) {
	t.Helper()
	if err == nil && rest != nil {
		t.Errorf("append returned a rest of %d messages without an error", rest.Len())
	}
	n := 0
	for _, k := range b.Taken {
		if k.Place == "" || k.Messages <= 0 {
			t.Errorf("taken names no place or no messages: %+v", k)
		}
		n += k.Messages
	}
	if n != b.Len() {
		t.Errorf("taken speaks of %d messages of %d: %+v", n, b.Len(), b.Taken)
	}
}

// whole checks that rest is all of b and nobody claims to have taken any.
func whole(t testing.TB, b, rest *store.Batch) {
	t.Helper()
	if rest == nil || rest.Len() != b.Len() || rest.First != b.First {
		t.Fatalf("the rest of a refused batch is %v, want all of it", rest)
	}
	if len(rest.Taken) != 0 {
		t.Errorf("a refused batch is said to be taken: %+v", rest.Taken)
	}
}

func stored(t testing.TB, s Subject, want ...string) {
	t.Helper()
	if s.Stored == nil {
		return
	}
	if got := s.Stored(); !slices.Equal(got, want) {
		t.Errorf("stored: %s\nwant:   %s", brief(got), brief(want))
	}
}

func brief(messages []string) string {
	all := make([]string, len(messages))
	for i, m := range messages {
		if len(m) > 40 {
			m = m[:40] + "..."
		}
		all[i] = strings.ReplaceAll(m, "\n", `\n`)
	}
	return "[" + strings.Join(all, "|") + "]"
}

// soon fails the test when f takes longer than patience. f then goes on in its
// goroutine: there is no way to end it.
func soon(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("%s has not returned after %v", what, patience)
	}
}
