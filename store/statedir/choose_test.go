package statedir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"twinscribe/buffer/vfs"
)

// barred is a file system on which folders may not be made in some.
type barred struct {
	vfs.FS
	in []string
}

func (b barred) MayMake(folder string) bool { return !slices.Contains(b.in, folder) }

func TestTheStateThatIsThereIsFound(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, name := range []string{"closed", "open", "empty"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"s1", "s2", "closed/s3"} {
		d, err := Open(vfs.OS(), at(name), Options{Host: "h"})
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	fsys := barred{vfs.OS(), []string{at("closed")}}
	for _, c := range []struct {
		folders []string
		want    string
		others  []string
	}{
		{[]string{"open/a/b", "s1"}, "s1", nil},
		{[]string{"open/a", "s1", "s2"}, "s1", []string{"s2"}},
		{[]string{"s2", "closed/s3", "s1"}, "s2", []string{"closed/s3", "s1"}},
		{[]string{"open/a", "closed/s3"}, "closed/s3", nil},
		{[]string{"closed/new/folder", "file/folder", "open/a", "empty"}, "open/a", nil},
		{[]string{"closed/new", "file", "empty", "open/a"}, "empty", nil},
		{[]string{"closed/new", "file/x"}, "closed/new", nil},
	} {
		abs := func(names []string) (list []string) {
			for _, n := range names {
				list = append(list, at(n))
			}
			return list
		}
		got, others, _ := Choose(fsys, abs(c.folders))
		if got != at(c.want) || !slices.Equal(others, abs(c.others)) {
			t.Errorf("%v: %s, %v", c.folders, got, others)
		}
	}
	if _, _, beside := Choose(fsys, []string{at("new"), at("open/a"), at("other"), at("closed/x")}); !slices.Equal(beside, []string{at("s1"), at("s2"), at("closed/s3")}) {
		t.Errorf("beside a new folder: %v", beside)
	}
	if _, _, beside := Choose(fsys, []string{at("new"), at("s1")}); beside != nil {
		t.Errorf("beside one with a state: %v", beside)
	}
	if _, err := os.Stat(at("open/a")); err == nil {
		t.Error("looking has made a folder")
	}
}

func TestAFolderOfAnotherAccountIsNotPassedOver(t *testing.T) {
	root := t.TempDir()
	foreign := filepath.Join(root, "foreign")
	if err := os.Mkdir(foreign, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir(foreign); err == nil {
		t.Skip("this account may look into all folders")
	}
	if got, _, _ := Choose(vfs.OS(), []string{filepath.Join(root, "new"), foreign}); got != foreign {
		t.Errorf("chose %s", got)
	}
}
