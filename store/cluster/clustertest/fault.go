package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"twinscribe/store/cluster"
)

// An Op is a method of Cluster, File or Reader, for rules.
type Op string

// The operations a rule can be about. OpAny is each of them.
const (
	OpAny      Op = ""
	OpCreate   Op = "create"
	OpAppend   Op = "append"
	OpPublish  Op = "publish"
	OpSeal     Op = "seal"
	OpRename   Op = "rename"
	OpReplace  Op = "replace"
	OpRecover  Op = "recover"
	OpTruncate Op = "truncate"
	OpRemove   Op = "remove"
	OpStat     Op = "stat"
	OpList     Op = "list"
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpPing     Op = "ping"
	OpProbe    Op = "probe"
)

// A Rule says what goes wrong. The first rule that matches a call decides;
// a call that no rule matches goes through.
type Rule struct {
	Op    Op
	Path  string // a part of the path (of the source, for rename); empty: all
	Skip  int    // so many matching calls go through first
	Times int    // so many calls are hit, then the rule is over; 0: all

	// Do: the inner cluster does it, and only the answer is lost.
	Do bool
	// Bytes of an Append are written and the rest is not, before it fails.
	Bytes int
	// Hang: the answer does not come before ctx ends (or Release is closed).
	Hang bool
	// Release lets the calls that hang go on as if nothing had been. Hang is implied.
	Release <-chan struct{}
	// Later: Recover and Truncate answer "it has begun", without an error.
	Later bool
	// Err is the answer; nil: cluster.ErrUnavailable, or the context's where it hung.
	Err error
}

// Fault wraps a cluster and makes calls fail, hang, lose their answers or stop
// half way, by rules that can change at any time. All methods may be called by
// many goroutines at once.
//
// A file whose Append failed is final, as with every cluster: it is closed to
// its writer and what the inner cluster has of it stays for Recover.
type Fault struct {
	inner    cluster.Cluster
	observer cluster.Observer

	mu    sync.Mutex
	rules []*rule
	calls map[Op]int
}

type rule struct {
	Rule
	seen int
}

// NewFault wraps c. The observer, which may be nil, hears of each Append and
// Create that a rule made fail with ErrUnavailable or by its deadline, as it
// would from a real cluster.
func NewFault(c cluster.Cluster, o cluster.Observer) *Fault {
	return &Fault{inner: c, observer: o, calls: map[Op]int{}}
}

// Add puts a rule behind those there are and returns a function that ends it.
func (f *Fault) Add(r Rule) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := &rule{Rule: r}
	f.rules = append(f.rules, one)
	return func() { f.drop(one) }
}

func (f *Fault) drop(one *rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.rules {
		if r == one {
			f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
			return
		}
	}
}

// Clear ends all rules.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Down makes every call fail at once with cluster.ErrUnavailable.
func (f *Fault) Down() (end func()) { return f.Add(Rule{}) }

// Hang makes every call hang until its context ends.
func (f *Fault) Hang() (end func()) { return f.Add(Rule{Hang: true}) }

// Calls is how often an operation was called, whatever became of it.
func (f *Fault) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// match finds the rule that decides about a call.
func (f *Fault) match(op Op, path string) (Rule, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	for _, r := range f.rules {
		if (r.Op != OpAny && r.Op != op) || !strings.Contains(path, r.Path) {
			continue
		}
		r.seen++
		if r.seen <= r.Skip || (r.Times > 0 && r.seen > r.Skip+r.Times) {
			continue
		}
		return r.Rule, true
	}
	return Rule{}, false
}

// call runs do as the rules want it. later is true where a rule answers "it has begun".
func (f *Fault) call(ctx context.Context, op Op, path string, do func() error) (later bool, err error) {
	r, hit := f.match(op, path)
	if !hit {
		return false, do()
	}
	if r.Later {
		return true, nil
	}
	if r.Do {
		if err := do(); err != nil {
			return false, err
		}
	}
	released, err := r.wait(ctx)
	if released && !r.Do {
		return false, do()
	}
	if released {
		return false, nil
	}
	err = fmt.Errorf("injected fault: %s %q: %w", op, path, err)
	if op == OpCreate {
		f.tell(err)
	}
	return false, err
}

// tell tells the observer of an error that is the cluster's.
func (f *Fault) tell(err error) {
	if f.observer != nil && (errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		f.observer.Failed(err)
	}
}

// wait is the rule's delay and its answer; released: the call goes on.
func (r Rule) wait(ctx context.Context) (released bool, err error) {
	if r.Hang || r.Release != nil {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.Release:
			return true, nil
		}
	}
	switch {
	case r.Err != nil:
		return false, r.Err
	case err != nil:
		return false, err
	}
	return false, cluster.ErrUnavailable
}

