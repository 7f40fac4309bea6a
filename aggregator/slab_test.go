package aggregator

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSlabsComeBackAndWhatIsKeptIsBounded(t *testing.T) {
	s := slabs[byte]{keep: 3000}
	s.largest.Store(4096)
	p := s.get(1000)
	equal(t, "capacity", cap(p), 1024)
	first := &p[:1][0]
	s.put(append(p, 1))
	p = s.get(600)
	equal(t, "the same one", &p[:1][0] == first, true)
	equal(t, "empty", len(p), 0)
	equal(t, "in use", s.live.Load(), 1024)

	var all [][]byte
	for range 5 {
		all = append(all, s.get(1024))
	}
	for _, p := range all {
		s.put(p)
	}
	equal(t, "kept", s.kept, 2048)

	huge := s.get(10000)
	equal(t, "a huge one is as large as asked for", cap(huge), 10000)
	s.put(huge)
	equal(t, "and not kept", s.kept, 2048)
	s.put(p)
	equal(t, "in use at the end", s.live.Load(), 0)
}

func TestAGrownSlabKeepsItsContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := slabs[byte]{keep: 1 << 20}
		s.largest.Store(1 << 16)
		content := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content")
		n := rapid.IntRange(len(content), 1<<17).Draw(t, "room")
		p := s.grow(append(s.get(len(content)), content...), n)
		if cap(p) < n || string(p) != string(content) {
			t.Fatalf("grown to %d of %d: %q, want %q", cap(p), n, p, content)
		}
		if s.live.Load() != int64(cap(p)) {
			t.Fatalf("%d in use, want %d", s.live.Load(), cap(p))
		}
	})
}

func TestWithMuchInUseSlabsAreExactAndNoneIsKept(t *testing.T) {
	s := slabs[byte]{keep: 1 << 20}
	s.largest.Store(1 << 20)
	s.much.Store(10_000)
	s.put(s.get(2048))
	equal(t, "kept", s.kept, 2048)
	p := s.get(5000)
	equal(t, "rounded", cap(p), 8192)
	q := s.get(5000)
	equal(t, "exact", cap(q), 5000)
	equal(t, "kept while it is scarce", s.kept, 0)
	s.put(q)
	s.put(p)
	equal(t, "kept afterwards", s.kept, 8192)
}
