package thrift

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

func benchFrame(batch, size int) []byte {
	m := []byte(strings.Repeat("m", size))
	es := make([]Entry, batch)
	for i := range es {
		es[i] = Entry{[]byte("web_access"), m}
	}
	return AppendLog(nil, 1, es, &BatchID{"producer", 1, 2})
}

func BenchmarkDecodeLog(b *testing.B) {
	for _, c := range [][2]int{{1, 200}, {100, 200}, {1000, 200}, {1000, 500}, {10000, 50}} {
		b.Run(fmt.Sprintf("batch=%d/size=%d", c[0], c[1]), func(b *testing.B) {
			body := benchFrame(c[0], c[1])[4:]
			d := newDecoder(100_000)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeBody(d, body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c[0]), "ns/msg")
		})
	}
}

func BenchmarkAppendLog(b *testing.B) {
	m := []byte(strings.Repeat("m", 200))
	es := make([]Entry, 1000)
	for i := range es {
		es[i] = Entry{[]byte("web_access"), m}
	}
	var frame []byte
	b.ReportAllocs()
	for b.Loop() {
		frame = AppendLog(frame[:0], 1, es, nil)
		b.SetBytes(int64(len(frame)))
	}
}

// BenchmarkServer is a call and its answer over loopback, one outstanding.
func BenchmarkServer(b *testing.B) {
	for _, c := range [][2]int{{1, 200}, {100, 200}, {1000, 200}, {1000, 500}} {
		b.Run(fmt.Sprintf("batch=%d/size=%d", c[0], c[1]), func(b *testing.B) {
			l, dial := tcp(b)
			start(b, l, &double{}, Options{})
			conn := dial()
			frame := benchFrame(c[0], c[1])
			reply := make([]byte, 24)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				call(b, conn, frame, reply)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c[0]), "ns/msg")
		})
	}
}

func call(b *testing.B, conn net.Conn, frame, reply []byte) {
	if _, err := conn.Write(frame); err != nil {
		b.Fatal(err)
	}
	for got := 0; got < len(reply); {
		n, err := conn.Read(reply[got:])
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
}
