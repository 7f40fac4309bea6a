package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An Offer is a load of so many messages that a history of each of them would
// not fit into memory: what is remembered is a byte for each call, and a
// message says by itself which one it is. Every message is offered once, OK or
// not. It runs in a process of its own, at the lowest priority, so that it
// takes the processors from nobody whose latency is measured.
type Offer struct {
	Addr       string
	Name       string // of the categories, with a number behind it
	Categories int    // how many: client i uses number i % Categories
	Clients    int
	Batch      int   // messages a call
	Size       int   // bytes of a message
	Bytes      int64 // of messages, offered by all clients together, at least
	Rate       int64 // of them a second at most; 0: as fast as answers come
}

// What became of a call.
const (
	CallUnknown = iota // its answer was lost, or said TRY_LATER: it may be there
	CallLater
	CallOK
)

// Offered is what became of an Offer.
type Offered struct {
	Calls        [][]byte // by client: what became of each call
	OK, Later    int      // calls
	Lost         int      // answers
	Took         time.Duration
	Longest      time.Duration // until an answer
	LongestLater time.Duration // until a TRY_LATER
	Err          string        // of a client, the first one
}

// Category of a client.
func (o *Offer) Category(client int) string { return fmt.Sprint(o.Name, client%o.Categories) }

// DerivedSize is the smallest size of a message made by Derived.
const DerivedSize = 10

const digits36 = "0123456789abcdefghijklmnopqrstuvwxyz"

// fill is where the rest of a large message is cut from.
var fill = sync.OnceValue(func() []byte {
	b := make([]byte, 3<<20)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = 'a' + byte(x%26)
	}
	return b
})

// Derived appends message n of a client, of size bytes, 10 to 2 MiB: an o, two
// digits for the client, six for the number, one that checks them, and letters
// that follow from both.
func Derived(b []byte, client, n, size int) []byte {
	at := len(b)
	b = append(b, 'o', digits36[client/36%36], digits36[client%36])
	for div := 36 * 36 * 36 * 36 * 36; div > 0; div /= 36 {
		b = append(b, digits36[n/div%36])
	}
	sum := crc32.ChecksumIEEE(b[at:])
	b = append(b, digits36[sum%36])
	from := int(sum % (1 << 20))
	return append(b, fill()[from:from+size-DerivedSize]...)
}

// ParseDerived reads the beginning of what Derived made.
func ParseDerived(b []byte) (client, n int, ok bool) {
	if len(b) < DerivedSize || b[0] != 'o' {
		return 0, 0, false
	}
	for i, c := range b[1:9] {
		d := bytes.IndexByte([]byte(digits36), c)
		if d < 0 {
			return 0, 0, false
		}
		if i < 2 {
			client = 36*client + d
		} else {
			n = 36*n + d
		}
	}
	return client, n, b[9] == digits36[crc32.ChecksumIEEE(b[:9])%36]
}

