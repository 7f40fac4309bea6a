//go:build integration

package buffer

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

// A victim is a buffer that is to be damaged: its segments, and the records that were acknowledged.
type victim struct {
	segments []victimSegment
	records  map[uint64]*Record // by first sequence, none of them twice
}

type victimSegment struct {
	path    string
	content []byte
	spans   []span // of its records
}

type span struct {
	first    uint64
	from, to int64 // to is where the body ends: padding is no part of a record
}

// newVictim writes records, each what message gives for what the segment holds so far, and takes the
// directory as a stop leaves it, or a kill.
func newVictim(t *testing.T, records int, size int64, sealed bool, message func(n int, segment []byte) []byte) *victim {
	t.Helper()
	disk := memfs.New()
	o := options()
	o.SegmentBytes = size
	b, err := Open(disk, "/b", o)
	must(t, err)
	v := &victim{records: map[uint64]*Record{}}
	for i := range records {
		r := batch("web", uint64(3*i+1), 2)
		if message != nil {
			var sofar []byte
			if list := b.Segments(); len(list) > 0 {
				sofar, err = vfs.ReadFile(disk, list[len(list)-1].Path)
				must(t, err)
			}
			r.Data = append(r.Data, message(i, sofar)...)
			r.Data = append(r.Data, '\n')
			r.Ends = append(r.Ends, uint32(len(r.Data)))
		}
		add(t, b, Outage, r)
		c := clone(r)
		v.records[r.First] = &c
	}
	image := disk.Crash(nil)
	must(t, b.Close(context.Background()))
	if sealed {
		image = disk
	}
	for _, name := range image.Files() {
		if filepath.Ext(name) != extSegment {
			continue
		}
		content, err := vfs.ReadFile(image, name)
		must(t, err)
		s := victimSegment{path: name, content: content}
		list, report := read(t, image, name)
		if report.Damaged() || report.Tail > 0 {
			t.Fatalf("damaged before anything was done: %+v", report)
		}
		for i := range list {
			s.spans = append(s.spans, span{list[i].First, list[i].Offset, list[i].Offset + record.HeaderSize + int64(list[i].bodySize())})
		}
		v.segments = append(v.segments, s)
	}
	return v
}

// copied are the contents of the segments, to be spoilt.
func (v *victim) copied() [][]byte {
	c := make([][]byte, len(v.segments))
	for i, s := range v.segments {
		c[i] = bytes.Clone(s.content)
	}
	return c
}

// A tally counts what came of the attacks of one kind.
type tally struct {
	t      *testing.T
	v      *victim
	start  int // the next start is tried for each start-th attack
	tried  int
	starts int
	hit    int // attacks that cost a record
	lost   int // acknowledged records that were not touched and are gone
	silent int // attacks that cost a record, and nothing says so
	forged int // records that nobody wrote, or not so, or twice in a segment
	panics int
	edges  int // cuts after which a segment is whole and shorter: nothing in it can tell
}

func (c *tally) report(what string) {
	c.t.Helper()
	edges := ""
	if c.edges > 0 {
		edges = fmt.Sprintf(" (%d cut between records)", c.edges)
	}
	c.t.Logf("table: 4 | %s | %d tried, %d started on; hit a record %d%s; others lost %d, silent %d, panics %d, forged %d",
		what, c.tried, c.starts, c.hit, edges, c.lost, c.silent, c.panics, c.forged)
	if c.tried == 0 || c.starts == 0 || c.hit == 0 {
		c.t.Errorf("%s: nothing was tried, or nothing was hit", what)
	}
	if c.lost+c.silent+c.forged+c.panics > 0 {
		c.t.Errorf("%s: lost %d, silent %d, forged %d, panics %d, want none", what, c.lost, c.silent, c.forged, c.panics)
	}
}

// attack puts contents in the place of the segments' own, reads them, starts a server's buffer on
// them, and reads again. touched says which bytes of a segment are not what was written.
func (c *tally) attack(what string, contents [][]byte, edge bool, touched func(segment int, s span) bool) {
	defer func() {
		if p := recover(); p != nil {
			if c.panics++; c.panics < 5 {
				c.t.Errorf("%s: panic: %v", what, p)
			}
		}
	}()
	c.tried++
	image := memfs.New()
	must(c.t, image.MkdirAll("/b", 0o700))
	due, all := map[uint64]bool{}, 0
	for i, s := range c.v.segments {
		put(c.t, image, s.path, contents[i])
		for _, r := range s.spans {
			if all++; !touched(i, r) {
				due[r.first] = true
			}
		}
	}
	got, told := c.readAll(what, image)
	if len(got) < all {
		c.hit++
		if edge && !told {
			c.edges++
		}
	}
	c.judge(what, due, all, got, told, edge)
	if c.tried%c.start != 0 {
		return
	}
	c.starts++
	o := options()
	next(&o)
	b, err := Open(image, "/b", o)
	if err != nil {
		c.lost += len(due)
		c.t.Errorf("%s: the next start: %v", what, err)
		return
	}
	for more := true; more; {
		_, more = b.verifyOne(context.Background())
	}
	s := b.Stats()
	must(c.t, b.Close(context.Background()))
	found, _ := c.readAll(what+", after a start", image)
	c.judge(what+", after a start", due, all, found, s.Damaged > 0 || s.TornTails > 0 || s.MissingRecords > 0, edge)
}

