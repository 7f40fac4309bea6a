package conf

import (
	"bytes"
	"errors"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlSource reads TOML, which refuses keys that stand twice by itself. It does
// so without viper, which takes Ack for ack, and one of both if both are there.
func tomlSource(r *report, content []byte) map[string]any {
	m := map[string]any{}
	if err := toml.Unmarshal(content, &m); err != nil {
		r.at(tomlLine(err, content), "", "this is no TOML: %s", oneLine(strings.TrimPrefix(err.Error(), "toml: ")))
		return nil
	}
	tomlLines(r, content)
	for key, v := range m {
		m[key] = tomlValue(r, key, v, 0)
	}
	return m
}

// tomlLine is where the library found an error. It does not say so of keys that
// stand twice: then the error comes with the first lines that have both.
func tomlLine(err error, content []byte) int {
	if e, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ := e.Position()
		return line
	}
	lines := bytes.SplitAfter(content, []byte{'\n'})
	return 1 + sort.Search(len(lines)-1, func(n int) bool {
		var m map[string]any
		e := toml.Unmarshal(bytes.Join(lines[:n+1], nil), &m)
		return e != nil && e.Error() == err.Error()
	})
}

// tomlValue bounds the depth.
func tomlValue(r *report, path string, v any, depth int) any {
	if depth > maxNesting {
		r.add(path, "nested more than %d deep", maxNesting)
		return broken{}
	}
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			v[key] = tomlValue(r, join(path, key), e, depth+1)
		}
	case []any:
		for i, e := range v {
			v[i] = tomlValue(r, nth(path, i), e, depth+1)
		}
	}
	return v
}

// tomlLines notes the lines of the keys in well-formed TOML.
func tomlLines(r *report, content []byte) {
	var p unstable.Parser
	p.Reset(content)
	counts := map[string]int{} // elements of arrays of tables so far, by path
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = tomlPath(r, &p, "", e.Key(), counts, false)
		case unstable.ArrayTable:
			table = tomlPath(r, &p, "", e.Key(), counts, true)
		case unstable.KeyValue:
			tomlPair(r, &p, table, e, counts)
		}
	}
}

func tomlPair(r *report, p *unstable.Parser, table string, e *unstable.Node, counts map[string]int) {
	path := tomlPath(r, p, table, e.Key(), counts, false)
	tomlInside(r, p, path, e.Value(), counts)
}

func tomlInside(r *report, p *unstable.Parser, path string, v *unstable.Node, counts map[string]int) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			tomlPair(r, p, path, it.Node(), counts)
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			tomlInside(r, p, nth(path, i), it.Node(), counts)
		}
	}
}

// tomlPath is the path that a key leads to from a table; an array of tables
// stands for its last element, or begins the next one.
func tomlPath(r *report, p *unstable.Parser, from string, key unstable.Iterator, counts map[string]int, next bool) string {
	path := from
	for key.Next() {
		n := key.Node()
		path = join(path, string(n.Data))
		if _, known := r.lines[path]; !known {
			r.lines[path] = p.Shape(n.Raw).Start.Line
		}
		if next && key.IsLast() {
			counts[path]++
		}
		if c := counts[path]; c > 0 {
			path = nth(path, c-1)
			if _, known := r.lines[path]; !known {
				r.lines[path] = p.Shape(n.Raw).Start.Line
			}
		}
	}
	return path
}
