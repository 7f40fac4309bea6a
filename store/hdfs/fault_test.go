package hdfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

// bubble runs f with a lab in a synctest bubble, where time is virtual.
func bubble(t *testing.T, ho hdfstest.Options, o Options, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newLab(t, ho, o)) })
}

// first is the DataNode that takes f's packets.
func (l *lab) first(f *File) *hdfstest.DataNode {
	l.t.Helper()
	for i := range 10 {
		if d := l.h.DN(i); d.Addr() == f.nodes[0].addr {
			return d
		}
	}
	l.t.Fatal("no such node")
	return nil
}

// node is the DataNode at place i of f's pipeline.
func (l *lab) node(f *File, i int) *hdfstest.DataNode {
	for k := range 10 {
		if d := l.h.DN(k); d.Addr() == f.nodes[i].addr {
			return d
		}
	}
	return nil
}

func TestAppendGoesOnWithoutANodeThatHangs(t *testing.T) {
	for place := range 3 {
		t.Run(fmt.Sprintf("place=%d", place), func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				f := l.begun("_f")
				want := l.bytes(100_000)
				l.append(f, want)
				l.node(f, place).Freeze()
				start := time.Now()
				b := l.bytes(70_001)
				l.append(f, b)
				if d := time.Since(start); d != 500*time.Millisecond {
					t.Errorf("it took %v: want node_timeout", d)
				}
				want = append(want, b...)
				if f.Replicas() != 2 || l.count("recoveries") != 1 || l.ob.failures() != 0 {
					t.Errorf("%d replicas, %d recoveries, failures %v", f.Replicas(), l.count("recoveries"), l.ob.failed)
				}
				l.seal(f)
				l.holds("/logs/_f", want, 2)
			})
		})
	}
}

// Who sends through a node that others wait for would have to recover with bytes in doubt.
func TestNobodySendsThroughANodeThatOthersHearNothingFrom(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f, g := l.begun("_f"), l.begun("_g")
		for _, f := range []*File{f, g} {
			l.append(f, []byte("x"))
		}
		first := l.first(g)
		l.node(f, 1).Freeze()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { l.append(f, []byte("y")) })
		time.Sleep(slice + slice/2)
		sent := first.Packets()
		wg.Go(func() { l.append(g, []byte("y")) })
		time.Sleep(3 * slice)
		if first.Packets() != sent {
			t.Error("sent through a node that is being asked")
		}
		wg.Wait()
		if d := time.Since(start); d != 500*time.Millisecond {
			t.Errorf("both took %v, want node_timeout", d)
		}
		for _, f := range []*File{f, g} {
			l.seal(f)
		}
		l.holds("/logs/_f", []byte("xy"), 2)
		l.holds("/logs/_g", []byte("xy"), 2)
	})
}

func TestAppendGoesOnWithoutANodeThatDies(t *testing.T) {
	for place := range 3 {
		t.Run(fmt.Sprintf("place=%d", place), func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				f := l.begun("_f")
				want := l.bytes(1000)
				l.append(f, want)
				l.node(f, place).Kill()
				start := time.Now()
				b := l.bytes(300_000)
				l.append(f, b)
				if d := time.Since(start); d > 100*time.Millisecond {
					t.Errorf("it took %v", d)
				}
				l.seal(f)
				l.holds("/logs/_f", append(want, b...), 2)
			})
		})
	}
}

func TestLostNodeIsReplacedWhereAnAcknowledgementNeedsIt(t *testing.T) {
	for _, fault := range []string{"kill", "freeze"} {
		t.Run(fault, func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{Replication: 2}, func(l *lab) {
				f := l.begun("_f")
				want := l.bytes(100_000)
				l.append(f, want)
				if fault == "kill" {
					l.node(f, 1).Kill()
				} else {
					l.node(f, 1).Freeze()
				}
				b := l.bytes(10_000)
				l.append(f, b)
				if f.Replicas() != 2 || l.count("replaced") != 1 {
					t.Errorf("%d replicas, %d replaced", f.Replicas(), l.count("replaced"))
				}
				l.seal(f)
				l.holds("/logs/_f", append(want, b...), 2)
			})
		})
	}
}

