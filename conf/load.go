package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/viper"
)

// Load reads and checks a configuration: YAML, JSON, TOML or Scribe's own
// grammar (.conf) by the file's extension. It touches nothing but the file. warnings are about a valid one,
// each a line with its place. The error of a file that could be read is
// Mistakes: all of them. LoadScribe looks for the state of a .conf too.
func Load(path string) (cfg *Config, warnings []string, err error) {
	b, err := readFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	return LoadBytes(path, b)
}

// readFile reads a file that may turn out to be none, or to have no end.
func readFile(path string) ([]byte, error) {
	switch info, err := os.Stat(path); {
	case err != nil:
		if cause, ok := errors.AsType[*os.PathError](err); ok {
			cause.Op = "open"
		}
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder: name the file in it", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file: want one, for a reload reads it again", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// LoadBytes is Load for a file that has been read. name stands in messages, and
// its extension tells the format.
func LoadBytes(name string, content []byte) (cfg *Config, warnings []string, err error) {
	r := newReport(name)
	format := strings.ToLower(strings.TrimPrefix(filepath.Ext(name), "."))
	switch format {
	case "yaml", "yml", "json", "toml":
	case "conf":
		m, warnings, err := LoadScribeBytes(name, content, 0)
		if err != nil {
			return nil, warnings, err
		}
		return m.Config, warnings, nil
	default:
		r.add("", "%q is no format of a configuration: want a file that ends in .yaml, .json or .toml, or in .conf for Scribe's", format)
		return nil, nil, r.err()
	}
	raw := source(r, format, content)
	if raw == nil {
		return nil, nil, r.err()
	}
	clean := walker{r}.fields("", raw, reflect.TypeFor[Config](), reflect.ValueOf(Default()))
	c, err := decode(clean)
	if err != nil {
		r.add("", "%s", oneLine(err.Error()))
		return nil, nil, r.err()
	}
	for _, m := range r.mistakes {
		r.suspects = append(r.suspects, m.Path)
	}
	c.resolve(r.said)
	check{c, r}.all()
	if err := r.err(); err != nil {
		return nil, nil, err
	}
	return c, r.warnings, nil
}

// IsScribe says whether Load takes a file of this name to be in Scribe's grammar.
func IsScribe(name string) bool { return strings.EqualFold(filepath.Ext(name), ".conf") }

// decode makes the configuration of a file's cleaned settings. Its viper is
// private: nothing of the environment or of flags comes in.
func decode(clean map[string]any) (*Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter(noDelimiter))
	if err := v.MergeConfigMap(clean); err != nil {
		return nil, err
	}
	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		return nil, err
	}
	return &c, nil
}
