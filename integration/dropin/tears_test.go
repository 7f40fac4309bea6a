//go:build integration

package dropin

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/integration/lab"
)

// TestOldBuffersTornWithCategory: a tear in a file in which each message has its category in front costs
// no other message, not even the category behind it. The bytes of the torn frame, and no others,
// are counted and lie beside the file.
func TestOldBuffersTornWithCategory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool := filepath.Join(dir, "leaf")
	tear := framedtest.Append(nil, framed.TwoFrames, "one", "one: a line that a crash has cut off\n")
	tear = tear[:len(tear)-10]
	line := func(category string, from, to int) (b []byte) {
		for n := from; n < to; n++ {
			b = framedtest.Append(b, framed.TwoFrames, category, fmt.Sprintf("%s-%d\n", category, n))
		}
		return b
	}
	leftovers(t, spool, "shared", 0, bytes.Join([][]byte{
		line("one", 0, 10), line("two", 0, 10), tear, line("one", 10, 20), line("two", 10, 20),
	}, nil))
	central := started(t, store("category=default", "type=file", "file_path="+filepath.Join(dir, "central")))
	leaf := started(t, "new_thread_per_category=no\n"+forwarding("default", central, spool, "file::base_filename=shared"))
	for _, category := range []string{"one", "two"} {
		folder := filepath.Join(dir, "central", category)
		inOrder(t, folder, category, category, 20)
		if got := lines(t, folder, category); len(got) != 20 {
			t.Errorf("%s: %d lines of which 20 are messages: %q", category, len(got), got)
		}
	}
	counted(t, leaf, "scribe_overall:bytes lost", int64(len(tear)))
	waitFor(t, func() bool { return len(lab.ScribeFiles(spool, "shared")) == 0 }, func() string { return "the file is still there" })
	kept, err := os.ReadFile(filepath.Join(spool, "shared_00000.damaged"))
	if err != nil || !bytes.Equal(kept, tear) {
		t.Errorf("kept beside the file: %q, %v, want %q", kept, err, tear)
	}
}

// TestD6OldBufferInPieces: a large buffer file of an original goes out as many calls of a moderate size,
// without a check interval between them.
func TestD6OldBufferInPieces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const size, n = 1000, 10_000
	var file []byte
	for range n {
		file = framedtest.Append(file, framed.OneFrame, "", strings.Repeat("m", size-1)+"\n")
	}
	path := leftovers(t, filepath.Join(dir, "pieces"), "pieces", 0, file)
	r := listening(t)
	s := started(t, "check_interval=3600\n"+store("category=default", "type=buffer", "buffer_send_rate=1",
		inner("primary", "type=network", "remote_host=127.0.0.1", "remote_port="+r.port),
		inner("secondary", "type=file", "file_path="+dir)))
	counted(t, s, "scribe_overall:sent", n)
	largest, calls := 0, 0
	for _, c := range r.got() {
		if c.entries > 0 {
			largest, calls = max(largest, len(c.body)), calls+1
		}
	}
	if largest > 1<<20 || calls < 10 {
		t.Errorf("%d calls of at most %d bytes for a file of %d", calls, largest, len(file))
	}
	waitFor(t, func() bool { _, err := os.Stat(path); return os.IsNotExist(err) }, func() string { return path + " is still there" })
}

// newest is the segment that was written last below a folder.
func newest(t *testing.T, folder string) string {
	t.Helper()
	last, when := "", int64(0)
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".seg") {
			return err
		}
		info, err := e.Info()
		if err == nil && info.ModTime().UnixNano() >= when && info.Size() > 0 {
			last, when = path, info.ModTime().UnixNano()
		}
		return err
	})
	if err != nil || last == "" {
		t.Fatalf("no segment below %s: %v", folder, err)
	}
	return last
}

// TestD5TornSegment: a server is killed and the last write to its buffer is torn. The next start writes
// nothing behind the tear, and all that was written before and after arrives, and nothing else.
func TestD5TornSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, "ack=stored\n"+forwarding("default", central, filepath.Join(dir, "leaf")))
	send(t, leaf, "torn", 0, 200)
	leaf.Kill()
	f, err := os.OpenFile(newest(t, filepath.Join(dir, "leaf")), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\x40\x00\x00\x00a frame that a crash has cut off"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	leaf.Start()
	send(t, leaf, "torn", 200, 400)
	central.Start()
	folder := filepath.Join(dir, "central", "torn")
	inOrder(t, folder, "torn", "torn", 400)
	if got := len(lines(t, folder, "torn")); got != 400 {
		t.Errorf("%d lines, want 400", got)
	}
}

// TestD18KilledAgainAndAgain: a server that is killed four times while it sends its buffer loses none of it and
// keeps its order. What it had sent and not noted it sends again, and nothing else.
func TestD18KilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := started(t, "ack=stored\n"+forwarding("default", central, filepath.Join(dir, "leaf")))
	n := pick(20_000, 200_000)
	send(t, leaf, "killed", 0, n)
	central.Start()
	const kills, most = 4, 1000 // of a call there are fewer than that
	for kill := range kills {
		arrived := int64(n / 6 * (kill + 1))
		waitFor(t, func() bool { return central.Counters()["killed:received good"] >= arrived }, func() string { return fmt.Sprint(central.Counters()) })
		leaf.Kill()
		leaf.Start()
	}
	folder := filepath.Join(dir, "central", "killed")
	last := []byte(fmt.Sprintf("killed-%d\n", n-1))
	waitFor(t, func() bool { return bytes.HasSuffix(lab.ScribeText(t, folder, "killed"), last) },
		func() string { return fmt.Sprint(len(lines(t, folder, "killed")), " lines") })
	got, next := lines(t, folder, "killed"), 0
	for _, line := range got {
		var at int
		if _, err := fmt.Sscanf(line, "killed-%d", &at); err != nil || at > next {
			t.Fatalf("%q stands where message %d belongs", line, next)
		}
		if at == next {
			next++
		}
	}
	if next != n || len(got)-n > kills*most {
		t.Errorf("%d messages of %d, %d lines twice", next, n, len(got)-n)
	}
}
