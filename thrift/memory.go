package thrift

import (
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
)

// errBusy says that the memory for frames is used up: what is asked for can be
// taken later.
var errBusy = errors.New("the memory for frames is used up")

// memory is the account of the bytes that frames and decoded calls use, of all
// connections together, and the pool that the buffers come from. What lies in
// the pool is not in the account: the garbage collector takes it when nobody does.
type memory struct {
	limit int64
	used  atomic.Int64
	pools [maxClass - minClass + 1]sync.Pool // of *[]byte of 1 << class bytes
}

const (
	minClass = 13 // 8 KiB: what is smaller fits a connection's own buffer, or nearly
	maxClass = 24 // 16 MiB: larger buffers are not kept
)

// Calls of so many bytes at most may use all of the account, larger ones leave
// an eighth of it to them: a few clients with large calls do not have those of
// all others refused.
const (
	smallCall  = 64 << 10
	smallShare = 8
)

// reserve takes n bytes of the account, or nothing and says false.
func (m *memory) reserve(n int) bool {
	limit := m.limit
	if n > smallCall {
		limit -= limit / smallShare
	}
	if m.used.Add(int64(n)) > limit {
		m.used.Add(-int64(n))
		return false
	}
	return true
}

func (m *memory) release(n int) { m.used.Add(-int64(n)) }

// class is the exponent of the smallest buffer that holds n bytes.
func class(n int) int { return max(minClass, bits.Len(uint(n-1))) }

// get gives a buffer of n bytes at least, n > 0, or nil if the account has not so many.
func (m *memory) get(n int) *[]byte {
	c := class(n)
	if c > maxClass {
		if !m.reserve(n) {
			return nil
		}
		b := make([]byte, n)
		return &b
	}
	if !m.reserve(1 << c) {
		return nil
	}
	if b, ok := m.pools[c-minClass].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 1<<c)
	return &b
}

// put takes a buffer back, which nobody uses any more.
func (m *memory) put(b *[]byte) {
	m.release(len(*b))
	if c := class(len(*b)); c <= maxClass {
		m.pools[c-minClass].Put(b)
	}
}
