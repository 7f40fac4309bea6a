package scribefile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twinscribe/store/storetest"
)

func TestMessagesAreWrittenAsTheSpecSays(t *testing.T) {
	messages := []string{"one", "two\n", "", "a\nb", "\x00\x01"}
	for what, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"bare":       {func(s *Spec) { s.AddNewlines = false }, "onetwo\na\nb\x00\x01"},
		"lines":      {func(*Spec) {}, "one\ntwo\n\n\na\nb\n\x00\x01\n"},
		"categories": {func(s *Spec) { s.WriteCategory = true }, "web\none\nweb\ntwo\n\nweb\n\nweb\na\nb\nweb\n\x00\x01\n"},
		"bare categories": {func(s *Spec) { s.AddNewlines, s.WriteCategory = false, true },
			"web\noneweb\ntwo\nweb\nweb\na\nbweb\n\x00\x01"},
		"one write each": {func(s *Spec) { s.MaxWriteSize = 0 }, "one\ntwo\n\n\na\nb\n\x00\x01\n"},
		"chunks": {func(s *Spec) { s.ChunkSize = 8 }, // a message longer than what is left begins the next
			"one\n\x00\x00\x00\x00two\n\n\n\x00\x00a\nb\n\x00\x01\n"},
	} {
		t.Run(strings.ReplaceAll(what, " ", "-"), func(t *testing.T) {
			r := newRig(t, Options{})
			spec := webSpec()
			c.change(&spec)
			p := r.open(spec)
			r.put(p, messages...)
			r.holds("/logs/web", map[string]string{"web_00000": c.want})
			r.put(p, "next")
			if got := r.read("/logs/web/web_00000"); !strings.HasPrefix(got, c.want) || !strings.Contains(got[len(c.want):], "next") {
				t.Fatalf("after the next batch: %q", got)
			}
			if s := r.files.Stats(); s.Messages != 6 || s.Bytes != int64(len(r.read("/logs/web/web_00000"))) || s.Opened != 1 || s.Open != 1 {
				t.Errorf("figures: %+v", s)
			}
		})
	}
}

func TestEmptyMessagesWithoutLinesLeaveNoTrace(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.AddNewlines = false
	r.put(r.open(spec), "", "")
	r.holds("/logs/web", map[string]string{"web_00000": ""})
}

func TestNoMessageCrossesAChunkOfTheFile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		spec := webSpec()
		spec.ChunkSize = rapid.Int64Range(1, 64).Draw(rt, "chunk")
		spec.MaxWriteSize = rapid.Int64Range(0, 200).Draw(rt, "write")
		spec.AddNewlines = rapid.Bool().Draw(rt, "lines")
		r := newRig(t, Options{})
		r.file("/logs/web/web_00000", strings.Repeat("x", rapid.IntRange(0, 80).Draw(rt, "before"))+"\n")
		p := r.open(spec)
		var sent []string
		for range rapid.IntRange(1, 6).Draw(rt, "batches") {
			var messages []string
			for range rapid.IntRange(1, 8).Draw(rt, "messages") {
				m := fmt.Sprintf("<%s>", strings.Repeat("m", rapid.IntRange(0, 90).Draw(rt, "length")))
				messages = append(messages, m)
			}
			r.put(p, messages...)
			sent = append(sent, messages...)
		}
		content, at := r.read("/logs/web/web_00000"), 0
		for _, m := range sent {
			i := strings.Index(content[at:], m)
			if i < 0 {
				rt.Fatalf("%q is missing behind byte %d", m, at)
			}
			begin := int64(at + i)
			at += i + len(m)
			length := int64(len(m))
			if spec.AddNewlines {
				length++
			}
			if begin%spec.ChunkSize+length > spec.ChunkSize && begin%spec.ChunkSize != 0 {
				rt.Fatalf("%d bytes at %d cross a multiple of %d", length, begin, spec.ChunkSize)
			}
		}
	})
}

func TestAFileIsReplacedWithinABatchOnceItIsTooLarge(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.MaxSize, spec.WriteStats, spec.WriteMeta = 10, true, true
	p := r.open(spec)
	r.put(p, "12345", "67890", "abc", "defghijklmno", "p")
	const meta = "scribe_meta<new_logfile>: /logs/web/"
	r.holds("/logs/web", map[string]string{
		"web_00000": "12345\n67890\n" + meta + "web_00001\n",
		"web_00001": "abc\ndefghijklmno\n" + meta + "web_00002\n",
		"web_00002": "p\n",
		"scribe_stats": "2026-11-28-10:30 wrote <12> bytes in <2> events to file </logs/web/web_00000>\n" +
			"2026-11-28-10:30 wrote <17> bytes in <2> events to file </logs/web/web_00001>\n",
	})
	r.leads("web_00002")
	if s := r.files.Stats(); s.Rotations != 2 || s.Messages != 5 || s.Open != 1 || s.Opened != 3 {
		t.Errorf("figures: %+v", s)
	}
}

