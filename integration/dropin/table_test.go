package dropin

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const table = "docs/dropin.md"

// TestTheTableIsComplete: every test that docs/dropin.md names exists somewhere in the repository,
// and every test of this package is named there. It is no integration test itself.
func TestTheTableIsComplete(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, table))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1) {
		named[string(m[1])] = false
	}
	if len(named) < 50 {
		t.Fatalf("%s names %d tests", table, len(named))
	}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range function.FindAllSubmatch(code, -1) {
			name := string(m[1])
			if _, there := named[name]; there {
				named[name] = true
			} else if filepath.Dir(path) == filepath.Join(root, "integration", "dropin") {
				t.Errorf("%s is not in %s", name, table)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, exists := range named {
		if !exists {
			t.Errorf("%s names %s, and there is no such test", table, name)
		}
	}
}
