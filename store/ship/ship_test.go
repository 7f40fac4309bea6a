package ship

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

const hour11 = catalog.Partition("dt=2026-11-22/hr=11")

// fill puts three segments' worth of messages into the buffer and says what
// they are.
func (w *world) fill() map[string]int {
	w.Helper()
	w.put(buffer.Spill, "web", 3, hour10, 1, 5)
	w.put(buffer.Spill, "_odd/category", 4, hour10, 1, 3)
	w.put(buffer.Spill, "web", 3, hour10, 9, 2)
	w.put(buffer.Spill, "web", 3, hour11, 11, 2)
	w.seal(buffer.Spill)
	w.put(buffer.Spill, "web", 3, hour11, 13, 4)
	w.seal(buffer.Spill)
	w.put(buffer.Outage, "web", 3, hour11, 17, 4)
	w.seal(buffer.Outage)
	_, want := w.final()
	return want
}

func TestEachPartOfASegmentBecomesOneFile(t *testing.T) {
	w := testWorld(t)
	want := w.fill()
	var told []Progress
	n, messages, err := New(w.options).Ship(t.Context(), w.segments(), func(p Progress) { told = append(told, p) })
	w.must(err)
	if n != 3 || messages != 20 {
		t.Errorf("%d segments, %d messages were shipped", n, messages)
	}
	w.wantOnce(want)
	w.wantTidy()
	wantFiles := []string{
		"%5Fodd%2Fcategory/dt=2026-11-22/hr=10/20261122T1030Z-ag1-0000002a.7f3c91d2-s00001.00004.log",
		"web/dt=2026-11-22/hr=10/20261122T1030Z-ag1-0000002a.7f3c91d2-s00001.00003.log",
		"web/dt=2026-11-22/hr=11/20261122T1030Z-ag1-0000002a.7f3c91d2-s00001.00003.log",
		"web/dt=2026-11-22/hr=11/20261122T1030Z-ag1-0000002a.7f3c91d2-s00002.00003.log",
		"web/dt=2026-11-22/hr=11/20261122T1030Z-ag1-0000002a.7f3c91d2-s00003.00003.log",
	}
	files := slices.DeleteFunc(w.files("n1"), func(f string) bool { return !strings.HasSuffix(f, ".log") })
	if !slices.Equal(files, wantFiles) || len(w.files("n2")) > 0 {
		t.Errorf("files are %q and %q", files, w.files("n2"))
	}
	m, err := catalog.DecodeManifest("m", []byte(w.content("/n1/web/dt=2026-11-22/hr=10/_20261122T1030Z-ag1-0000002a.7f3c91d2-s00001.00003.log.json")))
	w.must(err)
	if len(m.Ranges) != 2 || m.Ranges[0].First != 1 || m.Ranges[0].Last != 5 || m.Ranges[1].First != 9 || m.Ranges[1].Last != 10 || m.Messages != 7 {
		t.Errorf("the manifest is %+v", m)
	}
	for _, p := range told {
		if p.Total != 3 || p.Segment == "" || !strings.Contains(p.String(), "of 3 segments") {
			t.Errorf("progress %+v", p)
		}
	}
	if len(told) != 6 || told[5].Done != 3 || told[5].Messages != 20 {
		t.Errorf("progress is %v", told)
	}
	sealed, shipped := 0, 0
	for _, i := range w.keeper.items {
		switch {
		case i.State == catalog.StateSealed && i.Place == "n1" && i.Messages > 0 && len(i.Ranges) > 0:
			sealed++
		case i.State == catalog.StateShipped && i.Place == "buffer" && i.Messages > 0 && len(i.Ranges) > 0:
			shipped++
		}
	}
	if sealed != 5 || shipped != 5 {
		t.Errorf("the inventories hear of %d sealed and %d shipped items: %v", sealed, shipped, w.keeper.items)
	}

	// A second time there is nothing to do, also for a list that is old.
	n, messages, err = New(w.options).Ship(t.Context(), w.segments(), nil)
	if n != 0 || messages != 0 || err != nil {
		t.Errorf("a second time: %d segments, %d messages, %v", n, messages, err)
	}
	w.wantOnce(want)
}

var errKilled = errors.New("killed")

// killAt lets so many calls through that change the disk; the next one and all
// after it find the process dead. It says whether that happened.
func (w *world) killAt(n int64) (killed func() bool) {
	var calls atomic.Int64
	w.fs.Set(func(op faultfs.Op) error {
		switch op.Kind {
		case faultfs.Open, faultfs.Read, faultfs.Stat, faultfs.ReadDir, faultfs.Close, faultfs.Free, faultfs.Lock:
			if calls.Load() > n {
				return errKilled
			}
			return nil
		}
		if calls.Add(1) > n {
			return errKilled
		}
		return nil
	})
	return func() bool { return calls.Load() > n }
}

