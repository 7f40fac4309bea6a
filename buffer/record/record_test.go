package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
)

const salt = 0x0123456789abcdef

// body is the body of record i of the test file: of every length modulo 8.
func body(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 1+(i*37)%120) }

// file is n records behind a header's room, and where each of them begins.
func file(n int) (b []byte, offsets []int64) {
	b = make([]byte, FileHeaderSize)
	for i := range n {
		offsets = append(offsets, int64(len(b)))
		b = AppendRecord(b, salt, uint64(i+1), body(i)[:len(body(i))/2], body(i)[len(body(i))/2:])
	}
	return b, append(offsets, int64(len(b)))
}

func scan(t testing.TB, b []byte) (numbers []uint64, report Report) {
	t.Helper()
	report, err := Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{Salt: salt, From: FileHeaderSize, First: 1}, func(r Record) error {
		if !bytes.Equal(r.Body, body(int(r.Number)-1)) {
			t.Fatalf("record %d verified with body %.20q", r.Number, r.Body)
		}
		numbers = append(numbers, r.Number)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return numbers, report
}

func upTo(n int) (all []uint64) {
	for i := range n {
		all = append(all, uint64(i+1))
	}
	return all
}

func TestRecordsComeBackInOrder(t *testing.T) {
	b, offsets := file(50)
	if len(b)%Align != 0 {
		t.Fatalf("a file of %d bytes is not aligned", len(b))
	}
	numbers, report := scan(t, b)
	if !slices.Equal(numbers, upTo(50)) || len(report.Damage) != 0 || report.Tail != 0 {
		t.Fatalf("%v, %+v", numbers, report)
	}
	if report.Records != 50 || report.First != 1 || report.Next != 51 || report.End != offsets[50] {
		t.Fatalf("%+v", report)
	}
	var sums uint32
	for i := range 50 {
		var h [HeaderSize]byte
		sums = AddSum(sums, PutHeader(h[:], salt, uint64(i+1), body(i)))
		if !bytes.Equal(h[:], b[offsets[i]:][:HeaderSize]) {
			t.Fatalf("PutHeader and AppendRecord differ at record %d", i+1)
		}
	}
	if sums != report.Sums {
		t.Fatalf("Sums = %08x, want %08x", report.Sums, sums)
	}
}

// TestEveryCutKeepsTheRecordsBeforeIt cuts a file at every offset: nothing
// before the cut is lost, nothing is called damage, the tail is told exactly.
func TestEveryCutKeepsTheRecordsBeforeIt(t *testing.T) {
	b, offsets := file(50)
	for cut := FileHeaderSize; cut <= len(b); cut++ {
		whole := 0
		for whole < 50 && offsets[whole]+HeaderSize+int64(len(body(whole))) <= int64(cut) {
			whole++
		}
		numbers, report := scan(t, b[:cut])
		if !slices.Equal(numbers, upTo(whole)) || len(report.Damage) != 0 {
			t.Fatalf("cut at %d: %v, %v", cut, numbers, report.Damage)
		}
		if want := max(0, int64(cut)-offsets[whole]); report.Tail != want || report.End != offsets[whole] {
			t.Fatalf("cut at %d: tail %d at %d, want %d at %d", cut, report.Tail, report.End, want, offsets[whole])
		}
	}
}

// TestEveryFlippedBitCostsOneRecordAtMost flips every bit of a file: only the
// record it is in may be missing, and that is said.
func TestEveryFlippedBitCostsOneRecordAtMost(t *testing.T) {
	b, offsets := file(50)
	flips, lost, harmless := 0, 0, 0
	for i := range 50 {
		end := offsets[i] + HeaderSize + int64(len(body(i)))
		for at := offsets[i]; at < offsets[i+1]; at++ {
			for bit := range 8 {
				flips++
				b[at] ^= 1 << bit
				numbers, report := scan(t, b)
				b[at] ^= 1 << bit
				if at >= end { // padding
					harmless++
					if len(numbers) != 50 || len(report.Damage) != 0 {
						t.Fatalf("padding at %d: %v", at, report)
					}
					continue
				}
				want := slices.Delete(upTo(50), i, i+1)
				if !slices.Equal(numbers, want) {
					t.Fatalf("bit %d of byte %d in record %d: left are %v", bit, at, i+1, numbers)
				}
				lost++
				if i == 49 {
					if len(report.Damage) != 0 || report.Tail != offsets[50]-offsets[49] {
						t.Fatalf("the last record, byte %d: %+v", at, report)
					}
					continue
				}
				if len(report.Damage) != 1 {
					t.Fatalf("record %d, byte %d: %v", i+1, at, report.Damage)
				}
				d := report.Damage[0]
				if d.From != offsets[i] || d.To != offsets[i+1] || d.MissingFirst != uint64(i+1) || d.MissingLast != uint64(i+1) || d.What == "" {
					t.Fatalf("record %d, byte %d: %v", i+1, at, d)
				}
			}
		}
	}
	t.Logf("flips=%d records_lost=%d harmless=%d", flips, lost, harmless)
}

// TestEveryZeroedBlockCostsTheRecordsItTouches zeroes each block of 512 bytes,
// and each of 64.
func TestEveryZeroedBlockCostsTheRecordsItTouches(t *testing.T) {
	for _, size := range []int{512, 64} {
		b, offsets := file(50)
		for from := FileHeaderSize; from < len(b); from += size {
			hurt := bytes.Clone(b)
			to := min(from+size, len(b))
			clear(hurt[from:to])
			var want []uint64
			for i := range 50 {
				end := offsets[i] + HeaderSize + int64(len(body(i)))
				if end <= int64(from) || offsets[i] >= int64(to) {
					want = append(want, uint64(i+1))
				}
			}
			numbers, report := scan(t, hurt)
			if !slices.Equal(numbers, want) {
				t.Fatalf("zeroes at %d: left are %v, want %v", from, numbers, want)
			}
			missing := 50 - len(numbers)
			for _, d := range report.Damage {
				missing -= int(d.MissingLast - d.MissingFirst + 1)
			}
			if report.Tail > 0 {
				missing -= 50 - int(report.Next) + 1
			}
			if missing != 0 {
				t.Fatalf("zeroes at %d: %d records are missing without a word: %+v", from, missing, report)
			}
		}
	}
}

func TestRecordsOfAnotherFileNeverVerify(t *testing.T) {
	foreign := AppendRecord(nil, salt+1, 3, []byte("of another file"))
	b, _ := file(2)
	b = append(b, foreign...)
	b = AppendRecord(b, salt, 3, body(2))
	numbers, report := scan(t, b)
	if !slices.Equal(numbers, upTo(3)) || len(report.Damage) != 1 {
		t.Fatalf("%v, %+v", numbers, report)
	}
	if d := report.Damage[0]; d.To-d.From != int64(len(foreign)) || d.MissingLast >= d.MissingFirst {
		t.Fatalf("%+v", d)
	}
}

// TestForgedRecordsInABodyAreNotRead hides whole records in a body, one of a
// foreign salt and a copy of an earlier one of this file, and then breaks the
// body around them.
func TestForgedRecordsInABodyAreNotRead(t *testing.T) {
	b, offsets := file(2)
	var carrier []byte
	carrier = AppendRecord(carrier, salt+1, 9, []byte("forged"))
	carrier = append(carrier, b[offsets[0]:offsets[1]]...)
	carrier = AppendRecord(carrier, 0, 9, []byte("forged"))
	at := len(b)
	b = AppendRecord(b, salt, 3, carrier)
	after := len(b)
	b = AppendRecord(b, salt, 4, body(3))
	for hurt := at; hurt < after; hurt += 3 {
		c := bytes.Clone(b)
		c[hurt] ^= 0x10
		var numbers []uint64
		report, err := Scan(bytes.NewReader(c), int64(len(c)), ScanOptions{Salt: salt, From: FileHeaderSize, First: 1}, func(r Record) error {
			numbers = append(numbers, r.Number)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(numbers, []uint64{1, 2, 4}) || len(report.Damage) != 1 || report.Damage[0].MissingFirst != 3 {
			t.Fatalf("byte %d broken: read %v, %+v", hurt, numbers, report)
		}
	}
}

func TestGapsRepeatsAndSwapsAreDamage(t *testing.T) {
	b, o := file(6)
	part := func(i int) []byte { return b[o[i-1]:o[i]] }
	for _, test := range []struct {
		name    string
		order   []int
		want    []uint64
		damages int
	}{
		{"a record is missing", []int{1, 2, 4, 5}, []uint64{1, 2, 4, 5}, 1},
		{"the first is missing", []int{2, 3}, []uint64{2, 3}, 1},
		{"a record stands twice", []int{1, 2, 2, 3}, []uint64{1, 2, 3}, 1},
		{"an old one comes again", []int{1, 2, 3, 1, 4}, []uint64{1, 2, 3, 4}, 1},
		{"two are swapped", []int{1, 3, 2, 4}, []uint64{1, 3, 4}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := bytes.Clone(b[:FileHeaderSize])
			for _, i := range test.order {
				c = append(c, part(i)...)
			}
			numbers, report := scan(t, c)
			if !slices.Equal(numbers, test.want) || len(report.Damage) != test.damages {
				t.Fatalf("%v, %v", numbers, report.Damage)
			}
		})
	}
}

func TestTailOfZerosIsSpace(t *testing.T) {
	b, _ := file(3)
	_, report := scan(t, append(bytes.Clone(b), make([]byte, 3<<20)...))
	if report.Tail != 3<<20 || !report.TailZero {
		t.Fatalf("%+v", report)
	}
	_, report = scan(t, append(append(bytes.Clone(b), make([]byte, 2<<20)...), 1))
	if report.TailZero {
		t.Fatalf("%+v", report)
	}
}

func TestNumberOfTheFirstRecordMayBeUnknown(t *testing.T) {
	b := AppendRecord(make([]byte, 8), salt, 77, []byte("x"))
	b = AppendRecord(b, salt, 78, []byte("y"))
	report, err := Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{Salt: salt, From: 0}, func(Record) error { return nil })
	if err != nil || report.First != 77 || report.Next != 79 || len(report.Damage) != 1 || report.Damage[0].MissingLast >= report.Damage[0].MissingFirst {
		t.Fatalf("%+v, %v", report, err)
	}
}

func TestErrorsOfTheReaderAndTheFunctionEndTheScan(t *testing.T) {
	b, _ := file(3)
	boom := errors.New("boom")
	o := ScanOptions{Salt: salt, From: FileHeaderSize}
	if _, err := Scan(bytes.NewReader(b), int64(len(b)), o, func(Record) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("function: %v", err)
	}
	if _, err := Scan(bytes.NewReader(b[:100]), int64(len(b)), o, func(Record) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a file that is shorter than it was: %v", err)
	}
}

func TestBodiesLargerThanTheWindowComeBack(t *testing.T) {
	b := make([]byte, FileHeaderSize)
	sizes := []int{windowSize - HeaderSize, windowSize + 1, 3 << 20, 1, windowSize}
	for i, n := range sizes {
		b = AppendRecord(b, salt, uint64(i+1), bytes.Repeat([]byte{byte(i)}, n))
	}
	i := 0
	report, err := Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{Salt: salt, From: FileHeaderSize, First: 1}, func(r Record) error {
		if len(r.Body) != sizes[i] || r.Body[0] != byte(i) || r.End() != r.Offset+Size(sizes[i]) {
			return fmt.Errorf("record %d has %d bytes", i, len(r.Body))
		}
		i++
		return nil
	})
	if err != nil || i != len(sizes) || report.Tail != 0 {
		t.Fatal(err, i, report)
	}
}

