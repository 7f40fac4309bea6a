package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"go.yaml.in/yaml/v3"
)

// jsonSource reads JSON into the nodes that YAML has too, so that both are
// looked at alike. It is not read as YAML: that knows other escapes.
func jsonSource(r *report, content []byte) map[string]any {
	var whole json.RawMessage
	if err := json.Unmarshal(content, &whole); err != nil {
		line := 0
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			line = 1 + bytes.Count(content[:min(int(s.Offset), len(content))], []byte{'\n'})
		}
		r.at(line, "", "this is no JSON: %v", err)
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	j := jsonReader{content: content, d: d, line: 1}
	top, err := j.node(0)
	if err != nil {
		r.at(j.line, "", "this is no JSON: %v", err)
		return nil
	}
	return topSource(r, top)
}

// jsonReader makes YAML's nodes of JSON that is known to be well-formed.
type jsonReader struct {
	content []byte
	d       *json.Decoder
	line    int // of what was read last
	at      int // and how far the lines are counted
}

// node reads the next value. What is nested too deep is left out: the nodes
// above it are enough to say so.
func (j *jsonReader) node(depth int) (*yaml.Node, error) {
	t, err := j.d.Token()
	if err != nil {
		return nil, err
	}
	end := int(j.d.InputOffset())
	j.line += bytes.Count(j.content[j.at:end], []byte{'\n'})
	j.at = end
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: j.line}
	switch t := t.(type) {
	case json.Delim:
		n.Kind = yaml.MappingNode
		if t == '[' {
			n.Kind = yaml.SequenceNode
		}
		for j.d.More() {
			child, err := j.node(depth + 1)
			if err != nil {
				return nil, err
			}
			if depth <= maxNesting {
				n.Content = append(n.Content, child)
			}
		}
		if _, err := j.d.Token(); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	case string:
		n.Tag, n.Value = "!!str", t
	case json.Number:
		n.Tag, n.Value = "!!float", t.String()
		if _, err := t.Int64(); err == nil {
			n.Tag = "!!int"
		}
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if t {
			n.Value = "true"
		}
	default:
		n.Tag = "!!null"
	}
	return n, nil
}
