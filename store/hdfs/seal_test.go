package hdfs

import (
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

func TestSealMayBeRepeatedWhenOnlyTheNameNodeWasAway(t *testing.T) {
	for name, fault := range map[string]struct{ away, back func(l *lab) }{
		"frozen":    {func(l *lab) { l.h.NN(0).Freeze() }, func(l *lab) { l.h.NN(0).Thaw() }},
		"safe mode": {func(l *lab) { l.h.SafeMode(true) }, func(l *lab) { l.h.SafeMode(false) }},
		"dead":      {func(l *lab) { l.h.NN(0).Kill() }, func(l *lab) { l.h.NN(0).Restart() }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				f := l.begun("_f")
				want := l.bytes(70_000)
				l.append(f, want)
				fault.away(l)
				for range 2 {
					start := time.Now()
					err := f.Seal(l.within(1500 * time.Millisecond))
					wantErr(t, err, cluster.ErrUnavailable)
					if d := time.Since(start); d > 1600*time.Millisecond {
						t.Errorf("it took %v", d)
					}
				}
				fault.back(l)
				l.seal(f)
				l.holds("/logs/_f", want, 3)
				if l.h.Paths()["/logs/_f"] {
					t.Error("the file is open")
				}
			})
		})
	}
}

func TestSealWaitsForANameNodeThatComesBackInTime(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, []byte("x"))
		l.h.NN(0).Freeze()
		time.AfterFunc(4*time.Second, l.h.NN(0).Thaw)
		if err := f.Seal(l.within(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n := l.count("nn_dials"); n > 6 {
			t.Errorf("%d NameNode connections", n)
		}
		time.Sleep(time.Second)
		if n := l.h.NN(0).Conns(); n > 1 {
			t.Errorf("%d NameNode connections are left", n)
		}
	})
}

func TestSealedOnceAlthoughTheAnswerWasLost(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, []byte("x"))
		l.h.NN(0).Script(func(method string, nth int) hdfstest.Fault {
			return hdfstest.Fault{Lose: method == "complete" && nth == 1, Break: method == "complete" && nth == 1}
		})
		l.seal(f)
		l.seal(f) // nothing to do
		g := l.begun("_g")
		l.append(g, []byte("x"))
		l.h.NN(0).Script(func(method string, _ int) hdfstest.Fault { return hdfstest.Fault{Lose: method == "complete"} })
		wantErr(t, g.Seal(l.within(time.Second)), cluster.ErrUnavailable)
		l.h.NN(0).Script(nil)
		l.seal(g) // it is complete already
		l.holds("/logs/_g", []byte("x"), 3)
	})
}

func TestSealGoesOnWithoutANodeThatFails(t *testing.T) {
	for name, fault := range map[string]func(*hdfstest.DataNode){"dies": (*hdfstest.DataNode).Kill, "hangs": (*hdfstest.DataNode).Freeze} {
		for _, left := range []int{2, 1} {
			t.Run(name, func(t *testing.T) {
				bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
					f := l.begun("_f")
					want := l.bytes(5000)
					l.append(f, want)
					fault(l.node(f, 1))
					if left == 1 { // all is acknowledged by three: the NameNode makes replicas of it
						fault(l.node(f, 0))
					}
					l.seal(f)
					l.holds("/logs/_f", want, left)
					if l.h.Paths()["/logs/_f"] {
						t.Error("the file is open")
					}
				})
			})
		}
	}
}

func TestSealWithoutAnyNodeMayBeRepeated(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(5000)
		l.append(f, want)
		all(l, (*hdfstest.DataNode).Freeze)
		wantErr(t, f.Seal(l.within(3*time.Second)), cluster.ErrUnavailable)
		all(l, (*hdfstest.DataNode).Thaw)
		time.Sleep(time.Second) // questions that are under way go on with the nodes that answer first
		l.seal(f)
		l.holds("/logs/_f", want, 3)
	})
}