// Name implements cluster.Cluster.
func (f *Fault) Name() string { return f.inner.Name() }

// Create implements cluster.Cluster. A file whose answer is lost is aborted.
func (f *Fault) Create(ctx context.Context, path string, o cluster.FileOptions) (cluster.File, error) {
	var file cluster.File
	_, err := f.call(ctx, OpCreate, path, func() (err error) {
		file, err = f.inner.Create(ctx, path, o)
		return err
	})
	if err != nil {
		if file != nil {
			file.Abort()
		}
		return nil, err
	}
	return &faultFile{f: f, path: path, inner: file}, nil
}

// Rename implements cluster.Cluster.
func (f *Fault) Rename(ctx context.Context, from, to string) error {
	_, err := f.call(ctx, OpRename, from, func() error { return f.inner.Rename(ctx, from, to) })
	return err
}

// Replace implements cluster.Cluster.
func (f *Fault) Replace(ctx context.Context, path string, content []byte) error {
	_, err := f.call(ctx, OpReplace, path, func() error { return f.inner.Replace(ctx, path, content) })
	return err
}

// Recover implements cluster.Cluster.
func (f *Fault) Recover(ctx context.Context, path string) (closed bool, err error) {
	later, err := f.call(ctx, OpRecover, path, func() (err error) {
		closed, err = f.inner.Recover(ctx, path)
		return err
	})
	return closed && !later && err == nil, err
}

// Truncate implements cluster.Cluster.
func (f *Fault) Truncate(ctx context.Context, path string, size int64) (done bool, err error) {
	later, err := f.call(ctx, OpTruncate, path, func() (err error) {
		done, err = f.inner.Truncate(ctx, path, size)
		return err
	})
	return done && !later && err == nil, err
}

// Remove implements cluster.Cluster.
func (f *Fault) Remove(ctx context.Context, path string) error {
	_, err := f.call(ctx, OpRemove, path, func() error { return f.inner.Remove(ctx, path) })
	return err
}

// Stat implements cluster.Cluster.
func (f *Fault) Stat(ctx context.Context, path string) (info cluster.Info, err error) {
	_, err = f.call(ctx, OpStat, path, func() (err error) {
		info, err = f.inner.Stat(ctx, path)
		return err
	})
	return info, err
}

// List implements cluster.Cluster.
func (f *Fault) List(ctx context.Context, folder string) (list []cluster.Info, err error) {
	_, err = f.call(ctx, OpList, folder, func() (err error) {
		list, err = f.inner.List(ctx, folder)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Open implements cluster.Cluster. The reads from what it returns are OpRead;
// those have no context, so a rule that hangs them needs Release.
func (f *Fault) Open(ctx context.Context, path string) (cluster.Reader, error) {
	var r cluster.Reader
	_, err := f.call(ctx, OpOpen, path, func() (err error) {
		r, err = f.inner.Open(ctx, path)
		return err
	})
	if err != nil {
		if r != nil {
			_ = r.Close() // only the answer of Open is lost
		}
		return nil, err
	}
	return &faultReader{f: f, ctx: ctx, path: path, Reader: r}, nil
}

// Ping implements cluster.Cluster.
func (f *Fault) Ping(ctx context.Context) error {
	_, err := f.call(ctx, OpPing, "", func() error { return f.inner.Ping(ctx) })
	return err
}

// ProbeBlock implements cluster.Cluster.
func (f *Fault) ProbeBlock(ctx context.Context) error {
	_, err := f.call(ctx, OpProbe, "", func() error { return f.inner.ProbeBlock(ctx) })
	return err
}

// Counters implements cluster.Cluster.
func (f *Fault) Counters() map[string]int64 { return f.inner.Counters() }

// Close implements cluster.Cluster.
func (f *Fault) Close() error { return f.inner.Close() }

type faultReader struct {
	cluster.Reader
	f    *Fault
	ctx  context.Context
	path string
}

func (r *faultReader) Read(p []byte) (n int, err error) {
	if _, e := r.f.call(r.ctx, OpRead, r.path, func() error {
		n, err = r.Reader.Read(p)
		return nil
	}); e != nil {
		return 0, e
	}
	return n, err
}

func (r *faultReader) ReadAt(p []byte, at int64) (n int, err error) {
	if _, e := r.f.call(r.ctx, OpRead, r.path, func() error {
		n, err = r.Reader.ReadAt(p, at)
		return nil
	}); e != nil {
		return 0, e
	}
	return n, err
}

// WriteTo hides what the inner reader may have: every byte goes through Read.
func (r *faultReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}
