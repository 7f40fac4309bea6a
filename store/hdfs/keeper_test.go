package hdfs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"twinscribe/store/cluster"
	"twinscribe/store/hdfs/hdfstest"
)

func TestIdleFilesKeepTheirLeaseAndTheirPipelines(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		time.Sleep(time.Minute)
		if n := l.count("nn_calls.renewLease"); n != 0 {
			t.Errorf("%d renewals without a file", n)
		}
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		time.Sleep(5*time.Minute + 5*time.Second)
		if n := l.count("nn_calls.renewLease"); n < 29 || n > 31 {
			t.Errorf("%d renewals in 5 min", n)
		}
		if beats := l.first(f).Beats(); beats < 29 || beats > 31 {
			t.Errorf("%d heartbeats in 5 min", beats)
		}
		l.append(f, want)
		if l.count("recoveries") != 0 {
			t.Error("the idle pipeline was recovered")
		}
		l.seal(f)
		l.holds("/logs/_f", append(want, want...), 3)
		before := l.count("nn_calls.renewLease")
		time.Sleep(time.Minute)
		if n := l.count("nn_calls.renewLease"); n != before {
			t.Error("renewals go on after the last file")
		}
	})
}

func TestAbortedFilesAreNotKeptAlive(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, []byte("x"))
		f.Abort()
		g := l.begun("_g")
		l.append(g, []byte("x"))
		l.h.DN(0).Kill()
		l.h.DN(1).Kill()
		l.h.DN(2).Kill()
		if err := g.Append(l.within(time.Second), [][]byte{{1}}); err == nil {
			t.Fatal("append without DataNodes")
		}
		time.Sleep(time.Minute)
		if n := l.count("nn_calls.renewLease"); n != 0 {
			t.Errorf("%d renewals for files that are aborted or failed", n)
		}
	})
}

func TestErrorThatAHeartbeatMeetsIsNotForgotten(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		want := l.bytes(1000)
		l.append(f, want)
		last := f.nodes[2].addr
		l.node(f, 2).Kill()
		time.Sleep(time.Minute) // the acknowledgement of a heartbeat says who failed
		start := time.Now()
		b := l.bytes(100)
		l.append(f, b)
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		for _, n := range f.nodes {
			if n.addr == last {
				t.Error("the dead node is still in the pipeline")
			}
		}
		l.seal(f)
		l.holds("/logs/_f", append(want, b...), 2)
	})
}

func TestHungPipelineDelaysNoOtherFilesHeartbeat(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{Replication: 1}, func(l *lab) {
		var fs []*File
		for i := range 30 {
			f := l.begun(fmt.Sprintf("_%d", i))
			l.append(f, []byte("x"))
			fs = append(fs, f)
		}
		l.h.DN(0).Freeze()
		time.Sleep(10 * time.Minute)
		for _, f := range fs {
			if d := l.first(f); d != l.h.DN(0) && d.Beats() == 0 {
				t.Fatal("a node that lives got no heartbeat")
			}
		}
		l.h.DN(0).Thaw()
		for _, f := range fs {
			l.append(f, []byte("y"))
			l.seal(f)
		}
	})
}

func TestCloseEndsEverythingAtOnce(t *testing.T) {
	bubble(t, hdfstest.Options{}, Options{}, func(l *lab) {
		f := l.begun("_f")
		l.append(f, []byte("x"))
		r, err := l.c.Open(l.ctx, "_f")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		l.h.NN(0).Freeze()
		for i := range 3 {
			l.h.DN(i).Freeze()
		}
		done := make(chan error, 2)
		go func() { done <- f.Append(l.within(time.Minute), [][]byte{{1}}) }()
		go func() { done <- l.c.Rename(l.within(time.Minute), "a", "b") }()
		time.Sleep(200 * time.Millisecond)
		start := time.Now()
		if err := l.c.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-done; err == nil {
				t.Error("nil from a call that Close ended")
			}
		}
		if d := time.Since(start); d > 300*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if err := l.c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.c.Create(l.ctx, "g", cluster.FileOptions{Begin: true}); err == nil {
			t.Error("created on a closed cluster")
		}
		if err := l.c.Ping(context.WithoutCancel(l.ctx)); err == nil {
			t.Error("pinged on a closed cluster")
		}
		for i := range 3 {
			l.h.DN(i).Thaw()
		}
		l.h.NN(0).Thaw()
	})
}

func TestNewConnectsToNothingAndNamesEveryMistake(t *testing.T) {
	_, err := New(Options{Name: "n1", NameNodes: []string{"nn1"}, Replication: 2, MinReplicas: 3, Appends: -1, RPCTimeout: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"cluster n1", `"nn1"`, "no user", "min_replicas", "appends", "timeouts"} {
		if !contains(err, want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	c, err := New(Options{Name: "n1", NameNodes: []string{"192.0.2.1:8020"}, User: "scribe", Root: "logs/"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Name() != "n1" || c.o.Root != "/logs" || c.o.Appends != 64 || c.Counters()["nn_dials"] != 0 {
		t.Errorf("%+v", c.o)
	}
}
