package files

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

const kib = 1 << 10

func TestAFullFileIsReplacedWithoutABatchThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.spy.delay.Store(int64(time.Second))
		p := r.producer(ChainSpec{MaxSize: 100 * kib})
		p.append("first")
		start := time.Now()
		for range 400 {
			p.append(strings.Repeat("x", kib-1))
			time.Sleep(200 * time.Millisecond)
		}
		if d := time.Since(start); d != 80*time.Second {
			t.Errorf("appends waited %v in all", d-80*time.Second)
		}
		p.shut()
		files := r.sealedFiles("web")
		p.wantAll(files)
		if len(files) < 4 || len(files) > 5 {
			t.Errorf("%d files", len(files))
		}
		for i, f := range files[:len(files)-1] {
			if f.manifest.Reason != ReasonSize || f.manifest.Bytes < 100*kib || f.manifest.Bytes > 110*kib {
				t.Errorf("file %d: %s, %d bytes", i, f.manifest.Reason, f.manifest.Bytes)
			}
		}
	})
}

func TestAFileThatCannotBeReplacedStopsGrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{MaxSize: 100 * kib})
		p.append("first")
		end := r.fault.Add(clustertest.Rule{Op: clustertest.OpCreate, Err: errors.New("quota")})
		var err error
		for n := 0; err == nil; n++ {
			if n > 1000 {
				t.Fatal("the file grows for ever")
			}
			err = p.try(strings.Repeat("x", kib-1))
		}
		if f := p.chain.cur; f == nil || f.size < 100*kib || f.size > 200*kib+kib {
			t.Errorf("the file stopped at %+v", f)
		}
		end()
		p.append("goes on in a new one")
		p.shut()
		p.wantAll(r.sealedFiles("web"))
	})
}

func TestAChainMovesToTheNextPartitionWithoutABatchThatWaits(t *testing.T) {
	for _, period := range []catalog.Period{catalog.Hour, catalog.Day} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
			r.spy.delay.Store(int64(2 * time.Second))
			p := r.producer(ChainSpec{Chain: 9, Period: period, Idle: 48 * time.Hour})
			p.budget = 5 * time.Second
			boundary := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(period.Duration())
			time.Sleep(time.Until(boundary.Add(-time.Minute)))
			p.append("first")
			slowest := time.Duration(0)
			for range 120 {
				start := time.Now()
				p.append("message")
				slowest = max(slowest, time.Since(start))
				p.wait(time.Second)
			}
			if slowest != 0 {
				t.Errorf("a batch waited %v", slowest)
			}
			p.shut()
			files := r.sealedFiles("web")
			p.wantAll(files)
			if len(files) != 2 || files[0].manifest.Reason != ReasonPartition {
				t.Fatalf("%d files, %v", len(files), reasons(files))
			}
			if a, b := files[0].manifest.Partition, files[1].manifest.Partition; a != period.At(boundary.Add(-1)) || b != period.At(boundary) {
				t.Errorf("partitions %s and %s", a, b)
			}
			if n := r.spy.creates(); n != 2 {
				t.Errorf("%d files created", n)
			}
		})
	}
}

func TestAThousandChainsChangeTheHourWithoutAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chains = 1000
		r := newRig(t, func(o *Options) { o.VisibilitySeals, o.MaxOpen = 0, 3*chains })
		r.spy.delay.Store(int64(20 * time.Millisecond))
		time.Sleep(49 * time.Minute)
		var wg sync.WaitGroup
		var mu sync.Mutex
		slowest, all := time.Duration(0), 0
		for n := range chains {
			wg.Go(func() {
				p := r.producer(ChainSpec{Category: fmt.Sprint("c", n), Chain: uint32(n + 1)})
				time.Sleep(time.Duration(n) * 20 * time.Millisecond) // the start is not the matter here
				p.append("first")
				for range 100 {
					p.tick(time.Second)
					start := time.Now()
					p.append("message")
					mu.Lock()
					slowest = max(slowest, time.Since(start))
					mu.Unlock()
				}
				_ = p.chain.Close(t.Context())
				mu.Lock()
				all += len(p.acked)
				mu.Unlock()
			})
		}
		wg.Wait()
		if err := r.root.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if slowest != 0 {
			t.Errorf("a batch waited %v", slowest)
		}
		if most := r.spy.most.Load(); most > 8 {
			t.Errorf("%d openings at once", most)
		}
		edge := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)
		second := map[int64]int{}
		for _, at := range r.spy.times {
			if !at.Before(edge) {
				second[at.Unix()]++
			}
		}
		for s, n := range second {
			if n > 120 {
				t.Errorf("%d openings in second %d", n, s-edge.Unix())
			}
		}
		if s := r.root.Stats(); s.Opened != 2*chains || s.Sealed[ReasonPartition] != chains || s.Messages != int64(all) {
			t.Errorf("%+v, want %d messages", s, all)
		}
	})
}

