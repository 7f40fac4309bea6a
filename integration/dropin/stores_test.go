//go:build integration

package dropin

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// TestK5Matching: exact before prefix before default, prefixes in byte order with the first match,
// star over default, names case sensitive; several stores of one category each get a copy.
func TestK5Matching(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(category, name string) string {
		return store("category="+category, "type=file", "file_path="+filepath.Join(dir, name), "base_filename=base", "add_newlines=1")
	}
	s := started(t, file("foo*", "foo")+file("foobar*", "foobar")+file("fooexact", "exact")+file("fooexact", "again")+file("default", "default"))
	log(t, s, entry("foo1", "1"), entry("foobar1", "2"), entry("fooexact", "3"), entry("Foo1", "4"), entry("FOO1", "5"))
	for where, want := range map[string]string{
		"foo/foo1/foo1": "1\n", "foo/foobar1/foobar1": "2\n", "exact/base": "3\n", "again/base": "3\n",
		"default/Foo1/Foo1": "4\n", "default/FOO1/FOO1": "5\n",
	} {
		holds(t, filepath.Join(dir, filepath.Dir(where)), filepath.Base(where), want)
	}
	counted(t, s, "fooexact:received good", 1)
	star := started(t, file("*", "star")+file("default", "never"))
	log(t, star, entry("any", "1"))
	holds(t, filepath.Join(dir, "star", "any"), "any", "1\n")
}

// TestK5Copies: a host's folder, buckets, and category, multifile and multi stores under a prefix.
func TestK5Copies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s := started(t, "file::add_newlines=1\nmultifile::add_newlines=1\n"+
		store("category=host*", "type=file", "file_path="+dir, "use_hostname_sub_directory=yes")+
		store("category=part*", "type=bucket", "num_buckets=1", "bucket_type=key_modulo", "bucket_subdir=b", inner("bucket", "type=file", "file_path="+dir))+
		store("category=models", "categories=model1", "type=category", inner("model", "type=file", "file_path="+filepath.Join(dir, "model")))+
		store("category=multi*", "type=multifile", "file_path="+filepath.Join(dir, "multifile"))+
		store("category=several", "type=multi", inner("store0", "type=file", "file_path="+filepath.Join(dir, "s0")),
			inner("store1", "type=file", "file_path="+filepath.Join(dir, "s1"))))
	log(t, s, entry("host1", "1"), entry("part1", "7:a"), entry("model1", "3"), entry("multi1", "4"), entry("several", "5"))
	for where, want := range map[string]string{
		filepath.Join("host1", host, "host1"): "1\n", "b001/part1/part1": "7:a\n", "model/model1/model1": "3\n",
		"multifile/multi1/multi1": "4\n", "s0/several": "5\n", "s1/several": "5\n",
	} {
		holds(t, filepath.Join(dir, filepath.Dir(where)), filepath.Base(where), want)
	}
}

