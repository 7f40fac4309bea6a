package hdfs

import (
	"context"
	"errors"
	"fmt"
	"net"
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
		if p := f.pipeNow.Load(); p.failed == nil {
			t.Fatal("nobody heard that the connection is gone")
		} else if _, err := p.conn.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection is not closed: %v", err)
		}
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
			if p := f.pipeNow.Load(); p.failed == nil {
				t.Errorf("file %d goes on as if nothing was", i)
			}
			if f.sent != f.off {
				t.Errorf("file %d has sent", i)
			}
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

// A seal that was broken off may have sent the last packet: the DataNode closes
// behind its acknowledgement, which is no failure.
func TestConnectionThatADataNodeEndedIsNoFailureForTheNextSeal(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		p := f.pipeNow.Load()
		if err := p.last(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * listenEvery)
		if p.failed != nil {
			t.Error(p.failed)
		}
		if err := p.wait(0, time.Now().Add(time.Second)); err != nil {
			t.Error(err)
		}
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
