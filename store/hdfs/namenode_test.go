package hdfs

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

func TestCallWhoseAnswerWasLostIsDoneOnce(t *testing.T) {
	for _, method := range []string{"create", "rename2", "delete", "addBlock", "complete", "updatePipeline", "updateBlockForPipeline"} {
		for name, fault := range map[string]hdfstest.Fault{"silent": {Lose: true}, "broken": {Lose: true, Break: true}, "not received": {Break: true}} {
			t.Run(method+"/"+name, func(t *testing.T) {
				bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
					l.ob.calm = true
					if err := l.c.Ping(l.ctx); err != nil {
						t.Fatal(err)
					}
					l.h.NN(0).Script(func(m string, nth int) hdfstest.Fault {
						if m == method && nth == 1 {
							return fault
						}
						return hdfstest.Fault{}
					})
					f := l.begun("_f")
					want := l.bytes(1000)
					l.append(f, want)
					l.node(f, 2).Kill()
					l.append(f, want)
					l.seal(f)
					if err := l.c.Rename(l.ctx, "_f", "f"); err != nil {
						t.Fatal(err)
					}
					l.holds("/logs/f", append(want, want...), 2)
					if err := l.c.Remove(l.ctx, "f"); err != nil {
						t.Fatal(err)
					}
					if n := l.h.NN(0).Calls(method); n < 2 {
						t.Errorf("%s was sent %d times", method, n)
					}
				})
			})
		}
	}
}

func TestSilentNameNodeGetsASecondConnection(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		if err := l.c.Ping(l.ctx); err != nil {
			t.Fatal(err)
		}
		l.h.NN(0).Script(func(_ string, nth int) hdfstest.Fault { return hdfstest.Fault{Silent: nth == 1} })
		start := time.Now()
		if err := l.c.Ping(l.ctx); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("it took %v, want half of the timeout", d)
		}
		if n := l.count("nn_dials"); n != 2 {
			t.Errorf("%d connections", n)
		}
		synctest.Wait()
		if n := l.h.NN(0).Conns(); n != 1 {
			t.Errorf("%d connections are left, want the one that answers", n)
		}
	})
}

func TestHungNameNodeCostsOneTimeoutAndFewConnections(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		if err := l.c.Ping(l.ctx); err != nil {
			t.Fatal(err)
		}
		l.h.NN(0).Freeze()
		start := time.Now()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if err := l.c.Ping(l.ctx); !errors.Is(err, cluster.ErrUnavailable) || !errors.Is(err, errSilent) {
					t.Errorf("ping: %v", err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("200 calls at once took %v", d)
		}
		for range 5 {
			wantErr(t, l.c.Ping(l.ctx), cluster.ErrUnavailable)
			synctest.Wait()
			l.c.nn.mu.Lock()
			n := len(l.c.nn.links)
			l.c.nn.mu.Unlock()
			if n > 2 {
				t.Errorf("%d connections", n)
			}
		}
		l.h.NN(0).Thaw()
		if err := l.c.Ping(l.ctx); err != nil {
			t.Errorf("after the thaw: %v", err)
		}
	})
}

func TestOtherNameNodeOfAPairIsFoundInTime(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(l *lab)
		limit time.Duration
	}{
		{"first is standby", func(l *lab) { l.h.Activate(1) }, 100 * time.Millisecond},
		{"first is dead", func(l *lab) { l.h.Activate(1); l.h.NN(0).Kill() }, 100 * time.Millisecond},
		{"first hangs", func(l *lab) { l.h.Activate(1); l.h.NN(0).Freeze() }, 1100 * time.Millisecond},
		{"first is a black hole", func(l *lab) { l.h.Activate(1); l.h.Net().BlackHole(l.h.Addrs()[0], true) }, 300 * time.Millisecond},
		{"second is dead", func(l *lab) { l.h.NN(1).Kill() }, 100 * time.Millisecond},
	} {
		for _, connected := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				bubble(t, hdfstest.Options{NameNodes: 2}, Options{}, func(l *lab) {
					if connected {
						if err := l.c.Ping(l.ctx); err != nil {
							t.Fatal(err)
						}
					}
					test.fault(l)
					start := time.Now()
					f := l.begun("_f")
					if d := time.Since(start); d > test.limit {
						t.Errorf("it took %v", d)
					}
					l.append(f, []byte("x"))
					start = time.Now()
					l.seal(f)
					if _, err := l.c.Stat(l.ctx, "_f"); err != nil { // the library takes the same way
						t.Fatal(err)
					}
					if d := time.Since(start); d > 100*time.Millisecond {
						t.Errorf("the next calls took %v", d)
					}
				})
			})
		}
	}
}

