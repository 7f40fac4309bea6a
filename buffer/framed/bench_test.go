package framed_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
)

func BenchmarkScan(b *testing.B) {
	for _, form := range forms {
		for _, torn := range []bool{false, true} {
			b.Run(fmt.Sprintf("form=%v/torn=%v", form, torn), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 2))
				var file []byte
				for i := 0; len(file) < 16<<20; i++ {
					m := kinds[0].some(r, 1)[0]
					file = framedtest.Append(file, form, m.category, m.text)
					if torn && i%100 == 0 {
						file = file[:len(file)-10]
					}
				}
				benchmark(b, file, form)
			})
		}
	}
	// What nobody writes takes longest.
	r := rand.New(rand.NewPCG(1, 2))
	for name, file := range map[string][]byte{
		"random": []byte(bytesOf(r, 1<<20)),
		"zeros":  make([]byte, 1<<20),
		"small":  bytes.Repeat([]byte("\x05\x00\x00\x00\x03\x00\x00\x00"), 1<<17),
		"large":  bytes.Repeat([]byte("\xff\xff\x07\x00"), 1<<18),
		"words":  bytes.Repeat([]byte(one("a\n")), 1<<17),
	} {
		b.Run("garbage="+name, func(b *testing.B) { benchmark(b, append([]byte{0x40}, file...), framed.OneFrame) })
	}
}

func benchmark(b *testing.B, file []byte, form framed.Form) {
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := framed.Scan(bytes.NewReader(file), int64(len(file)), framed.Options{Form: form},
			func(framed.Message) error { return nil }, func(framed.Damage) error { return nil })
		must(b, err)
	}
}
