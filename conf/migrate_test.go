package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// withAccount replaces who the test runs as.
func withAccount(t *testing.T) { t.Setenv("HADOOP_USER_NAME", "scribe") }

// migrated is what a file comes to: its YAML and what is said of it.
func migrated(t *testing.T, name string) (m *Migration, text string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "scribe", name))
	if err != nil {
		t.Fatal(err)
	}
	m, warnings, err := LoadScribeBytes(name, content, 0)
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintln(&b, "#", w)
	}
	if err != nil {
		fmt.Fprintln(&b, err)
		return nil, b.String()
	}
	b.Write(m.YAML)
	return m, b.String()
}

func TestScribeFilesComeToWhatIsExpected(t *testing.T) {
	withAccount(t)
	files, err := filepath.Glob("testdata/scribe/*.conf")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		t.Run(name, func(t *testing.T) {
			m, got := migrated(t, name)
			golden(t, f+".want", got)
			if bad := strings.HasSuffix(name, ".bad.conf"); bad != (m == nil) {
				t.Fatalf("started: %v", m != nil)
			}
			if m == nil {
				return
			}
			again, warnings, err := LoadBytes(name+".yaml", m.YAML)
			if err != nil || !reflect.DeepEqual(again, m.Config) {
				t.Errorf("its YAML is another configuration: %v, %v\n%+v\n%+v", warnings, err, again, m.Config)
			}
		})
	}
}

func TestEveryKeyOfAScribeFileHasAVerdict(t *testing.T) {
	withAccount(t)
	for _, name := range []string{"two-clusters.conf", "leaf.conf", "central.conf", "buckets.conf", "copies.conf", "hdfs.conf"} {
		m, text := migrated(t, name)
		if m == nil {
			t.Fatal(text)
		}
		if len(m.Notes) < 5 {
			t.Errorf("%s: %d notes", name, len(m.Notes))
		}
		for _, n := range m.Notes {
			if n.Line == 0 || n.Text == "" || n.Verdict == Unknown || n.Verdict == Refused {
				t.Errorf("%s: %+v", name, n)
			}
		}
	}
}

