//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"twinscribe/integration/lab"
)

// slow are clients that take or give no time.
func (g *siege) slow() []attack {
	attacks := []attack{
		{name: "2 x 1,800 connections that say nothing", metric: "twinscribe_thrift_refused_total", labels: []string{`limit="connections_per_ip"`},
			workers: 2, once: g.silent},
		{name: "100 clients, a byte every 200 ms", metric: "twinscribe_thrift_timeouts_total", labels: []string{`deadline="frame"`}, workers: 100, once: g.drip},
		{name: "connect, then close or reset, at full speed", metric: "twinscribe_thrift_accepted_total", least: true, workers: 2, once: g.churn},
	}
	if half, err := repairable(g.s.Thrift); half {
		attacks = append(attacks, attack{name: "hosts that vanish inside a frame", metric: "twinscribe_thrift_timeouts_total",
			labels: []string{`deadline="frame"`}, workers: 20, once: g.vanish})
	} else {
		g.t.Logf("no host vanishes: TCP_REPAIR wants CAP_NET_ADMIN: %v", err)
	}
	return attacks
}

// silent opens more connections than one address may have, and counts those that the server has closed.
func (g *siege) silent(ctx context.Context, worker int) int {
	host := fmt.Sprintf("127.0.0.%d", 10+worker)
	var held []net.Conn
	for range 1800 {
		c, err := from(ctx, host, g.s.Thrift)
		if err != nil {
			break
		}
		defer c.Close()
		held = append(held, c)
	}
	<-ctx.Done()
	refused := 0
	for _, c := range held {
		if ended(c, time.Millisecond) {
			refused++
		}
	}
	return refused
}

// drip sends a whole call, but never in time.
func (g *siege) drip(ctx context.Context, _ int) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	for _, b := range framed(call(1, lab.Entry{Category: []byte("good"), Message: []byte(forged + " too slow")})) {
		if _, err := c.Write([]byte{b}); err != nil {
			return 1
		}
		if ended(c, 200*time.Millisecond) {
			return 1
		}
	}
	g.t.Error("a frame of a byte every 200 ms was read to its end")
	return 1
}

// churn connects, and half of the time resets.
func (g *siege) churn(ctx context.Context, worker int) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	if worker%2 == 1 {
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			g.t.Error(err)
		}
		c.Close()
		return 0 // it may be gone before it is accepted
	}
	c.Close()
	return 1
}

// repair has a socket whose bytes have all arrived go without a word when it is closed.
func repair(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	for limit := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		unacknowledged := 0
		var failed error
		err = raw.Control(func(fd uintptr) {
			if unacknowledged, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); failed == nil && unacknowledged == 0 {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
			}
		})
		switch {
		case err != nil:
			return err
		case failed != nil || unacknowledged == 0:
			return failed
		case time.Now().After(limit):
			return fmt.Errorf("%d bytes do not arrive", unacknowledged)
		}
	}
}

func repairable(addr string) (bool, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false, err
	}
	defer c.Close()
	err = repair(c)
	return err == nil, err
}

// vanish is a host that loses its power inside a frame: it sends neither the rest nor that it ends.
func (g *siege) vanish(ctx context.Context, _ int) int {
	n := g.number.Add(1)
	// From an address of its own: the port of a host that is gone is free at once, and who takes it next resets the old connection.
	c, err := from(ctx, fmt.Sprintf("127.1.%d.%d", n>>8&255, n&255), g.s.Thrift)
	if err != nil {
		return 0
	}
	frame := framed(call(1, lab.Entry{Category: []byte("good"), Message: []byte(forged + " by a host that vanished")}))
	_, err = c.Write(frame[:len(frame)-5])
	if err == nil {
		err = repair(c)
	}
	c.Close()
	if err != nil {
		return 0
	}
	select {
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
	return 1
}

// greedy are clients that take memory, time or replies' room.
func (g *siege) greedy() []attack {
	unfinished := func(size int) []byte {
		return framed(call(1, lab.Entry{Category: []byte("good"), Message: bytes.Repeat([]byte(forged), size/len(forged))}))
	}
	small, large := unfinished(60<<10), unfinished(16<<20-64)
	value := string(bytes.Repeat([]byte("v"), 900_000))
	return []attack{
		{name: "8 frames of 16 MiB but for a byte, 800 of 60 KiB", metric: "twinscribe_thrift_timeouts_total", labels: []string{`deadline="frame"`},
			workers: 808, once: func(ctx context.Context, worker int) int {
				if worker < 8 {
					return g.hog(ctx, "127.0.0.20", large)
				}
				return g.hog(ctx, "127.0.0.21", small)
			}},
		{name: "replies of 900 KB that nobody reads", metric: "twinscribe_thrift_timeouts_total", labels: []string{`deadline="reply"`}, workers: 10,
			once: func(ctx context.Context, _ int) int { return g.deaf(ctx, value) }},
		{name: "500 calls at once, oneway and not, replies unread", metric: "twinscribe_thrift_frames_total", least: true, workers: 2,
			once: func(ctx context.Context, _ int) int { return g.hasty(ctx, g.number.Add(1)) }},
		{name: "2,000,000 empty structs in an unknown field", metric: "twinscribe_thrift_frames_total", least: true, workers: 2,
			once: func(ctx context.Context, _ int) int { return g.padded(ctx, g.number.Add(1)) }},
		{name: "calls of 100,000 blank entries", metric: "twinscribe_stored_messages_total", labels: []string{`place="dead-letter"`}, least: true, workers: 1, once: g.blank},
		{name: "fb303: all methods, odd keys, unknown names", metric: "twinscribe_thrift_other_calls_total", least: true, workers: 4, once: g.fb303},
	}
}

// hog sends all of a frame but its last byte, and waits.
func (g *siege) hog(ctx context.Context, host string, frame []byte) int {
	c, err := from(ctx, host, g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(15 * time.Second))
	if _, err = c.Write(frame[:len(frame)-1]); err != nil {
		return 0 // it may be refused before it is read
	}
	if !ended(c, 10*time.Second) {
		g.t.Error("a frame without its last byte: the server keeps the connection")
	}
	return 1
}

// deaf asks for more than it reads.
func (g *siege) deaf(ctx context.Context, value string) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	start := time.Now()
	_, _ = c.Write(framed(method("setOption", 1), text(1, "k"), text(2, value), []byte{0}))
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	ask := bytes.Repeat(framed(method("getOption", 1), text(1, "k"), []byte{0}), 2000)
	_, _ = c.Write(ask)
	buf := make([]byte, 1)
	for { // until the server has closed: an unread reply does not hide a reset
		if _, err := c.Write(buf); err != nil {
			return 1
		}
		time.Sleep(100 * time.Millisecond)
		if time.Since(start) > 30*time.Second {
			g.t.Error("replies that nobody reads: the server keeps the connection")
			return 0
		}
	}
}

