package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// said runs the program in this process.
func said(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// everyCommand calls f for all commands with their words.
func everyCommand(f func(words []string, c *cobra.Command)) {
	var walk func([]string, *cobra.Command)
	walk = func(words []string, c *cobra.Command) {
		words = append(slices.Clone(words), c.Name())
		f(words, c)
		for _, sub := range c.Commands() {
			walk(words, sub)
		}
	}
	for _, c := range commands() {
		walk(nil, c)
	}
}

func TestEveryCommandHasAHelpText(t *testing.T) {
	n := 0
	everyCommand(func(words []string, c *cobra.Command) {
		n++
		out, errs, code := said(t, append(words, "--help")...)
		if code != exitOK || errs != "" || !strings.Contains(out, "Usage:\n  twinscribe "+strings.Join(words, " ")) {
			t.Errorf("%s --help: exit status %d, %q on standard error, and\n%s", strings.Join(words, " "), code, errs, out)
		}
		about := c.Long
		if about == "" {
			about = c.Short
		}
		if about == "" || !strings.HasPrefix(out, about) || strings.HasSuffix(c.Short, ".") || c.Short != strings.ToLower(c.Short[:1])+c.Short[1:] {
			t.Errorf("%s: its help is\n%s\nits line %q", strings.Join(words, " "), out, c.Short)
		}
		for _, line := range strings.Split(out, "\n") {
			if len(line) > 150 {
				t.Errorf("%s --help has a line of %d characters: %s", strings.Join(words, " "), len(line), line)
			}
		}
	})
	if n < 20 {
		t.Errorf("only %d commands were looked at", n)
	}
}

func TestAWrongFlagOrArgumentIsOneLineAndExitStatusTwo(t *testing.T) {
	everyCommand(func(words []string, c *cobra.Command) {
		wrong := [][]string{{"--nonsense"}}
		if !strings.Contains(c.Use, "...") {
			wrong = append(wrong, []string{"too", "many", "words"})
		}
		for _, w := range wrong {
			args := append(slices.Clone(words), w...)
			out, errs, code := said(t, args...)
			if code != exitUsage || out != "" || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "twinscribe: ") ||
				!strings.Contains(errs, "twinscribe "+strings.Join(words, " ")+" --help") {
				t.Errorf("%s: exit status %d, %q on standard output, and\n%s", strings.Join(args, " "), code, out, errs)
			}
		}
	})
}
