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

func TestSlowNodesAreBetterThanNone(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.ob.calm = true
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		// One dies, and both others are so busy with what that brings that they
		// answer nothing for a while, as hundreds of pipelines do to them.
		l.node(f, 0).Kill()
		busy := []*hdfstest.DataNode{l.node(f, 1), l.node(f, 2)}
		for _, d := range busy {
			d.Freeze()
		}
		time.AfterFunc(1100*time.Millisecond, busy[0].Thaw)
		time.AfterFunc(1700*time.Millisecond, busy[1].Thaw)
		b := l.bytes(1000)
		l.append(f, b)
		if f.Replicas() != 2 {
			t.Errorf("%d replicas", f.Replicas())
		}
		l.seal(f)
		l.holds("/logs/_f", append(want, b...), 2)
	})
}

// While one append waits for a node that hangs, another one has sent nothing
// yet. The NameNode hangs too, so that no pipeline can be recovered within the
// budget: the first file is lost, the other one goes on later.
func TestAppendThatSentNothingLeavesItsFileWhole(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.ob.calm = true
		f, g := l.begun("_f"), l.begun("_g")
		want := l.bytes(1000)
		l.append(f, l.bytes(10))
		l.append(g, want)
		l.h.DN(1).Freeze()
		l.h.NN(0).Freeze()
		var wg sync.WaitGroup
		wg.Go(func() {
			err := f.Append(l.within(2*time.Second), [][]byte{{1, 2, 3}})
			wantErr(t, err, cluster.ErrUnavailable, context.DeadlineExceeded)
			if errors.Is(err, cluster.ErrNotTried) {
				t.Errorf("it had sent bytes: %v", err)
			}
		})
		time.Sleep(1200 * time.Millisecond) // the node is known to be dead
		start := time.Now()
		err := g.Append(l.within(2*time.Second), [][]byte{l.bytes(20)})
		wantErr(t, err, cluster.ErrNotTried, context.DeadlineExceeded)
		if d := time.Since(start); d > 2100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		wg.Wait()
		if l.ob.failures() < 2 {
			t.Errorf("%d failures told, want the one of each append: the NameNode did not answer them", l.ob.failures())
		}
		l.h.NN(0).Thaw()
		b := l.bytes(30)
		l.append(g, b)
		if g.Replicas() != 2 {
			t.Errorf("%d replicas", g.Replicas())
		}
		l.seal(g)
		l.holds("/logs/_g", append(want, b...), 2)
	})
}

// A block could not be begun in time: the file is as it was.
func TestFileWhoseNextBlockDoesNotBeginInTimeGoesOnLater(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.ob.calm = true
		f := l.create("_f", cluster.FileOptions{BlockSize: 1024, Begin: true})
		want := l.bytes(1024)
		l.append(f, want)
		l.h.NN(0).Freeze()
		err := f.Append(l.within(2*time.Second), [][]byte{l.bytes(20)})
		wantErr(t, err, cluster.ErrNotTried, context.DeadlineExceeded)
		l.h.NN(0).Thaw()
		b := l.bytes(1500)
		l.append(f, b)
		l.seal(f)
		l.holds("/logs/_f", append(want, b...), 3)
	})
}

// The NameNode made a block and its answer never came: the file is sealed
// without that block, or goes on.
func TestBlockOfABeginThatFailedIsTakenAway(t *testing.T) {
	for _, more := range []bool{false, true} {
		t.Run(fmt.Sprintf("more=%v", more), func(t *testing.T) {
			bubble(t, hdfstest.Options{DataNodes: 3}, Options{}, func(l *lab) {
				l.ob.calm = true
				f := l.create("_f", cluster.FileOptions{BlockSize: 1024, Begin: true})
				want := l.bytes(1024)
				l.append(f, want)
				l.h.NN(0).Script(func(method string, _ int) hdfstest.Fault {
					return hdfstest.Fault{Lose: method == "addBlock"}
				})
				err := f.Append(l.within(2*time.Second), [][]byte{l.bytes(20)})
				wantErr(t, err, cluster.ErrNotTried)
				l.h.NN(0).Script(nil)
				if n := len(l.h.Blocks("/logs/_f")); n != 2 {
					t.Fatalf("%d blocks, want the one of which nobody heard", n)
				}
				if more {
					b := l.bytes(20)
					l.append(f, b)
					want = append(want, b...)
				}
				l.seal(f)
				l.holds("/logs/_f", want, 3)
				if n := len(l.h.Blocks("/logs/_f")); n != (len(want)+1023)/1024 {
					t.Errorf("%d blocks for %d bytes", n, len(want))
				}
			})
		})
	}
}

// A batch over two blocks of which the first is acknowledged is in the file.
func TestAppendOfWhichAPartIsAcknowledgedIsNotUntried(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.create("_f", cluster.FileOptions{BlockSize: 1024, Begin: true})
		l.append(f, l.bytes(24))
		l.h.NN(0).Freeze()
		err := f.Append(l.within(2*time.Second), [][]byte{l.bytes(1100)})
		if errors.Is(err, cluster.ErrNotTried) || f.Acked() != 24 {
			t.Errorf("error %v, acked %d", err, f.Acked())
		}
		if again := f.Append(l.within(time.Second), [][]byte{{1}}); !errors.Is(again, err) {
			t.Errorf("the next append says %v, want the first error", again)
		}
	})
}

// When a node dies, whoever has not sent yet hears of it before it sends.
func TestDeadNodeIsKnownToOthersBeforeTheySend(t *testing.T) {
	bubble(t, hdfstest.Options{DataNodes: 3}, Options{Appends: 4}, func(l *lab) {
		var fs []*File
		for i := range 12 {
			f := l.begun(fmt.Sprintf("_%d", i))
			l.append(f, l.bytes(100))
			fs = append(fs, f)
		}
		l.h.DN(0).Kill()
		if err := fs[0].Append(l.within(2*time.Second), [][]byte{{1}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := l.h.DN(1).Packets() + l.h.DN(2).Packets()
		for _, f := range fs[1:] {
			if err := f.Append(l.within(2*time.Second), [][]byte{{1}}); err != nil {
				t.Fatal(err)
			}
		}
		// One packet for each: none was sent in vain.
		if n := l.h.DN(1).Packets() + l.h.DN(2).Packets() - before; n != len(fs[1:]) {
			t.Errorf("%d packets for %d appends", n, len(fs[1:]))
		}
	})
}

// Recoveries of files whose batch a node may have go before the others, and a
// place is never lost.
func TestPlacesGoFirstToThoseWhoHaveSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(1)
		if err := p.take(t.Context(), laneClean); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*time.Second)
				defer cancel()
				lane := laneClean
				if i >= 4 {
					lane = laneSent
				}
				if err := p.take(ctx, lane); err != nil {
					wantErr(t, err, errCrowded, context.DeadlineExceeded)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				p.give()
			})
			synctest.Wait()
		}
		time.Sleep(2500 * time.Millisecond) // 0 and 1 have left
		p.give()
		wg.Wait()
		if fmt.Sprint(order) != "[4 5 2 3]" {
			t.Errorf("places went to %v", order)
		}
		if err := p.take(t.Context(), laneSent); err != nil || p.free != 0 {
			t.Errorf("at the end: %v, %d free", err, p.free)
		}
	})
}
