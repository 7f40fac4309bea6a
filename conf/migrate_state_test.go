package conf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func withHome(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "/home/scribe")
}

// statesOf are the folders in which the state of a file may be.
func statesOf(t *testing.T, text string, port int) (folders []string) {
	t.Helper()
	m, _, err := loadScribe("a.conf", []byte(text), ScribeOptions{Port: port, State: func(list []string) (string, []string, []string) {
		folders = list
		return list[len(list)-1], nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if last := folders[len(folders)-1]; m.Config.State != last || !strings.Contains(string(m.YAML), "\nstate: "+last+"\n") {
		t.Errorf("state in %s, want %s\n%s", m.Config.State, last, m.YAML)
	}
	return folders
}

// buffered is a store of category name whose buffer is in /buffers/name.
func buffered(name string) string {
	return fmt.Sprintf("<store>\ncategory=%s\ntype=buffer\n<primary>\ntype=network\nremote_host=h\nremote_port=1\n</primary>\n"+
		"<secondary>\ntype=file\nfile_path=/buffers/%s\n</secondary>\n</store>\n", name, name)
}

const filed = "<store>\ncategory=f\ntype=file\nfile_path=/files\n</store>\n"

func TestWhereTheStateMayBe(t *testing.T) {
	withHome(t)
	const usual, home = "/var/lib/twinscribe/1463", "/home/scribe/.local/state/twinscribe/1463"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"no folder", "<store>\ncategory=default\ntype=null\n</store>\n", nil},
		{"buffers first", filed + buffered("a") + buffered("b"), []string{"/buffers/a", "/buffers/b", "/files"}},
		{"by line", buffered("b") + filed + buffered("a"), []string{"/buffers/b", "/buffers/a", "/files"}},
		{"each once", filed + strings.Replace(filed, "=f\n", "=g\n", 1), []string{"/files"}},
		{"none named", "<store>\ncategory=default\ntype=file\n</store>\n", nil},
	} {
		want := []string{usual}
		for _, f := range c.want {
			want = append(want, f+"/_twinscribe/1463")
		}
		want = append(want, home)
		if got := statesOf(t, "port=1463\n"+c.text, 0); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
	hdfs := strings.Replace(buffered("h"), "type=network\nremote_host=h\nremote_port=1\n", "type=file\nfs_type=hdfs\nfile_path=hdfs://n/x\n", 1)
	want := []string{"/buffers/h/_twinscribe/1463", usual, "/buffers/a/_twinscribe/1463", "/files/_twinscribe/1463", home}
	if got := statesOf(t, buffered("a")+filed+hdfs, 1463); !slices.Equal(got, want) {
		t.Errorf("in front of HDFS: %q, want %q", got, want)
	}
	if got := statesOf(t, filed, 1500); got[1] != "/files/_twinscribe/1500" {
		t.Errorf("the port of the command line: %q", got)
	}
	t.Setenv("XDG_STATE_HOME", "/state")
	if got := statesOf(t, filed, 1500); got[2] != "/state/twinscribe/1500" {
		t.Errorf("XDG_STATE_HOME: %q", got)
	}
}

func TestTheEleventhStoreComesBehindTheSecond(t *testing.T) {
	withHome(t)
	text := "port=1463\n"
	for n := range 11 { // store10 comes before store2 by name
		text += fmt.Sprintf("<store>\ncategory=c%d\ntype=file\nfile_path=/files/%d\n</store>\n", n, n)
	}
	if got := statesOf(t, text, 0); got[3] != "/files/2/_twinscribe/1463" || got[11] != "/files/10/_twinscribe/1463" {
		t.Errorf("%q", got)
	}
}

func TestWhatMayLeaveAStateBehindIsTold(t *testing.T) {
	choose := func(list []string) (string, []string, []string) { return list[0], list[1:2], nil }
	_, warnings, err := loadScribe("a.conf", []byte("port=1463\n"+filed), ScribeOptions{State: choose})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "state=/files/_twinscribe/1463 until") {
		t.Errorf("%q, %v", warnings, err)
	}
	within := func(list []string) (string, []string, []string) { return list[1], nil, nil }
	_, warnings, err = loadScribe("a.conf", []byte("port=1463\n"+filed), ScribeOptions{State: within})
	if err != nil || len(warnings) != 1 || !strings.HasSuffix(warnings[0], "stays there: write state=/files/_twinscribe/1463") {
		t.Errorf("%q, %v", warnings, err)
	}
	another := func(list []string) (string, []string, []string) {
		return list[0], nil, []string{"/var/lib/twinscribe/1"}
	}
	_, warnings, err = loadScribe("a.conf", []byte("port=1463\n"+filed), ScribeOptions{State: another})
	if err != nil || len(warnings) != 1 || !strings.HasSuffix(warnings[0], "if that is this server's, write state=/var/lib/twinscribe/1") {
		t.Errorf("%q, %v", warnings, err)
	}
	m, warnings, err := loadScribe("a.conf", []byte("port=1463\nstate=/s\n"+filed), ScribeOptions{State: func([]string) (string, []string, []string) {
		t.Error("looked for, though the file names it")
		return "", nil, nil
	}})
	if err != nil || m.Config.State != "/s" || len(warnings) > 0 {
		t.Errorf("%q, %v", warnings, err)
	}
}

func TestToolsNeedNoPortWhereTheFileSaysTheRest(t *testing.T) {
	const rest = "state=/s\nhttp=127.0.0.1:1\n" + filed
	for _, c := range []struct {
		text string
		o    ScribeOptions
		says string
	}{
		{rest, ScribeOptions{Tool: true}, ""},
		{rest, ScribeOptions{}, "names no port to listen on"},
		{filed, ScribeOptions{Tool: true}, "give -p 1463, or write port=1463, or both state= and http="},
		{"state=/s\n" + filed, ScribeOptions{Tool: true}, "give -p 1463"},
		{filed, ScribeOptions{Tool: true, Port: 1463}, ""},
		{"port=0\n" + rest, ScribeOptions{Tool: true, Port: 1463}, "0 is no port"},
	} {
		if _, _, err := loadScribe("a.conf", []byte(c.text), c.o); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q, %+v: %v", c.text, c.o, err)
		}
	}
}

func TestTheHTTPPortIsOne(t *testing.T) {
	for port, want := range map[int]string{1463: "14630", 1: "13168", 52368: "65535", 52369: "39202", 60000: "46833", 65535: "52368"} {
		m, _, err := LoadScribeBytes("a.conf", []byte(filed), port)
		if err != nil || m.Config.Listen.HTTP != "127.0.0.1:"+want {
			t.Errorf("%d: %+v, %v", port, m, err)
		}
	}
}
