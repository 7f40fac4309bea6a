package conf

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// allKeys are the paths of all keys that the types have.
func allKeys(path string, t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return allKeys(path, t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[Store]() {
			return allKeys(path+"[]", t.Elem())
		}
	case reflect.Struct:
		var keys []string
		for _, f := range fieldsOf(t) {
			keys = append(keys, allKeys(join(path, keyOf(f)), f.Type)...)
		}
		if len(keys) > 0 {
			return keys
		}
	}
	return []string{path}
}

func TestTheReferenceHasEveryKeyOnce(t *testing.T) {
	want := map[string]bool{}
	for _, k := range allKeys("", reflect.TypeFor[Config]()) {
		want[k] = true
	}
	for _, k := range Reference() {
		if !want[k.Path] {
			t.Errorf("%s stands there twice, or is no key", k.Path)
		}
		delete(want, k.Path)
		if k.Type == "" || k.Meaning == "" || k.Example == "" || strings.Contains(k.Meaning+k.Example+k.Default, "|") {
			t.Errorf("%+v lacks something, or breaks the table", k)
		}
	}
	for k := range want {
		t.Errorf("%s is missing in reference.go", k)
	}
}

func TestEveryExampleAndDefaultIsOfItsType(t *testing.T) {
	for _, k := range Reference() {
		for what, text := range map[string]string{"example": k.Example, "default": k.Default} {
			if text == "" {
				continue
			}
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(text), &n); err != nil {
				t.Errorf("%s of %s: %v", what, k.Path, err)
				continue
			}
			if what == "default" && k.Type == "text" && n.Content[0].Kind != yaml.ScalarNode {
				t.Errorf("default of %s: %q", k.Path, text)
				continue
			}
			r := newReport("example")
			typ, _ := typeAt(k.Path)
			v := (&yamlReader{r: r}).value("", n.Content[0], 0)
			walker{r}.value("", v, typ, reflect.Value{})
			if err := r.err(); err != nil {
				t.Errorf("%s of %s, %q: %v", what, k.Path, text, err)
			}
		}
	}
}

func TestRequiredKeysAreRequired(t *testing.T) {
	whole := `{
  "clusters": [{"name": "n1", "hdfs": {"namenodes": ["nn1:8020"]}}, {"name": "n2", "dir": {"path": "/data"}}],
  "categories": [
    {"match": "a", "store": {"failover": {"places": [{"files": {"cluster": "n1"}}]}}},
    {"match": "b", "store": {"files": {"cluster": "n2"}}},
    {"match": "c", "store": {"scribe_files": {"file_path": "/data/c"}}},
    {"match": "d", "store": {"bucket": {"stores": [{"null": {}}, {"null": {}}]}}},
    {"match": "e", "store": {"failover": {"places": [{"network": {"servers": ["next:1463"]}}, {"buffer": {"framed": {"path": "/data/old"}}}]}}}
  ]
}`
	if _, _, err := LoadBytes("whole.json", []byte(whole)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range Reference() {
		if !k.Required {
			continue
		}
		n++
		key := k.Path[strings.LastIndexByte(k.Path, '.')+1:]
		var tree any
		if err := json.Unmarshal([]byte(whole), &tree); err != nil {
			t.Fatal(err)
		}
		without, err := json.Marshal(dropKey(tree, key))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadBytes("without.json", without); err == nil || !strings.Contains(err.Error(), key+": missing") {
			t.Errorf("without %s: %v", k.Path, err)
		}
	}
	if n != 10 {
		t.Errorf("%d keys are required, want 10", n)
	}
}

// dropKey removes a key wherever it stands.
func dropKey(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, key)
		for k := range v {
			v[k] = dropKey(v[k], key)
		}
	case []any:
		for i := range v {
			v[i] = dropKey(v[i], key)
		}
	}
	return v
}

func TestDocumentation(t *testing.T) {
	const page = "../docs/configuration.md"
	if *update {
		if err := os.WriteFile(page, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(page)
	if err != nil || string(b) != Markdown() {
		t.Errorf("docs/configuration.md is stale: run `make docs` (%v)", err)
	}
}

func TestDurationsAreWrittenWithoutTheirZeros(t *testing.T) {
	for text, want := range map[string]string{
		"0s": "0s", "10s": "10s", "1m40s": "1m40s", "70s": "1m10s", "10m0s": "10m", "90m": "1h30m", "24h": "24h", "1h0m10s": "1h0m10s", "1500ms": "1.5s",
	} {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := durationText(d); got != want {
			t.Errorf("%s is written as %s, want %s", text, got, want)
		}
	}
}
