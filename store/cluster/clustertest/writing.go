package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"twinscribe/store/cluster"
)

func createdFileHoldsWhatWasAppended(s *subject) {
	name := "web%2Faccess/dt=2026-11-22/hr=10/_20261122T1007Z-ag1-0000002a.7f3c91d2-00017.log.open"
	f, err := s.Create(s.ctx, s.path(name), cluster.FileOptions{Begin: true})
	s.must(err)
	var want []byte
	for i := range 5 {
		line := fmt.Appendf(nil, "message %d\n", i)
		s.must(f.Append(s.ctx, [][]byte{line}))
		want = append(want, line...)
		if f.Acked() != int64(len(want)) {
			s.Fatalf("Acked() = %d after %d bytes", f.Acked(), len(want))
		}
		if f.Replicas() < 1 {
			s.Fatalf("Replicas() = %d while a block is being written", f.Replicas())
		}
	}
	s.must(f.Seal(s.ctx))
	s.holds(name, want)
	info, err := s.Stat(s.ctx, s.path("web%2Faccess/dt=2026-11-22/hr=10"))
	s.must(err)
	if !info.Folder || info.Name != "hr=10" {
		s.Fatalf("Stat of a folder that Create made = %+v", info)
	}
}

func createRefusesANameThatExists(s *subject) {
	s.write("closed", []byte("kept\n"))
	_, err := s.Create(s.ctx, s.path("closed"), cluster.FileOptions{})
	s.wantErr("Create onto a closed file", err, fs.ErrExist)
	s.holds("closed", []byte("kept\n"))

	f := s.create("open")
	_, err = s.Create(s.ctx, s.path("open"), cluster.FileOptions{})
	s.wantSomeErr("Create onto an open file", err)
	s.must(f.Append(s.ctx, [][]byte{[]byte("goes on\n")}))
	s.must(f.Seal(s.ctx))
	s.holds("open", []byte("goes on\n"))
}

func lengthsOddAndEvenComeBack(s *subject) {
	f := s.create("lengths")
	var want []byte
	for _, n := range []int{1, 511, 512, 513, 1, 1023, 1024, 65535, 65536, 65537, 3, 1 << 20, 1<<20 + 1, 7} {
		p := text(n)
		s.must(f.Append(s.ctx, [][]byte{p}))
		want = append(want, p...)
	}
	s.must(f.Seal(s.ctx))
	s.holds("lengths", want)
}

func emptySlicesAndManySlices(s *subject) {
	f := s.create("slices")
	var want []byte
	s.must(f.Append(s.ctx, nil))
	s.must(f.Append(s.ctx, [][]byte{nil, {}}))
	if f.Acked() != 0 {
		s.Fatalf("Acked() = %d after appends of nothing", f.Acked())
	}
	var many [][]byte
	for i := range 3000 {
		b := text(i % 5)
		many = append(many, b)
		want = append(want, b...)
	}
	s.must(f.Append(s.ctx, many))
	s.must(f.Append(s.ctx, [][]byte{nil, []byte("last"), {}}))
	want = append(want, "last"...)
	if f.Acked() != int64(len(want)) {
		s.Fatalf("Acked() = %d, want %d", f.Acked(), len(want))
	}
	s.must(f.Seal(s.ctx))
	s.holds("slices", want)
}

func appendsBeyondABlock(s *subject) {
	f, err := s.Create(s.ctx, s.path("blocks"), cluster.FileOptions{BlockSize: 1 << 20})
	s.must(err)
	s.Cleanup(f.Abort)
	var want []byte
	for _, n := range []int{700_001, 700_003, 2_500_009, 5} {
		p := text(n)
		s.must(f.Append(s.ctx, [][]byte{p}))
		want = append(want, p...)
	}
	s.must(f.Seal(s.ctx))
	s.holds("blocks", want)
}

func appendKeepsNothing(s *subject) {
	f := s.create("arena")
	arena := make([]byte, 70_000)
	var want []byte
	for i := range 4 {
		for j := range arena {
			arena[j] = byte('a' + i)
		}
		before := bytes.Clone(arena)
		s.must(f.Append(s.ctx, [][]byte{arena[:100], arena[100:]}))
		if !bytes.Equal(arena, before) {
			s.Fatal("Append changed the caller's bytes")
		}
		want = append(want, arena...)
	}
	for j := range arena {
		arena[j] = 'X'
	}
	s.must(f.Seal(s.ctx))
	s.holds("arena", want)
}

func publishShowsWhatIsAcknowledged(s *subject) {
	f := s.create("published")
	var want []byte
	for i := range 3 {
		p := text(1000 + i)
		s.must(f.Append(s.ctx, [][]byte{p}))
		want = append(want, p...)
		s.must(f.Publish(s.ctx))
		info, err := s.Stat(s.ctx, s.path("published"))
		s.must(err)
		if info.Size < f.Acked() {
			s.Fatalf("Stat says %d bytes after Publish of %d", info.Size, f.Acked())
		}
		if got := s.read("published"); !bytes.HasPrefix(got, want) {
			s.Fatalf("a reader of the open file gets %d bytes %s, want the %d published", len(got), start(got), len(want))
		}
	}
	s.must(f.Seal(s.ctx))
	s.holds("published", want)
}