func TestAppendFailsWhereTooFewNodesAreLeft(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 2}, Options{Replication: 2}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(10_000)
		l.append(f, want)
		l.node(f, 0).Kill()
		err := f.Append(l.within(2*time.Second), [][]byte{l.bytes(10)})
		wantErr(t, err, cluster.ErrUnavailable)
		if errors.Is(err, cluster.ErrNotTried) || f.Acked() != int64(len(want)) || l.ob.failures() != 1 {
			t.Errorf("error %v, acked %d, failures %v", err, f.Acked(), l.ob.failed)
		}
		if again := f.Append(l.within(time.Second), [][]byte{{1}}); !errors.Is(again, err) {
			t.Errorf("the next append says %v, want the first error", again)
		}
		if err := f.Seal(l.within(time.Second)); err == nil {
			t.Error("sealed after an append that failed")
		}
	})
}

func TestCopyThatDoesNotFitTheBudgetIsNotBegun(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{Replication: 2}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, l.bytes(12<<20))
		l.node(f, 1).Kill()
		err := f.Append(l.within(600*time.Millisecond), [][]byte{{1}})
		wantErr(t, err, cluster.ErrUnavailable)
		if n := l.count("replaced"); n != 0 {
			t.Errorf("%d nodes were given copies of 12 MiB within 0.6 s", n)
		}
	})
	bubble(t, hdfstest.Options{}, Options{Replication: 2}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, l.bytes(12<<20))
		l.node(f, 1).Kill()
		l.append(f, []byte{1}) // with 2 s it fits
	})
}

func TestAppendToTheOnlyNodeThatHangsEndsSoon(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 1}, Options{Replication: 1}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, l.bytes(1000))
		l.h.DN(0).Freeze()
		start := time.Now()
		err := f.Append(l.within(5*time.Second), [][]byte{{1}})
		wantErr(t, err, cluster.ErrUnavailable)
		if d := time.Since(start); d > 1250*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if n := l.ob.failures(); n == 0 || l.ob.when[0].Sub(start) > time.Second+100*time.Millisecond {
			t.Errorf("told %d times, first after %v", n, l.ob.when[0].Sub(start))
		}
	})
}

func TestNoAppendIsAnsweredNilOnceAcknowledgementsAreLost(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{Replication: 1, MinReplicas: 1}, func(l *lab) {
		l.ob.calm = true
		f := l.begun("_f")
		const lost = 5
		l.first(f).Script(func(nth int) hdfstest.PacketFault { return hdfstest.PacketFault{Drop: nth >= lost} })
		for i := 1; ; i++ {
			start := time.Now()
			err := f.Append(l.within(2*time.Second), [][]byte{l.bytes(100)})
			if i < lost && err != nil || i > lost {
				t.Fatalf("append %d: %v", i, err)
			}
			if i == lost {
				wantErr(t, err, cluster.ErrUnavailable, context.DeadlineExceeded)
				if d := time.Since(start); d > 2100*time.Millisecond {
					t.Errorf("it took %v", d)
				}
				break
			}
		}
		if f.Acked() != 100*(lost-1) || l.ob.failures() != 1 {
			t.Errorf("acked %d, failures %v", f.Acked(), l.ob.failed)
		}
	})
}

