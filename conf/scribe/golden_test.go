package scribe

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite what is expected of testdata")

// numbers, and so on, are the keys that a reader of testdata knows, by how they
// are read.
var (
	numbers = strings.Fields(`port max_msg_per_second check_interval num_thrift_server_threads retry_interval retry_interval_range
		buffer_send_rate max_write_interval max_size chunk_size rotate_hour rotate_minute num_buckets delimiter remote_port timeout`)
	decimals = []string{"max_queue_size", "target_write_size"}
	words    = strings.Fields("replay_buffer create_symlink use_hostname_sub_directory new_thread_per_category")
	texts    = strings.Fields("type category fs_type file_path base_filename bucket_type remote_host report_success")
	inner    = strings.Fields("primary secondary bucket0 bucket1 bucket2 bucket3 store0 store1")
)

// readAll writes what a reader of the file gets, each value with its line.
func readAll(b *strings.Builder, s *Section) {
	value := func(key string, v any) {
		if at, found := s.Lookup(key); found {
			fmt.Fprintf(b, "%4d %s %s = %v", at.Line, s.Path(), key, v)
			if at.Inherited {
				fmt.Fprintf(b, " (inherited)")
			}
			b.WriteByte('\n')
		}
	}
	for _, key := range texts {
		value(key, s.Text(key, "?"))
	}
	for _, key := range numbers {
		value(key, s.Uint(key, 0))
	}
	for _, key := range decimals {
		value(key, s.Decimal(key, 0))
	}
	for _, key := range words {
		value(key, s.Bool(key, false))
	}
	value("categories", s.List("categories"))
	value("add_newlines", s.Flag("add_newlines", false))
	value("rotate_period", s.Rotation("rotate_period", Rotation{}))
	for _, name := range inner {
		if child := s.Section(name); child != nil {
			readAll(b, child)
		}
	}
}

func TestFilesLikeScribesExamplesAreReadAsExpected(t *testing.T) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) < 3 {
		t.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f := Parse(filepath.Base(name), content)
		var values strings.Builder
		readAll(&values, f.Root)
		f.WarnUnread()
		got := "what is wrong:\n" + f.Mistakes().Error() + "\n\nwhat is read:\n" + values.String() + "\nwhat is printed:\n" + printed(t, f.Root)
		if *update {
			if err := os.WriteFile(name+".want", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name + ".want")
		if err != nil {
			t.Fatalf("%v (go test ./conf/scribe -update writes it)", err)
		}
		if got != string(want) {
			t.Errorf("%s\n got:\n%s\nwant:\n%s", name, got, want)
		}
	}
}
