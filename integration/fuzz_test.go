//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// A fuzzTarget is one function of the repository that is given any bytes.
type fuzzTarget struct{ pkg, name string }

// fuzzed is what came of a run.
type fuzzed struct {
	fuzzTarget
	took               time.Duration
	executions         int
	committed, gathers int // inputs in the repository; those that the run went on from or found
	err                error
	out                string
}

var (
	fuzzDeclared = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9]*)\(f \*testing\.F\)`)
	fuzzBaseline = regexp.MustCompile(`baseline coverage: (\d+)/(\d+) completed`)
	// The end of the time, which go before 1.27 takes for a failure now and then: golang/go#75804.
	fuzzOver     = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \([0-9.]+s\)\n +context deadline exceeded\nFAIL$`)
	fuzzProgress = regexp.MustCompile(`execs: (\d+) .*\(total: (\d+)\)`)
)

// fuzzTargets are all of the repository.
func fuzzTargets(t *testing.T) (all []fuzzTarget) {
	t.Helper()
	root := lab.Repository()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		for _, m := range fuzzDeclared.FindAllSubmatch(source, -1) {
			all = append(all, fuzzTarget{filepath.ToSlash(pkg), string(m[1])})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every fuzz target of the repository takes new bytes for a minute, or for FUZZTIME, beginning
// with the inputs that are committed, and none of them finds one that breaks what the target
// promises. An input that does is written below testdata/fuzz of its package, to be mended and
// committed.
func TestProve7Fuzz(t *testing.T) {
	all := fuzzTargets(t)
	const atLeast = 23
	if len(all) < atLeast {
		t.Errorf("%d fuzz targets, want %d at least: %v", len(all), atLeast, all)
	}
	chosen, each := all, time.Minute
	if testing.Short() {
		chosen, each = shortTargets(t, all), 2*time.Second
	}
	// As many side by side as keep the whole under ten minutes, two at least.
	side := max(2, (len(chosen)*int(each/time.Second)+8*60-1)/(8*60))
	asked := os.Getenv("FUZZTIME")
	if asked != "" {
		var err error
		if each, err = time.ParseDuration(asked); err != nil {
			t.Fatalf("FUZZTIME: %v", err)
		}
		chosen, side = all, runtime.NumCPU()
	}
	began := time.Now()
	todo, results := make(chan fuzzTarget), make([]fuzzed, 0, len(chosen))
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range side {
		workers.Go(func() {
			for target := range todo {
				r := fuzz(t.Context(), target, each)
				mu.Lock()
				results = append(results, r)
				mu.Unlock()
			}
		})
	}
	for _, target := range chosen {
		todo <- target
	}
	close(todo)
	workers.Wait()
	executions, crashers := 0, 0
	for _, r := range results {
		found := 0
		if r.err != nil {
			crashers++
			found = 1
			t.Errorf("%s of ./%s: %v\n%s", r.name, r.pkg, r.err, r.out)
		}
		executions += r.executions
		t.Logf("table: 7 | %s %s, %v | %d executions, corpus %d (%d committed), crashers %d",
			r.pkg, r.name, r.took.Round(time.Second), r.executions, r.gathers, r.committed, found)
		if r.err == nil && r.executions <= pick(0, r.gathers) {
			t.Errorf("%s of ./%s executed %d inputs of %d that it knows, and so nothing new:\n%s", r.name, r.pkg, r.executions, r.gathers, r.out)
		}
	}
	took := time.Since(began)
	t.Logf("table: 7 | all %d of %d targets, %d side by side | %d executions in %v, crashers %d",
		len(results), len(all), side, executions, took.Round(time.Second), crashers)
	if !testing.Short() && asked == "" && took > 10*time.Minute {
		t.Errorf("it took %v, want 10m at most", took)
	}
}

// shortTargets are one of each kind: a call, a segment, a journal, a manifest, a name.
func shortTargets(t *testing.T, all []fuzzTarget) (chosen []fuzzTarget) {
	t.Helper()
	want := map[fuzzTarget]bool{
		{"thrift", "FuzzDecodeLog"}: true, {"buffer/record", "FuzzScan"}: true, {"store/journal", "FuzzRead"}: true,
		{"store/catalog", "FuzzDecodeManifest"}: true, {"store/catalog", "FuzzFolder"}: true,
	}
	for _, target := range all {
		if want[target] {
			chosen = append(chosen, target)
		}
	}
	if len(chosen) != len(want) {
		t.Fatalf("of %v there are only %v", want, chosen)
	}
	return chosen
}

// fuzz runs one target with one worker. Minimizing an input is kept short: what it would take of
// the minute finds nothing.
func fuzz(ctx context.Context, target fuzzTarget, each time.Duration) fuzzed {
	r := fuzzed{fuzzTarget: target}
	inputs, _ := os.ReadDir(filepath.Join(lab.Repository(), target.pkg, "testdata", "fuzz", target.name))
	r.committed = len(inputs)
	ctx, cancel := context.WithTimeout(ctx, each+4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+target.name+"$", "-fuzztime", each.String(),
		"-fuzzminimizetime", "50x", "-parallel", "1", "./"+target.pkg)
	cmd.Dir = lab.Repository()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go ends what it started
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	r.err = cmd.Run()
	r.took, r.out = time.Since(began), out.String()
	// The inputs that are known are executed first.
	for _, m := range fuzzBaseline.FindAllStringSubmatch(r.out, -1) {
		r.executions, _ = strconv.Atoi(m[1])
		r.gathers, _ = strconv.Atoi(m[2])
	}
	for _, m := range fuzzProgress.FindAllStringSubmatch(r.out, -1) {
		r.executions, _ = strconv.Atoi(m[1])
		r.gathers, _ = strconv.Atoi(m[2])
	}
	if r.err != nil && fuzzOver.MatchString(r.out) && !strings.Contains(r.out, "Failing input") {
		r.err = nil
	}
	if ctx.Err() != nil {
		r.err = fmt.Errorf("not at its end after %v: %w", r.took, ctx.Err())
	}
	return r
}
