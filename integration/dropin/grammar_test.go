//go:build integration

package dropin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twinscribe/integration/lab"
)

// TestK4Grammar: comments, numbers of base 0, closing tags of another name, inheritance of
// type::key, the last of two equal keys, unknown keys with a warning.
func TestK4Grammar(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := started(t, `
# a comment
max_msg_per_second=0x64 # 100
max_msg_per_second = 01750   # 1000, and the last one counts
file::add_newlines=1
file::file_path=`+dir+`
no_such_key=1
<store>  
  category=list
  categories=one two list
  type=file
</store>
<store>
category=both
type=buffer
file::file_path=`+dir+`/near
retry_interval=0x1
retry_interval_range=0
replay_buffer=no
<primary>
type=file
base_filename=primary
</primary>
<secondary>
type=file
base_filename=secondary
</primary>
</store>
`)
	log(t, s, entry("one", "1"), entry("two", "2"), entry("list", "3"), entry("both", "4"))
	for category, want := range map[string]string{"one": "1\n", "two": "2\n", "list": "3\n"} {
		holds(t, filepath.Join(dir, category), category, want)
	}
	holds(t, filepath.Join(dir, "near"), "primary", "4\n")
	for _, warned := range []string{"no_such_key", "max_msg_per_second", "closes <secondary>"} {
		if !strings.Contains(string(s.Log()), warned) {
			t.Errorf("the log has no warning about %s", warned)
		}
	}
	stdout, stderr, code := s.Run("check", s.Config)
	if code != 0 || !strings.Contains(string(stdout)+string(stderr), "no_such_key") {
		t.Errorf("check: exit status %d\n%s%s", code, stdout, stderr)
	}
}

// TestK4Options: -c, -p and the file as an argument; the port in the file counts more.
func TestK4Options(t *testing.T) {
	t.Parallel()
	bin, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{bin, "scribed", "-p", "PORT", "-c", "FILE"},
		{bin, "scribed", "-p", "PORT", "FILE"},
		{lab.Tool(t, "scribed"), "-p", "PORT", "-c", "FILE"},
	} {
		s := lab.NewScribe(t, store("category=default", "type=null"))
		text, err := os.ReadFile(s.Config)
		if err != nil {
			t.Fatal(err)
		}
		_, without, _ := strings.Cut(string(text), "\n") // the first line is the port
		write(t, s.Config, without)
		s.Command(filled(args, s)...)
		s.Start()
		log(t, s, entry("p", "m"))
		stopped(t, s)
	}
	s := lab.NewScribe(t, store("category=default", "type=null"))
	s.Command(filled([]string{bin, "scribed", "-p", lab.OwnPort(t), "-c", "FILE"}, s)...)
	s.Start()
	log(t, s, entry("p", "m"))

	usage := tools(t, "scribed")[0]
	if stdout, _, code := usage.run(t, "", "-h"); code != 0 || !strings.Contains(stdout, "scribed") {
		t.Errorf("-h: exit status %d, %q", code, stdout)
	}
	if _, stderr, code := usage.run(t, "", "-c", "/nonexistent/scribe.conf"); code == 0 || !strings.Contains(stderr, "scribe.conf") {
		t.Errorf("no such file: exit status %d, %q", code, stderr)
	}
}

// filled puts a server's port and file into arguments.
func filled(args []string, s *lab.Server) []string {
	var out []string
	for _, a := range args {
		switch a {
		case "PORT":
			a = s.Port()
		case "FILE":
			a = s.Config
		}
		out = append(out, a)
	}
	return out
}

