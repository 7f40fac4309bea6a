package daemon

import (
	"os"
	"slices"
	"strings"
	"testing"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/thrift"
)

const onlyWeb = `
categories:
  - match: web
    store: {failover: {places: [{files: {cluster: n1}}, {files: {cluster: n2}}, {buffer: {}}]}}
`

func TestAMessageWithoutARouteIsKeptInTheBufferAndNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+onlyWeb).start()
	w.send("web", "routed")
	w.send("nobody", "kept", "kept too")
	st := w.balanced()
	if st.Totals.Stored["unrouted"].Messages != 2 || st.Buffer.Unshipped["unrouted"] != 2 {
		t.Errorf("stored %v, in the buffer %v: want two unrouted", st.Totals.Stored, st.Buffer.Unshipped)
	}
	for _, c := range st.Categories {
		if c.Unrouted != (string(c.Category) == "nobody") {
			t.Errorf("category %q: unrouted %v", c.Category, c.Unrouted)
		}
	}
	w.stop()
	if found, report := w.messages("nobody"); !slices.Equal(found, []string{"kept", "kept too"}) || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
}

func TestAMessageWithoutARouteIsRefusedWhereTheConfigurationSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+onlyWeb+"unrouted: refuse\n").start()
	if r := w.offer("nobody", "refused"); r != thrift.TryLater {
		t.Errorf("answered %v, want TRY_LATER", r)
	}
	mixed := []thrift.Entry{{Category: []byte("web"), Message: []byte("a")}, {Category: []byte("nobody"), Message: []byte("b")}}
	if r := w.call(mixed...); r != thrift.TryLater {
		t.Errorf("a call of which a part has no route was answered %v, want TRY_LATER for all of it", r)
	}
	w.send("web", "routed")
	st := w.balanced()
	if st.Totals.Accepted.Messages != 1 || st.Totals.Refused["unrouted"].Messages != 2 || st.Buffer.Bytes != 0 {
		t.Errorf("accepted %d, refused %v, %d bytes in the buffer", st.Totals.Accepted.Messages, st.Totals.Refused, st.Buffer.Bytes)
	}
}

func TestMessagesThatNoStoreTakesBecomeDeadLettersWithTheirReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all+"limits: {message: 1KiB}\n").start()
	long := strings.Repeat("x", 2000)
	r := w.call(thrift.Entry{Category: []byte(""), Message: []byte("blank category")},
		thrift.Entry{Category: []byte("web"), Message: []byte(long)},
		thrift.Entry{Category: []byte("web"), Message: []byte("good")})
	if r != thrift.OK {
		t.Fatalf("answered %v: dead letters do not stop the others", r)
	}
	st := w.balanced()
	if st.Totals.Stored["dead-letter"].Messages != 2 || st.Totals.Stored["n1"].Messages != 1 || st.Buffer.Unshipped["dead-letter"] != 2 {
		t.Errorf("stored %v, in the buffer %v", st.Totals.Stored, st.Buffer.Unshipped)
	}
	w.stop()
	found, report := w.messages("web")
	if !slices.Equal(found, []string{"good"}) || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
	notes := map[string]string{}
	list, err := buffer.List(vfs.OS(), w.path("state", "buffer"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		_, err := buffer.ReadSegment(vfs.OS(), s.Path, func(r *buffer.Record) error {
			for i := range r.Len() {
				notes[string(r.Message(i))] = r.Note
			}
			return nil
		})
		if err != nil || s.Reason != buffer.DeadLetter {
			t.Errorf("%s: %v %v", s.Name, s.Reason, err)
		}
	}
	if !strings.Contains(notes["blank category"], "categor") || !strings.Contains(notes[long], "longer") {
		t.Errorf("the reasons are %q and %q", notes["blank category"], notes[long])
	}
	if err := os.RemoveAll(w.path("state", "buffer")); err != nil {
		t.Fatal(err)
	}
	for _, category := range []string{"web", ""} {
		if _, report := w.messages(category); len(report.Uncounted) > 0 {
			t.Errorf("category %q: a reader elsewhere misses dead letters: %q", category, report.Uncounted)
		}
	}
}

func TestWhenTheDeadLettersAreFullOnlyCallsWithOneAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all+"limits: {message: 1KiB, frame: 64KiB}\nqueue: {max_batch: 64KiB}\nbuffer: {dead_letters: 64KiB}\n").start()
	dead := func() thrift.Result { return w.offer("", strings.Repeat("y", 20_000)) }
	for n := 0; dead() == thrift.OK; n++ {
		if n > 10 {
			t.Fatal("200 kB of dead letters are in 64 KiB")
		}
	}
	w.send("web", "good")
	if r := dead(); r != thrift.TryLater {
		t.Errorf("answered %v, want TRY_LATER", r)
	}
	w.send("web", "good still")
	w.balanced()
}

func TestACategoryOfAnyBytesComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	odd := []string{"../up", "_hidden", ".dot", "a/b", "a b", "\xff\xfe", strings.Repeat("long", 100), "ümlaut", "dt=2026-11-22"}
	for _, c := range odd {
		w.send(c, "of "+c)
	}
	w.balanced()
	w.stop()
	for _, c := range odd {
		if found, report := w.messages(c); !slices.Equal(found, []string{"of " + c}) || len(report.Uncounted) > 0 {
			t.Errorf("category %q: read %q, not counted %q", c, found, report.Uncounted)
		}
	}
}

func TestNullThrowsAwayAndCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+`
categories:
  - {match: "debug_*", ack: received, store: {null: {}}}
`).start()
	w.send("debug_x", "one", "two")
	w.eventually("the messages are thrown away", func() bool { return w.balanced().Totals.Stored["null"].Messages == 2 })
	w.stop()
	if found, _ := w.messages("debug_x"); len(found) > 0 {
		t.Errorf("read %q", found)
	}
}
