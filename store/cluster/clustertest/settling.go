package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"twinscribe/store/cluster"
)

func renameNeverReplaces(s *subject) {
	s.write("_open", []byte("one\n"))
	s.write("taken", []byte("two\n"))
	s.wantErr("Rename onto a file", s.Rename(s.ctx, s.path("_open"), s.path("taken")), fs.ErrExist)
	s.holds("_open", []byte("one\n"))
	s.holds("taken", []byte("two\n"))

	s.must(s.Rename(s.ctx, s.path("_open"), s.path("final")))
	s.holds("final", []byte("one\n"))
	_, err := s.Stat(s.ctx, s.path("_open"))
	s.wantErr("Stat of the old name", err, fs.ErrNotExist)
	// What a caller sees that repeats a rename whose answer was lost.
	s.wantErr("Rename again", s.Rename(s.ctx, s.path("_open"), s.path("final")), fs.ErrNotExist)
	s.wantErr("Rename of a missing file", s.Rename(s.ctx, s.path("missing"), s.path("other")), fs.ErrNotExist)
	s.holds("final", []byte("one\n"))

	s.must(s.Rename(s.ctx, s.path("final"), s.path("other/folder/name")))
	s.holds("other/folder/name", []byte("one\n"))
	s.write("_open", []byte("three\n"))
	s.wantErr("Rename onto a file elsewhere", s.Rename(s.ctx, s.path("_open"), s.path("other/folder/name")), fs.ErrExist)
	s.wantErr("Rename of a missing file elsewhere", s.Rename(s.ctx, s.path("missing"), s.path("third/name")), fs.ErrNotExist)
	s.holds("other/folder/name", []byte("one\n"))
}

func replaceIsWhole(s *subject) {
	const name = "deep/er/inventory.json"
	versions := [][]byte{text(10), text(100_000), nil, text(3), text(65_536)}
	s.must(s.Replace(s.ctx, s.path(name), versions[0]))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- s.watch(name, versions, stop) }()
	for range 4 {
		for _, v := range versions {
			s.must(s.Replace(s.ctx, s.path(name), v))
			s.holds(name, v)
		}
	}
	close(stop)
	s.must(<-stopped)
	list, err := s.List(s.ctx, s.path("deep/er"))
	s.must(err)
	if len(list) != 1 {
		s.Fatalf("Replace left %v behind", list)
	}
}

// watch reads a file over and over and wants one of the versions each time.
func (s *subject) watch(name string, versions [][]byte, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		got, err := s.readOnce(name)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("a reader finds no file while it is replaced: %w", err)
		}
		if err != nil {
			continue // the version that was opened is gone: a reader opens again
		}
		if !slices.ContainsFunc(versions, func(v []byte) bool { return bytes.Equal(v, got) }) {
			return fmt.Errorf("a reader sees %d bytes, which are no version", len(got))
		}
	}
}

