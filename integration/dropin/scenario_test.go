//go:build integration

package dropin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// TestScenario1SimpleTest: odd categories and messages change nothing for others; messages arrive as
// they are; an empty one leaves no trace; buckets by a delimiter that cannot be printed.
func TestScenario1SimpleTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, store("category=default", "type=file", "file_path="+filepath.Join(dir, "all"))+
		store("category=bucket_me", "type=bucket", "num_buckets=2", "bucket_type=key_hash", "delimiter=1",
			"bucket_subdir=b", inner("bucket", "type=file", "file_path="+dir, "base_filename=part")))
	var odd strings.Builder
	for i := range 280 {
		odd.WriteByte(byte(1 + i%255))
	}
	log(t, s, entry(odd.String(), odd.String()))
	log(t, s, entry("plain", `a literal \n`), entry("plain", ""), entry("plain", "text\n"), entry("plain", "bytes \x00\x01"))
	holds(t, filepath.Join(dir, "all", "plain"), "plain", "a literal \\ntext\nbytes \x00\x01")
	log(t, s, entry("bucket_me", "key\x01value\n"), entry("bucket_me", "no key\n"))
	counted(t, s, "bucket_me:received good", 2)
	// djb2 of "key" is 193453934, even
	holds(t, filepath.Join(dir, "b000"), "part", "no key\n")
	holds(t, filepath.Join(dir, "b001"), "part", "key\x01value\n")
}

// basic is the stores of the basic tests.
func basic(dir string) string {
	size := fmt.Sprint(pick(10_000, 1_000_000))
	file := func(name string) string {
		return "type=file\nfile_path=" + filepath.Join(dir, name) + "\nbase_filename=" + name +
			"\nadd_newlines=1\nrotate_period=daily\nrotate_hour=0\nrotate_minute=0\nmax_size=" + size
	}
	return store("category=default", file("default")) + store("category=exact", file("exact")) +
		store("category=prefix*", file("prefix")) + store("categories=list1 list2", file("list"))
}

// basically runs the basic tests' load: it gives what was sent to each category.
func basically(t *testing.T, s *lab.Server) map[string]int {
	t.Helper()
	ten := pick(1_000, 10_000)
	for from := 0; from < 2*ten; from += ten { // the first two parts of the default store's
		send(t, s, "basic", from, from+ten)
	}
	sent := map[string]int{"basic": 22 * ten, "exact": ten, "prefix1": ten, "list1": ten, "list2": ten}
	sendAll(t, s, sent, map[string]int{"basic": 2 * ten})
	return sent
}

// sendAll sends to all categories at once, a connection each, from where begun says.
func sendAll(t *testing.T, s *lab.Server, sent, begun map[string]int) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, len(sent))
	for category, n := range sent {
		wg.Go(func() { errs <- sender(s, category, category, begun[category], n, 100) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestScenario2BasicTest: default, exact, prefix and list stores; all there, in order, in several files
// with the date in their names.
func TestScenario2BasicTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, basic(dir))
	sent := basically(t, s)
	for category, folder := range map[string]string{
		"basic": "default/basic", "exact": "exact", "prefix1": "prefix/prefix1", "list1": "list/list1", "list2": "list/list2",
	} {
		inOrder(t, filepath.Join(dir, folder), category, category, sent[category])
	}
	files := lab.ScribeFiles(filepath.Join(dir, "default", "basic"), "basic")
	if len(files) < 2 || !strings.Contains(files[0], time.Now().Format("-2006-")) {
		t.Errorf("files %q, want several with the date", files)
	}
	counted(t, s, "basic:received good", int64(sent["basic"]))
}

// TestScenario3BasicTest2: the same with new_thread_per_category=no: the categories of a store share
// its files.
func TestScenario3BasicTest2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, "new_thread_per_category=no\n"+basic(dir))
	sent := basically(t, s)
	for category, name := range map[string]string{
		"basic": "default", "exact": "exact", "prefix1": "prefix", "list1": "list", "list2": "list",
	} {
		inOrder(t, filepath.Join(dir, name), name, category, sent[category])
	}
}

