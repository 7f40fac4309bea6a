package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/conf"
	"twinscribe/store/catalog"
	"twinscribe/store/inventory"
	"twinscribe/store/reader"
	"twinscribe/store/repair"
	"twinscribe/store/statedir"
	"twinscribe/thrift/client"
)

func TestASecondServerWithTheSameStateFolderIsTurnedAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	again := *w
	s, err := again.open()
	if s != nil || !errors.Is(err, statedir.ErrLocked) || !strings.Contains(err.Error(), w.path("state")) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a second server: %v, want one line that says who has the state folder", err)
	}
	if _, err := OpenTools(t.Context(), w.config(), zap.NewNop(), "test"); !errors.Is(err, ErrServed) {
		t.Errorf("tools beside a server: %v", err)
	}
	w.send("web", "the first one goes on")
}

func TestAnAddressInUseIsToldAndNothingIsKept(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w := newWorld(t, quick+two+all)
	w.writeBelow(strings.Replace(w.head, `http: "127.0.0.1:0"`, `http: "`+taken.Addr().String()+`"`, 1), quick+two+all)
	if s, err := w.open(); s != nil || err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "is another server running?") {
		t.Fatalf("started on an address in use: %v", err)
	}
	w.write(quick + two + all)
	w.start() // the lock and the other port are free again
	w.send("web", "one")
}

// member writes the member file of a start on a cluster.
func (w *world) member(cluster string, id catalog.Identity, ended bool) {
	w.t.Helper()
	m := catalog.Member{
		Version: catalog.Version, Aggregator: id.Aggregator, Epoch: id.Epoch, Start: id.StartID(),
		Host: "elsewhere", Program: "test", Since: time.Now().UnixNano(), Touched: time.Now().UnixNano(), Ended: ended,
	}
	b, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.MkdirAll(w.path(cluster, catalog.MembersFolder), 0o750); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(cluster, catalog.MemberPath(id)), b, 0o640); err != nil {
		w.t.Fatal(err)
	}
}

func TestASecondAggregatorWithTheSameIDDoesNotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.send("web", "one")
	w.stop()
	twin := catalog.Identity{Aggregator: "ag1", Epoch: 7, Start: 0x1234}
	w.member("n2", twin, false)
	if s, err := w.open(); s != nil || !errors.Is(err, inventory.ErrTwin) || !strings.Contains(err.Error(), "n2") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("beside a living start of the same id: %v", err)
	}
	w.member("n2", twin, true)
	w.start() // it has ended in order
	w.send("web", "two")
}

func TestARestartTakesOverWhatAnEarlierStartLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.send("web", "one")
	w.takeAway("n1", "n2")
	w.send("web", "two")
	w.stop() // n1's file could not be sealed
	if err := errors.Join(os.Rename(w.path("n1.away"), w.path("n1")), os.Rename(w.path("n2.away"), w.path("n2"))); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("nothing is left to repair", func() bool {
		st := w.status()
		return st.Clusters[0].RepairBacklog+st.Clusters[1].RepairBacklog == 0
	})
	w.send("web", "three")
	w.stop()
	for _, name := range w.files("n1", "n2") {
		if strings.HasSuffix(name, ".open") {
			t.Errorf("%s is still open", name)
		}
	}
	if found, report := w.messages("web"); !slices.Equal(found, []string{"one", "two", "three"}) || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
}

func TestARootThatIsMissingIsMadeAtTheFirstStartOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.stop()
	if err := os.Rename(w.path("n1"), w.path("n1.away")); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.send("web", "goes to n2")
	if _, err := os.Stat(w.path("n1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("n1 was made anew, over a disk that is not mounted: %v", err)
	}
	w.putBack("n1")
}

