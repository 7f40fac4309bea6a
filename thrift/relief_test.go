package thrift

import (
	"net"
	"strings"
	"testing"
	"time"
)

// Somebody sends frames but for their last byte until the memory for frames is used up.
func TestWhoDoesNotEndItsFramesKeepsNoOtherAddressOut(t *testing.T) {
	l, dial := tcp(t)
	s := start(t, l, &double{}, Options{MaxFrame: 1 << 20, MaxEntries: 10, FrameMemory: 1})
	large := framed(logCall(1, entryOf("a", strings.Repeat("m", 1<<20-100))))
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	var held []net.Conn
	for range 6 {
		c, err := elsewhere.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write(large[:len(large)-1]); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	small := framed(logCall(2, entryOf("a", strings.Repeat("m", 20_000))))
	free := func() bool {
		ok := s.memory.reserve(32 << 10)
		if ok {
			s.memory.release(32 << 10)
		}
		return ok
	}
	for deadline := time.Now().Add(20 * time.Second); free(); {
		if time.Now().After(deadline) {
			t.Fatal("the memory for frames is never used up")
		}
		if c, err := elsewhere.Dial("tcp", l.Addr().String()); err == nil { // what is left
			defer c.Close()
			c.Write(small[:len(small)-1])
		}
		time.Sleep(10 * time.Millisecond)
	}
	good := dial()
	for range 20 {
		wantBytes(t, "another address", exchange(t, good, small), logAnswer(2, 0))
	}
	answered := map[byte]int{} // by result
	for _, c := range held {   // who ends its frame is told, and the connection goes on
		c.Write(large[len(large)-1:])
		answered[receive(t, c)[22]]++
	}
	for _, c := range held {
		wantBytes(t, "the same, afterwards", exchange(t, c, small), logAnswer(2, 0))
	}
	if answered[1] == 0 || answered[0] == 0 || answered[0]+answered[1] != len(held) {
		t.Errorf("answers by result: %v, want that some are taken and some are not", answered)
	}
}

// An own address that holds the most itself is answered TRY_LATER, and no other one has to yield.
func TestWhoHoldsMostHasNobodyElseYield(t *testing.T) {
	l, dial := tcp(t)
	s := start(t, l, &double{}, Options{MaxFrame: 1 << 20, MaxEntries: 10, FrameMemory: 1})
	large := framed(logCall(1, entryOf("a", strings.Repeat("m", 1<<20-100))))
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other, err := elsewhere.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Write(large[:200_000])
	for n := int64(0); n == 0; time.Sleep(time.Millisecond) {
		n = s.Stats().FrameMemory
	}
	var held []net.Conn
	for range 4 {
		c := dial()
		c.Write(large[:len(large)-1])
		held = append(held, c)
	}
	deadline := time.Now().Add(20 * time.Second)
	for s.memory.reserve(1 << 20) {
		s.memory.release(1 << 20)
		if time.Now().After(deadline) {
			t.Fatal("the memory for frames is never used up")
		}
		time.Sleep(time.Millisecond)
	}
	for _, c := range held {
		c.Close()
	}
	other.SetDeadline(time.Now().Add(20 * time.Second))
	other.Write(large[200_000:])
	wantBytes(t, "the other address", receive(t, other), logAnswer(1, 0))
}