// blocked puts a file where a folder belongs and gives what puts the folder back.
func blocked(t *testing.T, folder string) (free func()) {
	t.Helper()
	if err := os.Rename(folder, folder+".away"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	write(t, folder, "")
	return func() {
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(folder+".away", folder); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// bufferTest: the primary's folder is missing while all is sent; once it is back everything is there.
func bufferTest(t *testing.T, top string, folder func(category string) (folder, base string)) {
	dir := t.TempDir()
	primary := filepath.Join(dir, "primary")
	free := blocked(t, primary)
	s := started(t, top+store("category=default", "type=buffer", "retry_interval=1", "retry_interval_range=0",
		inner("primary", "type=file", "file_path="+primary, "base_filename=shared", "add_newlines=1", "max_size="+fmt.Sprint(pick(10_000, 1_000_000))),
		inner("secondary", "type=file", "file_path="+filepath.Join(dir, "secondary"), "base_filename=shared")))
	n := pick(1_000, 100_000)
	sent := map[string]int{"buffertest": n, "other": n}
	sendAll(t, s, sent, nil)
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return "no WARNING" })
	if names, _ := filepath.Glob(filepath.Join(primary, "*")); len(names) > 0 {
		t.Fatalf("%q are there while the folder is not", names)
	}
	free()
	for category := range sent {
		where, base := folder(category)
		inOrder(t, filepath.Join(primary, where), base, category, n)
	}
	counted(t, s, "scribe_overall:received good", int64(2*n))
	if lost := s.Counters()["scribe_overall:lost"]; lost != 0 {
		t.Errorf("%d messages lost", lost)
	}
}

// TestScenario4BufferTest: a file each category.
func TestScenario4BufferTest(t *testing.T) {
	t.Parallel()
	bufferTest(t, "", func(category string) (string, string) { return category, category })
}

// TestScenario4BufferTest2: all categories in one file.
func TestScenario4BufferTest2(t *testing.T) {
	t.Parallel()
	bufferTest(t, "new_thread_per_category=no\n", func(string) (string, string) { return "", "shared" })
}

// TestScenario5CategoriesTest: nine categories at once through exact, list, prefix and default.
func TestScenario5CategoriesTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, basic(dir))
	n := pick(2_000, 100_000)
	folders := map[string]string{"exact": "exact", "list1": "list/list1", "list2": "list/list2"}
	for i := range 3 {
		folders[fmt.Sprint("prefix", i)] = fmt.Sprint("prefix/prefix", i)
		folders[fmt.Sprint("other", i)] = fmt.Sprint("default/other", i)
	}
	sent := map[string]int{}
	for category := range folders {
		sent[category] = n
	}
	sendAll(t, s, sent, nil)
	for category, folder := range folders {
		inOrder(t, filepath.Join(dir, folder), category, category, n)
	}
}

// TestScenario6TwoDefaultTest: each of two default stores has everything, and a message counts once.
func TestScenario6TwoDefaultTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, filing(filepath.Join(dir, "a"))+filing(filepath.Join(dir, "b")))
	n := pick(2_000, 100_000)
	send(t, s, "two", 0, n)
	inOrder(t, filepath.Join(dir, "a", "two"), "two", "two", n)
	inOrder(t, filepath.Join(dir, "b", "two"), "two", "two", n)
	counted(t, s, "two:received good", int64(n))
}

// TestScenario7ParamTest: both stores of a buffer take file_path and max_size from around them.
func TestScenario7ParamTest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, store("category=param", "type=buffer", "replay_buffer=no", "retry_interval=1", "retry_interval_range=0",
		"file::file_path="+dir, "file::max_size=2000", "file::add_newlines=1",
		inner("primary", "type=file", "base_filename=primary"), inner("secondary", "type=file", "base_filename=secondary")))
	n := pick(1_000, 10_000)
	send(t, s, "param", 0, n/2)
	send(t, s, "param", n/2, n)
	inOrder(t, dir, "primary", "param", n)
	if len(lab.ScribeFiles(dir, "primary")) < 2 {
		t.Error("the inherited max_size rotates nothing")
	}
}

