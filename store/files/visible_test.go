package files

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster/clustertest"
)

// visible says whether a sequence can be read or counted on by its manifest.
func (r *rig) visible(sequence uint64) bool {
	for _, it := range r.items.all() {
		for _, g := range it.Ranges {
			if g.First <= sequence && sequence <= g.Last {
				return true
			}
		}
	}
	return false
}

func TestEveryMessageIsVisibleInTimeAndNotAtAnyPrice(t *testing.T) {
	const hours = 3
	gaps := map[string]func(*rand.Rand) time.Duration{
		"one message, then silence": func(*rand.Rand) time.Duration { return hours * time.Hour },
		"every second":              func(*rand.Rand) time.Duration { return time.Second },
		"every ten seconds":         func(*rand.Rand) time.Duration { return 10 * time.Second },
		"every forty seconds":       func(*rand.Rand) time.Duration { return 40 * time.Second },
		"every four minutes":        func(*rand.Rand) time.Duration { return 4 * time.Minute },
		"bursts": func(r *rand.Rand) time.Duration {
			if r.IntN(10) == 0 {
				return time.Duration(r.IntN(int(20 * time.Minute)))
			}
			return time.Duration(r.IntN(int(5 * time.Second)))
		},
	}
	for name, gap := range gaps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(1, 2))
				r := newRig(t, nil)
				p := r.producer(ChainSpec{Chain: 77})
				type message struct {
					sequence uint64
					at       time.Time
				}
				var hidden []message
				worst := time.Duration(0)
				next := time.Now()
				begin := time.Now()
				for time.Since(begin) < hours*time.Hour {
					if !time.Now().Before(next) {
						hidden = append(hidden, message{p.next, time.Now()})
						p.append("message")
						next = time.Now().Add(gap(rnd))
					}
					p.wait(time.Second)
					for len(hidden) > 0 && r.visible(hidden[0].sequence) {
						worst = max(worst, time.Since(hidden[0].at))
						hidden = hidden[1:]
					}
					if len(hidden) > 0 {
						worst = max(worst, time.Since(hidden[0].at))
					}
				}
				if worst > 50*time.Second {
					t.Errorf("a message was not visible for %v", worst)
				}
				s := r.root.Stats()
				if n := s.Sealed[ReasonVisible]; n > 12*hours+1 || name == "every second" && n < 10*hours {
					t.Errorf("%d files sealed for visibility in %d hours", n, hours)
				}
				if n := s.Published; n > hours*3600/35 {
					t.Errorf("%d publications", n)
				}
				if s.Opened > 13*hours+2 {
					t.Errorf("%d files", s.Opened)
				}
				if name == "one message, then silence" && (s.Published != 0 || s.Sealed[ReasonVisible] != 1) {
					t.Errorf("a quiet category is not sealed at once: %+v", s)
				}
				p.shut()
				p.wantAll(r.sealedFiles("web"))
			})
		})
	}
}

func TestAPublicationThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		p := r.producer(ChainSpec{})
		p.append("one")
		r.fault.Add(clustertest.Rule{Op: clustertest.OpPublish, Times: 2})
		p.wait(46 * time.Second)
		if r.visible(1) {
			t.Error("visible without a publication")
		}
		p.wait(3 * time.Second)
		if !r.visible(1) || r.fault.Calls(clustertest.OpPublish) != 3 {
			t.Errorf("not visible after %d calls", r.fault.Calls(clustertest.OpPublish))
		}
	})
}

func TestAClusterThatIsAwayIsNotAskedToPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		p := r.producer(ChainSpec{})
		p.append("one")
		r.health.set(false, false, false)
		p.wait(5 * time.Minute)
		if n := r.fault.Calls(clustertest.OpPublish); n != 0 {
			t.Errorf("%d calls", n)
		}
		r.health.set(false, true, false)
		p.wait(time.Second)
		if !r.visible(1) {
			t.Error("not visible a second after the cluster's return")
		}
	})
}

func TestAPublicationThatHangsDelaysNoBatchAndASealWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.VisibilitySeals = 0 })
		p := r.producer(ChainSpec{})
		p.append("one")
		release := make(chan struct{})
		r.fault.Add(clustertest.Rule{Op: clustertest.OpPublish, Release: release, Times: 1})
		p.wait(46 * time.Second)
		start := time.Now()
		p.append("two")
		if d := time.Since(start); d != 0 {
			t.Errorf("the append waited %v", d)
		}
		p.chain.Rest()
		synctest.Wait()
		if n := r.fault.Calls(clustertest.OpSeal); n != 0 {
			t.Error("sealed beside a publication")
		}
		close(release)
		synctest.Wait()
		files := r.sealedFiles("web")
		p.wantAll(files)
		if it := r.items.all()[0]; it.State != catalog.StateSealed || it.Messages != 2 {
			t.Errorf("inventory %+v", it)
		}
	})
}

func TestThousandChainsDoNotPublishAtOnce(t *testing.T) {
	c := &Chain{root: &Root{o: Options{VisibleWithin: time.Minute}}}
	second := map[time.Duration]int{}
	for n := range uint32(1000) {
		c.spec.Chain = n
		d := c.visibleAfter()
		if d < 35*time.Second || d > 45*time.Second {
			t.Fatalf("chain %d waits %v", n, d)
		}
		second[d/time.Second]++
	}
	for s, n := range second {
		if n > 130 {
			t.Errorf("%d chains in second %d", n, s)
		}
	}
}
