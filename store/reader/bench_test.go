package reader

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twinscribe/buffer"
)

// benchWorld holds about 64 MiB of messages of 200 bytes in each of a file, a
// file with line feeds inside and a segment.
func benchWorld(b *testing.B) (w *world, bytes int64) {
	w = newWorld(b, b.TempDir())
	b.Cleanup(w.close)
	const messages, perBatch = 320_000, 500
	for chain, inside := range map[uint32]string{1: "x", 2: "\n"} {
		s := web("n1", chain)
		s.chain, s.category = chain, fmt.Sprintf("file%d", chain)
		for first := uint64(1); first <= messages; first += perBatch {
			one := batch{first: first}
			for i := range perBatch {
				text := strings.Repeat("x", 199)
				if i%10 == 0 {
					text = text[:100] + inside + text[101:]
				}
				one.messages = append(one.messages, text)
			}
			s.batches = append(s.batches, one)
		}
		w.sealed(s)
	}
	var list []stored
	for first := uint64(1); first <= messages; first += perBatch {
		one := batch{first: first}
		for range perBatch {
			one.messages = append(one.messages, strings.Repeat("x", 199))
		}
		list = append(list, stored{"segment", 3, hour10, one})
	}
	w.segmentOf(ag1, buffer.Outage, list...)
	w.inventories("n1")
	return w, messages * 200
}

func BenchmarkRead(b *testing.B) {
	w, size := benchWorld(b)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	w.must(err)
	defer null.Close()
	run := func(name, category string, chunk int, sink func(*Run) error) {
		b.Run(name, func(b *testing.B) {
			o := w.options()
			o.Chunk = chunk
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				report, err := New(o).Read(context.Background(), Query{Category: category}, sink)
				if err != nil || report.Bytes != size {
					b.Fatalf("%d bytes, %v", report.Bytes, err)
				}
			}
		})
	}
	text := func(r *Run) error {
		_, err := null.Write(r.Data)
		return err
	}
	each := func(r *Run) error {
		return r.Each(func(m *Message) error {
			if len(m.Data) != 199 {
				return io.ErrUnexpectedEOF
			}
			return nil
		})
	}
	for _, chunk := range []int{128 << 10, 256 << 10, 1 << 20} {
		run(fmt.Sprintf("source=file/sink=text/chunk=%dKiB", chunk>>10), "file1", chunk, text)
	}
	run("source=file/feeds=32000/sink=text", "file2", 0, text)
	run("source=file/sink=messages", "file1", 0, each)
	run("source=segment/sink=text", "segment", 0, text)
	b.Run("source=file/sink=cat", func(b *testing.B) { // the floor: read and write, nothing else
		s := web("n1", 1)
		s.category = "file1"
		buf := make([]byte, 128<<10)
		b.SetBytes(size)
		for b.Loop() {
			f, err := os.Open(filepath.Join(w.root, "n1", s.path()))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{null}, struct{ io.Reader }{f}, buf); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}
