package daemon

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the HTTP side's connections and requests. They keep it from taking
// the process's memory, descriptors and disk, whoever asks and whatever.
const (
	httpShare   = 4                // one address has so much of the connections: who holds them all does not keep others out
	httpBody    = 64 << 10         // of a request: forms of a few short fields
	httpStalled = 30 * time.Second // a client that takes nothing of its answer for so long is closed
)

// A doorkeeper counts the HTTP side's connections and closes those beyond the limits.
type doorkeeper struct {
	most, ofOne int // connections at once, of all and of one address
	refused     atomic.Int64
	mu          sync.Mutex
	open        map[net.Conn]netip.Addr
	of          map[netip.Addr]int
}

func newDoorkeeper(most int) *doorkeeper {
	return &doorkeeper{most: most, ofOne: max(most/httpShare, 1), open: map[net.Conn]netip.Addr{}, of: map[netip.Addr]int{}}
}

// watch is an http.Server's ConnState.
func (d *doorkeeper) watch(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if !d.enter(c) {
			d.refused.Add(1)
			c.Close() // the server notices when it reads
		}
	case http.StateClosed, http.StateHijacked:
		d.leave(c)
	case http.StateActive, http.StateIdle:
	}
}

func (d *doorkeeper) enter(c net.Conn) bool {
	var from netip.Addr
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		from = a.AddrPort().Addr().Unmap()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) >= d.most || d.of[from] >= d.ofOne {
		return false
	}
	d.open[c] = from
	d.of[from]++
	return true
}

func (d *doorkeeper) leave(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, in := d.open[c]
	if !in {
		return
	}
	delete(d.open, c)
	if d.of[from]--; d.of[from] == 0 {
		delete(d.of, from)
	}
}

func (d *doorkeeper) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.open)
}

// bounded bounds what a request brings and how long a client may take nothing
// of its answer. An answer that is long in the making is not cut off.
func bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, httpBody)
		h.ServeHTTP(&unstalled{w}, r)
	})
}

// unstalled gives each write of an answer a deadline of its own.
type unstalled struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (u *unstalled) Unwrap() http.ResponseWriter { return u.ResponseWriter }

func (u *unstalled) Write(b []byte) (int, error) {
	u.extend()
	return u.ResponseWriter.Write(b)
}

func (u *unstalled) WriteHeader(code int) {
	u.extend()
	u.ResponseWriter.WriteHeader(code)
}

func (u *unstalled) extend() {
	_ = http.NewResponseController(u.ResponseWriter).SetWriteDeadline(time.Now().Add(httpStalled)) // a recorder in a test has none
}

// A turn is what answers that take a processor's time are made in, one after
// another: who asks for many of them at once has one processor at most, and the
// rest is for those who log. They are sent outside of it: a client that takes
// nothing keeps nobody waiting.
type turn chan struct{}

func (t turn) make(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case t <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		a := made{header: w.Header(), code: http.StatusOK}
		func() {
			defer func() { <-t }()
			h(&a, r)
		}()
		w.WriteHeader(a.code)
		_, _ = w.Write(a.Bytes()) // whoever is gone needs no answer
	})
}

// made is an answer that waits to be sent.
type made struct {
	bytes.Buffer
	header http.Header
	code   int
}

func (m *made) Header() http.Header  { return m.header }
func (m *made) WriteHeader(code int) { m.code = code }

// Why a request that changes something is refused.
var (
	errElsewhere = errors.New("this is answered on the machine itself only")
	errWebPage   = errors.New("this is not answered to web pages")
	errHost      = errors.New("this is answered under an IP address, localhost or the machine's own name only: " +
		"another name in the request's Host may be a web page that has had its name mean this machine")
)

// mayChange says whether a request may change something or see the inside: it
// comes from this machine, and from no page in a browser on it either.
func mayChange(r *http.Request) error {
	switch {
	case !fromHere(r):
		return errElsewhere
	case r.Header.Get("Origin") != "":
		return errWebPage
	case !ownName(r.Host):
		return errHost
	}
	return nil
}

// ownName says whether a request's Host is no name that anybody else can have
// given this machine.
func ownName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	own, err := os.Hostname()
	return err == nil && own != "" && strings.EqualFold(host, own)
}
