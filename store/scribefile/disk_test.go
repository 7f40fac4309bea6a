package scribefile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"twinscribe/buffer/vfs"
	"twinscribe/store/storetest"
)

// TestChainsAppendAtOnceOnARealDisk has chains share two writers on
// the operating system's files: every batch must stand whole, in its chain's order.
func TestChainsAppendAtOnceOnARealDisk(t *testing.T) {
	dir := t.TempDir()
	files := New(Options{FS: vfs.OS(), Location: time.UTC, MaxOpen: 8, Log: zap.NewNop()})
	const chains, batches = 6, 40
	var wg sync.WaitGroup
	for i := range chains {
		spec := webSpec()
		spec.Path, spec.Base, spec.Symlink = dir, fmt.Sprint("w", i%2), fmt.Sprint("w", i%2)
		spec.MaxSize, spec.WriteMeta, spec.Sync = 600, true, i%3 == 0
		p, err := files.Open(spec, "local")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for k := range batches {
				b := storetest.Batch(1, fmt.Sprintf("%d %03d first", i, k), fmt.Sprintf("%d %03d second", i, k))
				if _, err := p.Append(t.Context(), b); err != nil {
					t.Errorf("chain %d: %v", i, err)
				}
				if err := p.Tick(t.Context(), time.Now()); err != nil {
					t.Errorf("chain %d: %v", i, err)
				}
			}
			if err := p.Close(t.Context()); err != nil {
				t.Errorf("chain %d: %v", i, err)
			}
		})
	}
	wg.Wait()

	names, err := filepath.Glob(filepath.Join(dir, "w?_?????"))
	if err != nil || len(names) < 4 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	lines := make([][]string, chains)
	for _, name := range names { // sorted
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			var i int
			if _, err := fmt.Sscanf(line, "%d ", &i); err == nil && !strings.HasPrefix(line, metaPrefix) {
				lines[i] = append(lines[i], strings.TrimSuffix(line, "\n"))
			}
		}
	}
	for i := range chains {
		var want []string
		for k := range batches {
			want = append(want, fmt.Sprintf("%d %03d first", i, k), fmt.Sprintf("%d %03d second", i, k))
		}
		if !slices.Equal(lines[i], want) {
			t.Errorf("chain %d: %q", i, lines[i])
		}
	}
	for i := range 2 {
		last := slices.MaxFunc(names, func(a, b string) int {
			mine := func(name string) bool { return strings.HasPrefix(filepath.Base(name), fmt.Sprint("w", i)) }
			if mine(a) != mine(b) {
				return map[bool]int{true: 1, false: -1}[mine(a)]
			}
			return strings.Compare(a, b)
		})
		if to, err := os.Readlink(filepath.Join(dir, fmt.Sprintf("w%d_current", i))); err != nil || to != filepath.Base(last) {
			t.Errorf("the link leads to %q, %v; want %q", to, err, filepath.Base(last))
		}
	}
	if s := files.Stats(); s.Open != 0 || s.Messages != chains*batches*2 || s.WriteErrors+s.OpenErrors+s.Torn+s.Lost != 0 {
		t.Errorf("figures: %+v", s)
	}
}
