package reader

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"twinscribe/buffer"
	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

func TestAClusterThatIsAwayIsToldAndTheOtherRead(t *testing.T) {
	w := testWorld(t)
	a, b := numbered("m", 1, 4), numbered("m", 5, 3)
	w.sealed(web("n1", 1, a))
	w.sealed(web("n2", 2, b))
	w.member(ag1, 0)
	w.inventories("n1", "n2")
	defer w.clusters["n1"].Down()()
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, b)
	w.wantUncounted(report, "cluster n1 is away (injected fault", "cluster n1 is away, and the inventories tell of files of it: 4 messages in 1 files")
}

func TestAClusterThatHangsCostsOneTimeout(t *testing.T) {
	w := testWorld(t)
	for i := range 20 {
		w.sealed(web("n2", uint32(i), numbered("m", uint64(1+10*i), 10)))
	}
	w.inventories("n1", "n2")
	defer w.clusters["n1"].Hang()()
	o := w.options()
	o.Timeout = 20 * time.Millisecond
	got, report := w.readWith(o, Query{Category: "web"})
	w.wantText(got, numbered("m", 1, 200))
	w.wantUncounted(report, "cluster n1 is away")
	if n := w.clusters["n1"].Calls(clustertest.OpList); n > parallel+1 {
		t.Errorf("%d calls to a cluster that hangs", n)
	}
}

func TestReadFailsWhereNothingCanBeRead(t *testing.T) {
	w := testWorld(t)
	w.sealed(web("n1", 1, numbered("m", 1, 4)))
	defer w.clusters["n1"].Down()()
	defer w.clusters["n2"].Down()()
	_, err := New(w.options()).Read(context.Background(), Query{}, func(*Run) error { return nil })
	if !errors.Is(err, ErrNothing) || !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("error %v, want ErrNothing because of ErrUnavailable", err)
	}
	w.segmentOf(ag1, buffer.Outage, stored{"web", 3, hour10, numbered("s", 1, 2)})
	got, report := w.read(Query{})
	w.wantText(got, numbered("s", 1, 2))
	w.wantUncounted(report, "cluster n1 is away", "cluster n2 is away")
}

func TestWhatAnInventoryNamesAndNobodyHasIsTold(t *testing.T) {
	w := testWorld(t)
	gone := web("n1", 1, numbered("m", 1, 4))
	w.sealed(gone)
	w.remove("n1", gone.path())
	lost := web("n2", 2, numbered("m", 5, 2))
	w.unsealed(lost, catalog.StateOpen)
	w.remove("n2", lost.openPath())
	foreign := web("n3", 3, numbered("m", 7, 3))
	_, m := foreign.content("")
	w.item(foreign, catalog.StateSealed, m, false)
	name := w.segmentOf(ag1, buffer.Outage, stored{"web", 3, hour10, numbered("m", 10, 5)})
	w.segmentItems(ag1, name, catalog.StateSegment)
	w.must(os.Remove(filepath.Join(w.bufferDir(), name)))
	covered := web("n1", 4, numbered("m", 20, 5))
	w.sealed(covered)
	w.remove("n1", covered.path())
	w.sealed(web("n2", 5, numbered("m", 20, 5)))
	w.member(ag1, 0)
	w.inventories("n2")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, numbered("m", 20, 5))
	w.wantUncounted(report,
		"00001.log: the inventory of ag1-0000002a.7f3c91d2 tells of it (sealed), and it is not there: 4 messages",
		"00002.log: the inventory of ag1-0000002a.7f3c91d2 tells of it (open), and it is not there: 2 messages",
		"cluster n3 is none of those that are read, and the inventories tell of files of it: 3 messages",
		name+" lies on host host-ag1 (127.0.0.1:1), in none of the buffers that are read: 5 messages")
}

func TestASealedFileWithoutAManifestIsRead(t *testing.T) {
	w := testWorld(t)
	a, b := numbered("m", 1, 4), numbered("m", 5, 4)
	known, stranger := web("n1", 1, a), web("n1", 2, b)
	w.sealed(known)
	w.inventories("n2") // which tells of the first one only
	w.sealed(stranger)
	w.remove("n1", known.manifestPath())
	w.write("n1", stranger.manifestPath(), []byte("{"))
	o := w.options()
	var sequences []uint64
	report, err := New(o).Read(context.Background(), Query{Category: "web"}, func(r *Run) error {
		return r.Each(func(m *Message) error {
			sequences = append(sequences, m.Sequence)
			return nil
		})
	})
	w.must(err)
	if !slices.Equal(sequences, []uint64{1, 2, 3, 4, 0, 0, 0, 0}) {
		t.Errorf("sequences are %v", sequences)
	}
	w.wantUncounted(report, "00001.log: its manifest cannot be used: it is not there", "00002.log: its manifest cannot be used: manifest")
}

func TestAcknowledgedMessagesThatAreNotPublishedAreTold(t *testing.T) {
	w := testWorld(t)
	m := w.unsealed(web("n1", 1, numbered("m", 1, 4)), catalog.StateOpen)
	item := &w.items[ag1][hour10][0]
	item.Messages, item.Bytes = m.Messages+7, m.Bytes+70
	w.member(ag1, 0)
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, numbered("m", 1, 4))
	w.wantUncounted(report, "acknowledged and not yet published: 7 messages")
}

func TestADamagedSegmentIsReadAsFarAsItVerifies(t *testing.T) {
	w := testWorld(t)
	a, b, c := numbered("m", 1, 3), numbered("m", 4, 3), numbered("m", 7, 3)
	name := w.segmentOf(ag1, buffer.Outage, stored{"web", 3, hour10, a}, stored{"web", 3, hour10, b}, stored{"web", 3, hour10, c})
	w.segmentItems(ag1, name, catalog.StateSegment)
	w.inventories("n1")
	full := filepath.Join(w.bufferDir(), name)
	data, err := os.ReadFile(full)
	w.must(err)
	at := strings.Index(string(data), "m 5\n")
	data[at] ^= 1
	w.must(os.WriteFile(full, data, 0o600))
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, a, c)
	w.wantUncounted(report, name+" is damaged: 1 records are known to be missing", "has less than the inventory of ag1-0000002a.7f3c91d2 tells of: 3 messages")
}

func TestAGrowingSegmentOfALivingStartIsNotCalledShort(t *testing.T) {
	w := testWorld(t)
	b, err := buffer.Open(w.options().Buffers[0].(localBuffer).fs, w.bufferDir(), buffer.Options{
		Identity: buffer.Identity{Aggregator: "ag1", Epoch: 42, Start: ag1.Start}, Sync: buffer.SyncNone, MinFree: -1,
		Log: w.options().Log, Now: func() time.Time { return now }})
	w.must(err)
	defer func() { w.must(b.Close(context.Background())) }()
	data, ends := numbered("m", 1, 3).text()
	w.must(b.Append(context.Background(), buffer.Spill, &buffer.Record{Category: "web", Chain: 3, Partition: string(hour10), First: 1, Arrived: 1, Ends: ends, Data: data}))
	name := b.Segments()[0].Name
	// The inventory is newer than the reader's look at the buffer.
	w.addItem(ag1, hour10, catalog.Item{Category: "web", Chain: 3, Place: "buffer", Path: name, State: catalog.StateSegment, Messages: 9,
		Ranges: []catalog.Range{{First: 1, Last: 9}}})
	w.member(ag1, 0)
	w.inventories("n1")
	got, report := w.read(Query{Category: "web"})
	w.wantText(got, numbered("m", 1, 3))
	w.wantUncounted(report)
}
