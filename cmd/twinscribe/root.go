package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"twinscribe/conf"
)

// Exit statuses, the same for every command.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitUncounted = 3 // did it, but something could not be counted
)

// exit is an error that carries its exit status. A nil cause has been told already.
type exit struct {
	code  int
	cause error
}

func (e exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.cause.Error()
}

func (e exit) Unwrap() error { return e.cause }

func usage(format string, args ...any) error { return exit{exitUsage, fmt.Errorf(format, args...)} }

// run is the program without its surroundings: what a test calls.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "twinscribe",
		Short: "Log aggregator for fleets of web servers: Scribe's Thrift in, two HDFS clusters out",
		Long: `twinscribe takes log messages over Scribe's Thrift interface and writes them to an HDFS
cluster, to a second one when the first fails or is being upgraded, and to checksummed local
segments when both are away. 'twinscribe read' gives all of it back as one data set, each
acknowledged message once.

Without a configuration, 'twinscribe serve' uses two local directories as clusters.`,
		Args:                       knownCommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:               true,
		SilenceErrors:              true,
		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,
		Version:                    version,
	}
	root.SetVersionTemplate("twinscribe {{.Version}}\n")
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%s (see '%s --help')", numberWanted(err), c.CommandPath())
	})
	root.AddCommand(commands()...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	began := false
	each(root, func(c *cobra.Command) {
		checkArgs(c)
		noteBegin(c, &began)
	})
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var e exit
	if !errors.As(err, &e) {
		e = exit{exitFailed, err}
		if !began {
			e = exit{exitUsage, excluded(err)}
		}
	}
	if e.cause != nil {
		fmt.Fprintln(stderr, told(e.cause))
	}
	return e.code
}

// told is an error as one line; mistakes in a configuration are a line each,
// with file and number in front, as editors read them.
func told(err error) string {
	var mistakes conf.Mistakes
	var answer answerError
	switch {
	case errors.As(err, &mistakes):
		return err.Error()
	case errors.As(err, &answer):
		return "twinscribe: " + err.Error()
	}
	return "twinscribe: " + strings.ReplaceAll(err.Error(), "\n", "; ")
}

// knownCommand refuses what is no command, with the name of one that is near.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := ""
	if list := c.SuggestionsFor(args[0]); len(list) > 0 {
		near = fmt.Sprintf(", did you mean %s?", strings.Join(list, " or "))
	}
	return fmt.Errorf("unknown command %q%s", args[0], near)
}

// excluded says in fewer words than cobra that flags exclude each other.
func excluded(err error) error {
	_, names, ok := strings.Cut(err.Error(), "; [")
	names, ok2 := strings.CutSuffix(names, "] were all set")
	if !ok || !ok2 {
		return err
	}
	return fmt.Errorf("--%s: say only one of them", strings.ReplaceAll(names, " ", ", --"))
}

// numberWanted is the error of a flag that holds no number, without the name of
// the function that read it.
func numberWanted(err error) string {
	n, is := errors.AsType[*strconv.NumError](err)
	if !is {
		return err.Error()
	}
	want := "want a whole number"
	switch n.Func {
	case "ParseBool":
		want = "want true or false"
	case "ParseFloat":
		want = "want a number"
	}
	return strings.ReplaceAll(err.Error(), n.Error(), want)
}

func each(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		each(sub, do)
	}
}

// checkArgs makes wrong arguments end with exitUsage.
func checkArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage("%v (see '%s --help')", err, c.CommandPath())
			}
			return nil
		}
	}
}

// noteBegin notes that a command has begun: what is wrong before that is wrong
// with how it was called.
func noteBegin(c *cobra.Command, began *bool) {
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*began = true
			return do(c, args)
		}
	}
}
