package inventory

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store/catalog"
)

// A step of a history. The numbers are taken modulo what there is.
type step struct {
	Op, Start, Part, File int
	State                 string
	Seconds, Pause        int // ms
	Seen                  bool
}

func drawStep(r *rapid.T) step {
	return step{
		Op:      rapid.IntRange(0, 11).Draw(r, "op"),
		Start:   rapid.IntRange(0, 3).Draw(r, "start"),
		Part:    rapid.IntRange(0, 2).Draw(r, "partition"),
		File:    rapid.IntRange(1, 6).Draw(r, "file"),
		State:   rapid.SampledFrom([]string{catalog.StateOpen, catalog.StateSealed, catalog.StateSealed, catalog.StateTorn}).Draw(r, "state"),
		Seconds: rapid.IntRange(0, 7200).Draw(r, "seconds"),
		Pause:   rapid.SampledFrom([]int{0, 0, 0, 500, 3000, 6000}).Draw(r, "pause"),
		Seen:    rapid.Bool().Draw(r, "seen"),
	}
}

// Whatever happens in between, as soon as both clusters are there they hold
// what was put last, under the same counter.
func TestInventoriesAreRightOnceBothClustersAreThere(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 40).Draw(r, "steps")
		var err error
		synctest.Test(t, func(bubble *testing.T) { err = history(bubble, steps) })
		if err != nil {
			r.Fatal(err)
		}
	})
}

// readAll says whether no partition waits to be read again: what is put there
// meanwhile is in memory only.
func (w *world) readAll() bool {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	for _, b := range w.k.books {
		if !b.loaded && !b.maybe {
			return false
		}
	}
	return true
}

// model is what was put: by start and partition, by place and path, the state.
type model map[bookID]map[string]string

func history(bubble *testing.T, steps []step) error {
	w := newWorld(bubble)
	want := make(model)
	up := [2]bool{true, true}
	w.start()
	defer func() { w.stop() }()
	for _, s := range steps {
		switch s.Op {
		case 0:
			if w.health[0].Reachable() && w.health[1].Reachable() && up[0] && up[1] { // what no cluster has is lost with the local copies
				if err := w.k.Flush(bubble.Context()); err != nil {
					return err
				}
				w.stop()
				if err := os.RemoveAll(w.dir); err != nil {
					return err
				}
				w.start()
			}
		case 1:
			pass(4 * time.Second) // a start is given the time to write the local copy
			if w.readAll() {
				w.stop()
				w.start()
			}
		case 2, 3:
			i := s.Op - 2
			up[i] = !up[i]
			w.c[i].SetDown(!up[i])
			if s.Seen {
				w.health[i].Set(up[i], false)
			}
		case 4:
			pass(time.Duration(s.Seconds) * time.Second)
		default:
			want.change(s, w)
		}
		pass(time.Duration(s.Pause) * time.Millisecond)
	}
	for i := range w.c {
		w.c[i].SetDown(false)
		w.health[i].Set(true, false)
	}
	pass(2 * maxBackoff)
	return want.check(bubble, w)
}

func (m model) change(s step, w *world) {
	start := w.starts[s.Start%len(w.starts)]
	p := []catalog.Partition{hour(start.Since), day(start.Since), hour(time.Now())}[s.Part]
	key := bookID{start.Identity, p}
	item := file(s.File, "n1", s.State)
	if m[key] == nil {
		m[key] = make(map[string]string)
	}
	if s.Op == 5 {
		w.k.DropAs(key.id, p, item.Place, item.Path)
		delete(m[key], item.Place+"/"+item.Path)
		return
	}
	w.k.PutAs(key.id, p, item)
	m[key][item.Place+"/"+item.Path] = s.State
}

func (m model) check(bubble *testing.T, w *world) error {
	for key, items := range m {
		var counters [2]uint64
		for i := range w.c {
			inv := w.on(i, key.id, key.partition)
			if inv == nil {
				if len(items) > 0 {
					return fmt.Errorf("n%d has no inventory %s", i+1, key.path())
				}
				continue
			}
			if got := states(inv); !maps.Equal(got, items) {
				return fmt.Errorf("n%d, %s: holds %v, want %v", i+1, key.path(), got, items)
			}
			counters[i] = inv.Counter
		}
		if counters[0] != counters[1] {
			return fmt.Errorf("%s: counters %v", key.path(), counters)
		}
	}
	if behind := w.k.Stats().Behind; len(behind) > 0 {
		return fmt.Errorf("behind: %v", behind)
	}
	return w.k.Flush(bubble.Context())
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"aggregator":"ag1","epoch":1,"start":"00000001","partition":"dt=2026-11-22","counter":3,"updated":1,"ended":true,"items":[]}`))
	f.Add(encode(catalog.Inventory{Version: 1, Aggregator: "ag1", Start: "00000001", Partition: "dt=2026-11-22/hr=10", Counter: 7}, []*entry{newEntry(file(1, "n1", catalog.StateOpen)), newEntry(file(2, "n2", catalog.StateTorn))}))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"items":[{}],"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readHead("test", bytes.NewReader(b))
		inv, err := catalog.DecodeInventory("test", b)
		if err != nil {
			return
		}
		id, err := inv.Identity()
		if err != nil {
			t.Fatal(err)
		}
		key := bookID{id, inv.Partition}
		c, err := decode(key, "test", b)
		if err != nil {
			t.Fatalf("two ways to read it, one fails: %v", err)
		}
		again, err := decode(key, "test", encode(c.head, c.entries))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if head, err := readHead("test", bytes.NewReader(encode(c.head, c.entries))); err != nil || head.Counter != inv.Counter {
			t.Fatalf("head %+v, %v", head, err)
		}
		if again.head.Counter != inv.Counter || again.head.Ended != inv.Ended || len(again.entries) != len(inv.Items) {
			t.Fatalf("%+v became %+v", inv, again.head)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, items := range []int{100, 12000} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			var entries []*entry
			for n := range items {
				entries = append(entries, newEntry(file(n+1, "n1", catalog.StateSealed)))
			}
			b.SetBytes(int64(len(encode(catalog.Inventory{}, entries))))
			b.ReportAllocs()
			for b.Loop() {
				encode(catalog.Inventory{}, entries)
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	b.Run("items=1000", func(b *testing.B) {
		k, err := New(Options{Identity: catalog.Identity{Aggregator: "ag1"}, Dir: b.TempDir(), FS: newWorld(b).fs, Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		p := hour(time.Now())
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			it := file(1+n%1000, "n1", catalog.StateOpen)
			it.Bytes = int64(n)
			k.Put(p, it)
		}
	})
}
