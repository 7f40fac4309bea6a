//go:build integration

package dropin

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPythonClient: a client that Thrift's own compiler made of the original's IDL, over Thrift's
// own library for Python, sends and asks in both forms of requests. The client is python/client.py.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	env := filepath.Join(t.TempDir(), "venv")
	for _, cmd := range []*exec.Cmd{
		exec.Command(python, "-m", "venv", env),
		exec.Command(filepath.Join(env, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "thrift"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("no library for Python: %v: %v\n%s", cmd.Args, err, out)
		}
	}
	dir := t.TempDir()
	s := started(t, filing(dir))
	out, err := exec.Command(filepath.Join(env, "bin", "python"), filepath.Join("python", "client.py"), s.Port()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	holds(t, filepath.Join(dir, "python"), "python", "strict-0\nstrict-1\nold-0\nold-1\n")
	counted(t, s, "python:received good", 4)
}
