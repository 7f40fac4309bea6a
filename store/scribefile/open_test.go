package scribefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/store/storetest"
)

func TestOpeningTakesTheHighestNumberOfItsName(t *testing.T) {
	hourly := func(s *Spec) { s.Rotate = Hourly }
	for what, c := range map[string]struct {
		change func(*Spec)
		there  string
		want   string
	}{
		"nothing":                     {func(*Spec) {}, "", "web_00000"},
		"one":                         {func(*Spec) {}, "web_00000", "web_00000"},
		"the highest":                 {func(*Spec) {}, "web_00002 web_00010 web_00009", "web_00010"},
		"six digits":                  {func(*Spec) {}, "web_99999 web_100000", "web_100000"},
		"others' names":               {func(*Spec) {}, "web_2_00005 webb_00006 web-2026-11-28_00007 web_x web_current.txt", "web_00000"},
		"a compressed one":            {func(*Spec) {}, "web_00003 web_00004.gz", "web_00005"},
		"a compressed one beside it":  {func(*Spec) {}, "web_00004 web_00004.gz", "web_00004"},
		"reopen":                      {func(s *Spec) { s.RotateOnReopen = true }, "web_00004", "web_00005"},
		"reopen, nothing":             {func(s *Spec) { s.RotateOnReopen = true }, "", "web_00000"},
		"the first of an hour":        {hourly, "", "web-2026-11-28_00010"},
		"the hour counts on":          {hourly, "web-2026-11-28_00017", "web-2026-11-28_00017"},
		"another day's":               {hourly, "web-2026-11-27_00023 web_00044", "web-2026-11-28_00010"},
		"the first of a day":          {func(s *Spec) { s.Rotate = Daily }, "web-2026-11-27_00003", "web-2026-11-28_00000"},
		"the first of a time":         {func(s *Spec) { s.Rotate, s.Every = Every, time.Minute }, "", "web-2026-11-28_00000"},
		"a sub directory":             {func(s *Spec) { s.SubDirectory = "host1" }, "web_00007", "host1/web_00000"},
		"numbers not of the original": {func(*Spec) {}, "web_20261128103000 web_-0001 web_00001", "web_00001"},
	} {
		t.Run(strings.ReplaceAll(what, " ", "-"), func(t *testing.T) {
			r := newRig(t, Options{})
			for _, name := range strings.Fields(c.there) {
				r.file("/logs/web/"+name, "before\n")
			}
			spec := webSpec()
			c.change(&spec)
			r.put(r.open(spec), "new")
			want := "new\n"
			if strings.Contains(" "+c.there+" ", " "+c.want+" ") {
				want = "before\nnew\n"
			}
			if got := r.read("/logs/web/" + c.want); got != want {
				t.Errorf("%s holds %q, want %q; there are %q", c.want, got, want, r.disk.Files())
			}
			if n := len(r.disk.Files()); want == "new\n" && n != len(strings.Fields(c.there))+1 || want != "new\n" && n != len(strings.Fields(c.there)) {
				t.Errorf("%d files: %q", n, r.disk.Files())
			}
		})
	}
}

func TestReopenBeginsTheNextNumberWhereTheSpecSaysSo(t *testing.T) {
	for _, again := range []bool{false, true} {
		r := newRig(t, Options{Idle: time.Minute})
		spec := webSpec()
		spec.RotateOnReopen, spec.WriteMeta = again, true
		p, other := r.open(spec), r.open(spec)
		r.put(p, "one")
		r.put(other, "two")
		r.files.Reopen()
		r.put(p, "three")
		r.put(other, "four")
		r.pass(p, time.Hour) // it is closed, which is no reason
		r.put(p, "five")
		r.files.Reopen()
		r.files.Reopen()
		r.put(other, "six")
		want := map[string]string{"web_00000": "one\ntwo\nthree\nfour\nfive\nsix\n"}
		if again {
			want = map[string]string{"web_00000": "one\ntwo\n", "web_00001": "three\nfour\nfive\n", "web_00002": "six\n"}
		}
		r.holds("/logs/web", want)
	}
}

func TestAFolderWithANumberIsPassedOver(t *testing.T) {
	r := newRig(t, Options{})
	if err := r.disk.MkdirAll("/logs/web/web_00003", 0o755); err != nil {
		t.Fatal(err)
	}
	r.put(r.open(webSpec()), "new")
	r.holds("/logs/web", map[string]string{"web_00004": "new\n"})
}

