package lab

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// FailPoints are the names of all points in the code, as the sources tell them: each a literal
// that stands in one place.
func FailPoints(t testing.TB) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go")
	cmd.Dir = Repository()
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the sources: %v", err)
	}
	where := map[string]string{}
	for _, name := range strings.Fields(string(list)) {
		src, err := os.ReadFile(filepath.Join(Repository(), name))
		if err != nil || strings.HasSuffix(name, "_test.go") || !bytes.Contains(src, []byte("failpoint.Here(")) {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isHere(call.Fun) {
				return true
			}
			at := fset.Position(call.Pos()).String()
			point := ""
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				point, _ = strconv.Unquote(lit.Value)
			}
			if point == "" || where[point] != "" {
				t.Errorf("%s: fail point %q: want a literal that stands in one place (also in %s)", at, point, where[point])
			}
			where[point] = at
			return true
		})
	}
	return slices.Sorted(maps.Keys(where))
}

func isHere(f ast.Expr) bool {
	s, ok := f.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Here" {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "failpoint"
}

// BuildWith builds the binary with a build tag, for this test.
func BuildWith(t testing.TB, tag string) string {
	t.Helper()
	b := filepath.Join(t.TempDir(), "twinscribe")
	cmd := exec.Command("go", "build", "-tags", tag, "-o", b, "./cmd/twinscribe")
	cmd.Dir = Repository()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building twinscribe with %s: %v\n%s", tag, err, out)
	}
	return b
}

// Armed is the environment that makes a binary built with failpoints kill itself at the first of
// these points that it passes so many times, and keep account in a file.
func Armed(points map[string]int, log string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(points)) {
		list = append(list, fmt.Sprintf("%s:%d", name, points[name]))
	}
	return []string{"TWINSCRIBE_FAILPOINTS=" + strings.Join(list, ","), "TWINSCRIBE_FAILPOINTS_LOG=" + log}
}