// A kill at every step, twice in a row, then a third process that may end:
// every message stands once, and at no time is one lost.
func TestAKillAtEachStepLeavesEveryMessageOnce(t *testing.T) {
	kill := func(w *world, _ *rand.Rand) *memfs.FS { return w.disk }
	for name, test := range map[string]struct {
		after func(w *world, r *rand.Rand) *memfs.FS
		known bool // the segments are none of a time before the state folder
	}{
		"kill -9":                      {kill, false},
		"kill -9, own segments":        {kill, true},
		"power cut":                    {func(w *world, _ *rand.Rand) *memfs.FS { return w.disk.Crash(nil) }, true},
		"power cut with luck":          {func(w *world, r *rand.Rand) *memfs.FS { return w.disk.Crash(r) }, true},
		"power cut with luck, suspect": {func(w *world, r *rand.Rand) *memfs.FS { return w.disk.Crash(r) }, false},
		"the state folder is lost":     {func(w *world, _ *rand.Rand) *memfs.FS { w.loseState(); return w.disk }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for step := int64(0); ; step++ {
				w := start(t, memfs.New())
				if test.known {
					w.options.Identity = ag1
				}
				want := w.fill()
				killed := false
				for try := range int64(2) {
					dead := w.killAt(step + try*3)
					_, _, err := New(w.options).Ship(t.Context(), w.segments(), nil)
					if err != nil && !dead() { // the other way round: it died behind its last word
						t.Fatalf("step %d: killed %t, error %v", step, dead(), err)
					}
					killed = killed || dead()
					w.end()
					identity := w.options.Identity
					w = start(t, test.after(w, r))
					w.options.Identity = identity
					w.wantNothingLost(want)
					if try == 0 { // the other cluster would be the first choice now
						slices.Reverse(w.options.Targets)
					}
				}
				_, _, err := New(w.options).Ship(t.Context(), w.segments(), nil)
				w.must(err)
				w.wantOnce(want)
				w.wantTidy()
				w.end()
				if t.Failed() {
					t.Fatalf("killed at step %d", step)
				}
				if !killed {
					if step < 60 {
						t.Fatalf("only %d steps", step)
					}
					return
				}
			}
		})
	}
}

// loseState removes the shipper's folder. The buffer lies elsewhere in truth.
func (w *world) loseState() {
	w.walk(shipDir, func(name string) { w.must(w.disk.Remove(name)) })
}

func TestManyAndLargePartsAreShippedAtOnce(t *testing.T) {
	w := testWorld(t)
	for chain := range uint32(40) {
		for first := range uint64(3) {
			w.put(buffer.Spill, fmt.Sprint("c", chain), chain, hour10, 1+first, 1)
		}
	}
	_, want := w.final()
	large := strings.Repeat("x", 3<<20) + "\n"
	for first := range uint64(4) {
		w.must(w.buffer.Append(t.Context(), buffer.Spill, &buffer.Record{Category: "large", Chain: 99, Partition: string(hour10), First: 1 + first,
			Arrived: 1, IDs: []buffer.ID{{First: 1 + first, Messages: 1}}, Ends: []uint32{uint32(len(large))}, Data: []byte(large)}))
	}
	want[large] = 4
	w.seal(buffer.Spill)
	w.options.Parallel = 4
	_, _, err := New(w.options).Ship(t.Context(), w.segments(), nil)
	w.must(err)
	w.wantOnce(want)
	w.wantTidy()
}

func TestALostAnswerIsSettledByLooking(t *testing.T) {
	for _, op := range []clustertest.Op{clustertest.OpCreate, clustertest.OpAppend, clustertest.OpSeal, clustertest.OpRename, clustertest.OpReplace,
		clustertest.OpRemove, clustertest.OpStat, clustertest.OpOpen, clustertest.OpRead} {
		for _, done := range []bool{false, true} {
			w := testWorld(t)
			want := w.fill()
			s := New(w.options)
			w.clusters["n1"].Add(clustertest.Rule{Op: op, Do: done, Skip: 2, Times: 1, Err: errors.New("connection reset")})
			_, _, err := s.Ship(t.Context(), w.segments(), nil)
			if err == nil && !(done && (op == clustertest.OpRename || op == clustertest.OpStat)) && !(scribesNames && op == clustertest.OpOpen) { // of a link it costs nothing
				t.Errorf("%s (done %t) failed and nobody heard of it", op, done)
			}
			w.wantNothingLost(want)
			_, _, err = s.Ship(t.Context(), w.segments(), nil)
			w.must(err)
			w.wantOnce(want)
			w.wantTidy()
		}
	}
}

