//go:build integration

package hdfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/user"
	"path"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

// The addresses of the NameNodes of two real clusters, host:port: one DataNode
// at least in the first, three in the second.
const (
	oneNode    = "TWINSCRIBE_N1"
	threeNodes = "TWINSCRIBE_N2"
)

// realCluster connects to the cluster whose NameNode's address is in the
// environment. What the test writes lies in a folder of its own.
func realCluster(t *testing.T, env string, o Options) *Cluster {
	t.Helper()
	addr := os.Getenv(env)
	if addr == "" {
		t.Skipf("%s holds no NameNode address: start a cluster, or run this by make", env)
	}
	o.Name, o.NameNodes, o.User = "real", []string{addr}, "root"
	if u, err := user.Current(); err == nil { // who runs the tests started the cluster, and is its superuser
		o.User = u.Username
	}
	o.Root = fmt.Sprintf("/hdfs-test/%s-%d", t.Name(), time.Now().UnixNano())
	if o.Log == nil {
		o.Log = zaptest.NewLogger(t)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func bothClusters(t *testing.T, f func(t *testing.T, env string)) {
	for _, env := range []string{oneNode, threeNodes} {
		t.Run(env, func(t *testing.T) { f(t, env) })
	}
}

func realFile(t *testing.T, c *Cluster, p string, o cluster.FileOptions) *File {
	t.Helper()
	f, err := c.Create(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	return f.(*File)
}

func letters(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + r.UintN(26))
	}
	return b
}

func realAppend(t *testing.T, f cluster.File, b []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.Append(ctx, [][]byte{b[:len(b)/3], b[len(b)/3:]}); err != nil {
		t.Fatal(err)
	}
}

// mustRead reads a file in two ways.
func mustRead(t *testing.T, c *Cluster, p string, want []byte) {
	t.Helper()
	r, err := c.Open(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil {
		err = same(got, want)
	}
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	if n := len(want); n > 10 {
		part := make([]byte, n/2)
		if _, err := r.ReadAt(part, int64(n/3)); err != nil || !bytes.Equal(part, want[n/3:n/3+n/2]) {
			t.Fatalf("%s: a part of it read wrong: %v", p, err)
		}
	}
}

func TestRealClusterPassesTheSuite(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		clustertest.Run(t, func(t *testing.T) cluster.Cluster { return realCluster(t, env, Options{BlockSize: 1 << 20}) })
	})
}

func TestRealClusterKeepsOddLengthsOverManyBlocks(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{})
		for i, most := range []int{700, 5000, 200_000, 3 << 20} {
			open, final := fmt.Sprintf("d%d/_f.open", i), fmt.Sprintf("d%d/f", i)
			f := realFile(t, c, open, cluster.FileOptions{BlockSize: 1 << 20, Begin: true})
			var want []byte
			for k := range 40 {
				b := letters(1+rand.IntN(most), uint64(k))
				realAppend(t, f, b)
				want = append(want, b...)
			}
			if err := f.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Rename(t.Context(), open, final); err != nil {
				t.Fatal(err)
			}
			mustRead(t, c, final, want)
		}
		if n := c.Counters()["recoveries"]; n != 0 {
			t.Errorf("%d recoveries without a fault", n)
		}
	})
}

func TestRealClusterShowsWhatAnOpenFileHasPublished(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{})
		f := realFile(t, c, "_open", cluster.FileOptions{BlockSize: 1 << 20, Begin: true})
		var want []byte
		for k := range 12 {
			b := letters(1+rand.IntN(300_000), uint64(k))
			realAppend(t, f, b)
			want = append(want, b...)
			if err := f.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			realAppend(t, f, b[:1]) // not published: must not be seen
			if i, err := c.Stat(t.Context(), "_open"); err != nil || i.Size != int64(len(want)) {
				t.Fatalf("size %d, %v, want %d", i.Size, err, len(want))
			}
			mustRead(t, c, "_open", want)
			want = append(want, b[0])
		}
		if err := f.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustRead(t, c, "_open", want)
	})
}

func TestRealClusterFencesAWriterWhoseLeaseWasTaken(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{})
		other := realCluster(t, env, Options{})
		other.o.Root = c.o.Root
		f := realFile(t, c, "_f", cluster.FileOptions{Begin: true})
		want := letters(5000, 1)
		realAppend(t, f, want)
		waitClosed(t, other, "_f")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := f.Append(ctx, [][]byte{letters(100, 2)}); err == nil || errors.Is(err, cluster.ErrUnavailable) {
			t.Fatalf("append after the lease was taken: %v, want an error about the file", err)
		}
		if err := f.Seal(ctx); err == nil {
			t.Fatal("sealed after the lease was taken")
		}
		mustRead(t, other, "_f", want)
	})
}