func TestAFileIsSealedWhenItsPartitionIsOverAndNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		p := r.producer(ChainSpec{Idle: 24 * time.Hour})
		time.Sleep(40 * time.Minute)
		p.append("one")
		p.wait(10*time.Minute + catalog.EdgeDelay(0))
		if got := r.sealedFiles("web", catalog.FormOpen); len(got) != 0 {
			t.Errorf("sealed before the chain moves: %v", reasons(got))
		}
		p.wait(10 * time.Second)
		if got := reasons(r.sealedFiles("web")); fmt.Sprint(got) != "[partition]" {
			t.Errorf("sealed for %v", got)
		}
		if n := r.spy.creates(); n != 1 {
			t.Errorf("%d files created for a chain without traffic", n)
		}
	})
}

func TestAnIdleFileIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		p := r.producer(ChainSpec{Idle: 10 * time.Minute})
		p.append("one")
		p.wait(10*time.Minute - time.Second)
		if got := r.sealedFiles("web", catalog.FormOpen); len(got) != 0 {
			t.Error("sealed too early")
		}
		p.wait(2 * time.Second)
		if got := reasons(r.sealedFiles("web")); fmt.Sprint(got) != "[idle]" {
			t.Errorf("sealed for %v", got)
		}
	})
}

func TestAFileOpenedAheadThatNobodyNeedsIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		p := r.producer(ChainSpec{MaxSize: 100 * kib})
		p.append(strings.Repeat("x", 95*kib))
		p.append("this one asks for the next file")
		synctest.Wait()
		if n := r.spy.creates(); n != 2 {
			t.Fatalf("%d files created", n)
		}
		p.wait(2 * time.Minute)
		if files := r.walk("web"); len(files) != 1 {
			t.Errorf("left: %v", files)
		}
		p.shut()
		p.wantAll(r.sealedFiles("web"))
		if s := r.root.Stats(); s.Discarded != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAFileWithTooLongListsIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		many := make([]string, 50_000)
		for i := range many {
			many[i] = "a\nb"
		}
		for range 8 {
			p.append(many...)
			time.Sleep(time.Second)
		}
		p.shut()
		files := r.sealedFiles("web")
		p.wantAll(files)
		for _, f := range files {
			if n := len(f.manifest.LineFeeds); n > 200_000 {
				t.Errorf("a manifest with %d spans", n)
			}
		}
		if len(files) < 2 {
			t.Errorf("%d files", len(files))
		}
	})
}

func TestBlocksAreAsBigAsTheChainsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{MaxSize: 20 << 20})
		big := strings.Repeat("x", 1<<20)
		for range 90 {
			p.append(big)
			time.Sleep(100 * time.Millisecond)
		}
		p.shut()
		var got []int64
		for _, o := range r.spy.options {
			got = append(got, o.BlockSize>>20)
			if !o.Begin {
				t.Error("a file without its first block")
			}
		}
		// The first file is opened without knowing better, the second while the first grows.
		if s := fmt.Sprint(got); !strings.HasPrefix(s, "[8 8 24 24") {
			t.Errorf("block sizes in MiB: %s", s)
		}
	})
}

