package journal

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"twinscribe/buffer/record"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

func TestAKilledWriterIsFoundWithItsLinesTheLastApart(t *testing.T) {
	fsys := memfs.New()
	j, states := open(t, fsys, options())
	if len(states) != 0 {
		t.Fatalf("an empty folder gave %v", states)
	}
	a, b, c := begin(t, j, 1), begin(t, j, 2), begin(t, j, 3)
	a.append(100, 2)
	a.append(50, 1)
	a.append(60, 3)
	b.append(10, 1)
	c.append(10, 1)
	c.e.Sealed()
	if err := b.e.Torn(t.Context(), 10); err != nil {
		t.Fatal(err)
	}

	got := again(t, fsys)
	if len(got) != 2 {
		t.Fatalf("%d files unfinished, want 2: %+v", len(got), got)
	}
	if got[0].Begin != beginOf(1) || got[1].Begin != beginOf(2) {
		t.Errorf("begun: %+v and %+v", got[0].Begin, got[1].Begin)
	}
	if s := spans(got[0].Lines); s != "[0,150)#1-3 [150,210)#4-6" {
		t.Errorf("lines %s", s)
	}
	if got[0].Torn != nil || got[1].Torn == nil || *got[1].Torn != 10 {
		t.Errorf("torn: %v and %v", got[0].Torn, got[1].Torn)
	}
}

func TestALineOfTheSameOffsetReplacesTheOneThatWasNotTried(t *testing.T) {
	fsys := memfs.New()
	j, _ := open(t, fsys, options())
	w := begin(t, j, 1)
	w.append(100, 1)
	if err := w.e.Batch(w.line(500, 9)); err != nil { // not tried, so not acknowledged
		t.Fatal(err)
	}
	if s := spans(again(t, fsys)[0].Lines); s != "[0,100)#1-1 [100,600)#2-10" {
		t.Errorf("after the line that was not tried: %s", s)
	}
	w.next = 11 // the batch went elsewhere
	w.append(30, 1)
	w.append(30, 1)
	if s := spans(again(t, fsys)[0].Lines); s != "[0,100)#1-1 [100,130)#11-11 [130,160)#12-12" {
		t.Errorf("after the next one: %s", s)
	}
}

func TestTheNextStartCarriesUnfinishedFilesOverUntilDone(t *testing.T) {
	fsys := memfs.New()
	j, _ := open(t, fsys, options())
	w := begin(t, j, 1)
	w.append(100, 1)
	w.append(100, 1)
	begin(t, j, 2)
	if err := w.e.Torn(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	want := again(t, fsys)

	for range 3 {
		j, states := open(t, fsys, options())
		if len(states) != 2 || spans(states[0].Lines) != spans(want[0].Lines) || *states[0].Torn != 100 {
			t.Fatalf("carried over: %+v", states)
		}
		if !reflect.DeepEqual(states[0].Begin, want[0].Begin) {
			t.Errorf("begun %+v", states[0].Begin)
		}
		if n := j.Stats().Entries; n != 2 {
			t.Errorf("%d entries", n)
		}
	}
	if n := len(fileNames(t, fsys)); n != 1 {
		t.Errorf("%d journal files after four starts: %v", n, fileNames(t, fsys))
	}
	j, states := open(t, fsys, options())
	states[0].Done()
	if err := j.current.Load().await(nil, true); err != nil {
		t.Fatal(err)
	}
	if left := again(t, fsys); len(left) != 1 || left[0].Begin.Path != beginOf(2).Path {
		t.Errorf("after Done: %+v", left)
	}
}

func TestAFullFileIsReplacedAndLivingEntriesAreStatedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		o := options()
		o.RotateBytes = 4 << 10
		j, _ := open(t, fsys, o)
		w, idle := begin(t, j, 1), begin(t, j, 2)
		idle.append(77, 1)
		idle.append(11, 1)
		for range 500 {
			w.append(10, 1)
			synctest.Wait()
			if n := len(fileNames(t, fsys)); n > 2 {
				t.Fatalf("%d journal files at once", n)
			}
		}
		if size := j.Stats().Bytes; size > 8<<10 {
			t.Errorf("the journal has %d bytes", size)
		}
		got := again(t, fsys)
		if len(got) != 2 {
			t.Fatalf("%+v", got)
		}
		for _, s := range got {
			lines := s.Lines
			last := lines[len(lines)-1]
			want := int64(5000)
			if s.Begin.Path == beginOf(2).Path {
				want = 88
			}
			if lines[0].Offset != 0 || last.End != want {
				t.Errorf("%s: %s", s.Begin.Path, spans(lines))
			}
		}
	})
}