func waitClosed(t *testing.T, c *Cluster, p string) {
	t.Helper()
	for range 60 {
		closed, err := c.Recover(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if closed {
			return
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Fatalf("%s is not closed", p)
}

func TestRealClusterRecoversAnAbortedFileAndCutsIt(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{})
		f := realFile(t, c, "_f", cluster.FileOptions{Begin: true})
		want := letters(51000, 1)
		realAppend(t, f, want)
		realAppend(t, f, want[:1000])
		f.Abort()
		waitClosed(t, c, "_f")
		i, err := c.Stat(t.Context(), "_f")
		if err != nil || i.Size != 52000 {
			t.Fatalf("recovered size %d, %v", i.Size, err)
		}
		if _, err = c.Truncate(t.Context(), "_f", 51000); err != nil {
			t.Fatal(err)
		}
		waitClosed(t, c, "_f")
		mustRead(t, c, "_f", want)
	})
}

func TestRealClusterKeepsPathsApart(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{})
		ctx := t.Context()
		for _, p := range []string{"a/f", "a/g"} {
			for _, content := range []string{"old", "", "new and longer"} {
				if err := c.Replace(ctx, p, []byte(content)); err != nil {
					t.Fatal(err)
				}
				mustRead(t, c, p, []byte(content))
			}
		}
		if err := c.Rename(ctx, "a/f", "a/g"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("rename onto a file: %v", err)
		}
		if err := c.Rename(ctx, "a/none", "a/h"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("rename of nothing: %v", err)
		}
		if _, err := c.Create(ctx, "a/f", cluster.FileOptions{}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create of a file that is there: %v", err)
		}
		open := realFile(t, c, "a/_open", cluster.FileOptions{})
		if _, err := c.Create(ctx, "a/_open", cluster.FileOptions{}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create of an open file: %v", err)
		}
		open.Abort()
		if _, err := c.Stat(ctx, "a/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat of nothing: %v", err)
		}
		if _, err := c.Open(ctx, "a/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open of nothing: %v", err)
		}
		if err := c.Remove(ctx, "a/none"); err != nil {
			t.Errorf("remove of nothing: %v", err)
		}
		if err := c.Remove(ctx, "a"); err == nil {
			t.Error("removed a folder with files in it")
		}
		infos, err := c.List(ctx, "a")
		if err != nil || len(infos) != 3 || infos[0].Name != "_open" || infos[2].Name != "g" {
			t.Errorf("list: %v, %v", infos, err)
		}
		if infos, err = c.List(ctx, "none"); err != nil || len(infos) != 0 {
			t.Errorf("list of nothing: %v, %v", infos, err)
		}
		if err := c.Ping(ctx); err != nil {
			t.Error(err)
		}
		if err := c.ProbeBlock(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestRealClusterRefusesAUserWithoutPermission(t *testing.T) {
	c := realCluster(t, oneNode, Options{})
	if err := c.Replace(t.Context(), "f", []byte("x")); err != nil {
		t.Fatal(err)
	}
	o := c.o
	o.User = "mallory"
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err = m.Create(t.Context(), "g", cluster.FileOptions{}); !errors.Is(err, fs.ErrPermission) || errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("create by another user: %v", err)
	}
	if i, err := m.Stat(t.Context(), "f"); err != nil || i.Size != 1 { // folders that create made can be passed by others
		t.Fatalf("stat by another user: %v, %v", i, err)
	}
}

func TestRealClusterSealsFilesThatGotNothing(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{})
		for _, begin := range []bool{false, true} {
			f := realFile(t, c, fmt.Sprintf("f%v", begin), cluster.FileOptions{Begin: begin})
			if err := f.Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustRead(t, c, path.Base(f.path), nil)
		}
	})
}

func TestRealClusterCarriesAThousandOpenFilesOnOneConnection(t *testing.T) {
	c := realCluster(t, oneNode, Options{Log: nil})
	const files = 1000
	before := runtime.NumGoroutine()
	fs := make([]*File, files)
	each := func(f func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		errs := make([]error, files)
		for i := range fs {
			wg.Go(func() { errs[i] = f(i) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	each(func(i int) error {
		f, err := c.Create(ctx, fmt.Sprintf("_%d", i), cluster.FileOptions{BlockSize: 1 << 20, Begin: true})
		if err == nil {
			fs[i] = f.(*File)
		}
		return err
	})
	for round := range 3 {
		each(func(i int) error { return fs[i].Append(ctx, [][]byte{letters(1000, uint64(i*10+round))}) })
	}
	if n := runtime.NumGoroutine(); n > before+4 {
		t.Errorf("%d goroutines with %d open files, %d before", n, files, before)
	}
	if n := c.Counters()["nn_dials"]; n != 1 {
		t.Errorf("%d NameNode connections, want 1", n)
	}
	each(func(i int) error { return fs[i].Seal(ctx) })
	for i := 0; i < files; i += 97 {
		var want []byte
		for round := range 3 {
			want = append(want, letters(1000, uint64(i*10+round))...)
		}
		mustRead(t, c, fmt.Sprintf("_%d", i), want)
	}
}

func TestRealClusterSyncsWhenAskedTo(t *testing.T) {
	bothClusters(t, func(t *testing.T, env string) {
		c := realCluster(t, env, Options{Sync: true})
		f := realFile(t, c, "f", cluster.FileOptions{BlockSize: 1 << 20, Begin: true})
		var want []byte
		for i := range 30 {
			b := letters(50_001, uint64(i))
			realAppend(t, f, b)
			want = append(want, b...)
		}
		if err := f.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustRead(t, c, "f", want)
	})
}
