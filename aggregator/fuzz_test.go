package aggregator

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"twinscribe/thrift"
)

// FuzzLog takes data as entries, cut at each 0xfe, category and message at the
// first 0xfd, and looks whether every message is with a place, byte for byte,
// under its name, and in order.
func FuzzLog(f *testing.F) {
	for _, seed := range []string{
		"", "web\xfdhello", "web\xfdone\xfeapi\xfdtwo\xfeweb\xfdthree\n", "\xfdblank\xfe\xfd\xfeweb\xfd", "web\xfd\n\n\xfeweb\xfd\r\n",
		"r1\xfd" + string(bytes.Repeat([]byte("x"), 60)) + "\xfer1\xfda", "../x\xfd\x00\xff", "stray\xfdx\xfesame\xfdx\xfestray\xfdy",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &thrift.Call{Sender: "10.0.0.1", Batch: &thrift.BatchID{Producer: "p", Sequence: 1}}
		want := make(map[string][]string) // by category and kind
		for _, e := range bytes.Split(data, []byte{0xfe}) {
			category, message, _ := bytes.Cut(e, []byte{0xfd})
			c.Entries = append(c.Entries, thrift.Entry{Category: category, Message: message})
			name := "n1 " + string(category)
			if len(category) == 0 || len(message) > 50 {
				name = "dead-letter " + string(category)
			}
			want[name] = append(want[name], string(bytes.TrimSuffix(message, []byte{'\n'})))
		}
		h := &bench{t: t, places: make(map[string][]*place)}
		o := modelOptions(h)
		o.Rules = []Rule{h.rule("*", AckReceived, "n1")}
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
				got[name+" "+p.category] = p.messages()
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
		if int(spans) != len(c.Entries) {
			t.Fatalf("batch ids cover %d messages of %d", spans, len(c.Entries))
		}
		if n := a.memory.Load(); n != 0 {
			t.Fatalf("%d bytes are held at the end", n)
		}
	})
}
