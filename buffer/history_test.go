package buffer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/datadriven"

	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
)

// TestHistories plays the scripts in testdata/history. Their commands:
//
//	open [segment=N] [max=N]     a start, with the next epoch
//	append REASON n=N [count=N]  batches of N messages
//	seal REASON
//	ship N, forget N             the N-th segment, from 1
//	fail KIND [times=N], mend    calls to the file system (faultfs)
//	kill                         the process is gone, the disk stays
//	powercut                     and so is what was not synced
//	close
//	hurt N at=OFFSET | tail=TEXT a bit of a segment, or bytes behind it
//	verify                       what Run does with segments of earlier starts
//	ls                           segments, figures, files in quarantine
//	read                         the sequences in each segment
func TestHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/history", func(t *testing.T, path string) {
		h := &history{t: t, disk: memfs.New(), o: options(), first: 1}
		h.o.Identity.Epoch = 0
		defer h.end()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return h.play(d)
		})
	})
}

type history struct {
	t     *testing.T
	disk  *memfs.FS
	fsys  *faultfs.FS
	o     Options
	b     *Buffer
	first uint64
}

func (h *history) end() {
	if h.b != nil {
		_ = h.b.Close(context.Background())
		h.b = nil
	}
}

func reasonOf(d *datadriven.TestData) Reason {
	for r := Spill; r <= DeadLetter; r++ {
		if d.CmdArgs[0].Key == r.String() {
			return r
		}
	}
	d.Fatalf(nil, "no reason %q", d.CmdArgs[0].Key)
	return 0
}

func (h *history) number(d *datadriven.TestData) Segment {
	var n int
	if _, err := fmt.Sscan(d.CmdArgs[0].Key, &n); err != nil {
		d.Fatalf(h.t, "%v", err)
	}
	list, err := List(h.disk, "/b")
	must(h.t, err)
	return list[n-1]
}

func (h *history) play(d *datadriven.TestData) string {
	ctx := h.t.Context()
	result := func(err error) string {
		if err != nil {
			return h.stable(err.Error())
		}
		return "ok"
	}
	switch d.Cmd {
	case "open":
		d.MaybeScanArgs(h.t, "segment", &h.o.SegmentBytes)
		d.MaybeScanArgs(h.t, "max", &h.o.MaxBytes)
		h.o.Identity.Epoch++
		h.o.Identity.Start = 0xa0 + h.o.Identity.Epoch
		h.fsys = faultfs.New(h.disk, nil)
		b, err := Open(h.fsys, "/b", h.o)
		if err == nil {
			h.b = b
		}
		return result(err)
	case "append":
		n, count := 1, 1
		d.MaybeScanArgs(h.t, "n", &n)
		d.MaybeScanArgs(h.t, "count", &count)
		for range count {
			if err := h.b.Append(ctx, reasonOf(d), batch("web", h.first, n)); err != nil {
				return result(err)
			}
			h.first += uint64(n)
		}
		return "ok"
	case "seal":
		return result(h.b.Seal(ctx, reasonOf(d)))
	case "ship":
		return result(h.b.Shipped(h.number(d).Name))
	case "forget":
		n, err := h.b.Forget(h.number(d).Name)
		return fmt.Sprintf("%d messages, %s", n, result(err))
	case "fail":
		times := 1
		d.MaybeScanArgs(h.t, "times", &times)
		h.fsys.Set(faultfs.From(1, times, faultfs.On(faultfs.Kind(d.CmdArgs[0].Key), "", syscall.EIO)))
		return "ok"
	case "mend":
		h.fsys.Set(nil)
		return "ok"
	case "kill", "powercut":
		image := h.disk.Crash(nil)
		if d.Cmd == "kill" {
			image = h.copied()
		}
		h.end()
		h.disk = image
		return "ok"
	case "close":
		err := h.b.Close(ctx)
		h.b = nil
		return result(err)
	case "hurt":
		return h.hurt(d)
	case "verify":
		for more := true; more; {
			_, more = h.b.verifyOne(ctx)
		}
		return "ok"
	case "ls":
		return h.list()
	case "read":
		return h.read()
	}
	d.Fatalf(h.t, "unknown command %q", d.Cmd)
	return ""
}

// copied is the disk as a killed process leaves it: everything it wrote.
func (h *history) copied() *memfs.FS {
	image := memfs.New()
	must(h.t, image.MkdirAll("/b/quarantine", 0o700))
	for _, name := range h.disk.Files() {
		f, err := h.disk.OpenFile(name, os.O_RDONLY, 0)
		must(h.t, err)
		must(h.t, copyDurably(image, name, struct{ reader }{f}))
		must(h.t, f.Close())
		must(h.t, image.SyncDir(filepath.Dir(name)))
	}
	must(h.t, image.SyncDir("/"))
	return image
}

type reader interface{ Read([]byte) (int, error) }

func (h *history) hurt(d *datadriven.TestData) string {
	f, err := h.disk.OpenFile(h.number(d).Path, os.O_RDWR, 0)
	must(h.t, err)
	defer f.Close()
	at, tail := int64(-1), ""
	d.MaybeScanArgs(h.t, "at", &at)
	d.MaybeScanArgs(h.t, "tail", &tail)
	p := []byte(tail)
	if at >= 0 {
		p = make([]byte, 1)
		_, err := f.ReadAt(p, at)
		must(h.t, err)
		p[0] ^= 8
	} else {
		info, err := f.Stat()
		must(h.t, err)
		at = info.Size()
	}
	_, err = f.WriteAt(p, at)
	must(h.t, err)
	must(h.t, f.Sync())
	return "ok"
}

var salt = regexp.MustCompile(`\.[0-9a-f]{16}\b`)

// stable takes the random salts out of a text.
func (h *history) stable(s string) string { return salt.ReplaceAllString(s, "") }

func (h *history) list() string {
	var out strings.Builder
	for _, s := range h.b.Segments() {
		state := "open"
		switch {
		case s.Shipped:
			state = "shipped"
		case s.Sealed:
			state = "sealed"
		}
		fmt.Fprintf(&out, "%s: %v, %s, %d records, %d messages", s.Name, s.Reason, state, s.Records, s.Messages)
		if s.Damaged {
			out.WriteString(", damaged")
		}
		if s.Problem != "" {
			fmt.Fprintf(&out, ", %s", s.Problem)
		}
		out.WriteByte('\n')
	}
	s := h.b.Stats()
	fmt.Fprintf(&out, "refused=%d failed=%d poisoned=%d torn=%d missing=%d", s.Refused, s.Failed, s.Poisoned, s.TornBytes, s.MissingRecords)
	for _, f := range h.disk.Files() {
		if strings.HasPrefix(f, "/b/quarantine/") {
			fmt.Fprintf(&out, "\nquarantine: %s", filepath.Base(f))
		}
	}
	return h.stable(out.String())
}

func (h *history) read() string {
	list, err := List(h.disk, "/b")
	must(h.t, err)
	var out strings.Builder
	for _, s := range list {
		records, report := read(h.t, h.disk, s.Path)
		fmt.Fprintf(&out, "%s:", filepath.Base(s.Path))
		for i := range records {
			fmt.Fprintf(&out, " %d-%d", records[i].First, records[i].Last())
		}
		for _, d := range report.Damage {
			fmt.Fprintf(&out, " [%v]", d)
		}
		out.WriteByte('\n')
	}
	return h.stable(out.String())
}
