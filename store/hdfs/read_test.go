package hdfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

// written is a sealed file of several blocks.
func (l *lab) written(path string, size int) []byte {
	l.t.Helper()
	f := l.create(path, cluster.FileOptions{BlockSize: 1 << 20, Begin: true})
	want := l.bytes(size)
	l.append(f, want)
	l.seal(f)
	return want
}

func TestReaderReadsInOrderAndAtAnyPlace(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		want := l.written("f", 3<<20+1234)
		r, err := l.c.Open(l.ctx, "f")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		head := make([]byte, 100_001)
		if _, err = io.ReadFull(r, head); err != nil || !bytes.Equal(head, want[:len(head)]) {
			t.Fatalf("the beginning: %v", err)
		}
		var wg sync.WaitGroup
		for range 20 { // ReadAt by many, beside Read
			wg.Go(func() {
				b := make([]byte, 1+rand.IntN(200_000))
				at := rand.IntN(len(want))
				n, err := r.ReadAt(b, int64(at))
				if end := min(at+len(b), len(want)); !bytes.Equal(b[:n], want[at:end]) || errors.Is(err, io.EOF) != (at+len(b) > len(want)) {
					t.Errorf("%d bytes at %d: %d, %v", len(b), at, n, err)
				}
			})
		}
		wg.Wait()
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(rest, want[len(head):]) {
			t.Fatalf("the rest: %d bytes, %v", len(rest), err)
		}
		if n, err := r.ReadAt(head, int64(len(want))); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %d, %v", n, err)
		}
		if _, err := r.ReadAt(head, -1); err == nil {
			t.Error("read at -1")
		}
	})
}

func TestReadingInOrderMakesOneConnectionForABlock(t *testing.T) {
	bubble(t, hdfstest.Options{Replication: 1, DataNodes: 1}, Options{}, func(l *lab) {
		want := l.written("f", 3<<20)
		r, err := l.c.Open(l.ctx, "f")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		before := l.h.DN(0).Dials()
		for at := 0; at < len(want); at += 4096 {
			b := make([]byte, 4096)
			if _, err := r.ReadAt(b, int64(at)); err != nil || !bytes.Equal(b, want[at:at+4096]) {
				t.Fatalf("at %d: %v", at, err)
			}
		}
		if n := l.h.DN(0).Dials() - before; n != 3 {
			t.Errorf("%d connections for 3 blocks", n)
		}
	})
}

func TestReadingGoesRoundADataNode(t *testing.T) {
	for name, fault := range map[string]func(*hdfstest.DataNode){"dead": (*hdfstest.DataNode).Kill, "hung": (*hdfstest.DataNode).Freeze} {
		t.Run(name, func(t *testing.T) {
			bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
				want := l.written("f", 2<<20)
				r, err := l.c.Open(l.ctx, "f")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				b := make([]byte, 1000)
				if _, err = io.ReadFull(r, b); err != nil {
					t.Fatal(err)
				}
				fault(l.h.DN(0))
				fault(l.h.DN(1))
				start := time.Now()
				rest, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(append(b, rest...), want) {
					t.Fatalf("%d bytes, %v", len(rest), err)
				}
				if d := time.Since(start); d > 10*time.Second {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

func TestReadingWithoutAnyDataNodeEnds(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.written("f", 2<<20)
		r, err := l.c.Open(l.ctx, "f")
		if err != nil {
			t.Fatal(err)
		}
		all(l, (*hdfstest.DataNode).Freeze)
		start := time.Now()
		if _, err = io.ReadAll(r); err == nil {
			t.Fatal("read from DataNodes that hang")
		}
		if d := time.Since(start); d > 7*time.Second {
			t.Errorf("it took %v", d)
		}
		time.AfterFunc(time.Second, func() { r.Close() }) // ends what is under way
		start = time.Now()
		if _, err = r.Read(make([]byte, 10)); err == nil {
			t.Fatal("read")
		}
		if d := time.Since(start); d > 1100*time.Millisecond {
			t.Errorf("Close was waited for %v", d)
		}
		if _, err = r.Read(make([]byte, 10)); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("read of a closed one: %v", err)
		}
		synctest.Wait()
	})
}

func TestReadersCostNoNameNodeConnection(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		want := l.written("f", 100_000)
		for range 50 {
			r, err := l.c.Open(l.ctx, "f")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if n := l.count("nn_dials"); n != 1 {
			t.Errorf("%d NameNode connections", n)
		}
		if n := l.count("nn_calls.renewLease"); n != 0 {
			t.Errorf("readers renewed a lease %d times", n)
		}
	})
}

func TestListGivesEveryEntryOfManyPagesInOrder(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		for i := range 23 { // the NameNode's page is 5
			if err := l.c.Replace(l.ctx, fmt.Sprintf("d/%c%d", 'A'+i%3*20, i), []byte("xyz")); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.c.Replace(l.ctx, "d/sub/f", nil); err != nil {
			t.Fatal(err)
		}
		infos, err := l.c.List(l.ctx, "d")
		if err != nil || len(infos) != 24 {
			t.Fatalf("%d entries, %v", len(infos), err)
		}
		for i, e := range infos {
			if i > 0 && infos[i-1].Name >= e.Name {
				t.Errorf("%s before %s", infos[i-1].Name, e.Name)
			}
			if e.Folder != (e.Name == "sub") || !e.Folder && e.Size != 3 {
				t.Errorf("%+v", e)
			}
		}
		if infos, err = l.c.List(l.ctx, "none"); err != nil || infos != nil {
			t.Errorf("a folder that is not there: %v, %v", infos, err)
		}
		if _, err = l.c.Open(l.ctx, "d"); err == nil {
			t.Error("opened a folder")
		}
		if i, err := l.c.Stat(l.ctx, ""); err != nil || !i.Folder {
			t.Errorf("the root: %v, %v", i, err)
		}
	})
}

