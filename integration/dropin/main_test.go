//go:build integration

package dropin

import (
	"flag"
	"os"
	"testing"
)

// TestMain has more tests run at once than there are cores: most of their time they wait for a
// second to pass.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