func TestChecksumsAreThoseOfTheBytes(t *testing.T) {
	le := binary.LittleEndian
	h := make([]byte, HeaderSize)
	sum := PutHeader(h, salt, 0x1122334455667788, []byte("ab"), nil, []byte("c"))
	salted := le.AppendUint64(nil, salt)
	if want := Checksum(append(bytes.Clone(salted), h[:16]...)); le.Uint32(h[16:]) != want {
		t.Errorf("header check %08x, want %08x", le.Uint32(h[16:]), want)
	}
	want := Checksum(append(append(bytes.Clone(salted), h[8:16]...), "abc"...))
	if sum != want || le.Uint32(h[20:]) != want {
		t.Errorf("body check %08x and %08x, want %08x", sum, le.Uint32(h[20:]), want)
	}
	if got := SaltedChecksum(salt, []byte("abc")); got != Checksum(append(bytes.Clone(salted), "abc"...)) {
		t.Errorf("salted checksum %08x", got)
	}
	if got := AddSum(AddSum(0, 1), 0xdeadbeef); got != Checksum([]byte{1, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde}) {
		t.Errorf("sum of sums %08x", got)
	}
	if n := testing.AllocsPerRun(100, func() { PutHeader(h, salt, 1, salted) }); n != 0 {
		t.Errorf("a header costs %v allocations", n)
	}
}

