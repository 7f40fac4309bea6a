// Package clustertest holds what every kind of cluster must pass (Run) and a
// wrapper that makes any cluster fail (Fault).
//
// It leaves to others: faults below a kind (its network, its disk), which the
// kind's own tests inject.
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"twinscribe/store/cluster"
)

// patience is how long a test waits for what a cluster does in the background
// (a lease recovery takes seconds on a real one).
const patience = 90 * time.Second

// Run checks that a kind of cluster does what package cluster promises. open
// returns a healthy, writable cluster and takes care of closing it. Its root
// may hold other files: each test works in a folder of its own.
func Run(t *testing.T, open func(t *testing.T) cluster.Cluster) {
	for _, test := range []struct {
		name string
		run  func(s *subject)
	}{
		{"CreatedFileHoldsWhatWasAppended", createdFileHoldsWhatWasAppended},
		{"CreateRefusesANameThatExists", createRefusesANameThatExists},
		{"LengthsOddAndEvenComeBack", lengthsOddAndEvenComeBack},
		{"EmptySlicesAndManySlicesAreOneAppend", emptySlicesAndManySlices},
		{"AppendsBeyondABlockComeBack", appendsBeyondABlock},
		{"AppendKeepsNothingOfTheCallers", appendKeepsNothing},
		{"PublishShowsWhatIsAcknowledged", publishShowsWhatIsAcknowledged},
		{"PublishMayRunBesideAppend", publishBesideAppend},
		{"SealIsFinalAndMayBeAskedTwice", sealIsFinal},
		{"EmptyFileSealsToNoBytes", emptyFileSeals},
		{"AbortEndsWriting", abortEndsWriting},
		{"AbortDuringAnAppendEndsItOrComesTooLate", abortDuringAnAppend},
		{"ManyFilesAreWrittenAtOnce", manyFilesAtOnce},
		{"RenameMovesAndNeverReplaces", renameNeverReplaces},
		{"ReplaceIsWholeForEveryReader", replaceIsWhole},
		{"RecoverAfterAbortKeepsWhatIsAcknowledged", recoverAfterAbort},
		{"RecoverFencesALivingWriter", recoverFencesALivingWriter},
		{"RecoverOfAClosedOrMissingFile", recoverOfClosedAndMissing},
		{"TruncateCutsToAnyLength", truncateCuts},
		{"RemoveOfAMissingFileIsNoError", removeOfMissing},
		{"MissingFilesAreErrNotExist", missingFiles},
		{"ListIsInByteOrder", listIsInByteOrder},
		{"PathsOutsideTheRootAreRefused", pathsOutsideTheRoot},
		{"AnEndedContextEndsEveryCall", endedContext},
		{"ReadersReadAtEveryOffset", readersReadAt},
		{"ProbesLeaveNothingBehind", probesLeaveNothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c := open(t)
			s := &subject{T: t, Cluster: c, ctx: ctx, folder: fmt.Sprintf("clustertest-%016x", rand.Uint64())}
			defer s.sweep()
			test.run(s)
		})
	}
}

// subject is one test's cluster and folder.
type subject struct {
	*testing.T
	cluster.Cluster
	ctx    context.Context
	folder string
}

// path is a path in the test's folder.
func (s *subject) path(name string) string { return s.folder + "/" + name }

// sweep removes what the test made.
func (s *subject) sweep() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), patience)
	defer cancel()
	var walk func(folder string)
	walk = func(folder string) {
		list, err := s.Cluster.List(ctx, folder)
		if err != nil {
			return
		}
		for _, i := range list {
			if i.Folder {
				walk(folder + "/" + i.Name)
				continue
			}
			_ = s.Cluster.Remove(ctx, folder+"/"+i.Name) // tidying is all it is
		}
	}
	walk(s.folder)
}

func (s *subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *subject) create(name string) cluster.File {
	s.Helper()
	f, err := s.Create(s.ctx, s.path(name), cluster.FileOptions{})
	s.must(err)
	s.Cleanup(f.Abort)
	return f
}

// write makes a sealed file.
func (s *subject) write(name string, content []byte) {
	s.Helper()
	f := s.create(name)
	s.must(f.Append(s.ctx, [][]byte{content}))
	s.must(f.Seal(s.ctx))
}

func (s *subject) read(name string) []byte {
	s.Helper()
	r, err := s.Open(s.ctx, s.path(name))
	s.must(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	s.must(err)
	return b
}

// holds checks the content of a closed file, and what Stat says of it.
func (s *subject) holds(name string, want []byte) {
	s.Helper()
	if got := s.read(name); !bytes.Equal(got, want) {
		s.Fatalf("%s holds %d bytes %s, want %d bytes %s", name, len(got), start(got), len(want), start(want))
	}
	info, err := s.Stat(s.ctx, s.path(name))
	s.must(err)
	if info.Size != int64(len(want)) || info.Folder {
		s.Fatalf("Stat of %s = %+v, want a file of %d bytes", name, info, len(want))
	}
}

func start(b []byte) string { return fmt.Sprintf("%.40q", b) }

func (s *subject) wantErr(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func (s *subject) wantSomeErr(what string, err error) {
	s.Helper()
	if err == nil {
		s.Fatalf("%s: no error, want one", what)
	}
}

// recover asks until the file is closed.
func (s *subject) recover(name string) {
	s.Helper()
	for {
		closed, err := s.Recover(s.ctx, s.path(name))
		s.must(err)
		if closed {
			return
		}
		s.pause()
	}
}

// pause is the half second that Recover's callers let pass.
func (s *subject) pause() {
	s.Helper()
	select {
	case <-s.ctx.Done():
		s.Fatal("the cluster has not closed the file in time")
	case <-time.After(200 * time.Millisecond):
	}
}

// text is n bytes that differ from place to place.
func text(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%07x\n", i)
	}
	return b[:n]
}
