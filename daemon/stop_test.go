package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/thrift"
)

// held keeps received messages in the queue until somebody asks for them.
const held = "ack: received\nqueue: {batch_bytes: 4MiB, batch_wait: 1m}\n"

func TestAStopDuringAnOutageLosesNothingThatWasReceived(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+held+two+all).start()
	w.takeAway("n1", "n2")
	want := numbered(500)
	w.send("web", want[:300]...)
	w.send("web", want[300:]...)
	if st := w.balanced(); st.Totals.Queued.Messages+st.Totals.InFlight.Messages != 500 {
		t.Fatalf("queued %d, in flight %d: want 500 in memory", st.Totals.Queued.Messages, st.Totals.InFlight.Messages)
	}
	if left, err := w.stop(); left != 0 || err != nil {
		t.Errorf("stopped with %d left and %v, want nothing", left, err)
	}
	list, err := buffer.List(vfs.OS(), w.path("state", "buffer"))
	if err != nil || len(list) != 1 || list[0].Reason != buffer.Outage || list[0].Messages != 500 || !list[0].Sealed {
		t.Errorf("the buffer holds %+v %v, want one sealed outage segment of 500 messages", list, err)
	}
	if found, _ := w.messages("web"); !slices.Equal(found, want) {
		t.Errorf("read %d messages, want the 500 in order", len(found))
	}
}

func TestAStopThatCannotStoreWhatWasReceivedSaysHowMuchIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(quick, "stop: 8s", "stop: 2s", 1)+held+two+all)
	w.disk = faultfs.New(vfs.OS(), nil)
	w.start()
	w.takeAway("n1", "n2")
	w.send("web", numbered(7)...)
	w.disk.Set(faultfs.Any(faultfs.On(faultfs.Create, "*.seg", syscall.ENOSPC), faultfs.On(faultfs.Write, "*.seg", syscall.ENOSPC)))
	left, err := w.stop()
	if left != 7 || err == nil {
		t.Errorf("stopped with %d left and %v, want 7 and why", left, err)
	}
}

func TestAStopAnswersTheCallsUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all)
	entered, release := make(chan faultfs.Op, 1000), newGate(t)
	w.disk = faultfs.New(vfs.OS(), nil)
	w.start()
	w.send("web", "before")
	w.disk.Set(faultfs.Stall(faultfs.Sync, "*.open", entered, release.c))
	answer := make(chan thrift.Result, 1)
	go func() { answer <- w.offer("web", "while it stops") }()
	<-entered
	w.cancel()
	w.eventually("the server stops", func() bool {
		select {
		case <-w.server.stopping:
			return true
		default:
			return false
		}
	})
	release.open()
	if r := <-answer; r != thrift.OK {
		t.Errorf("a call under way was answered %v", r)
	}
	if left, err := w.stop(); left != 0 || err != nil {
		t.Errorf("stopped with %d left and %v", left, err)
	}
	if found, report := w.messages("web"); !slices.Equal(found, []string{"before", "while it stops"}) || len(report.Uncounted) > 0 {
		t.Errorf("read %q, not counted %q", found, report.Uncounted)
	}
}

func TestAStopSealsWhatIsOpenAndTheNextStartFindsNothingToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.send("web", "one")
	if left, err := w.stop(); left != 0 || err != nil {
		t.Fatalf("stopped with %d left and %v", left, err)
	}
	for _, name := range w.files("n1", "n2") {
		if strings.HasSuffix(name, ".open") {
			t.Errorf("%s is still open", name)
		}
	}
	w.start()
	if st := w.status(); st.Epoch != 2 || st.Clusters[0].RepairBacklog+st.Clusters[1].RepairBacklog != 0 {
		t.Errorf("epoch %d, repair backlog %+v", st.Epoch, st.Clusters)
	}
	w.send("web", "two")
	w.stop()
	if found, report := w.messages("web"); !slices.Equal(found, []string{"one", "two"}) || len(report.Uncounted)+len(report.Problems) > 0 {
		t.Errorf("read %q, %+v", found, report)
	}
}

func TestShutdownOverThriftAndOverHTTPEndRun(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*world){
		"fb303": func(w *world) {
			if err := w.client.Shutdown(w.t.Context()); err != nil {
				w.t.Error(err)
			}
		},
		"HTTP": func(w *world) {
			if code, body := w.ask("POST", "/v1/stop"); code != 200 {
				w.t.Errorf("%d %s", code, body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quick+two+all).start()
			w.send("web", "one")
			ask(w)
			select {
			case <-w.ended:
			case <-time.After(patience):
				t.Fatal("Run goes on")
			}
			if left, err := w.stop(); left != 0 || err != nil {
				t.Errorf("stopped with %d left and %v", left, err)
			}
		})
	}
}

func TestAListenerThatFailsEndsTheServerInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quick+two+all).start()
	w.send("web", "one")
	w.server.listeners[0].Close()
	select {
	case <-w.ended:
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
	if left, err := w.stop(); left != 0 || err == nil || !strings.Contains(err.Error(), "a listener ended") {
		t.Errorf("stopped with %d left and %v, want the listener's error", left, err)
	}
	if found, _ := w.messages("web"); !slices.Equal(found, []string{"one"}) {
		t.Errorf("read %q", found)
	}
}

// files are the paths of all files below some folders of the world.
func (w *world) files(folders ...string) (names []string) {
	w.t.Helper()
	for _, f := range folders {
		err := filepath.WalkDir(w.path(f), func(p string, d os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // renamed meanwhile
			}
			if err == nil && !d.IsDir() {
				names = append(names, p)
			}
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return names
}
