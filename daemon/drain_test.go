package daemon

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

func (w *world) drain(method, query string) (st DrainStatus) {
	w.t.Helper()
	code, body := w.ask(method, "/v1/drain?"+query)
	if code != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s", method, query, code, body)
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		w.t.Fatal(err)
	}
	return st
}

func TestADrainSealsMovesAndIsKeptThroughARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.send("web", "one")
	if st := w.drain("POST", "cluster=n1"); !st.Drained {
		t.Fatalf("with n2 healthy: %+v", st)
	}
	w.send("web", "two")
	w.eventually("nothing of ours is open on n1", func() bool { return w.drain("GET", "cluster=n1").Waiting == "" })
	for _, name := range w.files("n1") {
		if strings.HasSuffix(name, ".open") {
			t.Errorf("%s is open on a drained cluster", name)
		}
	}
	before := w.files("n1")
	w.send("web", "three")
	w.stop()
	w.start()
	if c := w.cluster("n1"); !c.Drained {
		t.Errorf("after a restart n1 is %+v", c)
	}
	w.send("web", "four")
	w.stop()
	if after := w.files("n1"); !slices.Equal(after, before) {
		t.Errorf("something was written on n1 while it was drained:\n%s\nit had\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	w.start()
	if code, body := w.ask("POST", "/v1/undrain?cluster=n1"); code != http.StatusOK {
		t.Errorf("undrain: %d %s", code, body)
	}
	w.eventually("n1 is used again where n2 is away", func() bool { c := w.cluster("n1"); return !c.Drained && c.State == "healthy" })
	w.takeAway("n2")
	w.send("web", "five")
	if _, active := w.chainOf("web"); active != "n1" {
		t.Errorf("the chain writes to %s", active)
	}
	w.putBack("n2")
	w.stop()
	if found, report := w.messages("web"); !slices.Equal(found, []string{"one", "two", "three", "four", "five"}) || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
}

func TestADrainWaitsForAnotherClusterUnlessItIsForced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.takeAway("n2")
	if st := w.drain("POST", "cluster=n1"); st.Drained || !strings.Contains(st.Waiting, "--force") {
		t.Errorf("with n2 away: %+v, want that it waits and says how not to", st)
	}
	w.send("web", "one")
	if st := w.drain("POST", "cluster=n1&force=true"); !st.Drained {
		t.Errorf("forced: %+v", st)
	}
	w.send("web", "two")
	if st := w.balanced(); st.Totals.Stored["n1"].Messages != 1 || st.Totals.Stored["buffer"].Messages != 1 || st.Buffer.Unshipped["outage"] != 1 {
		t.Errorf("stored %v, in the buffer %v", st.Totals.Stored, st.Buffer.Unshipped)
	}
}

func TestADrainOfAnUnknownClusterNamesThoseThereAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	for _, c := range []struct{ method, path string }{
		{"POST", "/v1/drain?cluster=n9"}, {"GET", "/v1/drain?cluster=n9"}, {"POST", "/v1/undrain?cluster=n9"}, {"POST", "/v1/undrain"},
	} {
		if code, body := w.ask(c.method, c.path); code != http.StatusNotFound || !strings.Contains(body, "n1, n2") {
			t.Errorf("%s %s: %d %s", c.method, c.path, code, body)
		}
	}
}

func TestADrainWhoseFlagCannotBeKeptIsNoDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	if err := os.Mkdir(w.path("state", "state.json.tmp"), 0o700); err != nil { // nothing can be written under this name
		t.Fatal(err)
	}
	if code, body := w.ask("POST", "/v1/drain?cluster=n1"); code != http.StatusConflict || !strings.Contains(body, "could not be kept") {
		t.Errorf("%d %s", code, body)
	}
	if c := w.cluster("n1"); c.Drained {
		t.Errorf("n1 is drained all the same: %+v", c)
	}
	w.send("web", "one")
	if _, active := w.chainOf("web"); active != "n1" {
		t.Errorf("the chain writes to %s", active)
	}
}
