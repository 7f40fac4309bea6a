package aggregator

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"twinscribe/thrift"
)

// FuzzLog takes data as entries, cut at each 0xfe, category and message at the
// first 0xfd, and looks whether every message is with a place, byte for byte,
// under its name, and in order: once, or, where the category begins with an m or
// x, on several routes, on some of them exactly as it came, or in its part.
func FuzzLog(f *testing.F) {
	for _, seed := range []string{
		"", "web\xfdhello", "web\xfdone\xfeapi\xfdtwo\xfeweb\xfdthree\n", "\xfdblank\xfe\xfd\xfeweb\xfd", "web\xfd\n\n\xfeweb\xfd\r\n",
		"r1\xfd" + string(bytes.Repeat([]byte("x"), 60)) + "\xfer1\xfda", "../x\xfd\x00\xff", "stray\xfdx\xfesame\xfdx\xfestray\xfdy",
		"m\xfd0a\n\xfem\xfd1b\xfeweb\xfd1\xfem\xfd\xfemore\xfd2c\xfem\xfd1\n", "m\xfd7" + string(bytes.Repeat([]byte("y"), 60)),
		"x\xfdone\n\xfex\xfdtwo\xfem\xfd1\n\n\xfex\xfd\n\xfex\xfd",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &thrift.Call{Sender: "10.0.0.1", Batch: &thrift.BatchID{Producer: "p", Sequence: 1}}
		want := make(map[string][]string) // by place, part and category
		stored := 0
		for _, e := range bytes.Split(data, []byte{0xfe}) {
			category, message, _ := bytes.Cut(e, []byte{0xfd})
			c.Entries = append(c.Entries, thrift.Entry{Category: category, Message: message})
			expect := func(place string, part int, m []byte) {
				name := fmt.Sprintf("%s[%d] %s", place, part, category)
				want[name] = append(want[name], string(m))
				stored++
			}
			cut := bytes.TrimSuffix(message, []byte{'\n'})
			switch {
			case len(category) == 0 || len(message) > 50:
				expect("dead-letter", Whole, cut)
			case category[0] == 'm':
				expect("n1", Whole, cut)
				expect("n3", Whole, message)
				part, skip := byDigit(3).Of(message)
				expect("n2", part, message[skip:])
			case category[0] == 'x':
				expect("n1", Whole, message)
				expect("n3", Whole, cut)
			default:
				expect("n1", Whole, cut)
			}
		}
		h := &bench{t: t, places: make(map[string][]*place)}
		o := modelOptions(h)
		o.Rules = []Rule{h.rule("*", AckReceived, "n1"), h.copied("m*", AckReceived, "n1", "n2/3", "n3"), h.copied("x*", AckReceived, "n1", "n3")}
		o.Rules[1].Routes[1].Exact, o.Rules[1].Routes[2].Exact, o.Rules[2].Routes[0].Exact = true, true, true
		o.Limits.Memory, o.Limits.Queue, o.Limits.Categories = 1<<30, 1<<30, 1<<20
		a, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		a.Log(context.Background(), c)  // dead letters are waited for, a nanosecond
		time.Sleep(2 * time.Nanosecond) // the batch wait
		for q := range a.queues {
			d := newDriver(q)
			d.tick.Stop()
			for b := d.due(); b != nil; b = d.due() {
				d.put(context.Background(), b)
			}
		}
		got := make(map[string][]string)
		spans := uint32(0)
		for name, places := range h.places {
			for _, p := range places {
				got[fmt.Sprintf("%s[%d] %s", name, p.part, p.category)] = p.messages()
				for _, b := range p.batches() {
					for _, id := range b.IDs {
						spans += id.Messages
					}
				}
			}
		}
		if !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Fatalf("stored %q, want %q", got, want)
		}
		if int(spans) != stored {
			t.Fatalf("batch ids cover %d messages of %d", spans, stored)
		}
		for _, b := range a.Books().Categories {
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if good := a.Counters()["scribe_overall:received good"] + a.Counters()["scribe_overall:received blank category"]; int(good) != len(c.Entries) {
			t.Fatalf("%d messages are received, of %d", good, len(c.Entries))
		}
		if n := a.memory.Load(); n != 0 {
			t.Fatalf("%d bytes are held at the end", n)
		}
	})
}