func TestASegmentGoesElsewhereOnlyBeforeItsFirstFinalName(t *testing.T) {
	w := testWorld(t)
	want := w.fill()
	s := New(w.options)
	// The first segment has three parts. n1 goes away while the first is written.
	end := w.clusters["n1"].Add(clustertest.Rule{Op: clustertest.OpSeal, Err: cluster.ErrUnavailable})
	list := w.segments()[:1]
	if _, _, err := s.Ship(t.Context(), list, nil); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("error %v", err)
	}
	w.health["n1"].away.Store(true)
	n, _, err := s.Ship(t.Context(), list, nil)
	if n != 1 || err != nil {
		t.Fatalf("%d segments, %v", n, err)
	}
	if files := w.files("n1"); len(files) != 1 {
		t.Errorf("n1 has %q, want the leftover", files)
	}
	end()
	w.health["n1"].away.Store(false)
	// n2 goes away after the second segment's file has its final name.
	w.health["n1"].drained.Store(true)
	w.clusters["n2"].Add(clustertest.Rule{Op: clustertest.OpOpen, Times: 1, Err: cluster.ErrUnavailable})
	list = w.segments()[:1]
	if _, _, err := s.Ship(t.Context(), list, nil); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("error %v", err)
	}
	w.health["n1"].drained.Store(false)
	w.health["n2"].away.Store(true)
	if _, _, err := s.Ship(t.Context(), list, nil); !errors.Is(err, ErrWait) || !strings.Contains(err.Error(), "cluster n2") {
		t.Errorf("error %v, want ErrWait for n2", err)
	}
	w.health["n2"].away.Store(false)
	_, _, err = s.Ship(t.Context(), w.segments(), nil)
	w.must(err)
	w.wantOnce(want)
	w.wantTidy()
}

func TestAnIntentForAClusterThatIsNotConfiguredAnyMore(t *testing.T) {
	for committed, wantErr := range map[string]error{"before the first final name": nil, "after it": ErrWait} {
		t.Run(committed, func(t *testing.T) {
			w := testWorld(t)
			w.fill()
			s := New(w.options)
			w.must(s.prepare(t.Context()))
			seg := w.segments()[0]
			w.must(s.store(s.intentPath(seg.Name), intent{Version: 1, Segment: seg.Name, Cluster: "n9", Committed: wantErr != nil}))
			_, _, err := s.Ship(t.Context(), []buffer.Segment{seg}, nil)
			if !errors.Is(err, wantErr) {
				t.Errorf("error %v, want %v", err, wantErr)
			}
			if wantErr == nil {
				w.wantTidy()
			}
		})
	}
}

func TestAfterALostStateFolderEveryClusterIsAsked(t *testing.T) {
	w := testWorld(t)
	want := w.fill()
	// The first segment is on n2, and nobody remembers.
	w.health["n1"].drained.Store(true)
	w.clusters["n2"].Add(clustertest.Rule{Op: clustertest.OpRename, Skip: 1, Times: 1})
	if _, _, err := New(w.options).Ship(t.Context(), w.segments()[:1], nil); err == nil {
		t.Fatal("no error")
	}
	w.loseState()
	w.health["n1"].drained.Store(false)
	w.health["n2"].away.Store(true)
	_, _, err := New(w.options).Ship(t.Context(), w.segments(), nil)
	if !errors.Is(err, ErrWait) || len(w.files("n1")) > 0 {
		t.Errorf("error %v, n1 has %q", err, w.files("n1"))
	}
	w.health["n2"].away.Store(false)
	_, _, err = New(w.options).Ship(t.Context(), w.segments(), nil)
	w.must(err)
	w.wantOnce(want)
	// What is written later is known: one cluster is enough.
	w.put(buffer.Spill, "web", 3, hour11, 100, 1)
	w.seal(buffer.Spill)
	w.health["n2"].away.Store(true)
	n, _, err := New(w.options).Ship(t.Context(), w.segments(), nil)
	if n != 1 || err != nil {
		t.Errorf("%d segments, %v", n, err)
	}
}