// TestK6Files: numbers that count on, the link, meta and stats lines, category lines, a new number at
// each opening.
func TestK6Files(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	write(t, filepath.Join(plain, "base_00003"), "old\n")
	conf := store("category=plain", "type=file", "file_path="+plain, "base_filename=base", "add_newlines=1") +
		store("category=rotated", "type=file", "file_path="+filepath.Join(dir, "rotated"), "max_size=100", "max_write_size=100",
			"add_newlines=1", "write_meta=yes", "write_stats=yes", "rotate_period=daily") +
		store("category=named", "type=file", "file_path="+filepath.Join(dir, "named"), "add_newlines=1", "write_category=yes", "rotate_on_reopen=yes", "base_symlink_name=link") +
		store("category=hourly", "type=file", "file_path="+filepath.Join(dir, "hourly"), "rotate_period=hourly", "create_symlink=no")
	s := started(t, conf)
	before := time.Now()
	log(t, s, entry("plain", "new"), entry("named", "n"), entry("hourly", "h"))
	holds(t, plain, "base", "old\nnew\n") // the highest number is appended to
	link, err := os.Readlink(filepath.Join(plain, "base_current"))
	if err != nil || link != "base_00003" {
		t.Errorf("link %q, %v", link, err)
	}
	holds(t, filepath.Join(dir, "named"), "named", "named\nn\n")
	holds(t, filepath.Join(dir, "hourly"), "hourly", "h")
	first := lab.ScribeFiles(filepath.Join(dir, "hourly"), "hourly")[0]
	name := func(at time.Time) string { return fmt.Sprintf("hourly-%s_%05d", at.Format("2006-01-02"), at.Hour()) }
	if base := filepath.Base(first); base != name(before) && base != name(time.Now()) {
		t.Errorf("the first file of an hour is %s, want %s", base, name(before))
	}
	if _, err := os.Lstat(filepath.Join(dir, "hourly", "hourly_current")); err == nil {
		t.Error("there is a link, and create_symlink=no")
	}
	for n := range 20 {
		log(t, s, entry("rotated", fmt.Sprintf("%050d", n)))
	}
	rotated := filepath.Join(dir, "rotated")
	waitFor(t, func() bool {
		return strings.Contains(string(lab.ScribeText(t, rotated, "rotated")), fmt.Sprintf("%050d", 19))
	}, func() string { return "not all is there" })
	files := lab.ScribeFiles(rotated, "rotated")
	if len(files) < 3 || !strings.HasSuffix(files[0], "_00000") || !strings.HasSuffix(files[1], "_00001") {
		t.Fatalf("files %q", files)
	}
	for i, path := range files[:len(files)-1] {
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(text), "scribe_meta<new_logfile>: "+files[i+1]+"\n") {
			t.Errorf("%s ends in %.200q, %v, want the name of the next file", path, text[max(0, len(text)-150):], err)
		}
	}
	stats, err := os.ReadFile(filepath.Join(rotated, "scribe_stats"))
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\d-\d\d:\d\d wrote <\d+> bytes in <[1-9]\d*> events to file <` + regexp.QuoteMeta(files[0]) + ">\n")
	if err != nil || strings.Count(string(stats), "\n") < len(files)-1 || !line.Match(stats) {
		t.Errorf("stats %q, %v", stats, err)
	}
	stopped(t, s)
	s.Start()
	log(t, s, entry("named", "n"))
	waitFor(t, func() bool { return len(lab.ScribeFiles(filepath.Join(dir, "named"), "named")) == 2 }, func() string { return "no new number at the second opening" })
	if link, err := os.Readlink(filepath.Join(dir, "named", "link_current")); err != nil || link != "named_00001" {
		t.Errorf("link %q, %v", link, err)
	}
}

// TestK6RotateOnReopen: a reload with the same file begins the next number where rotate_on_reopen
// says so, and nowhere else. Nothing is lost or twice.
func TestK6RotateOnReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := func(category, again string) string {
		return store("category="+category, "type=file", "add_newlines=1", "file_path="+filepath.Join(dir, category), "rotate_on_reopen="+again)
	}
	s := started(t, files("new", "yes")+files("on", "no")+
		store("category=inner", "type=buffer", "replay_buffer=no",
			inner("primary", "type=file", "add_newlines=1", "file_path="+filepath.Join(dir, "inner"), "rotate_on_reopen=yes"),
			inner("secondary", "type=file", "file_path="+filepath.Join(dir, "second"))))
	for round := range 3 {
		for _, category := range []string{"new", "on", "inner"} {
			send(t, s, category, round*100, round*100+100)
			inOrder(t, filepath.Join(dir, category), category, category, round*100+100)
		}
		s.Oneway("reinitialize")
		waitFor(t, func() bool { return bytes.Count(s.Log(), []byte("reloaded")) > round }, func() string { return "no reload" })
	}
	for category, want := range map[string]int{"new": 3, "on": 1, "inner": 3} {
		found, err := filepath.Glob(filepath.Join(dir, category, category+"_0*"))
		if err != nil || len(found) != want {
			t.Errorf("%s: the files %q, want %d; %v", category, found, want, err)
		}
		inOrder(t, filepath.Join(dir, category), category, category, 300)
	}
}

// TestReadNamesLocalFiles: read and ls do not give what lies in local files; they say where that is, and
// that they have not given it.
func TestReadNamesLocalFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, filing(dir))
	log(t, s, entry("local", "m"))
	holds(t, filepath.Join(dir, "local"), "local", "m\n")
	stopped(t, s)
	for _, args := range [][]string{{"read", "--all"}, {"read", "--category", "local"}, {"ls"}} {
		stdout, stderr, code := s.Run(append(args, "-c", s.Config)...)
		if code != 3 || len(stdout) > 0 || !strings.Contains(string(stderr), "not read: local files under Scribe's names in "+dir+":") {
			t.Errorf("%v: exit status %d, want 3; %s%s", args, code, stdout, stderr)
		}
	}
}

// TestK9Buckets: the same numbers as the original's, computed apart from our code, and folders of three digits.
func TestK9Buckets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bucket := func(kind string, more ...string) string {
		return store(append([]string{"category=" + kind, "type=bucket", "num_buckets=3", "bucket_type=" + kind, "bucket_subdir=" + kind,
			inner("bucket", "type=file", "file_path="+dir, "base_filename=part", "add_newlines=1")}, more...)...)
	}
	s := started(t, bucket("key_hash")+bucket("key_modulo", "remove_key=yes", "failure_bucket=keyless")+bucket("key_range", "bucket_range=30", "bucket_offset=100")+
		bucket("context_log")+bucket("random"))
	want := map[string]string{} // by folder
	for _, c := range []struct{ kind, message, folder, stored string }{
		// djb2 of the key, modulo 3, and 1
		{"key_hash", "alice:1", "key_hash002", "alice:1"},
		{"key_hash", "bob:2", "key_hash003", "bob:2"},
		{"key_hash", "\xff:3", "key_hash003", "\xff:3"}, // bytes are signed
		{"key_hash", "no key", "key_hash000", "no key"},
		{"key_modulo", "7:seven", "key_modulo002", "seven"},
		{"key_modulo", "9x:nine", "key_modulo001", "nine"},
		{"key_modulo", "nothing", "keyless", "nothing"},
		{"key_range", "12:a", "key_range102", "12:a"},
		{"key_range", "29:b", "key_range103", "29:b"},
		{"context_log", "a\x01b\x01c\x015\x01", "context_log003", "a\x01b\x01c\x015\x01"},
	} {
		log(t, s, entry(c.kind, c.message))
		want[c.folder] += c.stored + "\n"
		holds(t, filepath.Join(dir, c.folder), "part", want[c.folder])
	}
	log(t, s, entry("random", "somewhere"))
	waitFor(t, func() bool {
		n := 0
		for b := 1; b <= 3; b++ {
			n += len(lab.ScribeText(t, filepath.Join(dir, fmt.Sprintf("random%03d", b)), "part"))
		}
		return n == len("somewhere\n")
	}, func() string { return "a random bucket has nothing" })
}

// TestK10Defaults: a queue each category, written after a second without being full; the resolved
// configuration has Scribe's defaults.
func TestK10Defaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := lab.NewScribe(t, store("category=default", "type=buffer",
		inner("primary", "type=network", "remote_host=127.0.0.1", "remote_port=1"), inner("secondary", "type=file", "file_path="+dir)))
	stdout, stderr, code := s.Run("check", "--to", "yaml", s.Config)
	if code != 0 {
		t.Fatalf("exit status %d, %s", code, stderr)
	}
	for _, want := range []string{"queue: 5000000", "batch_bytes: 16KiB", "batch_wait: 1s", "timeout: 5s"} {
		if !strings.Contains(string(stdout), want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
	write(t, filepath.Join(s.Dir, "same.yaml"), string(stdout))
	if _, stderr, code := s.Run("check", filepath.Join(s.Dir, "same.yaml")); code != 0 {
		t.Errorf("check of what was translated: exit status %d, %s", code, stderr)
	}
}

// TestD9CopiesKeepSettings: stores made for the categories of a prefix have all settings of their model.
func TestD9CopiesKeepSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	central := started(t, filing(filepath.Join(dir, "central")))
	s := started(t, "file::add_newlines=1\n"+
		store("category=key*", "type=bucket", "num_buckets=3", "bucket_type=key_range", "bucket_range=30", "remove_key=yes", "bucket_subdir=b", inner("bucket", "type=file", "file_path="+dir))+
		store("category=net*", "type=network", "service_list=127.0.0.1", "list_default_port="+central.Port(), "ignore_network_error=yes"))
	log(t, s, entry("key1", "12:twelve"), entry("net1", "net1-0"))
	holds(t, filepath.Join(dir, "b002", "key1"), "key1", "twelve\n")
	inOrder(t, filepath.Join(dir, "central", "net1"), "net1", "net1", 1)
}

// TestD10EmptyMessages: an empty message is a message: written by itself, and at a stop.
func TestD10EmptyMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, filing(dir))
	log(t, s, entry("empty", ""))
	holds(t, filepath.Join(dir, "empty"), "empty", "\n")
	log(t, s, entry("empty", ""), entry("empty", ""))
	stopped(t, s)
	holds(t, filepath.Join(dir, "empty"), "empty", "\n\n\n")
}

// TestD11OddNames: whatever a category is called, its files are below file_path, and it hinders nobody.
func TestD11OddNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	s := started(t, filing(out))
	odd := []string{"../esc", "A/b", "/etc/x", "..", ".", strings.Repeat("x", 300), "a\nb", ".dot", "with blank"}
	for _, category := range odd {
		log(t, s, entry(category, "m"))
	}
	log(t, s, entry("plain", "m"))
	for _, plain := range []string{".dot", "with blank", "plain"} {
		holds(t, filepath.Join(out, plain), plain, "m\n")
	}
	files := func() (n int) {
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, "_00000") {
				n++
			}
			return nil
		})
		return n
	}
	waitFor(t, func() bool { return files() == len(odd)+1 }, func() string { return fmt.Sprintf("%d files of %d", files(), len(odd)+1) })
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v beside file_path", entries, err)
	}
	if status, details := s.Fb303(); status != alive {
		t.Errorf("status %d, %q, want ALIVE", status, details)
	}
}

// TestD13Chunks: no message crosses a multiple of chunk_size, in the whole file.
func TestD13Chunks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const chunk = 1024
	s := started(t, store("category=chunks", "type=file", "file_path="+dir, "chunk_size=1024", "add_newlines=1"))
	const n = 100
	for from := 0; from < n; from += 50 { // in several writes
		var call []lab.Entry
		for i := from; i < from+50; i++ {
			call = append(call, entry("chunks", fmt.Sprintf("%04d", i)+strings.Repeat("c", 30*(i%7))))
		}
		log(t, s, call...)
		last := call[49].Message
		waitFor(t, func() bool { return strings.Contains(string(lab.ScribeText(t, dir, "chunks")), string(last)) }, func() string { return "not written" })
	}
	text := string(lab.ScribeText(t, dir, "chunks"))
	for i := range n {
		message := fmt.Sprintf("%04d", i) + strings.Repeat("c", 30*(i%7)) + "\n"
		at := strings.Index(text, message)
		if at < 0 {
			t.Fatalf("message %d is not there", i)
		}
		if at/chunk != (at+len(message)-1)/chunk {
			t.Fatalf("message %d, bytes %d to %d, crosses a multiple of %d", i, at, at+len(message), chunk)
		}
	}
}

// TestD14Multi: a store of a multi store that fails takes nothing from the others, and shows in the status.
func TestD14Multi(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free := blocked(t, filepath.Join(dir, "first"))
	s := started(t, "file::add_newlines=1\n"+store("category=default", "type=multi",
		inner("store", "type=file", "file_path="+filepath.Join(dir, "first")), inner("store", "type=file", "file_path="+filepath.Join(dir, "second"))))
	send(t, s, "multi", 0, 500)
	inOrder(t, filepath.Join(dir, "second", "multi"), "multi", "multi", 500)
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return "no WARNING" })
	free()
	inOrder(t, filepath.Join(dir, "first", "multi"), "multi", "multi", 500)
	inOrder(t, filepath.Join(dir, "second", "multi"), "multi", "multi", 500)
	counted(t, s, "multi:received good", 500)
}

// TestD19FileRemoved: what is written after a file was deleted, or its folder replaced, is in a file that is there.
func TestD19FileRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, filing(dir))
	folder := filepath.Join(dir, "gone")
	log(t, s, entry("gone", "1"))
	holds(t, folder, "gone", "1\n")
	if err := os.Remove(lab.ScribeFiles(folder, "gone")[0]); err != nil {
		t.Fatal(err)
	}
	log(t, s, entry("gone", "2"))
	holds(t, folder, "gone", "2\n")
	if err := os.Rename(folder, folder+".old"); err != nil {
		t.Fatal(err)
	}
	log(t, s, entry("gone", "3"))
	holds(t, folder, "gone", "3\n")
}
