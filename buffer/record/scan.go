package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// A Record is one record whose checksums are right.
type Record struct {
	Offset int64 // of its header, in the file
	Number uint64
	Sum    uint32 // the body's checksum
	Body   []byte // valid until the function that got it returns
}

// End is the offset behind the record and its padding.
func (r Record) End() int64 { return r.Offset + Size(len(r.Body)) }

// A Damage is a run of bytes that are no record, or records that are missing,
// with a valid record behind them.
type Damage struct {
	From, To int64 // offsets; From = To where records are missing without a trace
	// MissingFirst to MissingLast are the numbers of the records that should
	// stand there; none where MissingLast < MissingFirst.
	MissingFirst, MissingLast uint64
	What                      string // the first thing that is wrong, for people
}

func (d Damage) String() string {
	s := fmt.Sprintf("bytes %d to %d: %s", d.From, d.To, d.What)
	if d.MissingLast >= d.MissingFirst {
		s += fmt.Sprintf("; records %d to %d are missing", d.MissingFirst, d.MissingLast)
	}
	return s
}

// A Report is what Scan found.
type Report struct {
	Records uint64
	First   uint64 // number of the first record, where there is one
	Next    uint64 // number that the next record would have
	End     int64  // offset where it would stand: behind the last valid record
	Sums    uint32 // CRC32C of the body checksums of all records, four bytes each
	Damage  []Damage

	// Tail is the number of bytes behind End. No valid record is among them: a
	// write that a crash cut off, the group that is being written at this
	// moment, or a last record that was damaged later, which nothing tells apart.
	Tail     int64
	TailWhat string // the first thing that is wrong there
	TailZero bool   // all of them are zero: space, not data
}

// ScanOptions say where the records are.
type ScanOptions struct {
	Salt  uint64
	From  int64  // offset of the first record; a multiple of Align
	First uint64 // its number; 0: whichever it has
	// Window is how many bytes are read, and held, at a time where a body is not
	// longer; 0: 1 MiB.
	Window int
}

// windowSize is how much is read at a time where a body is not longer, unless
// something else is asked for.
const windowSize = 1 << 20

// Scan reads the records of a file up to size and calls f for each whose
// checksums are right, in order. Where something else stands it goes on in
// steps of 8 bytes until a record verifies again: damage costs the records it
// hit and no others. A record whose number is not higher than all before it is
// damage too.
//
// Errors of r and of f end it and are returned, with the report so far. It
// allocates a body's length at most, and only after the header's checksum and
// the rest of the file have confirmed that length.
func Scan(r io.ReaderAt, size int64, o ScanOptions, f func(Record) error) (Report, error) {
	if o.Window <= 0 {
		o.Window = windowSize
	}
	s := scanner{w: window{r: r, size: size, room: o.Window}, salted: saltSum(o.Salt), at: o.From, size: size}
	s.report = Report{Next: o.First, End: o.From}
	for s.at < size {
		rec, bad, err := s.next()
		if err != nil {
			return s.report, err
		}
		if bad != "" {
			s.skip(bad)
			continue
		}
		s.accept(rec)
		if err := f(rec); err != nil {
			return s.report, err
		}
	}
	return s.report, s.finish()
}

type scanner struct {
	w      window
	salted uint32
	size   int64
	at     int64  // where the next record is looked for
	bad    string // what is wrong at report.End, where at is behind it
	report Report
}

// next reads the record at s.at; bad says why there is none.
func (s *scanner) next() (rec Record, bad string, err error) {
	rest := s.size - s.at
	if rest < HeaderSize+1 {
		return rec, "too short for a record", nil
	}
	h, err := s.w.bytes(s.at, HeaderSize)
	if err != nil {
		return rec, "", err
	}
	if binary.LittleEndian.Uint32(h) != magic {
		return rec, "no record begins here", nil
	}
	if binary.LittleEndian.Uint32(h[16:]) != crc32.Update(s.salted, table, h[:16]) {
		return rec, "the header's checksum is wrong", nil
	}
	length := int64(binary.LittleEndian.Uint32(h[4:]))
	number := binary.LittleEndian.Uint64(h[8:])
	sum := binary.LittleEndian.Uint32(h[20:])
	if length == 0 || length > MaxBody || HeaderSize+length > rest {
		return rec, fmt.Sprintf("a body of %d bytes in %d", length, rest), nil
	}
	if number < s.report.Next || number == math.MaxUint64 { // which has no successor
		return rec, fmt.Sprintf("record %d where %d is due", number, s.report.Next), nil
	}
	body, err := s.w.bytes(s.at+HeaderSize, int(length))
	if err != nil {
		return rec, "", err
	}
	if crc32.Update(bodySum(s.salted, number), table, body) != sum {
		return rec, "the body's checksum is wrong", nil
	}
	return Record{Offset: s.at, Number: number, Sum: sum, Body: body}, "", nil
}

func (s *scanner) skip(bad string) {
	if s.bad == "" {
		s.bad = bad
	}
	s.at += Align
}

func (s *scanner) accept(rec Record) {
	p := &s.report
	gap := rec.Number > p.Next && p.Next != 0
	if s.bad != "" || gap {
		if s.bad == "" {
			s.bad = "records are missing"
		}
		d := Damage{From: p.End, To: rec.Offset, MissingFirst: p.Next, MissingLast: rec.Number - 1, What: s.bad}
		if p.Next == 0 { // nobody knows what the first number was
			d.MissingFirst, d.MissingLast = 1, 0
		}
		p.Damage = append(p.Damage, d)
		s.bad = ""
	}
	if p.Records == 0 {
		p.First = rec.Number
	}
	p.Sums = AddSum(p.Sums, rec.Sum)
	p.Records++
	p.Next = rec.Number + 1
	// Where the file was cut inside the padding, End is behind the cut.
	p.End = rec.End()
	s.at = p.End
}

// finish describes what stands behind the last record.
func (s *scanner) finish() error {
	p := &s.report
	if p.End >= s.size {
		return nil
	}
	p.Tail, p.TailWhat, p.TailZero = s.size-p.End, s.bad, true
	for at, piece := p.End, int64(s.w.room); at < s.size && p.TailZero; at += piece {
		b, err := s.w.bytes(at, int(min(piece, s.size-at)))
		if err != nil {
			return err
		}
		p.TailZero = allZero(b)
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// window reads ahead through one buffer.
type window struct {
	r    io.ReaderAt
	size int64 // of the file
	room int   // how much is read at a time where no more is asked for
	at   int64 // offset of buf
	buf  []byte
}

// bytes gives n bytes from offset at on, which the file has. They are valid
// until the next call.
func (w *window) bytes(at int64, n int) ([]byte, error) {
	if at >= w.at && at+int64(n) <= w.at+int64(len(w.buf)) {
		return w.buf[at-w.at:][:n], nil
	}
	want := min(max(n, w.room), int(min(w.size-at, int64(1<<31))))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf = w.buf[:want]
	w.at = at
	got, err := w.r.ReadAt(w.buf, at)
	if got < n {
		w.buf = w.buf[:0]
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, at, err)
	}
	w.buf = w.buf[:got]
	return w.buf[:n], nil
}
