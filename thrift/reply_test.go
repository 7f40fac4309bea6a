package thrift

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// eachForm runs a test with headers of both forms.
func eachForm(t *testing.T, f func(t *testing.T, header func(name string, kind, seq int) []byte)) {
	t.Run("old", func(t *testing.T) { f(t, oldHeader) })
	t.Run("strict", func(t *testing.T) { f(t, strictHeader) })
}

func TestRepliesAreByteExactInTheOldForm(t *testing.T) {
	reply := func(name string, seq int, result ...any) []byte {
		return framed(join(text(name), 2, u32(seq), join(result...), 0))
	}
	success := func(typ int, value ...any) []byte { return join(fieldOf(typ, 0), join(value...)) }
	calls := []struct {
		name string
		args []byte
		want []byte // what stands between the header and the stop
	}{
		{"getName", nil, success(11, text("Scribe"))},
		{"getVersion", nil, success(11, text("2.2"))},
		{"getStatus", nil, success(8, u32(5))},
		{"getStatusDetails", nil, success(11, text("Failed to connect"))},
		{"getCounters", nil, success(13, 11, 10, u32(1), text("scribe_overall:received good"), u64(1<<40))},
		{"getCounter", join(textField(1, "scribe_overall:received good")), success(10, u64(1<<40))},
		{"getCounter", join(textField(1, "none")), success(10, u64(0))},
		{"getCounter", nil, success(10, u64(0))},
		{"getOptions", nil, success(13, 11, 11, u32(0))},
		{"setOption", join(textField(1, "k"), textField(2, "v")), nil},
		{"getOption", join(textField(1, "k")), success(11, text("v"))},
		{"getOptions", nil, success(13, 11, 11, u32(1), text("k"), text("v"))},
		{"setOption", join(textField(2, "w"), textField(9, "unknown field"), textField(1, "k")), nil},
		{"getOption", join(textField(1, "k")), success(11, text("w"))},
		{"getCpuProfile", join(fieldOf(8, 1), u32(10)), success(11, text(""))},
		{"aliveSince", nil, success(10, u64(1700000000))},
		{"Log", listOf(1, entryOf("a", "b")), success(8, u32(0))},
		{"Log", listOf(0), success(8, u32(0))},
		{"Log", nil, success(8, u32(0))},
	}
	eachForm(t, func(t *testing.T, header func(string, int, int) []byte) {
		l := newPipes()
		start(t, l, &double{counters: map[string]int64{"scribe_overall:received good": 1 << 40}}, Options{})
		c := l.dial()
		defer c.Close()
		for i, call := range calls {
			seq := i*1_000_003 - 7
			got := exchange(t, c, framed(join(header(call.name, 1, seq), call.args, 0)))
			wantBytes(t, call.name, got, reply(call.name, seq, call.want))
		}
	})
}

func TestTryLaterHasTheSameBytesButOne(t *testing.T) {
	l := newPipes()
	s := start(t, l, &double{log: func(_ context.Context, c *Call) Result {
		if c.Bytes > 1 {
			return TryLater
		}
		return OK
	}}, Options{})
	c := l.dial()
	defer c.Close()
	wantBytes(t, "OK", exchange(t, c, framed(logCall(7, entryOf("a", "b")))), logAnswer(7, 0))
	wantBytes(t, "TRY_LATER", exchange(t, c, framed(logCall(-1, entryOf("a", "bc")))), logAnswer(-1, 1))
	if n := s.Stats(); n.LogCalls != 2 || n.TryLater != 1 || n.Entries != 2 {
		t.Errorf("figures %+v", n)
	}
}

func TestLogSentAsOnewayIsAnswered(t *testing.T) {
	l := newPipes()
	start(t, l, &double{}, Options{})
	c := l.dial()
	defer c.Close()
	wantBytes(t, "Log", exchange(t, c, framed(join(strictHeader("Log", 4, 3), listOf(0), 0))), logAnswer(3, 0))
}

func TestOnewayMethodsAreNeverAnswered(t *testing.T) {
	eachForm(t, func(t *testing.T, header func(string, int, int) []byte) {
		l := newPipes()
		d := &double{}
		start(t, l, d, Options{})
		c := l.dial()
		defer c.Close()
		var all []byte
		for _, kind := range []int{1, 4} { // as an ordinary call too
			all = join(all, framed(join(header("reinitialize", kind, 1), 0)), framed(join(header("shutdown", kind, 2), 0)))
		}
		got := exchange(t, c, join(all, framed(logCall(3))))
		wantBytes(t, "the first reply", got, logAnswer(3, 0))
		if d.reinitialized != 2 || d.shutdown != 2 {
			t.Errorf("reinitialize came %d times, shutdown %d times; want 2 of each", d.reinitialized, d.shutdown)
		}
	})
}