// A link that breaks while a call is being sent says so once. Said twice, it
// would have the call wait twice before its next try.
func TestLinkThatBreaksUnderASendSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		l := newLink(ours)
		for range cap(l.out) { // nobody writes
			l.out <- nil
		}
		answers, sent := make(chan answer, 2), make(chan error, 1)
		go func() { sent <- l.send(t.Context(), 1, []byte("call"), answers) }()
		synctest.Wait()
		l.fail(errBroken)
		if err := <-sent; err != nil {
			t.Errorf("send: %v", err)
		}
		if a := <-answers; !errors.Is(a.err, errBroken) || a.from != l || len(answers) != 0 {
			t.Errorf("answer %+v, %d more", a, len(answers))
		}
		if err := l.send(t.Context(), 2, []byte("call"), answers); !errors.Is(err, errBroken) || len(answers) != 0 {
			t.Errorf("on a broken link: %v, %d answers", err, len(answers))
		}
	})
}

func TestPairInTransitionIsUnavailableForPathsAndWaitedForByFiles(t *testing.T) {
	bubble(t, hdfstest.Options{NameNodes: 2}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, []byte("x"))
		l.h.Activate(2) // none
		start := time.Now()
		wantErr(t, l.c.Ping(l.ctx), cluster.ErrUnavailable)
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		time.AfterFunc(3*time.Second, func() { l.h.Activate(1) })
		l.seal(f)
	})
}

func TestSafeModeIsWaitedOutWithinAnOpenFile(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{BlockSize: 1 << 20}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1<<20 - 10)
		l.append(f, want)
		l.h.SafeMode(true)
		time.AfterFunc(time.Second, func() { l.h.SafeMode(false) })
		b := l.bytes(100) // needs another block
		l.append(f, b)
		l.seal(f)
		l.holds("/logs/_f", append(want, b...), 3)
		if l.ob.failures() != 0 {
			t.Errorf("failures %v", l.ob.failed)
		}
	})
}

func TestSafeModeIsToldByEveryCallThatChangesSomething(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.ob.calm = true
		if err := l.c.Replace(l.ctx, "f", []byte("x")); err != nil {
			t.Fatal(err)
		}
		l.h.SafeMode(true)
		for name, do := range map[string]func() error{
			"rename":   func() error { return l.c.Rename(l.ctx, "f", "g") },
			"replace":  func() error { return l.c.Replace(l.ctx, "f", []byte("y")) },
			"remove":   func() error { return l.c.Remove(l.ctx, "f") },
			"recover":  func() error { _, err := l.c.Recover(l.ctx, "f"); return err },
			"truncate": func() error { _, err := l.c.Truncate(l.ctx, "f", 0); return err },
			"create":   func() error { _, err := l.c.Create(l.ctx, "g", cluster.FileOptions{}); return err },
		} {
			before := l.ob.failures()
			if err := do(); !errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			if l.ob.failures() == before {
				t.Errorf("%s told nobody", name)
			}
		}
		before := l.ob.failures()
		if err := l.c.ProbeBlock(l.ctx); !errors.Is(err, cluster.ErrUnavailable) {
			t.Errorf("probe: %v", err)
		}
		if l.ob.failures() != before {
			t.Error("the probe told what its caller tells")
		}
		if err := l.c.Ping(l.ctx); err != nil {
			t.Errorf("ping: %v", err)
		}
		if i, err := l.c.Stat(l.ctx, "f"); err != nil || i.Size != 1 {
			t.Errorf("stat: %v, %v", i, err)
		}
	})
}

// Every exception that is known of the calls we make, and what it means.
func TestExceptionsMeanWhatThePackageSays(t *testing.T) {
	const protocol, namenode = "org.apache.hadoop.hdfs.protocol.", "org.apache.hadoop.hdfs.server.namenode."
	for _, test := range []struct {
		method, class, text string
		want                error // nil: about the path
	}{
		{"getFileInfo", "java.io.FileNotFoundException", "File does not exist: /f", fs.ErrNotExist},
		{"create", "org.apache.hadoop.fs.FileAlreadyExistsException", "/f for client 10.0.0.1 already exists", fs.ErrExist},
		{"rename2", "org.apache.hadoop.fs.FileAlreadyExistsException", "rename destination /f already exists", fs.ErrExist},
		{"create", protocol + "AlreadyBeingCreatedException", "Failed to CREATE_FILE /f", fs.ErrExist},
		{"truncate", protocol + "AlreadyBeingCreatedException", "Failed to TRUNCATE_FILE /f", nil},
		{"create", "org.apache.hadoop.security.AccessControlException", "Permission denied: user=a", fs.ErrPermission},
		{"create", "org.apache.hadoop.security.authorize.AuthorizationException", "User: a is not allowed", fs.ErrPermission},
		{"create", namenode + "SafeModeException", "Cannot create file/f. Name node is in safe mode.", cluster.ErrUnavailable},
		{"create", "org.apache.hadoop.ipc.StandbyException", "Operation category WRITE", cluster.ErrUnavailable},
		{"create", "org.apache.hadoop.ipc.ObserverRetryOnActiveException", "", cluster.ErrUnavailable},
		{"create", "org.apache.hadoop.ipc.RetriableException", "NameNode still not started", cluster.ErrUnavailable},
		{"addBlock", "java.io.IOException", "File /f could only be written to 0 of the 1 minReplication nodes.", cluster.ErrUnavailable},
		{"addBlock", "java.io.IOException", "Unexpected BlockUCState", nil},
		{"addBlock", protocol + "DSQuotaExceededException", "The DiskSpace quota of /q is exceeded", nil},
		{"create", protocol + "NSQuotaExceededException", "The NameSpace quota of /q is exceeded", nil},
		{"addBlock", protocol + "QuotaByStorageTypeExceededException", "", nil},
		{"addBlock", namenode + "LeaseExpiredException", "No lease on /f", nil},
		{"addBlock", namenode + "NotReplicatedYetException", "Not replicated yet: /f", nil},
		{"recoverLease", protocol + "RecoveryInProgressException", "", nil},
		{"create", "org.apache.hadoop.fs.ParentNotDirectoryException", "/f is not a directory", nil},
		{"delete", "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException", "/d is non empty", nil},
		{"create", "org.apache.hadoop.fs.InvalidPathException", "Invalid path name", nil},
		{"truncate", "org.apache.hadoop.HadoopIllegalArgumentException", "Cannot truncate to a larger file size", nil},
		{"create", "org.apache.hadoop.ipc.RpcNoSuchMethodException", "Unknown method", nil},
		{"create", "java.lang.NullPointerException", "", nil},
	} {
		e := &RemoteError{Method: test.method, Class: test.class, Message: test.text + "\n\tat a.b.C"}
		for _, sentinel := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, cluster.ErrUnavailable} {
			if got, want := errors.Is(e, sentinel), errors.Is(test.want, sentinel); got != want {
				t.Errorf("%s of %s is %v: %v", test.class, test.method, sentinel, got)
			}
		}
		if s := e.Error(); strings.Contains(s, "\n") || !strings.HasPrefix(s, test.method+": ") {
			t.Errorf("text %q", s)
		}
	}
}

