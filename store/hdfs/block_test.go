package hdfs

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

func TestShortPipelineEndsItsBlockSoonAndBeginsOneOnNodesEnough(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 4}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(10_000)
		l.append(f, want)
		l.node(f, 1).Kill()
		begun := time.Now()
		for f.base == 0 {
			b := l.bytes(1000)
			l.append(f, b)
			want = append(want, b...)
			if d := time.Since(begun); d > 5*time.Second {
				t.Fatalf("the short block goes on after %v", d)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if d := time.Since(begun); d < 1500*time.Millisecond {
			t.Errorf("the short block ended after %v", d)
		}
		if f.Replicas() != 3 {
			t.Errorf("the next block is on %d nodes", f.Replicas())
		}
		l.seal(f)
		l.holds("/logs/_f", want, 2)
		if n := len(l.h.Blocks("/logs/_f")); n != 2 {
			t.Errorf("%d blocks", n)
		}
	})
}

func TestShortBlockGoesOnWhileTheNameNodeIsAway(t *testing.T) {
	for name, away := range map[string]func(l *lab){
		"frozen": func(l *lab) { l.h.NN(0).Freeze() },
		"dead":   func(l *lab) { l.h.NN(0).Kill() },
		"held":   func(l *lab) { l.ob.hold(true) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, hdfstest.Options{DataNodes: 4}, Options{}, func(l *lab) {
				f := l.begun("_f")
				want := l.bytes(1000)
				l.append(f, want)
				l.node(f, 1).Kill()
				l.append(f, want)
				want = append(want, want...)
				away(l)
				for range 40 {
					time.Sleep(250 * time.Millisecond)
					b := l.bytes(100)
					l.append(f, b)
					want = append(want, b...)
				}
				if f.base != 0 {
					t.Error("the block was ended, with no other to be had")
				}
				l.h.NN(0).Thaw()
				l.ob.hold(false)
				if name == "dead" {
					if err := l.h.NN(0).Restart(); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(5 * time.Second)
				l.append(f, want[:1])
				want = append(want, want[0])
				if f.base == 0 {
					t.Error("the short block goes on with the NameNode back")
				}
				l.seal(f)
				l.holds("/logs/_f", want, 2)
			})
		})
	}
}

func TestFullBlockIsEndedBeforeTheBytesThatNeedTheNext(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{BlockSize: 1 << 20}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1 << 20)
		l.append(f, want) // fills it to the last byte
		l.h.NN(0).Freeze()
		if f.Acked() != 1<<20 {
			t.Fatalf("acked %d", f.Acked())
		}
		err := f.Append(l.within(2*time.Second), [][]byte{{1}})
		wantErr(t, err, cluster.ErrUnavailable)
		if f.Acked() != 1<<20 {
			t.Errorf("acked %d", f.Acked())
		}
	})
}

func TestHeldClusterBeginsNoBlock(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{BlockSize: 1 << 20}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1 << 20)
		l.append(f, want)
		l.ob.hold(true)
		_, err := l.c.Create(l.ctx, "_g", cluster.FileOptions{Begin: true})
		wantErr(t, err, cluster.ErrHeld)
		if l.count("files_created") != 1 {
			t.Error("a file was created on a held cluster")
		}
		wantErr(t, f.Append(l.within(time.Second), [][]byte{{1}}), cluster.ErrNotTried, cluster.ErrHeld)
		wantErr(t, l.c.Replace(l.ctx, "small", []byte("x")), cluster.ErrHeld)
		if err := l.c.ProbeBlock(l.within(time.Second)); err != nil {
			t.Errorf("the probe: %v", err)
		}
		l.ob.hold(false)
		l.append(f, []byte{1}) // the file is whole
		l.seal(f)
		l.holds("/logs/_f", append(want, 1), 3)
		if l.ob.failures() != 0 {
			t.Errorf("failures %v", l.ob.failed)
		}
	})
}