func TestALinkToTheNewestFileIsFollowed(t *testing.T) {
	r := newRig(t, Options{})
	r.file("/elsewhere/data", "before\n")
	if err := errors.Join(r.disk.MkdirAll("/logs/web", 0o755), r.disk.Symlink("/elsewhere/data", "/logs/web/web_00000")); err != nil {
		t.Fatal(err)
	}
	r.put(r.open(webSpec()), "new")
	r.holds("/elsewhere", map[string]string{"data": "before\nnew\n"})
}

func TestAFileWithATornLineIsNotAppendedTo(t *testing.T) {
	r := newRig(t, Options{})
	r.file("/logs/web/web_00000", "whole\nhalf a li")
	bare := webSpec()
	bare.AddNewlines = false
	p := r.open(bare)
	r.put(p, "ne")
	r.close(p)
	r.put(r.open(webSpec()), "whole")
	r.holds("/logs/web", map[string]string{"web_00000": "whole\nhalf a line", "web_00001": "whole\n"})
}

func TestTwoProcessesNeverWriteToOneFile(t *testing.T) {
	a := newRig(t, Options{})
	b := newRigOn(t, a.disk, Options{})
	spec := webSpec()
	spec.MaxSize = 6
	pa, pb := a.open(spec), b.open(spec)
	a.put(pa, "a0")
	b.put(pb, "b0")
	a.put(pa, "a1", "a2") // passes the size
	b.put(pb, "b1", "b2")
	a.put(pa, "a3")
	b.put(pb, "b3")
	a.holds("/logs/web", map[string]string{
		"web_00000": "a0\na1\na2\n",
		"web_00001": "b0\nb1\nb2\n",
		"web_00002": "a3\n",
		"web_00003": "b3\n",
	})
	a.close(pa)
	b.close(pb)
	c := newRigOn(t, a.disk, Options{})
	c.put(c.open(spec), "c0")
	if got := c.read("/logs/web/web_00003"); got != "b3\nc0\n" {
		t.Errorf("a later process writes on to the newest: %q", got)
	}
}

func TestTwoProcessesThatBeginAtOnceGetTwoNumbers(t *testing.T) {
	a := newRig(t, Options{})
	b := newRigOn(t, a.disk, Options{})
	pb := b.open(webSpec())
	a.fsys.Set(func(op faultfs.Op) error { // b is first, between a's look and a's file
		if op.Kind == faultfs.Create {
			a.fsys.Set(nil)
			b.put(pb, "b")
		}
		return nil
	})
	a.put(a.open(webSpec()), "a")
	a.holds("/logs/web", map[string]string{"web_00000": "b\n", "web_00001": "a\n"})
}

func TestAFileSystemWithoutLocksIsWrittenTo(t *testing.T) {
	r := newRig(t, Options{})
	r.fsys.Set(faultfs.On(faultfs.Lock, "", syscall.ENOLCK))
	r.put(r.open(webSpec()), "one")
	r.holds("/logs/web", map[string]string{"web_00000": "one\n"})
}

func TestTheLinkIsReplacedAtomicallyAndOnlyIfItIsOne(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.MaxSize = 1
	p := r.open(spec)
	missing := 0
	watch := func(op faultfs.Op) error {
		if _, err := r.disk.Readlink("/logs/web/web_current"); err != nil {
			missing++
		}
		return nil
	}
	r.put(p, "one")
	r.leads("web_00001")
	r.fsys.Set(watch)
	r.put(p, "two")
	r.put(p, "three")
	r.leads("web_00003")
	if missing > 0 {
		t.Errorf("the link was missing %d times", missing)
	}

	r = newRig(t, Options{})
	r.file("/logs/web/web_current", "somebody's file")
	r.put(r.open(webSpec()), "one")
	r.holds("/logs/web", map[string]string{"web_00000": "one\n", "web_current": "somebody's file"})
}

