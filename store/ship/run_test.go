package ship

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/buffer"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/cluster/clustertest"
)

func TestRunShipsSpillsAndLeavesOutagesAndTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, memfs.New())
		defer w.end()
		w.options.Now = time.Now // from which Run tells how old a segment is
		w.must(w.buffer.Close(t.Context()))
		w.openBufferAt(time.Now)
		w.options.Buffer, w.options.Identity = w.buffer, ag1
		replay := atomic.Bool{}
		w.options.ReplayOutage = replay.Load
		w.health["n1"].away.Store(true)
		w.health["n2"].away.Store(true)
		for _, reason := range []buffer.Reason{buffer.Spill, buffer.Outage, buffer.Unrouted, buffer.DeadLetter} {
			w.put(reason, reason.String(), uint32(reason), hour10, 1, 3)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		s := New(w.options)
		go func() {
			s.Run(ctx)
			close(done)
		}()
		shipped := func() (list []string) {
			for _, seg := range w.buffer.Segments() {
				if seg.Shipped {
					list = append(list, seg.Reason.String())
				}
			}
			slices.Sort(list)
			return list
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if list := shipped(); len(list) > 0 || len(w.files("n1")) > 0 {
			t.Errorf("with no cluster %q were shipped", list)
		}
		// Health changes between two rounds.
		w.health["n2"].away.Store(false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if list := shipped(); !slices.Equal(list, []string{"spill"}) || len(w.files("n2")) != 2 {
			t.Errorf("%q were shipped, n2 has %q", list, w.files("n2"))
		}
		replay.Store(true)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if list := shipped(); !slices.Equal(list, []string{"outage", "spill"}) {
			t.Errorf("%q were shipped", list)
		}
		if st := s.Stats(); st.Segments != 2 || st.Files != 2 || st.Messages != 6 || st.Failed != 0 || st.Waiting != 0 {
			t.Errorf("stats are %+v", st)
		}
		cancel()
		<-done
	})
}

func TestRunTriesAgainWithLongerAndLongerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, memfs.New())
		defer w.end()
		want := w.fill()
		maps.DeleteFunc(want, func(l string, _ int) bool { // the outage
			return slices.ContainsFunc([]string{"17\n", "18\n", "19\n", "20\n"}, func(end string) bool { return strings.HasSuffix(l, "hr=11/"+end) })
		})
		s := New(w.options)
		end := w.clusters["n1"].Add(clustertest.Rule{Op: clustertest.OpCreate, Path: "s00001", Err: errors.New("quota")})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Run(ctx)
			close(done)
		}()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Failed < 10 || st.Failed > 30 || st.Waiting != 1 || st.Segments != 1 || !strings.Contains(st.Problem, "quota") {
			t.Errorf("stats after ten minutes are %+v", st)
		}
		end()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		cancel()
		<-done
		files, _ := w.final()
		if !maps.Equal(files, want) {
			t.Errorf("final names hold %s, want %s", show(files), show(want))
		}
	})
}

// behind is a keeper whose inventories never get to the clusters in time.
type behind struct{ *keeper }

func (behind) Flush(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// After hundreds of starts that died the inventories need minutes. Segments do not
// wait for them one by one.
func TestInventoriesThatAreBehindHoldUpARoundOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, memfs.New())
		defer w.end()
		w.options.Keeper = behind{w.keeper}
		const segments = 12
		for i := range segments {
			w.put(buffer.Spill, "web", 1, hour10, uint64(1+3*i), 3)
			w.must(w.buffer.Seal(t.Context(), buffer.Spill))
		}
		s := New(w.options)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Run(ctx)
			close(done)
		}()
		time.Sleep(flushWait + time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Segments != segments {
			t.Errorf("%d segments of %d are shipped after %v", st.Segments, segments, flushWait+time.Second)
		}
		cancel()
		<-done
	})
}
