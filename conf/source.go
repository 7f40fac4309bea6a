package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const (
	// maxFile bounds a configuration in bytes, maxNodes what aliases can make
	// of it, maxNesting how deep it is.
	maxFile    = 4 << 20
	maxNodes   = 200_000
	maxNesting = 32
)

// source reads a text in one of the formats into maps, lists and scalars, and
// notes the line of every key. What is wrong goes into the report; nil: there
// is nothing to go on with.
func source(r *report, format string, content []byte) map[string]any {
	if len(content) > maxFile {
		r.add("", "the file has %d bytes, at most %d are taken", len(content), maxFile)
		return nil
	}
	switch format {
	case "toml":
		return tomlSource(r, content)
	case "json": // is YAML too, where it is JSON
		if err := jsonError(content); err != nil {
			r.at(err.line, "", "%s", err.text)
			return nil
		}
	}
	return yamlSource(r, content)
}

type syntaxError struct {
	line int
	text string
}

func jsonError(content []byte) *syntaxError {
	var any json.RawMessage
	err := json.Unmarshal(content, &any)
	if err == nil {
		return nil
	}
	line := 0
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		line = 1 + bytes.Count(content[:min(int(s.Offset), len(content))], []byte{'\n'})
	}
	return &syntaxError{line, "this is no JSON: " + err.Error()}
}

// tomlSource reads TOML through a viper of its own. It refuses keys that stand
// twice by itself and does not tell lines of keys.
func tomlSource(r *report, content []byte) map[string]any {
	v := viper.NewWithOptions(viper.KeyDelimiter(noDelimiter))
	v.SetConfigType("toml")
	if err := v.ReadConfig(bytes.NewReader(content)); err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			err = cause // without viper's own words around it
		}
		r.add("", "%s", oneLine(err.Error()))
		return nil
	}
	return v.AllSettings()
}

// noDelimiter keeps viper from splitting keys.
const noDelimiter = "\x00"

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// yamlError is the library's error with its line apart.
func yamlError(err error, content []byte) *syntaxError {
	m := yamlLine.FindStringSubmatch(oneLine(err.Error()))
	line, _ := strconv.Atoi(m[1])
	text := "this is no YAML: " + m[2]
	if lines := bytes.Split(content, []byte{'\n'}); line > 0 && line <= len(lines) && bytes.HasPrefix(lines[line-1], []byte{'\t'}) {
		text += "; indent with blanks, not with tabs"
	}
	return &syntaxError{line, text}
}

func yamlSource(r *report, content []byte) map[string]any {
	d := yaml.NewDecoder(bytes.NewReader(content))
	var root yaml.Node
	switch err := d.Decode(&root); {
	case errors.Is(err, io.EOF):
		return map[string]any{}
	case err != nil:
		e := yamlError(err, content)
		r.at(e.line, "", "%s", e.text)
		return nil
	}
	var second yaml.Node
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			e := yamlError(err, content)
			r.at(e.line, "", "%s", e.text)
			return nil
		}
		r.at(second.Line, "", "a second document begins here: a configuration is one")
	}
	top := root.Content[0]
	if top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		return map[string]any{}
	}
	if top.Kind != yaml.MappingNode {
		r.at(top.Line, "", "want keys and values, such as state: /var/lib/twinscribe")
		return nil
	}
	y := yamlReader{r: r}
	m, _ := y.value("", top, 0).(map[string]any)
	return m
}

// yamlReader makes maps, lists and scalars of YAML's nodes.
type yamlReader struct {
	r     *report
	nodes int
	full  bool // the nodes are used up, and said so
}

// broken stands for a value that has been reported as wrong.
type broken struct{}

func (y *yamlReader) value(path string, n *yaml.Node, depth int) any {
	y.nodes++
	switch {
	case y.full:
		return broken{}
	case y.nodes > maxNodes:
		y.full = true
		y.r.at(n.Line, path, "more than %d values, aliases counted each time", maxNodes)
		return broken{}
	case depth > maxNesting:
		y.r.at(n.Line, path, "nested more than %d deep", maxNesting)
		return broken{}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return y.mapping(path, n, depth)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, e := range n.Content {
			y.r.lines[nth(path, i)] = e.Line
			list[i] = y.value(nth(path, i), e, depth+1)
		}
		return list
	case yaml.AliasNode:
		return y.value(path, n.Alias, depth+1)
	}
	return y.scalar(path, n)
}

func (y *yamlReader) mapping(path string, n *yaml.Node, depth int) any {
	m := make(map[string]any, len(n.Content)/2)
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		p := join(path, key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			y.r.at(key.Line, path, "a key that is no word")
			continue
		case key.ShortTag() == "!!merge":
			y.r.at(key.Line, p, "merge keys are not taken: write the keys out, or use an alias for a whole value")
			continue
		}
		if line, twice := first[key.Value]; twice {
			y.r.at(key.Line, p, "stands twice: first in line %d", line)
			continue
		}
		first[key.Value] = key.Line
		y.r.lines[p] = key.Line
		m[key.Value] = y.value(p, value, depth+1) // "null" is a word here, as the store's kind
	}
	return m
}

func (y *yamlReader) scalar(path string, n *yaml.Node) any {
	var err error
	switch n.ShortTag() {
	case "!!str", "!!timestamp": // a date is a word like any other
		return n.Value
	case "!!null":
		return nil
	case "!!bool":
		var v bool
		if err = n.Decode(&v); err == nil {
			return v
		}
	case "!!int":
		var v int64
		if err = n.Decode(&v); err == nil {
			return v
		}
	case "!!float":
		var v float64
		if err = n.Decode(&v); err == nil {
			return number{n.Value}
		}
	}
	y.r.at(n.Line, path, "a value of type %s: want a text, a number, true or false, a list, or keys and values", n.Tag)
	return broken{}
}

// number is a number that is not whole or too large, as it was written.
type number struct{ text string }
