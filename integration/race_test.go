//go:build integration

package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twinscribe/integration/lab"
)

// TestProve9Race runs the unit and contract tests under the race detector: of all packages in the long form, of those
// in which most goroutines meet in the short one.
func TestProve9Race(t *testing.T) {
	packages := pick([]string{"./store", "./store/cluster"}, []string{"./..."})
	if out, err := exec.Command(filepath.Join(lab.Repository(), "integration", "cc-setup")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("go", append([]string{"test", "-race", "-count=1", "-p=1", "-timeout=20m"}, packages...)...)
	cmd.Dir = lab.Repository()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GORACE=halt_on_error=0")
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	passed, without := 0, 0
	for line := range strings.Lines(string(out)) {
		switch f := strings.Fields(line); {
		case len(f) > 1 && f[0] == "ok":
			passed++
		case strings.Contains(line, "[no test files]"):
			without++
		}
	}
	races := bytes.Count(out, []byte("WARNING: DATA RACE"))
	if err != nil || races > 0 {
		t.Errorf("go test -race %s: %v, %d races\n%s", strings.Join(packages, " "), err, races, out)
	}
	if least := pick(2, 20); passed < least {
		t.Errorf("%d packages passed, want %d at least", passed, least)
	}
	t.Logf("table: 9 | go test -race %s | %d packages passed (%d have no tests), races %d, in %v",
		strings.Join(packages, " "), passed, without, races, time.Since(begun).Round(time.Second))
}
