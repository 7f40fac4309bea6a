package conf

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

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
		r.add("", "the file has more than %d bytes, at most so many are taken", maxFile)
		return nil
	}
	content, wrong := plainText(content)
	if wrong != nil {
		r.at(wrong.line, "", "%s", wrong.text)
		return nil
	}
	var m map[string]any
	switch format {
	case "toml":
		m = tomlSource(r, content)
	case "json":
		m = jsonSource(r, content)
	default:
		m = yamlSource(r, content)
	}
	if m != nil && len(m) == 0 && len(r.mistakes) == 0 {
		r.add("", `there is nothing in it: the smallest configuration is categories: [{match: "*", store: {buffer: {}}}]`)
		return nil
	}
	return m
}

// noDelimiter keeps viper from splitting keys.
const noDelimiter = "\x00"

type syntaxError struct {
	line int
	text string
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

var leadingZero = regexp.MustCompile(`^[+-]?0[0-9]`)

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// yamlError is the library's error with its line apart, and a hint.
func yamlError(err error, content []byte) *syntaxError {
	m := yamlLine.FindStringSubmatch(oneLine(err.Error()))
	line, _ := strconv.Atoi(m[1])
	if line == 0 { // what the library says of the first line, and of anchors
		line = 1
		if name, is := strings.CutPrefix(m[2], "unknown anchor '"); is {
			name, _, _ = strings.Cut(name, "'")
			line += bytes.Count(content[:max(0, bytes.Index(content, []byte("*"+name)))], []byte{'\n'})
		}
	}
	text := "this is no YAML: " + m[2]
	if lines := bytes.Split(content, []byte{'\n'}); line <= len(lines) {
		text += wanted(string(lines[line-1]), m[2])
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
	return topSource(r, root.Content[0])
}

// topSource makes a map of the node that is the whole file.
func topSource(r *report, top *yaml.Node) map[string]any {
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
		if leadingZero.MatchString(n.Value) { // which YAML 1.1 takes for octal
			y.r.at(n.Line, path, "%s: write the number without a zero in front", n.Value)
			return broken{}
		}
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
