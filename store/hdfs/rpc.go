package hdfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// rpc is the one logical connection to a cluster's NameNodes. Any number of
// calls are under way at a time.
//
// A call that met a broken or silent link is sent again on a new one under the
// same client and call id, so that the NameNode's retry cache does it once. A
// link that was silent for half the timeout is left: new calls take another
// one, and so does the silent call, whose answer counts wherever it comes.
type rpc struct {
	addrs   []string
	d       *dialer
	life    life
	timeout time.Duration // of one call
	count   *counters
	client  [16]byte
	calls   atomic.Int32
	wg      sync.WaitGroup // the links' goroutines and dials

	mu      sync.Mutex
	cur     *link
	dialing *dialing
	links   map[*link]struct{} // not yet broken
	next    int                // index of the address to try first
	closed  bool
}

// A dialing is a connect that everybody waits for together.
type dialing struct {
	done chan struct{}
	link *link
	err  error
}

func newRPC(addrs []string, d *dialer, l life, timeout time.Duration, count *counters) *rpc {
	r := &rpc{addrs: addrs, d: d, life: l, timeout: timeout, count: count, links: map[*link]struct{}{}}
	rand.Read(r.client[:]) // it never fails: crypto/rand says so
	return r
}

// close breaks every link and waits for the goroutines. The life has ended.
func (r *rpc) close() {
	r.mu.Lock()
	r.closed = true
	ls := make([]*link, 0, len(r.links))
	for l := range r.links {
		ls = append(ls, l)
	}
	r.mu.Unlock()
	for _, l := range ls {
		l.fail(errClosed)
	}
	r.wg.Wait()
}

// A manner says how long a call goes on against a cluster that refuses.
type manner int

const (
	// brisk: one timeout at most, and an error at once when no NameNode can be
	// reached, none is active, or the active one takes no changes. For whoever
	// can turn to another cluster.
	brisk manner = iota
	// patient: until ctx ends. For files that are open: nothing else can be
	// done for them than to wait.
	patient
)

// call makes one call and returns the answer's message.
func (r *rpc) call(ctx context.Context, m manner, method string, req []byte) ([]byte, error) {
	if stop := over(ctx, method); stop != nil {
		return nil, stop
	}
	r.count.call(method)
	if m == brisk {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	c := &call{
		rpc: r, m: m, method: method, req: req,
		id:      r.calls.Add(1),
		answers: make(chan answer, 16),
		silent:  time.NewTimer(r.timeout),
	}
	defer c.end()
	for {
		body, done, err := c.try(ctx)
		if done {
			return body, err
		}
		if ctx.Err() != nil {
			return nil, overAt(ctx, err)
		}
	}
}

// A call is one call under way.
type call struct {
	rpc     *rpc
	m       manner
	method  string
	req     []byte
	id      int32
	sends   int
	standby int // NameNodes that said they were not active
	pauses  int
	answers chan answer
	silent  *time.Timer
	again   bool    // send, although an answer may still come
	on      []*link // where an answer may come, the oldest first
}

func (c *call) end() {
	c.silent.Stop()
	for _, l := range c.on {
		l.forget(c.id)
	}
}

// try sends the call, unless it waits for an answer already, and waits for what
// happens next. Without done, err says why it should be tried again.
func (c *call) try(ctx context.Context) (body []byte, done bool, err error) {
	if len(c.on) == 0 || c.again {
		if done, err = c.send(ctx); err != nil {
			return nil, done, err
		}
	}
	begun := time.Now()
	c.silent.Reset(c.rpc.timeout / 2)
	select {
	case a := <-c.answers:
		c.on = slices.DeleteFunc(c.on, func(l *link) bool { return l == a.from })
		return c.settle(ctx, a)
	case <-c.silent.C:
		c.leave()
		c.again = c.m == patient || c.sends == 1 // a second one is enough before a timeout
	case <-ctx.Done():
		if time.Since(begun) >= c.rpc.timeout/4 { // a shorter wait proves nothing
			c.leave()
		}
	}
	return nil, false, fmt.Errorf("%s: NameNode: %w", c.method, errSilent)
}

// leave makes others' calls take another link than those that are silent.
func (c *call) leave() {
	for _, l := range c.on {
		c.rpc.leave(l, true)
	}
}

func (c *call) send(ctx context.Context) (done bool, err error) {
	l, err := c.rpc.link(ctx)
	if err != nil { // every address was tried
		if ctx.Err() != nil {
			return false, err
		}
		err = unavailable(fmt.Errorf("%s: %w", c.method, err))
		if c.m == brisk || errors.Is(err, errClosed) {
			return true, err
		}
		c.pause(ctx)
		return false, err
	}
	if err = l.send(ctx, c.id, c.frame(), c.answers); errors.Is(err, errBroken) {
		c.rpc.leave(l, true)
		c.pause(ctx)
		return false, unavailable(fmt.Errorf("%s: %w", c.method, err))
	}
	c.again = false
	c.on = append(slices.DeleteFunc(c.on, func(o *link) bool { return o == l }), l)
	if len(c.on) > 2 { // one that hangs and one that may not are enough
		c.on[0].forget(c.id)
		c.on = slices.Delete(c.on, 0, 1)
	}
	return false, err
}

func (c *call) frame() []byte {
	c.sends++
	h := putUint(putString(putString(nil, 1, c.method), 2, clientProtocol), 3, 1)
	return frame(callHeader(c.rpc.client[:], c.id, c.sends-1), h, c.req)
}

// settle decides about an answer.
func (c *call) settle(ctx context.Context, a answer) (body []byte, done bool, err error) {
	if a.err == nil {
		return a.body, true, nil
	}
	var r *RemoteError
	if !errors.As(a.err, &r) { // the link broke
		c.rpc.leave(a.from, true)
		c.pause(ctx)
		return nil, false, unavailable(fmt.Errorf("%s: %w", c.method, a.err))
	}
	err = &RemoteError{Method: c.method, Class: r.Class, Message: r.Message}
	switch r.name() {
	case "StandbyException", "ObserverRetryOnActiveException":
		c.rpc.leave(a.from, true)
		if c.standby++; c.m == brisk && c.standby >= len(c.rpc.addrs) {
			return nil, true, err
		}
		if c.standby >= len(c.rpc.addrs) {
			c.pause(ctx)
		}
		return nil, false, err
	case "SafeModeException", "RetriableException": // refused, not done
		if c.m == patient {
			c.pause(ctx)
			return nil, false, err
		}
	}
	return nil, true, err
}

// pause waits a little before the next try, longer each time.
func (c *call) pause(ctx context.Context) {
	t := time.NewTimer(50 * time.Millisecond << min(c.pauses, 4))
	defer t.Stop()
	c.pauses++
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// link returns the current link or makes one. An error says that no NameNode
// could be reached, or that ctx is over.
func (r *rpc) link(ctx context.Context) (*link, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errClosed
	}
	if l := r.cur; l != nil {
		r.mu.Unlock()
		return l, nil
	}
	d := r.dialing
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		r.dialing = d
		first := r.next
		r.wg.Go(func() { r.connect(d, first) }) //nolint:contextcheck // a connect is everybody's, and ends with the cluster
	}
	r.mu.Unlock()
	select {
	case <-d.done:
		return d.link, d.err
	case <-ctx.Done():
		return nil, over(ctx, "connecting")
	}
}

