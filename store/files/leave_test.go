package files

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"twinscribe/store/catalog"
	"twinscribe/store/cluster"
	"twinscribe/store/cluster/clustertest"
)

// steps are those of a seal, in order, with what is on the cluster before the
// step is done and after it.
var steps = []struct {
	op            clustertest.Op
	before, after string
}{
	{clustertest.OpSeal, "open", "open"},
	{clustertest.OpReplace, "open", "open manifest"},
	{clustertest.OpStat, "open manifest", "open manifest"},
	{clustertest.OpRename, "open manifest", "manifest sealed"},
}

// forms are the names of a category's files, by form.
func (r *rig) forms(category string) string {
	var open, manifest, sealed []string
	for _, p := range r.walk(category) {
		switch _, form := catalog.ParseName(path.Base(p)); form {
		case catalog.FormOpen:
			open = append(open, "open")
		case catalog.FormManifest:
			manifest = append(manifest, "manifest")
			if _, there := r.final(p); there && scribesNames {
				sealed = append(sealed, "sealed")
			}
		case catalog.FormSealed:
			sealed = append(sealed, "sealed")
		case catalog.FormOther:
			r.t.Errorf("%s is there", p)
		}
	}
	return strings.Join(append(append(open, manifest...), sealed...), " ")
}

func TestAKillAtEachStepOfASealLeavesWhatRepairNeeds(t *testing.T) {
	for _, s := range steps {
		for _, done := range []bool{false, true} {
			if done && s.op == clustertest.OpStat {
				continue // a look changes nothing
			}
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.producer(ChainSpec{})
				p.append("one", "two")
				p.append("three")
				release := make(chan struct{})
				end := r.fault.Add(clustertest.Rule{Op: s.op, Do: done, Hang: true, Release: release})
				p.chain.Rest()
				time.Sleep(time.Second) // the seal hangs at the step; this is the moment of the kill

				end()
				want := s.before
				if done {
					want = s.after
				}
				if got := r.forms("web"); got != want {
					t.Errorf("killed at %s (done: %v): %q, want %q", s.op, done, got, want)
				}
				states := r.unfinished(r.disk)
				if len(states) != 1 || states[0].Torn != nil {
					t.Fatalf("killed at %s: the journal has %+v", s.op, states)
				}
				b := states[0].Begin
				lines := states[0].Lines
				at := b.OpenPath
				if strings.Contains(want, "sealed") {
					at, _ = r.final(path.Join(path.Dir(b.Path), "_"+path.Base(b.Path)+".json"))
				}
				if got := string(r.content(at)); got != "one\ntwo\nthree\n" || lines[0].Offset != 0 || lines[len(lines)-1].End != int64(len(got)) {
					t.Errorf("killed at %s: %q, lines %+v", s.op, got, lines)
				}
				if it := r.items.all()[0]; it.State != catalog.StateSealing || it.Manifest.Messages != 3 {
					t.Errorf("killed at %s: inventory %+v", s.op, it)
				}

				close(release) // it was not killed after all
				p.shut()
				p.wantAll(r.sealedFiles("web"))
			})
		}
	}
}

func TestALostAnswerAtAnyStepIsSettledByLooking(t *testing.T) {
	for _, s := range steps {
		for _, times := range []int{1, 3} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.producer(ChainSpec{})
				p.append("one")
				r.fault.Add(clustertest.Rule{Op: s.op, Do: true, Times: times})
				p.chain.Rest()
				time.Sleep(time.Minute)
				p.append("two")
				p.shut()
				files := r.sealedFiles("web")
				p.wantAll(files)
				if len(files) != 2 || len(r.tears()) != 0 {
					t.Errorf("answers of %s lost: %d files, %d torn", s.op, len(files), len(r.tears()))
				}
			})
		}
	}
}

func TestASealWaitsForAClusterThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		up := r.fault.Down()
		r.health.set(false, false, false)
		p.chain.Rest()
		time.Sleep(time.Hour)
		if n := r.fault.Calls(clustertest.OpSeal); n != 0 {
			t.Errorf("%d calls of a cluster that is away", n)
		}
		if it := r.items.all(); len(it) != 1 || it[0].State != catalog.StateSealing || it[0].Manifest.Messages != 1 {
			t.Errorf("inventory %+v", it)
		}
		r.health.set(false, true, false) // as it is at the first good probe
		time.Sleep(30 * time.Second)
		if s := r.root.Stats(); s.Retries == 0 || s.Sealing != 1 {
			t.Errorf("%+v", s)
		}
		up()
		time.Sleep(10 * time.Second)
		p.wantAll(r.sealedFiles("web"))
		if len(r.tears()) != 0 {
			t.Error("torn")
		}
	})
}