func TestACrashBetweenTheFileAndItsLinkIsMendedByTheNextStart(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Symlink, faultfs.Rename} {
		t.Run(string(kind), func(t *testing.T) {
			r := newRig(t, Options{})
			spec := webSpec()
			spec.MaxSize = 1
			p := r.open(spec)
			r.put(p, "one")
			died := errors.New("the process died")
			r.fsys.Set(func(op faultfs.Op) error { // nothing is done from that moment on
				if op.Kind == kind {
					r.fsys.Set(func(faultfs.Op) error { return died })
					return died
				}
				return nil
			})
			p.Append(r.ctx(), storetest.Batch(2, "two"))
			r.leads("web_00001")
			next := newRigOn(t, r.disk, Options{})
			q := next.open(spec)
			r.fsys.Set(nil)
			r.close(p) // the kernel gives the dead process's lock back
			next.put(q, "three")
			next.leads("web_00003")
			next.holds("/logs/web", map[string]string{
				"web_00000": "one\n", "web_00001": "two\n", "web_00002": "three\n", "web_00003": "",
			})
			if entries, err := next.disk.ReadDir("/logs/web"); err != nil || len(entries) != 5 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

func TestARemovedFileIsOpenedAnew(t *testing.T) {
	steps := map[string]func(r *rig) error{
		"the file is removed": func(r *rig) error { return r.disk.Remove("/logs/web/web_00000") },
		"the file is moved":   func(r *rig) error { return r.disk.Rename("/logs/web/web_00000", "/logs/web/old") },
		"the folder is moved": func(r *rig) error { return r.disk.Rename("/logs/web", "/logs/old") },
		"another folder is there": func(r *rig) error {
			return errors.Join(r.disk.Rename("/logs/web", "/logs/old"), r.disk.Mkdir("/logs/web", 0o755))
		},
	}
	for what, step := range steps {
		for _, ticks := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tick=%v", strings.ReplaceAll(what, " ", "-"), ticks), func(t *testing.T) {
				r := newRig(t, Options{})
				p := r.open(webSpec())
				r.put(p, "before")
				if err := step(r); err != nil {
					t.Fatal(err)
				}
				if ticks {
					r.tick(p)
					if s := r.files.Stats(); s.Lost != 1 || s.Open != 0 {
						t.Errorf("after the tick: %+v", s)
					}
				}
				r.put(p, "after")
				if got := r.read("/logs/web/web_00000"); got != "after\n" {
					t.Errorf("the new file holds %q", got)
				}
				r.leads("web_00000")
				if s := r.files.Stats(); s.Lost != 1 || s.Opened != 2 || s.Open != 1 {
					t.Errorf("figures: %+v", s)
				}
			})
		}
	}
}

func TestAFileThatSomebodyEmptiedGoesOnAtItsEnd(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.MaxSize = 20
	p := r.open(spec)
	r.put(p, "some twenty bytes")
	f, err := r.disk.OpenFile("/logs/web/web_00000", os.O_WRONLY, 0)
	if err = errors.Join(err, f.Truncate(0)); err != nil {
		t.Fatal(err)
	}
	r.put(p, "after")
	r.holds("/logs/web", map[string]string{"web_00000": "after\n"})
}

func TestIdleFilesGiveTheirDescriptorsBackAndGoOn(t *testing.T) {
	r := newRig(t, Options{Idle: time.Minute})
	spec := webSpec()
	spec.RotateOnReopen, spec.WriteStats = true, true
	p := r.open(spec)
	r.put(p, "one")
	r.pass(p, time.Minute)
	if s := r.files.Stats(); s.Open != 0 {
		t.Fatalf("idle: %+v", s)
	}
	r.put(p, "two")
	r.holds("/logs/web", map[string]string{"web_00000": "one\ntwo\n"})
	if s := r.files.Stats(); s.Open != 1 || s.Opened != 1 {
		t.Errorf("figures: %+v", s)
	}
	r.pass(p, time.Minute)
	if err := r.disk.Rename("/logs/web/web_00000", "/logs/web/moved"); err != nil {
		t.Fatal(err)
	}
	r.put(p, "three")
	if got := r.read("/logs/web/web_00000"); got != "three\n" {
		t.Errorf("after the idle file was moved: %q", got)
	}
}

