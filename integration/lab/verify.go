package lab

import (
	"bufio"
	"fmt"
	"io"
	"testing"
)

// Books compares what was acknowledged with what was read back.
type Books struct {
	Read                  int
	Lost, Twice, Disorder int
	Strange               int // lines that nobody sent
	Extra                 int // of unknown fate, found: allowed
	First                 string
}

// String is one line for people.
func (b Books) String() string {
	return fmt.Sprintf("read %d, acknowledged lost %d, twice %d, out of order %d, never sent %d, of unknown fate found %d",
		b.Read, b.Lost, b.Twice, b.Disorder, b.Strange, b.Extra)
}

// Verify reads lines as Line made them and holds them against the clients' histories. With
// ordered, each client's messages must come in their order within the stream.
func Verify(t testing.TB, r io.Reader, hs []*History, size int, ordered bool) Books {
	t.Helper()
	var b Books
	seen := make([][]uint8, len(hs))
	last := make([]int, len(hs))
	for i, h := range hs {
		seen[i], last[i] = make([]uint8, h.Sent), -1
	}
	s := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := s.ReadSlice('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil {
			t.Fatalf("reading back: %v after %d lines", err, b.Read)
		}
		b.Read++
		line = line[:len(line)-1]
		client, n, ok := ParseLine(line)
		if !ok || client >= len(hs) || n >= len(seen[client]) || string(line) != string(Line(client, n, size)) {
			if b.Strange++; b.First == "" {
				b.First = fmt.Sprintf("line %d: %.80q", b.Read, line)
			}
			continue
		}
		if seen[client][n]++; seen[client][n] > 1 {
			if b.Twice++; b.First == "" {
				b.First = fmt.Sprintf("twice: %.40q", line)
			}
		}
		if ordered && n < last[client] {
			if b.Disorder++; b.First == "" {
				b.First = fmt.Sprintf("out of order: %.40q after %d", line, last[client])
			}
		}
		last[client] = max(last[client], n)
	}
	for i, h := range hs {
		for _, n := range h.Unknown {
			if seen[i][n] > 0 {
				b.Extra++
				seen[i][n] = 255
			} else {
				seen[i][n] = 254 // may be missing
			}
		}
		for n, c := range seen[i] {
			if c == 0 {
				if b.Lost++; b.First == "" {
					b.First = fmt.Sprintf("lost: client %d message %d", i, n)
				}
			}
		}
	}
	return b
}

// MustBalance fails the test unless everything acknowledged is there once.
func (b Books) MustBalance(t testing.TB) {
	t.Helper()
	if b.Lost+b.Twice+b.Disorder+b.Strange > 0 {
		t.Errorf("the books do not balance: %v; first: %s", b, b.First)
	}
}