func TestAFileWithOtherContentIsNeverTouched(t *testing.T) {
	w := testWorld(t)
	w.fill()
	final := "/n1/web/dt=2026-11-22/hr=10/20261122T1030Z-ag1-0000002a.7f3c91d2-s00001.00003.log"
	for name, put := range map[string]func(){
		"without a manifest": func() {},
		"with one": func() {
			b := catalog.NewBuilder(catalog.Head{File: path.Base(final), Identity: ag1, Chain: 3, Category: "web", Partition: hour10})
			b.Add(&catalog.Line{End: 6, First: 1, Last: 1})
			b.Sum([]byte("other\n"))
			raw, err := b.Manifest("ship", now).Encode()
			w.must(err)
			w.must(w.dirs[0].Replace(t.Context(), "web/dt=2026-11-22/hr=10/_"+path.Base(final)+".json", raw))
		},
	} {
		w.must(w.disk.MkdirAll(path.Dir(final), 0o755))
		f, err := w.disk.OpenFile(final, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
		w.must(err)
		_, err = f.Write([]byte("other\n"))
		w.must(err)
		w.must(f.Close())
		put()
		_, _, err = New(w.options).Ship(t.Context(), w.segments()[:1], nil)
		if err == nil || name == "with one" && !errors.Is(err, ErrConflict) {
			t.Errorf("%s: error %v", name, err)
		}
		if got := w.content(final); got != "other\n" {
			t.Errorf("%s: the file holds %q", name, got)
		}
		if len(w.segments()) != 3 {
			t.Errorf("%s: the segment is marked", name)
		}
	}
}

func TestADamagedSegmentStaysWhereItIsUntilTheBufferKnows(t *testing.T) {
	w := testWorld(t)
	want := w.fill()
	seg := w.segments()[0]
	raw := []byte(w.content(seg.Path))
	raw[strings.Index(string(raw), "web/3/dt=2026-11-22/hr=10/9")] ^= 1
	f, err := w.disk.OpenFile(seg.Path, os.O_WRONLY, 0)
	w.must(err)
	_, err = f.WriteAt(raw, 0)
	w.must(err)
	w.must(f.Close())
	maps.DeleteFunc(want, func(l string, _ int) bool {
		return strings.Contains(l, "web/3/dt=2026-11-22/hr=10/9\n") || strings.Contains(l, "hr=10/10\n")
	})
	_, _, err = New(w.options).Ship(t.Context(), w.segments(), nil)
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
	if list := w.segments(); len(list) != 1 || list[0].Name != seg.Name {
		t.Errorf("segments are %v", list)
	}
	seg.Damaged = true // as after the buffer has verified it
	n, _, err := New(w.options).Ship(t.Context(), []buffer.Segment{seg}, nil)
	if n != 1 || err != nil {
		t.Errorf("%d segments, %v", n, err)
	}
	files, _ := w.final()
	if !maps.Equal(files, want) {
		t.Errorf("final names hold %s, want %s", show(files), show(want))
	}
}

func TestANewerIntentIsRefused(t *testing.T) {
	w := testWorld(t)
	w.fill()
	s := New(w.options)
	w.must(s.prepare(t.Context()))
	seg := w.segments()[0]
	w.must(s.store(s.intentPath(seg.Name), intent{Version: 2}))
	if _, _, err := s.Ship(t.Context(), []buffer.Segment{seg}, nil); !errors.Is(err, catalog.ErrNewer) || !strings.Contains(err.Error(), ".intent has version 2") {
		t.Errorf("error %v, want ErrNewer and the file's name", err)
	}
}

func TestAnIntentThatCannotBeReadIsMadeUpForByAsking(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"version":"x"}`, `{"version":1}`, `null`, strings.Repeat("[", 10000)} {
		w := testWorld(t)
		w.options.Identity = ag1
		want := w.fill()
		w.clusters["n1"].Add(clustertest.Rule{Op: clustertest.OpRename, Skip: 1, Times: 1})
		w.health["n2"].away.Store(true)
		s := New(w.options)
		seg := w.segments()[0]
		if _, _, err := s.Ship(t.Context(), []buffer.Segment{seg}, nil); err == nil {
			t.Fatal("no error")
		}
		f, err := w.disk.OpenFile(s.intentPath(seg.Name), os.O_WRONLY|os.O_TRUNC, 0)
		w.must(err)
		_, err = f.Write([]byte(text))
		w.must(err)
		w.must(f.Close())
		w.health["n2"].away.Store(false)
		w.options.Targets = []Target{w.options.Targets[1], w.options.Targets[0]} // n2 would be the first choice
		_, _, err = New(w.options).Ship(t.Context(), w.segments(), nil)
		w.must(err)
		w.wantOnce(want)
	}
}