func TestBadAcknowledgementsCostANodeAndNoByte(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault hdfstest.PacketFault
		lost  int // place of the node that goes
	}{
		{"error status of the last node", hdfstest.PacketFault{Status: 1, Node: 2}, 2},
		{"checksum error of the second node", hdfstest.PacketFault{Status: 2, Node: 1}, 1},
		{"a restart announced by the first node", hdfstest.PacketFault{Status: 8}, 0},
		{"wrong number", hdfstest.PacketFault{Seq: 1}, 0},
		{"an old number", hdfstest.PacketFault{Seq: -1}, 0},
		{"a node is missing", hdfstest.PacketFault{Fewer: true}, 0},
		{"garbage", hdfstest.PacketFault{Garbage: true}, 0},
		{"connection closed", hdfstest.PacketFault{Reset: true}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				f := l.begun("_f")
				bad := f.nodes[test.lost].addr
				l.first(f).Script(func(nth int) hdfstest.PacketFault {
					if nth == 3 {
						return test.fault
					}
					return hdfstest.PacketFault{}
				})
				var want []byte
				for range 5 {
					b := l.bytes(1000)
					l.append(f, b)
					want = append(want, b...)
				}
				if f.Replicas() != 2 || l.count("recoveries") != 1 {
					t.Errorf("%d replicas, %d recoveries", f.Replicas(), l.count("recoveries"))
				}
				for _, n := range f.nodes {
					if n.addr == bad {
						t.Errorf("node %d is still in the pipeline", test.lost)
					}
				}
				l.seal(f)
				l.holds("/logs/_f", want, 2)
			})
		})
	}
}

func TestAcknowledgementsMayComeByteByByte(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.first(f).Script(func(int) hdfstest.PacketFault { return hdfstest.PacketFault{Dribble: true} })
		want := l.bytes(3 << 20)
		l.append(f, want)
		l.seal(f)
		l.holds("/logs/_f", want, 3)
	})
}

func TestConnectionLostInTheMiddleOfALongAppendLosesNothing(t *testing.T) {
	for _, nth := range []int{1, 2, 17, 40, 63} {
		t.Run(fmt.Sprintf("packet=%d", nth), func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				f := l.begun("_f")
				want := l.bytes(777)
				l.append(f, want)
				l.first(f).Script(func(n int) hdfstest.PacketFault { return hdfstest.PacketFault{Reset: n == nth} })
				b := l.bytes(4<<20 + 3)
				l.append(f, b)
				l.seal(f)
				l.holds("/logs/_f", append(want, b...), 2)
			})
		})
	}
}

func TestLastNodeThatClosedTheConnectionIsAskedAgain(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 1}, Options{Replication: 1}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(5000)
		l.append(f, want)
		l.h.DN(0).Script(func(n int) hdfstest.PacketFault { return hdfstest.PacketFault{Reset: n == 1} })
		b := l.bytes(5000)
		l.append(f, b)
		l.seal(f)
		l.holds("/logs/_f", append(want, b...), 1)
	})
}

func TestBlockThatHoldsNothingIsBegunAgainElsewhere(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{Replication: 1}, func(l *lab) {
		f := l.begun("_f")
		l.first(f).Kill()
		want := l.bytes(5000)
		l.append(f, want)
		l.seal(f)
		l.holds("/logs/_f", want, 1)
		if got := l.h.Blocks("/logs/_f"); len(got) != 1 {
			t.Errorf("blocks %v", got)
		}
	})
}

func TestNodesThatOthersFoundDeadAreNotWaitedForAgain(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{Appends: 2, Replication: 3}, func(l *lab) {
		var fs []*File
		for i := range 20 {
			f := l.begun(fmt.Sprintf("_%d", i))
			l.append(f, l.bytes(100))
			fs = append(fs, f)
		}
		l.h.DN(1).Freeze()
		start := time.Now()
		var wg sync.WaitGroup
		for _, f := range fs {
			wg.Go(func() {
				if err := f.Append(l.within(2*time.Second), [][]byte{{1, 2}}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("20 files with 2 places took %v: each pair waited for the dead node anew", d)
		}
		if n := l.count("recoveries"); n != 20 {
			t.Errorf("%d recoveries", n)
		}
		// The mark goes with the fault.
		l.h.DN(1).Thaw()
		time.Sleep(3 * time.Second)
		if n := l.c.nodes.mutes.Load(); n != 0 {
			t.Errorf("%d nodes are dead after the thaw", n)
		}
	})
}

func TestBusyNodeThatMissesAProbeIsNotGivenUp(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, l.bytes(10))
		h := l.c.nodes
		l.h.DN(1).Freeze()
		n := f.nodes[0]
		for _, m := range f.nodes {
			if m.addr == l.h.DN(1).Addr() {
				n = m
			}
		}
		hear([]node{n}, time.Now()) // another pipeline's acknowledgement
		silent, err := h.silent(l.ctx, []node{n}, 0)
		if err != nil || len(silent) != 0 {
			t.Errorf("a node that just answered is called silent: %v, %v", silent, err)
		}
		time.Sleep(2 * time.Second)
		silent, err = h.silent(l.ctx, []node{n}, 1)
		if err != nil || len(silent) != 1 {
			t.Errorf("a node that hangs is not called silent: %v, %v", silent, err)
		}
	})
}