func TestAFolderOfAClusterDoesNotMoveUnnoticed(t *testing.T) {
	t.Parallel()
	in := func(folder string) string {
		return quick + strings.Replace(two, "dir: {path: DIR/n1}", "dir: {path: DIR/n1}, "+folder, 1) + all
	}
	first := in("folder: logs/_twinscribe")
	w := newWorld(t, first).start()
	w.send("web", "one")
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatal(left, err)
	}
	for _, moved := range []string{in("folder: _twinscribe"), in("drain: false"), strings.Replace(first, "DIR/n1", "DIR/other", 1)} {
		w.write(moved)
		s, err := w.open()
		if s != nil || err == nil || !strings.Contains(err.Error(), w.path("n1", "logs", "_twinscribe")) || !strings.Contains(err.Error(), "cluster n1") {
			t.Fatalf("started with its files elsewhere: %v", err)
		}
	}
	w.write(first)
	w.start()
	w.send("web", "two")
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatal(left, err)
	}
	w.write(in("folder: _twinscribe"))
	if err := os.Remove(w.path("state", "roots", "n1.folder")); err != nil { // as the error says
		t.Fatal(err)
	}
	w.start()
}

// conf cannot ask store/catalog.
func TestTheEngineFolderHasOneName(t *testing.T) {
	if conf.EngineFolder != catalog.EngineFolder {
		t.Errorf("%q and %q", conf.EngineFolder, catalog.EngineFolder)
	}
}

func TestADirectoryThatIsNewInTheConfigurationIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.stop()
	w.write(quick + two + "  - {name: n3, dir: {path: DIR/n3}}\n" + strings.ReplaceAll(all, "cluster: n1", "cluster: n3"))
	w.start()
	w.send("web", "goes to n3")
	if n := w.balanced().Totals.Stored["n3"].Messages; n != 1 {
		t.Errorf("%d messages on n3", n)
	}
}

func TestAFirstStartThatFailedIsFollowedByAnotherFirstStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	if err := os.WriteFile(w.path("n2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := w.open(); s != nil || err == nil || !strings.Contains(err.Error(), "n2") {
		t.Fatalf("a root that is a file: %v", err)
	}
	if err := os.Remove(w.path("n2")); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.takeAway("n1")
	w.send("web", "goes to n2")
	if n := w.balanced().Totals.Stored["n2"].Messages; n != 1 {
		t.Errorf("%d messages on n2", n)
	}
}

func TestADryRunOfARepairChangesNoFileOnAClusterAndTheRealOneSealsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.send("web", "one")
	w.takeAway("n1", "n2")
	w.stop()
	if err := errors.Join(os.Rename(w.path("n1.away"), w.path("n1")), os.Rename(w.path("n2.away"), w.path("n2"))); err != nil {
		t.Fatal(err)
	}
	before := w.files("n1", "n2")
	for _, dry := range []bool{true, false} {
		tools, err := OpenTools(t.Context(), w.config(), zap.NewNop(), "test")
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		if err := tools.Repair(t.Context(), dry, func(r repair.Report) { told = append(told, r.Path) }); err != nil {
			t.Errorf("dry %v: %v", dry, err)
		}
		if err := tools.Close(t.Context()); err != nil {
			t.Errorf("dry %v: %v", dry, err)
		}
		if len(told) != 1 || !strings.HasPrefix(told[0], "web/") {
			t.Errorf("dry %v: told of %q, want the one open file", dry, told)
		}
		if after := w.files("n1", "n2"); dry && !slices.Equal(after, before) {
			t.Errorf("a dry run made of\n%s\nthis:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
	if found, report := w.messages("web"); !slices.Equal(found, []string{"one"}) || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
	w.start()
	w.stop()
	v, err := OpenView(w.config(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if report, err := v.Reader.Check(t.Context(), reader.Query{}); err != nil || len(report.Problems)+len(report.Uncounted) > 0 {
		t.Errorf("check: %+v %v", report, err)
	}
}

func TestAClientThatLogsBeforeTheServerRunsIsAnsweredOnceItDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	s, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	early, err := client.New(client.Options{Addrs: []string{s.listeners[0].Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	w.run(s)
	if name, err := early.Version(t.Context()); err != nil || name != "1.2.3-test" {
		t.Errorf("%q %v", name, err)
	}
}
