package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
	"twinscribe/store/ship"
)

// outage leaves messages of an outage in the buffer of a server that runs.
func outage(t *testing.T, messages ...string) *world {
	t.Helper()
	w := newWorld(t, quick+two+all).start()
	w.takeAway("n1", "n2")
	w.send("web", messages...)
	if n := w.status().Buffer.Unshipped["outage"]; n != int64(len(messages)) {
		t.Fatalf("%d messages of an outage in the buffer", n)
	}
	return w
}

func (w *world) done(path string) (d Done) {
	w.t.Helper()
	code, body := w.ask("POST", path)
	if code != http.StatusOK {
		w.t.Fatalf("%s: %d %s", path, code, body)
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		w.t.Fatal(err)
	}
	return d
}

func TestAnOutageStaysInTheBufferUntilItIsShippedByHand(t *testing.T) {
	t.Parallel()
	want := numbered(100)
	w := outage(t, want...)
	w.putBack("n1", "n2")
	if found, _ := w.messages("web"); !slices.Equal(found, want) {
		t.Errorf("from the buffer: read %d messages", len(found))
	}
	books := w.balanced().Totals
	if d := w.done("/v1/ship"); d.Segments != 1 || d.Messages != 100 {
		t.Errorf("shipped %+v", d)
	}
	if d := w.done("/v1/ship"); d.Segments != 0 {
		t.Errorf("shipped again: %+v", d)
	}
	st := w.balanced()
	if st.Buffer.Unshipped["outage"] != 0 || st.Totals.Stored["buffer"] != books.Stored["buffer"] {
		t.Errorf("after the ship %v are unshipped, and the books moved from %v to %v", st.Buffer.Unshipped, books.Stored, st.Totals.Stored)
	}
	w.stop()
	if err := os.RemoveAll(w.path("state", "buffer")); err != nil {
		t.Fatal(err)
	}
	if found, _ := w.messages("web"); !slices.Equal(found, want) {
		t.Errorf("without the buffer: read %d messages", len(found))
	}
}

func TestAnOutageIsShippedWithoutAServer(t *testing.T) {
	t.Parallel()
	want := numbered(100)
	w := outage(t, want...)
	w.putBack("n1")
	w.stop()
	tools, err := OpenTools(t.Context(), w.config(), zap.NewNop(), "test")
	if err != nil {
		t.Fatal(err)
	}
	d, err := tools.Ship(t.Context(), Choice{}, func(ship.Progress) {})
	if err = errors.Join(err, tools.Close(t.Context())); err != nil || d.Segments != 1 || d.Messages != 100 {
		t.Errorf("shipped %+v %v", d, err)
	}
	if err := os.Rename(w.path("n2.away"), w.path("n2")); err != nil {
		t.Fatal(err)
	}
	if found, report := w.messages("web"); !slices.Equal(found, want) || len(report.Uncounted) > 0 {
		t.Errorf("read %d messages, not counted %q", len(found), report.Uncounted)
	}
}

func TestWhatIsForgottenIsBookedAsDropped(t *testing.T) {
	t.Parallel()
	w := outage(t, numbered(100)...)
	w.send("", "a dead letter")
	if code, body := w.ask("POST", "/v1/forget"); code != http.StatusConflict || !strings.Contains(body, "which segments") {
		t.Errorf("without a choice: %d %s", code, body)
	}
	if code, body := w.ask("POST", "/v1/forget?segment=nonsense.seg"); code != http.StatusNotFound || !strings.Contains(body, "nonsense.seg") {
		t.Errorf("a segment that is not there: %d %s", code, body)
	}
	if code, body := w.ask("POST", "/v1/forget?reason=nonsense"); code != http.StatusNotFound || !strings.Contains(body, "outage") {
		t.Errorf("a reason that there is not: %d %s", code, body)
	}
	if d := w.done("/v1/forget?reason=outage"); d.Segments != 1 || d.Messages != 100 {
		t.Errorf("forgot %+v", d)
	}
	st := w.balanced()
	if st.Totals.Dropped.Messages != 100 || st.Totals.Stored["buffer"].Messages != 0 || st.Totals.Stored["dead-letter"].Messages != 1 {
		t.Errorf("dropped %v, stored %v", st.Totals.Dropped, st.Totals.Stored)
	}
	if d := w.done("/v1/forget?reason=all"); d.Segments != 1 || d.Messages != 1 {
		t.Errorf("forgot %+v", d)
	}
	if st := w.balanced(); st.Totals.Dropped.Messages != 101 || st.Buffer.Segments != 0 {
		t.Errorf("dropped %v, %d segments", st.Totals.Dropped, st.Buffer.Segments)
	}
	w.putBack("n1", "n2")
	if found, report := w.messages("web"); len(found) > 0 || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
}

func TestASegmentOfAnEarlierStartThatIsForgottenMovesNothingInTheBooks(t *testing.T) {
	t.Parallel()
	w := outage(t, numbered(10)...)
	w.stop()
	w.start()
	w.eventually("the clusters are not healthy", func() bool { return !anyUsable(w.server.sites) })
	w.send("web", numbered(10)...)
	earlier := ""
	for _, s := range w.server.buffer.Segments() {
		if s.Identity.Epoch == 1 {
			earlier = s.Name
		}
	}
	if d := w.done("/v1/forget?segment=" + earlier); d.Messages != 10 {
		t.Errorf("forgot %+v", d)
	}
	if st := w.balanced(); st.Totals.Dropped.Messages != 0 || st.Totals.Stored["buffer"].Messages != 10 {
		t.Errorf("dropped %v, stored %v", st.Totals.Dropped, st.Totals.Stored)
	}
}

func TestASpillIsShippedByTheServerItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	spilt := &buffer.Record{
		Category: "web", Chain: 99, Partition: string(catalog.Hour.At(time.Now())), First: 1, Arrived: time.Now().UnixNano(),
		Ends: []uint32{4, 8}, Data: []byte("one\ntwo\n"),
	}
	if err := w.server.buffer.Append(t.Context(), buffer.Spill, spilt); err != nil {
		t.Fatal(err)
	}
	w.eventually("nothing of the spill is in the buffer only", func() bool { return w.status().Buffer.Unshipped["spill"] == 0 })
	w.stop()
	if err := os.RemoveAll(w.path("state", "buffer")); err != nil {
		t.Fatal(err)
	}
	if found, _ := w.messages("web"); !slices.Equal(found, []string{"one", "two"}) {
		t.Errorf("read %q from the clusters", found)
	}
}