// hasty sends many whole calls without reading a reply, and goes.
func (g *siege) hasty(ctx context.Context, n int64) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	var all []byte
	for i := range 500 {
		message := fmt.Sprintf("hasty %d %d", n, i)
		g.sends(message)
		all = append(all, framed(call([]byte{1, 4}[i%2], lab.Entry{Category: []byte("hasty"), Message: []byte(message)}))...)
	}
	if _, err := c.Write(all); err != nil {
		return 0
	}
	select {
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
	return 1
}

// padded sends a whole call with an unknown field that is costly to skip. It is answered.
func (g *siege) padded(ctx context.Context, n int64) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	message := fmt.Sprintf("padded %d", n)
	g.sends(message)
	body := call(1, lab.Entry{Category: []byte("padded"), Message: []byte(message)})
	frame := framed(body[:len(body)-1], []byte{15, 0, 9, 12}, be32(2_000_000), make([]byte, 2_000_001))
	switch result, err := exchange(c, frame); {
	case err != nil && g.alone: // beside others the frame may be late
		g.t.Errorf("a call with 2,000,000 empty structs in an unknown field: %v", err)
	case err == nil && result == 0:
		g.acked(message)
	}
	return 1
}

// exchange sends a Log call and gives the result that stands in its answer.
func exchange(c net.Conn, frame []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write(frame); err != nil {
		return 0, err
	}
	answer := make([]byte, 24)
	if _, err := io.ReadFull(c, answer); err != nil {
		return 0, err
	}
	if string(answer[8:11]) != "Log" || answer[11] != 2 {
		return 0, fmt.Errorf("answer %q", answer)
	}
	return int(answer[22]), nil
}

// blank sends as many entries as a call may have, with neither category nor message.
func (g *siege) blank(ctx context.Context, _ int) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	result, err := exchange(c, framed(method("Log", 1), list(100_000), make([]byte, 100_001)))
	if err != nil && g.alone {
		g.t.Errorf("a call of 100,000 blank entries: %v", err)
	}
	if err != nil || result != 0 {
		return 0
	}
	return 100_000
}

// fb303 asks for everything that costs something, with keys and names that steer a terminal.
func (g *siege) fb303(ctx context.Context, worker int) int {
	c, err := from(ctx, "127.0.0.3", g.s.Thrift)
	if err != nil {
		return 0
	}
	defer c.Close()
	odd := fmt.Sprintf("\x1b]0;owned\a\n2026-01-01T00:00:00Z error %s \u009b31m\u202e\xff %d", forged, time.Now().UnixNano())
	var all []byte
	calls := 0
	add := func(name string, kind byte, fields ...[]byte) {
		calls++
		all = append(all, framed(append([][]byte{method(name, kind)}, append(fields, []byte{0})...)...)...)
	}
	for range 20 {
		for _, name := range []string{"getName", "getVersion", "getStatus", "getStatusDetails", "getCounters", "getOptions", "aliveSince"} {
			add(name, 1)
		}
		add("getCounter", 1, text(1, odd))
		add("getOption", 1, text(1, odd))
		add("setOption", 1, text(1, odd), text(2, odd))
		add("getCpuProfile", 1, []byte{8, 0, 1}, be32(-1))
		add("reinitialize", 4)
		add("\x1b[2J\n"+forged, 1)
		add("Log\x00", 4)
		add("", 1)
	}
	if worker > 1 {
		go func() { _, _ = io.Copy(io.Discard, c) }() // half of them read their replies
	}
	c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(all); err != nil {
		return 0
	}
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
	if worker <= 1 {
		return 0 // not all of them were read
	}
	return 1
}