func TestFilesThatGotNothingAreSealedEmpty(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		for _, begin := range []bool{false, true} {
			f := l.create("_f", cluster.FileOptions{Begin: begin})
			l.seal(f)
			if n := len(l.h.Blocks("/logs/_f")); n != 0 || l.h.Paths()["/logs/_f"] {
				t.Errorf("begin %v: %d blocks, open %v", begin, n, l.h.Paths()["/logs/_f"])
			}
			if err := l.c.Remove(l.ctx, "_f"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestFencedWriterGetsNoAcknowledgement(t *testing.T) {
	for _, replicas := range []int{1, 2, 3} {
		bubble(t, hdfstest.Options{}, Options{Replication: replicas}, func(l *lab) {
			f := l.begun("_f")
			want := l.bytes(5000)
			l.append(f, want)
			l.recover("_f")
			for range 2 {
				if err := f.Append(l.within(2*time.Second), [][]byte{{1}}); err == nil || errors.Is(err, cluster.ErrUnavailable) {
					t.Errorf("append: %v", err)
				}
			}
			if err := f.Seal(l.within(time.Second)); err == nil {
				t.Error("sealed")
			}
			l.holds("/logs/_f", want, replicas)
			if f.Acked() != 5000 || l.ob.failures() != 0 {
				t.Errorf("acked %d, failures %v", f.Acked(), l.ob.failed)
			}
		})
	}
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) { // sealing is fenced too
		f := l.begun("_f")
		l.append(f, l.bytes(5000))
		l.recover("_f")
		if err := f.Seal(l.within(2 * time.Second)); err == nil || errors.Is(err, cluster.ErrUnavailable) {
			t.Errorf("seal: %v", err)
		}
	})
}

// recover takes the lease until the file is closed.
func (l *lab) recover(path string) {
	l.t.Helper()
	for range 20 {
		closed, err := l.c.Recover(l.ctx, path)
		if err != nil {
			l.t.Fatal(err)
		}
		if closed {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	l.t.Fatalf("%s is not closed", path)
}

func TestAbortCommitsNothingAndKeepsWhatIsAcknowledged(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(5000)
		l.append(f, want)
		var wg sync.WaitGroup
		wg.Go(f.Abort)
		wg.Go(f.Abort)
		wg.Wait()
		if err := f.Append(l.ctx, [][]byte{{1}}); !errors.Is(err, errAborted) {
			t.Errorf("append: %v", err)
		}
		if err := f.Seal(l.ctx); !errors.Is(err, errAborted) {
			t.Errorf("seal: %v", err)
		}
		if err := f.Publish(l.ctx); !errors.Is(err, errAborted) {
			t.Errorf("publish: %v", err)
		}
		if !l.h.Paths()["/logs/_f"] {
			t.Error("the file is closed")
		}
		l.recover("_f")
		l.holds("/logs/_f", want, 3)
		synctest.Wait()
		if n := l.first(f).Writing(); n != 0 {
			t.Errorf("%d connections write", n)
		}
	})
}

func TestPublishShowsWhatIsAcknowledgedOverBlocks(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{BlockSize: 1 << 20}, func(l *lab) {
		f := l.create("_f", cluster.FileOptions{})
		var want []byte
		publish := func() {
			t.Helper()
			if err := f.Publish(l.ctx); err != nil {
				t.Fatal(err)
			}
			i, err := l.c.Stat(l.ctx, "_f")
			if err != nil || i.Size != int64(len(want)) {
				t.Fatalf("size %d, %v, want %d", i.Size, err, len(want))
			}
			r, err := l.c.Open(l.ctx, "_f")
			if err != nil {
				t.Fatal(err)
			}
			l.append(f, l.bytes(300)) // what comes later is not read
			want = append(want, make([]byte, 300)...)
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || len(got) != len(want)-300 {
				t.Fatalf("read %d bytes, %v, want %d", len(got), err, len(want)-300)
			}
		}
		publish()
		for range 5 {
			b := l.bytes(400_000)
			l.append(f, b)
			want = append(want, b...)
			publish()
		}
		b := l.bytes(int(f.blockSize - f.off)) // to the edge
		l.append(f, b)
		want = append(want, b...)
		publish()
		l.h.SafeMode(true)
		wantErr(t, f.Publish(l.ctx), cluster.ErrUnavailable)
		if l.ob.failures() == 0 {
			t.Error("safe mode was told to nobody")
		}
	})
}
