package clustertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
	"twinscribe/store/dir"
)

type observer struct{ failures atomic.Int64 }

func (o *observer) Acknowledged()  {}
func (o *observer) Failed(error)   { o.failures.Add(1) }
func (o *observer) MayBegin() bool { return true }
func (o *observer) Doubtful() bool { return false }

func open(t *testing.T) (*clustertest.Fault, *observer) {
	t.Helper()
	watch := &observer{}
	c, err := dir.New(dir.Options{Name: "n1", Path: "/root", Create: true, FS: memfs.New(), Observer: watch, Log: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return clustertest.NewFault(c, watch), watch
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, f *clustertest.Fault, path string) cluster.File {
	t.Helper()
	file, err := f.Create(t.Context(), path, cluster.FileOptions{})
	must(t, err)
	return file
}

func content(t *testing.T, f *clustertest.Fault, path string) string {
	t.Helper()
	r, err := f.Open(t.Context(), path)
	must(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	must(t, err)
	return string(b)
}

func TestRulesFailTheCallsTheyName(t *testing.T) {
	f, watch := open(t)
	quota := errors.New("quota exceeded")
	end := f.Add(clustertest.Rule{Op: clustertest.OpCreate, Path: "web/", Err: quota, Skip: 1, Times: 2})
	create(t, f, "web/1")
	for _, path := range []string{"web/2", "web/3"} {
		if _, err := f.Create(t.Context(), path, cluster.FileOptions{}); !errors.Is(err, quota) {
			t.Fatalf("create %s: %v", path, err)
		}
		if _, err := f.Stat(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("stat %s: %v", path, err)
		}
	}
	create(t, f, "web/4")
	create(t, f, "other/1")
	end()
	if watch.failures.Load() != 0 {
		t.Fatal("the observer heard of an error that is one path's")
	}
	down := f.Down()
	if err := f.Ping(t.Context()); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("ping: %v", err)
	}
	if _, err := f.Create(t.Context(), "other/2", cluster.FileOptions{}); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("create: %v", err)
	}
	if watch.failures.Load() != 1 {
		t.Fatalf("the observer heard %d failures", watch.failures.Load())
	}
	down()
	must(t, f.Ping(t.Context()))
	if got := f.Calls(clustertest.OpCreate); got != 6 {
		t.Fatalf("%d creates were counted", got)
	}
}

func TestLostAnswersLeaveWhatWasDone(t *testing.T) {
	f, _ := open(t)
	f.Add(clustertest.Rule{Op: clustertest.OpSeal, Do: true, Times: 1})
	f.Add(clustertest.Rule{Op: clustertest.OpRename, Do: true, Times: 1})
	f.Add(clustertest.Rule{Op: clustertest.OpCreate, Path: "lost", Do: true, Times: 1})
	file := create(t, f, "_open")
	must(t, file.Append(t.Context(), [][]byte{[]byte("all\n")}))
	if err := file.Seal(t.Context()); err == nil {
		t.Fatal("the answer of Seal is not lost")
	}
	must(t, file.Seal(t.Context()))
	if err := f.Rename(t.Context(), "_open", "final"); err == nil {
		t.Fatal("the answer of Rename is not lost")
	}
	if got := content(t, f, "final"); got != "all\n" {
		t.Fatalf("renamed: %q", got)
	}
	if _, err := f.Create(t.Context(), "lost", cluster.FileOptions{}); err == nil {
		t.Fatal("the answer of Create is not lost")
	}
	if _, err := f.Create(t.Context(), "lost", cluster.FileOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("create again: %v", err)
	}
}

func TestPartialAppendLeavesItsBytes(t *testing.T) {
	f, watch := open(t)
	file := create(t, f, "torn")
	must(t, file.Append(t.Context(), [][]byte{[]byte("one\n")}))
	f.Add(clustertest.Rule{Op: clustertest.OpAppend, Bytes: 5})
	if err := file.Append(t.Context(), [][]byte{[]byte("two\n"), []byte("three\n")}); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("append: %v", err)
	}
	f.Clear()
	if err := file.Append(t.Context(), [][]byte{[]byte("four\n")}); err == nil {
		t.Fatal("the file takes more")
	}
	if err := file.Seal(t.Context()); err == nil {
		t.Fatal("the file can be sealed")
	}
	if file.Acked() != 4 || watch.failures.Load() != 1 {
		t.Fatalf("Acked() = %d, %d failures heard", file.Acked(), watch.failures.Load())
	}
	file.Abort()
	closed, err := f.Recover(t.Context(), "torn")
	must(t, err)
	if got := content(t, f, "torn"); !closed || got != "one\ntwo\nt" {
		t.Fatalf("recovered: %v, %q", closed, got)
	}
}

func TestAppendNotTriedLeavesTheFileIntact(t *testing.T) {
	f, _ := open(t)
	file := create(t, f, "file")
	f.Add(clustertest.Rule{Op: clustertest.OpAppend, Err: cluster.ErrNotTried, Times: 1})
	if err := file.Append(t.Context(), [][]byte{[]byte("x")}); !errors.Is(err, cluster.ErrNotTried) {
		t.Fatalf("append: %v", err)
	}
	must(t, file.Append(t.Context(), [][]byte{[]byte("x")}))
	must(t, file.Seal(t.Context()))
	if got := content(t, f, "file"); got != "x" {
		t.Fatalf("sealed: %q", got)
	}
}

func TestRecoveryThatTakesItsTime(t *testing.T) {
	f, _ := open(t)
	f.Add(clustertest.Rule{Op: clustertest.OpRecover, Later: true, Times: 2})
	create(t, f, "file").Abort()
	for i, want := range []bool{false, false, true} {
		closed, err := f.Recover(t.Context(), "file")
		if err != nil || closed != want {
			t.Fatalf("answer %d = %v, %v", i, closed, err)
		}
	}
}

func TestHangingCallsEndWithTheirContextOrTheirRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, watch := open(t)
		file := create(t, f, "file")
		hung := f.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := file.Append(ctx, [][]byte{[]byte("x")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("append: %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Fatalf("it took %v", took)
		}
		if watch.failures.Load() != 1 {
			t.Fatal("the observer heard nothing of a missed deadline")
		}
		hung()
		file.Abort()

		release := make(chan struct{})
		f.Add(clustertest.Rule{Release: release})
		second := make(chan error, 1)
		go func() { second <- f.Replace(t.Context(), "state", bytes.Repeat([]byte("y"), 3)) }()
		synctest.Wait()
		if got := f.Calls(clustertest.OpReplace); got != 1 {
			t.Fatalf("%d replaces were counted", got)
		}
		close(release)
		must(t, <-second)
		if got := content(t, f, "state"); got != "yyy" {
			t.Fatalf("released: %q", got)
		}
	})
}
