package framed_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
)

// TestWholeFilesComeBack writes any messages: empty ones, binary ones, ones of
// nothing but zeros, line feeds and categories' names, large ones.
func TestWholeFilesComeBack(t *testing.T) {
	text := rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.StringMatching(`[a-z0-9 \n]{0,200}\n`),
		rapid.SampledFrom([]string{"", "\n", "\n\n", "web\n", "api\n", "\x00", zeros(63), zeros(64), zeros(300), binary, a, "x" + one(a) + "x"}),
		rapid.Map(rapid.IntRange(60_000, 70_000), func(n int) string { return strings.Repeat("large ", n/6) + "\n" }),
	)
	name := rapid.OneOf(rapid.StringMatching(`[a-z][a-z0-9_.-]{0,20}`), rapid.SampledFrom([]string{"web", "api"}))
	odd := rapid.OneOf(name, rapid.SampledFrom([]string{"two words", "größer", "a\nb", "a\x00b"}))
	for _, form := range forms {
		t.Run(fmt.Sprintf("form=%v", form), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				var messages []message
				odds := rapid.Bool().Draw(rt, "odd categories")
				empties := 0
				for range rapid.IntRange(0, 40).Draw(rt, "messages") {
					m := message{text: text.Draw(rt, "text")}
					if form == framed.TwoFrames && odds { // with single words nobody can tell: see Scan
						m.category, m.text = odd.Draw(rt, "category"), "not one: "+m.text
					} else if form == framed.TwoFrames {
						m.category = name.Draw(rt, "category")
					} else if empties++; m.text != "" {
						empties = 0
					} else if empties > 15 { // which are zeros
						continue
					}
					messages = append(messages, m)
				}
				file, offsets := build(form, messages)
				got := scan(t, file, framed.Options{Form: form})
				if !slices.Equal(got.messages, messages) || len(got.damages) != 0 {
					rt.Fatalf("%d messages came back of %d, damages %v", len(got.messages), len(messages), got.damages)
				}
				if !slices.Equal(got.ends, offsets[1:]) {
					rt.Fatalf("ends %v, want %v", got.ends, offsets)
				}
			})
		})
	}
}

// TestEveryCutKeepsAllMessagesBeforeIt cuts a file at every byte: messages
// that are whole before the cut are handed over, the rest is one damage.
func TestEveryCutKeepsAllMessagesBeforeIt(t *testing.T) {
	for _, form := range forms {
		for _, k := range kinds {
			t.Run(fmt.Sprintf("form=%v/kind=%s", form, k.name), func(t *testing.T) {
				r := rand.New(rand.NewPCG(3, 4))
				cuts := 0
				for range 6 {
					messages := inForm(form, k.some(r, 8))
					file, offsets := build(form, messages)
					for cut := range len(file) + 1 {
						cuts++
						whole := 0
						for whole < len(messages) && offsets[whole+1] <= int64(cut) {
							whole++
						}
						got := scan(t, file[:cut], framed.Options{Form: form})
						if !slices.Equal(got.messages, messages[:whole]) {
							t.Fatalf("cut at %d: %d messages are whole, read %d, the last at %d", cut, whole, len(got.messages), got.begins[len(got.begins)-1:])
						}
						if torn := int64(cut) - offsets[whole]; got.report.Damaged != torn || len(got.damages) > 1 {
							t.Fatalf("cut at %d: %v, want %d bytes", cut, got.damages, torn)
						}
					}
				}
				t.Logf("cuts=%d", cuts)
			})
		}
	}
}

// TestScanGoesOnFromWhereItWas scans from each offset that a scan named, in
// files without damage and in torn ones.
func TestScanGoesOnFromWhereItWas(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, form := range forms {
		for _, k := range kinds {
			for _, torn := range []bool{false, true} {
				t.Run(fmt.Sprintf("form=%v/kind=%s/torn=%v", form, k.name, torn), func(t *testing.T) {
					for range 40 {
						var file []byte
						for range 4 {
							part, _ := build(form, inForm(form, append(k.some(r, 3), message{"web", ""})))
							if torn {
								part = part[:r.IntN(len(part)+1)]
								part = append(part, make([]byte, r.IntN(3)*r.IntN(100))...)
							}
							file = append(file, part...)
						}
						all := scan(t, file, framed.Options{Form: form})
						for i, end := range all.ends {
							goesOn(t, file, form, all, end, i+1)
						}
						for _, d := range all.damages {
							i, _ := slices.BinarySearch(all.begins, d.To)
							goesOn(t, file, form, all, d.To, i)
						}
					}
				})
			}
		}
	}
}

// goesOn checks that a scan from an offset finds what all found behind it,
// messages from number first on.
func goesOn(t *testing.T, file []byte, form framed.Form, all found, from int64, first int) {
	t.Helper()
	rest := scan(t, file, framed.Options{Form: form, From: from})
	skip := 0
	for skip < len(all.damages) && all.damages[skip].From < from {
		skip++
	}
	if !slices.Equal(rest.messages, all.messages[first:]) || !slices.Equal(rest.ends, all.ends[first:]) || !slices.Equal(rest.damages, all.damages[skip:]) {
		t.Fatalf("from %d: messages at %v and %v,\nfrom the head messages at %v and %v", from, rest.begins, rest.damages, all.begins, all.damages)
	}
}

