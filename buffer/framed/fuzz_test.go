package framed_test

import (
	"bytes"
	"slices"
	"testing"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
)

// FuzzScan reads any bytes in each form: every byte is handed over once,
// messages as a writer writes them, memory is bounded by the file's size, and
// a scan that begins anywhere in between goes on the same way.
func FuzzScan(f *testing.F) {
	lines, pairs := one(a)+one("")+one(binary)+one(b), two("web", a)+two("api", "")+two("web", binary)+two("api", b)
	for _, seed := range []string{
		"", lines, pairs, lines[:30] + lines, pairs[:40] + pairs, lines + zeros(80) + lines, pairs + zeros(9) + pairs,
		lines + "\x10\x00\x00\x80" + lines, one("x"+lines) + lines, one(big) + one(big) + one(a), zeros(70),
		one("web\n") + pairs, "\x40" + pairs, one("\x01\x00\x00\x00") + one("\x00") + one("\n\n"),
	} {
		f.Add([]byte(seed), uint16(0), uint8(0))
		f.Add([]byte(seed), uint16(50), uint8(2))
	}
	f.Fuzz(func(t *testing.T, file []byte, limit uint16, begin uint8) {
		for _, form := range []framed.Form{0, framed.OneFrame, framed.TwoFrames} {
			o := framed.Options{Form: form, MaxMessage: int(limit)}
			var all found
			took := allocated(func() { all = scan(t, file, o) })
			if took > uint64(64*len(file))+4<<20 { // what the test gathers included
				t.Fatalf("%d bytes are taken for a file of %d", took, len(file))
			}
			for i, m := range all.messages {
				if limit > 0 && len(m.text) > int(limit) {
					t.Fatalf("a message of %d bytes with a limit of %d", len(m.text), limit)
				}
				if again := framedtest.Append(nil, all.report.Form, m.category, m.text); !bytes.Equal(again, file[all.begins[i]:all.ends[i]]) {
					t.Fatalf("message %d at %d is not what a writer writes", i, all.begins[i])
				}
			}
			for _, d := range all.damages {
				if d.Reason == framed.Zeros != (len(bytes.Trim(file[d.From:d.To], "\x00")) == 0) && d.Reason != framed.TooLarge {
					t.Fatalf("%v: % x", d, file[d.From:d.To])
				}
			}
			if n := len(all.ends); n > 0 {
				i := int(begin) % n
				o.From = all.ends[i]
				rest := scan(t, file, o)
				if !slices.Equal(rest.messages, all.messages[i+1:]) || !slices.Equal(rest.ends, all.ends[i+1:]) {
					t.Fatalf("from %d: messages at %v, from the head %v", o.From, rest.begins, all.begins)
				}
			}
		}
	})
}
