package conf

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"
)

// printYAML writes what differs from the defaults, and what is said, in the
// order of the types' fields. LoadBytes makes an equal configuration of it.
func printYAML(c *Config, said map[string]bool) ([]byte, error) {
	n := printer{said}.fields("", reflect.ValueOf(*c), reflect.ValueOf(Default()))
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("the configuration as YAML: %w", err)
	}
	return b.Bytes(), nil
}

type printer struct{ said map[string]bool }

// fields is a struct's node.
func (p printer) fields(path string, v, usual reflect.Value) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(v.Type()) {
		at := join(path, keyOf(f))
		if n := p.value(at, v.FieldByIndex(f.Index), usual.FieldByIndex(f.Index)); n != nil {
			m.Content = append(m.Content, word(keyOf(f)), n)
		}
	}
	if len(m.Content) == 0 {
		m.Style = yaml.FlowStyle
	}
	return m
}

// value is a value's node; nil where it need not be written.
func (p printer) value(path string, v, usual reflect.Value) *yaml.Node {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return p.fields(path, v.Elem(), elementDefault(v.Type().Elem()))
	case reflect.Struct:
		if n := p.fields(path, v, usual); len(n.Content) > 0 {
			return n
		}
		return nil
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			e := v.Index(i)
			if e.Kind() == reflect.Struct {
				list.Content = append(list.Content, p.fields(nth(path, i), e, elementDefault(e.Type())))
			} else {
				list.Content = append(list.Content, scalarNode(e))
			}
		}
		return list
	}
	if v.Equal(usual) && !p.said[path] {
		return nil
	}
	return scalarNode(v)
}

func word(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// scalarNode is a text, a number, true or false, a size or a duration.
func scalarNode(v reflect.Value) *yaml.Node {
	switch {
	case v.Type() == durationType:
		return word(durationText(time.Duration(v.Int())))
	case v.Type() == sizeType:
		return word(Size(v.Int()).String())
	}
	n := &yaml.Node{}
	n.Encode(v.Interface()) //nolint:errcheck // a text, a number, true or false
	return n
}
