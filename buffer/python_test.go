package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"twinscribe/buffer/vfs"
)

// TestAnotherLanguageReadsTheSameMessages runs the reader in Python, which
// shares no code with this package.
func TestAnotherLanguageReadsTheSameMessages(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: the independent reader of segments was not run")
	}
	dir := filepath.Join(t.TempDir(), "buffer")
	b := open(t, vfs.OS(), dir, func(o *Options) { o.SegmentBytes = 4096 })
	var want bytes.Buffer
	for i := range 40 {
		r := batch("wanted", uint64(3*i+1), 3)
		r.Data = append(r.Data, fmt.Sprintf("line\nfeeds \x00\xff %d\n\n", i)...)
		r.Ends = append(r.Ends, uint32(len(r.Data)))
		r.Senders, r.IDs = []string{"10.0.0.1", "::1"}, []ID{{Producer: "p", Messages: 2}, {Producer: "qq"}}
		add(t, b, Outage, r)
		want.Write(r.Data)
		add(t, b, Outage, batch("other", uint64(3*i+1), 3))
	}
	run := func() (string, string, int) {
		var out, errs bytes.Buffer
		c := exec.Command(python, "../integration/readers/segments.py", dir, "wanted")
		c.Stdout, c.Stderr = &out, &errs
		err := c.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), errs.String(), c.ProcessState.ExitCode()
	}
	list := b.Segments()
	if len(list) < 3 || list[len(list)-1].Sealed {
		t.Fatalf("want sealed segments and an open one: %+v", list)
	}
	if out, errs, code := run(); out != want.String() || errs != "" || code != 0 {
		t.Fatalf("exit %d, %q, %d bytes of %d", code, errs, len(out), want.Len())
	}
	must(t, b.Close(t.Context()))
	if out, errs, code := run(); out != want.String() || errs != "" || code != 0 {
		t.Fatalf("after Close: exit %d, %q, %d bytes of %d", code, errs, len(out), want.Len())
	}

	// Damage in the middle: both readers salvage the same.
	content, err := vfs.ReadFile(vfs.OS(), list[1].Path)
	must(t, err)
	content[len(content)/2] ^= 1
	put(t, vfs.OS(), list[1].Path, content)
	want.Reset()
	for _, s := range list {
		records, _ := read(t, vfs.OS(), s.Path)
		for _, r := range records {
			if r.Category == "wanted" {
				want.Write(r.Data)
			}
		}
	}
	out, errs, code := run()
	if out != want.String() || code != 3 || errs == "" {
		t.Fatalf("damaged: exit %d, %q, %d bytes of %d", code, errs, len(out), want.Len())
	}
}