// leave makes new calls take another link, of the next NameNode if other is
// set. Calls that wait on l go on waiting.
func (r *rpc) leave(l *link, other bool) {
	r.mu.Lock()
	if r.cur == l {
		r.cur = nil
		if other {
			r.next = (r.next + 1) % len(r.addrs)
		}
	}
	r.mu.Unlock()
	l.leave()
}

// stagger is how long one NameNode of a pair is waited for before the next one
// is dialled as well: a dead host answers a connect with nothing at all.
const stagger = 250 * time.Millisecond

// connect makes a link to the first NameNode that can be connected to.
func (r *rpc) connect(d *dialing, first int) {
	type result struct {
		addr int
		conn net.Conn
		err  error
	}
	n := len(r.addrs)
	ctx, cancel := context.WithCancel(r.life)
	defer cancel()
	results := make(chan result, n)
	begun, failed := 0, 0
	begin := func() {
		a := (first + begun) % n
		begun++
		r.count.dials.Add(1)
		r.wg.Go(func() {
			c, err := r.d.nameNode(ctx, r.addrs[a], r.client[:])
			results <- result{a, c, err}
		})
	}
	begin()
	next := time.NewTicker(stagger)
	defer next.Stop()
	var errs []error
	for {
		select {
		case <-next.C:
			if begun < n {
				begin()
			}
			continue
		case res := <-results:
			if res.err == nil {
				r.connected(d, res.addr, newLink(res.conn), nil)
				cancel()
				for range begun - failed - 1 { // those that came later
					if late := <-results; late.err == nil {
						late.conn.Close()
					}
				}
				return
			}
			errs = append(errs, res.err)
			if failed++; failed == n {
				r.connected(d, first, nil, errors.Join(errs...))
				return
			}
			if begun < n && begun == failed {
				begin()
			}
		}
	}
}

// connected publishes the outcome of a connect.
func (r *rpc) connected(d *dialing, addr int, l *link, err error) {
	d.link, d.err = l, err
	r.mu.Lock()
	r.dialing = nil
	if l != nil && r.closed {
		l.conn.Close()
		d.link, d.err = nil, errClosed
		l = nil
	}
	if l != nil {
		r.cur, r.next = l, addr
		r.links[l] = struct{}{}
		r.wg.Go(func() { l.write(r.timeout) })
		r.wg.Go(func() {
			l.read()
			r.leave(l, false)
			r.mu.Lock()
			delete(r.links, l)
			r.mu.Unlock()
		})
	}
	r.mu.Unlock()
	close(d.done)
}
