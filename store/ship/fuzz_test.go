package ship

import (
	"reflect"
	"testing"

	"twinscribe/buffer/vfs"
	"twinscribe/buffer/vfs/memfs"
	"twinscribe/store/catalog"
)

// FuzzIntent reads any bytes as an intent and as the first look: refused, or of
// a version that this program knows, and the same when it is stored and read.
func FuzzIntent(f *testing.F) {
	for _, s := range []string{
		"", "null", `{"version":2}`, `{"version":1}`, `{"version":1,"segments":["a.seg"]}`,
		`{"version":1,"segment":"ag1-0000002a.7f3c91d2-00000001.0123456789abcdef.seg","cluster":"n1","committed":true,"left":[{"cluster":"n2","path":"web/_a.open"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		s := &Shipper{o: Options{FS: memfs.New(), Dir: "/ship"}}
		if err := s.o.FS.MkdirAll("/ship", 0o700); err != nil {
			t.Fatal(err)
		}
		same(t, s, content, func(v *intent) int { return v.Version })
		same(t, s, content, func(v *look) int { return v.Version })
	})
}

func same[T any](t *testing.T, s *Shipper, content []byte, version func(*T) int) {
	t.Helper()
	const name = "/ship/x"
	if err := vfs.ReplaceFile(s.o.FS, name, content, filePerm); err != nil {
		t.Fatal(err)
	}
	read, back := new(T), new(T)
	ok, err := s.load(name, read)
	if err != nil {
		return
	}
	if v := version(read); !ok || v < 1 || v > catalog.Version {
		t.Fatalf("taken: %+v", read)
	}
	if err := s.store(name, read); err != nil {
		t.Fatal(err)
	}
	stored, err := vfs.ReadFile(s.o.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.load(name, back); !ok || err != nil || version(read) != version(back) {
		t.Fatalf("%q, stored as %q, is %+v, then %+v, %v", content, stored, read, back, err)
	}
	if err := s.store(name, back); err != nil {
		t.Fatal(err)
	}
	if again, err := vfs.ReadFile(s.o.FS, name); err != nil || !reflect.DeepEqual(again, stored) {
		t.Fatalf("stored as %q, then as %q, %v", stored, again, err)
	}
}
