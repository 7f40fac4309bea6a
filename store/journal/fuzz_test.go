package journal

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
)

// fuzzSalt is that of the file that the fuzzed journal is.
const fuzzSalt = 0x0123456789abcdef

// cutUp makes records of bytes: each begins with its length, which is not 0, and
// gets the frame and the checksum that a writer gives it.
func cutUp(content []byte) []byte {
	file := record.FileHeader{Magic: fileMagic, Salt: fuzzSalt, Flags: bodyVersion, Number: 1}.Append(nil)
	for number := uint64(1); len(content) > 1; number++ {
		n := min(max(1, int(content[0])), len(content)-1)
		file = record.AppendRecord(file, fuzzSalt, number, content[1:1+n])
		content = content[1+n:]
	}
	return file
}

// FuzzRead reads any bytes as a journal file, or makes records of them that
// verify. What is read does not contradict itself, and a start on it, which
// states it again in a file of its own, forgets and invents nothing.
func FuzzRead(f *testing.F) {
	var b bodies
	encodeBegin(&b, 1, &Begin{Cluster: "n1", Path: "web/f.log", OpenPath: "web/_f.log.open", Partition: "dt=2026-11-22/hr=10", Category: "web", Chain: 3, First: 1, Identity: ag1}, false)
	for n := range int64(3) {
		encodeLine(&b, 1, &Line{Offset: 10 * n, End: 10*n + 10, First: uint64(2*n + 1), Last: uint64(2*n + 2), Arrived: 5, Senders: []string{"s"},
			IDs:       []catalog.BatchSpan{{BatchID: catalog.BatchID{Producer: "p", Epoch: 1, Sequence: 2}, First: uint64(2*n + 1), Messages: 2}},
			LineFeeds: []catalog.Span{{Offset: 10*n + 1, Length: 4}}})
	}
	encodeTorn(&b, 1, 20)
	encodeBegin(&b, 2, &Begin{Cluster: "n2", Path: "web/g.log", OpenPath: "web/_g.log.open", Partition: "dt=2026-11-22", Category: "web", Identity: ag1}, true)
	encodeMark(&b, kindStated, 2)
	encodeMark(&b, kindSealed, 2)
	var seed []byte
	from := 0
	for _, end := range b.ends {
		seed = append(append(seed, byte(end-from)), b.b[from:end]...)
		from = end
	}
	whole := cutUp(seed)
	f.Add(true, seed)
	f.Add(true, seed[:len(seed)/2])
	f.Add(false, whole)
	f.Add(false, whole[:len(whole)-9])
	f.Add(false, append(whole[:200:200], whole[208:]...))
	f.Add(false, []byte{})
	f.Fuzz(func(t *testing.T, verifies bool, content []byte) {
		if verifies {
			content = cutUp(content)
		}
		disk := memfs.New()
		if err := disk.MkdirAll("journal", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := vfs.ReplaceFile(disk, filepath.Join("journal", fileName(1, fuzzSalt)), content, 0o600); err != nil {
			t.Fatal(err)
		}
		var before []FileState
		var err error
		if n := allocated(func() { before, err = Read(disk, "journal") }); n > uint64(512*len(content))+8<<20 {
			t.Fatalf("%d bytes are taken for a journal of %d", n, len(content))
		}
		if err != nil {
			return // a newer program's
		}
		consistent(t, before)
		j, states, err := Open(disk, "journal", options())
		if err != nil {
			t.Fatal(err)
		}
		if told(states) != told(before) {
			t.Fatalf("a start is told\n%swho only reads\n%s", told(states), told(before))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := j.Close(ctx); err != nil {
			t.Fatal(err)
		}
		after, err := Read(disk, "journal")
		if err != nil || told(after) != told(before) {
			t.Fatalf("before the start\n%safter it, %v,\n%s", told(before), err, told(after))
		}
	})
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

// consistent checks what repair relies on.
func consistent(t *testing.T, states []FileState) {
	t.Helper()
	seen := make(map[fileKey]bool)
	for _, s := range states {
		key := fileKey{s.Begin.Cluster, s.Begin.OpenPath}
		if seen[key] {
			t.Fatalf("%v stands twice", key)
		}
		seen[key] = true
		if s.Torn != nil && *s.Torn < 0 {
			t.Fatalf("%v is torn at %d", key, *s.Torn)
		}
		var end int64
		for _, l := range s.Lines {
			if l.Offset < end || l.End < l.Offset || l.Last < l.First {
				t.Fatalf("%v has lines %s", key, spans(s.Lines))
			}
			end = l.End
		}
	}
}

// told is what states say, as text.
func told(states []FileState) string {
	text := ""
	for _, s := range states {
		torn := "not torn"
		if s.Torn != nil {
			torn = fmt.Sprintf("torn at %d", *s.Torn)
		}
		target := "no target"
		if s.Begin.Target != nil {
			target = fmt.Sprintf("target %+v", *s.Begin.Target)
		}
		s.Begin.Target = nil // its address says nothing
		text += fmt.Sprintf("%+v: %s, %s, %s\n", s.Begin, target, spans(s.Lines), torn)
	}
	return text
}