func TestErrorsEndTheScan(t *testing.T) {
	file := []byte(one(a) + "\x40" + one(b) + one(c))
	boom := errors.New("boom")
	message := func(framed.Message) error { return nil }
	damage := func(framed.Damage) error { return nil }
	for _, test := range []struct {
		name    string
		from    int64
		r       io.ReaderAt
		message func(framed.Message) error
		damage  func(framed.Damage) error
		want    error
		end     int64
	}{
		{name: "of the function for messages", message: func(framed.Message) error { return boom }, want: boom},
		{name: "of the function for damage", damage: func(framed.Damage) error { return boom }, want: boom, end: int64(len(one(a)))},
		{name: "of the reader", r: failing{file, 30, boom}, want: boom, end: int64(len(one(a)))},
		{name: "of a file that is shorter than it was", r: bytes.NewReader(file[:45]), want: io.ErrUnexpectedEOF, end: int64(len(one(a)))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.r == nil {
				test.r = bytes.NewReader(file)
			}
			if test.message == nil {
				test.message = message
			}
			if test.damage == nil {
				test.damage = damage
			}
			report, err := framed.Scan(test.r, int64(len(file)), framed.Options{Form: framed.OneFrame}, test.message, test.damage)
			if !errors.Is(err, test.want) || report.End > test.end {
				t.Fatalf("%v, %+v", err, report)
			}
			if _, err := framed.Scan(test.r, int64(len(file)), framed.Options{}, test.message, test.damage); !errors.Is(err, test.want) {
				t.Fatalf("with Detect: %v", err)
			}
		})
	}
	if _, err := framed.Scan(bytes.NewReader(file), int64(len(file)), framed.Options{Form: 3}, message, damage); err == nil {
		t.Error("a form that is none is taken")
	}
	for _, from := range []int64{-1, int64(len(file)) + 1} {
		if _, err := framed.Scan(bytes.NewReader(file), int64(len(file)), framed.Options{Form: framed.OneFrame, From: from}, message, damage); err == nil {
			t.Errorf("from %d in a file of %d", from, len(file))
		}
	}
}

// failing is a file that cannot be read from an offset on.
type failing struct {
	b   []byte
	to  int64
	err error
}

func (f failing) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > f.to {
		return 0, f.err
	}
	return copy(p, f.b[at:]), nil
}

// TestEveryFailedReadEndsTheScan fails one read after another of a torn file:
// what was handed over before is what is in the file.
func TestEveryFailedReadEndsTheScan(t *testing.T) {
	boom := errors.New("boom")
	for _, form := range forms {
		t.Run(fmt.Sprintf("form=%v", form), func(t *testing.T) {
			r := rand.New(rand.NewPCG(11, 12))
			var file []byte
			for _, k := range kinds {
				part, _ := build(form, inForm(form, k.some(r, 40)))
				file = slices.Concat(file, part[:len(part)-5], make([]byte, 100))
			}
			all := scan(t, file, framed.Options{Form: form})
			for n := 0; ; n++ {
				in := &failingOnce{r: bytes.NewReader(file), n: n, err: boom}
				var messages []message
				var damages []framed.Damage
				report, err := framed.Scan(in, int64(len(file)), framed.Options{Form: form},
					func(m framed.Message) error {
						messages = append(messages, message{m.Category, string(m.Data)})
						return nil
					},
					func(d framed.Damage) error {
						damages = append(damages, d)
						return nil
					})
				if in.n >= 0 { // it was not asked so often
					must(t, err)
					t.Logf("reads=%d", n)
					return
				}
				if !errors.Is(err, boom) {
					t.Fatalf("read %d failed: %v, %+v", n, err, report)
				}
				if !slices.Equal(messages, all.messages[:len(messages)]) || !slices.Equal(damages, all.damages[:len(damages)]) {
					t.Fatalf("read %d failed: %d messages, damages %v of %v", n, len(messages), damages, all.damages)
				}
			}
		})
	}
}

// failingOnce fails its read number n.
type failingOnce struct {
	r   io.ReaderAt
	n   int
	err error
}

func (f *failingOnce) ReadAt(p []byte, at int64) (int, error) {
	f.n--
	if f.n == -1 {
		return 0, f.err
	}
	return f.r.ReadAt(p, at)
}

// allocated is what do takes from the heap, other goroutines' share included.
func allocated(do func()) uint64 {
	at := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := at()
	do()
	return at() - before
}

// TestScanHoldsOneMessage reads 64 MiB of messages, torn ones, too large ones
// and zeros.
func TestScanHoldsOneMessage(t *testing.T) {
	const limit = 64 << 10
	var file []byte
	text := strings.Repeat("A line of text. ", 62) + "\n"
	for len(file) < 64<<20 {
		for range 2000 {
			file = framedtest.Append(file, framed.OneFrame, "", text)
		}
		file = append(file, one(text)[:500]...)
		file = append(file, one(strings.Repeat("x", 2<<20))...)
		file = append(file, make([]byte, 1<<20)...)
	}
	var report framed.Report
	took := allocated(func() {
		var err error
		report, err = framed.Scan(bytes.NewReader(file), int64(len(file)), framed.Options{MaxMessage: limit},
			func(framed.Message) error { return nil }, func(framed.Damage) error { return nil })
		must(t, err)
	})
	t.Logf("%d bytes are taken for a file of %d, %+v", took, len(file), report)
	if took > 4<<20 || report.Messages%2000 != 0 || report.Messages < 20_000 || report.Damages < 10 || report.Form != framed.OneFrame {
		t.Fatalf("%d bytes are taken for a file of %d, %+v", took, len(file), report)
	}
}
