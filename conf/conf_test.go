package conf

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite expected results and docs/configuration.md")

// golden compares got with the file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test ./conf -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s\n got:\n%s\nwant:\n%s", file, got, want)
	}
}

func files(t *testing.T, pattern string, atLeast int) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) < atLeast {
		t.Fatalf("%d files %s, want %d at least (%v)", len(names), pattern, atLeast, err)
	}
	return names
}

// load loads a file under its base name, which then stands in the messages.
func load(t *testing.T, file string) (*Config, []string, error) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return LoadBytes(filepath.Base(file), b)
}

func TestGoodFilesDecodeToWhatIsExpected(t *testing.T) {
	for _, file := range files(t, "testdata/*.good.*", 8) {
		if strings.HasSuffix(file, ".want") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, warnings, err := load(t, file)
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.MarshalIndent(struct {
				Config   *Config
				Warnings []string
			}{c, warnings}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file+".want", string(b)+"\n")
		})
	}
}

func TestBadFilesAreRefusedWithEveryMistake(t *testing.T) {
	for _, file := range files(t, "testdata/*.bad.*", 300) {
		if strings.HasSuffix(file, ".want") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, _, err := load(t, file)
			if err == nil {
				b, _ := json.Marshal(c)
				t.Fatalf("it was taken: %s", b)
			}
			golden(t, file+".want", err.Error()+"\n")
			ms, ok := errors.AsType[Mistakes](err)
			if !ok || c != nil {
				t.Fatalf("error of type %T, configuration %v", err, c)
			}
			for _, m := range ms {
				if m.File != filepath.Base(file) || strings.ContainsAny(m.String(), "\n") {
					t.Errorf("mistake %q", m)
				}
			}
		})
	}
}

func TestExamplesLoadAndSayWhatTheyMean(t *testing.T) {
	for _, file := range files(t, "*.yaml", 5) {
		t.Run(file, func(t *testing.T) {
			c, warnings, err := load(t, file)
			if file == "embedded.yaml" && len(warnings) == 4 {
				warnings = nil // its folders begin where the program is started, and are made to lie below --data
			}
			if err != nil || len(warnings) > 0 {
				t.Fatalf("error %v, warnings %q", err, warnings)
			}
			if len(c.Category) == 0 || c.Buffer.MaxBytes < 10*GiB {
				t.Errorf("%d categories, a buffer of %v", len(c.Category), c.Buffer.MaxBytes)
			}
		})
	}
	c, _, err := load(t, "received.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Category[0].Ack != "stored" || c.Category[1].Ack != "received" || !reflect.DeepEqual(c.Category[0].Store, c.Category[1].Store) {
		t.Errorf("received.yaml: %+v", c.Category)
	}
}

// The examples in Scribe's grammar: without a word of warning, and with nothing in them that is
// refused or unknown.
func TestScribeExamplesLoadAndSayWhatTheyMean(t *testing.T) {
	withAccount(t)
	for _, file := range files(t, "scribe-*.conf", 3) {
		t.Run(file, func(t *testing.T) {
			m, warnings, err := LoadScribe(file, ScribeOptions{})
			if err != nil || len(warnings) > 0 {
				t.Fatalf("error %v, warnings %q", err, warnings)
			}
			for _, n := range m.Notes {
				if n.Verdict == Refused || n.Verdict == Unknown {
					t.Errorf("line %d, %s: %s", n.Line, n.Key, n.Verdict)
				}
			}
			if again, warnings, err := LoadBytes("x.yaml", m.YAML); err != nil || len(warnings) > 0 || !reflect.DeepEqual(again, m.Config) {
				t.Errorf("its YAML is another configuration: %v, %q", err, warnings)
			}
		})
	}
}

func TestEmbeddedLiesBelowItsDataFolder(t *testing.T) {
	c, err := Embedded("/srv/data")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/srv/data/state", "/srv/data/buffer", "/srv/data/n1", "/srv/data/n2"}
	got := []string{c.State, c.Buffer.Path, c.Clusters[0].Dir.Path, c.Clusters[1].Dir.Path}
	if !slices.Equal(got, want) {
		t.Errorf("folders %q, want %q", got, want)
	}
	if c.Listen != (Listen{"127.0.0.1:1463", "127.0.0.1:14630"}) || c.Buffer.MaxBytes != 10*GiB || c.Buffer.Replay != "never" {
		t.Errorf("configuration %+v", c)
	}
	places := c.Category[0].Store.Failover.Places
	if len(c.Category) != 1 || c.Category[0].Match != "*" || len(places) != 3 ||
		places[0].Files.Cluster != "n1" || places[1].Files.Cluster != "n2" || places[2].Buffer == nil {
		t.Errorf("categories %+v", c.Category)
	}
	relative, err := Embedded("x")
	if err != nil || !filepath.IsAbs(relative.State) || !strings.HasSuffix(relative.State, "/x/state") {
		t.Errorf("below x: %v, %v", relative.State, err)
	}
	if _, err := Embedded(""); err == nil {
		t.Error("a data folder without a name was taken")
	}
}

