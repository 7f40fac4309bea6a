package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observer records what a cluster tells.
type observer struct {
	mu       sync.Mutex
	acks     int
	failures []error
	held     bool
	doubtful bool
}

func (o *observer) Acknowledged() { o.mu.Lock(); o.acks++; o.mu.Unlock() }
func (o *observer) Failed(err error) {
	o.mu.Lock()
	o.failures = append(o.failures, err)
	o.mu.Unlock()
}
func (o *observer) MayBegin() bool { o.mu.Lock(); defer o.mu.Unlock(); return !o.held }
func (o *observer) Doubtful() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.doubtful }
func (o *observer) doubt(held, doubtful bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held, o.doubtful = held, doubtful
}

func (o *observer) heard() (acks, failures int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acks, len(o.failures)
}

func newCluster(t *testing.T, fsys vfs.FS, path string, change ...func(*Options)) (*Cluster, *observer) {
	t.Helper()
	watch := &observer{}
	o := Options{Name: "n1", Path: path, Create: true, FS: fsys, Observer: watch, Log: zap.NewNop()}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, watch
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, c *Cluster, path string) cluster.File {
	t.Helper()
	f, err := c.Create(t.Context(), path, cluster.FileOptions{Begin: true})
	must(t, err)
	return f
}

func content(t *testing.T, c *Cluster, path string) []byte {
	t.Helper()
	r, err := c.Open(t.Context(), path)
	must(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	must(t, err)
	return b
}

func TestCluster(t *testing.T) {
	t.Run("fs=os", func(t *testing.T) {
		clustertest.Run(t, func(t *testing.T) cluster.Cluster {
			c, _ := newCluster(t, vfs.OS(), filepath.Join(t.TempDir(), "root"))
			return c
		})
	})
	t.Run("fs=memfs", func(t *testing.T) {
		clustertest.Run(t, func(t *testing.T) cluster.Cluster {
			c, _ := newCluster(t, memfs.New(), "/root")
			return c
		})
	})
	t.Run("through=fault", func(t *testing.T) {
		clustertest.Run(t, func(t *testing.T) cluster.Cluster {
			c, _ := newCluster(t, memfs.New(), "/root")
			return clustertest.NewFault(c, nil)
		})
	})
}

// every runs each call that names a path or the root.
func every(ctx context.Context, c *Cluster) map[string]error {
	_, create := c.Create(ctx, "new", cluster.FileOptions{})
	_, stat := c.Stat(ctx, "file")
	_, list := c.List(ctx, ".")
	_, open := c.Open(ctx, "file")
	_, recover := c.Recover(ctx, "file")
	_, truncate := c.Truncate(ctx, "file", 0)
	return map[string]error{
		"create": create, "stat": stat, "list": list, "open": open, "recover": recover, "truncate": truncate,
		"rename": c.Rename(ctx, "file", "other"), "replace": c.Replace(ctx, "file", nil), "remove": c.Remove(ctx, "file"),
		"ping": c.Ping(ctx), "probe": c.ProbeBlock(ctx),
	}
}

func TestMissingRootIsUnavailableAndIsNotMadeAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(t *testing.T, root string)
	}{
		{"the root was moved away", func(t *testing.T, root string) {
			must(t, os.Rename(root, root+".gone"))
		}},
		{"an empty mount point is in its place", func(t *testing.T, root string) {
			must(t, os.Rename(root, root+".gone"))
			must(t, os.Mkdir(root, 0o755))
		}},
		{"a file is in its place", func(t *testing.T, root string) {
			must(t, os.Rename(root, root+".gone"))
			must(t, os.WriteFile(root, nil, 0o600))
		}},
		{"the marker is of a newer program", func(t *testing.T, root string) {
			must(t, os.RemoveAll(root+".gone"))
			must(t, os.WriteFile(filepath.Join(root, Marker), []byte(`{"version": 99}`), 0o600))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			c, watch := newCluster(t, vfs.OS(), root)
			must(t, c.Replace(t.Context(), "file", []byte("content")))
			newer := test.name == "the marker is of a newer program"
			test.lose(t, root)
			for call, err := range every(t.Context(), c) {
				if newer && call != "ping" && call != "probe" {
					continue // the probes stop the cluster; no call reads the marker whole
				}
				if !errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v, want ErrUnavailable and nothing about a missing file", call, err)
				}
			}
			if newer {
				return
			}
			if _, failures := watch.heard(); failures == 0 {
				t.Error("the observer heard nothing")
			}
			if list, err := os.ReadDir(root); err == nil && len(list) > 0 {
				t.Errorf("%v was made in what is no root", list)
			}
			must(t, os.RemoveAll(root))
			must(t, os.Rename(root+".gone", root))
			must(t, c.Ping(t.Context()))
			if got := content(t, c, "file"); string(got) != "content" {
				t.Errorf("after the root's return: %q", got)
			}
		})
	}
}

