package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
)

// A step of a history.
type step struct {
	kind     int // 0 to 3: put; 4, 5: behave; 6, 7: pass; 8: stop and start; 9: crash
	messages int
	mode     int // what the primary does from now on
	take     int
	seconds  int
}

// Whatever the primary does, and whenever the chain is stopped or dies: each
// message that was answered with nil arrives; with the order kept and without a
// crash each arrives once and in its place.
func TestEveryMessageArrives(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := &world{fs: memfs.New(), crashes: rapid.Bool().Draw(r, "crashes"), live: rapid.Bool().Draw(r, "live first"),
			sync: rapid.Bool().Draw(r, "sync"), segment: rapid.Int64Range(200, 4000).Draw(r, "segment")}
		w.p = &primary{}
		if rapid.Bool().Draw(r, "dedups") {
			w.p.dedup = map[string]bool{}
		}
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				kind: rapid.IntRange(0, 9).Draw(r, "kind"), messages: rapid.IntRange(1, 5).Draw(r, "messages"),
				mode: rapid.IntRange(0, 5).Draw(r, "mode"), take: rapid.IntRange(1, 3).Draw(r, "take"),
				seconds: rapid.IntRange(1, 8).Draw(r, "seconds"),
			}
		}), 5, 40).Draw(r, "steps")
		synctest.Test(t, func(t *testing.T) { w.run(t, steps) })
		if w.problem != "" {
			r.Fatal(w.problem)
		}
	})
}

type world struct {
	fs      *memfs.FS
	p       *primary
	c       *chain
	start   uint32
	crashes bool
	live    bool
	sync    bool
	segment int64

	n       int
	acked   []string
	problem string
}

func (w *world) open(t *testing.T) {
	w.start++
	w.c = open(t, setup{fs: w.fs, start: w.start, primary: w.p, spool: SpoolOptions{Sync: w.sync || w.crashes},
		spools: SpoolsOptions{SegmentBytes: w.segment}, options: Options{LiveFirst: w.live, Timeout: 3 * time.Second,
			Retry: store.Retry{Adaptive: true, Min: time.Second, Max: 5 * time.Second, Offset: time.Second}}})
}

func (w *world) run(t *testing.T, steps []step) {
	w.open(t)
	for _, s := range steps {
		switch {
		case s.kind < 4:
			w.put(s.messages)
		case s.kind < 6:
			w.behave(s.mode, s.take)
		case s.kind < 8:
			w.pass(s.seconds)
		case s.kind == 8:
			w.c.end()
			w.open(t)
		case w.crashes:
			w.crash(t)
		}
	}
	w.p.set(func() { w.p.refuse, w.p.delay, w.p.hang = nil, 0, false })
	w.pass(60)
	w.put(2)
	w.c.end()
	w.check()
}

func (w *world) put(k int) {
	b := w.c.batch(numbered(w.n, w.n+k)...)
	w.n += k
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	rest, err := w.c.Append(ctx, b)
	if err != nil || rest != nil {
		w.problem = fmt.Sprintf("a batch was refused: %v", err)
		return
	}
	w.acked = append(w.acked, numbered(w.n-k, w.n)...)
	taken := 0
	for _, x := range b.Taken {
		taken += x.Messages
	}
	if taken != k {
		w.problem = fmt.Sprintf("taken %+v of %d messages", b.Taken, k)
	}
}

// behave changes what the primary does.
func (w *world) behave(mode, take int) {
	w.p.set(func() {
		w.p.refuse, w.p.delay, w.p.hang = nil, 0, false
		switch mode {
		case 1:
			w.p.refuse = away
		case 2:
			w.p.refuse = func(*store.Batch) (int, error) { return 0, store.ErrLater }
		case 3: // a part each time
			w.p.refuse = func(b *store.Batch) (int, error) {
				if b.Len() <= take {
					return 0, nil
				}
				return take, errors.New("half of it")
			}
		case 4:
			w.p.hang = true
		case 5:
			w.p.delay = 700 * time.Millisecond
		}
	})
}

func (w *world) pass(seconds int) {
	for range seconds {
		time.Sleep(time.Second)
		_ = w.c.Tick(context.Background(), time.Now())
	}
	synctest.Wait()
}

// crash is a power cut; the process goes on for a moment, and nobody hears of it.
func (w *world) crash(t *testing.T) {
	image := w.fs.Crash(nil)
	p := w.c.primary
	p.set(func() { p.refuse, p.hang, p.delay = away, false, 0 })
	w.c.end()
	w.fs = image
	w.open(t)
}

func (w *world) check() {
	got := w.p.messages()
	times := map[string]int{}
	for _, m := range got {
		times[m]++
	}
	for _, m := range w.acked {
		if times[m] == 0 {
			w.problem = fmt.Sprintf("%s was answered with nil and has not arrived; arrived: %s", m, brief(got))
			return
		}
	}
	if w.crashes && w.p.dedup == nil {
		return
	}
	for m, n := range times {
		if n > 1 {
			w.problem = fmt.Sprintf("%s has arrived %d times", m, n)
			return
		}
	}
	if !w.live && !w.crashes && !slices.Equal(got, w.acked) {
		w.problem = fmt.Sprintf("arrived: %s\nacknowledged: %s", brief(got), brief(w.acked))
	}
}

// Scribe's own trial, and one of the size of its tests.
func TestAnOutageOfManyMessages(t *testing.T) {
	for _, total := range []int{800, 100_000} {
		t.Run(fmt.Sprint(total), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := open(t, setup{spools: SpoolsOptions{SegmentBytes: 256 << 10}})
				want := numbered(0, total)
				for i := 0; i < total; i += total / 100 {
					switch i / (total / 100) {
					case 25:
						c.primary.set(func() { c.primary.refuse = away })
					case 75:
						c.primary.set(func() { c.primary.refuse = nil })
					}
					c.put(want[i : i+total/100]...)
					time.Sleep(100 * time.Millisecond)
					c.tick()
				}
				for range 70 {
					time.Sleep(time.Second)
					c.tick()
				}
				synctest.Wait()
				c.wantState(Streaming)
				if got := c.primary.messages(); !slices.Equal(got, want) {
					t.Errorf("%d messages arrived, or not in order: %s", len(got), brief(got))
				}
				c.end()
			})
		})
	}
}
