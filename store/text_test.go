package store

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store/catalog"
)

// sheet is a place that keeps what it is given.
type sheet struct {
	refuse error
	data   []byte
	ends   []int
	first  uint64
}

func (s *sheet) Append(_ context.Context, b *Batch) (*Batch, error) {
	if s.refuse != nil {
		return b, s.refuse
	}
	for i := range b.Len() {
		s.data = append(append(s.data, b.Message(i)...), '\n')
		s.ends = append(s.ends, len(s.data))
	}
	s.first = b.First
	b.Taken = append(b.Taken, Taken{Place: "sheet", Messages: b.Len()})
	return nil, nil
}
func (s *sheet) Tick(context.Context, time.Time) error { return nil }
func (s *sheet) Close(context.Context) error           { return nil }
func (s *sheet) Warm(catalog.Partition) bool           { return true }
func (s *sheet) Rest()                                 {}

func TestTextEndsEachMessageWithOneLineFeed(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := &sheet{}
		p := Text(s)
		want := ""
		for range rapid.IntRange(1, 3).Draw(r, "batches") {
			b := &Batch{First: rapid.Uint64Range(1, 9).Draw(r, "first")}
			for _, m := range rapid.SliceOfN(rapid.StringMatching("[ab\n]{0,4}"), 1, 5).Draw(r, "messages") {
				b.Data = append(append(b.Data, m...), '\n')
				b.Ends = append(b.Ends, uint32(len(b.Data)))
				want += strings.TrimSuffix(m, "\n") + "\n"
			}
			before := bytes.Clone(b.Data)
			if rest, err := p.Append(t.Context(), b); rest != nil || err != nil {
				r.Fatal(rest, err)
			}
			if !bytes.Equal(b.Data, before) || s.first != b.First || len(b.Taken) != 1 || b.Taken[0].Messages != b.Len() {
				r.Fatalf("the batch is %+v now", b)
			}
		}
		if string(s.data) != want {
			r.Fatalf("%q was written, want %q", s.data, want)
		}
	})
}

func TestTextGivesARefusedBatchBackAsItWas(t *testing.T) {
	s := &sheet{refuse: errors.New("no")}
	b := &Batch{First: 1, Data: []byte("a\n\n"), Ends: []uint32{3}}
	if rest, err := Text(s).Append(t.Context(), b); rest != b || !errors.Is(err, s.refuse) || string(b.Data) != "a\n\n" || b.Taken != nil {
		t.Errorf("rest %v, error %v, batch %+v", rest, err, b)
	}
}
