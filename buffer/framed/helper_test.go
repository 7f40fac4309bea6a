package framed_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
)

var forms = []framed.Form{framed.OneFrame, framed.TwoFrames}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// message is what a test puts into a file and gets out of it.
type message struct{ category, text string }

// build is a file of messages, and where each of them begins and the last ends.
func build(form framed.Form, messages []message) (b []byte, offsets []int64) {
	for _, m := range messages {
		offsets = append(offsets, int64(len(b)))
		b = framedtest.Append(b, form, m.category, m.text)
	}
	return b, append(offsets, int64(len(b)))
}

// found is what a scan handed over.
type found struct {
	messages []message
	ends     []int64 // behind each message
	begins   []int64
	damages  []framed.Damage
	report   framed.Report
}

// scan reads a file and checks that each byte of it is handed over once.
func scan(t testing.TB, b []byte, o framed.Options) (f found) {
	t.Helper()
	at := o.From
	report, err := framed.Scan(bytes.NewReader(b), int64(len(b)), o,
		func(m framed.Message) error {
			if m.Offset != at || m.End <= m.Offset {
				t.Fatalf("a message at %d to %d where %d is due", m.Offset, m.End, at)
			}
			f.messages = append(f.messages, message{m.Category, string(m.Data)})
			f.begins, f.ends = append(f.begins, m.Offset), append(f.ends, m.End)
			at = m.End
			return nil
		},
		func(d framed.Damage) error {
			if d.From != at || d.To <= d.From || d.To > int64(len(b)) || d.Reason == 0 || d.Reason.String() == "unknown" {
				t.Fatalf("%v where %d is due", d, at)
			}
			f.damages = append(f.damages, d)
			at = d.To
			return nil
		})
	must(t, err)
	f.report = report
	for i, m := range f.messages {
		if n := int64(len(one(m.text))); f.ends[i]-f.begins[i] != n && f.ends[i]-f.begins[i] != n+int64(len(one(m.category+"\n"))) {
			t.Fatalf("%.60q takes %d to %d", m, f.begins[i], f.ends[i])
		}
	}
	var damaged int64
	for _, d := range f.damages {
		damaged += d.To - d.From
	}
	if at != int64(len(b)) || report.End != at || report.Messages != int64(len(f.messages)) ||
		report.Damages != int64(len(f.damages)) || report.Damaged != damaged {
		t.Fatalf("%d of %d bytes, %d messages, %d damages are handed over, and reported is %+v", at, len(b), len(f.messages), len(f.damages), report)
	}
	return f
}

// A kind of messages, as services log them.
type kind struct {
	name string
	text func(r *rand.Rand) string
}

var kinds = []kind{
	{"lines", line},
	{"short lines", func(r *rand.Rand) string { return word(r, 1+r.IntN(6)) + "\n" }},
	{"text without line feeds", func(r *rand.Rand) string { return strings.TrimSuffix(line(r), "\n") }},
	{"short text without line feeds", func(r *rand.Rand) string { return word(r, 1+r.IntN(20)) }},
	{"random bytes", func(r *rand.Rand) string { return bytesOf(r, 1+r.IntN(300)) }},
	{"binary records", record},
}

// line is an access log's line, some of them with a stack trace's lines.
func line(r *rand.Rand) string {
	s := fmt.Sprintf("10.0.%d.%d - - [22/Nov/2026:10:07:%02d +0000] \"GET /%s HTTP/1.1\" %d %d \"-\" \"%s\"",
		r.IntN(256), r.IntN(256), r.IntN(60), word(r, 1+r.IntN(40)), 200+r.IntN(300), r.IntN(1<<20), word(r, r.IntN(400)))
	if r.IntN(10) == 0 {
		s += "\n\tat " + word(r, 20) + "\n\tat é " + word(r, 3)
	}
	return s + "\n"
}

func word(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

func bytesOf(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// record is a struct in Thrift's binary protocol: small numbers, many zeros.
func record(r *rand.Rand) string {
	var b []byte
	for field := range 1 + r.IntN(6) {
		if r.IntN(2) == 0 {
			b = append(b, 8, 0, byte(field), 0, 0, byte(r.IntN(4)), byte(r.Uint32()))
			continue
		}
		s := word(r, r.IntN(60))
		b = append(append(b, 11, 0, byte(field), 0, 0, 0, byte(len(s))), s...)
	}
	return string(append(b, 0))
}

var categories = []string{"web", "access_log", "payments.audit", "x"}

// some are n messages of a kind.
func (k kind) some(r *rand.Rand, n int) (m []message) {
	for range n {
		m = append(m, message{categories[r.IntN(len(categories))], k.text(r)})
	}
	return m
}

// inForm drops what the form has no room for.
func inForm(form framed.Form, m []message) []message {
	if form == framed.TwoFrames {
		return m
	}
	out := make([]message, len(m))
	for i := range m {
		out[i].text = m[i].text
	}
	return out
}
