package scribe

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const inheritance = `file::fs_type=std
file::max_size=1
buffer::max_size=2
file::type=null
file::category=x
fs_type=hdfs
<store>
  category=a
  type=buffer
  file::max_size=3
  max_size=4
  <primary>
    type=file
    file::file_path=/own
    <inner>
      type=file
    </inner>
  </primary>
  <secondary>
    type=file
    max_size=5
  </secondary>
  <third>
    max_write_size=6
  </third>
  <fourth>
    type=
    ::fs_type=7
  </fourth>
</store>
file::categories=y
`

func TestAKeyIsInheritedByTheTypeThatAsks(t *testing.T) {
	store := Parse("x", []byte(inheritance)).Root.Section("store0")
	for _, c := range []struct {
		section, key string
		want         string // text, line, where it stands
	}{
		{"", "max_size", "4 11 store0"},
		{"", "fs_type", "none"},
		{"primary", "max_size", "3 10 store0 inherited"},
		{"primary", "fs_type", "std 1  inherited"},
		{"primary", "file_path", "/own 14 store0/primary inherited"},
		{"primary/inner", "file_path", "/own 14 store0/primary inherited"},
		{"primary/inner", "max_size", "3 10 store0 inherited"},
		{"primary", "file::file_path", "/own 14 store0/primary"},
		{"primary", "type", "file 13 store0/primary"},
		{"primary", "category", "none"},
		{"primary", "categories", "none"},
		{"secondary", "max_size", "5 21 store0/secondary"},
		{"secondary", "file_path", "none"},
		{"third", "fs_type", "none"},
		{"third", "type", "none"},
		{"fourth", "fs_type", "none"},
	} {
		s := store
		for name := range strings.SplitSeq(c.section, "/") {
			if name != "" {
				s = s.Section(name)
			}
		}
		got := "none"
		if v, found := s.Lookup(c.key); found {
			got = fmt.Sprintf("%s %d %s", v.Text, v.Line, v.Section.Path())
			if v.Inherited {
				got += " inherited"
			}
		}
		if got != c.want {
			t.Errorf("%s in %q: %s, want %s", c.key, c.section, got, c.want)
		}
	}
}

func TestKeysOfTheServerAreNotInherited(t *testing.T) {
	f := Parse("x", []byte("max_size=1\n<store>\ntype=file\n</store>\n"))
	if v, found := f.Root.Lookup("max_size"); !found || v.Text != "1" {
		t.Errorf("the server's is %+v, %v", v, found)
	}
	if v, found := f.Root.Section("store0").Lookup("max_size"); found {
		t.Errorf("the store's is %+v", v)
	}
}

func TestTheLastOfAKeyIsTheOneThatIsFound(t *testing.T) {
	f := Parse("x", []byte("a=1\na=2\n<s>\na=1\n</s>\n<s>\na=3\n</s>\n"))
	if v, _ := f.Root.Lookup("a"); v.Text != "2" || v.Line != 2 {
		t.Errorf("%+v", v)
	}
	if v, _ := f.Root.Section("s").Lookup("a"); v.Text != "3" || v.Line != 7 {
		t.Errorf("%+v", v)
	}
}

func TestWhatNothingReadIsTold(t *testing.T) {
	f := Parse("x", []byte(`port=1463
prot=1464
file::fs_type=std
file::sync_interval=1
network::timeout=5
file::type=null
<store>
  type=buffer
  category=a
  lzo_compression=no
  file::max_size=1
  <primary>
    type=file
    fs_type=hdfs
    max_size=2
    max_sise=3
  </primary>
  <tertiary>
    type=file
    <deeper>
    </deeper>
  </tertiary>
</store>
<unknown>
  type=file
</unknown>
`))
	f.Root.Lookup("port")
	store := f.Root.Section("store0")
	store.Lookup("type")
	store.Lookup("category")
	store.Lookup("categories")
	for _, key := range []string{"type", "fs_type", "max_size"} {
		store.Section("primary").Lookup(key)
	}
	if got := said(f); got != "" {
		t.Errorf("before it is asked for it says\n%s", got)
	}
	for range 2 { // to ask twice says no more
		f.WarnUnread()
	}
	want := `2: prot: warning: nothing reads this key here: correct its name, or remove it
4: file::sync_interval: warning: no store of type "file" around here reads it: correct its name, or remove it
5: network::timeout: warning: no store of type "network" around here reads it: correct its name, or remove it
6: file::type: warning: no store of type "file" around here reads it: correct its name, or remove it
10: store0: lzo_compression: warning: nothing reads this key here: correct its name, or remove it
16: store0/primary: max_sise: warning: nothing reads this key here: correct its name, or remove it
18: store0/tertiary: warning: nothing reads this section: correct its name, or remove it
24: unknown: warning: nothing reads this section: correct its name, or remove it
`
	if got := said(f); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if err := f.Err(); err != nil {
		t.Errorf("error %v", err)
	}
}

func TestASectionIsReadWhenSomethingInItIs(t *testing.T) {
	f := Parse("x", []byte("<a>\n<b>\nc=1\n</b>\n</a>\n"))
	for _, a := range f.Root.ByName() { // to walk over sections is not to read them
		for _, b := range a.Sections() {
			if b.Name != "b" {
				t.Fatal(b.Name)
			}
		}
	}
	f.WarnUnread()
	if got, want := said(f), "1: a: warning: nothing reads this section: correct its name, or remove it\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	f = Parse("x", []byte("<a>\n<b>\nc=1\n</b>\n</a>\n"))
	f.Root.Sections()[0].Sections()[0].Uint("c", 0)
	f.WarnUnread()
	if got := said(f); got != "" {
		t.Errorf("it says %s", got)
	}
}

func TestMistakesOfOthersHaveTheirPlace(t *testing.T) {
	f := Parse("x", []byte("b\nfile::max_size=1\n<store>\ntype=file\nretry=2\nfile::=3\n</store>\n<store>\ntype=file\n</store>\n"))
	store := f.Root.Section("store0")
	store.AddError("retry", "is too small", "write 3")
	store.AddError("max_size", "is too small", "write 3")
	f.Root.Section("store1").AddError("max_size", "is too small", "write 3") // the same line: said once
	store.AddWarning("file_path", "is missing", "write one")
	store.AddError("", "a store without a category", "write one")
	f.Root.AddError("port", "is missing", "write one")
	want := `x: port: is missing: write one
x:1: "b" is neither key=value nor a section: put a = behind the key, or a # in front of a comment
x:2: file::max_size: is too small: write 3
x:3: store0: file_path: warning: is missing: write one
x:3: store0: a store without a category: write one
x:5: store0: retry: is too small: write 3`
	if got := f.Mistakes().Error(); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if got, is := errors.AsType[Mistakes](f.Err()); !is || len(got) != 5 {
		t.Errorf("errors are\n%s", got)
	}
	f.WarnUnread() // a mistake is no reading
	if got := said(f); strings.Count(got, "nothing reads this key") != 3 || strings.Count(got, "no store of type") != 2 {
		t.Errorf("then it says\n%s", got)
	}
}
