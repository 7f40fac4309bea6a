package conf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzLoad: whatever a file holds, it is refused with its mistakes, or it is
// valid: then loading it again gives the same.
func FuzzLoad(f *testing.F) {
	formats := []string{".yaml", ".json", ".toml"}
	for _, pattern := range []string{"*.yaml", "testdata/*.good.*", "testdata/*.bad.*"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".want") {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			if i := slices.Index(formats, filepath.Ext(name)); i >= 0 {
				f.Add(byte(i), b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, format byte, content []byte) {
		name := "fuzz" + formats[int(format)%len(formats)]
		c, _, err := LoadBytes(name, content)
		if err != nil {
			ms, ok := errors.AsType[Mistakes](err)
			if !ok || len(ms) == 0 || c != nil {
				t.Fatalf("error %v of type %T with %v", err, err, c)
			}
			for _, m := range ms {
				if m.Text == "" || m.File != name {
					t.Errorf("mistake %#v", m)
				}
			}
			return
		}
		if len(c.Category) == 0 || c.State == "" || c.Timeouts.Ack <= c.Timeouts.Write || c.Limits.Queue < c.Limits.Frame {
			t.Errorf("taken as valid: %+v", c)
		}
		again, _, err := LoadBytes(name, content)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("loaded again: %v, %v", again, err)
		}
	})
}
