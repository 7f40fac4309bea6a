package store_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"twinscribe/store"
	"twinscribe/store/catalog"
	"twinscribe/store/storetest"
)

// TestAfterLeavesTheRest compares the rest message by message, batch ids included.
func TestAfterLeavesTheRest(t *testing.T) {
	tell := func(b *store.Batch) (all []string) {
		for i := range b.Len() {
			s := fmt.Sprint(b.First+uint64(i), " ", string(b.Message(i)))
			for _, id := range b.IDs {
				if at := b.First + uint64(i); at >= id.First && at < id.First+uint64(id.Messages) {
					s += fmt.Sprint(" ", id.Producer, id.Sequence, "/", uint64(id.From)+at-id.First)
				}
			}
			all = append(all, s)
		}
		return all
	}
	rapid.Check(t, func(t *rapid.T) {
		messages := rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,3}`), 1, 10).Draw(t, "messages")
		b := storetest.Batch(rapid.Uint64Range(1, 100).Draw(t, "first"), messages...)
		b.Taken = []store.Taken{{Place: "elsewhere", Messages: 1}}
		for at, k := b.First, uint64(1); at < b.First+uint64(len(messages)); k++ {
			n := rapid.Uint64Range(1, b.First+uint64(len(messages))-at).Draw(t, "span")
			if rapid.Bool().Draw(t, "numbered") {
				b.IDs = append(b.IDs, catalog.BatchSpan{
					BatchID: catalog.BatchID{Producer: "p", Sequence: k}, From: uint32(k), First: at, Messages: uint32(n),
				})
			}
			at += n
		}
		before := tell(b)
		n := rapid.IntRange(0, len(messages)).Draw(t, "taken")
		rest := b.After(n)
		if got, want := tell(rest), before[n:]; !slices.Equal(got, want) {
			t.Fatalf("the rest is %q, want %q", got, want)
		}
		if n > 0 && len(rest.Taken) > 0 {
			t.Fatalf("the rest is said to be taken: %v", rest.Taken)
		}
		for _, id := range rest.IDs {
			if id.Messages == 0 || id.First < rest.First || id.First+uint64(id.Messages) > rest.Last()+1 {
				t.Fatalf("the span %+v lies outside of the rest", id)
			}
		}
		if !slices.Equal(tell(b), before) {
			t.Fatal("the batch is changed")
		}
	})
}
