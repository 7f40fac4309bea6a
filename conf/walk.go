package conf

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[time.Duration]()
)

// walker holds what a file says against the types it is decoded into.
type walker struct{ r *report }

// value checks v, the value at path, against type t, and returns it in the form
// in which it is decoded: sizes and durations read, defaults filled in from def
// (which may be invalid: none). What is wrong goes into the report, and the
// default takes its place. ok=false: there is no value.
func (w walker) value(path string, v any, t reflect.Type, def reflect.Value) (clean any, ok bool) {
	switch v.(type) {
	case broken:
		return nil, false
	case nil:
		w.r.add(path, "has no value: %s", remedyForNothing(t))
		return nil, false
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return w.value(path, v, t.Elem(), reflect.Value{})
	case t.Kind() == reflect.Struct:
		if !def.IsValid() {
			def = elementDefault(t)
		}
		m, is := v.(map[string]any)
		if !is {
			w.r.add(path, "want keys and values (%s), have %s", strings.Join(keysOf(t), ", "), kindOf(v))
			return nil, false
		}
		return w.fields(path, m, t, def), true
	case t.Kind() == reflect.Slice:
		return w.elements(path, v, t)
	}
	clean, err := scalar(v, t)
	if err != nil {
		w.r.add(path, "%v", err)
		return nil, false
	}
	return clean, true
}

func (w walker) elements(path string, v any, t reflect.Type) (any, bool) {
	list, is := v.([]any)
	if !is {
		w.r.add(path, "want a list, have %s", kindOf(v))
		return nil, false
	}
	clean := make([]any, 0, len(list))
	for i, e := range list {
		c, ok := w.value(nth(path, i), e, t.Elem(), reflect.Value{})
		if !ok { // keeps the numbers of the others
			c = reflect.Zero(t.Elem()).Interface()
		}
		clean = append(clean, c)
	}
	return clean, true
}

// fields does the keys of one struct: those that are there, in the order of
// their names, and the defaults of the others.
func (w walker) fields(path string, m map[string]any, t reflect.Type, def reflect.Value) map[string]any {
	clean := make(map[string]any, len(keysOf(t)))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(keysOf(t), key) && !w.r.full() {
			if near := nearest(key, keysOf(t)); near != "" {
				w.r.suspects = append(w.r.suspects, join(path, near))
			}
			w.r.add(join(path, key), "unknown key %s; %s", keyText(key), remedyForKey(key, t))
		}
	}
	for _, f := range fieldsOf(t) {
		key, usual := keyOf(f), def.FieldByIndex(f.Index)
		v, there := m[key]
		if there {
			w.r.said[join(path, key)] = true
			if c, ok := w.value(join(path, key), v, f.Type, usual); ok {
				clean[key] = c
				continue
			}
		}
		switch f.Type.Kind() {
		case reflect.Struct:
			clean[key] = w.fields(join(path, key), nil, f.Type, usual)
		case reflect.Pointer, reflect.Slice:
		default:
			clean[key] = usual.Interface()
		}
	}
	return clean
}

// scalar reads a text, a number, true or false, a size or a duration.
func scalar(v any, t reflect.Type) (any, error) {
	text, isText := v.(string)
	switch {
	case t == sizeType && isText:
		return ParseSize(text)
	case t == sizeType:
		if n, ok := v.(int64); ok && n >= 0 {
			return Size(n), nil
		}
		return nil, fmt.Errorf("%s is no size: %s", kindOf(v), wantSize)
	case t == durationType && isText:
		return parseDuration(text)
	case t == durationType:
		if n, ok := v.(int64); ok {
			if n == 0 {
				return time.Duration(0), nil
			}
			return nil, fmt.Errorf("%d has no unit: write %ds if seconds are meant", n, n)
		}
		return nil, fmt.Errorf("%s is no duration: %s", kindOf(v), wantDuration)
	}
	switch t.Kind() {
	case reflect.String:
		if isText {
			return text, nil
		}
		return nil, fmt.Errorf("want a text, have %s%s", kindOf(v), remedyForText(v))
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("want true or false, have %s", kindOf(v))
	case reflect.Int:
		n, ok := v.(int64)
		switch {
		case !ok && isText && numeric(text):
			return nil, fmt.Errorf("want a whole number, have %s: drop the quotes", kindOf(v))
		case !ok:
			return nil, fmt.Errorf("want a whole number, have %s", kindOf(v))
		case n > math.MaxInt32 || n < math.MinInt32:
			return nil, fmt.Errorf("%d: want a number of at most %d", n, math.MaxInt32)
		}
		return int(n), nil
	}
	panic("conf: no way to read a " + t.String())
}

// keyOf is a field's key in a file.
func keyOf(f reflect.StructField) string {
	if tag := f.Tag.Get("mapstructure"); tag != "" {
		return tag
	}
	return strings.ToLower(f.Name)
}

// keyText is a key as a message has it: in quotes where it would be taken for
// something else, such as blanks of another kind.
func keyText(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return r > '~' || r <= ' ' }) || key == "" {
		return strconv.QuoteToASCII(short(key))
	}
	return short(key)
}

// fieldsOf are the fields that have keys in t, those of embedded structs too.
func fieldsOf(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, keyOf(f))
	}
	return keys
}

// kindOf says what a value is, as a message has it.
func kindOf(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "keys and values"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the text %q", short(v))
	case number:
		return short(v.text)
	}
	return fmt.Sprint(v)
}

// remedyForKey says what may be meant by a key that is not known in t.
func remedyForKey(key string, t reflect.Type) string {
	known := keysOf(t)
	if near := nearest(key, known); near != "" {
		return fmt.Sprintf("did you mean %s? (known here: %s)", near, strings.Join(known, ", "))
	}
	for _, k := range Reference() {
		if strings.HasSuffix(k.Path, "."+key) || k.Path == key {
			return fmt.Sprintf("it is a key of another place, %s (known here: %s)", k.Path, strings.Join(known, ", "))
		}
	}
	return "known here: " + strings.Join(known, ", ")
}

func remedyForText(v any) string {
	switch v.(type) {
	case map[string]any, []any:
		return ""
	}
	return ": put it in quotes if it is one"
}

func remedyForNothing(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "write {} for the defaults"
	case reflect.Slice:
		return "write a list, or drop the key"
	}
	return "write one, or drop the key"
}
