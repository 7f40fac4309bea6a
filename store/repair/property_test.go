package repair

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store/catalog"
	"twinscribe/store/inventory"
	"twinscribe/store/journal"
)

// A writer is a chain that writes one file, and what journal and inventory are
// told of it, with everything that may go wrong up to kill -9.
type writer struct {
	next    uint64 // sequence
	data    []byte // on the nodes
	truth   map[uint64]string
	acked   []catalog.Line // acknowledged
	ackedAt int64

	journal bool // it works
	lines   []catalog.Line
	torn    *int64
	item    *catalog.Item

	over  bool
	lost  []string // messages that went elsewhere after the file had part of them
	half  []string // messages of the batch that was under way when the process died
	known bool     // that batch has a line
}

type act struct {
	Op       string
	Messages []string
	Part     int // of a batch that fails: per cent of its bytes that arrived
}

func drawAct(r *rapid.T) act {
	texts := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "bb", "line\nline", "\n", strings.Repeat("x", 700)}), 1, 4)
	return act{
		Op: rapid.SampledFrom([]string{"append", "append", "append", "append", "not tried", "publish", "publish",
			"journal fails", "journal works", "append fails", "append fails, seen by the inventory only", "killed"}).Draw(r, "op"),
		Messages: texts.Draw(r, "messages"),
		Part:     rapid.SampledFrom([]int{0, 30, 99, 100}).Draw(r, "part"),
	}
}

// batch makes the next messages, each of its own text.
func (w *writer) batch(texts []string) (catalog.Line, []byte, []string) {
	l := catalog.Line{Offset: w.ackedAt, First: w.next, Arrived: int64(w.next) * 1e9}
	var b bytes.Buffer
	var ends []uint32
	var whole []string
	for _, t := range texts {
		t = strings.TrimSuffix(fmt.Sprintf("%d:%s", w.next, t), "\n")
		w.truth[w.next] = t
		whole = append(whole, t)
		b.WriteString(t)
		b.WriteByte('\n')
		ends = append(ends, uint32(b.Len()))
		w.next++
	}
	l.Last, l.End = w.next-1, w.ackedAt+int64(b.Len())
	l.LineFeeds = catalog.LineFeeds(nil, b.Bytes(), ends, w.ackedAt)
	return l, b.Bytes(), whole
}

func (w *writer) note(l catalog.Line) {
	if w.journal {
		w.lines = append(w.lines, l)
	}
}

func (w *writer) snapshot(state string) {
	b := catalog.NewBuilder(catalog.Head{File: path.Base(begin(1).Path), Identity: dead, Chain: 3, Category: "web", Partition: hour00})
	b.Sum(w.data[:w.ackedAt])
	for i := range w.acked {
		b.Add(&w.acked[i])
	}
	m := b.Snapshot()
	w.item = &catalog.Item{Category: "web", Chain: 3, Place: "n1", Path: begin(1).Path, State: state,
		Bytes: m.Bytes, Messages: m.Messages, Ranges: m.Ranges, Manifest: m}
}

func (w *writer) do(a act) {
	switch a.Op {
	case "append":
		l, b, _ := w.batch(a.Messages)
		w.note(l)
		w.data = append(w.data, b...)
		w.acked, w.ackedAt = append(w.acked, l), l.End
	case "not tried": // the batch goes elsewhere, the file is intact
		l, _, _ := w.batch(a.Messages)
		w.note(l)
	case "publish":
		w.snapshot(catalog.StateOpen)
	case "journal fails":
		// Not between a batch that was not tried and the next one: the line then
		// stands for another batch of just this length, and nobody can tell.
		w.journal = w.journal && len(w.lines) > 0 && w.lines[len(w.lines)-1].End > w.ackedAt
	case "journal works": // it states again what is acknowledged
		if !w.journal {
			w.journal, w.lines = true, append([]catalog.Line(nil), w.acked...)
		}
	default:
		l, b, whole := w.batch(a.Messages)
		w.note(l)
		w.data = append(w.data, b[:len(b)*a.Part/100]...)
		w.over = true
		if a.Op == "killed" {
			w.half, w.known = whole, w.journal
			return
		}
		w.lost = whole
		if w.journal && a.Op == "append fails" {
			w.torn = &w.ackedAt
		} else {
			w.snapshot(catalog.StateTorn)
		}
	}
}

func TestRepairKeepsWhatWasAcknowledgedAndNothingThatWentElsewhere(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		acts := rapid.SliceOfN(rapid.Custom(drawAct), 1, 25).Draw(r, "acts")
		slow := rapid.Bool().Draw(r, "slow")
		var err error
		synctest.Test(t, func(bubble *testing.T) { err = repairHistory(bubble, acts, slow) })
		if err != nil {
			r.Fatal(err)
		}
	})
}

func repairHistory(t *testing.T, acts []act, slow bool) error {
	w := &writer{next: 1, journal: true, truth: make(map[uint64]string)}
	for _, a := range acts {
		if !w.over {
			w.do(a)
		}
	}
	world := newWorld(t)
	if slow {
		world.c.RecoverDelay, world.c.TruncateDelay = time.Second, time.Second
	}
	world.c.Leave(begin(1).OpenPath, w.data, int(w.ackedAt))
	world.states = []journal.FileState{{Begin: begin(1), Lines: w.lines, Torn: w.torn}}
	if w.item != nil {
		world.keeper.found = []inventory.Found{{Identity: dead, Partition: hour00, Item: *w.item}}
	}
	world.repair()
	if s := world.r.Stats(); s.Missing > 0 {
		return fmt.Errorf("an alarm about a file that lacks nothing: %+v", s)
	}
	if _, there := world.c.Has(manifestPath(1)); !there {
		if len(world.c.Paths()) > 0 || w.ackedAt > 0 {
			return fmt.Errorf("%d bytes were acknowledged, there are %v", w.ackedAt, world.c.Paths())
		}
		return nil
	}
	data, m, err := readSealed(world.c, 1)
	if err != nil {
		return err
	}
	return w.check(data, m)
}

func (w *writer) check(data []byte, m *catalog.Manifest) error {
	if !bytes.HasPrefix(data, w.data[:w.ackedAt]) || !bytes.HasPrefix(w.data, data) {
		return fmt.Errorf("%d bytes of %d are left, %d were acknowledged", len(data), len(w.data), w.ackedAt)
	}
	byNumber, err := messages(data, m)
	if err != nil {
		return err
	}
	end := int64(0)
	for _, r := range m.Ranges {
		if r.Offset != end {
			return fmt.Errorf("bytes %d to %d stand in no range", end, r.Offset)
		}
		end = r.End
		if r.Counted {
			continue
		}
		for n := r.First; n <= r.Last; n++ {
			if m.Chain != 3 || byNumber[n] != w.truth[n] {
				return fmt.Errorf("sequence %d of chain %d is %q, want %q", n, m.Chain, byNumber[n], w.truth[n])
			}
		}
	}
	if end != int64(len(data)) {
		return fmt.Errorf("the ranges end at %d of %d", end, len(data))
	}
	there := func(texts []string) (n int) {
		for _, text := range texts {
			if bytes.Contains(append([]byte{'\n'}, data...), []byte("\n"+text+"\n")) {
				n++
			}
		}
		return n
	}
	if n := there(w.lost); n > 0 {
		return fmt.Errorf("%d messages that went elsewhere are in the file", n)
	}
	if n := there(w.half); w.known && n != 0 && n != len(w.half) {
		return fmt.Errorf("%d of %d messages of the last batch are in the file", n, len(w.half))
	}
	return nil
}