func TestIdleFilesAreReplacedByTimeToo(t *testing.T) {
	r := newRig(t, Options{Idle: time.Minute})
	spec := webSpec()
	spec.Rotate, spec.WriteMeta, spec.WriteStats = Daily, true, true
	p := r.open(spec)
	r.put(p, "one")
	r.pass(p, time.Minute)
	if s := r.files.Stats(); s.Open != 0 {
		t.Fatalf("idle: %+v", s)
	}
	r.pass(p, 24*time.Hour)
	r.holds("/logs/web", map[string]string{
		"web-2026-11-28_00000": "one\nscribe_meta<new_logfile>: /logs/web/web-2026-11-29_00000\n",
		"web-2026-11-29_00000": "",
		"scribe_stats":         "2026-11-29-10:31 wrote <4> bytes in <1> events to file </logs/web/web-2026-11-28_00000>\n",
	})
	if s := r.files.Stats(); s.Open > 1 || s.Rotations != 1 {
		t.Errorf("figures: %+v", s)
	}
}

func TestAnIdleFileThatAnotherProcessTookIsLeftToIt(t *testing.T) {
	a := newRig(t, Options{Idle: time.Minute})
	p := a.open(webSpec())
	a.put(p, "a")
	a.pass(p, time.Minute)
	b := newRigOn(t, a.disk, Options{})
	b.put(b.open(webSpec()), "b")
	a.put(p, "a again")
	a.holds("/logs/web", map[string]string{"web_00000": "a\nb\n", "web_00001": "a again\n"})
}

func TestOpenFilesAreBounded(t *testing.T) {
	const most, chains = 4, 20
	r := newRig(t, Options{MaxOpen: most})
	var places []*Place
	for i := range chains {
		spec := webSpec()
		spec.Path, spec.Base, spec.Symlink = fmt.Sprint("/logs/c", i), fmt.Sprint("c", i), ""
		places = append(places, r.open(spec))
	}
	for round := range 3 {
		for i, p := range places {
			r.now = r.now.Add(time.Second)
			r.put(p, fmt.Sprint("c", i, " round ", round))
			if s := r.files.Stats(); s.Open > most {
				t.Fatalf("%d files are open", s.Open)
			}
		}
	}
	for i := range places {
		if got, want := r.read(fmt.Sprintf("/logs/c%d/c%d_00000", i, i)), fmt.Sprintf("c%d round 0\nc%d round 1\nc%d round 2\n", i, i, i); got != want {
			t.Errorf("chain %d: %q", i, got)
		}
	}
	for _, p := range places[chains-most:] { // all that are open are being written to
		p.w.turn <- struct{}{}
	}
	if _, err := r.refused(places[0], "one too many"); !strings.Contains(err.Error(), "File open error") || !errors.Is(err, errTooMany) {
		t.Errorf("refused with %v", err)
	}
	places[chains-1].w.give()
	r.put(places[0], "one too many")
	for _, p := range places[chains-most : chains-1] {
		p.w.give()
	}
	for _, p := range places {
		r.close(p)
	}
	if s := r.files.Stats(); s.Open != 0 {
		t.Errorf("%d files are open at the end", s.Open)
	}
}

func TestARestingPlaceClosesItsFile(t *testing.T) {
	r := newRig(t, Options{})
	spec := webSpec()
	spec.RotateOnReopen = true
	p, other := r.open(spec), r.open(spec)
	r.put(p, "one")
	r.now = r.now.Add(time.Second)
	p.Rest()
	r.now = r.now.Add(time.Second)
	r.put(other, "another chain goes on")
	r.tick(p)
	r.put(p, "back")
	r.now = r.now.Add(time.Second)
	p.Rest()
	r.pass(p, time.Second)
	if s := r.files.Stats(); s.Open != 0 {
		t.Errorf("resting: %+v", s)
	}
	r.put(p, "anew")
	r.holds("/logs/web", map[string]string{"web_00000": "one\nanother chain goes on\nback\n", "web_00001": "anew\n"})
}

func TestWaitingForAnotherChainEndsWithTheContext(t *testing.T) {
	r := newRig(t, Options{})
	p, other := r.open(webSpec()), r.open(webSpec())
	entered, release, done := make(chan faultfs.Op), make(chan struct{}), make(chan error)
	r.fsys.Set(faultfs.Stall(faultfs.Write, "", entered, release))
	go func() {
		_, err := other.Append(r.ctx(), storetest.Batch(1, "slow"))
		done <- err
	}()
	<-entered
	r.tick(p) // does not wait
	ctx, cancel := context.WithTimeout(r.ctx(), 20*time.Millisecond)
	defer cancel()
	b := storetest.Batch(1, "held up")
	if rest, err := p.Append(ctx, b); rest != b || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("rest %v, error %v", rest, err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.holds("/logs/web", map[string]string{"web_00000": "slow\n"})
}
