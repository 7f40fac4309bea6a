package hdfstest

import (
	"encoding/binary"
	"io"
	"net"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Fault is what a NameNode does with one call. The zero Fault answers it.
type Fault struct {
	Silent bool   // not done, not answered
	Lose   bool   // done, not answered
	Break  bool   // the connection is closed: instead of the call, or with Lose after it
	Class  string // an exception is answered, and the call not done
	Text   string // of the exception
}

// An exception as NameNodes throw them.
type exception struct{ class, text string }

// NameNode is one NameNode of the cluster. All of them see one name space.
type NameNode struct {
	server
	standby  bool
	script   func(method string, nth int) Fault
	calls    map[string]int // received, by method, repeats too
	lastDial map[string]int
}

// Script makes f decide about each call from now on: nth counts the calls of
// that method that this NameNode received, from 1, repeats too.
func (n *NameNode) Script(f func(method string, nth int) Fault) {
	n.c.mu.Lock()
	n.script, n.calls = f, map[string]int{}
	n.c.mu.Unlock()
}

// Calls is how many calls of a method it received since its start or Script.
func (n *NameNode) Calls(method string) int {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.calls[method]
}

// conn serves one connection, one call at a time.
func (n *NameNode) conn(c net.Conn) {
	hello := make([]byte, 7)
	if _, err := io.ReadFull(c, hello); err != nil || string(hello[:4]) != "hrpc" || hello[4] != 9 {
		return
	}
	for {
		var l [4]byte
		if _, err := io.ReadFull(c, l[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(l[:]))
		if _, err := io.ReadFull(c, b); err != nil || !n.pass() {
			return
		}
		parts, err := unframe(b)
		if err != nil || len(parts) < 2 {
			return
		}
		h, err := read(parts[0])
		if err != nil {
			return
		}
		id := int32(protowire.DecodeZigZag(h.num(3)))
		if id < 0 {
			continue
		}
		m, err := read(parts[1])
		if err != nil || len(parts) != 3 {
			return
		}
		answer, f := n.call(string(h.raw(4)), id, m.str(1), parts[2])
		if answer != nil && !f.Lose {
			if !n.pass() {
				return
			}
			if _, err = c.Write(answer); err != nil {
				return
			}
		}
		if f.Break {
			return
		}
	}
}

// call does one call, once for each client and call id, and gives its answer.
func (n *NameNode) call(client string, id int32, method string, req []byte) ([]byte, Fault) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.calls[method]++
	var f Fault
	if n.script != nil {
		f = n.script(method, n.calls[method])
	}
	head := m(nil).uint(1, uint64(uint32(id)))
	throw := func(e *exception) []byte {
		return framed(head.uint(2, 1).str(4, e.class).str(5, e.text+"\n\tat some.java.Class"))
	}
	switch {
	case f.Silent || f.Break && !f.Lose:
		return nil, f
	case n.standby:
		return throw(&exception{"org.apache.hadoop.ipc.StandbyException", "Operation category WRITE is not supported in state standby"}), f
	case f.Class != "":
		return throw(&exception{f.Class, f.Text}), f
	}
	key := callKey{client, id}
	if a := n.c.ns.done[key]; a != nil {
		return a, f
	}
	q, err := read(req)
	if err != nil {
		return throw(&exception{"java.io.IOException", "unreadable"}), f
	}
	body, e := n.c.ns.do(n.c, method, q)
	if e != nil {
		return throw(e), f // not kept: a repeat is done anew
	}
	a := framed(head.uint(2, 0), body)
	n.c.ns.done[key] = a
	return a, f
}