func TestLoadSaysThatThereIsNoFile(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestLoadTakesOnlyAFileThatEnds(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "conf.yaml")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	zero := filepath.Join(dir, "zero.yaml")
	if err := os.Symlink("/dev/zero", zero); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{fifo: "is no regular file", folder: "is a folder", zero: "is no regular file", large: "more than 4194304 bytes"} {
		if _, _, err := Load(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

func TestTwoLoadsShareNothing(t *testing.T) {
	a, _, err := Load("two-clusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a.Clusters[0].HDFS.NameNodes[0] = "changed"
	a.Category[0].Store.Failover.Places[0].Files.Cluster = "changed"
	b, _, err := Load("two-clusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if b.Clusters[0].HDFS.NameNodes[0] != "nn1:8020" || b.Category[0].Store.Failover.Places[0].Files.Cluster != "n1" {
		t.Errorf("the second one has %+v", b)
	}
}

func TestNothingComesFromTheEnvironment(t *testing.T) {
	t.Setenv("ACK", "received")
	t.Setenv("STATE", "/elsewhere")
	for _, m := range []struct{ text, want string }{
		{`id: "${ACK}"`, `id: "${ACK}"`},
		{"state: $STATE", "nothing is taken from the environment"},
	} {
		if c, _, err := LoadBytes("x.yaml", []byte(m.text+"\ncategories: [{match: '*', store: {buffer: {}}}]")); err == nil || !strings.Contains(err.Error(), m.want) {
			t.Errorf("it was expanded: %v, %v", c, err)
		}
	}
	if c, _, err := LoadBytes("x.yaml", []byte("categories: [{match: '*', store: {buffer: {}}}]")); err != nil || c.State != "/var/lib/twinscribe" || c.Ack != "stored" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAliasesThatMultiplyAreRefused(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 10; i++ {
		prev := string(rune('0' + i - 1))
		bomb += "a" + string(rune('0'+i)) + ": &a" + string(rune('0'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*a"+prev+", ", 10), ", ") + "]\n"
	}
	began := time.Now()
	_, _, err := LoadBytes("x.yaml", []byte(bomb))
	if err == nil || !strings.Contains(err.Error(), "more than 200000 values") {
		t.Errorf("error %.200v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestMistakesWithoutEndAreCutShort(t *testing.T) {
	var b strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, _, err := LoadBytes("x.yaml", []byte(b.String()))
	ms, ok := errors.AsType[Mistakes](err)
	if !ok || len(ms) != maxMistakes+1 || !strings.Contains(ms[maxMistakes].Text, "may be more") {
		t.Errorf("%d mistakes, the last %v", len(ms), ms[max(0, len(ms)-1)])
	}
}

func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	_, _, err := LoadBytes("x.yaml", []byte(strings.Repeat("#\n", maxFile)))
	if err == nil || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Errorf("error %.200v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "4096": 4096, "7B": 7, "64KiB": 64 << 10, "96MiB": 96 << 20, "50GiB": 50 << 30, "2TiB": 2 << 40,
		"9223372036854775807": 1<<63 - 1, "8191PiB": -1, "8388607TiB": 8388607 << 40, "8388608TiB": -1, "9223372036854775808": -1,
		"": -1, "MiB": -1, "-1MiB": -1, "+1": -1, "1.5GiB": -1, "64MB": -1, "64 MiB": -1, "64mib": -1, "0x10": -1, "1e3": -1, "64MiBs": -1,
	} {
		got, err := ParseSize(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
		if err != nil {
			continue
		}
		if back, err := ParseSize(got.String()); err != nil || back != got {
			t.Errorf("%q: %v is written %q, read back as %v, %v", text, int64(got), got, back, err)
		}
	}
	for text, remedy := range map[string]string{"64MB": "write 64MiB", "64 MiB": "write 64MiB", "64m": "write 64MiB", "5g": "write 5GiB", "1.5GiB": "want a size", "10 foo": "want a size"} {
		if _, err := ParseSize(text); err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%q: %v, want the remedy %q", text, err, remedy)
		}
	}
}

func TestNearestFindsTheWordThatIsMeant(t *testing.T) {
	known := []string{"max_size", "partition", "cluster", "idle", "id", "name"}
	for word, want := range map[string]string{
		"max_sise": "max_size", "maxsize": "max_size", "max-size": "max_size", "clutser": "cluster", "partitoin": "partition",
		"idel": "idle", "nam": "name", "compression": "", "x": "", "size": "", "cluster": "cluster",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