func (c *tally) readAll(what string, image vfs.FS) (got map[uint64]bool, told bool) {
	list, err := List(image, "/b")
	must(c.t, err)
	got = map[uint64]bool{}
	for _, s := range list {
		here := map[uint64]bool{}
		report, err := ReadSegment(image, s.Path, func(r *Record) error {
			w, known := c.v.records[r.First]
			if !known || here[r.First] || !same(r, w) {
				if c.forged++; c.forged < 5 {
					c.t.Errorf("%s: record %d, sequence %d is none that was written: %.100q", what, r.Number, r.First, r.Data)
				}
			}
			here[r.First], got[r.First] = true, true
			return nil
		})
		must(c.t, err)
		told = told || report.Damaged() || report.Tail > 0
	}
	return got, told
}

// same compares what the buffer was given.
func same(a, b *Record) bool {
	return a.Category == b.Category && a.Partition == b.Partition && a.Chain == b.Chain && a.First == b.First && a.Arrived == b.Arrived &&
		a.Note == b.Note && bytes.Equal(a.Data, b.Data) && slices.Equal(a.Ends, b.Ends) &&
		len(a.IDs) == len(b.IDs) && (len(a.IDs) == 0 || reflect.DeepEqual(a.IDs, b.IDs))
}

func (c *tally) judge(what string, due map[uint64]bool, all int, got map[uint64]bool, told, edge bool) {
	for first := range due {
		if !got[first] {
			if c.lost++; c.lost < 5 {
				c.t.Errorf("%s: the record of sequence %d was not touched and is gone", what, first)
			}
		}
	}
	if len(got) == all || told || edge {
		return
	}
	if c.silent++; c.silent < 5 {
		c.t.Errorf("%s: %d of %d records are left, and nothing says so", what, len(got), all)
	}
}

// stride is how many attacks there are to one that the short form tries.
func stride(short int) int {
	if testing.Short() {
		return short
	}
	return 1
}

func overlaps(from, to int) func(int, span) bool {
	return func(_ int, s span) bool { return s.from < int64(to) && s.to > int64(from) }
}

// Each bit of a segment of 50 records is flipped, each length is cut, each block is zeroed: what was
// not hit is read, before and after the next start, and what is missing is told.
func TestProve4Damage(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		kind := map[bool]string{false: "open", true: "sealed"}[sealed]
		v := newVictim(t, 50, 0, sealed, nil)
		if len(v.segments) != 1 || len(v.segments[0].spans) != 50 {
			t.Fatalf("%d segments", len(v.segments))
		}
		content := v.segments[0].content
		size := len(content)

		flips := &tally{t: t, v: v, start: stride(4)}
		hurt := v.copied()
		for bit := 0; bit < 8*size; bit += stride(23) {
			hurt[0][bit/8] ^= 1 << (bit % 8)
			flips.attack(fmt.Sprintf("%s, bit %d of byte %d", kind, bit%8, bit/8), hurt, false, overlaps(bit/8, bit/8+1))
			hurt[0][bit/8] ^= 1 << (bit % 8)
		}
		flips.report(fmt.Sprintf("%s segment of 50 records: a bit flipped, each of %d", kind, 8*size))

		cuts := &tally{t: t, v: v, start: 1}
		edges := map[int]bool{}
		for _, s := range v.segments[0].spans {
			edges[int(s.from)] = true
			for at := s.to; at < s.to+8; at++ {
				edges[int(at)] = true // inside the padding
			}
		}
		for cut := 0; cut < size; cut += stride(7) {
			whole := cut <= record.FileHeaderSize || edges[cut]
			cuts.attack(fmt.Sprintf("%s, cut at %d", kind, cut), [][]byte{content[:cut]}, whole, overlaps(cut, size))
		}
		cuts.report(fmt.Sprintf("%s segment: cut at each of %d lengths", kind, size))

		zeros := &tally{t: t, v: v, start: 1}
		for _, block := range []int{512, 4096} {
			for from := 0; from < size; from += pickStep(block) {
				hurt := v.copied()
				clear(hurt[0][from:min(from+block, size)])
				zeros.attack(fmt.Sprintf("%s, %d zeros at %d", kind, block, from), hurt, false, overlaps(from, from+block))
			}
		}
		zeros.report(kind + " segment: blocks of 512 and 4096 bytes zeroed, in steps of 8")
	}
}