func (s *subject) readOnce(name string) ([]byte, error) {
	r, err := s.Open(s.ctx, s.path(name))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func recoverAfterAbort(s *subject) {
	for _, n := range []int{0, 1, 513, 100_000} {
		name := fmt.Sprintf("torn-%d", n)
		f, err := s.Create(s.ctx, s.path(name), cluster.FileOptions{Begin: true})
		s.must(err)
		want := text(n)
		if n > 0 {
			s.must(f.Append(s.ctx, [][]byte{want}))
		}
		f.Abort()
		s.recover(name)
		if got := s.read(name); !bytes.HasPrefix(got, want) {
			s.Fatalf("%d bytes %s are left of %d acknowledged", len(got), start(got), n)
		}
		info, err := s.Stat(s.ctx, s.path(name))
		s.must(err)
		if info.Size < int64(n) {
			s.Fatalf("Stat says %d bytes, %d were acknowledged", info.Size, n)
		}
	}
}

func recoverFencesALivingWriter(s *subject) {
	f := s.create("zombie")
	want := text(5000)
	s.must(f.Append(s.ctx, [][]byte{want}))
	s.recover("zombie")
	s.wantSomeErr("Append of a fenced writer", f.Append(s.ctx, [][]byte{[]byte("from the grave\n")}))
	s.holds("zombie", want)
	if f.Acked() != int64(len(want)) {
		s.Fatalf("Acked() = %d, want %d", f.Acked(), len(want))
	}
}

func recoverOfClosedAndMissing(s *subject) {
	s.write("closed", []byte("done\n"))
	closed, err := s.Recover(s.ctx, s.path("closed"))
	s.must(err)
	if !closed {
		s.Fatal("Recover of a sealed file says that it is not closed")
	}
	s.holds("closed", []byte("done\n"))
	_, err = s.Recover(s.ctx, s.path("missing"))
	s.wantErr("Recover of a missing file", err, fs.ErrNotExist)
}

func truncateCuts(s *subject) {
	content := text(100_000)
	for _, size := range []int64{0, 1, 511, 512, 65_537, 99_999, 100_000} {
		name := fmt.Sprintf("cut-%d", size)
		s.write(name, content)
		done, err := s.Truncate(s.ctx, s.path(name), size)
		s.must(err)
		if !done {
			s.recover(name)
		}
		s.holds(name, content[:size])
	}
	_, err := s.Truncate(s.ctx, s.path("missing"), 0)
	s.wantErr("Truncate of a missing file", err, fs.ErrNotExist)
}

func removeOfMissing(s *subject) {
	s.write("file", []byte("content\n"))
	s.must(s.Remove(s.ctx, s.path("file")))
	_, err := s.Stat(s.ctx, s.path("file"))
	s.wantErr("Stat of a removed file", err, fs.ErrNotExist)
	s.must(s.Remove(s.ctx, s.path("file")))
	s.must(s.Remove(s.ctx, s.path("no/such/folder/file")))
}

func missingFiles(s *subject) {
	_, err := s.Stat(s.ctx, s.path("missing"))
	s.wantErr("Stat", err, fs.ErrNotExist)
	_, err = s.Open(s.ctx, s.path("missing"))
	s.wantErr("Open", err, fs.ErrNotExist)
	_, err = s.Open(s.ctx, s.path("no/such/folder/file"))
	s.wantErr("Open in a missing folder", err, fs.ErrNotExist)
	list, err := s.List(s.ctx, s.path("no/such/folder"))
	s.must(err)
	if len(list) != 0 {
		s.Fatalf("List of a missing folder = %v", list)
	}
}

func listIsInByteOrder(s *subject) {
	want := []string{"%5Fx", "0", "10", "9", "A", "_a.open", "_b", "a", "a-b", "a.b", "ab", "b", "folder"}
	for i := range want {
		name := want[(i*5)%len(want)] // in no order
		if name == "folder" {
			s.write("folder/inside", []byte("x"))
			continue
		}
		s.write(name, text(i))
	}
	list, err := s.List(s.ctx, s.folder)
	s.must(err)
	var got []string
	for _, i := range list {
		got = append(got, i.Name)
		if i.Folder != (i.Name == "folder") {
			s.Errorf("List says of %s: Folder = %v", i.Name, i.Folder)
		}
		if i.Modified.IsZero() {
			s.Errorf("List knows no time of %s", i.Name)
		}
		info, err := s.Stat(s.ctx, s.path(i.Name))
		s.must(err)
		if !i.Folder && info.Size != i.Size {
			s.Errorf("List says %d bytes of %s, Stat %d", i.Size, i.Name, info.Size)
		}
	}
	if !slices.Equal(got, want) {
		s.Fatalf("List = %q, want %q", got, want)
	}
	root, err := s.List(s.ctx, ".")
	s.must(err)
	if !slices.ContainsFunc(root, func(i cluster.Info) bool { return i.Name == s.folder && i.Folder }) {
		s.Fatalf("List of the root = %v, without %s", root, s.folder)
	}
}

func pathsOutsideTheRoot(s *subject) {
	s.write("inside", []byte("kept\n"))
	for _, bad := range []string{"../clustertest-outside", "a/../../clustertest-outside", "/tmp/clustertest-outside", ".."} {
		_, err := s.Create(s.ctx, bad, cluster.FileOptions{})
		s.wantSomeErr("Create "+bad, err)
		s.wantSomeErr("Replace "+bad, s.Replace(s.ctx, bad, []byte("x")))
		s.wantSomeErr("Rename to "+bad, s.Rename(s.ctx, s.path("inside"), bad))
		s.wantSomeErr("Rename from "+bad, s.Rename(s.ctx, bad, s.path("other")))
		s.wantSomeErr("Remove "+bad, s.Remove(s.ctx, bad))
		_, err = s.Stat(s.ctx, bad)
		s.wantSomeErr("Stat "+bad, err)
		_, err = s.List(s.ctx, bad)
		s.wantSomeErr("List "+bad, err)
		_, err = s.Open(s.ctx, bad)
		s.wantSomeErr("Open "+bad, err)
		_, err = s.Recover(s.ctx, bad)
		s.wantSomeErr("Recover "+bad, err)
		_, err = s.Truncate(s.ctx, bad, 0)
		s.wantSomeErr("Truncate "+bad, err)
	}
	s.holds("inside", []byte("kept\n"))
}

func readersReadAt(s *subject) {
	content := text(200_000)
	s.write("read", content)
	r, err := s.Open(s.ctx, s.path("read"))
	s.must(err)
	defer r.Close()
	for _, at := range []int{199_990, 0, 1, 511, 65_536, 131_071, 100} {
		got := make([]byte, 1000)
		n, err := r.ReadAt(got, int64(at))
		want := content[at:min(at+1000, len(content))]
		if !bytes.Equal(got[:n], want) {
			s.Fatalf("ReadAt %d = %d bytes %s, want %s", at, n, start(got[:n]), start(want))
		}
		if n < len(got) && !errors.Is(err, io.EOF) {
			s.Fatalf("ReadAt behind the end: error %v, want io.EOF", err)
		}
		if n == len(got) && err != nil && !errors.Is(err, io.EOF) {
			s.Fatalf("ReadAt %d: %v", at, err)
		}
	}
	all, err := io.ReadAll(r)
	s.must(err)
	if !bytes.Equal(all, content) {
		s.Fatalf("reading from the beginning gives %d bytes, want %d", len(all), len(content))
	}
}

func probesLeaveNothing(s *subject) {
	s.write("file", []byte("content\n"))
	before, err := s.List(s.ctx, ".")
	s.must(err)
	s.must(s.Ping(s.ctx))
	s.must(s.ProbeBlock(s.ctx))
	s.must(s.ProbeBlock(s.ctx))
	after, err := s.List(s.ctx, ".")
	s.must(err)
	names := func(list []cluster.Info) (n []string) {
		for _, i := range list {
			if i.Name != ".Trash" && !isClustertest(i.Name, s.folder) {
				n = append(n, i.Name)
			}
		}
		return n
	}
	if !slices.Equal(names(before), names(after)) {
		s.Fatalf("the root holds %q after the probes, %q before", names(after), names(before))
	}
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	s.wantSomeErr("Ping with an ended context", s.Ping(ended))
	if s.Counters() == nil {
		s.Fatal("Counters() is nil")
	}
	if s.Name() == "" {
		s.Fatal("the cluster has no name")
	}
}

// isClustertest says whether a folder belongs to another test at work in the same root.
func isClustertest(name, own string) bool {
	return name != own && len(name) == len(own) && name[:12] == own[:12]
}
