//go:build integration

package dropin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

const (
	stop   = syscall.SIGSTOP
	resume = syscall.SIGCONT
)

// TestD4SlowCategory: a category whose store takes nothing is refused when its queue is full; all others
// are taken.
func TestD4SlowCategory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free := blocked(t, filepath.Join(dir, "slow"))
	s := started(t, "max_queue_size=65536\n"+store("category=slow", "type=file", "file_path="+filepath.Join(dir, "slow"), "add_newlines=1")+filing(filepath.Join(dir, "fast")))
	c, err := lab.Dial(s.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	taken := 0
	for ; taken < 1000; taken++ {
		ok, err := c.Log([]lab.Entry{entry("slow", fmt.Sprintf("%01000d", taken))}, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
	}
	if taken < 40 || taken == 1000 {
		t.Fatalf("%d messages of 1000 bytes were taken with a queue of 65536", taken)
	}
	counted(t, s, "slow:denied for queue size", 1)
	send(t, s, "fast", 0, 5000)
	inOrder(t, filepath.Join(dir, "fast", "fast"), "fast", "fast", 5000)
	if ok, err := tryLog(s, entry("fast", "not alone"), entry("slow", "m")); ok || err != nil {
		t.Errorf("a call with both: OK %v, %v, want TRY_LATER", ok, err)
	}
	free()
	waitFor(t, func() bool { return len(lines(t, filepath.Join(dir, "slow"), "slow")) == taken },
		func() string {
			return fmt.Sprintf("%d of %d messages", len(lines(t, filepath.Join(dir, "slow"), "slow")), taken)
		})
	log(t, s, entry("slow", "again"))
	if bytes.Contains(lab.ScribeText(t, filepath.Join(dir, "fast", "fast"), "fast"), []byte("not alone")) {
		t.Error("a part of a refused call was stored")
	}
}

// TestK2MustSucceed: with must_succeed=no what a store refuses is dropped, and counted as lost.
func TestK2MustSucceed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blocked(t, filepath.Join(dir, "away"))
	s := started(t, store("category=lossy", "must_succeed=no", "type=file", "file_path="+filepath.Join(dir, "away")))
	send(t, s, "lossy", 0, 100)
	counted(t, s, "lossy:lost", 100)
	counted(t, s, "scribe_overall:lost", 100)
}

// TestD17NewCategories: a call that brings hundreds of categories, whose store cannot be opened at that,
// keeps no other call waiting.
func TestD17NewCategories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free := blocked(t, filepath.Join(dir, "new"))
	s := started(t, store("category=new*", "type=file", "file_path="+filepath.Join(dir, "new"), "add_newlines=1")+filing(filepath.Join(dir, "old")))
	const n = 300
	call := make([]lab.Entry, n)
	for i := range call {
		call[i] = entry(fmt.Sprint("new", i), "m")
	}
	done := make(chan error, 1)
	go func() {
		ok, err := tryLog(s, call...)
		if err == nil && !ok {
			err = fmt.Errorf("TRY_LATER")
		}
		done <- err
	}()
	send(t, s, "old", 0, 1000)
	inOrder(t, filepath.Join(dir, "old", "old"), "old", "old", 1000)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	free()
	for i := range n {
		holds(t, filepath.Join(dir, "new", fmt.Sprint("new", i)), fmt.Sprint("new", i), "m\n")
	}
}

// TestD21CountersAndLog: a store that is away is neither tried nor logged for each message that arrives.
func TestD21CountersAndLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free := blocked(t, filepath.Join(dir, "away"))
	s := started(t, store("category=broken", "target_write_size=100", "type=file", "file_path="+filepath.Join(dir, "away"), "add_newlines=1"))
	began := time.Now()
	before := bytes.Count(s.Log(), []byte("\n"))
	const n = 500
	for i := range n {
		log(t, s, entry("broken", fmt.Sprintf("broken-%d", i)))
	}
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return "no WARNING" })
	// Scribe: a line and an attempt for each message
	most := 50 + 5*int(time.Since(began).Seconds())
	if lines := bytes.Count(s.Log(), []byte("\n")) - before; lines > most {
		t.Errorf("%d lines in the log for %d messages", lines, n)
	}
	if requeued := s.Counters()["broken:requeue"]; requeued > n {
		t.Errorf("requeue is %d for %d messages", requeued, n)
	}
	free()
	inOrder(t, filepath.Join(dir, "away"), "broken", "broken", n)
}

// TestD22FullDisk: small batches onto a disk that is full: none that was acknowledged is missing once
// there is room, none is there twice, and no line is torn.
func TestD22FullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a small disk is mounted by root")
	}
	disk := lab.SmallFolder(t, "2m")
	filler := filepath.Join(disk, "filler")
	s := lab.NewScribe(t, filing(filepath.Join(disk, "out")))
	s.Start()
	send(t, s, "full", 0, 10)
	inOrder(t, filepath.Join(disk, "out", "full"), "full", "full", 10)
	fill(t, filler)
	next := 10
	for range 200 { // batches of 300 bytes, and the page that is begun has room for some
		log(t, s, entry("full", fmt.Sprintf("full-%d", next)), entry("full", strings.Repeat("p", 300)))
		next++
	}
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return "no WARNING" })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	inOrder(t, filepath.Join(disk, "out", "full"), "full", "full", next)
	padding := 0
	for _, line := range lines(t, filepath.Join(disk, "out", "full"), "full") {
		if strings.HasPrefix(line, "p") {
			if len(line) != 300 {
				t.Errorf("a torn line of %d bytes", len(line))
			}
			padding++
		}
	}
	waitFor(t, func() bool {
		return strings.Count(string(lab.ScribeText(t, filepath.Join(disk, "out", "full"), "full")), "p\n") == 200
	},
		func() string { return fmt.Sprintf("%d of 200 lines of padding", padding) })
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
