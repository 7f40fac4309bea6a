package hdfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"twinscribe/store/hdfs/hdfstest"
)

func TestPipelineThatFailsWhileIdleIsClosedAtOnce(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		first := l.first(f)
		first.Kill()
		time.Sleep(2 * listenEvery)
		own(f, func() {
			if f.pipe.failed == nil {
				t.Fatal("nobody heard that the connection is gone")
			} else if _, err := f.pipe.conn.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the connection is not closed: %v", err)
			}
		})
		sent := first.Packets()
		l.append(f, want)
		if n := l.count("recoveries"); n != 1 {
			t.Errorf("%d recoveries, want 1", n)
		}
		if first.Packets() != sent {
			t.Error("bytes went to the lost pipeline")
		}
		l.seal(f)
		l.holds("/logs/_f", append(want, want...), 2)
	})
}

func TestFilesOfANodeThatIsGoneKnowItBeforeTheySend(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		var fs []*File
		for i := range 30 {
			f := l.begun(fmt.Sprintf("_%d", i))
			l.append(f, []byte("x"))
			fs = append(fs, f)
		}
		l.h.DN(1).Kill() // the first nodes of most pipelines live, and do not know yet
		time.Sleep(10 * listenEvery)
		for i, f := range fs {
			own(f, func() {
				if f.pipe.failed == nil {
					t.Errorf("file %d goes on as if nothing was", i)
				}
				if f.sent != f.off {
					t.Errorf("file %d has sent", i)
				}
			})
		}
		for _, f := range fs {
			l.append(f, []byte("y"))
			l.seal(f)
		}
		if n := l.count("recoveries"); n != int64(len(fs)) {
			t.Errorf("%d recoveries, want %d", n, len(fs))
		}
	})
}

// appended makes n files, and counts those whose pipelines have failed: of which
// DataNode 1 was the first node, and the others.
func appended(l *lab, n int) (fs []*File, failed func() (here, elsewhere int)) {
	for i := range n {
		f := l.begun(fmt.Sprintf("_%d", i))
		l.append(f, []byte("x"))
		fs = append(fs, f)
	}
	return fs, func() (here, elsewhere int) {
		for _, f := range fs {
			own(f, func() {
				switch {
				case f.pipe.failed == nil:
				case f.nodes[0].addr == l.h.DN(1).Addr():
					here++
				default:
					elsewhere++
				}
			})
		}
		return here, elsewhere
	}
}

// A process that ends goes on taking connections while it breaks off others.
func TestNodeThatLosesManyConnectionsIsTakenForGoneUntilItAnswers(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		fs, failed := appended(l, 30)
		n := l.h.DN(1)
		n.Freeze()
		n.Drop(manyLost)
		time.Sleep(2 * listenEvery) // less than any probe takes
		if here, elsewhere := failed(); here <= manyLost || here+elsewhere != len(fs) {
			t.Fatalf("%d and %d pipelines are hung up of %d, all of which go through the node", here, elsewhere, len(fs))
		}
		start := time.Now()
		for _, f := range fs {
			l.append(f, []byte("y"))
			if f.Replicas() != 2 {
				t.Fatalf("%d replicas", f.Replicas())
			}
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("appends waited %v for a probe of the node", d)
		}
		n.Thaw()
		time.Sleep(2 * time.Second)
		if ns := l.c.nodes.avoid(refused); len(ns) != 0 {
			t.Errorf("%d nodes avoided although all answer", len(ns))
		}
		for i, f := range fs {
			l.seal(f)
			l.holds(fmt.Sprintf("/logs/_%d", i), []byte("xy"), 2)
		}
	})
}

func TestFewLostConnectionsCostTheOthersNothing(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		fs, failed := appended(l, 30)
		l.h.DN(1).Drop(manyLost - 1)
		time.Sleep(10 * listenEvery)
		if here, elsewhere := failed(); here != manyLost-1 || elsewhere != 0 {
			t.Errorf("%d and %d pipelines failed, want the %d lost ones", here, elsewhere, manyLost-1)
		}
		for _, f := range fs {
			l.append(f, []byte("y"))
		}
		if ns := l.c.nodes.avoid(dead); len(ns) != 0 {
			t.Errorf("%d nodes taken for dead", len(ns))
		}
	})
}

func TestProbeThatIsBrokenOffAsksAgainAtOnce(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.append(l.begun("_f"), []byte("x"))
		n := l.h.DN(1)
		n.Freeze()
		start := time.Now()
		time.AfterFunc(100*time.Millisecond, n.Kill)
		err := l.c.ask(node{addr: n.Addr()}, make(chan struct{}))
		wantErr(t, err, syscall.ECONNREFUSED)
		if d := time.Since(start); d != 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

// own does what only the owner of a file's turn may.
func own(f *File, do func()) {
	<-f.turn
	defer f.release()
	do()
}

// A seal that was broken off may have sent the last packet: the DataNode closes
// behind its acknowledgement, which is no failure.
func TestConnectionThatADataNodeEndedIsNoFailureForTheNextSeal(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		p := f.pipeNow.Load()
		own(f, func() {
			if err := p.last(); err != nil {
				t.Fatal(err)
			}
		})
		time.Sleep(10 * listenEvery)
		own(f, func() {
			if p.failed != nil {
				t.Error(p.failed)
			}
			if err := p.wait(0, time.Now().Add(time.Second)); err != nil {
				t.Error(err)
			}
		})
	})
}

// sockets makes a cluster of n files with pipelines to a listener, and answers
// its ends of them.
func sockets(t testing.TB, n int) (c *Cluster, files []*File, there []net.Conn) {
	t.Helper()
	in, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	c = &Cluster{files: map[*File]struct{}{}}
	for range n {
		here, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", in.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { here.Close() })
		conn, err := in.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		f := newFile(c, "_f", 1, 3, 1, 1)
		f.pipeNow.Store(&pipe{conn: here, fd: descriptor(here)})
		c.files[f] = struct{}{}
		there, files = append(there, conn), append(files, f)
	}
	return c, files, there
}

func TestEarHearsSocketsThatSpeak(t *testing.T) {
	c, files, there := sockets(t, 3)
	var e ear
	if fs := e.speaking(c); len(fs) != 0 {
		t.Fatalf("%d files speak", len(fs))
	}
	if _, err := there[1].Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	there[2].Close()
	heard := map[*File]bool{}
	for end := time.Now().Add(10 * time.Second); len(heard) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, f := range e.speaking(c) {
			heard[f] = true
		}
	}
	if heard[files[0]] || !heard[files[1]] || !heard[files[2]] {
		t.Errorf("heard %v", heard)
	}
	if descriptor(struct{ net.Conn }{}) != -1 {
		t.Error("what is no socket has a descriptor")
	}
}

// What listening to 1,000 idle pipelines takes, 20 times a second.
func BenchmarkListen(b *testing.B) {
	c, _, _ := sockets(b, 1000)
	var e ear
	for b.Loop() {
		if fs := e.speaking(c); len(fs) != 0 {
			b.Fatalf("%d files speak", len(fs))
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/listenEvery.Seconds()*100, "%core")
}