// TestD3BadConfiguration: what the original passed over in silence is read as it is meant, with a
// warning; a mistake that can mean several things keeps the server from starting, with its line.
// A category without a store is kept and counted.
func TestD3BadConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stray := started(t, "</store>\n"+filing(dir))
	log(t, stray, entry("stray", "m"))
	holds(t, filepath.Join(dir, "stray"), "stray", "m\n")
	if !strings.Contains(string(stray.Log()), "closes nothing") {
		t.Error("no warning about the stray closing tag")
	}
	crlf := started(t, strings.ReplaceAll(filing(dir), "\n", "\r\n"))
	log(t, crlf, entry("crlf", "m"))
	holds(t, filepath.Join(dir, "crlf"), "crlf", "m\n")

	for _, c := range []struct{ name, conf, says string }{
		{"no stores", "", "there is no store"},
		{"unknown type", store("category=a", "type=fille"), "fille"},
		{"no category", store("type=null"), "without category"},
		{"letters in a number", store("category=a", "type=file", "max_size=1 GB"), "max_size"},
		{"thriftfile", store("category=a", "type=thriftfile"), "thriftfile"},
		{"smc", store("category=a", "type=network", "smc_service=s"), "smc_service"},
	} {
		s := lab.NewScribe(t, c.conf)
		for _, args := range [][]string{{"check", s.Config}, {"scribed", "-c", s.Config}} {
			stdout, stderr, code := s.Run(args...)
			if said := string(stdout) + string(stderr); code == 0 || !strings.Contains(said, c.says) {
				t.Errorf("%s, %s: exit status %d, want another than 0 and %q in\n%s", c.name, args[0], code, c.says, said)
			}
		}
	}

	many := lab.NewScribe(t, "no_such_key=1\n"+store("category=a", "type=file", "file_path="+dir, "max_size=1 GB", "fs_tipe=std")+
		store("category=b", "type=fille")+store("category=c", "type=file", "file_path="+dir, "base_filename=../c")+"<unclosed\n")
	_, stderr, code := many.Run("check", many.Config)
	for _, want := range []string{"no_such_key", "max_size", "fs_tipe", "fille", "../c", "<unclosed"} {
		if n := strings.Count(string(stderr), want); code != 1 || n != 1 {
			t.Errorf("check: exit status %d, want 1; %s is told %d times, want once, in\n%s", code, want, n, stderr)
		}
	}

	unrouted := lab.NewScribe(t, store("category=known", "type=null"))
	unrouted.Start()
	log(t, unrouted, entry("unknown", "kept-0"), entry("unknown", "kept-1"))
	counted(t, unrouted, "unknown:received bad", 2)
	counted(t, unrouted, "scribe_overall:received bad", 2)
	stopped(t, unrouted)
	yaml, stderr, code := unrouted.Run("check", "--to", "yaml", unrouted.Config)
	if code != 0 {
		t.Fatalf("check --to yaml: exit status %d, %s", code, stderr)
	}
	write(t, filepath.Join(dir, "same.yaml"), string(yaml))
	stdout, stderr, code := unrouted.Run("buffer", "ls", "-c", filepath.Join(dir, "same.yaml"))
	if code != 0 || !strings.Contains(string(stdout), "unrouted") {
		t.Errorf("the buffer of what has no store: exit status %d, %s%s", code, stdout, stderr)
	}
}

// TestScenario10Recover: a configuration that is refused at a reload changes nothing; a folder that
// cannot be written to is told in the status, and what was taken is written once it can be.
func TestScenario10Recover(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := lab.NewScribe(t, filing(dir))
	s.Start()
	send(t, s, "recover", 0, 100)
	s.Rewrite(store("category=default", "type=fille"))
	s.Oneway("reinitialize")
	waitFor(t, func() bool { return strings.Contains(string(s.Log()), "fille") }, func() string { return "the log does not name the mistake" })
	send(t, s, "recover", 100, 200)
	inOrder(t, filepath.Join(dir, "recover"), "recover", "recover", 200)

	away := filepath.Join(dir, "away")
	write(t, away, "")
	s.Rewrite(store("category=default", "type=file", "file_path="+away, "add_newlines=1"))
	s.Oneway("reinitialize")
	waitFor(t, func() bool { return strings.Contains(string(s.Log()), "reloaded") }, func() string { return "no reload" })
	send(t, s, "later", 0, 100)
	waitFor(t, func() bool { status, _ := s.Fb303(); return status == warning }, func() string { return "no WARNING" })
	if _, details := s.Fb303(); !strings.Contains(details, "later") {
		t.Errorf("details %q do not name the category", details)
	}
	if err := os.Remove(away); err != nil {
		t.Fatal(err)
	}
	inOrder(t, filepath.Join(away, "later"), "later", "later", 100)
}
