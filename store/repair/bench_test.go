package repair

import (
	"testing"

	"twinscribe/store/catalog"
)

// BenchmarkSurvey is what reading a file back costs beside the reading.
func BenchmarkSurvey(b *testing.B) {
	data := text(1, 20000)
	for _, c := range []struct {
		name  string
		lines []catalog.Line
	}{
		{"lines=all", []catalog.Line{line(1, 20000)}},
		{"lines=none", nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s := newSurvey(c.lines, int64(len(data)))
				m := catalog.NewBuilder(catalog.Head{File: "x", Identity: dead, Chain: 1, Category: "web", Partition: hour00})
				for at := 0; at < len(data); at += chunk {
					part := data[at:min(at+chunk, len(data))]
					m.Sum(part)
					s.take(int64(at), part)
				}
				s.build(m)
			}
		})
	}
}