// TestScenario10CentralRestart: the next server is stopped and started under load, and so is the one
// before it. Nothing is missing, and everything is in order.
func TestScenario10CentralRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	leaf := lab.NewScribe(t, forwarding("default", central, filepath.Join(dir, "leaf")))
	leaf.Start() // before there is anything to forward to
	n := pick(2_000, 100_000)
	send(t, leaf, "both", 0, n)
	stopped(t, leaf)
	central.Start()
	leaf.Start()
	done := make(chan error, 1)
	go func() { done <- sender(leaf, "both", "both", n, 2*n, 10) }()
	waitFor(t, func() bool { return central.Counters()["both:received good"] >= int64(n) }, func() string { return fmt.Sprint(central.Counters()) })
	stopped(t, central)
	central.Start()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	inOrder(t, filepath.Join(dir, "central", "both"), "both", "both", 2*n)
}

// TestScenario10ManyConnections: many connections at once, each with its own messages.
func TestScenario10ManyConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, filing(dir))
	conns, each := 200, pick(50, 5_000)
	var wg sync.WaitGroup
	errs := make(chan error, conns)
	for i := range conns {
		wg.Go(func() { errs <- sender(s, "many", fmt.Sprintf("client%03d", i), 0, each, 10) })
	}
	wg.Wait()
	for range conns {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	counted(t, s, "many:received good", int64(conns*each))
	waitFor(t, func() bool { return len(lines(t, filepath.Join(dir, "many"), "many")) >= conns*each },
		func() string { return fmt.Sprintf("%d lines", len(lines(t, filepath.Join(dir, "many"), "many"))) })
	for i := range conns {
		inOrder(t, filepath.Join(dir, "many"), "many", fmt.Sprintf("client%03d", i), each)
	}
}

// TestScenario11SimulateBackoff: two senders bring one receiver to TRY_LATER; with adaptive backoff
// nothing is lost and nothing is there twice.
func TestScenario11SimulateBackoff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "central")
	free := blocked(t, out)
	central := started(t, "max_queue_size=65536\n"+filing(out))
	n := pick(20_000, 100_000)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for i := range 2 {
		leaf := started(t, forwarding("default", central, filepath.Join(dir, fmt.Sprint("leaf", i)),
			"adaptive_backoff=yes", "min_retry_interval=1", "max_retry_interval=3", "max_random_offset=1"))
		name := fmt.Sprint("backoff", i)
		wg.Go(func() { errs <- sender(leaf, name, name, 0, n, 50) })
	}
	wg.Wait()
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return central.Counters()["scribe_overall:denied for queue size"] > 0 },
		func() string { return "the receiver never refused" })
	free()
	for i := range 2 {
		name := fmt.Sprint("backoff", i)
		inOrder(t, filepath.Join(out, name), name, name, n)
	}
}

// outage sends messages across an outage of the next server, through a replaying buffer.
func outage(t *testing.T, before, during, after int) {
	dir := t.TempDir()
	central := lab.NewScribe(t, filing(filepath.Join(dir, "central")))
	central.Start()
	leaf := started(t, forwarding("default", central, filepath.Join(dir, "leaf")))
	send(t, leaf, "outage", 0, before)
	inOrder(t, filepath.Join(dir, "central", "outage"), "outage", "outage", before)
	stopped(t, central)
	send(t, leaf, "outage", before, before+during)
	central.Start()
	send(t, leaf, "outage", before+during, before+during+after)
	inOrder(t, filepath.Join(dir, "central", "outage"), "outage", "outage", before+during+after)
	counted(t, leaf, "outage:received good", int64(before+during+after))
}