func TestThePortOfTheCommandLineStandsBehindTheFiles(t *testing.T) {
	without := []byte("<store>\ncategory=default\ntype=null\n</store>\n")
	m, _, err := LoadScribeBytes("a.conf", without, 1500)
	if err != nil || m.Config.Listen.Thrift != ":1500" || m.Config.Listen.HTTP != "127.0.0.1:14667" {
		t.Errorf("%+v, %v", m, err)
	}
	m, _, err = LoadScribeBytes("a.conf", append([]byte("port=1464\n"), without...), 1500)
	if err != nil || m.Config.Listen.Thrift != ":1464" || m.Config.Listen.HTTP != "127.0.0.1:14631" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestAMistypedKeyIsToldWhatItMayMean(t *testing.T) {
	m, warnings, err := LoadScribeBytes("a.conf", []byte("port=1463\nmax_queue_sise=3\n<store>\ncategory=default\ntype=file\nfile_path=/a\nrotate_perod=daily\nlzo_compression=1\n</store>\n"), 0)
	if err != nil || len(warnings) != 3 {
		t.Fatalf("%v, %q", err, warnings)
	}
	want := map[string]string{"max_queue_sise": ": did you mean max_queue_size?", "rotate_perod": ": did you mean rotate_period?", "lzo_compression": "passes over it"}
	for _, n := range m.Notes {
		if end, is := want[n.Key]; is != (n.Verdict == Unknown) || is && !strings.HasSuffix(n.Text, end) {
			t.Errorf("%s: %s %q", n.Key, n.Verdict, n.Text)
		}
	}
}

func TestAQueueMayBeAsLargeAsScribes(t *testing.T) {
	m, _, err := LoadScribeBytes("a.conf", []byte("port=1463\nmax_queue_size=4000000000\n<store>\ncategory=default\ntype=null\n</store>\n"), 0)
	if err != nil || m.Config.Limits.Queue != 4_000_000_000 || m.Config.Limits.Memory < m.Config.Limits.Queue {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestBucketsOfMultiStoresOfWhichAnyWillDo(t *testing.T) {
	inner := "type=multi\nreport_success=any\n<store>\ntype=null\n</store>\n<store>\ntype=file\nfile_path=/a\n</store>\n"
	text := "port=1463\n<store>\ncategory=a\ntype=bucket\nnum_buckets=1\n<bucket0>\n" + inner + "</bucket0>\n<bucket1>\n" + inner + "</bucket1>\n</store>\n"
	m, _, err := LoadScribeBytes("a.conf", []byte(text), 0)
	if err != nil {
		t.Fatal(err)
	}
	stores := m.Config.Category[0].Stores
	if len(stores) != 2 || !stores[0].Optional || !stores[1].Optional || stores[0].Bucket.Stores[1].Kind() != "null" || stores[1].Bucket.Stores[1].Kind() != "scribe_files" {
		t.Errorf("%s", m.YAML)
	}
}

func TestTwoBuffersOfOneCategoryHaveAFolderEach(t *testing.T) {
	store := "<store>\ncategory=%s\ntype=buffer\n<primary>\ntype=network\nremote_host=%s\nremote_port=1\n</primary>\n" +
		"<secondary>\ntype=file\nfile_path=%s\nbase_filename=%s\n</secondary>\n</store>\n"
	for name, c := range map[string]struct {
		second [4]any
		want   string // in the error or the warnings
		bad    bool
	}{
		"the same files":     {[4]any{"web", "i", "/b", "x"}, `a.conf:16: store1: two buffers of category "web" in /b`, true},
		"other files":        {[4]any{"web", "i", "/b", "y"}, "removes the first of these stores", false},
		"another folder":     {[4]any{"web", "i", "/c", "x"}, "", false},
		"another category":   {[4]any{"api", "i", "/b", "y"}, "", false},
		"another one's file": {[4]any{"api", "i", "/b", "x"}, "another store's too", false},
	} {
		t.Run(name, func(t *testing.T) {
			m, warnings, err := LoadScribeBytes("a.conf", []byte("port=1463\n"+fmt.Sprintf(store, "web", "h", "/b", "x")+fmt.Sprintf(store, c.second[:]...)), 0)
			if (err != nil) != c.bad {
				t.Fatal(err)
			}
			told := strings.Join(warnings, "\n")
			if c.bad {
				told = err.Error()
			}
			if !strings.Contains(told, c.want) || c.want == "" && strings.Contains(told, "/b") {
				t.Errorf("told %q, want %q", told, c.want)
			}
			if c.bad {
				return
			}
			of := func(n int) *Framed {
				one := m.Config.Category[n].Each()
				return one[len(one)-1].Failover.Places[1].Buffer.Framed
			}
			if last := len(m.Config.Category) - 1; name == "another one's file" && (of(0) == nil) == (of(last) == nil) {
				t.Errorf("not one of the two takes what is there: %s", m.YAML)
			}
		})
	}
}

func TestAKeyOfAWholeStoreHasNoEffectInsideOfOne(t *testing.T) {
	m, _, err := LoadScribeBytes("a.conf", []byte("port=1463\n<store>\ncategory=default\nmust_succeed=no\ntype=multi\n<store>\ntype=file\nfile_path=/a\nmust_succeed=yes\n</store>\n</store>\n"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Notes {
		want := Same
		if n.Line == 9 {
			want = Unused
		}
		if n.Key == "must_succeed" && n.Verdict != want || n.Key == "type" && n.Verdict != Same {
			t.Errorf("line %d, %s: %s %q", n.Line, n.Key, n.Verdict, n.Text)
		}
	}
}

func TestABufferHasScribesDefaults(t *testing.T) {
	m, _, err := LoadScribeBytes("a.conf", []byte("port=1463\n<store>\ncategory=default\ntype=buffer\n"+
		"<primary>\ntype=network\nremote_host=a\nremote_port=1\n</primary>\n<secondary>\ntype=file\nfile_path=/b\n</secondary>\n</store>\n"), 0)
	if err != nil {
		t.Fatal(err)
	}
	f := m.Config.Category[0].Store.Failover
	want := Retry{Interval: 5 * time.Minute, Range: time.Minute, Min: 5 * time.Second, Max: 100 * time.Second, Offset: 20 * time.Second}
	if f == nil || f.Retry == nil || *f.Retry != want {
		t.Fatalf("%+v, want the waits %+v", f, want)
	}
	if b := f.Places[1].Buffer; b.Order != "keep" || b.LiveBelow != 75 || b.MaxBytes != TiB || b.Replay != "auto" || f.Places[0].Network.Timeout != 5*time.Second {
		t.Errorf("%+v, %+v", b, f.Places[0].Network)
	}
}

func TestThePageOfMigrationIsUpToDate(t *testing.T) {
	golden(t, "../docs/migrating-from-scribe.md", MigrationMarkdown())
	for _, k := range ScribeKeys() {
		if !strings.Contains(MigrationMarkdown(), "| `"+k.Key+"` | "+string(k.Verdict)+" |") || k.Text == "" || strings.Contains(k.Text, "|") {
			t.Errorf("%+v lacks something, or is not on the page", k)
		}
	}
}
