package conf

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// FuzzLoad: whatever a file holds, it is refused with its mistakes, each in a
// short line that says where, or it is valid: then loading it again gives the
// same, and so does loading what it came to, written out with every default.
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
				mustTellWhere(t, m, name)
			}
			return
		}
		if len(c.Category) == 0 || c.State == "" || c.Timeouts.Ack <= c.Timeouts.Write || (c.Limits.Queue < c.Limits.Frame && c.Limits.QueueAdmits != QueueAdmitsBelow) {
			t.Errorf("taken as valid: %+v", c)
		}
		again, _, err := LoadBytes(name, content)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("loaded again: %v, %v", again, err)
		}
		for _, format := range []string{".yaml", ".json"} {
			written := writtenOut(t, format, c)
			if again, _, err := LoadBytes("out"+format, written); err != nil || !reflect.DeepEqual(c, again) {
				t.Errorf("written out as\n%s\nit is %+v, %v, was %+v", written, again, err, c)
			}
		}
	})
}

// FuzzLoadScribe: whatever a file in Scribe's grammar holds, it is refused with
// its mistakes, or it is what its translation says.
func FuzzLoadScribe(f *testing.F) {
	for _, pattern := range []string{"*.conf", "testdata/scribe/*.conf"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, _, err := LoadScribeBytes("fuzz.conf", content, 0)
		if err != nil {
			if ms, ok := errors.AsType[Mistakes](err); !ok || len(ms) == 0 || m != nil {
				t.Fatalf("error %v of type %T with %v", err, err, m)
			}
			return
		}
		if again, _, err := LoadBytes("out.yaml", m.YAML); err != nil || !reflect.DeepEqual(m.Config, again) {
			t.Errorf("its translation\n%s\nis %+v, %v, was %+v", m.YAML, again, err, m.Config)
		}
	})
}

// wholeFile are the beginnings of mistakes that have no place in the file.
var wholeFile = []string{"there may be more mistakes", "the file has ", "there is nothing in it"}

func mustTellWhere(t *testing.T, m Mistake, file string) {
	t.Helper()
	whole := slices.ContainsFunc(wholeFile, func(s string) bool { return strings.HasPrefix(m.Text, s) })
	if m.Text == "" || m.File != file || m.Line == 0 && m.Path == "" && !whole {
		t.Errorf("mistake %#v does not say where", m)
	}
	line := m.String()
	if len(line) > 4096 || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("mistake of %d bytes is no line to print: %.200q", len(line), line)
	}
}

// writtenOut is a configuration with every key that has a value.
func writtenOut(t *testing.T, format string, c *Config) []byte {
	t.Helper()
	b, err := yaml.Marshal(tree(reflect.ValueOf(c)))
	if format == ".json" {
		b, err = json.Marshal(tree(reflect.ValueOf(c)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tree is a value of the configuration as maps, lists, texts and numbers; nil
// where there is none.
func tree(v reflect.Value) any {
	switch {
	case v.Type() == durationType:
		return v.Interface().(time.Duration).String()
	case v.Type() == sizeType:
		return v.Interface().(Size).String()
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return tree(v.Elem())
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = tree(v.Index(i))
		}
		return list
	case reflect.Struct:
		m := make(map[string]any)
		for i := range v.NumField() {
			if e := tree(v.Field(i)); e != nil {
				m[keyOf(v.Type().Field(i))] = e
			}
		}
		return m
	}
	return v.Interface()
}
