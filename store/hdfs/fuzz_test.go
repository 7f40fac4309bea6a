package hdfs

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"runtime/metrics"
	"testing"
	"time"
)

// A patientConn is the part of a connection that tests need nothing of.
type patientConn struct{ net.Conn }

func (patientConn) Close() error                     { return nil }
func (patientConn) SetDeadline(time.Time) error      { return nil }
func (patientConn) SetReadDeadline(time.Time) error  { return nil }
func (patientConn) SetWriteDeadline(time.Time) error { return nil }

type errTimeoutOf struct{}

func (errTimeoutOf) Error() string        { return "timeout" }
func (errTimeoutOf) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// A saying connection gives bytes, some at a time, then its end.
type saying struct {
	patientConn
	b    []byte
	step int
}

func (s *saying) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.b)
	s.b = s.b[n:]
	return n, nil
}

// FuzzAck lets a DataNode answer anything: no panic, no endless loop, and
// never more acknowledged than was sent, in order.
func FuzzAck(f *testing.F) {
	good := []byte{4, 1 << 3, 2, 2 << 3, 0, 8, 1 << 3, 4, 2 << 3, 0, 3 << 3, 200, 1}
	f.Add([]byte{}, 1)
	f.Add(good, 1)
	f.Add(good, 512)
	f.Add([]byte{6, 1 << 3, 2, 2<<3 | 2, 1, 1}, 3)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 512)
	f.Add(append([]byte{0xff, 0x07}, make([]byte, 1023)...), 100)
	f.Add([]byte{2, 1 << 3, 1}, 1)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		p := &pipe{conn: &saying{b: b, step: 1 + step&1023}, nodes: 1}
		ends := []int64{100, 200, 300}
		for _, e := range ends {
			p.push(e)
		}
		err := p.wait(0, time.Now())
		acked := len(ends) - p.count
		if err == nil && acked != len(ends) || acked > 0 && p.acked != ends[acked-1] || acked == 0 && p.acked != 0 {
			t.Fatalf("%d packets and %d bytes acknowledged, error %v", acked, p.acked, err)
		}
	})
}

// FuzzRPCReply lets a NameNode answer anything.
func FuzzRPCReply(f *testing.F) {
	f.Add(encodeReply(7, []byte{1 << 3, 1}, nil))
	f.Add(encodeReply(-1, nil, &RemoteError{Class: "java.io.IOException", Message: "text"}))
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 3, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := allocated(func() { readReplies(t, b) }); n > uint64(256*len(b))+1<<20 {
			t.Fatalf("%d bytes are taken for an answer of %d", n, len(b))
		}
	})
}

// readReplies takes b for what a NameNode sends.
func readReplies(t *testing.T, b []byte) {
	r := bytes.NewReader(b)
	for {
		frame, err := readFrame(r)
		if err != nil {
			return
		}
		if len(frame) > len(b) {
			t.Fatalf("a frame of %d bytes out of %d", len(frame), len(b))
		}
		p, err := parseReply(frame)
		if err == nil && p.err != nil && p.body != nil {
			t.Fatal("an answer and an exception")
		}
		if err == nil {
			decodeLocated(p.body) // it must not panic
		}
	}
}

// allocated is what do takes from the heap, other goroutines' share included.
func allocated(do func()) uint64 {
	at := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := at()
	do()
	return at() - before
}

// FuzzLibraryRequest is the side of the bridge that the library writes to.
func FuzzLibraryRequest(f *testing.F) {
	f.Add(frame(callHeader(nil, 7, 0), putString(nil, 1, "getFileInfo"), []byte{1}))
	f.Add(frame(callHeader(nil, connectionCall, -1), nil))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			_, rest, err := parseRequest(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("nothing was taken")
			}
			b = rest
		}
	})
}
