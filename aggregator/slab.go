package aggregator

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Capacities of slabs are powers of two from 1<<smallestSlab on.
const (
	smallestSlab = 8
	slabClasses  = 32
)

// slabs keeps slices for reuse, so that a busy queue fills the same few arenas
// over and over. What it keeps is bounded in total, and a very large slice is
// given to the garbage collector. Where much is in use nothing is made larger
// than it has to be, and nothing is kept. Safe for many goroutines.
type slabs[T any] struct {
	keep    int          // elements kept at most
	much    atomic.Int64 // elements in use; 0: there is no such number
	largest atomic.Int64 // longer ones are made as asked for, and not kept
	scrub   func([]T)    // of a slice that is given back; nil in production
	live    atomic.Int64

	mu   sync.Mutex
	kept int
	free [slabClasses][][]T
}

func slabClass(n int) int {
	c := bits.Len(uint(max(n, 1)-1)) - smallestSlab
	return max(c, 0)
}

// get returns an empty slice with room for n elements at least.
func (s *slabs[T]) get(n int) []T {
	p := s.take(n)
	if p == nil {
		if s.scarce(n) {
			s.shrink()
		}
		capacity := n
		if n <= int(s.largest.Load()) && !s.scarce(n) {
			capacity = 1 << (slabClass(n) + smallestSlab)
		}
		p = make([]T, 0, capacity)
	}
	s.live.Add(int64(cap(p)))
	return p
}

// scarce says that with n elements more there is much in use.
func (s *slabs[T]) scarce(n int) bool {
	much := s.much.Load()
	return much > 0 && s.live.Load()+int64(n) > much
}

// shrink lets go of all that is kept.
func (s *slabs[T]) shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = [slabClasses][][]T{}
	s.kept = 0
}

func (s *slabs[T]) take(n int) []T {
	if n > int(s.largest.Load()) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	class := &s.free[slabClass(n)]
	last := len(*class) - 1
	if last < 0 {
		return nil
	}
	p := (*class)[last]
	(*class)[last] = nil
	*class = (*class)[:last]
	s.kept -= cap(p)
	return p
}

// put gives a slice from get back. Nothing may refer to it any more.
func (s *slabs[T]) put(p []T) {
	if cap(p) == 0 {
		return
	}
	s.live.Add(-int64(cap(p)))
	if s.scrub != nil {
		s.scrub(p[:cap(p)])
	}
	class := slabClass(cap(p))
	if cap(p) != 1<<(class+smallestSlab) || cap(p) > 2*int(s.largest.Load()) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept+cap(p) > s.keep || s.scarce(s.kept+cap(p)) {
		return
	}
	s.kept += cap(p)
	s.free[class] = append(s.free[class], p[:0])
}

// grow returns p's content in a slice with room for n elements at least.
func (s *slabs[T]) grow(p []T, n int) []T {
	bigger := append(s.get(n), p...)
	s.put(p)
	return bigger
}
