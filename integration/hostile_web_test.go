//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// tricks are requests that must not be answered with 200: what they ask for is neither there nor theirs.
func tricks() []string {
	var requests []string
	for _, p := range []string{
		"/v1/segments/../../../../../../etc/passwd", "/v1/segments/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/v1/segments/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
		"/v1/segments//etc/passwd", "/v1/segments/%2fetc%2fpasswd", "/v1/segments/..", "/v1/segments/%2e%2e%2fjournal", "/v1/segments/a%00b", "/v1/segments/..%5c..%5cetc%5cpasswd",
		"/v1/segments/..%252f..%252fetc%252fpasswd", "/v1/segments/%c0%ae%c0%ae%c0%af", "/../../etc/passwd", "/v1/segments/" + strings.Repeat("a", 4000), "/v1/segments/;x=y",
	} {
		requests = append(requests, "GET "+p+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	for _, r := range []string{
		"POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n",
		"POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\n",
		"POST /v1/stop HTTP/1.1\r\nHost: evil.example\r\n", // a page whose name has been made to mean this machine
		"POST http://evil.example/v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"GET /debug/pprof/heap HTTP/1.1\r\nHost: evil.example\r\n",
		"POST /v1/forget?reason=all HTTP/1.1\r\nHost: evil.example:14630\r\n",
		"GET /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"PUT /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"POST /v1/stop HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
		"POST /v1/stop HTTP/1.1\r\n", // no Host
		"GET /v1/status HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n",
		"GET /v1/status HTTP/9.9\r\nHost: a\r\n",
		"POST /v1/drain?cluster=" + forged + "%0a%1b[31m HTTP/1.1\r\nHost: 127.0.0.1\r\n",
		"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n",
	} {
		requests = append(requests, r+"Connection: close\r\n\r\n")
	}
	return append(requests, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", string(forgery()), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "GET "+strings.Repeat("/a", 1<<20)+" HTTP/1.1\r\n\r\n")
}

// web are attacks on the HTTP side.
func (g *siege) web() []attack {
	requests := tricks()
	huge := []byte("GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n")
	part := []byte("GET /v1/drain?cluster=n1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 67108864\r\n\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"cluster\"; filename=\"f\"\r\n\r\n")
	filler := bytes.Repeat([]byte("z"), 1<<20)
	return []attack{
		{name: "HTTP: paths, hosts, origins, methods", workers: 2, once: func(ctx context.Context, worker int) int {
			for _, r := range requests {
				if ctx.Err() != nil && worker > 0 { // one of them gets through all of them
					break
				}
				g.refused(context.WithoutCancel(ctx), r)
			}
			return 0
		}},
		{name: "HTTP: headers of 1 MB", workers: 4, once: func(ctx context.Context, _ int) int {
			return g.http(ctx, func(c net.Conn) { _, _ = c.Write(huge) })
		}},
		{name: "HTTP: 64 MiB of a form, as a file", workers: 4, once: func(ctx context.Context, _ int) int {
			return g.http(ctx, func(c net.Conn) {
				_, err := c.Write(part)
				for n := 0; n < 64 && err == nil && ctx.Err() == nil; n++ {
					_, err = c.Write(filler)
				}
			})
		}},
		{name: "HTTP: 1,500 silent, slow or deaf connections", metric: "twinscribe_http_refused_total", least: true, workers: 1, once: g.slowHTTP},
	}
}

// http is a connection to the HTTP side.
func (g *siege) http(ctx context.Context, f func(net.Conn)) int {
	c, err := from(ctx, "127.0.0.3", g.s.HTTP)
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	f(c)
	ended(c, 100*time.Millisecond)
	return 1
}

// refused sees to it that a request is not answered with 200.
func (g *siege) refused(ctx context.Context, request string) {
	c, err := from(ctx, "127.0.0.6", g.s.HTTP)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, request)
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	b, _ := io.ReadAll(io.LimitReader(c, 1<<16))
	if line, _, _ := bytes.Cut(b, []byte("\n")); bytes.Contains(line, []byte(" 200")) || bytes.Contains(b, []byte("root:")) {
		g.t.Errorf("the HTTP side answers %.100q with %.300q", request, b)
	}
}

// slowHTTP opens connections that say nothing, or a header byte by byte, or read no reply, and holds them.
func (g *siege) slowHTTP(ctx context.Context, _ int) int {
	var held []net.Conn
	for i := range 1500 {
		c, err := from(ctx, fmt.Sprintf("127.0.0.%d", 30+i%3), g.s.HTTP)
		if err != nil {
			break
		}
		defer c.Close()
		switch i % 3 {
		case 1:
			_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHo")
		case 2:
			_, _ = io.WriteString(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200))
		}
		held = append(held, c)
	}
	for ctx.Err() == nil {
		for i, c := range held {
			if i%3 == 1 {
				_, _ = c.Write([]byte("s"))
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return 1
}