func TestBlackHoleCostsOneNode(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		d := l.first(f)
		d.Freeze() // of the connections there are
		l.h.Net().BlackHole(d.Addr(), true)
		b := l.bytes(1000)
		l.append(f, b)
		l.seal(f)
		l.holds("/logs/_f", append(want, b...), 2)
		g := l.begun("_g") // the NameNode still gives it
		l.append(g, want)
		l.seal(g)
		l.holds("/logs/_g", want, 2)
	})
}

func TestAppendIsEndedSoonByItsCaller(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.ob.calm = true
		for name, end := range map[string]func(f *File, cancel context.CancelFunc){
			"cancel": func(_ *File, cancel context.CancelFunc) { cancel() },
			"abort":  func(f *File, _ context.CancelFunc) { f.Abort() },
		} {
			for _, frozen := range []string{"all DataNodes", "one DataNode and the NameNode"} {
				f := l.begun("_" + name + frozen[:3])
				l.append(f, l.bytes(1000))
				l.h.DN(1).Freeze()
				if frozen == "all DataNodes" {
					l.h.DN(0).Freeze()
					l.h.DN(2).Freeze()
				} else {
					l.h.NN(0).Freeze()
				}
				ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
				var ended time.Time
				time.AfterFunc(3*time.Second, func() {
					ended = time.Now()
					end(f, cancel)
				})
				err := f.Append(ctx, [][]byte{{1}})
				if err == nil || errors.Is(err, cluster.ErrNotTried) {
					t.Errorf("%s, %s: %v", name, frozen, err)
				}
				if d := time.Since(ended); ended.IsZero() || d > 300*time.Millisecond {
					t.Errorf("%s, %s: it went on for %v", name, frozen, d)
				}
				cancel()
				for i := range 3 {
					l.h.DN(i).Thaw()
				}
				l.h.NN(0).Thaw()
				time.Sleep(15 * time.Second)
			}
		}
		if n := l.ob.failures(); n == 0 {
			t.Error("nobody was told that all DataNodes hang")
		}
	})
}

func TestAppendsThatWaitForAPlaceLeaveADoubtfulCluster(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 1}, Options{Replication: 1, Appends: 1}, func(l *lab) {
		f, g := l.begun("_f"), l.begun("_g")
		l.append(g, l.bytes(10))
		l.h.DN(0).Freeze()
		var wg sync.WaitGroup
		wg.Go(func() {
			err := f.Append(l.within(10*time.Second), [][]byte{{1}})
			if errors.Is(err, cluster.ErrNotTried) {
				t.Errorf("the one that had a place: %v", err)
			}
			wantErr(t, err, cluster.ErrUnavailable)
		})
		synctest.Wait()
		start := time.Now()
		err := g.Append(l.within(10*time.Second), [][]byte{{2}})
		wantErr(t, err, cluster.ErrNotTried)
		if d := time.Since(start); d > 1300*time.Millisecond {
			t.Errorf("it waited for %v", d)
		}
		wg.Wait()
		l.h.DN(0).Thaw()
		l.append(g, []byte("intact"))
		if g.Acked() != 16 {
			t.Errorf("acked %d", g.Acked())
		}
	})
}

func TestAppendThatIsNotTriedLeavesTheFileWhole(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		ctx, cancel := context.WithCancel(l.ctx)
		cancel()
		wantErr(t, f.Append(ctx, [][]byte{{1}}), cluster.ErrNotTried, context.Canceled)
		want := l.bytes(100)
		l.append(f, want)
		l.seal(f)
		l.holds("/logs/_f", want, 3)
	})
}