func TestExceptionsPassToTheCallerOfEveryKindOfCall(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, []byte("x"))
		l.h.NN(0).Script(func(string, int) hdfstest.Fault {
			return hdfstest.Fault{Class: "org.apache.hadoop.security.AccessControlException", Text: "Permission denied"}
		})
		calls := map[string]func() error{
			"create":   func() error { _, err := l.c.Create(l.ctx, "g", cluster.FileOptions{}); return err },
			"rename":   func() error { return l.c.Rename(l.ctx, "f", "g") },
			"replace":  func() error { return l.c.Replace(l.ctx, "f", nil) },
			"recover":  func() error { _, err := l.c.Recover(l.ctx, "f"); return err },
			"truncate": func() error { _, err := l.c.Truncate(l.ctx, "f", 0); return err },
			"remove":   func() error { return l.c.Remove(l.ctx, "f") },
			"stat":     func() error { _, err := l.c.Stat(l.ctx, "f"); return err },
			"list":     func() error { _, err := l.c.List(l.ctx, ""); return err },
			"open":     func() error { _, err := l.c.Open(l.ctx, "f"); return err },
			"ping":     func() error { return l.c.Ping(l.ctx) },
			"publish":  func() error { return f.Publish(l.ctx) },
			"seal":     func() error { return f.Seal(l.ctx) },
		}
		for name, do := range calls {
			if err := do(); !errors.Is(err, fs.ErrPermission) || errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if l.ob.failures() != 0 {
			t.Errorf("failures %v", l.ob.failed)
		}
	})
}

func TestCallsEndWithTheirContext(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		l.ob.calm = true
		if err := l.c.Replace(l.ctx, "f", []byte("x")); err != nil {
			t.Fatal(err)
		}
		r, err := l.c.Open(l.ctx, "f")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		l.h.NN(0).Freeze()
		for name, do := range map[string]func(ctx context.Context) error{
			"create":  func(ctx context.Context) error { _, err := l.c.Create(ctx, "g", cluster.FileOptions{}); return err },
			"rename":  func(ctx context.Context) error { return l.c.Rename(ctx, "f", "g") },
			"replace": func(ctx context.Context) error { return l.c.Replace(ctx, "f", nil) },
			"stat":    func(ctx context.Context) error { _, err := l.c.Stat(ctx, "f"); return err },
			"list":    func(ctx context.Context) error { _, err := l.c.List(ctx, ""); return err },
			"open":    func(ctx context.Context) error { _, err := l.c.Open(ctx, "f"); return err },
			"probe":   func(ctx context.Context) error { return l.c.ProbeBlock(ctx) },
			"ping":    func(ctx context.Context) error { return l.c.Ping(ctx) },
		} {
			start := time.Now()
			ctx, cancel := context.WithCancel(l.ctx)
			time.AfterFunc(300*time.Millisecond, cancel)
			if err := do(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(start); d > 400*time.Millisecond {
				t.Errorf("%s went on for %v", name, d)
			}
			start = time.Now()
			if err := do(l.within(200 * time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cluster.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(start); d > 300*time.Millisecond {
				t.Errorf("%s went on for %v", name, d)
			}
		}
		l.h.NN(0).Thaw()
	})
}