// Run offers all of it from this process.
func (o *Offer) Run(ctx context.Context) *Offered {
	r := &Offered{Calls: make([][]byte, o.Clients)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	each := int64(o.Size) * int64(o.Batch) * int64(o.Clients)
	calls := int((o.Bytes + each - 1) / each) // of each client
	for i := range o.Clients {
		wg.Go(func() {
			one := o.client(ctx, i, calls, start)
			mu.Lock()
			defer mu.Unlock()
			r.Calls[i] = one.Calls[0]
			r.OK, r.Later, r.Lost = r.OK+one.OK, r.Later+one.Later, r.Lost+one.Lost
			r.Longest, r.LongestLater = max(r.Longest, one.Longest), max(r.LongestLater, one.LongestLater)
			if r.Err == "" {
				r.Err = one.Err
			}
		})
	}
	wg.Wait()
	r.Took = time.Since(start)
	return r
}

func (o *Offer) client(ctx context.Context, client, calls int, start time.Time) *Offered {
	r := &Offered{Calls: make([][]byte, 1)}
	category := []byte(o.Category(client))
	entries := make([]Entry, o.Batch)
	text := make([]byte, 0, o.Batch*o.Size)
	var c *Conn
	var every time.Duration
	if o.Rate > 0 {
		every = time.Duration(float64(o.Batch*o.Size*o.Clients) / float64(o.Rate) * float64(time.Second))
	}
	for call := 0; call < calls && ctx.Err() == nil; call++ {
		wait(ctx, time.Until(start.Add(time.Duration(call)*every+every*time.Duration(client)/time.Duration(o.Clients))))
		text = text[:0]
		for i := range entries {
			at := len(text)
			text = Derived(text, client, call*o.Batch+i, o.Size)
			entries[i] = Entry{category, text[at:]}
		}
		what := byte(CallUnknown)
		var err error
		if c == nil {
			c, err = Dial(o.Addr)
		}
		if err == nil {
			began := time.Now()
			var ok bool
			if ok, err = c.Log(entries, time.Minute); err == nil {
				took := time.Since(began)
				r.Longest = max(r.Longest, took)
				if what = CallOK; ok {
					r.OK++
				} else {
					what = CallLater
					r.Later++
					r.LongestLater = max(r.LongestLater, took)
				}
			}
		}
		if err != nil {
			r.Lost++
			if c != nil {
				c.Close()
				c = nil
			}
			if r.Err == "" {
				r.Err = err.Error()
			}
		}
		r.Calls[0] = append(r.Calls[0], what)
	}
	if c != nil {
		c.Close()
	}
	return r
}

var offerBinary = sync.OnceValues(func() (string, error) {
	b := filepath.Join(Repository(), "bin", "offer")
	cmd := exec.Command("go", "build", "-o", b, "./integration/offer")
	cmd.Dir = Repository()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the offering clients: %w\n%s", err, out)
	}
	return b, nil
})

// Start runs the offer in a process of its own; the function waits for its end.
func (o *Offer) Start(t testing.TB) (wait func() *Offered) {
	t.Helper()
	bin, err := offerBinary()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", bin, string(spec))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ended := false
	t.Cleanup(func() {
		if !ended {
			cmd.Process.Kill()
			<-done
		}
	})
	return func() *Offered {
		t.Helper()
		err := <-done
		ended = true
		r := &Offered{}
		if err == nil {
			err = json.Unmarshal(out.Bytes(), r)
		}
		if err != nil {
			t.Fatalf("the offering clients: %v\n%s", err, errs.String())
		}
		return r
	}
}

// Verify reads the lines of one category back and counts them against what
// became of the calls.
func (o *Offer) Verify(r io.Reader, category string, of *Offered) (Books, error) {
	var b Books
	seen := make([][]uint64, o.Clients) // a bit for each message
	for i, calls := range of.Calls {
		seen[i] = make([]uint64, (len(calls)*o.Batch+63)/64)
	}
	s := bufio.NewReaderSize(r, o.Size+1<<16)
	want := make([]byte, 0, o.Size)
	note := func(counter *int, format string, args ...any) {
		if *counter++; b.First == "" {
			b.First = fmt.Sprintf(format, args...)
		}
	}
	for {
		line, err := s.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil {
			return b, fmt.Errorf("after %d lines: %w", b.Read, err)
		}
		b.Read++
		line = line[:len(line)-1]
		client, n, ok := ParseDerived(line)
		if !ok || client >= o.Clients || n >= len(of.Calls[client])*o.Batch || o.Category(client) != category || len(line) != o.Size {
			note(&b.Strange, "line %d: %.60q", b.Read, line)
			continue
		}
		if want = Derived(want[:0], client, n, o.Size); !bytes.Equal(want, line) {
			note(&b.Strange, "line %d is not what was sent: %.60q", b.Read, line)
			continue
		}
		if seen[client][n/64]&(1<<(n%64)) != 0 {
			note(&b.Twice, "twice: %.20q", line)
		} else if of.Calls[client][n/o.Batch] != CallOK {
			b.Extra++
		}
		seen[client][n/64] |= 1 << (n % 64)
	}
	for client, calls := range of.Calls {
		if o.Category(client) != category {
			continue
		}
		for call, what := range calls {
			for n := call * o.Batch; what == CallOK && n < (call+1)*o.Batch; n++ {
				if seen[client][n/64]&(1<<(n%64)) == 0 {
					note(&b.Lost, "lost: client %d message %d", client, n)
				}
			}
		}
	}
	return b, nil
}