func TestTheMetaLineHasALineFeedOnlyWithLines(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.MaxSize, spec.WriteMeta, spec.AddNewlines = 3, true, false
	r.put(r.open(spec), "bare\n")
	r.holds("/logs/web", map[string]string{"web_00000": "bare\nscribe_meta<new_logfile>: /logs/web/web_00001", "web_00001": ""})
}

func TestFilesAreReplacedByTimeWithoutAMessage(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.Rotate, spec.WriteStats, spec.WriteMeta = Hourly, true, true
	p := r.open(spec)
	r.put(p, "half past ten")
	r.leads("web-2026-11-28_00010")
	r.pass(p, 44*time.Minute+59*time.Second)
	r.leads("web-2026-11-28_00010")
	r.pass(p, time.Second)
	r.leads("web-2026-11-28_00011")
	r.tick(p)
	r.pass(p, time.Hour)
	r.put(p, "past noon")
	const meta = "scribe_meta<new_logfile>: /logs/web/web-2026-11-28_"
	r.holds("/logs/web", map[string]string{
		"web-2026-11-28_00010": "half past ten\n" + meta + "00011\n",
		"web-2026-11-28_00011": meta + "00012\n",
		"web-2026-11-28_00012": "past noon\n",
		"scribe_stats": "2026-11-28-11:15 wrote <14> bytes in <1> events to file </logs/web/web-2026-11-28_00010>\n" +
			"2026-11-28-12:15 wrote <0> bytes in <0> events to file </logs/web/web-2026-11-28_00011>\n",
	})
	if s := r.files.Stats(); s.Rotations != 2 {
		t.Errorf("figures: %+v", s)
	}
}

func TestADayGoesOnUntilItsRotation(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.Rotate = Daily
	p := r.open(spec)
	r.put(p, "saturday")
	r.now = time.Date(2026, 11, 29, 1, 14, 0, 0, time.UTC)
	r.tick(p)
	r.put(p, "still saturday's")
	r.now = r.now.Add(time.Minute)
	r.put(p, "the one that shows it")
	r.put(p, "sunday")
	r.holds("/logs/web", map[string]string{
		"web-2026-11-28_00000": "saturday\nstill saturday's\nthe one that shows it\n",
		"web-2026-11-29_00000": "sunday\n",
	})
	r.close(p)
	r.now = time.Date(2026, 11, 30, 0, 5, 0, 0, time.UTC)
	r.put(r.open(spec), "opened before the time, the new date counts")
	r.leads("web-2026-11-30_00000")
}

func TestChainsShareAFileBatchByBatch(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.WriteCategory = true
	a, b := r.open(spec), r.open(spec)
	for i, p := range []*Place{a, b, a, b} {
		batch := storetest.Batch(1, "one", "two")
		batch.Category = fmt.Sprint("c", i)
		if _, err := p.Append(r.ctx(), batch); err != nil {
			t.Fatal(err)
		}
	}
	want := "c0\none\nc0\ntwo\nc1\none\nc1\ntwo\nc2\none\nc2\ntwo\nc3\none\nc3\ntwo\n"
	r.holds("/logs/web", map[string]string{"web_00000": want})
	r.close(a)
	r.close(a)
	if r.files.Stats().Open != 1 {
		t.Error("the file was closed with the first of two chains")
	}
	r.put(b, "goes on")
	r.close(b)
	if s := r.files.Stats(); s.Open != 0 || len(r.files.writers) != 0 {
		t.Errorf("after the last: %+v, %d writers", s, len(r.files.writers))
	}
}

func TestAPieceIsWrittenOnceItIsLargerThanAllowed(t *testing.T) {
	b := storetest.Batch(1, "12345", "12345", "12345", "12345", "12345")
	for _, c := range []struct {
		spec Spec
		want []int
	}{
		{Spec{MaxWriteSize: 1e6}, []int{5}},
		{Spec{MaxWriteSize: 11}, []int{2, 2, 1}},
		{Spec{MaxWriteSize: 12}, []int{3, 2}},
		{Spec{MaxWriteSize: 1e6, MaxSize: 11}, []int{2, 2, 1}},
		{Spec{MaxSize: 100}, []int{1, 1, 1, 1, 1}},
	} {
		for _, chunk := range []int64{0, 1 << 20} { // a part of the batch, and made for the file
			s := c.spec
			s.AddNewlines, s.ChunkSize = true, chunk
			var got []int
			var all []byte
			for i := 0; i < b.Len(); {
				p := s.cut(b, i, 0, &scratch{})
				all = append(all, p.data...)
				i += p.n
				got = append(got, p.n)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) || !bytes.Equal(all, b.Data) {
				t.Errorf("%+v: pieces of %v messages, want %v; %q", s, got, c.want, all)
			}
		}
	}
}