func TestTheLongestIdleFileIsSealedWhenTooManyAreOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.MaxOpen, o.VisibilitySeals = 5, 0 })
		var all []*producer
		for n := range 8 {
			p := r.producer(ChainSpec{Category: fmt.Sprint("c", n), Chain: uint32(n)})
			p.append("one")
			all = append(all, p)
			time.Sleep(2 * time.Second)
		}
		for range 3 {
			for _, p := range all {
				p.wait(time.Second)
			}
		}
		for n, p := range all {
			sealed := len(r.sealedFiles(p.spec.Category, catalog.FormOpen)) == 1
			if sealed != (n < 3) {
				t.Errorf("file %d of 8: sealed %v", n, sealed)
			}
		}
		if s := r.root.Stats(); s.Open != 5 || s.Sealed[ReasonFiles] != 3 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFilesThatAreAllBusyAreBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.MaxOpen = 5 })
		open, refused := 0, 0
		for n := range 100 {
			p := r.producer(ChainSpec{Category: fmt.Sprint("c", n)})
			switch err := p.try("one"); {
			case err == nil:
				open++
			case errors.Is(err, errTooMany):
				refused++
			default:
				t.Fatal(err)
			}
		}
		if open != MostOpen(5) || refused != 100-open {
			t.Errorf("%d open, %d refused", open, refused)
		}
	})
}

func TestSealAllWaitsForAPauseAndNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		idle := r.producer(ChainSpec{Category: "idle"})
		busy := r.producer(ChainSpec{Category: "busy"})
		idle.append("one")
		busy.append("one")
		time.Sleep(2 * time.Second)
		busy.append("two")
		r.health.set(true, true, true)
		r.root.SealAll(ReasonDrain)
		idle.wait(time.Second)
		if n := len(r.sealedFiles("idle")); n != 1 {
			t.Errorf("the idle file is not sealed")
		}
		for range 12 {
			if busy.try("more") != nil {
				break
			}
			busy.wait(500 * time.Millisecond)
			r.root.SealAll(ReasonDrain) // as a drain does that is not over
		}
		if err := busy.try("on a drained cluster"); !errors.Is(err, cluster.ErrHeld) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		if !r.root.Idle() {
			t.Errorf("not idle: %+v", r.root.Stats())
		}
		busy.wantAll(r.sealedFiles("busy"))
		r.health.set(true, true, false)
		busy.append("after the drain")
		busy.wait(3 * time.Second)
		if r.root.Idle() {
			t.Error("a file begun after SealAll was sealed too")
		}
	})
}

// Whatever happens, what was acknowledged and not torn stands in sealed files
// once and in order.
func TestRandomTrafficComesBack(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, nil)
			p := r.producer(ChainSpec{Chain: uint32(seed), MaxSize: 20 * kib, Idle: 2 * time.Minute})
			// Never over in the moment in which a delayed opening ends: that Append would begin and be torn.
			p.budget = 300*time.Millisecond + time.Microsecond
			for step := range 300 {
				r.spy.delay.Store(int64(time.Duration(rnd.IntN(400)) * time.Millisecond))
				var end func()
				if rnd.IntN(10) == 0 {
					ops := []clustertest.Op{clustertest.OpCreate, clustertest.OpSeal, clustertest.OpRename, clustertest.OpReplace, clustertest.OpStat, clustertest.OpPublish, clustertest.OpRemove}
					end = r.fault.Add(clustertest.Rule{Op: ops[rnd.IntN(len(ops))], Do: rnd.IntN(2) == 0, Times: 1 + rnd.IntN(2)})
				}
				_ = p.try(fmt.Sprint("message ", step), strings.Repeat("x", rnd.IntN(4*kib)))
				switch rnd.IntN(20) {
				case 0:
					p.chain.Rest()
				case 1:
					p.wait(time.Duration(rnd.IntN(int(3 * time.Minute))))
				default:
					p.wait(time.Duration(rnd.IntN(int(2 * time.Second))))
				}
				if end != nil {
					end()
				}
			}
			r.fault.Clear()
			if err := p.chain.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := r.root.Close(ctx); err != nil {
				t.Fatal(err)
			}
			if n := len(r.tears()); n != 0 {
				t.Fatalf("seed %d: %d torn", seed, n)
			}
			synctest.Wait()
			p.wantAll(r.sealedFiles("web"))
			if len(p.acked) < 300 {
				t.Errorf("seed %d: only %d messages acknowledged", seed, len(p.acked))
			}
			for _, it := range r.items.all() {
				if it.State != catalog.StateSealed {
					t.Errorf("seed %d: inventory %+v", seed, it)
				}
			}
			if left := r.unfinished(r.disk); len(left) != 0 {
				t.Errorf("seed %d: the journal has %+v", seed, left)
			}
		})
	}
}