func publishBesideAppend(s *subject) {
	f := s.create("beside")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			acked := f.Acked()
			if err := f.Publish(s.ctx); err != nil {
				stopped <- err
				return
			}
			if info, err := s.Stat(s.ctx, s.path("beside")); err != nil || info.Size < acked {
				stopped <- fmt.Errorf("Stat after Publish of %d bytes = %+v, %w", acked, info, err)
				return
			}
		}
	}()
	var want []byte
	for i := range 40 {
		p := text(500 + i)
		s.must(f.Append(s.ctx, [][]byte{p}))
		want = append(want, p...)
	}
	close(stop)
	s.must(<-stopped)
	s.must(f.Seal(s.ctx))
	s.holds("beside", want)
}

func sealIsFinal(s *subject) {
	f := s.create("sealed")
	s.must(f.Append(s.ctx, [][]byte{[]byte("all there is\n")}))
	s.must(f.Seal(s.ctx))
	s.must(f.Seal(s.ctx))
	s.wantSomeErr("Append after Seal", f.Append(s.ctx, [][]byte{[]byte("more\n")}))
	f.Abort() // too late to do anything
	if f.Acked() != int64(len("all there is\n")) {
		s.Fatalf("Acked() = %d after Seal", f.Acked())
	}
	s.holds("sealed", []byte("all there is\n"))
}

func emptyFileSeals(s *subject) {
	f := s.create("empty")
	s.must(f.Seal(s.ctx))
	s.holds("empty", nil)

	begun, err := s.Create(s.ctx, s.path("begun"), cluster.FileOptions{Begin: true})
	s.must(err)
	s.must(begun.Seal(s.ctx))
	s.holds("begun", nil)
}

func abortEndsWriting(s *subject) {
	f := s.create("aborted")
	s.must(f.Append(s.ctx, [][]byte{[]byte("acknowledged\n")}))
	f.Abort()
	f.Abort()
	s.wantSomeErr("Append after Abort", f.Append(s.ctx, [][]byte{[]byte("more\n")}))
	s.wantSomeErr("Seal after Abort", f.Seal(s.ctx))
	if f.Acked() != int64(len("acknowledged\n")) {
		s.Fatalf("Acked() = %d after Abort", f.Acked())
	}
	s.recover("aborted")
	s.holds("aborted", []byte("acknowledged\n"))
}

func abortDuringAnAppend(s *subject) {
	f := s.create("raced")
	p := text(1 << 20)
	ended := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			if err := f.Append(s.ctx, [][]byte{p}); err != nil {
				ended <- err
				return
			}
			if i == 0 {
				close(began)
			}
		}
	}()
	<-began
	f.Abort()
	if err := <-ended; err == nil || s.ctx.Err() != nil {
		s.Fatalf("appends after Abort end with %v", err)
	}
	acked := f.Acked()
	s.recover("raced")
	if got := s.read("raced"); int64(len(got)) < acked || !bytes.HasPrefix(got, p) {
		s.Fatalf("%d bytes are left of %d acknowledged", len(got), acked)
	}
}

func manyFilesAtOnce(s *subject) {
	const files, appends = 48, 6
	errs := make([]error, files)
	var wait sync.WaitGroup
	for i := range files {
		wait.Go(func() { errs[i] = s.writeOne(fmt.Sprintf("many/%d/%02d", i%5, i), i, appends) })
	}
	wait.Wait()
	s.must(errors.Join(errs...))
	for i := range files {
		var want []byte
		for j := range appends {
			want = append(want, text(1+(i*j*101)%9000)...)
		}
		s.holds(fmt.Sprintf("many/%d/%02d", i%5, i), want)
	}
}

func (s *subject) writeOne(name string, i, appends int) error {
	f, err := s.Create(s.ctx, s.path(name), cluster.FileOptions{Begin: i%2 == 0})
	if err != nil {
		return err
	}
	defer f.Abort()
	for j := range appends {
		if err := f.Append(s.ctx, [][]byte{text(1 + (i*j*101)%9000)}); err != nil {
			return err
		}
	}
	return f.Seal(s.ctx)
}

func endedContext(s *subject) {
	s.write("there", []byte("content\n"))
	f := s.create("open")
	s.must(f.Append(s.ctx, [][]byte{[]byte("acknowledged\n")}))
	ended, cancel := context.WithCancel(s.ctx)
	cancel()

	_, err := s.Create(ended, s.path("new"), cluster.FileOptions{Begin: true})
	s.wantSomeErr("Create", err)
	s.wantSomeErr("Rename", s.Rename(ended, s.path("there"), s.path("elsewhere")))
	s.wantSomeErr("Replace", s.Replace(ended, s.path("there"), []byte("other\n")))
	_, err = s.Stat(ended, s.path("there"))
	s.wantSomeErr("Stat", err)
	_, err = s.List(ended, s.folder)
	s.wantSomeErr("List", err)
	_, err = s.Open(ended, s.path("there"))
	s.wantSomeErr("Open", err)
	_, err = s.Truncate(ended, s.path("there"), 0)
	s.wantSomeErr("Truncate", err)
	s.wantSomeErr("Remove", s.Remove(ended, s.path("there")))
	s.wantSomeErr("Ping", s.Ping(ended))
	s.wantSomeErr("ProbeBlock", s.ProbeBlock(ended))

	err = f.Append(ended, [][]byte{[]byte("more\n")})
	s.wantSomeErr("Append", err)
	if errors.Is(err, cluster.ErrNotTried) {
		s.must(f.Append(s.ctx, [][]byte{[]byte("goes on\n")}))
	}
	if got := f.Acked(); got < int64(len("acknowledged\n")) {
		s.Fatalf("Acked() = %d: it shrank", got)
	}
	s.holds("there", []byte("content\n"))
}
