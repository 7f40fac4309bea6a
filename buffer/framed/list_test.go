package framed_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinscribe/buffer/framed"
	"twinscribe/buffer/framed/framedtest"
	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

func put(t *testing.T, fsys vfs.FS, path, content string) {
	t.Helper()
	f, err := fsys.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.Write([]byte(content))
	must(t, err)
	must(t, f.Close())
}

func TestListIsInTheOrderOfReplay(t *testing.T) {
	fsys := memfs.New()
	must(t, fsys.MkdirAll("/s/web_log", 0o700))
	for _, name := range []string{
		"web_log_00010", "web_log_00009", "web_log_100000", "web_log_99999", "web_log_00000", "web_log_18446744073709551615",
	} {
		put(t, fsys, "/s/web_log/"+name, name)
	}
	files, passed, err := framed.List(fsys, "/s/web_log", "web_log")
	must(t, err)
	var got []string
	for _, f := range files {
		got = append(got, fmt.Sprintf("%s=%d/%d", f.Name, f.Number, f.Size))
	}
	want := "web_log_00000=0/13 web_log_00009=9/13 web_log_00010=10/13 web_log_99999=99999/13 web_log_100000=100000/14 " +
		"web_log_18446744073709551615=18446744073709551615/28"
	if strings.Join(got, " ") != want || len(passed) != 0 {
		t.Fatalf("%v, passed over %v", got, passed)
	}
}

func TestListSaysWhatItPassedOver(t *testing.T) {
	folder := t.TempDir()
	fsys := vfs.OS()
	put(t, fsys, filepath.Join(folder, "web_00000"), "")
	put(t, fsys, filepath.Join(folder, "elsewhere"), one("not in the list"))
	must(t, os.Mkdir(filepath.Join(folder, "web_00001"), 0o700))
	must(t, os.Symlink("web_00000", filepath.Join(folder, "web_00002")))
	must(t, os.Symlink("nowhere", filepath.Join(folder, "web_00003")))
	must(t, syscall.Mkfifo(filepath.Join(folder, "web_00004"), 0o600))
	for _, name := range []string{"web", "web_", "web_7", "web_0000x", "web_000007", "web_-0001", "web_+0001", "web_18446744073709551616",
		"web-2026-11-22_00000", "api_00000", "a_web_00000", "scribe_stats", "web_00000.tmp"} {
		put(t, fsys, filepath.Join(folder, name), "x")
	}
	files, passed, err := framed.List(fsys, folder, "web")
	must(t, err)
	if len(files) != 1 || files[0].Name != "web_00000" {
		t.Fatalf("%v", files)
	}
	got := map[string]string{}
	for _, p := range passed {
		got[p.Name] = p.Why
	}
	for name, why := range map[string]string{
		"elsewhere": "no underscore", "web": "no underscore", "web_": `"" is no number`, "web_7": `"7" is no number`, "web_0000x": `"0000x" is no number`,
		"web_000007": `"000007" is no number`, "web_-0001": `"-0001" is no number`, "web_+0001": `"+0001" is no number`,
		"web_18446744073709551616": "is no number", "web_00000.tmp": `"00000.tmp" is no number`,
		"web-2026-11-22_00000": `base name is "web-2026-11-22"`, "api_00000": `base name is "api"`, "a_web_00000": `base name is "a_web"`,
		"scribe_stats": `base name is "scribe"`,
		"web_00001":    "a folder", "web_00002": "a symbolic link", "web_00003": "a symbolic link", "web_00004": "not a regular file",
	} {
		if !strings.Contains(got[name], why) {
			t.Errorf("%s was passed over because %q, want %q", name, got[name], why)
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("and %v", got)
	}
}

func TestListFails(t *testing.T) {
	fsys := memfs.New()
	for _, base := range []string{"", "../web", "a/b"} {
		if _, _, err := framed.List(fsys, "/", base); err == nil {
			t.Errorf("base name %q is taken", base)
		}
	}
	if _, _, err := framed.List(fsys, "/missing", "web"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

// TestOpenFollowsNothing puts other things into the place of a listed file.
func TestOpenFollowsNothing(t *testing.T) {
	folder := t.TempDir()
	target, path := filepath.Join(folder, "target"), filepath.Join(folder, "web_00000")
	put(t, vfs.OS(), target, "secret")
	for name, put := range map[string]func() error{
		"link":   func() error { return os.Symlink(target, path) },
		"folder": func() error { return os.Mkdir(path, 0o700) },
		"pipe":   func() error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, put())
			opened := running(func() { // a pipe is not waited for
				if f, _, err := framed.Open(vfs.OS(), path); err == nil {
					f.Close()
					t.Error("it is opened")
				}
			})
			select {
			case <-opened:
			case <-time.After(10 * time.Second):
				t.Fatal("Open waits")
			}
			must(t, os.Remove(path))
		})
	}
	put(t, vfs.OS(), path, one(a))
	f, size, err := framed.Open(vfs.OS(), path)
	must(t, err)
	defer f.Close()
	if size != int64(len(one(a))) {
		t.Fatal(size)
	}
}

// running runs do and closes the channel behind it.
func running(do func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	return done
}

func TestOpenFails(t *testing.T) {
	fsys := memfs.New()
	if _, _, err := framed.Open(fsys, "/web_00000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	put(t, fsys, "/web_00000", "x")
	boom := errors.New("boom")
	if _, _, err := framed.Open(faultfs.New(fsys, faultfs.On(faultfs.Open, "*", boom)), "/web_00000"); !errors.Is(err, boom) {
		t.Errorf("a file that cannot be opened: %v", err)
	}
}

// TestFilesAsTheOriginalWritesThem goes from the writer through List, Open and
// Scan: two files in each form, of which the older one was opened again.
func TestFilesAsTheOriginalWritesThem(t *testing.T) {
	for _, form := range forms {
		t.Run(fmt.Sprintf("form=%v", form), func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "web")
			want := inForm(form, []message{{"web", a}, {"api", ""}, {"web", b}, {"web", c}})
			for i, number := range []uint64{99999, 99999, 99999, 100000} {
				path, err := framedtest.AppendFile(vfs.OS(), folder, "web", number, framedtest.Append(nil, form, want[i].category, want[i].text))
				must(t, err)
				if path != filepath.Join(folder, framed.Name("web", number)) {
					t.Fatal(path)
				}
			}
			files, passed, err := framed.List(vfs.OS(), folder, "web")
			must(t, err)
			if len(files) != 2 || len(passed) != 0 {
				t.Fatalf("%v, %v", files, passed)
			}
			var got []message
			for _, file := range files {
				f, size, err := framed.Open(vfs.OS(), filepath.Join(folder, file.Name))
				must(t, err)
				defer f.Close()
				if size != file.Size {
					t.Fatalf("%s has %d bytes, listed are %d", file.Name, size, file.Size)
				}
				_, err = framed.Scan(f, size, framed.Options{Form: form},
					func(m framed.Message) error {
						got = append(got, message{m.Category, string(m.Data)})
						return nil
					},
					func(d framed.Damage) error { return errors.New(d.String()) })
				must(t, err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q", got)
			}
		})
	}
	if got := framedtest.Append([]byte("x"), framed.TwoFrames, "web", "ab"); string(got) != "x\x04\x00\x00\x00web\n\x02\x00\x00\x00ab" {
		t.Fatalf("%q", got)
	}
}
