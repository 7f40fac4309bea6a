package reader

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
)

// A writer plays one chain: what it acknowledges must be read, once, in order.
type writer struct {
	*rapid.T
	w        *world
	base     spec // without its batches
	files    *uint32
	segments *uint32
	next     uint64
	cur      *spec
	acked    batch
	spilled  []stored
}

func (p *writer) batch() batch {
	p.next += rapid.SampledFrom([]uint64{0, 0, 0, 3}).Draw(p.T, "gap") // withdrawn ones
	b := batch{first: p.next}
	for i := range rapid.IntRange(1, 5).Draw(p.T, "messages") {
		b.messages = append(b.messages, fmt.Sprintf("%s/%d/%d", p.base.category, p.base.chain, b.first+uint64(i)))
	}
	p.next = b.last() + 1
	return b
}

// file is the open file, a new one if need be.
func (p *writer) file() *spec {
	if p.cur == nil {
		*p.files++
		s := p.base
		s.cluster = rapid.SampledFrom([]string{"n1", "n2"}).Draw(p.T, "cluster")
		s.number, s.batches = *p.files, nil
		p.cur = &s
	}
	return p.cur
}

func (p *writer) ack(b batch) { p.acked.messages = append(p.acked.messages, b.messages...) }

// step acknowledges one batch, somewhere.
func (p *writer) step() {
	b := p.batch()
	if p.base.chain%2 == 0 && rapid.Bool().Draw(p.T, "line feed") { // chains that are never counted by lines
		b.messages[0] += "\nand more"
	}
	switch rapid.SampledFrom([]string{"append", "append", "append", "rotate", "spill", "fail"}).Draw(p.T, "how") {
	case "append":
		f := p.file()
		f.batches = append(f.batches, b)
	case "rotate":
		p.seal("size")
		f := p.file()
		f.batches = append(f.batches, b)
	case "spill":
		p.spill(b)
	case "fail":
		p.fail(b)
	}
	p.ack(b)
}

func (p *writer) seal(reason string) {
	if p.cur == nil || len(p.cur.batches) == 0 {
		return
	}
	p.cur.reason = reason
	p.w.sealed(*p.cur)
	p.cur = nil
}

// spill puts a batch into the segment, and a copy of it on a cluster where it
// was shipped before the segment was removed.
func (p *writer) spill(b batch) {
	p.spilled = append(p.spilled, stored{p.base.category, p.base.chain, p.base.partition, b})
	if rapid.Bool().Draw(p.T, "shipped") {
		*p.segments++
		s := p.base
		s.cluster, s.number, s.segment, s.reason, s.batches = "n2", s.chain, *p.segments, "ship", []batch{b}
		p.w.sealed(s)
	}
}

// fail writes a batch to the open file, where it is not acknowledged, and then
// elsewhere.
func (p *writer) fail(b batch) {
	f := p.file()
	good := len(f.batches)
	f.batches = append(f.batches, b)
	how := []string{"torn", "cut", "kept"}
	// Lines of a file with a gap cannot be told apart by counting: those are
	// given out a second time and told, as TestACountedRangeEndsWhereTheNextOneOfItsChainBegins has it.
	if p.base.chain%2 == 1 && good > 0 && f.batches[0].first+uint64(countOf(f.batches)) == b.last()+1 {
		how = append(how, "counted")
	}
	switch rapid.SampledFrom(how).Draw(p.T, "what became of the file") {
	case "torn":
		f.kept = good
		if rapid.Bool().Draw(p.T, "half of it") { // of what was never acknowledged
			f.batches[good] = batch{first: b.first, messages: []string{b.messages[0][:2]}}
		}
		p.w.unsealed(*f, catalog.StateTorn)
	case "cut":
		f.batches = f.batches[:good]
		if good > 0 {
			f.reason = "repair"
			p.w.sealed(*f)
		}
	case "kept": // the journal tells of it, and not that it failed
		f.reason = "repair"
		p.w.sealed(*f)
	case "counted": // nothing tells of the file but where it begins
		f.reason = "repair"
		f.batches = []batch{asLines(f.batches[0].first, f.batches...)}
		p.w.sealed(*f)
	}
	p.cur = nil
	if rapid.Bool().Draw(p.T, "then to the buffer") {
		p.spill(b)
		return
	}
	f = p.file()
	f.batches = append(f.batches, b)
}

func countOf(list []batch) (n int) {
	for _, b := range list {
		n += len(b.messages)
	}
	return n
}

func (p *writer) end() {
	switch {
	case p.cur == nil || len(p.cur.batches) == 0:
	case rapid.Bool().Draw(p.T, "sealed at the end"):
		p.seal("stop")
	default:
		p.cur.kept = len(p.cur.batches)
		if rapid.Bool().Draw(p.T, "more than published") { // within visible_within
			p.cur.batches = append(p.cur.batches, p.batch())
		}
		p.w.unsealed(*p.cur, rapid.SampledFrom([]string{catalog.StateOpen, catalog.StateSealing}).Draw(p.T, "state"))
	}
}

func TestEveryAcknowledgedMessageIsReadOnceAndInOrder(t *testing.T) {
	root := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		folder := filepath.Join(root, fmt.Sprint(runs))
		w := newWorld(t, folder)
		defer func() {
			w.close()
			w.must(os.RemoveAll(folder))
		}()
		var files, segments uint32
		var writers []*writer
		for chain := range uint32(rapid.IntRange(1, 3).Draw(t, "chains")) {
			id := rapid.SampledFrom([]catalog.Identity{ag1, ag2}).Draw(t, "identity")
			writers = append(writers, &writer{T: t, w: w, next: 1, files: &files, segments: &segments,
				base: spec{category: fmt.Sprint("c", chain), partition: hour10, id: id, chain: chain, kept: -1}})
		}
		for range rapid.IntRange(0, 12).Draw(t, "batches") {
			rapid.SampledFrom(writers).Draw(t, "writer").step()
		}
		bySegment := make(map[catalog.Identity][]stored)
		for _, p := range writers {
			p.end()
			bySegment[p.base.id] = append(bySegment[p.base.id], p.spilled...)
		}
		for id, list := range bySegment {
			w.member(id, 0)
			if len(list) > 0 {
				w.segmentItems(id, w.segmentOf(id, buffer.Spill, list...), catalog.StateSegment)
			}
		}
		w.inventories(rapid.SampledFrom([][]string{{"n1"}, {"n2"}, {"n1", "n2"}}).Draw(t, "inventories")...)

		got, report := w.read(Query{})
		w.wantUncounted(report)
		var want string
		for _, p := range writers { // their categories are in this order
			data, _ := p.acked.text()
			want += string(data)
		}
		if text := texts(got); text != want {
			t.Fatalf("read gives\n%swant\n%s", text, want)
		}
	})
}