func TestUnknownMethodGetsAnExceptionAndTheConnectionGoesOn(t *testing.T) {
	eachForm(t, func(t *testing.T, header func(string, int, int) []byte) {
		l := newPipes()
		s := start(t, l, &double{}, Options{})
		c := l.dial()
		defer c.Close()
		for i, name := range []string{"no_such", "log", "", strings.Repeat("n", 64)} {
			got := exchange(t, c, framed(join(header(name, 1, i), textField(1, "x"), 0)))
			wantBytes(t, name, got, exceptionFrame(name, i, "Invalid method name: '"+name+"'", 1))
		}
		wantBytes(t, "Log after it", exchange(t, c, framed(logCall(9))), logAnswer(9, 0))
		if n := s.Stats(); n.Unknown != 4 || n.OtherCalls != 4 {
			t.Errorf("%d unknown of %d calls, want 4 of 4", n.Unknown, n.OtherCalls)
		}
	})
}

func TestAnOptionThatIsAskedForComesIntoBeing(t *testing.T) {
	l := newPipes()
	start(t, l, &double{}, Options{})
	c := l.dial()
	defer c.Close()
	exchange(t, c, framed(join(oldHeader("getOption", 1, 1), textField(1, "k"), 0)))
	got := exchange(t, c, framed(join(oldHeader("getOptions", 1, 2), 0)))
	wantBytes(t, "getOptions", got, framed(join(oldHeader("getOptions", 2, 2), fieldOf(13, 0), 11, 11, u32(1), text("k"), text(""), 0)))
}