func TestBatchWaitsNoLongerThanItsLimitForAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		inner := memfs.New()
		fsys := faultfs.New(inner, nil)
		logged, logs := observer.New(zap.ErrorLevel)
		o := options()
		o.Log = zap.New(logged)
		j, _ := open(t, fsys, o)
		w, other := begin(t, j, 1), begin(t, j, 2)
		w.append(100, 1)
		other.append(40, 1)

		fsys.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Write || op.Kind == faultfs.Create {
				<-gate
			}
			return nil
		})
		start := time.Now()
		l := w.line(50, 1)
		if err := w.e.Batch(l); !errors.Is(err, ErrFailed) {
			t.Errorf("a stalled disk answered %v", err)
		}
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("waited %v", d)
		}
		w.ack(l)
		start = time.Now()
		for range 5 {
			l = w.line(50, 1)
			if err := w.e.Batch(l); !errors.Is(err, ErrFailed) {
				t.Errorf("a failed journal answered %v", err)
			}
			w.ack(l)
		}
		third, err := j.Begin(t.Context(), beginOf(3), newBuilder())
		if third == nil || !errors.Is(err, ErrFailed) {
			t.Errorf("begin gave %v, %v", third, err)
		}
		if err := other.e.Torn(t.Context(), 40); !errors.Is(err, ErrFailed) {
			t.Errorf("torn gave %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("a failed journal made its callers wait %v", d)
		}
		if s := j.Stats(); !s.Failed || s.Missed != 6 || s.Failures != 1 || logs.Len() != 1 {
			t.Errorf("%+v, %d lines logged", s, logs.Len())
		}

		close(gate)
		time.Sleep(10 * time.Second)
		if s := j.Stats(); s.Failed {
			t.Errorf("still failed: %+v", s)
		}
		got := again(t, inner)
		if len(got) != 3 {
			t.Fatalf("after the stall: %+v", got)
		}
		for _, s := range got {
			switch s.Begin.Path {
			case beginOf(1).Path:
				if n := len(s.Lines); s.Lines[0].Offset != 0 || s.Lines[n-1].End != 400 {
					t.Errorf("lines %s", spans(s.Lines))
				}
			case beginOf(2).Path:
				if s.Torn == nil || *s.Torn != 40 {
					t.Errorf("torn %v", s.Torn)
				}
			}
		}
		if n := len(fileNames(t, inner)); n != 1 {
			t.Errorf("%d files left", n)
		}
		w.append(10, 1)
	})
}

func TestALineThatIsNotAcknowledgedIsStatedAgainToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memfs.New()
		fsys := faultfs.New(inner, nil)
		j, _ := open(t, fsys, options())
		w := begin(t, j, 1)
		w.append(100, 1)
		fsys.Set(faultfs.Nth(1, faultfs.On(faultfs.Write, "", errors.New("bad sector"))))
		if err := w.e.Batch(w.line(500, 5)); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := spans(again(t, inner)[0].Lines); s != "[0,100)#1-1 [100,600)#2-6" {
			t.Errorf("lines %s", s)
		}
	})
}

func TestAFailedSyncIsNotTriedAgainOnTheSameFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New()
		j, _ := open(t, fsys, options())
		w := begin(t, j, 1)
		w.append(100, 1)
		bad := fileNames(t, fsys)[0]
		fsys.FailSync(func(name string) error {
			if filepath.Base(name) == bad {
				return errors.New("input/output error")
			}
			return nil
		})
		if err := w.e.Torn(t.Context(), 100); !errors.Is(err, ErrFailed) {
			t.Errorf("torn gave %v", err)
		}
		time.Sleep(time.Second)
		if slices.Contains(fileNames(t, fsys), bad) {
			t.Errorf("the bad file is still there: %v", fileNames(t, fsys))
		}
		got := again(t, fsys.Crash(nil)) // nothing but what was synced
		if len(got) != 1 || got[0].Torn == nil || *got[0].Torn != 100 || spans(got[0].Lines) != "[0,100)#1-1" {
			t.Errorf("after a power cut: %+v", got)
		}
	})
}

func TestASyncThatHangsFailsTheJournalAndStopsNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		fsys := faultfs.New(memfs.New(), nil)
		j, _ := open(t, fsys, options())
		w := begin(t, j, 1)
		bad := fileNames(t, fsys)[0]
		fsys.Set(func(op faultfs.Op) error {
			if op.Kind == faultfs.Sync && filepath.Base(op.Path) == bad {
				<-gate
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := w.e.Torn(ctx, 0); !errors.Is(err, ErrFailed) {
			t.Errorf("torn gave %v", err)
		}
		other := newBuilder()
		go func() {
			if _, err := j.Begin(t.Context(), beginOf(2), other); !errors.Is(err, ErrFailed) {
				t.Errorf("begin gave %v", err)
			}
		}()
		synctest.Wait()
		w.append(10, 1) // no error: writing goes on
		time.Sleep(2 * time.Second)
		if s := j.Stats(); s.Failures != 1 || s.Failed {
			t.Errorf("%+v", s)
		}
		w.append(10, 1)
		if n := len(again(t, fsys)); n != 2 {
			t.Errorf("%d files known", n)
		}
		close(gate)
	})
}