func TestASealThatFailsForEverIsRepairs(t *testing.T) {
	refused := errors.New("lease is not held")
	for _, c := range []struct {
		name string
		rule clustertest.Rule
		want error
	}{
		{"seal is refused", clustertest.Rule{Op: clustertest.OpSeal, Err: refused}, refused},
		{"the manifest is refused", clustertest.Rule{Op: clustertest.OpReplace, Err: refused}, refused},
		{"the rename is refused", clustertest.Rule{Op: clustertest.OpRename, Err: refused}, refused},
		{"a healthy cluster never answers", clustertest.Rule{Op: clustertest.OpSeal, Hang: true}, context.DeadlineExceeded},
		{"a healthy cluster says that it is not there", clustertest.Rule{Op: clustertest.OpSeal}, cluster.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.producer(ChainSpec{})
				p.append("one", "two")
				r.fault.Add(c.rule)
				p.chain.Rest()
				time.Sleep(2 * time.Minute)
				tears := r.tears()
				if len(tears) != 1 || tears[0].L != 8 || tears[0].Manifest.Messages != 2 {
					t.Fatalf("torn: %+v", tears)
				}
				if s := r.unfinished(r.disk.Crash(nil)); len(s) != 1 || s[0].Torn == nil || *s[0].Torn != 8 {
					t.Errorf("the journal has %+v", s)
				}
				if it := r.items.all(); len(it) != 1 || it[0].State != catalog.StateTorn {
					t.Errorf("inventory %+v", it)
				}
				if s := r.root.Stats(); s.Torn != 1 || s.Sealing != 0 || !r.root.Idle() {
					t.Errorf("%+v", s)
				}
				if got := string(r.content(tears[0].OpenPath)); got != "one\ntwo\n" {
					t.Errorf("the file holds %q", got)
				}
			})
		})
	}
}

func TestAForeignFileUnderTheFinalNameIsNeverReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		final := r.items.all()[0].Path
		if err := r.fault.Replace(t.Context(), final, []byte("not ours")); err != nil {
			t.Fatal(err)
		}
		p.chain.Rest()
		time.Sleep(time.Minute)
		if got := string(r.content(final)); got != "not ours" {
			t.Errorf("it holds %q now", got)
		}
		if n := len(r.tears()); n != 1 {
			t.Errorf("%d handed to repair", n)
		}
	})
}

func TestCloseLeavesFilesOfAClusterThatIsAwayToRepair(t *testing.T) {
	for _, c := range []struct {
		name string
		rule clustertest.Rule
		away bool
		most time.Duration
	}{
		{"away", clustertest.Rule{}, true, 0},
		{"hung", clustertest.Rule{Op: clustertest.OpSeal, Hang: true}, false, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.producer(ChainSpec{})
				p.append("one")
				r.fault.Add(c.rule)
				r.health.set(!c.away, !c.away, false)
				if err := p.chain.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				start := time.Now()
				err := r.root.Close(ctx)
				if err == nil || !strings.Contains(err.Error(), "1 are not sealed") {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start); d > c.most {
					t.Errorf("took %v", d)
				}
				s := r.unfinished(r.disk)
				if len(s) != 1 || s[0].Lines[0].End != 4 {
					t.Fatalf("the journal has %+v", s)
				}
				r.fault.Clear()
				if got := string(r.content(s[0].Begin.OpenPath)); got != "one\n" {
					t.Errorf("the open file holds %q", got)
				}
			})
		})
	}
}

func TestCloseSealsWithoutRunToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.producer(ChainSpec{})
		p.append("one")
		r.stop()
		<-r.ended
		p.shut()
		p.wantAll(r.sealedFiles("web"))
		if err := p.try("two"); err == nil {
			t.Error("a batch was stored after Close")
		}
	})
}

func TestManyFilesAreSealedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		var all []*producer
		for n := range 200 {
			p := r.producer(ChainSpec{Category: fmt.Sprint("c", n), Chain: uint32(n)})
			p.append("one")
			all = append(all, p)
		}
		r.fault.Add(clustertest.Rule{Op: clustertest.OpStat, Times: 50})
		r.fault.Add(clustertest.Rule{Op: clustertest.OpRename, Do: true, Times: 50})
		for _, p := range all {
			_ = p.chain.Close(t.Context())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.root.Close(ctx); err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			p.wantAll(r.sealedFiles(p.spec.Category))
		}
	})
}