// TestOutage800: 800 messages sent across an outage are there once, in order.
func TestOutage800(t *testing.T) {
	t.Parallel()
	outage(t, 200, 400, 200)
}

// TestOutage100000 is the same with 100,000.
func TestOutage100000(t *testing.T) {
	t.Parallel()
	n := pick(10_000, 100_000)
	outage(t, n/4, n/2, n/4)
}

// Test600Buckets: 600 buffer stores in one bucket store. Their receivers are away, and then take
// the buffers back at least as fast as they filled, while messages keep coming.
func Test600Buckets(t *testing.T) {
	const buckets = 600
	away := pick(20*time.Second, 5*time.Minute)
	dir := t.TempDir()
	// three receivers, a third of the buckets each
	var centrals []*lab.Server
	for i := range 3 {
		centrals = append(centrals, lab.NewScribe(t, "new_thread_per_category=no\n"+
			store("category=default", "type=file", "file_path="+filepath.Join(dir, fmt.Sprint("central", i)), "base_filename=all", "add_newlines=1")))
	}
	lines := []string{"category=default", "type=bucket", "num_buckets=" + fmt.Sprint(buckets), "bucket_type=key_modulo"}
	for b := range buckets + 1 {
		lines = append(lines, inner(fmt.Sprint("bucket", b), "type=buffer", "retry_interval=1", "retry_interval_range=0",
			network("primary", centrals[b%3], "use_conn_pool=yes"),
			inner("secondary", "type=file", "file_path="+filepath.Join(dir, "leaf", fmt.Sprint(b)), "base_filename=buffer")))
	}
	leaf := lab.NewScribe(t, store(lines...))
	leaf.Start()
	c, err := lab.Dial(leaf.Thrift)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	round := 0
	one := func() { // a message for each bucket, numbered by bucket
		call := make([]lab.Entry, buckets)
		for b := range call {
			call[b] = entry("b600", fmt.Sprintf("%d:%d", b, round))
		}
		for {
			ok, err := c.Log(call, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		round++
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < away; <-tick.C {
		one()
	}
	filled := round
	for _, central := range centrals {
		central.Start()
	}
	all := func() (n int64) {
		for _, central := range centrals {
			n += central.Counters()["b600:received good"]
		}
		return n
	}
	began := time.Now()
	for all() < int64(filled*buckets) {
		if time.Since(began) > 2*away+patience {
			t.Fatalf("%d of the %d messages that filled the buffers in %v are sent after %v", all(), filled*buckets, away, time.Since(began))
		}
		one()
		<-tick.C
	}
	t.Logf("%d messages in %d buffers in %v, sent in %v while %d more came", filled*buckets, buckets, away, time.Since(began), (round-filled)*buckets)
	waitFor(t, func() bool { return all() >= int64(round*buckets) }, func() string { return fmt.Sprintf("%d of %d", all(), round*buckets) })
	checkBuckets(t, dir, round)
}

// checkBuckets wants each bucket's messages once and in order.
func checkBuckets(t *testing.T, dir string, rounds int) {
	t.Helper()
	next := map[string]int{}
	total := 0
	for i := range 3 {
		folder := filepath.Join(dir, fmt.Sprint("central", i))
		want := int(0)
		for b := range 600 {
			if (b%600+1)%3 == i {
				want += rounds
			}
		}
		waitFor(t, func() bool { return len(lines(t, folder, "all")) >= want }, func() string { return fmt.Sprintf("%s: %d of %d lines", folder, len(lines(t, folder, "all")), want) })
		for _, line := range lines(t, folder, "all") {
			bucket, n, ok := strings.Cut(line, ":")
			if !ok || n != fmt.Sprint(next[bucket]) {
				t.Fatalf("%s: %q stands where message %d of bucket %s belongs", folder, line, next[bucket], bucket)
			}
			next[bucket]++
			total++
		}
	}
	if total != 600*rounds {
		t.Fatalf("%d messages, want %d", total, 600*rounds)
	}
}
