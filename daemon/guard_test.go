package daemon

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestARequestBringsNothingToMemoryOrDisk(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	w := newWorld(t, quick+two+all).start()
	body := "--b\r\nContent-Disposition: form-data; name=\"cluster\"; filename=\"f\"\r\n\r\n" + strings.Repeat("z", 40<<20) + "\r\n--b--\r\n"
	r := httptest.NewRequest(http.MethodGet, "/v1/drain?cluster=n1", strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	left := &countedReader{r: r.Body}
	r.Body = io.NopCloser(left)
	w.server.handler().ServeHTTP(httptest.NewRecorder(), r)
	if left.n > 2*httpBody {
		t.Errorf("%d bytes of a form were read, want %d at most", left.n, httpBody)
	}
	if files, err := filepath.Glob(filepath.Join(tmp, "multipart-*")); err != nil || len(files) > 0 {
		t.Errorf("a form's file was written to the disk: %q, %v", files, err)
	}
}

type countedReader struct {
	r io.Reader
	n int
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

func TestTheHTTPSideHasALimitOfConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	var held []net.Conn
	dial := func(host string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
		c, err := d.Dial("tcp", w.server.listeners[1].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range w.server.door.ofOne {
		held = append(held, dial("127.0.0.2"))
	}
	w.eventually("all are counted", func() bool { return w.server.door.connections() >= w.server.door.ofOne })
	one := dial("127.0.0.2")
	one.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := one.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection beyond the limit of its address is kept: %v", err)
	}
	if n := w.server.door.refused.Load(); n != 1 {
		t.Errorf("%d connections refused, want 1", n)
	}
	if code, body := w.get("/healthz"); code != http.StatusOK {
		t.Errorf("another address: %d %s", code, body)
	}
	for _, c := range held {
		c.Close()
	}
	w.eventually("closed connections make room", func() bool { return w.server.door.connections() < 10 })
}

// deadlines is an answer whose deadlines are noted.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestEachWriteOfAnAnswerHasADeadline(t *testing.T) {
	t.Parallel()
	d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	h := bounded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		for range 3 {
			_, _ = io.Copy(w, bytes.NewReader(make([]byte, 100)))
		}
	}))
	h.ServeHTTP(d, httptest.NewRequest(http.MethodGet, "/", nil))
	if d.Code != http.StatusAccepted || d.Body.Len() != 300 || len(d.set) != 4 {
		t.Errorf("answer %d of %d bytes, deadlines set %d times", d.Code, d.Body.Len(), len(d.set))
	}
	for _, at := range d.set {
		if left := time.Until(at); left < httpStalled/2 || left > httpStalled {
			t.Errorf("a deadline in %v", left)
		}
	}
}

func TestAnswersAreMadeOneAtATimeAndSentOutsideOfTheTurn(t *testing.T) {
	var now, most atomic.Int64
	h := make(turn, 1).make(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		time.Sleep(time.Millisecond)
		now.Add(-1)
		w.Header().Set("Content-Type", "text/x")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "answer")
	})
	stuck := &deafWriter{ResponseRecorder: httptest.NewRecorder(), free: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() { h.ServeHTTP(stuck, httptest.NewRequest(http.MethodGet, "/", nil)) })
	var others sync.WaitGroup
	for range 50 {
		others.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != http.StatusTeapot || w.Body.String() != "answer" || w.Header().Get("Content-Type") != "text/x" {
				t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
			}
		})
	}
	others.Wait()
	close(stuck.free)
	all.Wait()
	if n := most.Load(); n != 1 {
		t.Errorf("%d answers were made at once", n)
	}
}

// deafWriter is a client that takes nothing for a time.
type deafWriter struct {
	*httptest.ResponseRecorder
	free chan struct{}
}

func (d *deafWriter) Write(b []byte) (int, error) {
	<-d.free
	return d.ResponseRecorder.Write(b)
}

func TestWhatTheHTTPSideLogsIsBounded(t *testing.T) {
	core, seen := observer.New(zap.InfoLevel)
	l := errorLog(zap.New(core), "not sent")
	for port := range 1000 {
		l.Printf("write tcp 127.0.0.1:1->127.0.0.2:%d: broken pipe\n", port)
	}
	if n := seen.Len(); n != sameLines {
		t.Errorf("%d lines, want %d", n, sameLines)
	}
	if e := seen.All()[0].ContextMap()["error"]; e != "write tcp 127.0.0.1:1->127.0.0.2:0: broken pipe" {
		t.Errorf("the error is %q", e)
	}
}
