//go:build integration

package integration

import (
	"os"
	"strings"
	"testing"

	"twinscribe/integration/lab"
)

// onlyBelow walks the whole name space of a cluster: everything that twinscribe made is below root.
func onlyBelow(t *testing.T, h *lab.Hadoop, roots ...string) {
	t.Helper()
	paths := strings.Split(strings.TrimRight(string(h.CLI("dfs", "-ls", "-C", "-R", "/")), "\n"), "\n")
	below, outside := 0, 0
	for _, p := range paths {
		in := false
		for _, root := range roots {
			in = in || strings.HasPrefix(p, root+"/") || root == p || strings.HasPrefix(root, p+"/")
		}
		if in && strings.HasPrefix(p, "/") {
			below++
			continue
		}
		if outside++; outside < 10 {
			t.Errorf("%s: %q is outside of %q", h.Name, p, roots)
		}
	}
	t.Logf("table: 6 | hdfs dfs -ls -R / of %s | %d paths below %s, outside %d", h.Name, below, strings.Join(roots, ", "), outside)
}

// nothingElse sees to it that a folder holds nothing but these.
func nothingElse(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		in := false
		for _, n := range names {
			in = in || e.Name() == n
		}
		if !in {
			t.Errorf("%q is in %s, outside of what it may hold: %q", e.Name(), folder, names)
		}
	}
}