func TestRootIsMadeOnlyByACreatingStart(t *testing.T) {
	root := filepath.Join(t.TempDir(), "deep", "root")
	notYet := func(o *Options) { o.Create = false }
	c, _ := newCluster(t, vfs.OS(), root, notYet)
	if err := c.Ping(t.Context()); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("ping without a root: %v", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("stat of the root: %v", err)
	}
	first, _ := newCluster(t, vfs.OS(), root)
	must(t, first.Replace(t.Context(), "file", []byte("kept")))
	must(t, c.Ping(t.Context()))
	again, _ := newCluster(t, vfs.OS(), root)
	if got := content(t, again, "file"); string(got) != "kept" {
		t.Fatalf("after a second creating start: %q", got)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	good := Options{Name: "n1", Path: "/x", FS: memfs.New(), Observer: &observer{}, Log: zap.NewNop()}
	for _, change := range []func(*Options){
		func(o *Options) { o.Name = "" },
		func(o *Options) { o.Path = "" },
		func(o *Options) { o.FS = nil },
		func(o *Options) { o.Observer = nil },
		func(o *Options) { o.Log = nil },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) takes it", o)
		}
	}
}

func TestBytesThatNobodyWillFindAreNotAcknowledged(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(t *testing.T, root string)
		all  bool // it is the cluster's fault as a whole
	}{
		{"the file was removed", func(t *testing.T, root string) {
			must(t, os.Remove(filepath.Join(root, "a/b/file")))
		}, false},
		{"another file took its name", func(t *testing.T, root string) {
			must(t, os.WriteFile(filepath.Join(root, "other"), nil, 0o600))
			must(t, os.Rename(filepath.Join(root, "other"), filepath.Join(root, "a/b/file")))
		}, false},
		{"its folder was moved", func(t *testing.T, root string) {
			must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(root, "z")))
		}, false},
		{"the root was moved", func(t *testing.T, root string) {
			must(t, os.Rename(root, root+".gone"))
		}, true},
		{"another root took its place", func(t *testing.T, root string) {
			must(t, os.Rename(root, root+".gone"))
			newCluster(t, vfs.OS(), root)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			c, watch := newCluster(t, vfs.OS(), root)
			f := create(t, c, "a/b/file")
			must(t, f.Append(t.Context(), [][]byte{[]byte("kept\n")}))
			test.lose(t, root)
			err := f.Append(t.Context(), [][]byte{[]byte("lost\n")})
			if err == nil || errors.Is(err, cluster.ErrNotTried) || errors.Is(err, cluster.ErrUnavailable) != test.all {
				t.Fatalf("append: %v", err)
			}
			if f.Acked() != 5 {
				t.Fatalf("Acked() = %d", f.Acked())
			}
			if err := f.Append(t.Context(), [][]byte{[]byte("more\n")}); err == nil {
				t.Fatal("the file takes more")
			}
			if err := f.Seal(t.Context()); err == nil {
				t.Fatal("the file can be sealed")
			}
			if acks, failures := watch.heard(); acks != 1 || (failures > 0) != test.all {
				t.Fatalf("the observer heard %d acknowledgements and %d failures", acks, failures)
			}
		})
	}
}

func TestHeldClusterBeginsNothingButItsProbe(t *testing.T) {
	c, watch := newCluster(t, memfs.New(), "/root")
	f := create(t, c, "open")
	watch.doubt(true, false)
	if _, err := c.Create(t.Context(), "new", cluster.FileOptions{}); !errors.Is(err, cluster.ErrHeld) {
		t.Fatalf("create: %v", err)
	}
	must(t, f.Append(t.Context(), [][]byte{[]byte("goes on\n")}))
	must(t, f.Seal(t.Context()))
	must(t, c.ProbeBlock(t.Context()))
	must(t, c.Replace(t.Context(), "_members/ag1.json", []byte("{}")))
	if _, failures := watch.heard(); failures != 0 {
		t.Fatalf("the observer heard %d failures", failures)
	}
}

func TestReplacesOfOneNameFollowEachOther(t *testing.T) {
	c, _ := newCluster(t, vfs.OS(), filepath.Join(t.TempDir(), "root"))
	var wait sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wait.Go(func() {
			errs[i] = c.Replace(t.Context(), "folder/state", bytes.Repeat([]byte{byte('a' + i)}, 10_000))
		})
	}
	wait.Wait()
	must(t, errors.Join(errs...))
	got := content(t, c, "folder/state")
	if len(got) != 10_000 || bytes.Count(got, got[:1]) != len(got) {
		t.Fatalf("%d bytes, mixed: %.20q", len(got), got)
	}
}

func TestRecoverFencesTheWriterOfAnotherProcess(t *testing.T) {
	for _, fsys := range []vfs.FS{vfs.OS(), memfs.New()} {
		t.Run(fmt.Sprintf("fs=%T", fsys), func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "root")
			zombie, _ := newCluster(t, fsys, root)
			c, _ := newCluster(t, fsys, root)
			f := create(t, zombie, "a/_file.open")
			must(t, f.Append(t.Context(), [][]byte{[]byte("acknowledged\n")}))
			closed, err := c.Recover(t.Context(), "a/_file.open")
			must(t, err)
			if !closed {
				t.Fatal("the file is not closed")
			}
			if err := f.Append(t.Context(), [][]byte{[]byte("from the grave\n")}); err == nil {
				t.Fatal("the fenced writer was acknowledged")
			}
			if got := content(t, c, "a/_file.open"); string(got) != "acknowledged\n" {
				t.Fatalf("the file holds %q", got)
			}
			list, err := fsys.ReadDir(filepath.Join(root, "a"))
			must(t, err)
			if len(list) != 1 {
				t.Fatalf("left in the folder: %v", list)
			}
		})
	}
}
