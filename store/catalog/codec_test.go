package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTextOfAnyBytesComesBack(t *testing.T) {
	for _, s := range []string{"", "web", "größe", "\xff\xfe\x00", "a\x00b", "\u2028", "<&>", `"\`, "\ufffd", `{"base64":"eA=="}`} {
		b, err := json.Marshal(Text(s))
		if err != nil {
			t.Fatal(err)
		}
		var back Text
		if err := json.Unmarshal(b, &back); err != nil || string(back) != s {
			t.Errorf("%q became %s and came back as %q, %v", s, b, back, err)
		}
	}
	var x Text
	for _, bad := range []string{`1`, `[]`, `{"base64":"!"}`, `{"base64":1}`} {
		if err := json.Unmarshal([]byte(bad), &x); err == nil {
			t.Errorf("%s counts as the text %q", bad, x)
		}
	}
}

// aManifest is a file of five messages, the third with a line feed inside.
func aManifest() *Manifest {
	return &Manifest{
		Version: Version, File: "20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log",
		Aggregator: "ag1", Epoch: 42, Start: "7f3c91d2", Chain: 3, Category: "we\xffb", Partition: "dt=2026-11-22/hr=10",
		Bytes: 23, Messages: 5, CRC32C: 1,
		Ranges:    []Range{{First: 1, Last: 3, Offset: 0, End: 13}, {First: 6, Last: 7, Offset: 13, End: 23, Counted: true}},
		LineFeeds: []Span{{Offset: 8, Length: 5}},
		IDs:       []BatchSpan{{BatchID: BatchID{Producer: "p\xff", Epoch: 1, Sequence: 9}, From: 2, First: 1, Messages: 3}},
		Arrivals:  []Arrival{{First: 1, Millis: 1000, Senders: []string{"10.0.0.1"}}},
		Reason:    "size", Sealed: 5,
	}
}

func anInventory() *Inventory {
	return &Inventory{
		Version: Version, Aggregator: "ag1", Epoch: 42, Start: "7f3c91d2", Partition: "dt=2026-11-22/hr=10", Counter: 7, Updated: 9,
		Items: []Item{
			{Category: "web", Chain: 3, Place: "n1", Path: "web/x.log", State: StateSealed, Bytes: 9, Messages: 1, Ranges: []Range{{First: 1, Last: 1, End: 9}}},
			{Category: "web", Chain: 3, Place: "n1", Path: "web/y.log", State: StateOpen, Manifest: aManifest()},
		},
	}
}

func TestFormatsComeBackFromTheirFiles(t *testing.T) {
	b, err := aManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := DecodeManifest("x", b); err != nil || !reflect.DeepEqual(m, aManifest()) {
		t.Errorf("manifest came back as %+v, %v", m, err)
	}
	b, err = anInventory().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if i, err := DecodeInventory("x", b); err != nil || !reflect.DeepEqual(i, anInventory()) {
		t.Errorf("inventory came back as %+v, %v", i, err)
	}
	member := &Member{Version: Version, Aggregator: "ag1", Epoch: 42, Start: "7f3c91d2", Host: "h", HTTP: ":14630", Touched: 8}
	if b, err = member.Encode(); err != nil {
		t.Fatal(err)
	}
	if m, err := DecodeMember("x", b); err != nil || !reflect.DeepEqual(m, member) {
		t.Errorf("member came back as %+v, %v", m, err)
	}
}

func TestANewerFormatIsRefusedByNameAndVersion(t *testing.T) {
	newer := []byte(`{"version":3,"ranges":"now a text","partition":7}`)
	for what, decode := range map[string]func(string, []byte) error{
		"manifest":    func(f string, b []byte) error { _, err := DecodeManifest(f, b); return err },
		"inventory":   func(f string, b []byte) error { _, err := DecodeInventory(f, b); return err },
		"member file": func(f string, b []byte) error { _, err := DecodeMember(f, b); return err },
	} {
		err := decode("web/_x.log.json", newer)
		if !errors.Is(err, ErrNewer) {
			t.Errorf("%s: error %v, want ErrNewer", what, err)
			continue
		}
		for _, word := range []string{what, "web/_x.log.json", "version 3", "knows 2"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("error %q does not say %q", err, word)
			}
		}
		for _, bad := range []string{"", "x", "[]", "{}", `{"version":0}`, `{"version":-1}`, `{"version":1}`, `{"version":1,"aggregator":"../x"}`} {
			if err := decode("f", []byte(bad)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s %s: error %v, want ErrMalformed", what, bad, err)
			}
		}
	}
	if _, err := DecodeMember("f", bytes.Repeat([]byte(" "), MaxMember+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a member file beyond its limit: error %v", err)
	}
}

func TestAManifestThatContradictsItselfIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(m *Manifest){
		"no aggregator":              func(m *Manifest) { m.Aggregator = "" },
		"path as aggregator":         func(m *Manifest) { m.Aggregator = "../../x" },
		"start is no start":          func(m *Manifest) { m.Start = "7F3C91D2" },
		"partition is none":          func(m *Manifest) { m.Partition = "dt=2026-11-22/hr=99" },
		"negative bytes":             func(m *Manifest) { m.Bytes = -1 },
		"negative messages":          func(m *Manifest) { m.Messages = -5 },
		"too few messages":           func(m *Manifest) { m.Messages = 4 },
		"too many messages":          func(m *Manifest) { m.Messages = 6 },
		"range behind the end":       func(m *Manifest) { m.Bytes = 22 },
		"range backwards":            func(m *Manifest) { m.Ranges[0].Last = 0 },
		"range from 0":               func(m *Manifest) { m.Ranges[0].First = 0 },
		"range of all there is":      func(m *Manifest) { m.Ranges[0].Last = 1<<64 - 1 },
		"range that overflows":       func(m *Manifest) { m.Ranges[0].First, m.Ranges[0].Last = 1, 1<<64-2 },
		"range ends before it began": func(m *Manifest) { m.Ranges[1].End = 12 },
		"ranges overlap in bytes":    func(m *Manifest) { m.Ranges[1].Offset = 12 },
		"negative offset":            func(m *Manifest) { m.Ranges[0].Offset = -1 },
		"more messages than bytes":   func(m *Manifest) { m.Ranges[0].End, m.Ranges[1].Offset = 2, 2 },
		"line feeds outside":         func(m *Manifest) { m.LineFeeds[0].Length = 1 << 62 },
		"line feeds at minus":        func(m *Manifest) { m.LineFeeds[0].Offset = -9 },
		"line feeds in one byte":     func(m *Manifest) { m.LineFeeds[0].Length = 1 },
		"line feeds overlap":         func(m *Manifest) { m.LineFeeds = append(m.LineFeeds, m.LineFeeds[0]) },
		"batch id of nothing":        func(m *Manifest) { m.IDs[0].Messages = 0 },
		"batch id overflows":         func(m *Manifest) { m.IDs[0].From = 1<<32 - 1 },
		"batch id wraps":             func(m *Manifest) { m.IDs[0].First = 1<<64 - 2 },
	} {
		m := aManifest()
		spoil(m)
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: it is encoded", name)
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest("f", b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, want ErrMalformed", name, err)
		}
		i := anInventory()
		i.Items[1].Manifest = m
		if _, err := i.Encode(); err == nil {
			t.Errorf("%s: an inventory with it is encoded", name)
		}
	}
}

func TestAnInventoryWithABadItemIsRefusedWhole(t *testing.T) {
	for name, spoil := range map[string]func(i *Item){
		"state":    func(i *Item) { i.State = "lost" },
		"bytes":    func(i *Item) { i.Bytes = -1 },
		"messages": func(i *Item) { i.Messages = -1 },
		"range":    func(i *Item) { i.Ranges[0].Last = 0 },
	} {
		inv := anInventory()
		spoil(&inv.Items[0])
		b, err := json.Marshal(inv)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeInventory("f", b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, want ErrMalformed", name, err)
		}
	}
}

// What a Builder makes can always be read: all sequences that a living writer
// or a repair can produce.
func TestManifestsOfABuilderAreNotRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBuilder(Head{File: "f", Identity: ag1, Chain: 1, Category: "web", Partition: "dt=2026-11-22"})
		next := uint64(1)
		for range rapid.IntRange(0, 6).Draw(t, "batches") {
			next += rapid.SampledFrom([]uint64{0, 0, 5}).Draw(t, "gap")
			data, ends := []byte(nil), []uint32(nil)
			for range rapid.IntRange(1, 4).Draw(t, "messages") {
				data = append(append(data, rapid.SampledFrom([]string{"", "x", "a\nb"}).Draw(t, "message")...), '\n')
				ends = append(ends, uint32(len(data)))
			}
			l := Line{Offset: b.Bytes(), End: b.Bytes() + int64(len(data)), First: next, Last: next + uint64(len(ends)) - 1,
				Arrived: 1, Counted: rapid.Bool().Draw(t, "counted")}
			l.LineFeeds = LineFeeds(nil, data, ends, l.Offset)
			next = l.Last + 1
			b.Add(&l)
			b.Sum(data)
		}
		raw, err := b.Snapshot().Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest("f", raw); err != nil {
			t.Fatal(err)
		}
	})
}
