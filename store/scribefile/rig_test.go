package scribefile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/faultfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store"
	"twinscribe/store/storetest"
)

// A rig is one process's Files over a disk in memory, with a clock of its own.
type rig struct {
	testing.TB
	disk  *memfs.FS
	fsys  *faultfs.FS
	now   time.Time
	files *Files
}

func newRig(t testing.TB, o Options) *rig {
	return newRigOn(t, memfs.New(), o)
}

// newRigOn is another process on the same disk.
func newRigOn(t testing.TB, disk *memfs.FS, o Options) *rig {
	r := &rig{TB: t, disk: disk, fsys: faultfs.New(disk, nil), now: time.Date(2026, 11, 28, 10, 30, 0, 0, time.UTC)}
	o.FS, o.Log = r.fsys, zap.NewNop()
	o.Now = func() time.Time { return r.now }
	if o.Location == nil {
		o.Location = time.UTC
	}
	r.files = New(o)
	return r
}

// webSpec is a plain store of category web, with lines.
func webSpec() Spec {
	return Spec{Path: "/logs/web", Base: "web", Symlink: "web", MaxSize: 1e9, MaxWriteSize: 1e6, AddNewlines: true, RotateHour: 1, RotateMinute: 15}
}

func (r *rig) open(spec Spec) *Place {
	r.Helper()
	p, err := r.files.Open(spec, "local")
	if err != nil {
		r.Fatal(err)
	}
	return p
}

func (r *rig) put(p *Place, messages ...string) {
	r.Helper()
	b := storetest.Batch(1, messages...)
	if rest, err := p.Append(r.ctx(), b); rest != nil || err != nil {
		r.Fatalf("append: rest %v, error %v", rest, err)
	}
	if len(b.Taken) != 1 || b.Taken[0] != (store.Taken{Place: "local", Messages: len(messages)}) {
		r.Fatalf("taken: %+v", b.Taken)
	}
}

// refused appends what must not be taken whole, and returns the rest's length.
func (r *rig) refused(p *Place, messages ...string) (left int, err error) {
	r.Helper()
	b := storetest.Batch(1, messages...)
	rest, err := p.Append(r.ctx(), b)
	if err == nil || rest == nil {
		r.Fatalf("append: rest %v, error %v; want a refusal", rest, err)
	}
	taken := 0
	for _, k := range b.Taken {
		taken += k.Messages
	}
	if taken+rest.Len() != len(messages) || rest.First != 1+uint64(taken) || rest != b && len(rest.Taken) > 0 {
		r.Fatalf("taken %+v, the rest begins with %d and has %d of %d messages", b.Taken, rest.First, rest.Len(), len(messages))
	}
	for i := range rest.Len() {
		if got := string(rest.Message(i)); got != messages[taken+i] {
			r.Fatalf("message %d of the rest is %.40q, want %.40q", i, got, messages[taken+i])
		}
	}
	return rest.Len(), err
}

func (r *rig) tick(p *Place) {
	r.Helper()
	if err := p.Tick(r.ctx(), r.now); err != nil {
		r.Fatal(err)
	}
}

// pass lets time go by, with a tick at its end.
func (r *rig) pass(p *Place, d time.Duration) {
	r.Helper()
	r.now = r.now.Add(d)
	r.tick(p)
}

func (r *rig) close(p *Place) {
	r.Helper()
	if err := p.Close(r.ctx()); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) ctx() context.Context { return context.Background() }

// read is a file's content.
func (r *rig) read(name string) string {
	r.Helper()
	b, err := vfs.ReadFile(r.disk, name)
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}

// holds compares all files below a folder with what they must be.
func (r *rig) holds(folder string, want map[string]string) {
	r.Helper()
	got := map[string]string{}
	for _, name := range r.disk.Files() {
		if rest, ok := strings.CutPrefix(name, folder+"/"); ok {
			got[rest] = r.read(name)
		}
	}
	if !maps.Equal(got, want) {
		r.Fatalf("files:\n%s\nwant:\n%s", show(got), show(want))
	}
}

func show(files map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "  %s: %.200q\n", name, files[name])
	}
	return b.String()
}

// leads checks where the link of base web leads.
func (r *rig) leads(want string) {
	r.Helper()
	if to, err := r.disk.Readlink("/logs/web/web_current"); err != nil || to != want {
		r.Fatalf("web_current leads to %q, %v; want %q", to, err, want)
	}
}

// file puts one there that somebody else has made.
func (r *rig) file(name, content string) {
	r.Helper()
	if err := r.disk.MkdirAll(name[:strings.LastIndexByte(name, '/')], 0o755); err != nil {
		r.Fatal(err)
	}
	if err := vfs.ReplaceFile(r.disk, name, []byte(content), 0o644); err != nil {
		r.Fatal(err)
	}
}