func TestANewerJournalIsRefusedByName(t *testing.T) {
	fsys := memfs.New()
	h := record.FileHeader{Magic: fileMagic, Flags: targetVersion + 1, Salt: 5, Number: 1}
	write(t, fsys, fileName(1, 5), h.Append(nil))
	_, _, err := Open(fsys, "journal", options())
	if !errors.Is(err, record.ErrNewer) || !strings.Contains(err.Error(), fileName(1, 5)) {
		t.Errorf("got %v", err)
	}
}

func TestOpenFailsWhereNoFileCanBeMade(t *testing.T) {
	fsys := faultfs.New(memfs.New(), faultfs.On(faultfs.Create, "*.jnl", fs.ErrPermission))
	if _, _, err := Open(fsys, "journal", options()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func TestCloseGivesUpOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		fsys := faultfs.New(memfs.New(), nil)
		j, _, err := Open(fsys, "journal", options())
		if err != nil {
			t.Fatal(err)
		}
		w := begin(t, j, 1)
		fsys.Set(func(op faultfs.Op) error { <-gate; return nil })
		_ = w.e.Batch(w.line(10, 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := j.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close gave %v", err)
		}
		close(gate)
	})
}

func TestManyWritersWhileFilesChange(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.RotateBytes = 16 << 10
	o.LineWait = 10 * time.Second // a busy machine is not a stalled disk
	o.StallAfter = time.Minute
	j, _, err := Open(vfs.OS(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	const writers, batches = 20, 100
	done := make(chan *writer)
	for n := range writers {
		go func() {
			w := &writer{t: t, held: newBuilder(), next: 1}
			var err error
			if w.e, err = j.Begin(t.Context(), beginOf(n), w.held); err != nil {
				t.Error(err)
			}
			for range batches {
				l := w.line(10, 1)
				if err := w.e.Batch(l); err != nil {
					t.Error(err)
				}
				w.ack(l)
			}
			if n%2 == 0 {
				w.e.Sealed()
			}
			done <- w
		}()
	}
	for range writers {
		<-done
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	states, err := Read(vfs.OS(), dir)
	if err != nil || len(states) != writers/2 {
		t.Fatalf("%d files unfinished, %v", len(states), err)
	}
	for _, s := range states {
		if n := len(s.Lines); n == 0 || s.Lines[0].Offset != 0 || s.Lines[n-1].End != 10*batches || s.Lines[n-1].Last != batches {
			t.Errorf("%s: %s", s.Begin.Path, spans(s.Lines))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 3 {
		t.Errorf("%d journal files left, %v", len(entries), err)
	}
}

func TestALineThatReplacesAnotherSurvivesAPowerCut(t *testing.T) {
	fsys := memfs.New()
	j, _ := open(t, fsys, options())
	w := begin(t, j, 1)
	w.append(100, 1)
	if err := w.e.Batch(w.line(500, 9)); err != nil { // not tried
		t.Fatal(err)
	}
	if err := j.current.Load().await(nil, true); err != nil { // somebody else's sync
		t.Fatal(err)
	}
	w.append(300, 2)
	got := again(t, fsys.Crash(nil))
	if s := spans(got[0].Lines); s != "[0,100)#1-1 [100,400)#2-3" {
		t.Errorf("after a power cut: %s", s)
	}
}

func TestALineThatCannotBeReplacedIsTold(t *testing.T) {
	for name, fault := range map[string]faultfs.Kind{"write": faultfs.Write, "sync": faultfs.Sync} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := make(chan struct{})
				defer close(gate)
				fsys := faultfs.New(memfs.New(), nil)
				j, _ := open(t, fsys, options())
				w := begin(t, j, 1)
				w.append(100, 1)
				if err := w.e.Batch(w.line(500, 9)); err != nil { // not tried
					t.Fatal(err)
				}
				fsys.Set(func(op faultfs.Op) error {
					if op.Kind == fault {
						<-gate
					}
					return nil
				})
				start := time.Now()
				if err := w.e.Batch(w.line(300, 2)); !errors.Is(err, ErrStale) || !errors.Is(err, ErrFailed) {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start); d != 200*time.Millisecond {
					t.Errorf("waited %v", d)
				}
			})
		})
	}
}