func TestBlockOnFewerNodesThanAskedForIsCounted(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{Replication: 3, MinReplicas: 2}, func(l *lab) {
		l.h.DN(2).Forget(true)
		f := l.begun("_f")
		if f.Replicas() != 2 || l.count("short_blocks") != 1 || l.ob.failures() != 0 {
			t.Errorf("%d nodes, %d short, failures %v", f.Replicas(), l.count("short_blocks"), l.ob.failed)
		}
		l.h.DN(1).Forget(true)
		_, err := l.c.Create(l.within(2*time.Second), "_g", cluster.FileOptions{Begin: true})
		wantErr(t, err, cluster.ErrUnavailable, errShort)
		if l.ob.failures() != 1 {
			t.Errorf("failures %v", l.ob.failed)
		}
		if _, there := l.h.Paths()["/logs/_g"]; there {
			t.Error("the file without a block is still there")
		}
	})
}

func TestBlockStartGoesRoundNodesThatFail(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(l *lab)
	}{
		{"one is dead", func(l *lab) { l.h.DN(1).Kill() }},
		{"one hangs", func(l *lab) { l.h.DN(1).Freeze() }},
		{"one is a black hole", func(l *lab) { l.h.Net().BlackHole(l.h.DN(1).Addr(), true) }},
		{"one refuses", func(l *lab) {
			refuse := func(pipeline []int) (uint64, int) {
				for i, n := range pipeline {
					if n == 1 {
						return 1, i
					}
				}
				return 0, 0
			}
			for i := range 4 {
				l.h.DN(i).Refuse(refuse)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, hdfstest.Options{DataNodes: 4}, Options{}, func(l *lab) {
				test.fault(l)
				for range 5 {
					start := time.Now()
					f := l.begun("_f")
					want := l.bytes(2000)
					l.append(f, want)
					l.seal(f)
					l.holds("/logs/_f", want, 3)
					if d := time.Since(start); d > 1500*time.Millisecond {
						t.Errorf("it took %v", d)
					}
					if err := l.c.Remove(l.ctx, "_f"); err != nil {
						t.Fatal(err)
					}
				}
				if n := l.count("restarts"); n != 1 || l.ob.failures() != 0 {
					t.Errorf("%d set-ups repeated, failures %v", n, l.ob.failed)
				}
			})
		})
	}
}

func TestNodeThatFailedAWhileAgoIsBetterThanNone(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 2}, Options{Replication: 2}, func(l *lab) {
		l.h.DN(0).Kill()
		_, err := l.c.Create(l.within(3*time.Second), "_f", cluster.FileOptions{Begin: true})
		wantErr(t, err, cluster.ErrUnavailable)
		l.ob.calm = true
		if err := l.h.DN(0).Restart(); err != nil {
			t.Fatal(err)
		}
		f := l.begun("_f") // at once, although it is to be avoided
		if f.Replicas() != 2 {
			t.Errorf("%d replicas", f.Replicas())
		}
	})
}

