package lab

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"
)

// A Load is a number of clients, each with a connection of its own and one call
// outstanding, that remember what became of every message.
type Load struct {
	Addr     string
	Clients  int
	Batch    int                                            // messages a call
	Interval time.Duration                                  // between the calls of one client; 0: as fast as answers come
	Limit    int                                            // messages a client; 0: until ctx ends
	Once     bool                                           // what was answered TRY_LATER is not offered again: its fate is unknown
	Message  func(client, n int) (category, message []byte) // message n of a client, from 0
	Answered func(client, first, n int, took time.Duration) // an OK, if wanted
}

// A History is what became of the messages of one client.
type History struct {
	Sent    int   // messages 0..Sent-1 were offered
	Unknown []int // of these nobody knows: the answer was lost (they were not offered again)
	OKs     []OK
	Later   int // TRY_LATER answers; such calls were offered again, but for Once
	Longest time.Duration
	Refused time.Duration // the slowest TRY_LATER took so long
}

// OK is one acknowledged call.
type OK struct {
	At   time.Time
	Took time.Duration // from the first offer of the call to its OK
}

// Acked tells the messages that were acknowledged.
func (h *History) Acked() []int {
	unknown := make(map[int]bool, len(h.Unknown))
	for _, n := range h.Unknown {
		unknown[n] = true
	}
	acked := make([]int, 0, h.Sent-len(unknown))
	for n := range h.Sent {
		if !unknown[n] {
			acked = append(acked, n)
		}
	}
	return acked
}

// Run drives the load until every client has sent its limit or ctx ends.
func (l Load) Run(ctx context.Context) []*History {
	hs := make([]*History, l.Clients)
	var wg sync.WaitGroup
	for i := range hs {
		hs[i] = &History{}
		wg.Go(func() { l.client(ctx, i, hs[i]) })
	}
	wg.Wait()
	return hs
}

func (l Load) client(ctx context.Context, client int, h *History) {
	var c *Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	entries := make([]Entry, 0, l.Batch)
	for ctx.Err() == nil && (l.Limit == 0 || h.Sent < l.Limit) {
		entries = entries[:0]
		for n := h.Sent; len(entries) < l.Batch && (l.Limit == 0 || n < l.Limit); n++ {
			category, message := l.Message(client, n)
			entries = append(entries, Entry{category, message})
		}
		acked, took := l.offer(ctx, &c, entries, h)
		first := h.Sent
		h.Sent += len(entries)
		if acked {
			h.OKs = append(h.OKs, OK{time.Now(), took})
			h.Longest = max(h.Longest, took)
			if l.Answered != nil {
				l.Answered(client, first, len(entries), took)
			}
		} else {
			for n := first; n < h.Sent; n++ {
				h.Unknown = append(h.Unknown, n)
			}
		}
		if l.Interval > 0 {
			wait(ctx, l.Interval-took)
		}
	}
}

// offer sends a call until it is acknowledged; false when its fate is unknown. The time counts
// from the first sending, not from the wait for a server.
func (l Load) offer(ctx context.Context, c **Conn, entries []Entry, h *History) (bool, time.Duration) {
	var start time.Time
	for {
		for *c == nil {
			var err error
			if *c, err = Dial(l.Addr); err == nil {
				break
			}
			*c = nil
			if ctx.Err() != nil {
				return false, 0 // never sent, or refused before: counted as unknown, which claims nothing
			}
			wait(ctx, 50*time.Millisecond)
		}
		if start.IsZero() {
			start = time.Now()
		}
		sent := time.Now()
		ok, err := (*c).Log(entries, 30*time.Second)
		took := time.Since(start)
		if err != nil {
			(*c).Close()
			*c = nil
			return false, took
		}
		if ok {
			return true, took
		}
		h.Later++
		h.Refused = max(h.Refused, time.Since(sent))
		if l.Once {
			wait(ctx, 100*time.Millisecond)
			return false, took
		}
		if ctx.Err() != nil {
			return false, took
		}
		wait(ctx, 100*time.Millisecond)
	}
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Latency of the OKs of all clients between two moments.
func Latency(hs []*History, from, to time.Time) (n int, p50, p99, longest time.Duration) {
	var all []time.Duration
	for _, h := range hs {
		for _, o := range h.OKs {
			if !o.At.Before(from) && o.At.Before(to) {
				all = append(all, o.Took)
			}
		}
	}
	if len(all) == 0 {
		return 0, 0, 0, 0
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
}

// Line is message n of a client: a text that says whose and which it is, of size bytes.
func Line(client, n, size int) []byte {
	b := fmt.Appendf(make([]byte, 0, size), "c%03d %09d ", client, n)
	x := uint32(client*7919+n)*2654435761 + 1
	for len(b) < size {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b = append(b, 'a'+byte(x%26))
	}
	return b
}

// ParseLine reads the beginning of what Line made.
func ParseLine(b []byte) (client, n int, ok bool) {
	if len(b) < 15 || b[0] != 'c' || b[4] != ' ' || b[14] != ' ' {
		return 0, 0, false
	}
	for _, c := range b[1:4] {
		client = client*10 + int(c-'0')
	}
	for _, c := range b[5:14] {
		n = n*10 + int(c-'0')
	}
	return client, n, true
}
