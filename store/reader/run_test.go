package reader

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"twinscribe/store/catalog"
)

// However a text is cut into chunks, whole and splitter agree on its messages.
func TestChunksHoldWholeMessagesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		var ends []uint32
		for range rapid.IntRange(0, 8).Draw(t, "messages") {
			data = append(append(data, rapid.SampledFrom([]string{"", "a", "long one", "\n", "a\nb", "\n\n\n"}).Draw(t, "message")...), '\n')
			ends = append(ends, uint32(len(data)))
		}
		feeds := catalog.LineFeeds(nil, data, ends, 0)
		cut := rapid.IntRange(0, len(data)).Draw(t, "cut")
		length, messages := whole(data[:cut], feedsWithin(nil, feeds, 0, int64(cut)))
		n, end := 0, 0
		for n < len(ends) && int(ends[n]) <= cut {
			end = int(ends[n])
			n++
		}
		if length != end || messages != n {
			t.Fatalf("the first %d bytes of %q hold %d messages in %d bytes, want %d in %d", cut, data, messages, length, n, end)
		}
		s := splitter{data: data[:length], feeds: feeds}
		for i := range n {
			from := uint32(0)
			if i > 0 {
				from = ends[i-1]
			}
			if m, ok := s.next(); !ok || !bytes.Equal(m, data[from:ends[i]]) {
				t.Fatalf("message %d of %q is %q", i, data, m)
			}
		}
		if m, ok := s.next(); ok {
			t.Fatalf("one message too many: %q", m)
		}
	})
}

// The calls of a category against a set of (call, index).
func TestSeenIDsKnowEachMessageOfACall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type message struct {
			sequence uint64
			index    uint32
		}
		seen, c := make(map[message]bool), newSeenIDs().in("web", hour10)
		next := uint64(1)
		for range rapid.IntRange(0, 12).Draw(t, "spans") {
			s := catalog.BatchSpan{BatchID: catalog.BatchID{Producer: "p", Epoch: 1, Sequence: rapid.Uint64Range(1, 2).Draw(t, "call")},
				From: rapid.Uint32Range(0, 12).Draw(t, "from"), First: next, Messages: rapid.Uint32Range(1, 6).Draw(t, "messages")}
			next += uint64(s.Messages)
			from := s.First + rapid.Uint64Range(0, uint64(s.Messages)-1).Draw(t, "clipped")
			var want []interval
			for at := from; at < next; at++ {
				m := message{s.Sequence, s.From + uint32(at-s.First)}
				if seen[m] {
					want = append(want, interval{at, at})
				}
				seen[m] = true
			}
			got, want := join(c.take(nil, &s, from, next-1)), join(want)
			if len(got) != len(want) {
				t.Fatalf("seen before: %v, want %v", got, want)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("seen before: %v, want %v", got, want)
				}
			}
			if lost := rapid.Uint64Range(from, next).Draw(t, "lost from"); lost < next {
				// Only what this span marked anew is unknown again.
				if len(want) > 0 {
					continue
				}
				c.forget(&s, lost, next-1)
				for at := lost; at < next; at++ {
					delete(seen, message{s.Sequence, s.From + uint32(at-s.First)})
				}
			}
		}
	})
}