func TestBlockStartThatFailsTellsWhoseFaultItIs(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  func(l *lab)
		is     error // of the error
		told   bool
		limit  time.Duration
		remain bool // the empty file
	}{
		{"no DataNode listens", func(l *lab) { all(l, (*hdfstest.DataNode).Kill) }, cluster.ErrUnavailable, true, time.Second, false},
		{"all DataNodes hang", func(l *lab) { all(l, (*hdfstest.DataNode).Freeze) }, cluster.ErrUnavailable, true, 1600 * time.Millisecond, false},
		{"the NameNode knows none", func(l *lab) {
			all(l, func(d *hdfstest.DataNode) { d.Forget(true) })
		}, cluster.ErrUnavailable, true, time.Second, false},
		{"safe mode", func(l *lab) { l.h.SafeMode(true) }, cluster.ErrUnavailable, true, time.Second, false},
		{"the NameNode is dead", func(l *lab) { l.h.NN(0).Kill() }, cluster.ErrUnavailable, true, time.Second, false},
		{"the NameNode hangs", func(l *lab) { l.h.NN(0).Freeze() }, cluster.ErrUnavailable, true, 2100 * time.Millisecond, false},
		{"quota", func(l *lab) {
			l.h.NN(0).Script(func(method string, _ int) (f hdfstest.Fault) {
				if method == "addBlock" {
					f.Class, f.Text = "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "The DiskSpace quota of / is exceeded"
				}
				return f
			})
		}, nil, false, time.Second, false},
		{"permission", func(l *lab) {
			l.h.NN(0).Script(func(method string, _ int) (f hdfstest.Fault) {
				if method == "create" {
					f.Class, f.Text = "org.apache.hadoop.security.AccessControlException", "Permission denied: user=scribe"
				}
				return f
			})
		}, fs.ErrPermission, false, time.Second, false},
		{"the NameNode hangs after create", func(l *lab) {
			l.h.NN(0).Script(func(method string, _ int) hdfstest.Fault {
				return hdfstest.Fault{Silent: method != "create" && method != "getServerDefaults"}
			})
		}, cluster.ErrUnavailable, true, 2100 * time.Millisecond, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				l.begun("_before")
				test.fault(l)
				start := time.Now()
				_, err := l.c.Create(l.within(2*time.Second), "_f", cluster.FileOptions{Begin: true})
				if err == nil || test.is != nil && !errors.Is(err, test.is) || test.is == nil && errors.Is(err, cluster.ErrUnavailable) {
					t.Fatalf("error %v", err)
				}
				if d := time.Since(start); d > test.limit {
					t.Errorf("it took %v", d)
				}
				if (l.ob.failures() > 0) != test.told {
					t.Errorf("failures %v", l.ob.failed)
				}
				time.Sleep(5 * time.Second)
				if _, there := l.h.Paths()["/logs/_f"]; there != test.remain {
					t.Errorf("the empty file is there: %v", there)
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("an error of more than one line: %q", err)
				}
			})
		})
	}
}

func all(l *lab, do func(*hdfstest.DataNode)) {
	for i := range 3 {
		do(l.h.DN(i))
	}
}

func TestBlockStartsWaitForOneAnotherWithinTheirBudget(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 1}, Options{Replication: 1, BlockStarts: 1}, func(l *lab) {
		l.ob.calm = true
		l.h.DN(0).Freeze()
		go l.c.Create(l.within(3*time.Second), "_f", cluster.FileOptions{Begin: true})
		synctest.Wait()
		start := time.Now()
		_, err := l.c.Create(l.within(time.Second), "_g", cluster.FileOptions{Begin: true})
		wantErr(t, err, context.DeadlineExceeded)
		if d := time.Since(start); d > 1100*time.Millisecond {
			t.Errorf("it waited for %v", d)
		}
		time.Sleep(10 * time.Second)
	})
}

func TestPreviousBlockThatIsNotKnownYetIsWaitedFor(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{BlockSize: 1 << 20}, func(l *lab) {
		f := l.begun("_f")
		l.h.NN(0).Script(func(method string, nth int) (f hdfstest.Fault) {
			if method == "addBlock" && nth <= 4 {
				f.Class = "org.apache.hadoop.hdfs.server.namenode.NotReplicatedYetException"
			}
			return f
		})
		want := l.bytes(3<<20 + 5)
		l.append(f, want)
		l.seal(f)
		l.holds("/logs/_f", want, 3)
	})
}

func TestReplicationOfTheClusterDecidesWhereNoneIsGiven(t *testing.T) {
	for _, test := range []struct{ server, least, want int }{{3, 0, 2}, {2, 0, 2}, {1, 0, 1}, {3, 3, 3}} {
		bubble(t, hdfstest.Options{Replication: test.server}, Options{MinReplicas: test.least}, func(l *lab) {
			f := l.begun("_f")
			if f.Replicas() != test.server || f.min != test.want {
				t.Errorf("server default %d: %d replicas, at least %d", test.server, f.Replicas(), f.min)
			}
			l.begun("_g")
			if n := l.count("nn_calls.getServerDefaults"); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
	bubble(t, hdfstest.Options{Replication: 1}, Options{MinReplicas: 2}, func(l *lab) {
		if _, err := l.c.Create(l.ctx, "_f", cluster.FileOptions{}); err == nil || !strings.Contains(err.Error(), "set replication") {
			t.Errorf("a promise that cannot be kept: %v", err)
		}
	})
}
