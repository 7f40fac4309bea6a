package catalog

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// canonical checks what holds for every format: what was read is written, what
// was written is read as the same, and a file that was cut is never read.
func canonical[T any](t *testing.T, file string, raw []byte, v *T, encode func(*T) ([]byte, error), decode func(string, []byte) (*T, error)) {
	t.Helper()
	first, err := encode(v)
	if err != nil {
		t.Fatalf("%q is read and cannot be written: %v", raw, err)
	}
	back, err := decode(file, first)
	if err != nil {
		t.Fatalf("%q is written and cannot be read: %v", first, err)
	}
	if second, err := encode(back); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%q is written, read and written again as %q, %v", first, second, err)
	}
	whole := bytes.TrimRight(raw, " \t\r\n")
	for _, cut := range []int{0, len(whole) / 2, len(whole) - 1} {
		if _, err := decode(file, whole[:cut]); err == nil {
			t.Fatalf("%q, cut at %d, is read", raw, cut)
		}
	}
}

// sound checks by itself what Manifest.Check promises to readers.
func sound(t *testing.T, m *Manifest) {
	t.Helper()
	var end int64
	var messages uint64
	for _, r := range m.Ranges {
		if r.First == 0 || r.Last < r.First || r.Offset < end || r.End < r.Offset || r.End > m.Bytes {
			t.Fatalf("range %+v in a file of %d bytes, after byte %d", r, m.Bytes, end)
		}
		end, messages = r.End, messages+(r.Last-r.First+1)
	}
	if messages != uint64(m.Messages) {
		t.Fatalf("ranges of %d messages, %d are said", messages, m.Messages)
	}
	end = 0
	for _, s := range m.LineFeeds {
		if s.Offset < end || s.Length < 2 || s.Offset+s.Length > m.Bytes || s.Offset+s.Length < s.Offset {
			t.Fatalf("message with line feeds %+v in a file of %d bytes", s, m.Bytes)
		}
		end = s.Offset + s.Length
	}
	for _, s := range m.IDs {
		if s.Messages == 0 || s.First+uint64(s.Messages) < s.First || s.From+s.Messages < s.From {
			t.Fatalf("batch id %+v", s)
		}
	}
	if _, err := m.Partition.Start(); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	b, _ := aManifest().Encode()
	f.Add(b)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"ranges":[{"first":1,"last":18446744073709551615}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest("f", b)
		if err != nil {
			return
		}
		sound(t, m)
		canonical(t, "f", b, m, (*Manifest).Encode, DecodeManifest)
	})
}

func FuzzDecodeInventory(f *testing.F) {
	b, _ := anInventory().Encode()
	f.Add(b)
	f.Add([]byte(`{"version":1,"items":[{"manifest":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := DecodeInventory("f", b)
		if err != nil {
			return
		}
		for n := range i.Items {
			if m := i.Items[n].Manifest; m != nil {
				sound(t, m)
			}
		}
		canonical(t, "f", b, i, (*Inventory).Encode, DecodeInventory)
	})
}

func FuzzDecodeMember(f *testing.F) {
	f.Add([]byte(`{"version":1,"aggregator":"ag1","start":"7f3c91d2"}`))
	f.Add([]byte(`{"version":1,"aggregator":"ag1","epoch":3,"start":"7f3c91d2","host":"h","program":"1.0","since":1,"touched":2,"http":"h:14630","ended":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMember("f", b)
		if err != nil {
			return
		}
		canonical(t, "f", b, m, (*Member).Encode, DecodeMember)
	})
}

// FuzzFolder maps two categories: each by itself has a folder of its own that
// hides nothing and leaves nothing, and they share it only if they are one.
func FuzzFolder(f *testing.F) {
	long := strings.Repeat("x", 300)
	for _, s := range [][2]string{
		{"", "%"}, {"web", "Web"}, {"_web", "%5Fweb"}, {"..", "%2E."}, {"a/b", "a%2Fb"}, {"\x00\xff", "\x00"}, {long, long + "x"},
		{strings.Repeat("/", 50), Folder(strings.Repeat("/", 50))}, {"_members", "_inventory"}, {"dt=2026-11-22", "."},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		checkFolder(t, a)
		checkFolder(t, b)
		if (Folder(a) == Folder(b)) != (a == b) {
			t.Fatalf("categories %q and %q have folders %q and %q", a, b, Folder(a), Folder(b))
		}
	})
}

// FuzzCategory reads any name found below a root as a category's folder: only
// the one spelling that Folder writes counts.
func FuzzCategory(f *testing.F) {
	for _, s := range []string{"%", "web", "%5Fweb", "%5fweb", "%41", "a%", "a%2", "..", "_members", "a~0123456789abcdef0123456789abcdef"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, folder string) {
		category, ok := Category(folder)
		if ok && (Folder(category) != folder || HashedFolder(folder)) {
			t.Fatalf("%q counts as the folder of %q, which has %q", folder, category, Folder(category))
		}
		if !ok && category != "" {
			t.Fatalf("%q is no folder, and of category %q", folder, category)
		}
	})
}

// FuzzPartition reads any text as a partition: one that is taken is what its
// own moments map to, and nothing else.
func FuzzPartition(f *testing.F) {
	for _, s := range []string{"dt=2026-11-22", "dt=2026-11-22/hr=10", "dt=2026-11-22/hr=24", "dt=2026-11-22/hr=5", "dt=2026-02-30", "dt=9999-12-31/hr=23", "../x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := Partition(text)
		start, err := p.Start()
		end, errEnd := p.End()
		if (err == nil) != (errEnd == nil) {
			t.Fatalf("%q has a start, %v, or an end, %v", text, err, errEnd)
		}
		if err != nil {
			return
		}
		last := end.Add(-time.Nanosecond)
		if period := p.Period(); period.At(start) != p || period.At(last) != p || period.At(end) == p || end.Sub(start) != period.Duration() {
			t.Fatalf("%q goes from %v to %v", text, start, end)
		}
		if strings.Contains(text, "..") || strings.Count(text, "/") > 1 || text[0] == '/' {
			t.Fatalf("%q leaves its category's folder", text)
		}
	})
}
