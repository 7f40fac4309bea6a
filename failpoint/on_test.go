//go:build failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAPointKillsAtThePassingThatIsAskedFor(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	killed := 0
	l := parse("a.one:2,b.two:1", log, func() { killed++ })
	for _, c := range []struct {
		name string
		want int
	}{{"a.one", 0}, {"c.three", 0}, {"a.one", 1}, {"a.one", 1}, {"b.two", 2}} {
		if l.pass(c.name); killed != c.want {
			t.Fatalf("%s: killed %d times, want %d", c.name, killed, c.want)
		}
	}
	got, err := os.ReadFile(log)
	if want := "passed a.one\npassed c.three\nkilled a.one 2\npassed b.two\nkilled b.two 1\n"; err != nil || string(got) != want {
		t.Fatalf("log %q, %v, want %q", got, err, want)
	}
}

func TestWhatIsNotUnderstoodIsNotArmed(t *testing.T) {
	for _, armed := range []string{"a.one", "a.one:0", "a.one:x", "a.one:1;b.two:1"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was taken", armed)
				}
			}()
			parse(armed, "", nil)
		}()
	}
}