func TestFileHeaderComesBack(t *testing.T) {
	h := FileHeader{Magic: "TESTFIL1", Flags: 3, Salt: salt, Start: 0x7f3c91d2, Number: 17, Epoch: 42, First: 1, Created: 1763800000000000000, Owner: "ag1"}
	b := h.Append(nil)
	if len(b) != FileHeaderSize {
		t.Fatalf("%d bytes", len(b))
	}
	got, owner, err := ParseFileHeader(b, "TESTFIL1")
	if err != nil || !owner.Is("ag1") || owner.Is("ag2") {
		t.Fatalf("%v, owner %v", err, owner)
	}
	h.Owner = ""
	if got != h {
		t.Fatalf("%+v, want %+v", got, h)
	}
	for at := range b {
		for bit := range 8 {
			b[at] ^= 1 << bit
			if _, _, err := ParseFileHeader(b, "TESTFIL1"); !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, at, err)
			}
			b[at] ^= 1 << bit
		}
	}
	for cut := range b {
		if _, _, err := ParseFileHeader(b[:cut], "TESTFIL1"); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	if _, _, err := ParseFileHeader(b, "OTHERFIL"); !errors.Is(err, ErrDamaged) {
		t.Fatalf("another magic: %v", err)
	}
	binary.LittleEndian.PutUint16(b[8:], Version+1)
	binary.LittleEndian.PutUint32(b[60:], Checksum(b[:60]))
	if _, _, err := ParseFileHeader(b, "TESTFIL1"); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 2") {
		t.Fatalf("a newer version: %v", err)
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

func FuzzScan(f *testing.F) {
	b, offsets := file(6)
	f.Add(b, uint64(1))
	f.Add(b[:offsets[3]+5], uint64(0))
	f.Add(b[offsets[2]:], uint64(1))
	swapped := append(bytes.Clone(b[:offsets[1]]), b[offsets[2]:]...)
	f.Add(append(swapped, b[offsets[1]:offsets[2]]...), uint64(1))
	f.Add(bytes.Repeat([]byte{0x31, 0x53, 0x43, 0x52}, 100), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, first uint64) {
		var seen, last uint64
		var at int64
		var report Report
		var err error
		took := allocated(func() {
			report, err = Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{Salt: salt, First: first}, func(Record) error { return nil })
		})
		if err != nil || took > uint64(4*len(b))+4<<20 {
			t.Fatalf("%v; %d bytes are taken for a file of %d", err, took, len(b))
		}
		report, err = Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{Salt: salt, First: first}, func(r Record) error {
			if seen > 0 && (r.Number <= last || r.Offset < at) || r.Offset%Align != 0 || len(r.Body) == 0 {
				t.Fatalf("record %d at %d after %d at %d", r.Number, r.Offset, last, at)
			}
			again := AppendRecord(nil, salt, r.Number, r.Body)
			if n := min(len(again), len(b)-int(r.Offset)); !bytes.Equal(again[:HeaderSize+len(r.Body)], b[r.Offset:][:HeaderSize+len(r.Body)]) || n < HeaderSize {
				t.Fatalf("record %d at %d is not what a writer writes", r.Number, r.Offset)
			}
			seen, last, at = seen+1, r.Number, r.End()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		covered := report.Tail
		for _, d := range report.Damage {
			covered += d.To - d.From
		}
		if report.Records != seen || covered < 0 || covered > int64(len(b)) {
			t.Fatalf("%+v of %d bytes, %d records", report, len(b), seen)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	for _, size := range []int{200, 64 << 10} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			data := make([]byte, FileHeaderSize)
			for i := 0; len(data) < 16<<20; i++ {
				data = AppendRecord(data, salt, uint64(i+1), bytes.Repeat([]byte{'x'}, size))
			}
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Scan(bytes.NewReader(data), int64(len(data)), ScanOptions{Salt: salt, From: FileHeaderSize, First: 1}, func(Record) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPutHeader(b *testing.B) {
	var h [HeaderSize]byte
	for _, size := range []int{200, 64 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				PutHeader(h[:], salt, 1, p)
			}
		})
	}
}