func TestReplaceLeavesTheOldOrTheNewContent(t *testing.T) {
	for _, method := range []string{"create", "addBlock", "complete", "rename2"} {
		for name, fault := range map[string]hdfstest.Fault{
			"refused": {Class: "java.io.IOException", Text: "refused"},
			"silent":  {Silent: true},
			"lost":    {Lose: true},
		} {
			t.Run(method+"/"+name, func(t *testing.T) {
				bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
					l.ob.calm = true
					old, content := []byte("old"), l.bytes(100_000)
					if err := l.c.Replace(l.ctx, "d/f", old); err != nil {
						t.Fatal(err)
					}
					l.h.NN(0).Script(func(m string, _ int) hdfstest.Fault {
						if m == method {
							return fault
						}
						return hdfstest.Fault{}
					})
					err := l.c.Replace(l.within(5*time.Second), "d/f", content)
					if err == nil && name != "lost" {
						t.Error("replaced against a refusal")
					}
					l.h.NN(0).Script(nil)
					got, _, err2 := l.h.Content("/logs/d/f")
					if err2 != nil || !bytes.Equal(got, old) && !bytes.Equal(got, content) || err == nil && !bytes.Equal(got, content) {
						t.Errorf("%d bytes, %v", len(got), err2)
					}
					time.Sleep(10 * time.Second)
					for p := range l.h.Paths() {
						// What a create without an answer made is unknown to us.
						if p != "/logs/d/f" && !(method == "create" && name == "lost") {
							t.Errorf("%s is left", p)
						}
					}
				})
			})
		}
	}
}

func TestProbeLeavesNothingAndProvesAPipeline(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		if err := l.c.ProbeBlock(l.ctx); err != nil {
			t.Fatal(err)
		}
		if ps := l.h.Paths(); len(ps) != 0 {
			t.Errorf("%v", ps)
		}
		if l.ob.acked != 0 {
			t.Error("the probe's bytes count as traffic")
		}
		l.h.DN(0).Kill() // one of three: it is gone round
		if err := l.c.ProbeBlock(l.within(2 * time.Second)); err != nil {
			t.Error(err)
		}
		l.h.DN(1).Freeze()
		l.h.DN(2).Freeze()
		start := time.Now()
		wantErr(t, l.c.ProbeBlock(l.within(2*time.Second)), cluster.ErrUnavailable)
		if d := time.Since(start); d > 2100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if l.ob.failures() != 0 {
			t.Errorf("the probe told what its caller tells: %v", l.ob.failed)
		}
		l.h.DN(1).Thaw()
		l.h.DN(2).Thaw()
		time.Sleep(5 * time.Second)
		if ps := l.h.Paths(); len(ps) != 0 {
			t.Errorf("%v is left", ps)
		}
	})
}

func TestRecoveredFileIsCutDurably(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{BlockSize: 1 << 20}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(2<<20 + 300)
		l.append(f, want)
		f.Abort()
		l.recover("_f")
		for _, size := range []int64{2<<20 + 100, 2 << 20, 1<<20 + 1, 0} {
			if _, err := l.c.Truncate(l.ctx, "_f", size); err != nil {
				t.Fatal(err)
			}
			l.recover("_f")
			i, err := l.c.Stat(l.ctx, "_f")
			if err != nil || i.Size != size {
				t.Fatalf("size %d, %v, want %d", i.Size, err, size)
			}
			l.holds("/logs/_f", want[:size], 3)
		}
		if _, err := l.c.Truncate(l.ctx, "_f", 1); err == nil {
			t.Error("a file was made longer by Truncate")
		}
		if _, err := l.c.Recover(l.ctx, "none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("recover of nothing: %v", err)
		}
	})
}