func TestOptionsAreBounded(t *testing.T) {
	var o options
	for i := range maxOptions {
		if err := o.set(fmt.Sprint(i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.set("one more", ""); err == nil {
		t.Error("an option beyond the number was taken")
	}
	if v := o.get("another"); v != "" || len(o.all()) != maxOptions {
		t.Errorf("asking gave %q and %d options", v, len(o.all()))
	}
	big := strings.Repeat("v", maxOptionBytes)
	if err := o.set("1", big); err == nil {
		t.Error("a value beyond the bytes was taken")
	}
	if err := o.set("1", big[:maxOptionBytes/2]); err != nil {
		t.Errorf("a value that fits: %v", err)
	}
	if err := o.set("1", "small"); err != nil {
		t.Errorf("a smaller value: %v", err)
	}
	var sum int
	for k, v := range o.all() {
		sum += len(k) + len(v)
	}
	if sum != o.bytes {
		t.Errorf("%d bytes in the account, the options have %d", o.bytes, sum)
	}

	l := newPipes()
	start(t, l, &double{}, Options{})
	c := l.dial()
	defer c.Close()
	got := exchange(t, c, framed(join(oldHeader("setOption", 1, 4), textField(1, "k"), textField(2, big), 0)))
	wantBytes(t, "setOption", got, exceptionFrame("setOption", 4, "Internal error processing setOption: "+errOptionsFull.Error(), 6))
}

func TestPipelinedCallsAreAnsweredInOrder(t *testing.T) {
	l := newPipes()
	var got []string
	start(t, l, &double{log: func(_ context.Context, c *Call) Result {
		got = append(got, fmt.Sprint(len(c.Entries), c.Bytes))
		return OK
	}}, Options{})
	c := l.dial()
	defer c.Close()
	var all []byte
	var want []string
	sizes := []int{1, 2, 4000, 4090, 5000, 70_000, 3, 300_000, 4}
	for i, size := range sizes {
		all = join(all, framed(logCall(i, entryOf("c", strings.Repeat("m", size)))))
		want = append(want, fmt.Sprint(1, size))
	}
	go c.Write(all)
	for i := range sizes {
		wantBytes(t, fmt.Sprint("call ", i), receive(t, c), logAnswer(i, 0))
	}
	if !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestAStringLongerThanItsFrameNeverReachesTheNextFrame(t *testing.T) {
	l := newPipes()
	called := false
	s := start(t, l, &double{log: func(context.Context, *Call) Result { called = true; return OK }}, Options{})
	c := l.dial()
	defer c.Close()
	// The message claims the 40 bytes behind its frame, which look like a
	// second frame and its end.
	forged := framed(join(oldHeader("Log", 1, 2), listOf(1, entryOf("forged", "x")), 0))
	body := join(oldHeader("Log", 1, 1), listOf(1, join(textField(1, "a"), fieldOf(11, 2), u32(len(forged)+2))))
	go c.Write(join(framed(body), forged))
	want := exceptionFrame("Log", 1, fmt.Sprintf("length: at byte %d: %d bytes wanted, 0 left in the frame", len(body), len(forged)+2), 7)
	wantBytes(t, "answer", closedBy(t, c), want)
	if called || s.Stats().Bad["length"] != 1 {
		t.Errorf("handler called: %v; figures %v", called, s.Stats().Bad)
	}
}

func TestMalformedCallsGetAnExceptionAndTheConnectionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		text string
		typ  int
		kind string
	}{
		"Log with bytes left over":     {join(oldHeader("Log", 1, 5), listOf(0), 0, 0), "trailing: at byte 21: the call ends, 1 bytes are left in the frame", 7, "trailing"},
		"getName with bytes left over": {join(oldHeader("getName", 1, 5), 0, 0, 0), "trailing: at byte 17: the call ends, 2 bytes are left in the frame", 7, "trailing"},
		"shutdown cut off":             {join(oldHeader("shutdown", 4, 5)), "", 0, "length"},
		"reinitialize as a reply":      {join(oldHeader("reinitialize", 2, 5), 0), "", 0, "message"},
		"unknown method, cut off":      {join(oldHeader("unknown", 1, 5), 11), "length: at byte 16: 3 bytes wanted, 1 left in the frame", 7, "length"},
		"a reply":                      {join(strictHeader("Log", 2, 5), listOf(0), 0), "message: a message of kind 2, want a call", 2, "message"},
		"too many entries":             {logCall(5, slices.Repeat([][]byte{{0}}, 101)...), "entries: 101 entries, at most 100 are taken", 7, "entries"},
		"nested too deep": {join(oldHeader("getName", 1, 5), strings.Repeat("\x0c\x00\x09", 10_000)),
			"depth: at byte 208: values nested more than 64 deep", 7, "depth"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newPipes()
			d := &double{}
			s := start(t, l, d, Options{MaxEntries: 100})
			conn := l.dial()
			defer conn.Close()
			go conn.Write(framed(c.body))
			h, err := parseHeader(c.body)
			if err != nil {
				t.Fatal(err)
			}
			var want []byte // a method that is never answered gets no exception either
			if c.typ > 0 {
				want = exceptionFrame(string(h.name), 5, c.text, c.typ)
			}
			wantBytes(t, "answer", closedBy(t, conn), want)
			if s.Stats().Bad[c.kind] != 1 || d.shutdown != 0 {
				t.Errorf("figures %v, shutdown called %d times", s.Stats().Bad, d.shutdown)
			}
		})
	}
}

func TestWhatIsNoThriftIsRecognisedAndClosed(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		kind  string
	}{
		"http get":             {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "http"},
		"http post":            {[]byte("POST /v1 HTTP/1.1\r\n\r\n"), "http"},
		"http/2":               {[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "http"},
		"tls":                  {join(0x16, 3, 1, 2, 0, 1, 0, 1), "tls"},
		"ssh":                  {[]byte("SSH-2.0-x\r\n"), "garbage"},
		"unframed, strict":     {join(strictHeader("Log", 1, 1), listOf(0), 0), "unframed"},
		"unframed, old":        {join(oldHeader("Log", 1, 1), listOf(0), 0), "unframed"},
		"unframed, longer":     {join(oldHeader("getCounters", 1, 1), 0), "unframed"},
		"negative length":      {join(u32(-1), "xxxx"), "garbage"},
		"length over limit":    {join(u32(16<<20+1), "xxxx"), "too_large"},
		"length zero":          {u32(0), "empty"},
		"two words of nothing": {make([]byte, 8), "empty"},
		"no header":            {framed([]byte{0, 0, 0, 1}), "header"},
		"1 MB name":            {framed(join(oldHeader(strings.Repeat("n", 1<<20), 1, 1), 0)), "header"},
		"another version":      {framed(join(0x80, 0x02, 0, 1, text("Log"), u32(1), 0)), "header"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newPipes()
			s := start(t, l, &double{}, Options{})
			conn := l.dial()
			defer conn.Close()
			go conn.Write(c.bytes)
			if got := closedBy(t, conn); len(got) > 0 {
				t.Errorf("answer %x, want none", got)
			}
			for kind, n := range s.Stats().Bad {
				if want := kind == c.kind; (n == 1) != want {
					t.Errorf("%s is counted %d times, want only %s", kind, n, c.kind)
				}
			}
		})
	}
}