// pickStep is the distance of the blocks that are zeroed: also those that a disk does not have.
func pickStep(block int) int {
	if testing.Short() {
		return block / 4
	}
	return 8
}

// Each pair of segments is exchanged by name, and each of their blocks, as misdirected writes do.
func TestProve4Swap(t *testing.T) {
	v := newVictim(t, 50, 1200, true, nil)
	names := &tally{t: t, v: v, start: 1}
	blocks := &tally{t: t, v: v, start: 1}
	for i := range v.segments {
		for j := range i {
			c := v.copied()
			c[i], c[j] = c[j], c[i]
			names.attack(fmt.Sprintf("segments %d and %d exchanged", i, j), c, false, func(int, span) bool { return false })
			for from := 0; from < min(len(c[i]), len(c[j])); from += 512 {
				c := v.copied()
				n := min(from+512, len(c[i]), len(c[j]))
				part := bytes.Clone(c[i][from:n])
				copy(c[i][from:n], c[j][from:n])
				copy(c[j][from:n], part)
				blocks.attack(fmt.Sprintf("block at %d of segments %d and %d exchanged", from, i, j), c, false, func(k int, s span) bool {
					return (k == i || k == j) && overlaps(from, n)(k, s)
				})
			}
		}
	}
	// Exchanged names cost nothing: a record less is what the last row is about.
	t.Logf("table: 4 | each pair of %d segments exchanged by name | %d tried; records lost %d, panics %d, forged %d",
		len(v.segments), names.tried, names.lost+names.hit, names.panics, names.forged)
	if names.tried < 10 || names.lost+names.hit+names.panics+names.forged > 0 {
		t.Errorf("exchanged by name: %+v", *names)
	}
	blocks.report(fmt.Sprintf("each block of 512 bytes exchanged between each pair of %d segments", len(v.segments)))
}

// Messages hold copies of what segments are made of, at every alignment, while the records around
// them are damaged, so that a reader that looks for the next record runs through them.
func TestProve4Copies(t *testing.T) {
	other := newVictim(t, 5, 0, true, nil).segments[0]
	foreign := uint64(0x1122334455667788)
	message := func(n int, sofar []byte) []byte {
		m := bytes.Repeat([]byte{'.'}, n%8) // every alignment
		switch n / 8 % 6 {
		case 0: // this segment from its beginning: header and first records
			return append(m, sofar[:min(len(sofar), 700)]...)
		case 1: // the records before this one
			return append(m, sofar[max(0, len(sofar)-700):]...)
		case 2: // another segment, whole, with its footer
			return append(m, other.content...)
		case 3: // the next record, as a stranger would have it
			return record.AppendRecord(m, foreign, uint64(n+2), []byte("forged"))
		case 4: // index and trailer of the other one
			return append(m, other.content[other.spans[4].to:]...)
		default: // a batch's body that is right, under a number that comes
			body := other.content[other.spans[0].from+record.HeaderSize : other.spans[0].to]
			return record.AppendRecord(m, foreign, uint64(n+2), body)
		}
	}
	for _, sealed := range []bool{false, true} {
		v := newVictim(t, 50, 0, sealed, message)
		if len(v.segments) != 1 {
			t.Fatalf("%d segments", len(v.segments))
		}
		kind := map[bool]string{false: "open", true: "sealed"}[sealed]
		size := len(v.segments[0].content)
		c := &tally{t: t, v: v, start: 5}
		hurt := v.copied()
		for _, s := range v.segments[0].spans {
			for bit := 8 * s.from; bit < 8*(s.from+record.HeaderSize); bit += int64(stride(11)) {
				hurt[0][bit/8] ^= 1 << (bit % 8)
				c.attack(fmt.Sprintf("bit %d of the header of record %d", bit-8*s.from, s.first), hurt, false, overlaps(int(bit/8), int(bit/8)+1))
				hurt[0][bit/8] ^= 1 << (bit % 8)
			}
		}
		c.report(fmt.Sprintf("%s, messages are copies of segments: each bit of %d record headers flipped", kind, len(v.segments[0].spans)))
		c = &tally{t: t, v: v, start: 5}
		for from := 0; from < size; from += 64 * stride(4) {
			hurt := v.copied()
			clear(hurt[0][from:min(from+512, size)])
			c.attack(fmt.Sprintf("zeros at %d", from), hurt, false, overlaps(from, from+512))
			cut := v.segments[0].content[:from]
			edge := from <= record.FileHeaderSize || slices.ContainsFunc(v.segments[0].spans, func(s span) bool { return int64(from) == s.from })
			c.attack(fmt.Sprintf("cut at %d", from), [][]byte{cut}, edge, overlaps(from, size))
		}
		c.report(kind + ", messages are copies of segments: blocks zeroed, and cut, in steps of 64")
	}
}
