package journal

import (
	"context"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
)

func TestWhatIsSyncedSurvivesAPowerCutAtEverySync(t *testing.T) {
	fsys := memfs.New()
	var mu sync.Mutex
	var images []*memfs.FS
	fsys.OnSync(func() {
		mu.Lock()
		defer mu.Unlock()
		images = append(images, fsys.Crash(nil))
	})
	o := options()
	o.RotateBytes = 600
	j, _ := open(t, fsys, o)
	type fact struct {
		images int // how many there were when it held
		path   string
		torn   bool
	}
	var facts []fact
	settled := func() int { // the hook runs in the syncer, before its answer
		if err := j.current.Load().await(nil, true); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return len(images)
	}
	for n := range 8 {
		w := begin(t, j, n)
		facts = append(facts, fact{settled(), beginOf(n).Path, false})
		w.append(10, 1)
		if n%2 == 1 {
			if err := w.e.Torn(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
			facts = append(facts, fact{settled(), beginOf(n).Path, true})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for i, image := range images {
		states := map[string]FileState{}
		for _, s := range again(t, image) {
			states[s.Begin.Path] = s
		}
		for _, f := range facts {
			s, ok := states[f.path]
			if f.images <= i && (!ok || f.torn && s.Torn == nil) {
				t.Fatalf("image %d of %d: %+v is forgotten", i, len(images), f)
			}
		}
	}
	if len(images) < 20 {
		t.Errorf("only %d power cuts tried", len(images))
	}
}

func TestATailThatIsCutAnywhereCostsOnlyWhatWasCut(t *testing.T) {
	fsys := memfs.New()
	j, _ := open(t, fsys, options())
	w := begin(t, j, 1)
	for range 5 {
		w.append(10, 1)
	}
	whole := content(t, fsys)
	ends := 0
	for cut := len(whole); cut >= 0; cut-- {
		p := readContent(t, whole[:cut], fileNames(t, fsys)[0])
		if len(p.damage) != 0 {
			t.Fatalf("cut at %d: %v", cut, p.damage)
		}
		end := int64(0)
		if len(p.states) > 0 && len(p.states[0].Lines) > 0 {
			end = p.states[0].Lines[len(p.states[0].Lines)-1].End
		}
		if end%10 != 0 || end > 50 {
			t.Fatalf("cut at %d: %d bytes", cut, end)
		}
		ends = max(ends, int(end))
	}
	if ends != 50 {
		t.Errorf("the whole file tells %d bytes", ends)
	}
}

func content(t *testing.T, fsys vfs.FS) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fsys, filepath.Join("journal", fileNames(t, fsys)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readContent(t *testing.T, b []byte, name string) past {
	t.Helper()
	fsys := memfs.New()
	write(t, fsys, name, b)
	p, err := readAll(fsys, "journal")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	if err := vfs.MkdirAllSync(fsys, "journal", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := vfs.ReplaceFile(fsys, filepath.Join("journal", name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFlippedBitCostsOneRecordAndIsToldAndSetAside(t *testing.T) {
	fsys := memfs.New()
	j, _ := open(t, fsys, options())
	a, b := begin(t, j, 1), begin(t, j, 2)
	for range 4 {
		a.append(10, 1)
		b.append(20, 1)
	}
	whole, name := content(t, fsys), fileNames(t, fsys)[0]
	silent, undamaged := 0, readContent(t, whole, name)
	for at := range whole {
		broken := slices.Clone(whole)
		broken[at] ^= 0x10
		p := readContent(t, broken, name)
		if len(p.damage) == 0 && !reflect.DeepEqual(spansOf(p), spansOf(undamaged)) {
			silent++ // only the last record's damage looks like a torn tail
		}
		if lost := lines(undamaged) - lines(p); lost > 8 {
			t.Fatalf("bit in byte %d costs %d lines", at, lost)
		}
	}
	last := int(record.Size(len("..........................."))) // about the size of one line's record
	if silent > 2*last {
		t.Errorf("%d flipped bits changed what is read without a word", silent)
	}

	broken := slices.Clone(whole)
	broken[record.FileHeaderSize+record.HeaderSize+3] ^= 1 // the first begin
	next := memfs.New()
	write(t, next, name, broken)
	logged, logs := observer.New(zap.ErrorLevel)
	o := options()
	o.Log = zap.New(logged)
	j2, states := open(t, next, o)
	if len(states) != 1 || spans(states[0].Lines) != "[0,60)#1-3" {
		t.Errorf("beside the damage: %+v", states)
	}
	if j2.Stats().Damage == 0 || logs.Len() == 0 {
		t.Errorf("damage without an alarm: %+v", j2.Stats())
	}
	if !slices.Contains(fileNames(t, next), name+damagedSuffix) {
		t.Errorf("the damaged file is not set aside: %v", fileNames(t, next))
	}
}

func spansOf(p past) (all []string) {
	for _, s := range p.states {
		all = append(all, spans(s.Lines))
	}
	return all
}

// lines counts messages that are told of.
func lines(p past) (n uint64) {
	for _, s := range p.states {
		for _, l := range s.Lines {
			n += l.Last - l.First + 1
		}
	}
	return n
}

func TestAStatementThatWasCutDoesNotHideTheOlderOne(t *testing.T) {
	fsys := memfs.New()
	j, _ := open(t, fsys, options())
	w := begin(t, j, 1)
	w.append(10, 1)
	w.append(10, 1)
	old, oldName := content(t, fsys), fileNames(t, fsys)[0]

	next := memfs.New()
	write(t, next, oldName, old)
	_, _ = open(t, next, options())
	renewed, newName := content(t, next), fileNames(t, next)[0]
	for cut := record.FileHeaderSize; cut <= len(renewed); cut++ {
		both := memfs.New() // as a kill leaves it: the older file is not removed yet
		write(t, both, oldName, old)
		write(t, both, newName, renewed[:cut])
		states := again(t, both)
		if len(states) != 1 || spans(states[0].Lines) != "[0,10)#1-1 [10,20)#2-2" {
			t.Fatalf("cut at %d: %+v", cut, states)
		}
	}
}
